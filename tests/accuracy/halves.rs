//! Results in `f16` and `bf16`: all 65536 inputs of each function, against the exact values.
//!
//! Knows the two formats. Must not know single functions.

use ascend_tensor::{DType, Result, Tensor};

use super::functions::Bound;
use super::{Format, ONE, Worst, picked};

/// What every function holds: computed in `f32`, rounded once.
pub const STATED: f64 = 1.0;

/// All numbers of a half dtype, as that and as `f32`.
fn numbers(dtype: DType) -> Result<(Tensor, Vec<f32>)> {
    let bits = 0..=u16::MAX;
    let x = if dtype == DType::F16 {
        Tensor::new(bits.map(half::f16::from_bits).collect::<Vec<_>>())
    } else {
        Tensor::new(bits.map(half::bf16::from_bits).collect::<Vec<_>>())
    };
    let wide = x.to_dtype(DType::F32)?.to_vec()?;
    Ok((x, wide))
}

fn check(dtype: DType, format: Format) -> Result<()> {
    let one = ONE.lock();
    let (x, wide) = numbers(dtype)?;
    let mut failed = Vec::new();
    for function in picked() {
        let y = (function.call)(&x)?;
        assert_eq!(y.dtype(), dtype, "{}", function.name);
        let got = y.to_dtype(DType::F32)?.to_vec::<f32>()?;
        let stated = Bound {
            units: STATED,
            absolute: function.stated.absolute,
        };
        let mut worst = Worst::default();
        for (x, got) in wide.iter().zip(got) {
            let x = f64::from(*x);
            worst.take(x, f64::from(got), (function.exact)(x), format, stated);
        }
        let name = format!("{} in {dtype}", function.name);
        worst.tell(&name, stated, &mut failed);
    }
    drop(one);
    assert!(failed.is_empty(), "{failed:#?}");
    Ok(())
}

#[test]
fn all_numbers_of_f16_are_rounded_once() -> Result<()> {
    let format = Format {
        digits: 10,
        least: -14,
        most: 15,
    };
    check(DType::F16, format)
}

#[test]
fn all_numbers_of_bf16_are_rounded_once() -> Result<()> {
    let format = Format {
        digits: 7,
        least: -126,
        most: 127,
    };
    check(DType::BF16, format)
}
