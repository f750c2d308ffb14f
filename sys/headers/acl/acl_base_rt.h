/* Generated from the facts in sys/abi; do not edit. */
#ifndef ASCEND_SYS_ACL_ACL_BASE_RT_H
#define ASCEND_SYS_ACL_ACL_BASE_RT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/** Newest CANN only. */
typedef void *aclmdlRITask;
/** Newest CANN only. */
typedef void *aclrtCntNotify;
/** Newest CANN only. */
typedef void *aclrtLabel;
/** Newest CANN only. */
typedef void *aclrtLabelList;
/** Newest CANN only. */
typedef void *aclrtMbuf;
/** Newest CANN only. */
typedef void *aclrtNotify;

#ifdef __cplusplus
}
#endif

#endif /* ASCEND_SYS_ACL_ACL_BASE_RT_H */
