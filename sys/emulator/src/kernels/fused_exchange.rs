//! Later products of matrices fused with what ranks exchange: all to all, and products of bytes with factors.
//!
//! Knows the kernel interface and ranks; it must not know sockets, streams' queues or device memory.

use super::fused_collective::{Ranks, expect_mode};
use crate::dtype::DType;
use crate::failure::{Fault, Refusal};
use crate::hccl::kind::Reduction;
use crate::kernel::{Call, Family, Prepare, Work};
use crate::tensor::Tensor;
use ndarray::{Array2, Ix2};

/// This family's ops.
pub(crate) const KERNELS: &[(&str, Prepare)] = &[
    ("aclnnAllGatherMatmulV2", all_gather as Prepare),
    ("aclnnMatmulReduceScatterV2", reduce_scatter as Prepare),
    ("aclnnAlltoAllMatmul", |call| exchange_first(call, 0)),
    ("aclnnAlltoAllMatmulV2", |call| exchange_first(call, 1)),
    ("aclnnMatmulAlltoAll", |call| exchange_last(call, 0)),
    ("aclnnMatmulAlltoAllV2", |call| exchange_last(call, 1)),
    ("aclnnDistributeBarrier", |call| barrier(call, 1)),
    ("aclnnDistributeBarrierV2", |call| barrier(call, 3)),
];

/// A tensor that is given and holds something.
fn given(call: &Call, index: usize) -> Option<Tensor> {
    call.optional_tensor(index)
        .filter(|tensor| !tensor.is_empty())
}

/// A matrix with what is added to and multiplied with its products.
struct Weight {
    matrix: Tensor,
    transposed: bool,
    bias: Option<Tensor>,
    /// Factors of the columns.
    scale: Option<Tensor>,
    k: usize,
    n: usize,
}

impl Weight {
    fn of(call: &Call, x: &Tensor, transposed: bool, k: usize) -> Result<Weight, Refusal> {
        let (matrix, bias) = (call.tensor(1)?, given(call, 2));
        let &[mut rows, mut n] = matrix.shape() else {
            return Err(call.invalid(format!("x2 has shape {:?}, wanted 2 dims", matrix.shape())));
        };
        if transposed {
            (rows, n) = (n, rows);
        }
        if rows != k || k == 0 || n == 0 {
            return Err(call.invalid(format!("x2 has {rows} rows, wanted {k}")));
        }
        call.expect_dtype("x2", &matrix, &[x.dtype()])?;
        if let Some(bias) = &bias {
            call.expect_shape("bias", bias, &[n])?;
        }
        Ok(Weight {
            matrix,
            transposed,
            bias,
            scale: None,
            k,
            n,
        })
    }

    /// Rows times the matrix, in numbers that hold products of bytes exactly; `factors` are those of the rows.
    fn times(&self, rows: &[f32], factors: Option<&[f32]>) -> Result<Vec<f32>, Fault> {
        let failed = |error: ndarray::ShapeError| Fault::exception(error.to_string());
        let wide: Vec<f64> = rows.iter().map(|&value| f64::from(value)).collect();
        let rows = Array2::from_shape_vec((wide.len() / self.k, self.k), wide).map_err(failed)?;
        let matrix = self.matrix.load::<f64>();
        let mut matrix = matrix.into_dimensionality::<Ix2>().map_err(failed)?;
        if self.transposed {
            matrix = matrix.reversed_axes();
        }
        let mut result = rows.dot(&matrix);
        if let Some(bias) = &self.bias {
            result += &ndarray::Array1::from(bias.load_vec::<f64>());
        }
        let scale = self.scale.as_ref().map(|scale| scale.load_vec::<f64>());
        for ((row, column), value) in result.indexed_iter_mut() {
            *value *= scale.as_ref().map_or(1.0, |scale| scale[column]);
            *value *= factors.map_or(1.0, |factors| f64::from(factors[row]));
        }
        Ok(result.iter().map(|&value| value as f32).collect())
    }
}

fn matrix_of(call: &Call) -> Result<(Tensor, usize, usize), Refusal> {
    let x = call.tensor(0)?;
    match x.shape() {
        &[m, k] if m > 0 && k > 0 => Ok((x, m, k)),
        shape => Err(call.invalid(format!("x1 has shape {shape:?}, wanted 2 dims"))),
    }
}

