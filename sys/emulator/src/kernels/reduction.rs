//! Reductions over several dims: sums, products, means, extremes, truth, moments and norms. Real numbers add up in f64
//! and are rounded once.
//!
//! Knows formulas and the rules of their result types; it must not know strides or memory.

use super::element::{Through, expect_castable, fetch, keep, no_kernel};
use super::placement::{AxisTable, positions};
use crate::dtype::{Class, DType};
use crate::failure::{Fault, Refusal};
use crate::kernel::{Call, Prepare, Work};
use crate::number::Complex;
use crate::promote::to_float;
use crate::tensor::{Tensor, natural_strides};
use ndarray::ArrayView1;

/// This family's ops.
pub(crate) const KERNELS: &[(&str, Prepare)] = &[
    ("aclnnReduceSum", |call| sum_of(call, |value| value)),
    ("aclnnReduceNansum", |call| {
        sum_of(call, |value| if value.is_nan() { 0.0 } else { value })
    }),
    ("aclnnReduceLogSum", reduce_log_sum),
    ("aclnnMean", mean),
    ("aclnnMeanV2", mean_v2),
    ("aclnnProd", prod),
    ("aclnnProdDim", prod_dim),
    ("aclnnAmax", |call| extreme_of_dims(call, Side::High)),
    ("aclnnAmin", |call| extreme_of_dims(call, Side::Low)),
    ("aclnnMax", |call| extreme_of_all(call, Side::High)),
    ("aclnnMin", |call| extreme_of_all(call, Side::Low)),
    ("aclnnMaxV2", max_v2),
    ("aclnnAminmax", both_extremes),
    ("aclnnAminmaxDim", both_extremes),
    ("aclnnAminmaxAll", both_extremes),
    ("aclnnAll", |call| truth(call, true)),
    ("aclnnAny", |call| truth(call, false)),
    ("aclnnVar", variance),
    ("aclnnVarCorrection", variance),
    ("aclnnVarMean", variance_and_mean),
    ("aclnnStd", deviation),
    ("aclnnStdMeanCorrection", deviation_and_mean),
    ("aclnnNorm", norm),
    ("aclnnLinalgVectorNorm", vector_norm),
    ("aclnnLogSumExp", log_sum_exp),
    ("aclnnTrace", trace),
];

/// Which elements meet in which result.
#[derive(Debug, Clone)]
struct Groups {
    /// The shape of the result.
    shape: Vec<usize>,
    /// For each element, its result.
    slots: Vec<usize>,
    /// Number of results.
    count: usize,
    /// Number of elements in each result.
    size: usize,
}

impl Groups {
    /// No dims means all of them.
    fn new(call: &Call, x: &Tensor, dims: &[i64], keep: bool) -> Result<Groups, Refusal> {
        let mut reduced = vec![dims.is_empty(); x.rank()];
        let mut seen = Vec::with_capacity(dims.len());
        for &dim in dims {
            let axis = call.axis(dim, x.rank())?;
            if seen.contains(&axis) {
                return Err(call.invalid(format!("dims {dims:?} hold dim {axis} twice")));
            }
            seen.push(axis);
            if let Some(flag) = reduced.get_mut(axis) {
                *flag = true;
            }
        }
        let kept: Vec<usize> = reduced
            .iter()
            .zip(x.shape())
            .map(|(&reduced, &dim)| if reduced { 1 } else { dim })
            .collect();
        let tables: Vec<AxisTable> = x
            .shape()
            .iter()
            .zip(natural_strides(&kept))
            .zip(&reduced)
            .map(|((&dim, stride), &reduced)| AxisTable {
                stride: if reduced { 0 } else { stride },
                sources: (0..dim).collect(),
            })
            .collect();
        let pairs = kept.iter().zip(&reduced);
        let shape = pairs
            .filter(|(_, reduced)| keep || !**reduced)
            .map(|(&dim, _)| dim)
            .collect();
        let lengths = x.shape().iter().zip(&reduced);
        Ok(Groups {
            shape,
            slots: positions(&tables),
            count: kept.iter().product(),
            size: lengths.filter(|pair| *pair.1).map(|pair| *pair.0).product(),
        })
    }

