//! Activations: each function of one operand with its attributes. Their gradients are in `activation_backward`.
//!
//! Knows formulas, among them which approximation each op computes; it must not know strides or memory.

use super::element::{
    Operand, apply, combine, common, expect_castable, expect_common_shape, map, no_kernel, output,
};
use super::functions::{gelu, gelu_tanh, sigmoid, silu, softplus};
use crate::dtype::Class;
use crate::failure::Refusal;
use crate::kernel::{Call, Prepare, Work};
use crate::promote::to_float;
use crate::tensor::Tensor;
use ndarray::{Axis, Zip};

/// This family's ops.
pub(crate) const KERNELS: &[(&str, Prepare)] = &[
    ("aclnnRelu", relu as Prepare),
    ("aclnnInplaceRelu", relu),
    ("aclnnAddRelu", add_relu),
    ("aclnnInplaceAddRelu", add_relu),
    ("aclnnSquaredRelu", |call| {
        real(call, 1, |x| {
            x.max(0.0) * x + if x.is_nan() { x } else { 0.0 }
        })
    }),
    ("aclnnLeakyRelu", leaky_relu),
    ("aclnnInplaceLeakyRelu", leaky_relu),
    ("aclnnPrelu", prelu),
    ("aclnnElu", elu),
    ("aclnnInplaceElu", elu),
    ("aclnnSelu", selu),
    ("aclnnInplaceSelu", selu),
    ("aclnnCelu", celu),
    ("aclnnInplaceCelu", celu),
    ("aclnnGelu", |call| real(call, 1, gelu_tanh)),
    ("aclnnGeluV2", gelu_v2),
    ("aclnnFastGelu", |call| {
        real(call, 1, |x| x * sigmoid(1.702 * x))
    }),
    ("aclnnSilu", |call| real(call, 1, silu)),
    ("aclnnSwish", swish),
    ("aclnnMish", |call| real(call, 1, mish)),
    ("aclnnInplaceMish", |call| real(call, 1, mish)),
    ("aclnnSoftplus", softplus_scaled),
    ("aclnnHardsigmoid", |call| real(call, 1, hard_sigmoid)),
    ("aclnnInplaceHardsigmoid", |call| {
        real(call, 1, hard_sigmoid)
    }),
    ("aclnnHardswish", |call| real(call, 1, hard_swish)),
    ("aclnnInplaceHardswish", |call| real(call, 1, hard_swish)),
    ("aclnnLogSigmoid", |call| real(call, 1, |x| -softplus(-x))),
    ("aclnnLogSigmoidForward", log_sigmoid_forward),
    ("aclnnThreshold", threshold),
    ("aclnnInplaceThreshold", threshold),
    ("aclnnHardshrink", hard_shrink),
    ("aclnnSoftshrink", soft_shrink),
    ("aclnnShrink", shrink),
];

/// Scale and slope of the self-normalising unit.
pub(crate) const SELU: (f64, f64) = (1.050_700_987_355_480_5, 1.673_263_242_354_377_2);

/// A real function whose output is parameter `index`.
fn real(
    call: &Call,
    index: usize,
    f: impl Fn(f64) -> f64 + Send + 'static,
) -> Result<Work, Refusal> {
    let (x, out) = (call.tensor(0)?, output(call, index)?);
    let dtype = to_float(x.dtype());
    expect_castable(call, dtype, &out)?;
    call.expect_shape("out", &out, x.shape())?;
    if !dtype.is_float() {
        return Err(no_kernel(call, dtype));
    }
    Ok(map::<f64>(x, dtype, out, f))
}

fn rectified(x: f64) -> f64 {
    if x > 0.0 || x.is_nan() { x } else { 0.0 }
}

/// Integers are allowed.
fn relu(call: &Call) -> Result<Work, Refusal> {
    let x = call.tensor(0)?;
    if !x.dtype().is_integer() {
        return real(call, 1, rectified);
    }
    let out = output(call, 1)?;
    call.expect_shape("out", &out, x.shape())?;
    expect_castable(call, x.dtype(), &out)?;
    let dtype = x.dtype();
    Ok(map::<i64>(x, dtype, out, |x| x.max(0)))
}

