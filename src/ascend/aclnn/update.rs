//! CANN's kernels for optimiser steps, one tensor at a time or many, one line each.
//!
//! Knows names and kinds of arguments in C's order. Must not know what the kernels compute, nor who uses them.

use super::kind::*;
use super::prelude::*;

aclnn! {
    apply_adam_wv2 = aclnnApplyAdamWV2GetWorkspaceSize, aclnnApplyAdamWV2(var_ref: Out, m_ref: Out, v_ref: Out, max_grad_norm_optional_ref: OptionalOut, grad: In, step: In, lr: Float, beta1: Float, beta2: Float, weight_decay: Float, eps: Float, amsgrad: Bool, maximize: Bool);
    apply_adam_w = aclnnApplyAdamWGetWorkspaceSize, aclnnApplyAdamW(var_ref: Out, m_ref: Out, v_ref: Out, beta1_power: In, beta2_power: In, lr: In, weight_decay: In, beta1: In, beta2: In, eps: In, grad: In, max_grad_norm_optional: OptionalIn, amsgrad: Bool, maximize: Bool);
    foreach_add_list = aclnnForeachAddListGetWorkspaceSize, aclnnForeachAddList(x1: List, x2: List, alpha: In, out: List);
    foreach_add_list_v2 = aclnnForeachAddListV2GetWorkspaceSize, aclnnForeachAddListV2(x1: List, x2: List, alpha: Scalar, out: List);
    foreach_add_scalar = aclnnForeachAddScalarGetWorkspaceSize, aclnnForeachAddScalar(x: List, scalar: In, out: List);
    foreach_add_scalar_v2 = aclnnForeachAddScalarV2GetWorkspaceSize, aclnnForeachAddScalarV2(x: List, scalar: Scalar, out: List);
    foreach_sub_list = aclnnForeachSubListGetWorkspaceSize, aclnnForeachSubList(x1: List, x2: List, alpha: In, out: List);
    foreach_sub_list_v2 = aclnnForeachSubListV2GetWorkspaceSize, aclnnForeachSubListV2(x1: List, x2: List, alpha: Scalar, out: List);
    foreach_sub_scalar = aclnnForeachSubScalarGetWorkspaceSize, aclnnForeachSubScalar(x: List, scalar: In, out: List);
    foreach_sub_scalar_v2 = aclnnForeachSubScalarV2GetWorkspaceSize, aclnnForeachSubScalarV2(x: List, scalar: Scalar, out: List);
    foreach_mul_list = aclnnForeachMulListGetWorkspaceSize, aclnnForeachMulList(x1: List, x2: List, out: List);
    foreach_mul_scalar = aclnnForeachMulScalarGetWorkspaceSize, aclnnForeachMulScalar(x: List, scalar: In, out: List);
    foreach_mul_scalar_v2 = aclnnForeachMulScalarV2GetWorkspaceSize, aclnnForeachMulScalarV2(x: List, scalar: Scalar, out: List);
    foreach_div_list = aclnnForeachDivListGetWorkspaceSize, aclnnForeachDivList(x1: List, x2: List, out: List);
    foreach_div_scalar = aclnnForeachDivScalarGetWorkspaceSize, aclnnForeachDivScalar(x: List, scalar: In, out: List);
    foreach_div_scalar_v2 = aclnnForeachDivScalarV2GetWorkspaceSize, aclnnForeachDivScalarV2(x: List, scalar: Scalar, out: List);
    foreach_addcmul_scalar = aclnnForeachAddcmulScalarGetWorkspaceSize, aclnnForeachAddcmulScalar(x1: List, x2: List, x3: List, scalar: In, out: List);
    foreach_addcmul_scalar_v2 = aclnnForeachAddcmulScalarV2GetWorkspaceSize, aclnnForeachAddcmulScalarV2(x1: List, x2: List, x3: List, scalar: Scalar, out: List);
    foreach_addcdiv_scalar = aclnnForeachAddcdivScalarGetWorkspaceSize, aclnnForeachAddcdivScalar(x1: List, x2: List, x3: List, scalar: In, out: List);
    foreach_addcdiv_scalar_v2 = aclnnForeachAddcdivScalarV2GetWorkspaceSize, aclnnForeachAddcdivScalarV2(x1: List, x2: List, x3: List, scalar: Scalar, out: List);
    foreach_addcmul_list = aclnnForeachAddcmulListGetWorkspaceSize, aclnnForeachAddcmulList(x1: List, x2: List, x3: List, scalars: In, out: List);
    foreach_addcdiv_list = aclnnForeachAddcdivListGetWorkspaceSize, aclnnForeachAddcdivList(x1: List, x2: List, x3: List, scalars: In, out: List);
    foreach_lerp_scalar = aclnnForeachLerpScalarGetWorkspaceSize, aclnnForeachLerpScalar(x1: List, x2: List, weight: Scalar, out: List);
    foreach_lerp_list = aclnnForeachLerpListGetWorkspaceSize, aclnnForeachLerpList(x1: List, x2: List, weight: List, out: List);
    foreach_maximum_list = aclnnForeachMaximumListGetWorkspaceSize, aclnnForeachMaximumList(x1: List, x2: List, out: List);
    foreach_minimum_list = aclnnForeachMinimumListGetWorkspaceSize, aclnnForeachMinimumList(x1: List, x2: List, out: List);
    foreach_sqrt = aclnnForeachSqrtGetWorkspaceSize, aclnnForeachSqrt(x: List, out: List);
    foreach_reciprocal = aclnnForeachReciprocalGetWorkspaceSize, aclnnForeachReciprocal(x: List, out: List);
    foreach_neg = aclnnForeachNegGetWorkspaceSize, aclnnForeachNeg(x: List, out: List);
    foreach_abs = aclnnForeachAbsGetWorkspaceSize, aclnnForeachAbs(x: List, out: List);
    foreach_exp = aclnnForeachExpGetWorkspaceSize, aclnnForeachExp(x: List, out: List);
    foreach_pow_scalar = aclnnForeachPowScalarGetWorkspaceSize, aclnnForeachPowScalar(x: List, scalar: In, out: List);
    foreach_pow_scalar_v2 = aclnnForeachPowScalarV2GetWorkspaceSize, aclnnForeachPowScalarV2(x: List, scalar: Scalar, out: List);
    foreach_zero_inplace = aclnnForeachZeroInplaceGetWorkspaceSize, aclnnForeachZeroInplace(x: List);
    foreach_copy = aclnnForeachCopyGetWorkspaceSize, aclnnForeachCopy(x: List, out: List);
    foreach_norm = aclnnForeachNormGetWorkspaceSize, aclnnForeachNorm(x: List, scalar: Scalar, out: List);
    foreach_non_finite_check_and_unscale = aclnnForeachNonFiniteCheckAndUnscaleGetWorkspaceSize, aclnnForeachNonFiniteCheckAndUnscale(scaled_grads: List, found_inf: In, inv_scale: In);
}
