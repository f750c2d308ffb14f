/* Generated from the facts in sys/abi; do not edit. */
#ifndef ASCEND_SYS_NONPUBLIC_NNOPBASE_H
#define ASCEND_SYS_NONPUBLIC_NNOPBASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "aclnn/acl_meta.h"
#include "aclnn/aclnn_base.h"

#ifdef __cplusplus
extern "C" {
#endif

int InitHugeMemThreadLocal(void *arg, bool sync);
void UnInitHugeMemThreadLocal(void *arg, bool sync);
void ReleaseHugeMem(void *arg, bool sync);
aclOpExecutor *PTAGetExecCache(uint64_t hash, uint64_t *workspaceSize);
aclOpExecutor *PTAFindExecCache(uint8_t *buf, size_t len, uint64_t *workspaceSize);
void InitPTACacheThreadLocal(void);
void UnInitPTACacheThreadLocal(void);
void AddTensorAddrToCachedList(void *addr);
void SetPTAHashKey(uint64_t hash);
void SetPTACacheHashKey(uint8_t *key, size_t len);
bool CanUsePTACache(const char *api);
aclnnStatus aclnnReselectStaticKernel(void);
aclnnStatus aclnnReselectStaticKernelWithPath(const char *staticKernelPath);

#ifdef __cplusplus
}
#endif

#endif /* ASCEND_SYS_NONPUBLIC_NNOPBASE_H */
