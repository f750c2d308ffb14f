//! CANN's kernels for convolutions, pooling and resizing, one line each.
//!
//! Knows names and kinds of arguments in C's order. Must not know what the kernels compute, nor who uses them.

use super::kind::*;
use super::prelude::*;

aclnn! {
    convolution = aclnnConvolutionGetWorkspaceSize, aclnnConvolution(input: Image, weight: Image, bias: OptionalImage, stride: Ints, padding: Ints, dilation: Ints, transposed: Bool, output_padding: Ints, groups: Int, output: Image, cube_math_type: Tiny);
    convolution_backward = aclnnConvolutionBackwardGetWorkspaceSize, aclnnConvolutionBackward(grad_output: Image, input: Image, weight: Image, bias_sizes: OptionalInts, stride: Ints, padding: Ints, dilation: Ints, transposed: Bool, output_padding: Ints, groups: Short, output_mask: Bools, cube_math_type: Tiny, grad_input: OptionalImage, grad_weight: OptionalImage, grad_bias: OptionalImage);
    conv_depthwise2d = aclnnConvDepthwise2dGetWorkspaceSize, aclnnConvDepthwise2d(self_: Image, weight: Image, kernel_size: Ints, bias: OptionalImage, stride: Ints, padding: Ints, dilation: Ints, out: Image, cube_math_type: Tiny);
    max_pool = aclnnMaxPoolGetWorkspaceSize, aclnnMaxPool(self_: Image, kernel_shape: Ints, strides: Ints, auto_pad: Int, pads: Ints, dilations: Ints, ceil_mode: Int, out: Image);
    max_pool2d_with_indices = aclnnMaxPool2dWithIndicesGetWorkspaceSize, aclnnMaxPool2dWithIndices(self_: Image, kernel_size: Ints, stride: Ints, padding: Ints, dilation: Ints, ceil_mode: Bool, out: Image, indices: Image);
    max_pool2d_with_indices_backward = aclnnMaxPool2dWithIndicesBackwardGetWorkspaceSize, aclnnMaxPool2dWithIndicesBackward(grad_output: Image, self_: Image, indices: Image, kernel_size: Ints, stride: Ints, padding: Ints, dilation: Ints, ceil_mode: Bool, grad_input: Image);
    max_pool2d_with_mask = aclnnMaxPool2dWithMaskGetWorkspaceSize, aclnnMaxPool2dWithMask(self_: Image, kernel_size: Ints, stride: Ints, padding: Ints, dilation: Ints, ceil_mode: Bool, out: Image, indices: Image);
    max_pool2d_with_mask_backward = aclnnMaxPool2dWithMaskBackwardGetWorkspaceSize, aclnnMaxPool2dWithMaskBackward(grad_output: Image, self_: Image, indices: Image, kernel_size: Ints, stride: Ints, padding: Ints, dilation: Ints, ceil_mode: Bool, grad_input: Image);
    avg_pool2d = aclnnAvgPool2dGetWorkspaceSize, aclnnAvgPool2d(self_: Image, kernel_size: Ints, strides: Ints, paddings: Ints, ceil_mode: Bool, count_include_pad: Bool, divisor_override: Int, cube_math_type: Tiny, out: Image);
    avg_pool2d_backward = aclnnAvgPool2dBackwardGetWorkspaceSize, aclnnAvgPool2dBackward(grad_output: Image, self_: Image, kernel_size: Ints, stride: Ints, padding: Ints, ceil_mode: Bool, count_include_pad: Bool, divisor_override: Int, cube_math_type: Tiny, grad_input: Image);
    avg_pool3d = aclnnAvgPool3dGetWorkspaceSize, aclnnAvgPool3d(self_: Image, kernel_size: Ints, stride: Ints, padding: Ints, ceil_mode: Bool, count_include_pad: Bool, divisor_override: Int, out: Image);
    avg_pool3d_backward = aclnnAvgPool3dBackwardGetWorkspaceSize, aclnnAvgPool3dBackward(grad_ouput: Image, self_: Image, kernel_size: Ints, stride: Ints, padding: Ints, ceil_mode: Bool, count_include_pad: Bool, divisor_override: Int, output: Image);
    adaptive_avg_pool2d = aclnnAdaptiveAvgPool2dGetWorkspaceSize, aclnnAdaptiveAvgPool2d(self_: Image, output_size: Ints, out: Image);
    adaptive_avg_pool2d_backward = aclnnAdaptiveAvgPool2dBackwardGetWorkspaceSize, aclnnAdaptiveAvgPool2dBackward(grad_output: Image, self_: Image, out: Image);
    adaptive_avg_pool3d = aclnnAdaptiveAvgPool3dGetWorkspaceSize, aclnnAdaptiveAvgPool3d(self_: Image, output_size: Ints, out: Image);
    adaptive_avg_pool3d_backward = aclnnAdaptiveAvgPool3dBackwardGetWorkspaceSize, aclnnAdaptiveAvgPool3dBackward(grad_output: Image, self_: Image, out: Image);
    adaptive_max_pool2d = aclnnAdaptiveMaxPool2dGetWorkspaceSize, aclnnAdaptiveMaxPool2d(self_: Image, output_size: Ints, output_out: Image, indices_out: Image);
    adaptive_max_pool2d_backward = aclnnAdaptiveMaxPool2dBackwardGetWorkspaceSize, aclnnAdaptiveMaxPool2dBackward(grad_output: Image, self_: Image, indices: Image, grad_input: Image);
    adaptive_max_pool3d = aclnnAdaptiveMaxPool3dGetWorkspaceSize, aclnnAdaptiveMaxPool3d(self_: Image, output_size: Ints, output_out: Image, indices_out: Image);
    upsample_nearest1d = aclnnUpsampleNearest1dGetWorkspaceSize, aclnnUpsampleNearest1d(self_: Image, output_size: Ints, out: Image);
    upsample_nearest1d_v2 = aclnnUpsampleNearest1dV2GetWorkspaceSize, aclnnUpsampleNearest1dV2(self_: Image, output_size: Ints, scale_l: Float, out: Image);
    upsample_nearest1d_backward = aclnnUpsampleNearest1dBackwardGetWorkspaceSize, aclnnUpsampleNearest1dBackward(grad_out: Image, output_size: Ints, input_size: Ints, scales: Double, out: Image);
    upsample_nearest2d = aclnnUpsampleNearest2dGetWorkspaceSize, aclnnUpsampleNearest2d(self_: Image, output_size: Ints, out: Image);
    upsample_nearest2d_v2 = aclnnUpsampleNearest2dV2GetWorkspaceSize, aclnnUpsampleNearest2dV2(self_: Image, output_size: Ints, scales_h: Float, scales_w: Float, out: Image);
    upsample_nearest2d_backward = aclnnUpsampleNearest2dBackwardGetWorkspaceSize, aclnnUpsampleNearest2dBackward(grad_out: Image, output_size: Ints, input_size: Ints, scales_h: Double, scales_w: Double, grad_input: Image);
    upsample_nearest_exact1d = aclnnUpsampleNearestExact1dGetWorkspaceSize, aclnnUpsampleNearestExact1d(self_: Image, output_size: Ints, scales: Double, out: Image);
    upsample_nearest_exact1d_backward = aclnnUpsampleNearestExact1dBackwardGetWorkspaceSize, aclnnUpsampleNearestExact1dBackward(grad_output: Image, output_size: Ints, input_size: Ints, scales: Double, out: Image);
    upsample_nearest_exact2d = aclnnUpsampleNearestExact2dGetWorkspaceSize, aclnnUpsampleNearestExact2d(self_: Image, output_size: Ints, scales_h: Double, scales_w: Double, out: Image);
    upsample_nearest_exact2d_backward = aclnnUpsampleNearestExact2dBackwardGetWorkspaceSize, aclnnUpsampleNearestExact2dBackward(grad_output: Image, output_size: Ints, input_size: Ints, scales_h: Double, scales_w: Double, out: Image);
    upsample_nearest3d = aclnnUpsampleNearest3dGetWorkspaceSize, aclnnUpsampleNearest3d(self_: Image, output_size: Ints, scales_d: Double, scales_h: Double, scales_w: Double, out: Image);
    upsample_bilinear2d = aclnnUpsampleBilinear2dGetWorkspaceSize, aclnnUpsampleBilinear2d(self_: Image, output_size: Ints, align_corners: Bool, scales_h: Double, scales_w: Double, out: Image);
    upsample_bilinear2d_backward = aclnnUpsampleBilinear2dBackwardV2GetWorkspaceSize, aclnnUpsampleBilinear2dBackwardV2(grad_out: Image, output_size: Ints, input_size: Ints, align_corners: Bool, scales_h: Double, scales_w: Double, out: Image);
    upsample_bicubic2d = aclnnUpsampleBicubic2dGetWorkspaceSize, aclnnUpsampleBicubic2d(self_: Image, output_size: Ints, align_corners: Bool, scales_h: Double, scales_w: Double, out: Image);
    upsample_bicubic2d_backward = aclnnUpsampleBicubic2dBackwardGetWorkspaceSize, aclnnUpsampleBicubic2dBackward(grad_out: Image, output_size: Ints, input_size: Ints, align_corners: Bool, scales_h: Double, scales_w: Double, grad_input: Image);
    upsample_linear1d = aclnnUpsampleLinear1dGetWorkspaceSize, aclnnUpsampleLinear1d(self_: Image, output_size: Ints, align_corners: Bool, scales: Double, out: Image);
    upsample_linear1d_backward = aclnnUpsampleLinear1dBackwardGetWorkspaceSize, aclnnUpsampleLinear1dBackward(grad_out: Image, output_size: Ints, input_size: Ints, align_corners: Bool, scales: Double, out: Image);
    upsample_trilinear3d = aclnnUpsampleTrilinear3dGetWorkspaceSize, aclnnUpsampleTrilinear3d(self_: Image, output_size: Ints, align_corners: Bool, scales_d: Double, scales_h: Double, scales_w: Double, out: Image);
    grid_sampler2d = aclnnGridSampler2DGetWorkspaceSize, aclnnGridSampler2D(input: Image, grid: Image, interpolation_mode: Int, padding_mode: Int, align_corners: Bool, out: Image);
    grid_sampler2d_backward = aclnnGridSampler2DBackwardGetWorkspaceSize, aclnnGridSampler2DBackward(grad_output: Image, input: Image, grid: Image, interpolation_mode: Int, padding_mode: Int, align_corners: Bool, output_mask: Bools, input_grad: Image, grid_grad: Image);
    batch_norm = aclnnBatchNormGetWorkspaceSize, aclnnBatchNorm(input: Image, weight: OptionalImage, bias: OptionalImage, running_mean: OptionalImage, running_var: OptionalImage, training: Bool, momentum: Double, eps: Double, output: Image, save_mean: OptionalImage, save_invstd: OptionalImage);
    batch_norm_backward = aclnnBatchNormBackwardGetWorkspaceSize, aclnnBatchNormBackward(grad_out: Image, input: Image, weight: OptionalImage, running_mean: OptionalImage, running_var: OptionalImage, save_mean: OptionalImage, save_invstd: OptionalImage, training: Bool, eps: Double, output_mask: Bools, grad_input: OptionalImage, grad_weight: OptionalImage, grad_bias: OptionalImage);
}
