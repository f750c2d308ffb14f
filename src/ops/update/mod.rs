//! Optimiser steps: new parameters and states from old ones and gradients.
//!
//! Knows which tensors belong together in a step. Must not know optimisers' loops or schedules.

rooms! {
    adam_step,
    clip_grad_norm,
    sgd_step,
}

pub(crate) use crate::check::not_negative;
use crate::ops::prelude::*;

/// Refuses tensors of one step that differ in shape, are no floats, or mix `f64` with narrower floats.
pub(crate) fn one_shape(op: &'static str, x: &[Meta]) -> Result<()> {
    let Some(first) = x.first() else {
        return Ok(());
    };
    for other in x {
        if other.shape != first.shape {
            return Err(Error::shape(
                op,
                format!("{} and {}", first.shape, other.shape),
                "equal shapes",
            ));
        }
        if !other.dtype.is_float() || (other.dtype == DType::F64) != (first.dtype == DType::F64) {
            return Err(Error::dtype(
                op,
                format!("{} and {}", first.dtype, other.dtype),
                "floats, all or none of them f64",
            ));
        }
    }
    Ok(())
}
