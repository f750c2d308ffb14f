//! The table of emulated kernels: one file per family, one line per op.
//!
//! Knows the families; it must not know how a kernel is called.

use crate::kernel::Prepare;

mod activation;
mod activation_backward;
mod advanced_index;
mod arithmetic;
mod attention;
mod attention_heads;
mod attention_merge;
mod attention_varlen;
mod cache;
mod cache_rope;
#[cfg(test)]
mod checks;
mod chunks;
pub(crate) mod common;
mod comparison;
mod convolution;
mod copying;
mod creation;
mod distance;
mod dropout;
mod einsum;
mod element;
mod embedding_bag;
mod foreach;
mod fourier;
mod functions;
mod fused_collective;
mod fused_exchange;
mod fused_small;
mod gated;
mod gated_quant;
mod gather;
mod grid;
mod grouped_gated;
mod grouped_matmul;
mod inference_attention;
mod latent_attention;
mod linalg;
mod linalg_factor;
mod linalg_svd;
mod loss;
mod loss_class;
mod loss_sequence;
mod matmul;
mod matmul_permuted;
mod moe;
mod moe_combine;
mod moe_distribute;
mod norm;
mod norm_channel;
mod norm_quant;
mod norm_sync;
mod optimizer;
mod ordering;
mod padding;
mod patches;
mod placement;
mod pooling;
mod quant;
mod random;
mod recurrent;
mod recurrent_sequence;
mod reduction;
mod repetition;
mod resize;
mod rotary;
mod routing;
mod routing_map;
mod rows;
mod sampling;
mod scan;
mod scatter;
mod selection;
mod softmax;
mod sparse_attention;
mod ternary;
#[cfg(test)]
mod testing;
mod unary;
mod weight_format;
mod weight_product;

/// The tables of all families. A family's file has `pub(crate) const KERNELS: &[(&str, Prepare)]`.
pub(crate) const FAMILIES: &[&[(&str, Prepare)]] = &[
    selection::KERNELS,
    scan::KERNELS,
    ordering::KERNELS,
    reduction::KERNELS,
    copying::KERNELS,
    padding::KERNELS,
    gated::KERNELS,
    activation_backward::KERNELS,
    activation::KERNELS,
    unary::KERNELS,
    creation::KERNELS,
    ternary::KERNELS,
    comparison::KERNELS,
    arithmetic::KERNELS,
    repetition::KERNELS,
    matmul::KERNELS,
    softmax::KERNELS,
    norm::KERNELS,
    norm_channel::KERNELS,
    norm_sync::KERNELS,
    norm_quant::KERNELS,
    gather::KERNELS,
    scatter::KERNELS,
    advanced_index::KERNELS,
    loss::KERNELS,
    loss_class::KERNELS,
    loss_sequence::KERNELS,
    random::KERNELS,
    dropout::KERNELS,
    optimizer::KERNELS,
    foreach::KERNELS,
    convolution::KERNELS,
    pooling::KERNELS,
    resize::KERNELS,
    attention::KERNELS,
    attention_varlen::KERNELS,
    attention_merge::KERNELS,
    cache::KERNELS,
    cache_rope::KERNELS,
    inference_attention::KERNELS,
    recurrent::KERNELS,
    rotary::KERNELS,
    moe::KERNELS,
    grouped_matmul::KERNELS,
    grouped_gated::KERNELS,
    sparse_attention::KERNELS,
    quant::KERNELS,
    distance::KERNELS,
    embedding_bag::KERNELS,
    grid::KERNELS,
    patches::KERNELS,
    linalg::KERNELS,
    linalg_factor::KERNELS,
    linalg_svd::KERNELS,
    recurrent_sequence::KERNELS,
    einsum::KERNELS,
    chunks::KERNELS,
    weight_format::KERNELS,
    weight_product::KERNELS,
    fourier::KERNELS,
    latent_attention::KERNELS,
    fused_collective::KERNELS,
    fused_exchange::KERNELS,
    fused_small::KERNELS,
    moe_combine::KERNELS,
    moe_distribute::KERNELS,
    sampling::KERNELS,
    routing::KERNELS,
    routing_map::KERNELS,
    matmul_permuted::KERNELS,
    gated_quant::KERNELS,
];
