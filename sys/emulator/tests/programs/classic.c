/* The classic sequence in plain C: init, device, stream, memory, a copy in, a two-phase operator, a copy back. */
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "acl/acl.h"
#include "aclnn/acl_meta.h"
#include "aclnnop/aclnn_add.h"

#define CHECK(call)                                                                                        \
    do {                                                                                                   \
        int code = (int)(call);                                                                            \
        if (code != 0) {                                                                                   \
            const char *text = aclGetRecentErrMsg();                                                       \
            fprintf(stderr, "line %d: %s gave %d: %s\n", __LINE__, #call, code, text ? text : "no text"); \
            return 1;                                                                                      \
        }                                                                                                  \
    } while (0)

int main(void)
{
    const float a[6] = {1, 2, 3, 4, 5, 6}, b[3] = {10, 20, 30};
    const float wanted[6] = {21, 42, 63, 24, 45, 66}; /* a + 2 * b, b repeated by rows */
    float got[6] = {0}, two = 2;
    const int64_t shape_a[2] = {2, 3}, shape_b[1] = {3};
    void *device_a = NULL, *device_b = NULL, *device_out = NULL, *workspace = NULL;
    uint64_t size = 0;
    uint32_t count = 0;
    aclOpExecutor *executor = NULL;
    aclrtStream stream = NULL;

    CHECK(aclInit(NULL));
    CHECK(aclrtGetDeviceCount(&count));
    if (count == 0) {
        return 2;
    }
    CHECK(aclrtSetDevice(0));
    CHECK(aclrtCreateStream(&stream));
    CHECK(aclrtMalloc(&device_a, sizeof a, ACL_MEM_MALLOC_HUGE_FIRST));
    CHECK(aclrtMalloc(&device_b, sizeof b, ACL_MEM_MALLOC_HUGE_FIRST));
    CHECK(aclrtMalloc(&device_out, sizeof got, ACL_MEM_MALLOC_HUGE_FIRST));
    CHECK(aclrtMemcpy(device_a, sizeof a, a, sizeof a, ACL_MEMCPY_HOST_TO_DEVICE));
    CHECK(aclrtMemcpy(device_b, sizeof b, b, sizeof b, ACL_MEMCPY_HOST_TO_DEVICE));

    aclTensor *x = aclCreateTensor(shape_a, 2, ACL_FLOAT, NULL, 0, ACL_FORMAT_ND, shape_a, 2, device_a);
    aclTensor *y = aclCreateTensor(shape_b, 1, ACL_FLOAT, NULL, 0, ACL_FORMAT_ND, shape_b, 1, device_b);
    aclTensor *out = aclCreateTensor(shape_a, 2, ACL_FLOAT, NULL, 0, ACL_FORMAT_ND, shape_a, 2, device_out);
    aclScalar *alpha = aclCreateScalar(&two, ACL_FLOAT);
    CHECK(aclnnAddGetWorkspaceSize(x, y, alpha, out, &size, &executor));
    if (size > 0) {
        CHECK(aclrtMalloc(&workspace, size, ACL_MEM_MALLOC_HUGE_FIRST));
    }
    CHECK(aclnnAdd(workspace, size, executor, stream));
    CHECK(aclrtSynchronizeStream(stream));
    CHECK(aclrtMemcpy(got, sizeof got, device_out, sizeof got, ACL_MEMCPY_DEVICE_TO_HOST));
    if (memcmp(got, wanted, sizeof got) != 0) {
        fprintf(stderr, "got %g %g %g %g %g %g\n", got[0], got[1], got[2], got[3], got[4], got[5]);
        return 3;
    }

    CHECK(aclDestroyTensor(x));
    CHECK(aclDestroyTensor(y));
    CHECK(aclDestroyTensor(out));
    CHECK(aclDestroyScalar(alpha));
    if (workspace != NULL) {
        CHECK(aclrtFree(workspace));
    }
    CHECK(aclrtFree(device_a));
    CHECK(aclrtFree(device_b));
    CHECK(aclrtFree(device_out));
    CHECK(aclrtDestroyStream(stream));
    CHECK(aclrtResetDevice(0));
    CHECK(aclFinalize());
    printf("classic: right on %s\n", aclrtGetSocName());
    return 0;
}
