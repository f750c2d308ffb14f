//! Automatic differentiation: what runs backward, and its results.
//!
//! Knows leaves, gradients and the walk over the tape. Must not know any op's gradient (those are in the op rooms).

pub(crate) mod arrived;
mod backward;
pub mod check;
mod checkpoint;
pub(crate) mod tape;

pub use backward::{BackwardOptions, Gradients};
pub use checkpoint::checkpoint;
