//! CANN's kernels for losses, one line each.
//!
//! Knows names and kinds of arguments in C's order. Must not know what the kernels compute, nor who uses them.

use super::kind::*;
use super::prelude::*;

aclnn! {
    nll_loss = aclnnNLLLossGetWorkspaceSize, aclnnNLLLoss(self_: In, target: In, weight: In, reduction: Int, ignore_index: Int, out: Out, total_weight_out: Out);
    nll_loss_backward = aclnnNLLLossBackwardGetWorkspaceSize, aclnnNLLLossBackward(grad_output: In, self_: In, target: In, weight: In, reduction: Int, ignore_index: Int, total_weight: In, out: Out);
    nll_loss2d = aclnnNLLLoss2dGetWorkspaceSize, aclnnNLLLoss2d(self_: In, target: In, weight: In, reduction: Int, ignore_index: Int, out: Out, total_weight_out: Out);
    nll_loss2d_backward = aclnnNLLLoss2dBackwardGetWorkspaceSize, aclnnNLLLoss2dBackward(grad_output: In, self_: In, target: In, weight: In, reduction: Int, ignore_index: Int, total_weight: Out, out: Out);
    cross_entropy_loss = aclnnCrossEntropyLossGetWorkspaceSize, aclnnCrossEntropyLoss(input: In, target: In, weight_optional: OptionalIn, reduction_optional: Text, ignore_index: Int, label_smoothing: Double, lse_square_scale_for_zloss: Double, return_zloss: Bool, loss_out: Out, log_prob_out: Out, zloss_out: OptionalOut, lse_for_zloss_out: OptionalOut);
    cross_entropy_loss_grad = aclnnCrossEntropyLossGradGetWorkspaceSize, aclnnCrossEntropyLossGrad(grad_loss: In, log_prob: In, target: In, weight_optional: OptionalIn, grad_zloss_optional: OptionalIn, lse_for_zloss_optional: OptionalIn, reduction_optional: Text, ignore_index: Int, label_smoothing: Double, lse_square_scale_for_zloss: Double, out: Out);
    mse_loss = aclnnMseLossGetWorkspaceSize, aclnnMseLoss(self_: In, target: In, reduction: Int, out: Out);
    mse_loss_backward = aclnnMseLossBackwardGetWorkspaceSize, aclnnMseLossBackward(grad_output: In, self_: In, target: In, reduction: Int, out: Out);
    mse_loss_out = aclnnMseLossOutGetWorkspaceSize, aclnnMseLossOut(self_: In, target: In, reduction: Int, out: Out);
    l1_loss = aclnnL1LossGetWorkspaceSize, aclnnL1Loss(self_: In, target: In, reduction: Int, out: Out);
    l1_loss_backward = aclnnL1LossBackwardGetWorkspaceSize, aclnnL1LossBackward(grad_output: In, self_: In, target: In, reduction: Int, grad_input: Out);
    smooth_l1_loss = aclnnSmoothL1LossGetWorkspaceSize, aclnnSmoothL1Loss(self_: In, target: In, reduction: Int, beta: Float, result: Out);
    smooth_l1_loss_backward = aclnnSmoothL1LossBackwardGetWorkspaceSize, aclnnSmoothL1LossBackward(grad_out: In, self_: In, target: In, reduction: Int, beta: Float, grad_input: Out);
    binary_cross_entropy = aclnnBinaryCrossEntropyGetWorkspaceSize, aclnnBinaryCrossEntropy(self_: In, target: In, weight: OptionalIn, reduction: Int, out: Out);
    binary_cross_entropy_backward = aclnnBinaryCrossEntropyBackwardGetWorkspaceSize, aclnnBinaryCrossEntropyBackward(grad_output: In, self_: In, target: In, weight_optional: OptionalIn, reduction: Int, out: Out);
    binary_cross_entropy_with_logits = aclnnBinaryCrossEntropyWithLogitsGetWorkspaceSize, aclnnBinaryCrossEntropyWithLogits(self_: In, target: In, weight_optional: OptionalIn, pos_weight_optional: OptionalIn, reduction: Int, out: Out);
    binary_cross_entropy_with_logits_backward = aclnnBinaryCrossEntropyWithLogitsBackwardGetWorkspaceSize, aclnnBinaryCrossEntropyWithLogitsBackward(grad_output: In, self_: In, target: In, weight_optional: OptionalIn, pos_weight_optional: OptionalIn, reduction: Int, out: Out);
    kl_div = aclnnKlDivGetWorkspaceSize, aclnnKlDiv(self_: In, target: In, reduction: Int, log_target: Bool, out: Out);
    kl_div_backward = aclnnKlDivBackwardGetWorkspaceSize, aclnnKlDivBackward(grad_output: In, self_: In, target: In, reduction: Int, log_target: Bool, out: Out);
    soft_margin_loss = aclnnSoftMarginLossGetWorkspaceSize, aclnnSoftMarginLoss(self_: In, target: In, reduction: Int, out: Out);
    soft_margin_loss_backward = aclnnSoftMarginLossBackwardGetWorkspaceSize, aclnnSoftMarginLossBackward(grad_output: In, self_: In, target: In, reduction: Int, out: Out);
}
