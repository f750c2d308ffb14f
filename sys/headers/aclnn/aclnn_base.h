/* Generated from the facts in sys/abi; do not edit. */
#ifndef ASCEND_SYS_ACLNN_ACLNN_BASE_H
#define ASCEND_SYS_ACLNN_ACLNN_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "aclnn/acl_meta.h"

#ifdef __cplusplus
extern "C" {
#endif

aclnnStatus aclnnFinalize(void);
aclnnStatus aclnnInit(const char *configPath);

#ifdef __cplusplus
}
#endif

#endif /* ASCEND_SYS_ACLNN_ACLNN_BASE_H */
