//! Gated units: one half of a dim, through an activation, times the other half; and their gradients.
//!
//! Knows which half is activated in each op; it must not know memory.

use super::activation::halves;
use super::functions::{gelu, gelu_slope, gelu_tanh, gelu_tanh_slope, sigmoid, silu, silu_slope};
use crate::failure::{Fault, Refusal};
use crate::kernel::{Call, Prepare, Work};
use crate::tensor::Tensor;
use ndarray::{ArrayD, Axis, Zip};

/// This family's ops.
pub(crate) const KERNELS: &[(&str, Prepare)] = &[
    ("aclnnGlu", |call| forward(call, GLU)),
    ("aclnnSwiGlu", |call| forward(call, SWIGLU)),
    ("aclnnGluBackward", |call| gradient(call, GLU)),
    ("aclnnSwiGluGrad", swiglu_gradient),
    ("aclnnGeGlu", geglu),
    ("aclnnGeGluV3", geglu),
    ("aclnnGeGluBackward", geglu_gradient),
    ("aclnnGeGluV3Backward", geglu_gradient),
    ("aclnnGeluMul", gelu_mul),
    ("aclnnFatreluMul", fatrelu_mul),
    ("aclnnClippedSwiglu", clipped),
];

/// An activation, its derivative, and whether it acts on the first half.
#[derive(Clone, Copy)]
struct Gate {
    activation: fn(f64) -> f64,
    slope: fn(f64) -> f64,
    first: bool,
}

const GLU: Gate = Gate {
    activation: sigmoid,
    slope: |x| sigmoid(x) * (1.0 - sigmoid(x)),
    first: false,
};

const SWIGLU: Gate = Gate {
    activation: silu,
    slope: silu_slope,
    first: true,
};

/// The gate of the GELU family: 0 is the exact function, 1 the tanh approximation.
fn gelu_gate(call: &Call, approximate: i64, first: bool) -> Result<Gate, Refusal> {
    match approximate {
        0 => Ok(Gate {
            activation: gelu,
            slope: gelu_slope,
            first,
        }),
        1 => Ok(Gate {
            activation: gelu_tanh,
            slope: gelu_tanh_slope,
            first,
        }),
        other => Err(call.invalid(format!("approximate is {other}, wanted 0 or 1"))),
    }
}

fn half_shape(x: &Tensor, axis: Axis) -> Vec<usize> {
    let mut shape = x.shape().to_vec();
    if let Some(dim) = shape.get_mut(axis.0) {
        *dim /= 2;
    }
    shape
}

/// `f(activated half, other half)`.
fn halved(x: &Tensor, axis: Axis, first: bool, f: impl Fn(f64, f64) -> f64) -> ArrayD<f64> {
    let values = x.read::<f64>();
    let (a, b) = values.view().split_at(axis, values.len_of(axis) / 2);
    let (gate, other) = if first { (a, b) } else { (b, a) };
    Zip::from(&gate).and(&other).map_collect(|&g, &o| f(g, o))
}

fn forward(call: &Call, gate: Gate) -> Result<Work, Refusal> {
    let (x, out) = (call.tensor(0)?, call.tensor(2)?);
    let axis = halves(call, &x, call.int(1)?)?;
    call.expect_dtype("out", &out, &[x.dtype()])?;
    call.expect_shape("out", &out, &half_shape(&x, axis))?;
    Ok(Work::new(move || {
        out.store(&halved(&x, axis, gate.first, |g, o| {
            (gate.activation)(g) * o
        }))
    }))
}

/// Empty tensors are refused.
fn swiglu_gradient(call: &Call) -> Result<Work, Refusal> {
    if call.tensor(1)?.is_empty() {
        return Err(call.invalid("x is empty"));
    }
    gradient(call, SWIGLU)
}

fn gradient(call: &Call, gate: Gate) -> Result<Work, Refusal> {
    let (dy, x, out) = (call.tensor(0)?, call.tensor(1)?, call.tensor(3)?);
    let axis = halves(call, &x, call.int(2)?)?;
    both_halves(call, dy, x, out, axis, gate)
}

fn both_halves(
    call: &Call,
    dy: Tensor,
    x: Tensor,
    out: Tensor,
    axis: Axis,
    gate: Gate,
) -> Result<Work, Refusal> {
    call.expect_dtype("gradOutput", &dy, &[x.dtype()])?;
    call.expect_shape("gradOutput", &dy, &half_shape(&x, axis))?;
    call.expect_shape("out", &out, x.shape())?;
    Ok(Work::new(move || store_gradient(&dy, &x, &out, axis, gate)))
}

fn store_gradient(
    dy: &Tensor,
    x: &Tensor,
    out: &Tensor,
    axis: Axis,
    gate: Gate,
) -> Result<(), Fault> {
    let (dys, values) = (dy.read::<f64>(), x.read::<f64>());
    let half = values.len_of(axis) / 2;
    let (a, b) = values.view().split_at(axis, half);
    let (g, other) = if gate.first { (a, b) } else { (b, a) };
    let mut result = ArrayD::<f64>::zeros(values.raw_dim());
    let (low, high) = result.view_mut().split_at(axis, half);
    let (dg, dother) = if gate.first { (low, high) } else { (high, low) };
    Zip::from(dg)
        .and(&dys)
        .and(&g)
        .and(&other)
        .for_each(|slot, &dy, &g, &other| *slot = dy * other * (gate.slope)(g));
    Zip::from(dother)
        .and(&dys)
        .and(&g)
        .for_each(|slot, &dy, &g| *slot = dy * (gate.activation)(g));
    out.store(&result)
}

