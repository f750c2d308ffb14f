//! Hand-made calls for unit tests: tensors over leaked host memory, and running a kernel by its name.
//!
//! Knows the kernel interface; it must not know the C interface or streams.

use crate::dtype::DType;
use crate::failure::Failure;
use crate::kernel::{Arg, Call, Family, Scalar};
use crate::number::Number;
use crate::tensor::{Description, Tensor, TensorObject, natural_strides};
use std::sync::Arc;

mod attention;
mod cache;
mod expert;
mod fused;
mod index;
mod loss;
mod matrix;
mod moe;
mod norm;
mod quant;
mod random;
mod routing;
mod sequence;
mod spatial;
mod update;
mod weight;

/// A tensor with a shape, from values in row-major order.
pub(crate) fn tensor<T: Number>(dtype: DType, shape: &[usize], values: &[T]) -> Tensor {
    let tensor = empty(dtype, shape);
    tensor.store_slice(values).expect("one value per element");
    tensor
}

/// An f32 tensor.
pub(crate) fn floats(shape: &[usize], values: &[f32]) -> Tensor {
    tensor(DType::F32, shape, values)
}

/// An i64 tensor.
pub(crate) fn longs(shape: &[usize], values: &[i64]) -> Tensor {
    tensor(DType::I64, shape, values)
}

/// A tensor of zeros.
pub(crate) fn empty(dtype: DType, shape: &[usize]) -> Tensor {
    let count = shape.iter().product::<usize>();
    let bytes = dtype.bytes(count).expect("a small tensor");
    let memory: &'static mut [u64] = Box::leak(vec![0u64; bytes / 8 + 1].into_boxed_slice());
    let signed = |values: &[usize]| values.iter().map(|&value| value as i64).collect::<Vec<_>>();
    let description = Description {
        dtype: dtype.code(),
        format: 2,
        shape: signed(shape),
        strides: signed(&natural_strides(shape)),
        offset: 0,
        storage: signed(shape),
    };
    let object = TensorObject::new(description, memory.as_mut_ptr() as usize);
    Tensor::snapshot(&Arc::new(object), "test").expect("a plain tensor")
}

/// An argument that is a tensor.
pub(crate) fn arg(tensor: &Tensor) -> Arg {
    Arg::Tensor(Some(tensor.clone()))
}

/// An argument that is a null tensor.
pub(crate) fn null() -> Arg {
    Arg::Tensor(None)
}

/// An argument that is a list of tensors.
pub(crate) fn list(tensors: &[&Tensor]) -> Arg {
    Arg::Tensors(Some(
        tensors.iter().map(|&tensor| Some(tensor.clone())).collect(),
    ))
}

/// An argument that is an integer array.
pub(crate) fn ints(values: &[i64]) -> Arg {
    Arg::Ints(Some(values.to_vec()))
}

/// An argument that is a text.
pub(crate) fn text(value: &str) -> Arg {
    Arg::Text(Some(value.to_owned()))
}

/// An argument that is an f32 scalar.
pub(crate) fn scalar(value: f32) -> Arg {
    let mut bits = [0u8; 16];
    bits[..4].copy_from_slice(&value.to_ne_bytes());
    Arg::Scalar(Some(Scalar::new(DType::F32, bits)))
}

/// An argument that is an i64 scalar.
pub(crate) fn long_scalar(value: i64) -> Arg {
    let mut bits = [0u8; 16];
    bits[..8].copy_from_slice(&value.to_ne_bytes());
    Arg::Scalar(Some(Scalar::new(DType::I64, bits)))
}

/// Prepares and runs an op on Atlas A2.
pub(crate) fn run(name: &'static str, args: &[Arg]) -> Result<(), Failure> {
    let prepare = super::FAMILIES
        .iter()
        .flat_map(|family| family.iter())
        .find(|entry| entry.0 == name)
        .unwrap_or_else(|| panic!("{name} is not registered"))
        .1;
    let mut work = prepare(&Call::new(name, Family::A2, true, args))?;
    (work.run)()
}

/// Checks an output within a tolerance, NaN equal to NaN.
pub(crate) fn assert_close(tensor: &Tensor, wanted: &[f64], tolerance: f64) {
    let got = tensor.load_vec::<f64>();
    assert_eq!(got.len(), wanted.len());
    for (index, (&a, &b)) in got.iter().zip(wanted).enumerate() {
        let equal =
            a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= tolerance * (1.0 + b.abs());
        assert!(equal, "element {index}: got {a}, wanted {b}; all: {got:?}");
    }
}

/// Numbers between -1 and 1 that the reference makes alike.
pub(crate) fn numbers(shape: &[usize], seed: i64) -> Vec<f32> {
    let count = shape.iter().product::<usize>() as i64;
    (0..count)
        .map(|i| ((i * 7919 + i * i * 13 + seed * 104_729) % 1999) as f64 / 1000.0 - 1.0)
        .map(|value| value as f32)
        .collect()
}

pub(crate) fn noise(shape: &[usize], seed: i64) -> Tensor {
    floats(shape, &numbers(shape, seed))
}

/// Noise times a factor and plus an offset.
pub(crate) fn scaled(shape: &[usize], seed: i64, factor: f32, offset: f32) -> Tensor {
    let values: Vec<f32> = numbers(shape, seed)
        .iter()
        .map(|value| value * factor + offset)
        .collect();
    floats(shape, &values)
}

/// Two sums that tell tensors apart: with weights by position, and of squares.
pub(crate) fn assert_sums(what: &str, tensor: &Tensor, wanted: [f64; 2]) {
    let values = tensor.load_vec::<f64>();
    let weighted = values.iter().enumerate();
    let weighted: f64 = weighted
        .map(|(at, value)| value * (at % 101 + 1) as f64)
        .sum();
    let squares: f64 = values.iter().map(|value| value * value).sum();
    for (got, wanted) in [weighted, squares].into_iter().zip(wanted) {
        let near = (got - wanted).abs() <= 2e-5 * (1.0 + wanted.abs());
        assert!(near, "{what}: got {got}, wanted {wanted}");
    }
}

pub(crate) fn zeros(shape: &[usize]) -> Tensor {
    empty(DType::F32, shape)
}

/// One value of eight equal ones.
pub(crate) fn eighths(tensor: &Tensor) -> Tensor {
    let values: Vec<f32> = tensor.load_vec::<f32>().into_iter().step_by(8).collect();
    floats(&[values.len()], &values)
}