/// What the gathered and the scattered product share: rows, their factors, the matrix.
fn quantised(call: &Call) -> Result<(Tensor, Option<Tensor>, Weight), Refusal> {
    let (x, m, k) = matrix_of(call)?;
    let mut weight = Weight::of(call, &x, false, k)?;
    let (own, columns) = (given(call, 3), given(call, 4));
    if given(call, 5).is_some() {
        return Err(call.invalid("quantScale is given, wanted none"));
    }
    expect_mode(call, 10)?;
    let mode = call.text(12)?;
    if call.family() != Family::A950 && mode != "aiv" {
        return Err(call.invalid(format!("commMode is {mode:?}, wanted aiv")));
    }
    match x.dtype() {
        DType::F16 | DType::Bf16 if own.is_none() && columns.is_none() => {}
        DType::F16 | DType::Bf16 => return Err(call.invalid("halves take no factors")),
        DType::I8 => {
            let Some(columns) = columns else {
                return Err(call.invalid("products of bytes need x2Scale"));
            };
            if columns.dtype() != DType::F32 {
                return Err(call.unsupported("x2Scale as packed integers has no kernel here"));
            }
            // The manual wants [1, n] and [m, 1], its examples leave the dims of one out.
            if columns.shape() != [weight.n] {
                call.expect_shape("x2Scale", &columns, &[1, weight.n])?;
            }
            if let Some(own) = own.as_ref().filter(|own| own.shape() != [m]) {
                call.expect_shape("x1Scale", own, &[m, 1])?;
            }
            weight.scale = Some(columns);
        }
        other => return Err(call.unsupported(format!("{other} has no kernel here"))),
    }
    Ok((x, own, weight))
}

fn said(weight: &Weight, x: &Tensor) -> String {
    format!("{} by {} of {}", weight.k, weight.n, x.dtype())
}

/// All ranks' rows times this rank's matrix.
fn all_gather(call: &Call) -> Result<Work, Refusal> {
    let (x, own, weight) = quantised(call)?;
    if call.int(8)? != 0 {
        return Err(call.invalid(format!("gatherIndex is {}, wanted 0", call.int(8)?)));
    }
    let (out, gathered) = (call.tensor(13)?, given(call, 14));
    // Every rank gathers what fits in an f32: halves and bytes do.
    let ranks = Ranks::of(call, 7, None, DType::F32, said(&weight, &x))?;
    let rows = x.shape()[0] * ranks.count();
    call.expect_shape("output", &out, &[rows, weight.n])?;
    if x.dtype() != DType::I8 {
        call.expect_dtype("output", &out, &[x.dtype()])?;
    }
    if let Some(gathered) = &gathered {
        call.expect_shape("gatherOut", gathered, &[rows, weight.k])?;
        call.expect_dtype("gatherOut", gathered, &[x.dtype()])?;
    }
    Ok(Work::waiting(move || {
        let mut sent = x.load_vec::<f32>();
        let count = sent.len();
        sent.extend(own.as_ref().map_or(Vec::new(), Tensor::load_vec::<f32>));
        let bytes = ranks.bytes(sent.into_iter());
        let parts = ranks.turn(|turn| turn.all_gather(&bytes))?;
        let (mut rows, mut factors) = (Vec::new(), Vec::new());
        for part in &parts {
            let values = ranks.values(part);
            let (own, more) = values.split_at(count.min(values.len()));
            rows.extend_from_slice(own);
            factors.extend_from_slice(more);
        }
        if let Some(gathered) = &gathered {
            gathered.store_slice(&rows)?;
        }
        let factors = own.as_ref().map(|_| factors.as_slice());
        out.store_slice(&weight.times(&rows, factors)?)
    }))
}

/// This rank's rows of the sum over all ranks of their products.
fn reduce_scatter(call: &Call) -> Result<Work, Refusal> {
    let (x, own, weight) = quantised(call)?;
    let out = call.tensor(13)?;
    let ranks = Ranks::of(call, 7, Some(8), out.dtype(), said(&weight, &x))?;
    let (m, count) = (x.shape()[0], ranks.count());
    if !m.is_multiple_of(count) {
        return Err(call.invalid(format!("{m} rows for {count} ranks")));
    }
    call.expect_shape("output", &out, &[m / count, weight.n])?;
    if x.dtype() != DType::I8 {
        call.expect_dtype("output", &out, &[x.dtype()])?;
    }
    Ok(Work::waiting(move || {
        let factors = own.as_ref().map(Tensor::load_vec::<f32>);
        let result = weight.times(&x.load_vec::<f32>(), factors.as_deref())?;
        let bytes = ranks.bytes(result.into_iter());
        let parts: Vec<&[u8]> = bytes.chunks_exact(bytes.len() / count).collect();
        let sums = ranks.turn(|turn| turn.reduce_scatter(&parts, ranks.wire, Reduction::Sum))?;
        out.store_slice(&ranks.values(&sums))
    }))
}

