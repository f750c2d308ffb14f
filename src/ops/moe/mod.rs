//! Mixtures of experts: routing tokens to experts, bringing them there and back, and products of each expert's own rows.
//!
//! Knows what the family's rooms share: which slot of which token goes to which row. Must not know what experts compute.

rooms! {
    grouped_matmul,
    moe_gating_top_k_softmax,
    moe_token_permute,
    moe_token_unpermute,
}

use crate::error::{Error, Result};
use crate::shape::Shape;

/// A shape as rows and columns.
fn matrix(op: &'static str, what: &'static str, shape: &Shape) -> Result<[usize; 2]> {
    match shape.dims() {
        [rows, columns] => Ok([*rows, *columns]),
        _ => Err(Error::shape(
            op,
            format!("{what} of {shape}"),
            "a matrix: [rows, columns]",
        )),
    }
}
