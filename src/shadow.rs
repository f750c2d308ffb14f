//! Shadow mode: an op's device result compared with the host's.
//!
//! Knows how to run an op again on the host and find the worst element. Must not know what the op means.

use smallvec::SmallVec;

use crate::device::Device;
use crate::dispatch::{self, Inputs};
use crate::error::{Error, Mismatch, Result};
use crate::mode::{self, Modes};
use crate::op::{Op, Outputs, Tolerance};
use crate::tensor::Tensor;

/// Compares `outputs`, which a device made from `inputs`, with what the host makes from them.
pub(crate) fn compare(op: &dyn Op, inputs: &Inputs, outputs: &Outputs) -> Result<()> {
    mode::scoped(Modes::SHADOW, false, || {
        mode::no_grad(|| {
            let host: Inputs = inputs
                .iter()
                .map(|input| input.to_device(Device::Cpu))
                .collect::<Result<_>>()?;
            let host: SmallVec<[&Tensor; 4]> = host.iter().collect();
            let wanted = dispatch::run(op, &host)?;
            for (index, (got, want)) in outputs.iter().zip(&wanted).enumerate() {
                difference(op.name(), index, got, want)?;
            }
            Ok(())
        })
    })
}

fn difference(op: &'static str, output: usize, got: &Tensor, want: &Tensor) -> Result<()> {
    let device = got.device();
    let tolerance = Tolerance::of(want.dtype());
    let (got, want) = (got.to_f64_vec()?, want.to_f64_vec()?);
    let mut worst: Option<(f64, usize)> = None;
    let mut count = 0;
    for (position, (g, w)) in got.iter().zip(&want).enumerate() {
        let close = g == w
            || g.is_nan() && w.is_nan()
            || w.is_finite() && (g - w).abs() <= tolerance.atol + tolerance.rtol * w.abs();
        if !close {
            count += 1;
            let error = if (g - w).is_finite() {
                (g - w).abs()
            } else {
                f64::INFINITY
            };
            if worst.is_none_or(|(own, _)| error > own) {
                worst = Some((error, position));
            }
        }
    }
    let Some((_, position)) = worst else {
        return Ok(());
    };
    let at = |values: &[f64]| values.get(position).copied().unwrap_or(f64::NAN);
    let (got, want) = (at(&got), at(&want));
    Err(Error::Mismatch(Box::new(Mismatch {
        op,
        output,
        position,
        device,
        got,
        want,
        rtol: tolerance.rtol,
        atol: tolerance.atol,
        count,
    })))
}
