//! Reductions and scans: many elements to one along dims.
//!
//! Knows the options and the shape rule that the family shares. Must not know any single op.

rooms! {
    mean,
    sum,
}

use crate::dtype::DType;
use crate::error::Result;
use crate::op::{Op, Sample, SampleInput};
use crate::shape::{Axes, MAX_RANK, Shape};

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

    /// The reduced dims as a mask.
    pub(crate) fn mask(&self, op: &'static str, shape: &Shape) -> Result<[bool; MAX_RANK]> {
        self.dim.resolve(op, shape)
    }

    /// The reduced dims as CANN wants them; none for a tensor without dims.
    pub(crate) fn dims(&self, op: &'static str, shape: &Shape) -> Result<Vec<i64>> {
        let mask = self.mask(op, shape)?;
        Ok((0..shape.rank()).filter(|dim| mask[*dim]).map(|dim| dim as i64).collect())
    }
}

impl<T: Into<Axes>> From<T> for ReduceOptions {
    fn from(dim: T) -> Self {
        ReduceOptions::new().dim(dim)
    }
}

/// Samples of a reduction: over all dims, over two, over one that is kept.
fn reduce_samples(op: impl Fn(ReduceOptions) -> Box<dyn Op>, dtypes: &'static [DType]) -> Vec<Sample> {
    let options = [ReduceOptions::new(), [0, 2].into(), ReduceOptions::new().dim(-1).keepdim()];
    let sample = |options| Sample { op: op(options), inputs: vec![SampleInput::new([2, 3, 4], -2.0, 2.0)], dtypes };
    options.into_iter().map(sample).collect()
}
