//! CANN's kernels for joining, splitting and rearranging, one line each.
//!
//! Knows names and kinds of arguments in C's order. Must not know what the kernels compute, nor who uses them.

use super::kind::*;
use super::prelude::*;

aclnn! {
    cat = aclnnCatGetWorkspaceSize, aclnnCat(tensors: List, dim: Int, out: Out);
    stack = aclnnStackGetWorkspaceSize, aclnnStack(tensors: List, dim: Int, out: Out);
    permute = aclnnPermuteGetWorkspaceSize, aclnnPermute(self_: In, dims: Ints, out: Out);
    tril = aclnnTrilGetWorkspaceSize, aclnnTril(self_: In, diagonal: Int, out: Out);
    triu = aclnnTriuGetWorkspaceSize, aclnnTriu(self_: In, diagonal: Int, out: Out);
    inplace_tril = aclnnInplaceTrilGetWorkspaceSize, aclnnInplaceTril(self_ref: In, diagonal: Int);
    inplace_triu = aclnnInplaceTriuGetWorkspaceSize, aclnnInplaceTriu(self_ref: Out, diagonal: Int);
    flip = aclnnFlipGetWorkspaceSize, aclnnFlip(self_: In, dims: Ints, out: Out);
    roll = aclnnRollGetWorkspaceSize, aclnnRoll(x: In, shifts: Ints, dims: Ints, out: Out);
    repeat = aclnnRepeatGetWorkspaceSize, aclnnRepeat(self_: In, repeats: Ints, out: Out);
    repeat_interleave = aclnnRepeatInterleaveGetWorkspaceSize, aclnnRepeatInterleave(self_: In, repeats: In, output_size: Int, out: Out);
    repeat_interleave_int = aclnnRepeatInterleaveIntGetWorkspaceSize, aclnnRepeatInterleaveInt(self_: In, repeats: Int, output_size: Int, out: Out);
    repeat_interleave_int_with_dim = aclnnRepeatInterleaveIntWithDimGetWorkspaceSize, aclnnRepeatInterleaveIntWithDim(self_: In, repeats: Int, dim: Int, output_size: Int, out: Out);
    repeat_interleave_with_dim = aclnnRepeatInterleaveWithDimGetWorkspaceSize, aclnnRepeatInterleaveWithDim(self_: In, repeats: In, dim: Int, output_size: Int, out: Out);
    split_tensor = aclnnSplitTensorGetWorkspaceSize, aclnnSplitTensor(self_: In, split_sections: Unsigned, dim: Int, out: List);
    split_with_size = aclnnSplitWithSizeGetWorkspaceSize, aclnnSplitWithSize(self_: In, split_size: Ints, dim: Int, out: List);
    constant_pad_nd = aclnnConstantPadNdGetWorkspaceSize, aclnnConstantPadNd(self_: In, pad: Ints, value: Scalar, out: Out);
    reflection_pad1d = aclnnReflectionPad1dGetWorkspaceSize, aclnnReflectionPad1d(self_: In, padding: Ints, out: Out);
    reflection_pad1d_backward = aclnnReflectionPad1dBackwardGetWorkspaceSize, aclnnReflectionPad1dBackward(grad_output: In, self_: In, padding: Ints, grad_input: Out);
    reflection_pad2d = aclnnReflectionPad2dGetWorkspaceSize, aclnnReflectionPad2d(self_: In, padding: Ints, out: Out);
    reflection_pad2d_backward = aclnnReflectionPad2dBackwardGetWorkspaceSize, aclnnReflectionPad2dBackward(grad_output: In, self_: In, padding: Ints, grad_input: Out);
    reflection_pad3d = aclnnReflectionPad3dGetWorkspaceSize, aclnnReflectionPad3d(self_: In, padding: Ints, out: Out);
    reflection_pad3d_backward = aclnnReflectionPad3dBackwardGetWorkspaceSize, aclnnReflectionPad3dBackward(grad_output: In, self_: In, padding: Ints, grad_input: Out);
    replication_pad1d = aclnnReplicationPad1dGetWorkspaceSize, aclnnReplicationPad1d(self_: In, padding: Ints, out: Out);
    replication_pad1d_backward = aclnnReplicationPad1dBackwardGetWorkspaceSize, aclnnReplicationPad1dBackward(grad_output: In, self_: In, padding: Ints, grad_input: Out);
    replication_pad2d = aclnnReplicationPad2dGetWorkspaceSize, aclnnReplicationPad2d(self_: In, padding: Ints, out: Out);
    replication_pad2d_backward = aclnnReplicationPad2dBackwardGetWorkspaceSize, aclnnReplicationPad2dBackward(grad_output: In, self_: In, padding: Ints, grad_input: Out);
    replication_pad3d = aclnnReplicationPad3dGetWorkspaceSize, aclnnReplicationPad3d(self_: In, padding: Ints, out: Out);
    replication_pad3d_backward = aclnnReplicationPad3dBackwardGetWorkspaceSize, aclnnReplicationPad3dBackward(grad_output: In, self_: In, padding: Ints, grad_input: Out);
    circular_pad2d = aclnnCircularPad2dGetWorkspaceSize, aclnnCircularPad2d(self_: In, padding: Ints, out: Out);
    circular_pad2d_backward = aclnnCircularPad2dBackwardGetWorkspaceSize, aclnnCircularPad2dBackward(grad_output: In, self_: In, padding: Ints, grad_input: Out);
    circular_pad3d = aclnnCircularPad3dGetWorkspaceSize, aclnnCircularPad3d(self_: In, padding: Ints, out: Out);
    circular_pad3d_backward = aclnnCircularPad3dBackwardGetWorkspaceSize, aclnnCircularPad3dBackward(grad_output: In, self_: In, padding: Ints, grad_input: Out);
    one_hot = aclnnOneHotGetWorkspaceSize, aclnnOneHot(self_: In, num_classes: Short, on_value: In, off_value: In, axis: Int, out: Out);
    expand = aclnnExpandGetWorkspaceSize, aclnnExpand(self_: In, size: Ints, out: Out);
    slice = aclnnSliceGetWorkspaceSize, aclnnSlice(self_: In, dim: Int, start: Int, end: Int, step: Int, out: Out);
    slice_v2 = aclnnSliceV2GetWorkspaceSize, aclnnSliceV2(self_: In, starts: Ints, ends: Ints, axes: Ints, steps: Ints, out: Out);
    im2col = aclnnIm2colGetWorkspaceSize, aclnnIm2col(self_: In, kernel_size: Ints, dilation: Ints, padding: Ints, stride: Ints, out: Out);
    diag = aclnnDiagGetWorkspaceSize, aclnnDiag(self_: In, diagonal: Int, out: Out);
    trace = aclnnTraceGetWorkspaceSize, aclnnTrace(self_: In, out: Out);
}