/// What products before and after an exchange share: `[-2, -1]` or `[-1, -2]`, flags of transposition.
fn expect_axes(call: &Call, wanted: [i64; 2], later: usize) -> Result<bool, Refusal> {
    let axes = call.optional_ints(3).filter(|axes| !axes.is_empty());
    if axes.is_some_and(|axes| axes != wanted) {
        return Err(call.invalid(format!("alltoAllAxes are {axes:?}, wanted {wanted:?}")));
    }
    if call.bool(5 + later)? {
        return Err(call.invalid("transposeX1 is true, wanted false"));
    }
    call.bool(6 + later)
}

/// Rows exchanged so that each rank has a part of them, of all ranks' columns; then times the matrix.
fn exchange_first(call: &Call, later: usize) -> Result<Work, Refusal> {
    let (x, m, h) = matrix_of(call)?;
    let transposed = expect_axes(call, [-2, -1], later)?;
    let (out, kept) = (call.tensor(7 + later)?, given(call, 8 + later));
    let told = format!("{h} columns of {}", x.dtype());
    let ranks = Ranks::of(call, 4, None, x.dtype(), told)?;
    let count = ranks.count();
    if !m.is_multiple_of(count) {
        return Err(call.invalid(format!("{m} rows for {count} ranks")));
    }
    let weight = Weight::of(call, &x, transposed, h * count)?;
    call.expect_shape("output", &out, &[m / count, weight.n])?;
    call.expect_dtype("output", &out, &[x.dtype()])?;
    if let Some(kept) = &kept {
        call.expect_shape("alltoAllOut", kept, &[m / count, h * count])?;
        call.expect_dtype("alltoAllOut", kept, &[x.dtype()])?;
    }
    Ok(Work::waiting(move || {
        let bytes = ranks.bytes(x.load_vec::<f32>().into_iter());
        let size = bytes.len() / count;
        let parts: Vec<&[u8]> = bytes.chunks_exact(size).collect();
        let parts = ranks.turn(|turn| turn.all_to_all(&parts, &vec![size; count]))?;
        let parts: Vec<Vec<f32>> = parts.iter().map(|part| ranks.values(part)).collect();
        let rows: Vec<f32> = (0..m / count)
            .flat_map(|row| parts.iter().map(move |part| &part[row * h..][..h]))
            .flatten()
            .copied()
            .collect();
        if let Some(kept) = &kept {
            kept.store_slice(&rows)?;
        }
        out.store_slice(&weight.times(&rows, None)?)
    }))
}

/// Products of which each rank gets a part of the columns, of all ranks' rows.
fn exchange_last(call: &Call, later: usize) -> Result<Work, Refusal> {
    let (x, m, k) = matrix_of(call)?;
    let transposed = expect_axes(call, [-1, -2], later)?;
    let out = call.tensor(7 + later)?;
    let weight = Weight::of(call, &x, transposed, k)?;
    let told = format!("{m} by {} of {}", weight.n, x.dtype());
    let ranks = Ranks::of(call, 4, None, x.dtype(), told)?;
    let (n, count) = (weight.n, ranks.count());
    if !n.is_multiple_of(count) {
        return Err(call.invalid(format!("{n} columns for {count} ranks")));
    }
    let width = n / count;
    call.expect_shape("output", &out, &[m * count, width])?;
    call.expect_dtype("output", &out, &[x.dtype()])?;
    Ok(Work::waiting(move || {
        let result = weight.times(&x.load_vec::<f32>(), None)?;
        let column = |part: usize| {
            let lines = result.chunks_exact(n);
            let own = lines.flat_map(move |line| line[part * width..][..width].iter().copied());
            ranks.bytes(own)
        };
        let parts: Vec<Vec<u8>> = (0..count).map(column).collect();
        let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
        let sizes: Vec<usize> = parts.iter().map(|part| part.len()).collect();
        let parts = ranks.turn(|turn| turn.all_to_all(&parts, &sizes))?;
        let all: Vec<f32> = parts.iter().flat_map(|part| ranks.values(part)).collect();
        out.store_slice(&all)
    }))
}

/// Nobody passes before all ranks came; the tensor stays as it is.
fn barrier(call: &Call, group: usize) -> Result<Work, Refusal> {
    call.tensor(0)?;
    if group > 1 && (call.optional_tensor(1).is_some() || call.optional_tensor(2).is_some()) {
        return Err(call.unsupported("a time-out or ranks that leave have no kernel here"));
    }
    let ranks = Ranks::of(call, group, None, DType::F32, String::from("all ranks"))?;
    let size = call.int(group + 1)?;
    if usize::try_from(size) != Ok(ranks.count()) {
        return Err(call.invalid(format!(
            "worldSize is {size}, the communicator has {} ranks",
            ranks.count()
        )));
    }
    Ok(Work::waiting(move || {
        ranks.turn(crate::hccl::collective::Turn::barrier)
    }))
}
