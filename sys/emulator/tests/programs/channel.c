/* Channels of tensors between two threads, and marks for tools. */
#include <acl/acl.h>
#include <acl/acl_tdt.h>
#include <acl/error_codes/rt_error_codes.h>
#include <mstx/ms_tools_ext.h>

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#define CHECK(what)                                                                \
    do {                                                                           \
        if (!(what)) {                                                             \
            const char *text = aclGetRecentErrMsg();                               \
            printf("line %d: %s: %s\n", __LINE__, #what, text ? text : "no text"); \
            return 1;                                                              \
        }                                                                          \
    } while (0)

static acltdtChannelHandle *channel;

static void *sender(void *unused) {
    float numbers[6] = {1, 2, 3, 4, 5, 6};
    int64_t dims[2] = {2, 3};
    acltdtDataset *list = acltdtCreateDataset();
    acltdtDataItem *item = acltdtCreateDataItem(ACL_TENSOR_DATA_TENSOR, dims, 2, ACL_FLOAT, numbers, sizeof numbers);
    acltdtDataItem *end = acltdtCreateDataItem(ACL_TENSOR_DATA_END_OF_SEQUENCE, NULL, 0, ACL_DT_UNDEFINED, NULL, 0);
    acltdtAddDataItem(list, item);
    acltdtAddDataItem(list, end);
    acltdtSendTensor(channel, list, -1);
    /* What was sent is a copy. */
    memset(numbers, 0, sizeof numbers);
    acltdtDestroyDataItem(item);
    acltdtDestroyDataItem(end);
    acltdtDestroyDataset(list);
    return unused;
}

static int received(void) {
    acltdtDataset *list = acltdtCreateDataset();
    size_t size = 9;
    int64_t dims[2];
    CHECK(acltdtReceiveTensor(channel, list, -1) == ACL_SUCCESS);
    CHECK(acltdtGetDatasetSize(list) == 2);
    acltdtDataItem *item = acltdtGetDataItem(list, 0);
    CHECK(acltdtGetTensorTypeFromItem(item) == ACL_TENSOR_DATA_TENSOR);
    CHECK(acltdtGetDataTypeFromItem(item) == ACL_FLOAT);
    CHECK(acltdtGetDimNumFromItem(item) == 2);
    CHECK(acltdtGetDimsFromItem(item, dims, 1) == ACL_ERROR_INVALID_PARAM);
    CHECK(acltdtGetDimsFromItem(item, dims, 2) == ACL_SUCCESS && dims[0] == 2 && dims[1] == 3);
    CHECK(acltdtGetDataSizeFromItem(item) == 24);
    CHECK(((const float *)acltdtGetDataAddrFromItem(item))[5] == 6);
    CHECK(acltdtGetTensorTypeFromItem(acltdtGetDataItem(list, 1)) == ACL_TENSOR_DATA_END_OF_SEQUENCE);
    CHECK(acltdtGetDataItem(list, 2) == NULL);
    CHECK(acltdtAddDataItem(list, item) == ACL_ERROR_FEATURE_UNSUPPORTED);
    /* Nothing more comes. */
    CHECK(acltdtReceiveTensor(channel, list, 20) == ACL_ERROR_RT_QUEUE_EMPTY);
    CHECK(acltdtQueryChannelSize(channel, &size) == ACL_SUCCESS && size == 0);
    CHECK(acltdtDestroyDataset(list) == ACL_SUCCESS);
    CHECK(acltdtGetDataAddrFromItem(item) == NULL);
    return 0;
}

static int full(void) {
    acltdtDataset *list = acltdtCreateDataset();
    size_t size = 0;
    CHECK(acltdtSendTensor(channel, list, 0) == ACL_SUCCESS);
    CHECK(acltdtSendTensor(channel, list, 0) == ACL_SUCCESS);
    CHECK(acltdtSendTensor(channel, list, 20) == ACL_ERROR_RT_QUEUE_FULL);
    CHECK(acltdtQueryChannelSize(channel, &size) == ACL_SUCCESS && size == 2);
    CHECK(acltdtCleanChannel(channel) == ACL_SUCCESS);
    CHECK(acltdtQueryChannelSize(channel, &size) == ACL_SUCCESS && size == 0);
    CHECK(acltdtSendTensor(channel, NULL, 0) == ACL_ERROR_INVALID_PARAM);
    CHECK(acltdtSendTensor(NULL, list, 0) == ACL_ERROR_INVALID_PARAM);
    CHECK(acltdtSendTensor(channel, list, -2) == ACL_ERROR_INVALID_PARAM);
    CHECK(acltdtDestroyDataset(list) == ACL_SUCCESS);
    CHECK(acltdtDestroyDataset(list) != ACL_SUCCESS);
    return 0;
}

static int older(void) {
    /* Without a capacity there is no time-out. */
    acltdtChannelHandle *plain = acltdtCreateChannel(0, "plain");
    acltdtDataset *list = acltdtCreateDataset();
    size_t size = 0;
    CHECK(plain != NULL);
    CHECK(acltdtSendTensor(plain, list, 5) == ACL_ERROR_INVALID_PARAM);
    CHECK(acltdtSendTensor(plain, list, -1) == ACL_SUCCESS);
    CHECK(acltdtReceiveTensor(plain, list, -1) == ACL_SUCCESS);
    CHECK(acltdtQueryChannelSize(plain, &size) == ACL_ERROR_FEATURE_UNSUPPORTED);
    CHECK(acltdtStopChannel(plain) == ACL_SUCCESS);
    CHECK(acltdtReceiveTensor(plain, list, -1) == ACL_ERROR_FAILURE);
    CHECK(acltdtDestroyChannel(plain) == ACL_SUCCESS);
    CHECK(acltdtDestroyChannel(plain) != ACL_SUCCESS);
    CHECK(acltdtCreateChannel(0, NULL) == NULL);
    CHECK(acltdtCreateChannelWithCapacity(77, "far", 2) == NULL);
    CHECK(acltdtCreateDataItem((acltdtTensorType)9, NULL, 0, ACL_FLOAT, NULL, 0) == NULL);
    return 0;
}

static int marks(void) {
    mstxRangeId range = mstxRangeStartA("step", NULL);
    mstxDomainHandle_t domain = mstxDomainCreateA("mine");
    CHECK(range != MSTX_INVALID_ID && domain != NULL);
    mstxRangeEnd(range);
    mstxMarkA("here", NULL);
    range = mstxDomainRangeStartA(domain, "step", NULL);
    CHECK(range != MSTX_INVALID_ID);
    mstxDomainRangeEnd(domain, range);
    mstxDomainDestroy(domain);
    CHECK(mstxRangeStartA(NULL, NULL) == MSTX_INVALID_ID);
    return 0;
}

int main(void) {
    pthread_t thread;
    CHECK(aclInit(NULL) == ACL_SUCCESS);
    CHECK(aclrtSetDevice(0) == ACL_SUCCESS);
    channel = acltdtCreateChannelWithCapacity(0, "numbers", 2);
    CHECK(channel != NULL);
    CHECK(pthread_create(&thread, NULL, sender, NULL) == 0);
    CHECK(received() == 0);
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK(full() == 0);
    CHECK(older() == 0);
    CHECK(marks() == 0);
    CHECK(acltdtDestroyChannel(channel) == ACL_SUCCESS);
    CHECK(aclrtResetDevice(0) == ACL_SUCCESS);
    CHECK(aclFinalize() == ACL_SUCCESS);
    printf("channel: as it should be\n");
    return 0;
}
