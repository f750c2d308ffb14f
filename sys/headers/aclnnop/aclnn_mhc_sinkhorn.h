/* Generated from the facts in sys/abi; do not edit. */
#ifndef ASCEND_SYS_ACLNNOP_ACLNN_MHC_SINKHORN_H
#define ASCEND_SYS_ACLNNOP_ACLNN_MHC_SINKHORN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "acl/acl_base.h"
#include "aclnn/acl_meta.h"
#include "aclnn/aclnn_base.h"

#ifdef __cplusplus
extern "C" {
#endif

aclnnStatus aclnnMhcSinkhornGetWorkspaceSize(const aclTensor *x, float eps, int64_t numIters, aclTensor *output, aclTensor *normOut, aclTensor *sumOut, uint64_t *workspaceSize, aclOpExecutor **executor);
aclnnStatus aclnnMhcSinkhorn(void *workspace, uint64_t workspaceSize, aclOpExecutor *executor, aclrtStream stream);

#ifdef __cplusplus
}
#endif

#endif /* ASCEND_SYS_ACLNNOP_ACLNN_MHC_SINKHORN_H */
