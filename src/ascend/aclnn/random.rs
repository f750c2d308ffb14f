//! CANN's kernels for random numbers and dropout, one line each.
//!
//! Knows names and kinds of arguments in C's order. Must not know what the kernels compute, nor who uses them.

use super::kind::*;
use super::prelude::*;

aclnn! {
    dropout = aclnnDropoutGetWorkspaceSize, aclnnDropout(input: In, p: Double, train: Bool, seed: Int, offset: Int, out: Out, mask_out: Out);
    dropout_backward = aclnnDropoutBackwardGetWorkspaceSize, aclnnDropoutBackward(grad_output: In, mask: In, scale: Double, out: Out);
    dropout_gen_mask = aclnnDropoutGenMaskGetWorkspaceSize, aclnnDropoutGenMask(shape: Ints, prob: Double, seed: Int, offset: Int, out: Out);
    dropout_gen_mask_v2 = aclnnDropoutGenMaskV2GetWorkspaceSize, aclnnDropoutGenMaskV2(shape: Ints, prob: Double, seed: Int, offset: Int, prob_data_type: Code, out: Out);
    dropout_do_mask = aclnnDropoutDoMaskGetWorkspaceSize, aclnnDropoutDoMask(self_: In, mask: In, prob: Double, out: Out);
    inplace_normal = aclnnInplaceNormalGetWorkspaceSize, aclnnInplaceNormal(self_ref: In, mean: Float, std: Float, seed: Int, offset: Int);
    inplace_uniform = aclnnInplaceUniformGetWorkspaceSize, aclnnInplaceUniform(self_ref: In, from: Double, to: Double, seed: Unsigned, offset: Unsigned);
    inplace_random = aclnnInplaceRandomGetWorkspaceSize, aclnnInplaceRandom(self_ref: In, from: Int, to: Int, seed: Int, offset: Int);
    inplace_bernoulli = aclnnInplaceBernoulliGetWorkspaceSize, aclnnInplaceBernoulli(self_ref: In, prob: Scalar, seed: Int, offset: Int);
    inplace_bernoulli_tensor = aclnnInplaceBernoulliTensorGetWorkspaceSize, aclnnInplaceBernoulliTensor(self_ref: In, prob: In, seed: Int, offset: Int);
    bernoulli = aclnnBernoulliGetWorkspaceSize, aclnnBernoulli(self_: In, prob: Scalar, seed: Int, offset: Int, out: Out);
    multinomial = aclnnMultinomialGetWorkspaceSize, aclnnMultinomial(self_: In, numsamples: Int, replacement: Bool, seed: Int, offset: Int, out: Out);
    randperm = aclnnRandpermGetWorkspaceSize, aclnnRandperm(n: Int, seed: Int, offset: Int, out: Out);
}
