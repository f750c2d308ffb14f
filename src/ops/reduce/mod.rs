//! Reductions and scans: many elements to one along dims.
//!
//! Knows the options, the shape rules and the plumbing of gradients that the family shares. Must not know any single op.

rooms! {
    all,
    amax,
    amin,
    any,
    argmax,
    argmin,
    count_nonzero,
    cummax,
    cummin,
    cumprod,
    cumsum,
    diff,
    kthvalue,
    logsumexp,
    max_dim,
    mean,
    median_dim,
    min_dim,
    nansum,
    norm,
    prod,
    std,
    sum,
    var,
    var_mean,
}

mod extreme;
mod spread;
mod truth;

pub(crate) use spread::widened;

use crate::cpu::reduce::reduced_shape;
use crate::dispatch::run;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::op::{Op, Sample, SampleInput};
use crate::shape::{Axes, MAX_RANK, Shape};
use crate::tensor::Tensor;

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
        Ok((0..shape.rank())
            .filter(|dim| mask[*dim])
            .map(|dim| dim as i64)
            .collect())
    }

    /// The shape of the result.
    pub(crate) fn result(&self, op: &'static str, shape: &Shape) -> Result<Shape> {
        Ok(reduced_shape(shape, &self.mask(op, shape)?, self.keep))
    }

    /// The shape of the result with the reduced dims kept: how it broadcasts against the input.
    pub(crate) fn kept(&self, op: &'static str, shape: &Shape) -> Result<Shape> {
        Ok(reduced_shape(shape, &self.mask(op, shape)?, true))
    }

    /// How many elements become one.
    pub(crate) fn count(&self, op: &'static str, shape: &Shape) -> Result<usize> {
        let mask = self.mask(op, shape)?;
        Ok(shape
            .dims()
            .iter()
            .zip(mask)
            .filter(|(_, reduced)| *reduced)
            .map(|(size, _)| *size)
            .product())
    }

    /// Refuses to reduce nothing to one value: an index error where dims are given, else a value error.
    pub(crate) fn demand_elements(&self, op: &'static str, shape: &Shape) -> Result<()> {
        let mask = self.mask(op, shape)?;
        let empty = shape
            .dims()
            .iter()
            .zip(mask)
            .any(|(size, reduced)| reduced && *size == 0);
        match (empty, self.dim.as_slice().is_empty()) {
            (false, _) => Ok(()),
            (true, false) => Err(Error::Index {
                op,
                index: 0,
                len: 0,
            }),
            (true, true) => Err(Error::option(
                op,
                "input",
                format!("got {shape}, wanted at least one element"),
            )),
        }
    }

    /// The same dims, kept.
    pub(crate) fn keeping(&self) -> Self {
        ReduceOptions {
            dim: self.dim.clone(),
            keep: true,
            dtype: None,
        }
    }
}

impl<T: Into<Axes>> From<T> for ReduceOptions {
    fn from(dim: T) -> Self {
        ReduceOptions::new().dim(dim)
    }
}

/// The one dim that an op picks from, and whether it stays with size 1. Made from the dim alone, or built up.
#[derive(Debug, Clone, Copy)]
#[must_use]
pub struct LineOptions {
    pub(crate) dim: i64,
    pub(crate) keep: bool,
}

impl LineOptions {
    /// Along this dim, which goes.
    pub fn new(dim: i64) -> Self {
        LineOptions { dim, keep: false }
    }

    /// Keeps the dim with size 1.
    pub fn keepdim(mut self) -> Self {
        self.keep = true;
        self
    }

    /// The dim's index and the shape of the result; a dim of size 0 has no element to pick.
    pub(crate) fn plan(&self, op: &'static str, shape: &Shape) -> Result<(usize, Shape)> {
        let dim = shape.axis_or_scalar(op, self.dim)?;
        if shape.size(dim) == 0 {
            return Err(Error::Index {
                op,
                index: 0,
                len: 0,
            });
        }
        Ok((
            dim,
            reduced_shape(shape, &crate::cpu::rows::one(dim), self.keep),
        ))
    }
}

impl From<i64> for LineOptions {
    fn from(dim: i64) -> Self {
        LineOptions::new(dim)
    }
}

/// Runs an op with two outputs.
pub(crate) fn run_two(op: &dyn Op, inputs: &[&Tensor]) -> Result<(Tensor, Tensor)> {
    let mut outputs = run(op, inputs)?.into_iter();
    match (outputs.next(), outputs.next()) {
        (Some(first), Some(second)) => Ok((first, second)),
        _ => Err(Error::NoGradient { op: op.name() }),
    }
}

/// The gradient of values picked along a dim by as many indices as the dim is long.
fn picked_along(shape: &Shape, dim: i64, dy: &Tensor, indices: &Tensor) -> Result<Tensor> {
    Tensor::zeros(*shape, dy.dtype(), dy.device())?.scatter_add(dim, indices, dy)
}

/// The gradient of values picked along a dim by these indices: each goes back to where it was picked.
fn picked(shape: &Shape, options: &LineOptions, dy: &Tensor, indices: &Tensor) -> Result<Tensor> {
    let dim = shape.axis_or_scalar("gather", options.dim)?;
    let kept = if shape.rank() == 0 {
        Shape::SCALAR
    } else {
        shape.with(dim, 1)
    };
    picked_along(
        shape,
        options.dim,
        &dy.reshape(kept)?,
        &indices.reshape(kept)?,
    )
}

/// Samples of a reduction: over all dims, over two, over one that is kept.
fn reduce_samples(
    op: impl Fn(ReduceOptions) -> Box<dyn Op>,
    dtypes: &'static [DType],
) -> Vec<Sample> {
    let options = [
        ReduceOptions::new(),
        [0, 2].into(),
        ReduceOptions::new().dim(-1).keepdim(),
    ];
    let sample = |options| Sample {
        op: op(options),
        inputs: vec![SampleInput::new([2, 3, 4], -2.0, 2.0)],
        dtypes,
    };
    options.into_iter().map(sample).collect()
}

/// Samples of an op along one dim.
fn line_samples(op: impl Fn(i64) -> Box<dyn Op>, dtypes: &'static [DType]) -> Vec<Sample> {
    let sample = |dim| Sample {
        op: op(dim),
        inputs: vec![SampleInput::new([2, 3, 4], -2.0, 2.0)],
        dtypes,
    };
    [-1, 0].into_iter().map(sample).collect()
}
