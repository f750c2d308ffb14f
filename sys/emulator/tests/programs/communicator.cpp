// Two ranks with a configured communicator add up their numbers.
#include <acl/acl.h>
#include <hccl/hccl.h>

#include <cstdio>
#include <cstring>
#include <thread>

#define CHECK(what)                                                                          \
    do {                                                                                     \
        if (!(what)) {                                                                       \
            const char *text = aclGetRecentErrMsg();                                         \
            ACL_APP_LOG(ACL_ERROR, "line %d: %s", __LINE__, #what);                          \
            std::printf("line %d: %s: %s\n", __LINE__, #what, text ? text : "no text");      \
            return 1;                                                                        \
        }                                                                                    \
    } while (0)

static int rank(uint32_t own, const HcclRootInfo *root) {
    HcclCommConfig config;
    HcclCommConfigInit(&config);
    HcclCommConfigInit(nullptr);
    config.hcclBufferSize = 50;
    config.hcclDeterministic = 1;
    std::strcpy(config.hcclCommName, "pair");
    CHECK(aclrtSetDevice(static_cast<int32_t>(own)) == ACL_SUCCESS);
    HcclComm comm;
    CHECK(HcclCommInitRootInfoConfig(2, root, own, &config, &comm) == HCCL_SUCCESS);
    char name[COMM_NAME_MAX_LENGTH] = "";
    CHECK(HcclGetCommName(comm, name) == HCCL_SUCCESS && std::strcmp(name, "pair") == 0);
    aclrtStream stream;
    CHECK(aclrtCreateStream(&stream) == ACL_SUCCESS);
    const float numbers[4] = {1, 2, 3, 4 + 10.0f * static_cast<float>(own)};
    float sums[4] = {0};
    void *from, *to;
    CHECK(aclrtMalloc(&from, sizeof numbers, ACL_MEM_MALLOC_HUGE_FIRST) == ACL_SUCCESS);
    CHECK(aclrtMalloc(&to, sizeof numbers, ACL_MEM_MALLOC_HUGE_FIRST) == ACL_SUCCESS);
    CHECK(aclrtMemcpy(from, sizeof numbers, numbers, sizeof numbers, ACL_MEMCPY_HOST_TO_DEVICE) == ACL_SUCCESS);
    CHECK(HcclAllReduce(from, to, 4, HCCL_DATA_TYPE_FP32, HCCL_REDUCE_SUM, comm, stream) == HCCL_SUCCESS);
    CHECK(aclrtSynchronizeStream(stream) == ACL_SUCCESS);
    CHECK(aclrtMemcpy(sums, sizeof sums, to, sizeof sums, ACL_MEMCPY_DEVICE_TO_HOST) == ACL_SUCCESS);
    CHECK(sums[0] == 2 && sums[1] == 4 && sums[2] == 6 && sums[3] == 18);
    CHECK(aclrtFree(from) == ACL_SUCCESS && aclrtFree(to) == ACL_SUCCESS);
    CHECK(HcclCommDestroy(comm) == HCCL_SUCCESS);
    CHECK(aclrtDestroyStream(stream) == ACL_SUCCESS);
    return 0;
}

int main() {
    // One that HcclCommConfigInit did not make is refused.
    HcclCommConfig blank;
    std::memset(&blank, 0, sizeof blank);
    HcclRootInfo root;
    HcclComm comm;
    int results[2] = {1, 1};
    CHECK(aclInit(nullptr) == ACL_SUCCESS);
    CHECK(aclrtSetDevice(0) == ACL_SUCCESS);
    CHECK(HcclGetRootInfo(&root) == HCCL_SUCCESS);
    CHECK(HcclCommInitRootInfoConfig(2, &root, 0, &blank, &comm) == HCCL_E_PARA);
    std::thread other([&] { results[1] = rank(1, &root); });
    results[0] = rank(0, &root);
    other.join();
    CHECK(results[0] == 0 && results[1] == 0);
    CHECK(aclFinalize() == ACL_SUCCESS);
    std::printf("communicator: right\n");
    return 0;
}
