//! Fourier transforms by their sums: of real signals, and of windows that slide over a signal.
//!
//! Knows the kernel interface; it must not know streams, handles or device memory.

use super::common::{Lanes, size_of};
use crate::failure::Refusal;
use crate::kernel::{Call, Prepare, Work};
use crate::number::Complex;

/// This family's ops.
pub(crate) const KERNELS: &[(&str, Prepare)] = &[
    ("aclStft", windows as Prepare),
    ("aclRfft1D", real as Prepare),
];

/// Cosines and sines of the multiples of one turn's n-th part.
fn circle(n: usize) -> Vec<Complex> {
    let angle = |at: usize| -std::f64::consts::TAU * at as f64 / n as f64;
    (0..n)
        .map(|at| Complex {
            re: angle(at).cos(),
            im: angle(at).sin(),
        })
        .collect()
}

/// `sum of signal[k] exp(-2 pi i frequency k / n)`.
fn transform(signal: &[Complex], circle: &[Complex], frequency: usize) -> Complex {
    let mut sum = Complex { re: 0.0, im: 0.0 };
    for (at, value) in signal.iter().enumerate() {
        let turn = circle[at * frequency % circle.len()];
        sum.re += value.re * turn.re - value.im * turn.im;
        sum.im += value.re * turn.im + value.im * turn.re;
    }
    sum
}

/// The transforms of all windows; a window that is shorter than a transform stands in its middle.
fn windows(call: &Call) -> Result<Work, Refusal> {
    let (x, window, out) = (call.tensor(0)?, call.optional_tensor(1), call.tensor(2)?);
    let n = size_of(call, "nFft", call.int(3)?, 1)?;
    let hop = size_of(call, "hopLength", call.int(4)?, 1)?;
    let width = size_of(call, "winLength", call.int(5)?, 1)?;
    let (normalized, onesided, complex) = (call.bool(6)?, call.bool(7)?, call.bool(8)?);
    let (batch, length) = match x.shape() {
        &[length] => (None, length),
        &[batch, length] => (Some(batch), length),
        other => return Err(call.invalid(format!("self has shape {other:?}, wanted 1 or 2 dims"))),
    };
    if n > length || width > n {
        return Err(call.invalid(format!(
            "nFft is {n}, winLength {width} of {length} elements"
        )));
    }
    if x.dtype().is_complex() && onesided {
        return Err(call.invalid("onesided goes with real numbers"));
    }
    if let Some(window) = &window {
        call.expect_shape("window", window, &[width])?;
    }
    let (frames, count) = ((length - n) / hop + 1, if onesided { n / 2 + 1 } else { n });
    let mut shape: Vec<usize> = batch.into_iter().collect();
    shape.extend([count, frames]);
    if !complex {
        shape.push(2);
    }
    call.expect_shape("out", &out, &shape)?;
    if out.dtype().is_complex() != complex {
        return Err(call.invalid(format!(
            "out has dtype {} for returnComplex {complex}",
            out.dtype()
        )));
    }
    Ok(Work::new(move || {
        let mut factors = vec![0f64; n];
        let start = (n - width) / 2;
        match &window {
            Some(window) => {
                factors[start..start + width].copy_from_slice(&window.load_vec::<f64>())
            }
            None => factors[start..start + width].fill(1.0),
        }
        let scale = if normalized {
            1.0 / (n as f64).sqrt()
        } else {
            1.0
        };
        let (signal, circle) = (x.load_vec::<Complex>(), circle(n));
        let mut results = Vec::with_capacity(batch.unwrap_or(1) * count * frames);
        for line in signal.chunks_exact(length) {
            for frequency in 0..count {
                for frame in 0..frames {
                    let part = line[frame * hop..][..n].iter().zip(&factors);
                    let part: Vec<Complex> = part
                        .map(|(value, by)| Complex {
                            re: value.re * by,
                            im: value.im * by,
                        })
                        .collect();
                    let sum = transform(&part, &circle, frequency);
                    results.push(Complex {
                        re: sum.re * scale,
                        im: sum.im * scale,
                    });
                }
            }
        }
        match complex {
            true => out.store_slice(&results),
            false => out.store_slice(&parts(&results)),
        }
    }))
}

fn parts(values: &[Complex]) -> Vec<f64> {
    values
        .iter()
        .flat_map(|value| [value.re, value.im])
        .collect()
}

/// The frequencies from 0 up of a real signal, cut or filled with zeros to `n`; pairs stand in a last dim of 2.
fn real(call: &Call) -> Result<Work, Refusal> {
    let (x, out) = (call.tensor(0)?, call.tensor(4)?);
    let n = size_of(call, "n", call.int(1)?, 1)?;
    let axis = call.axis(call.int(2)?, x.rank())?;
    let scale = match call.int(3)? {
        1 => 1.0,
        2 => 1.0 / n as f64,
        3 => 1.0 / (n as f64).sqrt(),
        other => return Err(call.invalid(format!("norm is {other}, wanted 1 to 3"))),
    };
    let count = n / 2 + 1;
    let mut shape = x.shape().to_vec();
    if let Some(dim) = shape.get_mut(axis) {
        *dim = count;
    }
    shape.push(2);
    call.expect_shape("out", &out, &shape)?;
    let lanes = Lanes::new(x.shape(), axis);
    Ok(Work::new(move || {
        let (values, circle) = (x.load_vec::<Complex>(), circle(n));
        let mut result = vec![0f64; out.count()];
        for (number, start) in lanes.starts().enumerate() {
            let line: Vec<Complex> = (0..lanes.length.min(n))
                .map(|at| values[start + at * lanes.inner])
                .collect();
            let (outer, inner) = (number / lanes.inner.max(1), number % lanes.inner.max(1));
            for frequency in 0..count {
                let sum = transform(&line, &circle, frequency);
                let place = ((outer * count + frequency) * lanes.inner + inner) * 2;
                result[place..place + 2].copy_from_slice(&[sum.re * scale, sum.im * scale]);
            }
        }
        out.store_slice(&result)
    }))
}
