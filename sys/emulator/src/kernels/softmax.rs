//! Softmax and log-softmax along one axis, their gradients, and the masked form of transformer blocks.
//!
//! Knows the kernel interface; it must not know streams, handles or device memory.

use super::common::{Lanes, Real, broadcast_positions, expect_broadcast, same_dtype};
use crate::dtype::{Class, DType};
use crate::failure::{Fault, Refusal};
use crate::kernel::{Call, Prepare, Work};
use crate::tensor::Tensor;

/// This family's ops.
pub(crate) const KERNELS: &[(&str, Prepare)] = &[
    ("aclnnSoftmax", softmax as Prepare),
    ("aclnnLogSoftmax", log_softmax as Prepare),
    ("aclnnSoftmaxBackward", softmax_backward as Prepare),
    ("aclnnLogSoftmaxBackward", log_softmax_backward as Prepare),
    ("aclnnScaledMaskedSoftmax", masked as Prepare),
    (
        "aclnnScaledMaskedSoftmaxBackward",
        masked_backward as Prepare,
    ),
];

/// Replaces one lane by its softmax, or by the logarithm of it.
pub(crate) fn soften<T: Real>(lane: &mut [T], logarithm: bool) {
    let highest = lane.iter().fold(
        T::LOWEST,
        |highest, &value| {
            if value > highest { value } else { highest }
        },
    );
    let sum = lane
        .iter()
        .fold(T::ZERO, |sum, &value| sum + (value - highest).exp());
    let shift = sum.ln();
    for value in lane {
        *value = if logarithm {
            *value - highest - shift
        } else {
            (*value - highest).exp() / sum
        };
    }
}

/// Applies a function to each lane of a tensor's values in row-major order.
fn each_lane<T: Real>(values: &mut [T], lanes: Lanes, mut f: impl FnMut(usize, &mut [T])) {
    let mut lane = vec![T::ZERO; lanes.length];
    for start in lanes.starts() {
        for (index, value) in lane.iter_mut().enumerate() {
            *value = values[start + index * lanes.inner];
        }
        f(start, &mut lane);
        for (index, &value) in lane.iter().enumerate() {
            values[start + index * lanes.inner] = value;
        }
    }
}

fn softmax(call: &Call) -> Result<Work, Refusal> {
    forward(call, false)
}

fn log_softmax(call: &Call) -> Result<Work, Refusal> {
    forward(call, true)
}

fn forward(call: &Call, logarithm: bool) -> Result<Work, Refusal> {
    let (x, out) = (call.tensor(0)?, call.tensor(2)?);
    let lanes = Lanes::new(x.shape(), call.axis(call.int(1)?, x.rank())?);
    call.expect_shape("out", &out, x.shape())?;
    if out.is_empty() {
        return Ok(Work::nothing());
    }
    let double = x.dtype().class() == Class::Float64 || out.dtype().class() == Class::Float64;
    Ok(if double {
        Work::new(move || run_forward::<f64>(&x, &out, lanes, logarithm))
    } else {
        Work::new(move || run_forward::<f32>(&x, &out, lanes, logarithm))
    })
}

fn run_forward<T: Real>(
    x: &Tensor,
    out: &Tensor,
    lanes: Lanes,
    logarithm: bool,
) -> Result<(), Fault> {
    let mut values = x.load_vec::<T>();
    each_lane(&mut values, lanes, |_, lane| soften(lane, logarithm));
    out.store_slice(&values)
}

fn softmax_backward(call: &Call) -> Result<Work, Refusal> {
    backward(call, false)
}

fn log_softmax_backward(call: &Call) -> Result<Work, Refusal> {
    backward(call, true)
}

fn backward(call: &Call, logarithm: bool) -> Result<Work, Refusal> {
    let (grad, y, out) = (call.tensor(0)?, call.tensor(1)?, call.tensor(3)?);
    let lanes = Lanes::new(y.shape(), call.axis(call.int(2)?, y.rank())?);
    call.expect_shape("gradOutput", &grad, y.shape())?;
    call.expect_shape("out", &out, y.shape())?;
    if out.is_empty() {
        return Ok(Work::nothing());
    }
    let double = y.dtype().class() == Class::Float64;
    Ok(if double {
        Work::new(move || run_backward::<f64>(&grad, &y, &out, lanes, logarithm))
    } else {
        Work::new(move || run_backward::<f32>(&grad, &y, &out, lanes, logarithm))
    })
}

/// dx = y (dy − Σ dy y) for softmax, dx = dy − e^y Σ dy for its logarithm.
fn run_backward<T: Real>(
    grad: &Tensor,
    y: &Tensor,
    out: &Tensor,
    lanes: Lanes,
    logarithm: bool,
) -> Result<(), Fault> {
    let outputs = y.load_vec::<T>();
    let mut values = grad.load_vec::<T>();
    each_lane(&mut values, lanes, |start, lane| {
        let output = |index: usize| outputs[start + index * lanes.inner];
        let sum = lane.iter().enumerate().fold(T::ZERO, |sum, (index, &dy)| {
            sum + if logarithm { dy } else { dy * output(index) }
        });
        for (index, value) in lane.iter_mut().enumerate() {
            *value = if logarithm {
                *value - output(index).exp() * sum
            } else {
                output(index) * (*value - sum)
            };
        }
    });
    out.store_slice(&values)
}