    fn fold<T: Copy, A: Clone>(
        &self,
        values: impl IntoIterator<Item = T>,
        start: A,
        f: impl Fn(A, T) -> A,
    ) -> Vec<A> {
        let mut results = vec![start; self.count];
        for (value, &slot) in values.into_iter().zip(&self.slots) {
            if let Some(result) = results.get_mut(slot) {
                *result = f(result.clone(), value);
            }
        }
        results
    }

    /// Folds a tensor, read in `dtype`.
    fn reduce<T: Through, A: Clone>(
        &self,
        x: &Tensor,
        dtype: DType,
        start: A,
        f: impl Fn(A, T) -> A,
    ) -> Vec<A> {
        self.reduce_by(x, dtype, start, &f)
    }

    fn reduce_by<T: Through, A: Clone>(
        &self,
        x: &Tensor,
        dtype: DType,
        start: A,
        f: &dyn Fn(A, T) -> A,
    ) -> Vec<A> {
        self.fold(fetch::<T>(x, dtype).iter().copied(), start, f)
    }

    fn mean(&self, x: &Tensor, dtype: DType) -> Vec<f64> {
        let size = self.size as f64;
        let sums = self.reduce::<f64, f64>(x, dtype, 0.0, |sum, value| sum + value);
        sums.into_iter().map(|sum| sum / size).collect()
    }

    /// Mean and variance, whose divisor is the size less the correction, at least 0.
    fn moments(&self, x: &Tensor, correction: f64) -> (Vec<f64>, Vec<f64>) {
        let means = self.mean(x, x.dtype());
        let values = x.read::<f64>();
        let mut squares = vec![0f64; self.count];
        for (&value, &slot) in values.iter().zip(&self.slots) {
            if let (Some(square), Some(mean)) = (squares.get_mut(slot), means.get(slot)) {
                *square += (value - mean) * (value - mean);
            }
        }
        let divisor = (self.size as f64 - correction).max(0.0);
        let variances = squares.into_iter().map(|square| square / divisor).collect();
        (variances, means)
    }
}

fn store<T: Through>(out: &Tensor, dtype: DType, values: &[T]) -> Result<(), Fault> {
    keep(out, dtype, ArrayView1::from(values).into_dyn())
}

/// The dims parameter; null means all.
fn dims<'a>(call: &Call<'a>, index: usize) -> &'a [i64] {
    call.optional_ints(index).unwrap_or(&[])
}

/// The input is cast to the dtype parameter before it is added up.
fn sum_of(call: &Call, term: fn(f64) -> f64) -> Result<Work, Refusal> {
    let (x, out) = (call.tensor(0)?, call.tensor(4)?);
    let groups = Groups::new(call, &x, dims(call, 1), call.bool(2)?)?;
    let dtype = call.dtype(3)?;
    call.expect_dtype("out", &out, &[dtype])?;
    call.expect_shape_or_one_element("out", &out, &groups.shape)?;
    Ok(match dtype.class() {
        Class::Float32 | Class::Float64 => Work::new(move || {
            let sums = groups.reduce::<f64, f64>(&x, dtype, 0.0, |sum, value| sum + term(value));
            store(&out, dtype, &sums)
        }),
        Class::Integer => Work::new(move || {
            let sums = groups.reduce::<i64, i64>(&x, dtype, 0, i64::wrapping_add);
            store(&out, dtype, &sums)
        }),
        Class::Boolean => Work::new(move || {
            let sums = groups.reduce::<bool, bool>(&x, dtype, false, |any, value| any || value);
            store(&out, dtype, &sums)
        }),
        Class::Complex => Work::new(move || {
            let zero = Complex::default();
            let sums = groups.reduce::<Complex, Complex>(&x, dtype, zero, |sum, value| sum + value);
            store(&out, dtype, &sums)
        }),
        Class::Other => return Err(no_kernel(call, dtype)),
    })
}

