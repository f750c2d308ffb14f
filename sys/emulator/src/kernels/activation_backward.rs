//! Gradients of activations: each takes the output's gradient and the forward's input or output, as its op documents.
//!
//! Knows derivatives; it must not know strides or memory.

use super::activation::{SELU, prelu_weight_shape};
use super::element::{Operand, combine, expect_castable, no_kernel, spread};
use super::functions::{gelu_slope, gelu_tanh_slope, sigmoid, silu_slope, softplus};
use crate::dtype::Class;
use crate::failure::{Fault, Refusal};
use crate::kernel::{Call, Prepare, Work};
use crate::promote::promote;
use ndarray::{ArrayD, CowArray, Zip};

/// This family's ops.
pub(crate) const KERNELS: &[(&str, Prepare)] = &[
    ("aclnnThresholdBackward", threshold as Prepare),
    ("aclnnLeakyReluBackward", leaky_relu),
    ("aclnnPreluBackward", prelu),
    ("aclnnEluBackward", elu),
    ("aclnnSeluBackward", |call| {
        product(call, |y| if y > 0.0 { SELU.0 } else { y + SELU.0 * SELU.1 })
    }),
    ("aclnnGeluBackward", |call| product(call, gelu_tanh_slope)),
    ("aclnnGeluBackwardV2", gelu_v2),
    ("aclnnFastGeluBackward", |call| {
        product(call, |x| {
            let s = sigmoid(1.702 * x);
            s + 1.702 * x * s * (1.0 - s)
        })
    }),
    ("aclnnSiluBackward", |call| product(call, silu_slope)),
    ("aclnnSwishBackward", swish),
    ("aclnnMishBackward", |call| product(call, mish_slope)),
    ("aclnnSoftplusBackward", softplus_scaled),
    ("aclnnSigmoidBackward", |call| {
        product(call, |y| y * (1.0 - y))
    }),
    ("aclnnTanhBackward", |call| product(call, |y| 1.0 - y * y)),
    ("aclnnLogSigmoidBackward", |call| {
        product(call, |x| sigmoid(-x))
    }),
    ("aclnnHardsigmoidBackward", |call| {
        gated(call, |x| if x > -3.0 && x < 3.0 { 1.0 / 6.0 } else { 0.0 })
    }),
    ("aclnnHardswishBackward", |call| {
        gated(call, |x| hard_swish_slope(x, true))
    }),
    ("aclnnHardswishBackwardV2", |call| {
        gated(call, |x| hard_swish_slope(x, false))
    }),
    ("aclnnHardtanhBackward", hardtanh),
    ("aclnnHardshrinkBackward", shrink),
    ("aclnnSoftshrinkBackward", shrink),
    ("aclnnLogitGrad", logit),
];

/// `gradient * slope(x)` with the gradient at 0, x at 1 and the output last.
fn product(call: &Call, slope: impl Fn(f64) -> f64 + Send + 'static) -> Result<Work, Refusal> {
    backward(call, 0, 1, move |dy, x| dy * slope(x))
}

/// As [`product`], with a 0 wherever the slope is 0, whatever the gradient is.
fn gated(call: &Call, slope: impl Fn(f64) -> f64 + Send + 'static) -> Result<Work, Refusal> {
    backward(call, 0, 1, move |dy, x| match slope(x) {
        0.0 => 0.0,
        slope => dy * slope,
    })
}

/// `f(gradient, x)`, all of one shape; the output is the last parameter.
fn backward(
    call: &Call,
    gradient: usize,
    input: usize,
    f: impl Fn(f64, f64) -> f64 + Send + 'static,
) -> Result<Work, Refusal> {
    let (dy, x) = (call.tensor(gradient)?, call.tensor(input)?);
    let out = call.tensor(call.count() - 1)?;
    let dtype = promote(dy.dtype(), x.dtype())
        .ok_or_else(|| call.invalid(format!("{} and {} do not promote", dy.dtype(), x.dtype())))?;
    expect_castable(call, dtype, &out)?;
    let shape = call.broadcast(&[dy.shape(), x.shape()])?;
    call.expect_shape("gradInput", &out, &shape)?;
    if !dtype.is_float() {
        return Err(no_kernel(call, dtype));
    }
    let (dy, x) = (Operand::Tensor(dy), Operand::Tensor(x));
    Ok(combine::<f64, f64>(dy, x, dtype, out, dtype, f))
}

/// The gradient passes where x is above the threshold, and where it is NaN. Integers are allowed.
fn threshold(call: &Call) -> Result<Work, Refusal> {
    let (dy, x) = (Operand::of(call, 0)?, Operand::of(call, 1)?);
    let (limit, out) = (call.scalar(2)?, call.tensor(3)?);
    let dtype = super::element::common(call, &dy, &x)?;
    expect_castable(call, dtype, &out)?;
    super::element::expect_common_shape(call, &[dy.shape(), x.shape()], &out)?;
    Ok(match dtype.class() {
        Class::Float32 => {
            let limit = limit.rounded_to::<f32>(dtype);
            combine::<f32, f32>(
                dy,
                x,
                dtype,
                out,
                dtype,
                move |dy, x| {
                    if x <= limit { 0.0 } else { dy }
                },
            )
        }
        Class::Float64 => {
            let limit = limit.f64();
            combine::<f64, f64>(
                dy,
                x,
                dtype,
                out,
                dtype,
                move |dy, x| {
                    if x <= limit { 0.0 } else { dy }
                },
            )
        }
        Class::Integer => {
            let limit = limit.i64();
            combine::<i64, i64>(
                dy,
                x,
                dtype,
                out,
                dtype,
                move |dy, x| {
                    if x <= limit { 0 } else { dy }
                },
            )
        }
        _ => return Err(no_kernel(call, dtype)),
    })
}

