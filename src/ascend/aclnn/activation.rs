//! CANN's kernels for activations and their gradients, one line each.
//!
//! Knows names and kinds of arguments in C's order. Must not know what the kernels compute, nor who uses them.

use super::kind::*;
use super::prelude::*;

aclnn! {
    relu = aclnnReluGetWorkspaceSize, aclnnRelu(self_: In, out: Out);
    inplace_relu = aclnnInplaceReluGetWorkspaceSize, aclnnInplaceRelu(self_ref: Out);
    leaky_relu = aclnnLeakyReluGetWorkspaceSize, aclnnLeakyRelu(self_: In, negative_slope: Scalar, out: Out);
    leaky_relu_backward = aclnnLeakyReluBackwardGetWorkspaceSize, aclnnLeakyReluBackward(grad_output: In, self_: In, negative_slope: Scalar, self_is_result: Bool, out: Out);
    elu = aclnnEluGetWorkspaceSize, aclnnElu(self_: In, alpha: Scalar, scale: Scalar, input_scale: Scalar, out: Out);
    elu_backward = aclnnEluBackwardGetWorkspaceSize, aclnnEluBackward(grad_output: In, alpha: Scalar, scale: Scalar, input_scale: Scalar, is_result: Bool, self_or_result: In, grad_input: Out);
    selu = aclnnSeluGetWorkspaceSize, aclnnSelu(self_: In, out: Out);
    hardshrink = aclnnHardshrinkGetWorkspaceSize, aclnnHardshrink(self_: In, lambd: Scalar, out: Out);
    hardshrink_backward = aclnnHardshrinkBackwardGetWorkspaceSize, aclnnHardshrinkBackward(grad_output: In, self_: In, lambd: Scalar, grad_input: Out);
    softshrink = aclnnSoftshrinkGetWorkspaceSize, aclnnSoftshrink(self_: In, lambd: Scalar, out: Out);
    softshrink_backward = aclnnSoftshrinkBackwardGetWorkspaceSize, aclnnSoftshrinkBackward(grad_output: In, self_: In, lambda: Scalar, grad_input: Out);
    celu = aclnnCeluGetWorkspaceSize, aclnnCelu(self_: In, alpha: Scalar, out: Out);
    gelu = aclnnGeluGetWorkspaceSize, aclnnGelu(self_: In, out: Out);
    gelu_v2 = aclnnGeluV2GetWorkspaceSize, aclnnGeluV2(x: In, approximate: Int, y: Out);
    gelu_backward = aclnnGeluBackwardGetWorkspaceSize, aclnnGeluBackward(grad_output: In, self_: In, grad_input: Out);
    gelu_backward_v2 = aclnnGeluBackwardV2GetWorkspaceSize, aclnnGeluBackwardV2(grad_output: In, self_: In, approximate: Text, grad_input: Out);
    fast_gelu = aclnnFastGeluGetWorkspaceSize, aclnnFastGelu(self_: In, out: Out);
    fast_gelu_backward = aclnnFastGeluBackwardGetWorkspaceSize, aclnnFastGeluBackward(grad_output: In, self_: In, grad_input: Out);
    silu = aclnnSiluGetWorkspaceSize, aclnnSilu(self_: In, out: Out);
    silu_backward = aclnnSiluBackwardGetWorkspaceSize, aclnnSiluBackward(grad_output: In, self_: In, grad_input: Out);
    swish = aclnnSwishGetWorkspaceSize, aclnnSwish(self_: In, beta_optional: OptionalScalar, out: Out);
    swish_backward = aclnnSwishBackwardGetWorkspaceSize, aclnnSwishBackward(grad_output: In, self_: In, beta_optional: OptionalScalar, grad_input: Out);
    mish = aclnnMishGetWorkspaceSize, aclnnMish(self_: In, out: Out);
    mish_backward = aclnnMishBackwardGetWorkspaceSize, aclnnMishBackward(grad_output: In, self_: In, grad_input: Out);
    sigmoid = aclnnSigmoidGetWorkspaceSize, aclnnSigmoid(self_: In, out: Out);
    sigmoid_backward = aclnnSigmoidBackwardGetWorkspaceSize, aclnnSigmoidBackward(grad_output: In, output: In, grad_input: Out);
    log_sigmoid = aclnnLogSigmoidGetWorkspaceSize, aclnnLogSigmoid(self_: In, out: Out);
    log_sigmoid_forward = aclnnLogSigmoidForwardGetWorkspaceSize, aclnnLogSigmoidForward(self_: In, out: Out, buffer: Out);
    log_sigmoid_backward = aclnnLogSigmoidBackwardGetWorkspaceSize, aclnnLogSigmoidBackward(grad_output: In, self_: In, buffer: In, grad_input: Out);
    tanh_backward = aclnnTanhBackwardGetWorkspaceSize, aclnnTanhBackward(grad_output: In, output: In, grad_input: Out);
    threshold_backward = aclnnThresholdBackwardGetWorkspaceSize, aclnnThresholdBackward(grad_output: In, self_: In, threshold: Scalar, out: Out);
    threshold = aclnnThresholdGetWorkspaceSize, aclnnThreshold(self_: In, threshold: Scalar, value: Scalar, out: Out);
    softplus = aclnnSoftplusGetWorkspaceSize, aclnnSoftplus(self_: In, beta: Scalar, threshold: Scalar, out: Out);
    softplus_backward = aclnnSoftplusBackwardGetWorkspaceSize, aclnnSoftplusBackward(grad_output: In, self_: In, beta: Scalar, threshold: Scalar, grad_input: Out);
    hardswish = aclnnHardswishGetWorkspaceSize, aclnnHardswish(self_: In, out: Out);
    hardswish_backward_v2 = aclnnHardswishBackwardV2GetWorkspaceSize, aclnnHardswishBackwardV2(grad_output: In, self_: In, out: Out);
    hardsigmoid = aclnnHardsigmoidGetWorkspaceSize, aclnnHardsigmoid(self_: In, out: Out);
    hardsigmoid_backward = aclnnHardsigmoidBackwardGetWorkspaceSize, aclnnHardsigmoidBackward(grad_output: In, self_: In, out: Out);
    hardtanh = aclnnHardtanhGetWorkspaceSize, aclnnHardtanh(self_: In, clip_value_min: Scalar, clip_value_max: Scalar, out: Out);
    hardtanh_backward = aclnnHardtanhBackwardGetWorkspaceSize, aclnnHardtanhBackward(grad_output: In, self_: In, min: Scalar, max: Scalar, out: Out);
    prelu = aclnnPreluGetWorkspaceSize, aclnnPrelu(self_: In, weight: In, out: Out);
    prelu_backward = aclnnPreluBackwardGetWorkspaceSize, aclnnPreluBackward(grad_output: In, self_: In, weight: In, grad_input: Out, grad_weight: Out);
    softmax = aclnnSoftmaxGetWorkspaceSize, aclnnSoftmax(self_: In, dim: Int, out: Out);
    softmax_backward = aclnnSoftmaxBackwardGetWorkspaceSize, aclnnSoftmaxBackward(grad_output: In, output: In, dim: Int, out: Out);
    log_softmax = aclnnLogSoftmaxGetWorkspaceSize, aclnnLogSoftmax(self_: In, dim: Int, out: Out);
    log_softmax_backward = aclnnLogSoftmaxBackwardGetWorkspaceSize, aclnnLogSoftmaxBackward(grad_output: In, output: In, dim: Int, out: Out);
    swiglu = aclnnSwiGluGetWorkspaceSize, aclnnSwiGlu(x: In, dim: Int, out: Out);
    swiglu_grad = aclnnSwiGluGradGetWorkspaceSize, aclnnSwiGluGrad(y_grad: In, x: In, dim: Int, out: Out);
    glu = aclnnGluGetWorkspaceSize, aclnnGlu(self_: In, dim: Int, out: Out);
    glu_backward = aclnnGluBackwardGetWorkspaceSize, aclnnGluBackward(grad_out: In, self_: In, dim: Int, out: Out);
    geglu = aclnnGeGluGetWorkspaceSize, aclnnGeGlu(self_: In, dim: Int, approximate: Int, out: Out, out_gelu: Out);
    geglu_backward = aclnnGeGluBackwardGetWorkspaceSize, aclnnGeGluBackward(grad_output: In, self_: In, gelu: In, dim: Int, approximate: Int, grad_input: Out);
}