/// ln of the sum; an empty dim list with the flag set gives ln of each element.
fn reduce_log_sum(call: &Call) -> Result<Work, Refusal> {
    let (x, out) = (call.tensor(0)?, call.tensor(4)?);
    let axes = dims(call, 1);
    let dtype = x.dtype();
    call.expect_dtype("reduce", &out, &[dtype])?;
    if axes.is_empty() && call.bool(3)? {
        call.expect_shape_or_one_element("reduce", &out, x.shape())?;
        return Ok(super::element::map::<f64>(x, dtype, out, f64::ln));
    }
    let groups = Groups::new(call, &x, axes, call.bool(2)?)?;
    call.expect_shape_or_one_element("reduce", &out, &groups.shape)?;
    Ok(Work::new(move || {
        let sums = groups.reduce::<f64, f64>(&x, dtype, 0.0, |sum, value| sum + value);
        store(
            &out,
            dtype,
            &sums.into_iter().map(f64::ln).collect::<Vec<_>>(),
        )
    }))
}

fn mean(call: &Call) -> Result<Work, Refusal> {
    let (x, out, dtype) = (call.tensor(0)?, call.tensor(4)?, call.dtype(3)?);
    call.expect_dtype("out", &out, &[dtype])?;
    mean_in(call, x, out, dtype)
}

/// No dtype parameter; with the flag set, an empty dim list copies.
fn mean_v2(call: &Call) -> Result<Work, Refusal> {
    let (x, out) = (call.tensor(0)?, call.tensor(4)?);
    let dtype = x.dtype();
    call.expect_dtype("out", &out, &[dtype])?;
    if call.bool(3)? && dims(call, 1).is_empty() {
        call.expect_shape_or_one_element("out", &out, x.shape())?;
        return Ok(super::element::map::<f64>(x, dtype, out, |value| value));
    }
    mean_in(call, x, out, dtype)
}

fn mean_in(call: &Call, x: Tensor, out: Tensor, dtype: DType) -> Result<Work, Refusal> {
    let groups = Groups::new(call, &x, dims(call, 1), call.bool(2)?)?;
    call.expect_shape_or_one_element("out", &out, &groups.shape)?;
    match dtype.class() {
        Class::Float32 | Class::Float64 => Ok(Work::new(move || {
            store(&out, dtype, &groups.mean(&x, dtype))
        })),
        Class::Complex => Ok(Work::new(move || {
            let (zero, size) = (Complex::default(), groups.size as f64);
            let sums = groups.reduce::<Complex, Complex>(&x, dtype, zero, |sum, value| sum + value);
            let parts = sums
                .into_iter()
                .map(|sum| Complex::new(sum.re / size, sum.im / size));
            store(&out, dtype, &parts.collect::<Vec<_>>())
        })),
        _ => Err(call.invalid(format!("dtype is {dtype}, wanted a float"))),
    }
}

fn prod(call: &Call) -> Result<Work, Refusal> {
    let (x, dtype, out) = (call.tensor(0)?, call.dtype(1)?, call.tensor(2)?);
    let groups = Groups::new(call, &x, &[], false)?;
    product(call, x, dtype, out, groups)
}

fn prod_dim(call: &Call) -> Result<Work, Refusal> {
    let (x, dtype, out) = (call.tensor(0)?, call.dtype(3)?, call.tensor(4)?);
    let groups = Groups::new(call, &x, &[call.int(1)?], call.bool(2)?)?;
    product(call, x, dtype, out, groups)
}

