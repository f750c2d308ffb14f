//! Reading by index: embedding, index select, gather in its forms, take.
//!
//! Knows the kernel interface; it must not know streams, handles or device memory. An index out of range is a device exception.

use super::common::{
    Lanes, by_class, checked_index, same_dtype, size_of, strided_positions, volume, wrapped_index,
};
use crate::failure::{Fault, Refusal};
use crate::kernel::{Call, Prepare, Work};
use crate::number::Number;
use crate::tensor::{Tensor, natural_strides};
use ndarray::Axis;

/// This family's ops.
pub(crate) const KERNELS: &[(&str, Prepare)] = &[
    ("aclnnEmbedding", embedding as Prepare),
    ("aclnnEmbeddingDenseBackward", embedding_backward as Prepare),
    ("aclnnIndexSelect", index_select as Prepare),
    ("aclnnGather", gather as Prepare),
    ("aclnnGatherV2", gather_rows as Prepare),
    ("aclnnGatherV3", gather_rows as Prepare),
    ("aclnnGatherNd", gather_nd as Prepare),
    ("aclnnTake", take as Prepare),
];

/// Copies elements of `x` at the positions that `place` finds when the kernel runs.
fn copy_at(
    call: &Call,
    x: Tensor,
    out: Tensor,
    place: impl Fn() -> Result<Vec<usize>, Fault> + Send + 'static,
) -> Result<Work, Refusal> {
    same_dtype(call, "out", &out, &x)?;
    if out.is_empty() {
        return Ok(Work::nothing());
    }
    by_class!(x.dtype(), T => Ok(Work::new(move || {
        let values = x.load_vec::<T>();
        let picked: Vec<T> = place()?.into_iter().map(|position| values[position]).collect();
        out.store_slice(&picked)
    })), Err(call.unsupported(format!("no kernel for {}", x.dtype()))))
}

/// Whole slices of `x` along `axis`, read without a copy of `x` where its type allows it.
fn select<T: Number>(
    op: &str,
    x: &Tensor,
    axis: usize,
    index: &Tensor,
    out: &Tensor,
) -> Result<(), Fault> {
    let view = x.read::<T>();
    let limit = view.len_of(Axis(axis));
    let rows = index
        .load_vec::<i64>()
        .into_iter()
        .map(|index| checked_index(op, index, limit))
        .collect::<Result<Vec<_>, _>>()?;
    out.store(&view.select(Axis(axis), &rows))
}

/// `out[i] = weight[indices[i]]`.
fn embedding(call: &Call) -> Result<Work, Refusal> {
    let (weight, indices, out) = (call.tensor(0)?, call.tensor(1)?, call.tensor(2)?);
    let &[_, width] = weight.shape() else {
        return Err(call.invalid(format!(
            "weight has shape {:?}, wanted 2 dims",
            weight.shape()
        )));
    };
    let mut shape = indices.shape().to_vec();
    shape.push(width);
    call.expect_shape("out", &out, &shape)?;
    same_dtype(call, "out", &out, &weight)?;
    if out.is_empty() {
        return Ok(Work::nothing());
    }
    let op = call.name();
    by_class!(weight.dtype(), T =>
        Ok(Work::new(move || select::<T>(op, &weight, 0, &indices, &out))),
        Err(call.unsupported(format!("no kernel for {}", weight.dtype()))))
}

/// `out[indices[i]] += grad[i]`, without the row `paddingIdx`, optionally divided by how often an index occurs.
fn embedding_backward(call: &Call) -> Result<Work, Refusal> {
    let (grad, indices, out) = (call.tensor(0)?, call.tensor(1)?, call.tensor(5)?);
    let rows = size_of(call, "numWeights", call.int(2)?, 0)?;
    let (padding, by_frequency) = (call.int(3)?, call.bool(4)?);
    let Some((&width, lead)) = grad.shape().split_last() else {
        return Err(call.invalid("grad is a scalar"));
    };
    if volume(lead) != indices.count() {
        return Err(call.invalid(format!(
            "grad has shape {:?}, indices {:?}",
            grad.shape(),
            indices.shape()
        )));
    }
    call.expect_shape("out", &out, &[rows, width])?;
    if out.is_empty() {
        return Ok(Work::nothing());
    }
    let (op, order) = (call.name(), call.order());
    Ok(Work::new(move || {
        let indices = indices.load_vec::<i64>();
        let grads = grad.load_vec::<f32>();
        let mut counts = vec![0u32; rows];
        let mut sums = vec![0f32; rows * width];
        for row in order.of(indices.len()) {
            let index = indices[row];
            if index == padding {
                continue;
            }
            let target = checked_index(op, index, rows)?;
            counts[target] += 1;
            let grad = &grads[row * width..(row + 1) * width];
            for (sum, &value) in sums[target * width..].iter_mut().zip(grad) {
                *sum += value;
            }
        }
        if by_frequency {
            for (row, &count) in sums.chunks_exact_mut(width).zip(&counts) {
                row.iter_mut().for_each(|sum| *sum /= count.max(1) as f32);
            }
        }
        out.store_slice(&sums)
    }))
}

