//! Creation: tensors from nothing but a shape and numbers.
//!
//! Knows where new tensors are made. Must not know arithmetic.

mod meshgrid;

pub use meshgrid::Indexing;

rooms! {
    arange,
    eye,
    full,
    linspace,
}
