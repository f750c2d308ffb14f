//! CANN's kernels for reductions and scans, one line each.
//!
//! Knows names and kinds of arguments in C's order. Must not know what the kernels compute, nor who uses them.

use super::kind::*;
use super::prelude::*;

aclnn! {
    reduce_sum = aclnnReduceSumGetWorkspaceSize, aclnnReduceSum(self_: In, dims: Ints, keep_dims: Bool, dtype: Code, out: Out);
    mean = aclnnMeanGetWorkspaceSize, aclnnMean(self_: In, dim: Ints, keep_dim: Bool, dtype: Code, out: Out);
    mean_v2 = aclnnMeanV2GetWorkspaceSize, aclnnMeanV2(self_: In, dim: Ints, keep_dim: Bool, noop_with_empty_axes: Bool, out: Out);
    amax = aclnnAmaxGetWorkspaceSize, aclnnAmax(self_: In, dim: Ints, keep_dim: Bool, out: Out);
    amin = aclnnAminGetWorkspaceSize, aclnnAmin(self_: In, dim: Ints, keep_dim: Bool, out: Out);
    max = aclnnMaxGetWorkspaceSize, aclnnMax(self_: In, out: Out);
    min = aclnnMinGetWorkspaceSize, aclnnMin(self_: In, out: Out);
    max_dim = aclnnMaxDimGetWorkspaceSize, aclnnMaxDim(self_: In, dim: Int, keepdim: Bool, out: Out, indices: Out);
    min_dim = aclnnMinDimGetWorkspaceSize, aclnnMinDim(self_: In, dim: Int, keepdim: Bool, out: Out, indices: Out);
    arg_max = aclnnArgMaxGetWorkspaceSize, aclnnArgMax(self_: In, dim: Int, keepdim: Bool, out: Out);
    arg_min = aclnnArgMinGetWorkspaceSize, aclnnArgMin(self_: In, dim: Int, keepdim: Bool, out: Out);
    prod_dim = aclnnProdDimGetWorkspaceSize, aclnnProdDim(self_: In, dim: Int, keep_dim: Bool, dtype: Code, out: Out);
    prod = aclnnProdGetWorkspaceSize, aclnnProd(self_: In, dtype: Code, out: Out);
    any = aclnnAnyGetWorkspaceSize, aclnnAny(self_: In, dim: Ints, keepdim: Bool, out: Out);
    all = aclnnAllGetWorkspaceSize, aclnnAll(self_: In, dim: Ints, keepdim: Bool, out: Out);
    var = aclnnVarGetWorkspaceSize, aclnnVar(self_: In, dim: Ints, unbiased: Bool, keepdim: Bool, out: Out);
    var_correction = aclnnVarCorrectionGetWorkspaceSize, aclnnVarCorrection(self_: In, dim: Ints, correction: Int, keepdim: Bool, out: Out);
    var_mean = aclnnVarMeanGetWorkspaceSize, aclnnVarMean(self_: In, dim: Ints, correction: Int, keepdim: Bool, var_out: Out, mean_out: Out);
    std = aclnnStdGetWorkspaceSize, aclnnStd(self_: In, dim: Ints, correction: Int, keepdim: Bool, out: Out);
    std_mean_correction = aclnnStdMeanCorrectionGetWorkspaceSize, aclnnStdMeanCorrection(self_: In, dim: Ints, correction: Int, keepdim: Bool, std_out: Out, mean_out: Out);
    cumsum = aclnnCumsumGetWorkspaceSize, aclnnCumsum(self_: In, dim: Int, dtype: Code, out: Out);
    cumsum_v2 = aclnnCumsumV2GetWorkspaceSize, aclnnCumsumV2(self_: In, dim: Int, exclusive: Bool, reverse: Bool, out: Out);
    cumprod = aclnnCumprodGetWorkspaceSize, aclnnCumprod(input: In, dim: Scalar, dtype: Code, out: Out);
    cummax = aclnnCummaxGetWorkspaceSize, aclnnCummax(self_: In, dim: Int, values_out: Out, indices_out: Out);
    cummin = aclnnCumminGetWorkspaceSize, aclnnCummin(self_: In, dim: Int, values_out: Out, indices_out: Out);
    log_sum_exp = aclnnLogSumExpGetWorkspaceSize, aclnnLogSumExp(self_: In, dim: Ints, keep_dim: Bool, out: Out);
    norm = aclnnNormGetWorkspaceSize, aclnnNorm(self_: In, p_scalar: Scalar, dim: Ints, keepdim: Bool, out: Out);
    linalg_vector_norm = aclnnLinalgVectorNormGetWorkspaceSize, aclnnLinalgVectorNorm(self_: In, ord: Scalar, dims: OptionalInts, keep_dims: Bool, dtype: Code, out: Out);
    aminmax = aclnnAminmaxGetWorkspaceSize, aclnnAminmax(self_: In, dim: Ints, keep_dim: Bool, min_out: Out, max_out: Out);
    median = aclnnMedianGetWorkspaceSize, aclnnMedian(self_: In, values_out: Out);
    median_dim = aclnnMedianDimGetWorkspaceSize, aclnnMedianDim(self_: In, dim: Int, keep_dim: Bool, values_out: Out, indices_out: Out);
    kthvalue = aclnnKthvalueGetWorkspaceSize, aclnnKthvalue(self_: In, k: Int, dim: Int, keepdim: Bool, values_out: Out, indices_out: Out);
    reduce_log_sum = aclnnReduceLogSumGetWorkspaceSize, aclnnReduceLogSum(data: In, axes: Ints, keep_dims: Bool, noop_with_empty_axes: Bool, reduce: Out);
    bincount = aclnnBincountGetWorkspaceSize, aclnnBincount(self_: In, weights: In, minlength: Int, out: Out);
}