fn product(
    call: &Call,
    x: Tensor,
    dtype: DType,
    out: Tensor,
    groups: Groups,
) -> Result<Work, Refusal> {
    call.expect_dtype("out", &out, &[dtype])?;
    call.expect_shape_or_one_element("out", &out, &groups.shape)?;
    Ok(match dtype.class() {
        Class::Float32 | Class::Float64 => Work::new(move || {
            let products = groups.reduce::<f64, f64>(&x, dtype, 1.0, |all, value| all * value);
            store(&out, dtype, &products)
        }),
        Class::Integer => Work::new(move || {
            let products = groups.reduce::<i64, i64>(&x, dtype, 1, i64::wrapping_mul);
            store(&out, dtype, &products)
        }),
        Class::Boolean => Work::new(move || {
            let products = groups.reduce::<bool, bool>(&x, dtype, true, |all, value| all && value);
            store(&out, dtype, &products)
        }),
        Class::Complex => Work::new(move || {
            let one = Complex::new(1.0, 0.0);
            let products =
                groups.reduce::<Complex, Complex>(&x, dtype, one, |all, value| all * value);
            store(&out, dtype, &products)
        }),
        Class::Other => return Err(no_kernel(call, dtype)),
    })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    High,
    Low,
}

fn extreme_of_dims(call: &Call, side: Side) -> Result<Work, Refusal> {
    let (x, out) = (call.tensor(0)?, call.tensor(3)?);
    let groups = Groups::new(call, &x, dims(call, 1), call.bool(2)?)?;
    extreme(call, &x, &out, &groups, side)
}

fn extreme_of_all(call: &Call, side: Side) -> Result<Work, Refusal> {
    let (x, out) = (call.tensor(0)?, call.tensor(1)?);
    let groups = Groups::new(call, &x, &[], false)?;
    extreme(call, &x, &out, &groups, side)
}

/// With the flag set, an empty dim list copies.
fn max_v2(call: &Call) -> Result<Work, Refusal> {
    let (x, out) = (call.tensor(0)?, call.tensor(4)?);
    if call.bool(3)? && dims(call, 1).is_empty() {
        call.expect_shape("out", &out, x.shape())?;
        let dtype = x.dtype();
        return Ok(super::element::map::<f64>(x, dtype, out, |value| value));
    }
    let groups = Groups::new(call, &x, dims(call, 1), call.bool(2)?)?;
    extreme(call, &x, &out, &groups, Side::High)
}

/// Lowest and highest: over listed dims, over one dim, or over all.
fn both_extremes(call: &Call) -> Result<Work, Refusal> {
    let x = call.tensor(0)?;
    let (groups, first) = match call.name() {
        "aclnnAminmaxAll" => (Groups::new(call, &x, &[], false)?, 1),
        "aclnnAminmaxDim" => (Groups::new(call, &x, &[call.int(1)?], call.bool(2)?)?, 3),
        _ => (Groups::new(call, &x, dims(call, 1), call.bool(2)?)?, 3),
    };
    let (low_out, high_out) = (call.tensor(first)?, call.tensor(first + 1)?);
    let mut low = extreme(call, &x, &low_out, &groups, Side::Low)?;
    let mut high = extreme(call, &x, &high_out, &groups, Side::High)?;
    Ok(Work::new(move || {
        (low.run)()?;
        (high.run)()
    }))
}

/// NaN wins. There is no extreme of nothing.
fn extreme(
    call: &Call,
    x: &Tensor,
    out: &Tensor,
    groups: &Groups,
    side: Side,
) -> Result<Work, Refusal> {
    let dtype = x.dtype();
    if dtype != out.dtype() {
        expect_castable(call, dtype, out)?;
    }
    call.expect_shape_or_one_element("out", out, &groups.shape)?;
    if groups.size == 0 && groups.count > 0 {
        return Err(call.invalid(format!(
            "shape {:?} has no elements to choose from",
            x.shape()
        )));
    }
    let (x, out, groups) = (x.clone(), out.clone(), groups.clone());
    let high = side == Side::High;
    Ok(match dtype.class() {
        Class::Float32 | Class::Float64 => Work::new(move || {
            let start = if high {
                f64::NEG_INFINITY
            } else {
                f64::INFINITY
            };
            let best = groups.reduce::<f64, f64>(&x, dtype, start, |best, value| {
                let better = if high { value > best } else { value < best };
                let takes = value.is_nan() || (better && !best.is_nan());
                if takes { value } else { best }
            });
            store(&out, dtype, &best)
        }),
        Class::Integer => Work::new(move || {
            let start = if high { i64::MIN } else { i64::MAX };
            let choose = if high { i64::max } else { i64::min };
            store(
                &out,
                dtype,
                &groups.reduce::<i64, i64>(&x, dtype, start, choose),
            )
        }),
        Class::Boolean => Work::new(move || {
            let best = groups.reduce::<bool, bool>(&x, dtype, !high, |best, value| {
                if high { best || value } else { best && value }
            });
            store(&out, dtype, &best)
        }),
        _ => return Err(no_kernel(call, dtype)),
    })
}