/// `out` is `self` with the slices along `dim` that a vector of indices names.
fn index_select(call: &Call) -> Result<Work, Refusal> {
    let (x, index, out) = (call.tensor(0)?, call.tensor(2)?, call.tensor(3)?);
    let axis = call.axis(call.int(1)?, x.rank())?;
    if index.rank() > 1 {
        return Err(call.invalid(format!("index has shape {:?}, wanted 1 dim", index.shape())));
    }
    let mut shape = x.shape().to_vec();
    if let Some(dim) = shape.get_mut(axis) {
        *dim = index.count();
    }
    call.expect_shape("out", &out, &shape)?;
    same_dtype(call, "out", &out, &x)?;
    if out.is_empty() {
        return Ok(Work::nothing());
    }
    let op = call.name();
    if x.rank() == 0 {
        return copy_at(call, x, out, move || {
            let index = index.load_vec::<i64>();
            index
                .into_iter()
                .map(|index| checked_index(op, index, 1))
                .collect()
        });
    }
    by_class!(x.dtype(), T =>
        Ok(Work::new(move || select::<T>(op, &x, axis, &index, &out))),
        Err(call.unsupported(format!("no kernel for {}", x.dtype()))))
}

/// Where the elements that an index tensor names along `axis` lie in a contiguous array of shape `shape`.
pub(crate) fn element_positions(
    op: &str,
    shape: &[usize],
    axis: usize,
    index: &Tensor,
) -> Result<Vec<usize>, Fault> {
    let limit = shape.get(axis).copied().unwrap_or(1);
    let mut strides = natural_strides(shape);
    let step = strides.get(axis).copied().unwrap_or(1);
    if let Some(stride) = strides.get_mut(axis) {
        *stride = 0;
    }
    let starts = if index.rank() == shape.len() {
        strided_positions(index.shape(), &strides)
    } else {
        vec![0; index.count()]
    };
    starts
        .into_iter()
        .zip(index.load_vec::<i64>())
        .map(|(start, index)| Ok(start + checked_index(op, index, limit)? * step))
        .collect()
}

/// Refuses an index tensor of another rank than `x`, or larger than it in a dim that is not `axis`.
pub(crate) fn expect_element_index(
    call: &Call,
    shape: &[usize],
    axis: usize,
    index: &Tensor,
) -> Result<(), Refusal> {
    let fits = index.rank().max(1) == shape.len().max(1)
        && index
            .shape()
            .iter()
            .zip(shape)
            .enumerate()
            .all(|(dim, (index, own))| dim == axis || index <= own);
    if fits || index.is_empty() {
        return Ok(());
    }
    Err(call.invalid(format!(
        "index has shape {:?}, which does not fit {shape:?} outside dim {axis}",
        index.shape()
    )))
}

/// `out[i][j] = self[index[i][j]][j]` for `dim` 0, and so on.
fn gather(call: &Call) -> Result<Work, Refusal> {
    let (x, index, out) = (call.tensor(0)?, call.tensor(2)?, call.tensor(3)?);
    let axis = call.axis(call.int(1)?, x.rank())?;
    expect_element_index(call, x.shape(), axis, &index)?;
    call.expect_shape("out", &out, index.shape())?;
    let (op, shape) = (call.name(), x.shape().to_vec());
    copy_at(call, x, out, move || {
        element_positions(op, &shape, axis, &index)
    })
}

