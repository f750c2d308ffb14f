//! CANN's kernels for normalisation, one line each.
//!
//! Knows names and kinds of arguments in C's order. Must not know what the kernels compute, nor who uses them.

use super::kind::*;
use super::prelude::*;

aclnn! {
    layer_norm = aclnnLayerNormGetWorkspaceSize, aclnnLayerNorm(input: In, normalized_shape: Ints, weight_optional: OptionalIn, bias_optional: OptionalIn, eps: Double, out: Out, mean_out_optional: OptionalOut, rstd_out_optional: OptionalOut);
    layer_norm_with_impl_mode = aclnnLayerNormWithImplModeGetWorkspaceSize, aclnnLayerNormWithImplMode(input: In, normalized_shape: Ints, weight_optional: OptionalIn, bias_optional: OptionalIn, eps: Double, out: Out, mean_out_optional: OptionalOut, rstd_out_optional: OptionalOut, impl_mode: Short);
    layer_norm_backward = aclnnLayerNormBackwardGetWorkspaceSize, aclnnLayerNormBackward(grad_out: In, input: In, normalized_shape: Ints, mean: In, rstd: In, weight_optional: OptionalIn, bias_optional: OptionalIn, output_mask: Bools, grad_input_out: OptionalOut, grad_weight_out: OptionalOut, grad_bias_out: OptionalOut);
    rms_norm = aclnnRmsNormGetWorkspaceSize, aclnnRmsNorm(x: In, gamma: In, epsilon: Double, y_out: Out, rstd_out: Out);
    rms_norm_grad = aclnnRmsNormGradGetWorkspaceSize, aclnnRmsNormGrad(dy: In, x: In, rstd: In, gamma: In, dx_out: Out, dgamma_out: Out);
    add_rms_norm = aclnnAddRmsNormGetWorkspaceSize, aclnnAddRmsNorm(x1: In, x2: In, gamma: In, epsilon: Double, y_out: Out, rstd_out: Out, x_out: Out);
    add_layer_norm = aclnnAddLayerNormGetWorkspaceSize, aclnnAddLayerNorm(x1: In, x2: In, gamma: In, beta: In, bias_optional: OptionalIn, epsilon: Double, additional_output: Bool, y_out: Out, mean_out: Out, rstd_out: Out, x_out: Out);
    add_layer_norm_grad = aclnnAddLayerNormGradGetWorkspaceSize, aclnnAddLayerNormGrad(dy: In, x1: In, x2: In, rstd: In, mean: In, gamma: In, dsum_optional: OptionalIn, dx_out: Out, dgamma_out: Out, dbeta_out: Out);
    deep_norm = aclnnDeepNormGetWorkspaceSize, aclnnDeepNorm(x: In, gx: In, beta: In, gamma: In, alpha: Double, epsilon: Double, mean_out: Out, rstd_out: Out, y_out: Out);
    group_norm = aclnnGroupNormGetWorkspaceSize, aclnnGroupNorm(self_: In, gamma: OptionalIn, beta: OptionalIn, n: Int, c: Int, hx_w: Int, group: Int, eps: Double, out: Out, mean_out: Out, rstd_out: Out);
    group_norm_backward = aclnnGroupNormBackwardGetWorkspaceSize, aclnnGroupNormBackward(grad_out: In, input: In, mean: In, rstd: In, gamma: OptionalIn, n: Int, c: Int, hx_w: Int, group: Int, output_mask: Bools, grad_input: OptionalOut, grad_gamma_out: OptionalOut, grad_beta_out: OptionalOut);
    group_norm_silu = aclnnGroupNormSiluGetWorkspaceSize, aclnnGroupNormSilu(self_: In, gamma: OptionalIn, beta: OptionalIn, group: Int, eps: Double, out: Out, mean_out: Out, rstd_out: Out);
    renorm = aclnnRenormGetWorkspaceSize, aclnnRenorm(self_: In, p: Scalar, dim: Int, max_norm: Scalar, out: Out);
}