/// Whether all elements, or some, differ from zero.
fn truth(call: &Call, all: bool) -> Result<Work, Refusal> {
    let (x, out) = (call.tensor(0)?, call.tensor(3)?);
    let groups = Groups::new(call, &x, dims(call, 1), call.bool(2)?)?;
    call.expect_dtype("out", &out, &[DType::Bool, DType::U8])?;
    call.expect_shape_or_one_element("out", &out, &groups.shape)?;
    Ok(Work::new(move || {
        let results = groups.reduce::<bool, bool>(&x, DType::Bool, all, |so_far, value| {
            if all {
                so_far && value
            } else {
                so_far || value
            }
        });
        store(&out, DType::Bool, &results)
    }))
}

/// The correction: an integer, or a bool that stands for 1 or 0.
fn correction(call: &Call) -> Result<f64, Refusal> {
    match call.bool(2) {
        Ok(unbiased) => Ok(f64::from(u8::from(unbiased))),
        Err(_) => call.int(2).map(|value| value as f64),
    }
}

/// Moments over the dims of parameter 1, each through a function, into the outputs from parameter 4.
fn moments(call: &Call, f: fn(f64) -> f64, with_mean: bool) -> Result<Work, Refusal> {
    let (x, out) = (call.tensor(0)?, call.tensor(4)?);
    let groups = Groups::new(call, &x, dims(call, 1), call.bool(3)?)?;
    let correction = correction(call)?;
    if !x.dtype().is_float() {
        return Err(call.invalid(format!("self is {}, wanted a float", x.dtype())));
    }
    let mean_out = if with_mean {
        Some(call.tensor(5)?)
    } else {
        None
    };
    for out in std::iter::once(&out).chain(&mean_out) {
        call.expect_shape("out", out, &groups.shape)?;
        expect_castable(call, x.dtype(), out)?;
    }
    Ok(Work::new(move || {
        let (variances, means) = groups.moments(&x, correction);
        let results: Vec<f64> = variances.into_iter().map(f).collect();
        store(&out, x.dtype(), &results)?;
        match &mean_out {
            Some(mean_out) => store(mean_out, x.dtype(), &means),
            None => Ok(()),
        }
    }))
}

fn variance(call: &Call) -> Result<Work, Refusal> {
    moments(call, |variance| variance, false)
}

fn variance_and_mean(call: &Call) -> Result<Work, Refusal> {
    moments(call, |variance| variance, true)
}

fn deviation(call: &Call) -> Result<Work, Refusal> {
    moments(call, f64::sqrt, false)
}

fn deviation_and_mean(call: &Call) -> Result<Work, Refusal> {
    moments(call, f64::sqrt, true)
}

fn norm(call: &Call) -> Result<Work, Refusal> {
    let (x, out) = (call.tensor(0)?, call.tensor(4)?);
    let groups = Groups::new(call, &x, dims(call, 2), call.bool(3)?)?;
    let dtype = x.dtype();
    p_norm(call, x, out, groups, dtype)
}

/// The input is cast to the dtype parameter first.
fn vector_norm(call: &Call) -> Result<Work, Refusal> {
    let (x, out, dtype) = (call.tensor(0)?, call.tensor(5)?, call.dtype(4)?);
    let groups = Groups::new(call, &x, dims(call, 2), call.bool(3)?)?;
    call.expect_dtype("out", &out, &[dtype])?;
    p_norm(call, x, out, groups, dtype)
}

