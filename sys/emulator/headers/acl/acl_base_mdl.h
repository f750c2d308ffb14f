/* Programs name this header where the newest CANN has it; its types stand in acl_base.h and acl_mdl.h. */
#ifndef ASCEND_EMULATOR_ACL_BASE_MDL_H_
#define ASCEND_EMULATOR_ACL_BASE_MDL_H_

#include "acl/acl_base.h"

#endif