/// The flag says that parameter 1 is the forward's output, which needs a slope that keeps the sign.
fn leaky_relu(call: &Call) -> Result<Work, Refusal> {
    let (slope, from_result) = (call.scalar(2)?.f64(), call.bool(3)?);
    if from_result && slope < 0.0 {
        return Err(call.invalid(format!(
            "negativeSlope is {slope}, wanted at least 0 for a gradient from the result"
        )));
    }
    product(call, move |x| if x > 0.0 { 1.0 } else { slope })
}

fn prelu(call: &Call) -> Result<Work, Refusal> {
    let (dy, x, weight) = (call.tensor(0)?, call.tensor(1)?, call.tensor(2)?);
    let (dx, dw) = (call.tensor(3)?, call.tensor(4)?);
    call.expect_shape("gradOutput", &dy, x.shape())?;
    call.expect_shape("gradInput", &dx, x.shape())?;
    call.expect_shape("gradWeight", &dw, weight.shape())?;
    let shape = prelu_weight_shape(call, &x, &weight)?;
    Ok(Work::new(move || {
        let weights = ArrayD::from_shape_vec(shape.clone(), weight.load_vec::<f64>())
            .map_err(|error| Fault::exception(error.to_string()))?;
        let weights = CowArray::from(weights);
        let (dys, xs) = (dy.read::<f64>(), x.read::<f64>());
        let inputs = Zip::from(&dys)
            .and(&xs)
            .and(&spread(&weights, x.shape())?)
            .map_collect(|&dy, &x, &w| if x > 0.0 { dy } else { dy * w });
        let mut sums = ArrayD::<f64>::zeros(shape.clone());
        for ((index, &dy), &x) in dys.indexed_iter().zip(xs.iter()) {
            let mut place = vec![0usize; shape.len()];
            if let (Some(slot), true) = (place.get_mut(1), shape.get(1) != Some(&1)) {
                *slot = index[1];
            }
            if let (Some(sum), false) = (sums.get_mut(place.as_slice()), x > 0.0) {
                *sum += dy * x;
            }
        }
        dx.store(&inputs)?;
        dw.store_slice(&sums.iter().copied().collect::<Vec<_>>())
    }))
}

/// From the forward's input, or from its output where the flag says so.
fn elu(call: &Call) -> Result<Work, Refusal> {
    let [alpha, scale, input_scale] = [1, 2, 3].map(|index| call.scalar(index));
    let (alpha, scale, input_scale) = (alpha?.f64(), scale?.f64(), input_scale?.f64());
    let from_result = call.bool(4)?;
    if from_result && alpha < 0.0 {
        return Err(call.invalid(format!(
            "alpha is {alpha}, wanted at least 0 for a gradient from the result"
        )));
    }
    backward(call, 0, 5, move |dy, x| {
        dy * if x > 0.0 {
            scale
        } else if from_result {
            input_scale * (x + alpha * scale)
        } else {
            input_scale * alpha * scale * (input_scale * x).exp()
        }
    })
}

fn gelu_v2(call: &Call) -> Result<Work, Refusal> {
    match call.text(2)? {
        "none" => product(call, gelu_slope),
        "tanh" => product(call, gelu_tanh_slope),
        other => Err(call.invalid(format!("approximate is {other:?}, wanted none or tanh"))),
    }
}

/// A null beta is 1.
fn swish(call: &Call) -> Result<Work, Refusal> {
    let beta = call.optional_scalar(2).map_or(1.0, |beta| beta.f64());
    product(call, move |x| {
        let s = sigmoid(beta * x);
        s + beta * x * s * (1.0 - s)
    })
}

fn mish_slope(x: f64) -> f64 {
    let t = softplus(x).tanh();
    t + x * sigmoid(x) * (1.0 - t * t)
}

fn softplus_scaled(call: &Call) -> Result<Work, Refusal> {
    let (beta, threshold) = (call.scalar(2)?.f64(), call.scalar(3)?.f64());
    product(call, move |x| {
        if beta * x > threshold {
            1.0
        } else {
            sigmoid(beta * x)
        }
    })
}

/// The two versions differ in which side the points -3 and 3 belong to.
fn hard_swish_slope(x: f64, closed: bool) -> f64 {
    let (below, above) = if closed {
        (x < -3.0, x > 3.0)
    } else {
        (x <= -3.0, x >= 3.0)
    };
    match (below, above) {
        (true, _) => 0.0,
        (_, true) => 1.0,
        _ => x / 3.0 + 0.5,
    }
}

fn hardtanh(call: &Call) -> Result<Work, Refusal> {
    let (low, high) = (call.scalar(2)?.f64(), call.scalar(3)?.f64());
    gated(call, move |x| f64::from(u8::from(!(x <= low || x >= high))))
}

/// Hard and soft shrinking have the same gradient.
fn shrink(call: &Call) -> Result<Work, Refusal> {
    let limit = call.scalar(2)?.f64();
    gated(call, move |x| {
        f64::from(u8::from(!(x >= -limit && x <= limit)))
    })
}

/// `dy / (x (1 - x))`, and 0 where x was clamped; the input comes first.
fn logit(call: &Call) -> Result<Work, Refusal> {
    let eps = call.float(2)?;
    backward(call, 1, 0, move |dy, x| {
        if eps >= 0.0 && (x < eps || x > 1.0 - eps) {
            0.0
        } else if eps < 0.0 && !(0.0..=1.0).contains(&x) {
            f64::NAN
        } else {
            dy / (x * (1.0 - x))
        }
    })
}
