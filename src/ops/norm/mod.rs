//! Normalisations: softmax, layer, RMS, batch, group and instance norm, unit vectors.
//!
//! Knows the options that the family shares. Must not know any single op.

rooms! {
    log_softmax,
    softmax,
}

pub(crate) use softmax::{largest, total};

use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::op::{Meta, Plan};

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
fn plan_softmax(op: &'static str, options: &SoftmaxOptions, x: &[Meta], plan: &mut Plan) -> Result<()> {
    x[0].shape.axis_or_scalar(op, options.dim)?;
    let dtype = options.dtype.unwrap_or(x[0].dtype);
    if !dtype.is_float() {
        return Err(Error::dtype(op, dtype, "a float dtype"));
    }
    plan.cast(0, dtype);
    plan.output(x[0].shape, dtype);
    Ok(())
}
