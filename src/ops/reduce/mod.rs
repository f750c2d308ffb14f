//! Reductions and scans: many elements to one along dims.
//!
//! Knows the options and the shape rule that the family shares. Must not know any single op.

rooms! {
    sum,
}

use crate::dtype::DType;
use crate::shape::Axes;

/// Which dims a reduction runs over, whether they stay with size 1, and the dtype to compute in.
///
/// Made from dims alone (`()` for all, a number, an array), or built up.
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct ReduceOptions {
    pub(crate) dim: Axes,
    pub(crate) keep: bool,
    pub(crate) dtype: Option<DType>,
}

impl ReduceOptions {
    /// Over all dims, none kept, in the op's own dtype.
    pub fn new() -> Self {
        ReduceOptions::default()
    }

    /// The dims to reduce; none means all.
    pub fn dim(mut self, dim: impl Into<Axes>) -> Self {
        self.dim = dim.into();
        self
    }

    /// Keeps the reduced dims with size 1.
    pub fn keepdim(mut self) -> Self {
        self.keep = true;
        self
    }

    /// Casts the input to this dtype first.
    pub fn dtype(mut self, dtype: DType) -> Self {
        self.dtype = Some(dtype);
        self
    }
}

impl<T: Into<Axes>> From<T> for ReduceOptions {
    fn from(dim: T) -> Self {
        ReduceOptions::new().dim(dim)
    }
}