/// `other half * gelu(gate half)`, with the activated half as a second output. The gate is the second half unless
/// the third version's flag says otherwise.
fn geglu(call: &Call) -> Result<Work, Refusal> {
    let x = call.tensor(0)?;
    let flagged = call.name() == "aclnnGeGluV3";
    let gate = gelu_gate(call, call.int(2)?, flagged && call.bool(3)?)?;
    let next = if flagged { 4 } else { 3 };
    let (out, activated) = (call.tensor(next)?, call.tensor(next + 1)?);
    let axis = halves(call, &x, call.int(1)?)?;
    let shape = half_shape(&x, axis);
    call.expect_shape("out", &out, &shape)?;
    call.expect_shape("outGelu", &activated, &shape)?;
    Ok(Work::new(move || {
        out.store(&halved(&x, axis, gate.first, |g, o| {
            (gate.activation)(g) * o
        }))?;
        activated.store(&halved(&x, axis, gate.first, |g, _| (gate.activation)(g)))
    }))
}

/// The saved activation is not needed: it is computed again from the input.
fn geglu_gradient(call: &Call) -> Result<Work, Refusal> {
    let (dy, x) = (call.tensor(0)?, call.tensor(1)?);
    let flagged = call.name() == "aclnnGeGluV3Backward";
    let gate = gelu_gate(call, call.int(4)?, flagged && call.bool(5)?)?;
    let out = call.tensor(if flagged { 6 } else { 5 })?;
    let axis = halves(call, &x, call.int(3)?)?;
    both_halves(call, dy, x, out, axis, gate)
}

/// gelu of the first half of the last dim times the second half; a null text means the exact function.
fn gelu_mul(call: &Call) -> Result<Work, Refusal> {
    let (x, out) = (call.tensor(0)?, call.tensor(2)?);
    let approximate = match call.text(1).unwrap_or("none") {
        "none" => 0,
        "tanh" => 1,
        other => {
            return Err(call.invalid(format!("approximate is {other:?}, wanted none or tanh")));
        }
    };
    let gate = gelu_gate(call, approximate, true)?;
    let axis = halves(call, &x, -1)?;
    call.expect_shape("out", &out, &half_shape(&x, axis))?;
    Ok(Work::new(move || {
        out.store(&halved(&x, axis, gate.first, |g, o| {
            (gate.activation)(g) * o
        }))
    }))
}
/// The first half where it is at least the threshold, else 0, times the second half.
fn fatrelu_mul(call: &Call) -> Result<Work, Refusal> {
    let (x, threshold, out) = (call.tensor(0)?, call.tensor(1)?, call.tensor(2)?);
    if threshold.count() != 1 {
        return Err(call.invalid(format!(
            "threshold has shape {:?}, wanted one element",
            threshold.shape()
        )));
    }
    let axis = Axis(x.rank().saturating_sub(1));
    call.expect_shape("out", &out, &half_shape(&x, axis))?;
    let width = x.shape().last().copied().unwrap_or(0);
    if width == 0 || !width.is_multiple_of(2) {
        return Err(call.invalid(format!("shape {:?} has no halves", x.shape())));
    }
    Ok(Work::new(move || {
        let values = x.load_vec::<f32>();
        let threshold = threshold.load_one::<f32>();
        let mut result = Vec::with_capacity(out.count());
        for line in values.chunks(width) {
            let (gate, other) = line.split_at(width / 2);
            let pairs = gate.iter().zip(other);
            result.extend(pairs.map(|(&a, &b)| if a < threshold { 0.0 } else { a } * b));
        }
        out.store_slice(&result)
    }))
}

/// `a σ(alpha a) (b + bias)` with `a` at most the limit and `b` within it; the halves, or the even and odd columns, of the
/// dims from `dim` on. Rows beyond the sum of the groups are left as they are.
fn clipped(call: &Call) -> Result<Work, Refusal> {
    let (x, groups, out) = (call.tensor(0)?, call.optional_tensor(1), call.tensor(7)?);
    let axis = call.axis(call.int(2)?, x.rank())?;
    let (alpha, limit, bias) = (call.float(3)?, call.float(4)?, call.float(5)?);
    if limit < 0.0 || limit.is_nan() {
        return Err(call.invalid(format!("limit is {limit}, wanted at least 0")));
    }
    let interleaved = call.bool(6)?;
    call.expect_shape("out", &out, &half_shape(&x, halves(call, &x, axis as i64)?))?;
    let width: usize = x.shape().iter().skip(axis).product();
    if x.is_empty() {
        return Ok(Work::nothing());
    }
    Ok(Work::new(move || {
        let (values, mut result) = (x.load_vec::<f64>(), out.load_vec::<f64>());
        let rows = groups.as_ref().map_or(usize::MAX, |groups| {
            usize::try_from(groups.load_vec::<i64>().iter().sum::<i64>()).unwrap_or(0)
        });
        let half = width / 2;
        let lines = values
            .chunks_exact(width)
            .zip(result.chunks_exact_mut(half));
        for (line, target) in lines.take(rows) {
            for (at, slot) in target.iter_mut().enumerate() {
                let (a, b) = match interleaved {
                    true => (line[2 * at], line[2 * at + 1]),
                    false => (line[at], line[half + at]),
                };
                let (a, b) = (a.min(limit), b.clamp(-limit, limit));
                *slot = a * sigmoid(alpha * a) * (b + bias);
            }
        }
        out.store_slice(&result)
    }))
}