/// What a masked-out score becomes before the softmax.
const MASKED: f32 = -10000.0;

/// The mask operand of the scaled masked softmax: true hides.
fn mask_of(call: &Call, mask: &Tensor, x: &Tensor) -> Result<(), Refusal> {
    if x.rank() != 4 {
        return Err(call.invalid(format!("x has shape {:?}, wanted 4 dims", x.shape())));
    }
    call.expect_dtype("mask", mask, &[DType::Bool])?;
    expect_broadcast(call, "mask", mask, x.shape())
}

/// `y = softmax(scale * x)` along the last axis, with masked scores replaced by −10000.
fn masked(call: &Call) -> Result<Work, Refusal> {
    let (x, mask, out) = (call.tensor(0)?, call.tensor(1)?, call.tensor(4)?);
    let scale = call.float(2)? as f32;
    triangle_only_off(call, 3)?;
    mask_of(call, &mask, &x)?;
    call.expect_shape("y", &out, x.shape())?;
    same_dtype(call, "y", &out, &x)?;
    if out.is_empty() {
        return Ok(Work::nothing());
    }
    let columns = x.shape().last().copied().unwrap_or(1);
    Ok(Work::new(move || {
        let hidden = mask.load_vec::<bool>();
        let positions = broadcast_positions(mask.shape(), x.shape());
        let mut values = x.load_vec::<f32>();
        for (value, position) in values.iter_mut().zip(positions) {
            *value = if hidden[position] {
                MASKED
            } else {
                *value * scale
            };
        }
        values
            .chunks_exact_mut(columns)
            .for_each(|row| soften(row, false));
        out.store_slice(&values)
    }))
}

fn triangle_only_off(call: &Call, index: usize) -> Result<(), Refusal> {
    if call.bool(index)? {
        return Err(call.invalid("a fixed triangular mask is not supported, wanted false"));
    }
    Ok(())
}

/// `out = scale * y (dy − Σ dy y)`, 0 where masked.
fn masked_backward(call: &Call) -> Result<Work, Refusal> {
    let (grad, y, mask, out) = (
        call.tensor(0)?,
        call.tensor(1)?,
        call.tensor(2)?,
        call.tensor(5)?,
    );
    let scale = call.float(3)? as f32;
    triangle_only_off(call, 4)?;
    mask_of(call, &mask, &y)?;
    call.expect_shape("gradOutput", &grad, y.shape())?;
    call.expect_shape("out", &out, y.shape())?;
    if out.is_empty() {
        return Ok(Work::nothing());
    }
    let columns = y.shape().last().copied().unwrap_or(1);
    Ok(Work::new(move || {
        let (hidden, outputs) = (mask.load_vec::<bool>(), y.load_vec::<f32>());
        let positions = broadcast_positions(mask.shape(), y.shape());
        let mut values = grad.load_vec::<f32>();
        for (row, lane) in values.chunks_exact_mut(columns).enumerate() {
            let start = row * columns;
            let y = &outputs[start..start + columns];
            let sum: f32 = lane.iter().zip(y).map(|(dy, y)| dy * y).sum();
            for (index, value) in lane.iter_mut().enumerate() {
                *value = if hidden[positions[start + index]] {
                    0.0
                } else {
                    scale * y[index] * (*value - sum)
                };
            }
        }
        out.store_slice(&values)
    }))
}

#[cfg(test)]
mod tests {
    use crate::kernel::Arg;
    use crate::kernels::testing::*;

    #[test]
    fn softmax_of_logarithms_is_their_share() {
        let x = floats(&[2, 2], &[0.0, 0.0, 3f32.ln(), 1f32.ln()]);
        let out = floats(&[2, 2], &[0.; 4]);
        run("aclnnSoftmax", &[arg(&x), Arg::Int(-1), arg(&out)]).expect("softmax");
        assert_close(&out, &[0.5, 0.5, 0.75, 0.25], 1e-6);
        run("aclnnSoftmax", &[arg(&x), Arg::Int(0), arg(&out)]).expect("softmax");
        assert_close(&out, &[0.25, 0.5, 0.75, 0.5], 1e-6);
        run("aclnnLogSoftmax", &[arg(&x), Arg::Int(1), arg(&out)]).expect("softmax");
        assert_close(
            &out,
            &[0.5f64.ln(), 0.5f64.ln(), 0.75f64.ln(), 0.25f64.ln()],
            1e-6,
        );
        let refused = run("aclnnSoftmax", &[arg(&x), Arg::Int(2), arg(&out)]);
        assert_eq!(refused.expect_err("there is no axis 2").code, 161002);
    }

    #[test]
    fn gradients_of_both_forms() {
        let (dy, y) = (floats(&[1, 2], &[1., 0.]), floats(&[1, 2], &[0.25, 0.75]));
        let out = floats(&[1, 2], &[0.; 2]);
        run(
            "aclnnSoftmaxBackward",
            &[arg(&dy), arg(&y), Arg::Int(1), arg(&out)],
        )
        .expect("gradient");
        assert_close(&out, &[0.1875, -0.1875], 1e-6);
        let y = floats(&[1, 2], &[0.25f32.ln(), 0.75f32.ln()]);
        run(
            "aclnnLogSoftmaxBackward",
            &[arg(&dy), arg(&y), Arg::Int(1), arg(&out)],
        )
        .expect("gradient");
        assert_close(&out, &[0.75, -0.75], 1e-6);
    }
}
