//! The table of emulated kernels: one file per family, one line per op.
//!
//! Knows the families; it must not know how a kernel is called.

use crate::kernel::Prepare;

mod advanced_index;
mod arithmetic;
mod basic;
mod selection;
mod scan;
mod ordering;
mod reduction;
mod copying;
mod padding;
mod placement;
mod dropout;
mod gated;
mod activation_backward;
mod activation;
mod loss;
mod loss_class;
mod random;
mod unary;
mod functions;
mod common;
mod comparison;
mod creation;
mod element;
mod gather;
mod matmul;
mod norm;
mod norm_channel;
mod scatter;
mod softmax;
mod ternary;
#[cfg(test)]
mod testing;

/// The tables of all families. A family's file has `pub(crate) const KERNELS: &[(&str, Prepare)]`.
pub(crate) const FAMILIES: &[&[(&str, Prepare)]] = &[
    basic::KERNELS,
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
    matmul::KERNELS,
    softmax::KERNELS,
    norm::KERNELS,
    norm_channel::KERNELS,
    gather::KERNELS,
    scatter::KERNELS,
    advanced_index::KERNELS,
    loss::KERNELS,
    loss_class::KERNELS,
    random::KERNELS,
    dropout::KERNELS,
];
