//! CANN's kernels for gathering, scattering, sorting and data-dependent shapes, one line each.
//!
//! Knows names and kinds of arguments in C's order. Must not know what the kernels compute, nor who uses them.

use super::kind::*;
use super::prelude::*;

aclnn! {
    index = aclnnIndexGetWorkspaceSize, aclnnIndex(self_: In, indices: List, out: Out);
    index_select = aclnnIndexSelectGetWorkspaceSize, aclnnIndexSelect(self_: In, dim: Int, index: In, out: Out);
    index_add = aclnnIndexAddGetWorkspaceSize, aclnnIndexAdd(self_: In, dim: Int, index: In, source: In, alpha: Scalar, out: Out);
    index_add_v2 = aclnnIndexAddV2GetWorkspaceSize, aclnnIndexAddV2(self_: In, dim: Int, index: In, source: In, alpha: Scalar, mode: Int, out: Out);
    index_put_impl = aclnnIndexPutImplGetWorkspaceSize, aclnnIndexPutImpl(self_ref: Out, indices: List, values: In, accumulate: Bool, unsafe_: Bool);
    index_fill = aclnnIndexFillGetWorkspaceSize, aclnnIndexFill(self_: In, dim: Int, index: In, value: Scalar, out: Out);
    index_fill_tensor = aclnnIndexFillTensorGetWorkspaceSize, aclnnIndexFillTensor(self_: In, dim: Int, index: Ints, value: Scalar, out: Out);
    gather = aclnnGatherGetWorkspaceSize, aclnnGather(self_: In, dim: Int, index: In, out: Out);
    gather_v2 = aclnnGatherV2GetWorkspaceSize, aclnnGatherV2(self_: In, dim: Int, index: In, out: Out);
    gather_nd = aclnnGatherNdGetWorkspaceSize, aclnnGatherNd(self_: In, indices: In, negative_index_support: Bool, out: Out);
    scatter = aclnnScatterGetWorkspaceSize, aclnnScatter(self_: In, dim: Int, index: In, src: In, reduce: Int, out: Out);
    scatter_value = aclnnScatterValueGetWorkspaceSize, aclnnScatterValue(self_: In, dim: Int, index: In, value: Scalar, reduce: Int, out: Out);
    scatter_add = aclnnScatterAddGetWorkspaceSize, aclnnScatterAdd(self_: In, dim: Int, index: In, src: In, out: Out);
    inplace_scatter = aclnnInplaceScatterGetWorkspaceSize, aclnnInplaceScatter(self_ref: Out, dim: Int, index: In, src: In, reduce: Int);
    inplace_scatter_value = aclnnInplaceScatterValueGetWorkspaceSize, aclnnInplaceScatterValue(self_ref: Out, dim: Int, index: In, value: Scalar, reduce: Int);
    scatter_nd = aclnnScatterNdGetWorkspaceSize, aclnnScatterNd(data: In, indices: In, updates: In, out: Out);
    scatter_nd_update = aclnnScatterNdUpdateGetWorkspaceSize, aclnnScatterNdUpdate(var_ref: Out, indices: In, updates: In);
    inplace_scatter_update = aclnnInplaceScatterUpdateGetWorkspaceSize, aclnnInplaceScatterUpdate(data: Out, indices: In, updates: In, axis: Int);
    inplace_index_copy = aclnnInplaceIndexCopyGetWorkspaceSize, aclnnInplaceIndexCopy(self_ref: Out, dim: Int, index: In, source: In);
    scatter_reduce = aclnnScatterReduceGetWorkspaceSize, aclnnScatterReduce(self_: In, dim: Int, index: In, src: In, reduce: Int, include_self: Bool, out: Out);
    take = aclnnTakeGetWorkspaceSize, aclnnTake(self_: In, index: In, out: Out);
    inplace_put = aclnnInplacePutGetWorkspaceSize, aclnnInplacePut(self_ref: Out, index: In, source: In, accumulate: Bool);
    embedding = aclnnEmbeddingGetWorkspaceSize, aclnnEmbedding(weight: In, indices: In, out: Out);
    embedding_dense_backward = aclnnEmbeddingDenseBackwardGetWorkspaceSize, aclnnEmbeddingDenseBackward(grad: In, indices: In, num_weights: Unsigned, padding_idx: Unsigned, scale_grad_by_freq: Bool, out: Out);
    embedding_bag = aclnnEmbeddingBagGetWorkspaceSize, aclnnEmbeddingBag(weight: In, indices: In, offsets: In, scale_grad_by_freq: Bool, mode: Int, sparse: Bool, per_sample_weights: OptionalIn, include_last_offset: Bool, padding_idx: Int, output: Out, offset2bag: Out, bag_size: Out, max_indices: Out);
    embedding_renorm = aclnnEmbeddingRenormGetWorkspaceSize, aclnnEmbeddingRenorm(self_ref: Out, indices: In, max_norm: Double, norm_type: Double);
    masked_select = aclnnMaskedSelectGetWorkspaceSize, aclnnMaskedSelect(self_: In, mask: In, out: Dynamic);
    inplace_masked_scatter = aclnnInplaceMaskedScatterGetWorkspaceSize, aclnnInplaceMaskedScatter(self_ref: Out, mask: In, source: In);
    nonzero = aclnnNonzeroGetWorkspaceSize, aclnnNonzero(self_: In, out: Dynamic);
    nonzero_v2 = aclnnNonzeroV2GetWorkspaceSize, aclnnNonzeroV2(self_: In, out: Dynamic);
    unique = aclnnUniqueGetWorkspaceSize, aclnnUnique(self_: In, sorted: Bool, return_inverse: Bool, value_out: Dynamic, inverse_out: Out);
    unique2 = aclnnUnique2GetWorkspaceSize, aclnnUnique2(self_: In, sorted: Bool, return_inverse: Bool, return_counts: Bool, value_out: Dynamic, inverse_out: Out, counts_out: Dynamic);
    unique_dim = aclnnUniqueDimGetWorkspaceSize, aclnnUniqueDim(self_: In, sorted: Bool, return_inverse: Bool, dim: Int, value_out: Dynamic, inverse_out: Out, counts_out: Dynamic);
    unique_consecutive = aclnnUniqueConsecutiveGetWorkspaceSize, aclnnUniqueConsecutive(self_: In, return_inverse: Bool, return_counts: Bool, dim: Int, value_out: Dynamic, inverse_out: Out, counts_out: Dynamic);
    sort = aclnnSortGetWorkspaceSize, aclnnSort(self_: In, stable: Bool, dim: Int, descending: Bool, values_out: Out, indices_out: Out);
    topk = aclnnTopkGetWorkspaceSize, aclnnTopk(self_: In, k: Int, dim: Int, largest: Bool, sorted: Bool, values_out: Out, indices_out: Out);
    argsort = aclnnArgsortGetWorkspaceSize, aclnnArgsort(self_: In, dim: Int, descending: Bool, out: Out);
    search_sorted = aclnnSearchSortedGetWorkspaceSize, aclnnSearchSorted(sorted_sequence: In, self_: In, out_int32: Bool, right: Bool, sorter: OptionalIn, out: Out);
    search_sorteds = aclnnSearchSortedsGetWorkspaceSize, aclnnSearchSorteds(sorted_sequence: In, self_: Scalar, out_int32: Bool, right: Bool, sorter: OptionalIn, out: Out);
    is_in_tensor_scalar = aclnnIsInTensorScalarGetWorkspaceSize, aclnnIsInTensorScalar(element: In, test_element: Scalar, assume_unique: Bool, invert: Bool, out: Out);
    is_in_scalar_tensor = aclnnIsInScalarTensorGetWorkspaceSize, aclnnIsInScalarTensor(element: Scalar, test_elements: In, assume_unique: Bool, invert: Bool, out: Out);
}
