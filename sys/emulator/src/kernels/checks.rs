//! Elementwise, layout, reduction and selection kernels against values worked out by hand.
//!
//! Knows the kernels by name; it must not know how they compute.

mod arithmetic;
mod layout;
mod order;
mod reduction;
mod unary;

use super::testing::{arg, empty, run, tensor};
use crate::dtype::DType;
use crate::kernel::Arg;
use crate::tensor::Tensor;

/// Runs an op whose last parameter is an output of this dtype and shape, and returns the output.
fn result(name: &'static str, args: &[Arg], dtype: DType, shape: &[usize]) -> Tensor {
    let out = empty(dtype, shape);
    let mut all = args.to_vec();
    all.push(arg(&out));
    run(name, &all).unwrap_or_else(|failure| panic!("{name}: {failure}"));
    out
}

/// As [`result`], as the values of an f32 vector.
fn values(name: &'static str, args: &[Arg], count: usize) -> Vec<f64> {
    result(name, args, DType::F32, &[count]).load_vec::<f64>()
}

/// The code with which an op refuses its arguments.
fn refusal(name: &'static str, args: &[Arg]) -> i32 {
    match run(name, args) {
        Ok(()) => 0,
        Err(failure) => failure.code,
    }
}

fn truths(values: &[bool]) -> Tensor {
    tensor(DType::Bool, &[values.len()], values)
}

fn words(values: &[i64]) -> Tensor {
    tensor(DType::I32, &[values.len()], values)
}

/// Checks each pair within a relative tolerance of 1e-6, NaN equal to NaN.
fn assert_near(name: &str, got: &[f64], wanted: &[f64]) {
    assert_eq!(got.len(), wanted.len(), "{name}");
    for (index, (&a, &b)) in got.iter().zip(wanted).enumerate() {
        let near = a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= 1e-6 * (1.0 + b.abs());
        assert!(near, "{name}, element {index}: got {a}, wanted {b}");
    }
}
