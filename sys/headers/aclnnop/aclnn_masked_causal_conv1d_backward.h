/* Generated from the facts in sys/abi; do not edit. */
#ifndef ASCEND_SYS_ACLNNOP_ACLNN_MASKED_CAUSAL_CONV1D_BACKWARD_H
#define ASCEND_SYS_ACLNNOP_ACLNN_MASKED_CAUSAL_CONV1D_BACKWARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "acl/acl_base.h"
#include "aclnn/acl_meta.h"
#include "aclnn/aclnn_base.h"

#ifdef __cplusplus
extern "C" {
#endif

aclnnStatus aclnnMaskedCausalConv1dBackwardGetWorkspaceSize(const aclTensor *gradY, const aclTensor *x, const aclTensor *weight, const aclTensor *maskOptional, const aclTensor *gradXOut, const aclTensor *gradWeightOut, uint64_t *workspaceSize, aclOpExecutor **executor);
aclnnStatus aclnnMaskedCausalConv1dBackward(void *workspace, uint64_t workspaceSize, aclOpExecutor *executor, aclrtStream stream);

#ifdef __cplusplus
}
#endif

#endif /* ASCEND_SYS_ACLNNOP_ACLNN_MASKED_CAUSAL_CONV1D_BACKWARD_H */
