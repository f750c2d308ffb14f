//! Comparison of a result with the expected tensor, as the contract says.
//!
//! Knows the rule: dtype and shape equal; elements equal, both NaN, or within the tolerance of a finite expectation.

use ascend_tensor::{DType, Tensor};

/// Nothing if `got` is what is wanted, else why not.
pub fn compare(
    what: &str,
    got: &Tensor,
    want: &Tensor,
    rtol: f64,
    atol: f64,
) -> Result<(), String> {
    if got.dtype() != want.dtype() {
        return Err(format!(
            "{what}: dtype {} instead of {}",
            got.dtype(),
            want.dtype()
        ));
    }
    if got.shape() != want.shape() {
        return Err(format!(
            "{what}: shape {} instead of {}",
            got.shape(),
            want.shape()
        ));
    }
    if got.dtype().is_float() {
        let (got, want) = (doubles(got)?, doubles(want)?);
        let close = |got: f64, want: f64| {
            got == want
                || got.is_nan() && want.is_nan()
                || want.is_finite() && (got - want).abs() <= atol + rtol * want.abs()
        };
        return first_difference(what, &got, &want, |(got, want)| close(*got, *want));
    }
    let (got, want) = (integers(got)?, integers(want)?);
    first_difference(what, &got, &want, |(got, want)| got == want)
}

fn first_difference<T: Copy + std::fmt::Debug>(
    what: &str,
    got: &[T],
    want: &[T],
    same: impl Fn((&T, &T)) -> bool,
) -> Result<(), String> {
    let wrong: Vec<usize> = got
        .iter()
        .zip(want)
        .enumerate()
        .filter(|(_, pair)| !same(*pair))
        .map(|(position, _)| position)
        .collect();
    match wrong.first() {
        None => Ok(()),
        Some(first) => Err(format!(
            "{what}: {} of {} elements differ, first at {first}: {:?} instead of {:?}",
            wrong.len(),
            want.len(),
            got[*first],
            want[*first]
        )),
    }
}

fn doubles(tensor: &Tensor) -> Result<Vec<f64>, String> {
    tensor.to_f64_vec().map_err(|error| error.to_string())
}

fn integers(tensor: &Tensor) -> Result<Vec<i64>, String> {
    let read = || {
        tensor
            .detach()
            .to_device(ascend_tensor::Device::Cpu)?
            .to_dtype(DType::I64)?
            .to_vec::<i64>()
    };
    read().map_err(|error| error.to_string())
}
