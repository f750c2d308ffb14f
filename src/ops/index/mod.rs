//! Indexing: elements chosen, or written, by tensors of indices and masks.
//!
//! Knows how indices are checked and which shapes they need. Must not know any single op.

rooms! {
    embedding,
    gather,
    index,
    index_add,
    index_copy,
    index_fill,
    index_put,
    index_select,
    masked_scatter,
    masked_select,
    nonzero,
    scatter,
    scatter_add,
    scatter_reduce,
}

mod check;
mod take;

pub(crate) use check::{Negative, any_indices, host_indices, index_dtype, on_device, read_back};
