/* Generated from the facts in sys/abi; do not edit. */
#ifndef ASCEND_SYS_ACLNNOP_ACLNN_ATTENTION_WORKER_SCHEDULER_H
#define ASCEND_SYS_ACLNNOP_ACLNN_ATTENTION_WORKER_SCHEDULER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "acl/acl_base.h"
#include "aclnn/acl_meta.h"
#include "aclnn/aclnn_base.h"

#ifdef __cplusplus
extern "C" {
#endif

aclnnStatus aclnnInplaceAttentionWorkerSchedulerGetWorkspaceSize(aclTensor *scheduleContextRef, uint64_t *workspaceSize, aclOpExecutor **executor);
aclnnStatus aclnnInplaceAttentionWorkerScheduler(void *workspace, uint64_t workspaceSize, aclOpExecutor *executor, aclrtStream stream);

#ifdef __cplusplus
}
#endif

#endif /* ASCEND_SYS_ACLNNOP_ACLNN_ATTENTION_WORKER_SCHEDULER_H */