/// Slices along `dim` in the order of an index tensor of any rank, whose dims replace `dim`; V3 shares leading batch dims. The
/// manual is silent about negative indices, its example counts with them from the end.
fn gather_rows(call: &Call) -> Result<Work, Refusal> {
    let (x, index) = (call.tensor(0)?, call.tensor(2)?);
    let axis = call.axis(call.int(1)?, x.rank())?;
    let batched = call.name() == "aclnnGatherV3";
    let batch = if batched {
        call.axis(call.int(3)?, index.rank() + 1)?
    } else {
        0
    };
    let out = call.tensor(call.count() - 1)?;
    if batch > axis || x.shape().get(..batch) != index.shape().get(..batch) {
        return Err(call.invalid(format!(
            "batchDims is {batch} with dim {axis}, self {:?}, index {:?}",
            x.shape(),
            index.shape()
        )));
    }
    let lanes = Lanes::new(x.shape(), axis);
    let mut shape = x.shape().get(..axis).unwrap_or(&[]).to_vec();
    shape.extend_from_slice(&index.shape()[batch..]);
    shape.extend_from_slice(x.shape().get(axis + 1..).unwrap_or(&[]));
    call.expect_shape("out", &out, &shape)?;
    let batches = volume(&x.shape()[..batch]);
    let (op, outer) = (call.name(), lanes.outer / batches.max(1));
    copy_at(call, x, out, move || {
        let rows = index
            .load_vec::<i64>()
            .into_iter()
            .map(|index| wrapped_index(op, index, lanes.length))
            .collect::<Result<Vec<_>, _>>()?;
        let per_batch = rows.len() / batches.max(1);
        let mut positions = Vec::new();
        for block in 0..lanes.outer {
            let first = block / outer.max(1) * per_batch;
            for &row in &rows[first..first + per_batch] {
                let start = (block * lanes.length + row) * lanes.inner;
                positions.extend(start..start + lanes.inner);
            }
        }
        Ok(positions)
    })
}

/// Where the slices that rows of coordinates name begin, and how long each is.
pub(crate) fn coordinate_starts(
    op: &str,
    shape: &[usize],
    indices: &Tensor,
    wrap: bool,
) -> Result<Vec<usize>, Fault> {
    let depth = indices.shape().last().copied().unwrap_or(0);
    let strides = natural_strides(shape);
    let values = indices.load_vec::<i64>();
    if depth == 0 {
        return Ok(vec![
            0;
            volume(
                &indices.shape()[..indices.rank().saturating_sub(1)]
            )
        ]);
    }
    values
        .chunks_exact(depth)
        .map(|row| {
            let mut start = 0;
            for (axis, &index) in row.iter().enumerate() {
                let find = if wrap { wrapped_index } else { checked_index };
                start += find(op, index, shape[axis])? * strides[axis];
            }
            Ok(start)
        })
        .collect()
}

/// The shape of what coordinates name: their leading dims, then the dims that they leave.
pub(crate) fn coordinate_shape(
    call: &Call,
    shape: &[usize],
    indices: &Tensor,
) -> Result<Vec<usize>, Refusal> {
    let Some((&depth, lead)) = indices.shape().split_last() else {
        return Err(call.invalid("indices is a scalar"));
    };
    let Some(rest) = shape.get(depth..) else {
        return Err(call.invalid(format!("{depth} coordinates for a shape of {shape:?}")));
    };
    Ok([lead, rest].concat())
}

/// Slices that rows of coordinates name.
fn gather_nd(call: &Call) -> Result<Work, Refusal> {
    let (x, indices, out) = (call.tensor(0)?, call.tensor(1)?, call.tensor(3)?);
    let wrap = call.bool(2)?;
    let shape = coordinate_shape(call, x.shape(), &indices)?;
    call.expect_shape("out", &out, &shape)?;
    let (op, own) = (call.name(), x.shape().to_vec());
    let depth = indices.shape().last().copied().unwrap_or(0);
    let width = volume(own.get(depth..).unwrap_or(&[]));
    copy_at(call, x, out, move || {
        let starts = coordinate_starts(op, &own, &indices, wrap)?;
        Ok(starts
            .into_iter()
            .flat_map(|start| start..start + width)
            .collect())
    })
}

/// `out[i] = self.flatten()[index[i]]`; negative indices count from the end.
fn take(call: &Call) -> Result<Work, Refusal> {
    let (x, index, out) = (call.tensor(0)?, call.tensor(1)?, call.tensor(2)?);
    call.expect_shape("out", &out, index.shape())?;
    let (op, limit) = (call.name(), x.count());
    copy_at(call, x, out, move || {
        let index = index.load_vec::<i64>();
        index
            .into_iter()
            .map(|index| wrapped_index(op, index, limit))
            .collect()
    })
}
