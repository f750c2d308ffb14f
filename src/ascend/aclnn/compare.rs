//! CANN's kernels for comparisons, logic, bits, selection and clamping, one line each.
//!
//! Knows names and kinds of arguments in C's order. Must not know what the kernels compute, nor who uses them.

use super::kind::*;
use super::prelude::*;

aclnn! {
    eq_tensor = aclnnEqTensorGetWorkspaceSize, aclnnEqTensor(self_: In, other: In, out: Out);
    eq_scalar = aclnnEqScalarGetWorkspaceSize, aclnnEqScalar(self_: In, other: Scalar, out: Out);
    ne_tensor = aclnnNeTensorGetWorkspaceSize, aclnnNeTensor(self_: In, other: In, out: Out);
    ne_scalar = aclnnNeScalarGetWorkspaceSize, aclnnNeScalar(self_: In, other: Scalar, out: Out);
    lt_tensor = aclnnLtTensorGetWorkspaceSize, aclnnLtTensor(self_: In, other: In, out: Out);
    lt_scalar = aclnnLtScalarGetWorkspaceSize, aclnnLtScalar(self_: In, other: Scalar, out: Out);
    le_tensor = aclnnLeTensorGetWorkspaceSize, aclnnLeTensor(self_: In, other: In, out: Out);
    le_scalar = aclnnLeScalarGetWorkspaceSize, aclnnLeScalar(self_: In, other: Scalar, out: Out);
    gt_tensor = aclnnGtTensorGetWorkspaceSize, aclnnGtTensor(self_: In, other: In, out: Out);
    gt_scalar = aclnnGtScalarGetWorkspaceSize, aclnnGtScalar(self_: In, other: Scalar, out: Out);
    ge_tensor = aclnnGeTensorGetWorkspaceSize, aclnnGeTensor(self_: In, other: In, out: Out);
    ge_scalar = aclnnGeScalarGetWorkspaceSize, aclnnGeScalar(self_: In, other: Scalar, out: Out);
    logical_and = aclnnLogicalAndGetWorkspaceSize, aclnnLogicalAnd(self_: In, other: In, out: Out);
    logical_or = aclnnLogicalOrGetWorkspaceSize, aclnnLogicalOr(self_: In, other: In, out: Out);
    logical_not = aclnnLogicalNotGetWorkspaceSize, aclnnLogicalNot(self_: In, out: Out);
    logical_xor = aclnnLogicalXorGetWorkspaceSize, aclnnLogicalXor(self_: In, other: In, out: Out);
    bitwise_and_tensor = aclnnBitwiseAndTensorGetWorkspaceSize, aclnnBitwiseAndTensor(self_: In, other: In, out: Out);
    bitwise_and_scalar = aclnnBitwiseAndScalarGetWorkspaceSize, aclnnBitwiseAndScalar(self_: In, other: Scalar, out: Out);
    bitwise_or_tensor = aclnnBitwiseOrTensorGetWorkspaceSize, aclnnBitwiseOrTensor(self_: In, other: In, out: Out);
    bitwise_or_scalar = aclnnBitwiseOrScalarGetWorkspaceSize, aclnnBitwiseOrScalar(self_: In, other: Scalar, out: Out);
    bitwise_xor_tensor = aclnnBitwiseXorTensorGetWorkspaceSize, aclnnBitwiseXorTensor(self_: In, other: In, out: Out);
    bitwise_xor_scalar = aclnnBitwiseXorScalarGetWorkspaceSize, aclnnBitwiseXorScalar(self_: In, other: Scalar, out: Out);
    bitwise_not = aclnnBitwiseNotGetWorkspaceSize, aclnnBitwiseNot(self_: In, out: Out);
    left_shift = aclnnLeftShiftGetWorkspaceSize, aclnnLeftShift(self_: In, shift_bits: In, out: Out);
    left_shifts = aclnnLeftShiftsGetWorkspaceSize, aclnnLeftShifts(self_: In, shift_bits: Scalar, out: Out);
    right_shift = aclnnRightShiftGetWorkspaceSize, aclnnRightShift(input: In, shift_bits: In, out: Out);
    s_where = aclnnSWhereGetWorkspaceSize, aclnnSWhere(condition: In, self_: In, other: In, out: Out);
    clamp = aclnnClampGetWorkspaceSize, aclnnClamp(self_: In, clip_value_min: OptionalScalar, clip_value_max: OptionalScalar, out: Out);
    clamp_min = aclnnClampMinGetWorkspaceSize, aclnnClampMin(self_: In, clip_value_min: Scalar, out: Out);
    clamp_max = aclnnClampMaxGetWorkspaceSize, aclnnClampMax(self_: In, clip_value_max: Scalar, out: Out);
    clamp_tensor = aclnnClampTensorGetWorkspaceSize, aclnnClampTensor(self_: In, clip_value_min: In, clip_value_max: In, out: Out);
    clamp_min_tensor = aclnnClampMinTensorGetWorkspaceSize, aclnnClampMinTensor(self_: In, clip_value_min: In, out: Out);
    clamp_max_tensor = aclnnClampMaxTensorGetWorkspaceSize, aclnnClampMaxTensor(self_: In, max: In, out: Out);
    inplace_masked_fill_scalar = aclnnInplaceMaskedFillScalarGetWorkspaceSize, aclnnInplaceMaskedFillScalar(self_ref: Out, mask: In, value: Scalar);
    inplace_masked_fill_tensor = aclnnInplaceMaskedFillTensorGetWorkspaceSize, aclnnInplaceMaskedFillTensor(self_ref: Out, mask: In, value: In);
    is_finite = aclnnIsFiniteGetWorkspaceSize, aclnnIsFinite(self_: In, out: Out);
    is_inf = aclnnIsInfGetWorkspaceSize, aclnnIsInf(x: In, out: Out);
    is_pos_inf = aclnnIsPosInfGetWorkspaceSize, aclnnIsPosInf(self_: In, out: Out);
    is_neg_inf = aclnnIsNegInfGetWorkspaceSize, aclnnIsNegInf(self_: In, out: Out);
    is_close = aclnnIsCloseGetWorkspaceSize, aclnnIsClose(self_: In, other: In, rtol: Double, atol: Double, equal_nan: Bool, out: Out);
    equal = aclnnEqualGetWorkspaceSize, aclnnEqual(self_: In, other: In, out: Out);
    signbit = aclnnSignbitGetWorkspaceSize, aclnnSignbit(self_: In, out: Out);
}
