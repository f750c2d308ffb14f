/* Generated from the facts in sys/abi; do not edit. */
#ifndef ASCEND_SYS_ACLNNOP_ACLNN_TOP_K_TOP_P_SAMPLE_H
#define ASCEND_SYS_ACLNNOP_ACLNN_TOP_K_TOP_P_SAMPLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "acl/acl_base.h"
#include "aclnn/acl_meta.h"
#include "aclnn/aclnn_base.h"

#ifdef __cplusplus
extern "C" {
#endif

aclnnStatus aclnnTopKTopPSampleGetWorkspaceSize(const aclTensor *logits, const aclTensor *topK, const aclTensor *topP, const aclTensor *q, double eps, bool isNeedLogits, int64_t topKGuess, const aclTensor *logitsSelectIdx, const aclTensor *logitsTopKPSelect, uint64_t *workspaceSize, aclOpExecutor **executor);
aclnnStatus aclnnTopKTopPSample(void *workspace, uint64_t workspaceSize, aclOpExecutor *executor, aclrtStream stream);

#ifdef __cplusplus
}
#endif

#endif /* ASCEND_SYS_ACLNNOP_ACLNN_TOP_K_TOP_P_SAMPLE_H */
