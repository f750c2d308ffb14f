//! CANN's kernels for creation, filling, casts and copies, one line each.
//!
//! Knows names and kinds of arguments in C's order. Must not know what the kernels compute, nor who uses them.

use super::kind::*;
use super::prelude::*;

aclnn! {
    inplace_zero = aclnnInplaceZeroGetWorkspaceSize, aclnnInplaceZero(self_ref: Out);
    inplace_one = aclnnInplaceOneGetWorkspaceSize, aclnnInplaceOne(self_ref: In);
    inplace_fill_scalar = aclnnInplaceFillScalarGetWorkspaceSize, aclnnInplaceFillScalar(self_ref: Out, value: Scalar);
    inplace_fill_tensor = aclnnInplaceFillTensorGetWorkspaceSize, aclnnInplaceFillTensor(self_ref: Out, value: In);
    inplace_fill_diagonal = aclnnInplaceFillDiagonalGetWorkspaceSize, aclnnInplaceFillDiagonal(self_ref: Out, fill_value: Scalar, wrap: Bool);
    arange = aclnnArangeGetWorkspaceSize, aclnnArange(start: Scalar, end: Scalar, step: Scalar, out: Out);
    range = aclnnRangeGetWorkspaceSize, aclnnRange(start: Scalar, end: Scalar, step: Scalar, out: Out);
    linspace = aclnnLinspaceGetWorkspaceSize, aclnnLinspace(start: Scalar, end: Scalar, steps: Int, out: Out);
    eye = aclnnEyeGetWorkspaceSize, aclnnEye(n: Int, m: Int, out: Out);
    cast = aclnnCastGetWorkspaceSize, aclnnCast(self_: In, dtype: Code, out: Out);
    inplace_copy = aclnnInplaceCopyGetWorkspaceSize, aclnnInplaceCopy(self_ref: Out, src: In);
}
