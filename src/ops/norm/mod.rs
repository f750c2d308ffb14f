//! Normalisations: softmax, layer, RMS, batch, group and instance norm, unit vectors.
//!
//! Knows the options that the family shares. Must not know any single op.

rooms! {
    batch_norm,
    cosine_similarity,
    group_norm,
    instance_norm,
    layer_norm,
    log_softmax,
    normalize,
    rms_norm,
    softmax,
}

mod line;
mod line_kernel;

use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::op::{Meta, Plan, SampleInput};
use crate::shape::Shape;
use crate::tensor::Tensor;

/// The dim of a softmax, and the dtype to compute in. Made from the dim alone, or built up.
#[derive(Debug, Clone, Copy)]
#[must_use]
pub struct SoftmaxOptions {
    dim: i64,
    dtype: Option<DType>,
}

impl SoftmaxOptions {
    /// Along this dim, in the input's dtype.
    pub fn new(dim: i64) -> Self {
        SoftmaxOptions { dim, dtype: None }
    }

    /// Casts the input to this float dtype first.
    pub fn dtype(mut self, dtype: DType) -> Self {
        self.dtype = Some(dtype);
        self
    }
}

impl From<i64> for SoftmaxOptions {
    fn from(dim: i64) -> Self {
        SoftmaxOptions::new(dim)
    }
}

/// The plan of a softmax: the dim is checked, the input cast to a float dtype.
fn plan_softmax(
    op: &'static str,
    options: &SoftmaxOptions,
    x: &[Meta],
    plan: &mut Plan,
) -> Result<()> {
    x[0].shape.axis_or_scalar(op, options.dim)?;
    let dtype = options.dtype.unwrap_or(x[0].dtype);
    if !dtype.is_float() {
        return Err(Error::dtype(op, dtype, "a float dtype"));
    }
    plan.cast(0, dtype);
    plan.output(x[0].shape, dtype);
    Ok(())
}

/// Weight, bias and epsilon of [`Tensor::group_norm`] and [`Tensor::instance_norm`]. Made from `()` or built up.
#[derive(Debug, Clone, Copy)]
#[must_use]
pub struct AffineOptions<'a> {
    weight: Option<&'a Tensor>,
    bias: Option<&'a Tensor>,
    epsilon: f64,
}

impl Default for AffineOptions<'_> {
    fn default() -> Self {
        AffineOptions {
            weight: None,
            bias: None,
            epsilon: 1e-5,
        }
    }
}

impl From<()> for AffineOptions<'_> {
    fn from((): ()) -> Self {
        AffineOptions::default()
    }
}

impl<'a> AffineOptions<'a> {
    /// No weight, no bias, epsilon 1e-5.
    pub fn new() -> Self {
        AffineOptions::default()
    }

    /// The factor of each channel.
    pub fn weight(mut self, weight: &'a Tensor) -> Self {
        self.weight = Some(weight);
        self
    }

    /// The term of each channel.
    pub fn bias(mut self, bias: &'a Tensor) -> Self {
        self.bias = Some(bias);
        self
    }

    /// What is added to the variance.
    pub fn epsilon(mut self, epsilon: f64) -> Self {
        self.epsilon = epsilon;
        self
    }

    /// The op's inputs: the tensor, then weight and bias if they are given.
    fn inputs(&self, x: &'a Tensor) -> smallvec::SmallVec<[&'a Tensor; 3]> {
        [Some(x), self.weight, self.bias]
            .into_iter()
            .flatten()
            .collect()
    }
}

/// Refuses integers and bools.
pub(crate) fn float_only(op: &'static str, dtype: DType) -> Result<()> {
    if dtype.is_float() {
        Ok(())
    } else {
        Err(Error::dtype(op, dtype, "a float dtype"))
    }
}

/// Weights and biases have the input's dtype, or f32 beside halves.
fn affine_dtype(op: &'static str, input: DType, own: DType) -> Result<()> {
    if own == input || input.is_half() && own == DType::F32 {
        return Ok(());
    }
    Err(Error::dtype(
        op,
        format!("{own} beside an input of {input}"),
        "the input's dtype, or f32 beside halves",
    ))
}

/// Plans an output like the input; weight and bias have one value per channel (dim 1).
fn plan_affine(op: &'static str, x: &[Meta], plan: &mut Plan) -> Result<()> {
    let count = x[0].shape.size(1);
    for own in x.iter().skip(1) {
        affine_dtype(op, x[0].dtype, own.dtype)?;
        if own.shape != Shape::from([count]) {
            return Err(Error::shape(
                op,
                format!("a weight or bias of {}", own.shape),
                format!("one value for each of {count} channels"),
            ));
        }
    }
    plan.output(x[0].shape, x[0].dtype);
    Ok(())
}

/// A value per channel as a tensor that broadcasts over `[n, c, ..]`.
fn channels(x: &Tensor, shape: &Shape) -> Result<Tensor> {
    let sizes: Shape = (0..shape.rank())
        .map(|dim| if dim == 1 { shape.size(1) } else { 1 })
        .collect();
    x.reshape(sizes)
}

/// `unit * weight + bias` per channel; weight and bias follow the first input.
fn affine(unit: &Tensor, x: &[Tensor], weight: bool, bias: bool) -> Result<Tensor> {
    let mut y = unit.clone();
    if let (true, Some(weight)) = (weight, x.get(1)) {
        y = y.mul(&channels(weight, unit.shape())?)?;
    }
    if let (true, Some(bias)) = (bias, x.get(1 + usize::from(weight))) {
        y = y.add(&channels(bias, unit.shape())?)?;
    }
    Ok(y)
}

/// Sample inputs: a tensor, then weight and bias per channel.
fn affine_samples(shape: &[usize], weight: bool, bias: bool) -> Vec<SampleInput> {
    let channels = shape.get(1).copied().unwrap_or(1);
    let mut inputs = vec![SampleInput::new(shape, -2.0, 2.0)];
    inputs.resize(
        1 + usize::from(weight) + usize::from(bias),
        SampleInput::new([channels], 0.5, 2.0),
    );
    inputs
}