/// (sum |x|^p)^(1/p); for p = 0 the number of non-zeros, for infinite p the extreme of |x|.
fn p_norm(
    call: &Call,
    x: Tensor,
    out: Tensor,
    groups: Groups,
    dtype: DType,
) -> Result<Work, Refusal> {
    let p = call.scalar(1)?.f64();
    call.expect_shape_or_one_element("out", &out, &groups.shape)?;
    if !dtype.is_float() || !x.dtype().is_float() {
        return Err(call.invalid(format!("self is {}, wanted a float", x.dtype())));
    }
    expect_castable(call, dtype, &out)?;
    Ok(Work::new(move || {
        let norms: Vec<f64> = match p {
            f64::INFINITY => groups.reduce(&x, dtype, 0.0, |best: f64, value: f64| {
                larger(best, value.abs())
            }),
            f64::NEG_INFINITY => {
                groups.reduce(&x, dtype, f64::INFINITY, |best: f64, value: f64| {
                    -larger(-best, -value.abs())
                })
            }
            0.0 => groups.reduce(&x, dtype, 0.0, |count: f64, value: f64| {
                count + f64::from(u8::from(value != 0.0))
            }),
            2.0 => root_of_squares(&groups, &x, dtype),
            _ => {
                let sums = groups.reduce(&x, dtype, 0.0, |sum: f64, value: f64| {
                    sum + value.abs().powf(p)
                });
                sums.into_iter().map(|sum| sum.powf(1.0 / p)).collect()
            }
        };
        store(&out, dtype, &norms)
    }))
}

fn root_of_squares(groups: &Groups, x: &Tensor, dtype: DType) -> Vec<f64> {
    let sums = groups.reduce(x, dtype, 0.0, |sum: f64, value: f64| sum + value * value);
    sums.into_iter().map(f64::sqrt).collect()
}

fn larger(a: f64, b: f64) -> f64 {
    if b > a || b.is_nan() { b } else { a }
}

/// ln of the sum of e^x, shifted by the largest x.
fn log_sum_exp(call: &Call) -> Result<Work, Refusal> {
    let (x, out) = (call.tensor(0)?, call.tensor(3)?);
    let groups = Groups::new(call, &x, dims(call, 1), call.bool(2)?)?;
    let dtype = to_float(x.dtype());
    call.expect_shape("out", &out, &groups.shape)?;
    expect_castable(call, dtype, &out)?;
    if !dtype.is_float() {
        return Err(no_kernel(call, dtype));
    }
    Ok(Work::new(move || {
        let values = fetch::<f64>(&x, dtype);
        let highest = groups.fold(values.iter().copied(), f64::NEG_INFINITY, larger);
        let shifts: Vec<f64> = highest
            .iter()
            .map(|&high| if high.is_infinite() { 0.0 } else { high })
            .collect();
        let terms = values
            .iter()
            .zip(&groups.slots)
            .map(|(&value, &slot)| (value - shifts.get(slot).copied().unwrap_or(0.0)).exp());
        let sums = groups.fold(terms, 0.0, |sum: f64, term: f64| sum + term);
        let results: Vec<f64> = sums
            .iter()
            .zip(&shifts)
            .map(|(sum, shift)| sum.ln() + shift)
            .collect();
        store(&out, dtype, &results)
    }))
}

/// Sum of the main diagonal; integers add up in i64.
fn trace(call: &Call) -> Result<Work, Refusal> {
    let (x, out) = (call.tensor(0)?, call.tensor(1)?);
    let &[rows, columns] = x.shape() else {
        return Err(call.invalid(format!("self has shape {:?}, wanted 2 dims", x.shape())));
    };
    call.expect_shape_or_one_element("out", &out, &[])?;
    expect_castable(call, x.dtype(), &out)?;
    let length = rows.min(columns);
    Ok(Work::new(move || {
        if x.dtype().is_float() {
            let values = x.load_vec::<f64>();
            out.fill(values.iter().step_by(columns + 1).take(length).sum::<f64>())
        } else {
            let values = x.load_vec::<i64>();
            let diagonal = values.iter().step_by(columns + 1).take(length);
            out.fill(diagonal.fold(0i64, |sum, &value| sum.wrapping_add(value)))
        }
    }))
}