/// `relu(self + alpha * other)`.
fn add_relu(call: &Call) -> Result<Work, Refusal> {
    let (x, y) = (Operand::of(call, 0)?, Operand::of(call, 1)?);
    let (alpha, out) = (call.scalar(2)?, output(call, 3)?);
    let dtype = common(call, &x, &y)?;
    expect_castable(call, dtype, &out)?;
    expect_common_shape(call, &[x.shape(), y.shape()], &out)?;
    Ok(match dtype.class() {
        Class::Float32 | Class::Float64 => {
            let alpha = alpha.rounded_to::<f64>(dtype);
            combine::<f64, f64>(x, y, dtype, out, dtype, move |a, b| {
                rectified(a + alpha * b)
            })
        }
        Class::Integer => {
            let alpha = alpha.i64();
            combine::<i64, i64>(x, y, dtype, out, dtype, move |a, b| {
                a.wrapping_add(alpha.wrapping_mul(b)).max(0)
            })
        }
        _ => return Err(no_kernel(call, dtype)),
    })
}

fn leaky_relu(call: &Call) -> Result<Work, Refusal> {
    let slope = call.scalar(1)?.f64();
    real(call, 2, move |x| if x > 0.0 { x } else { slope * x })
}

/// The weight's shape seen from the input: one value, or one per channel (dim 1).
pub(crate) fn prelu_weight_shape(
    call: &Call,
    x: &Tensor,
    weight: &Tensor,
) -> Result<Vec<usize>, Refusal> {
    call.expect_dtype("weight", weight, &[x.dtype()])?;
    let channels = if x.rank() < 2 { 1 } else { x.shape()[1] };
    let mut shape = vec![1usize; x.rank()];
    if weight.count() == 1 {
        return Ok(shape);
    }
    // Flat, or with dims of 1 around the channels, as PyTorch's client shapes it.
    let flat = weight.shape().iter().filter(|&&dim| dim != 1).count() <= 1;
    if weight.count() != channels || !flat {
        return Err(call.invalid(format!(
            "weight has shape {:?}, wanted [1] or [{channels}]",
            weight.shape()
        )));
    }
    if let Some(dim) = shape.get_mut(1) {
        *dim = channels;
    }
    Ok(shape)
}

fn prelu(call: &Call) -> Result<Work, Refusal> {
    let (x, weight, out) = (call.tensor(0)?, call.tensor(1)?, call.tensor(2)?);
    call.expect_shape("out", &out, x.shape())?;
    let shape = prelu_weight_shape(call, &x, &weight)?;
    if x.is_empty() {
        return Ok(Work::nothing());
    }
    Ok(Work::new(move || {
        let weights = ndarray::ArrayD::from_shape_vec(shape.clone(), weight.load_vec::<f64>())
            .map_err(|error| crate::failure::Fault::exception(error.to_string()))?;
        let weights = ndarray::CowArray::from(weights);
        let weights = super::element::spread(&weights, x.shape())?;
        let values = Zip::from(&x.read::<f64>())
            .and(&weights)
            .map_collect(|&x, &w| if x > 0.0 { x } else { w * x });
        out.store(&values)
    }))
}

/// `scale * x` above 0, else `alpha * scale * (e^(inputScale x) - 1)`.
fn elu(call: &Call) -> Result<Work, Refusal> {
    let [alpha, scale, input_scale] = [1, 2, 3].map(|index| call.scalar(index));
    let (alpha, scale, input_scale) = (alpha?.f64(), scale?.f64(), input_scale?.f64());
    real(call, 4, move |x| exponential(x, alpha, scale, input_scale))
}

fn exponential(x: f64, alpha: f64, scale: f64, input_scale: f64) -> f64 {
    if x > 0.0 {
        scale * x
    } else {
        alpha * scale * (input_scale * x).exp_m1()
    }
}

fn selu(call: &Call) -> Result<Work, Refusal> {
    real(call, 1, |x| exponential(x, SELU.1, SELU.0, 1.0))
}

fn celu(call: &Call) -> Result<Work, Refusal> {
    let alpha = call.scalar(1)?.f64();
    if alpha == 0.0 {
        return Err(call.invalid("alpha is 0"));
    }
    real(call, 2, move |x| exponential(x, alpha, 1.0, 1.0 / alpha))
}

/// 0 is the exact function, 1 the tanh approximation.
fn gelu_v2(call: &Call) -> Result<Work, Refusal> {
    match call.int(1)? {
        0 => real(call, 2, gelu),
        1 => real(call, 2, gelu_tanh),
        other => Err(call.invalid(format!("approximate is {other}, wanted 0 or 1"))),
    }
}

/// A null beta is 1.
fn swish(call: &Call) -> Result<Work, Refusal> {
    let beta = call.optional_scalar(1).map_or(1.0, |beta| beta.f64());
    real(call, 2, move |x| x * sigmoid(beta * x))
}

fn mish(x: f64) -> f64 {
    x * softplus(x).tanh()
}

/// `ln(1 + e^(beta x)) / beta`, and x itself above the threshold.
fn softplus_scaled(call: &Call) -> Result<Work, Refusal> {
    let (beta, threshold) = (call.scalar(1)?.f64(), call.scalar(2)?.f64());
    if beta == 0.0 {
        return Err(call.invalid("beta is 0"));
    }
    real(call, 3, move |x| {
        if beta * x > threshold {
            x
        } else {
            softplus(beta * x) / beta
        }
    })
}

fn clipped(x: f64, low: f64, high: f64) -> f64 {
    if x < low {
        low
    } else if x > high {
        high
    } else {
        x
    }
}

fn hard_sigmoid(x: f64) -> f64 {
    clipped(x + 3.0, 0.0, 6.0) / 6.0
}

fn hard_swish(x: f64) -> f64 {
    x * clipped(x + 3.0, 0.0, 6.0) / 6.0
}

/// The buffer takes e^-|x|, which this form of the gradient does not need; a buffer of another size stays untouched.
fn log_sigmoid_forward(call: &Call) -> Result<Work, Refusal> {
    let (x, out, buffer) = (call.tensor(0)?, call.tensor(1)?, call.tensor(2)?);
    call.expect_shape("out", &out, x.shape())?;
    call.expect_dtype("out", &out, &[x.dtype()])?;
    Ok(Work::new(move || {
        let dtype = x.dtype();
        apply::<f64, f64>(&x, dtype, &out, dtype, &|x| -softplus(-x))?;
        if buffer.shape() == x.shape() {
            apply::<f64, f64>(&x, dtype, &buffer, dtype, &|x| (-x.abs()).exp())?;
        }
        Ok(())
    }))
}

/// `value` where x is not above the threshold; integers are allowed, NaN stays.
fn threshold(call: &Call) -> Result<Work, Refusal> {
    let (limit, value) = (call.scalar(1)?, call.scalar(2)?);
    let x = call.tensor(0)?;
    if x.dtype().is_integer() {
        let (limit, value, out) = (limit.i64(), value.i64(), output(call, 3)?);
        call.expect_shape("out", &out, x.shape())?;
        expect_castable(call, x.dtype(), &out)?;
        let dtype = x.dtype();
        return Ok(map::<i64>(x, dtype, out, move |x| {
            if x <= limit { value } else { x }
        }));
    }
    let (limit, value) = (
        limit.rounded_to::<f64>(x.dtype()),
        value.rounded_to::<f64>(x.dtype()),
    );
    real(call, 3, move |x| if x <= limit { value } else { x })
}

fn hard_shrink(call: &Call) -> Result<Work, Refusal> {
    let limit = call.scalar(1)?.f64();
    real(
        call,
        2,
        move |x| {
            if x >= -limit && x <= limit { 0.0 } else { x }
        },
    )
}

fn soft_shrink(call: &Call) -> Result<Work, Refusal> {
    let limit = call.scalar(1)?.f64();
    if limit < 0.0 {
        return Err(call.invalid(format!("lambd is {limit}, wanted at least 0")));
    }
    real(call, 2, move |x| shrunk(x, limit, limit))
}

fn shrink(call: &Call) -> Result<Work, Refusal> {
    let (limit, bias) = (call.scalar(1)?.f64(), call.scalar(2)?.f64());
    real(call, 3, move |x| shrunk(x, limit, bias))
}

fn shrunk(x: f64, limit: f64, bias: f64) -> f64 {
    if x > limit {
        x - bias
    } else if x < -limit {
        x + bias
    } else {
        x * 0.0
    }
}

/// The axis of a shape with an even, cut-in-two dim.
pub(crate) fn halves(call: &Call, x: &Tensor, dim: i64) -> Result<Axis, Refusal> {
    let axis = call.axis(dim, x.rank())?;
    match x.shape().get(axis) {
        Some(length) if length % 2 == 0 => Ok(Axis(axis)),
        _ => Err(call.invalid(format!(
            "dim {dim} of shape {:?} does not split in two halves",
            x.shape()
        ))),
    }
}
