//! FRACTAL_NZ: weights in blocks of 16 rows by 16 columns (32 for 8-bit integers), columns of blocks first.
//!
//! Knows where an element lies in that format; it must not know products. Extents that are no multiples of a block are refused:
//! their padding lies outside the bytes that the tensor's shape tells.

use crate::dtype::DType;
use crate::failure::Refusal;
use crate::kernel::{Call, Prepare, Work};
use crate::tensor::{Tensor, natural_strides};
use ndarray::ArrayD;

/// This family's ops.
pub(crate) const KERNELS: &[(&str, Prepare)] = &[("aclnnTransMatmulWeight", transform)];

/// `aclFormat` of the format.
const FRACTAL_NZ: i32 = 29;

/// Columns of a block.
fn block(dtype: DType) -> usize {
    if dtype.bits() == 8 { 32 } else { 16 }
}

/// Where the elements of a `rows` by `columns` matrix lie, in row-major order.
fn places(rows: usize, columns: usize, block: usize) -> Vec<usize> {
    (0..rows * columns)
        .map(|at| (at / columns, at % columns))
        .map(|(row, column)| (column / block * rows + row) * block + column % block)
        .collect()
}

fn whole_blocks(call: &Call, rows: usize, columns: usize, block: usize) -> Result<(), Refusal> {
    if rows.is_multiple_of(16) && columns.is_multiple_of(block) {
        return Ok(());
    }
    Err(call.unsupported(format!(
        "a weight of {rows} by {columns} is not made of whole blocks of 16 by {block}"
    )))
}

/// Whether the last two dims are swapped by strides; everything else must lie without gaps.
fn is_flipped(call: &Call, tensor: &Tensor) -> Result<bool, Refusal> {
    if tensor.is_contiguous() {
        return Ok(false);
    }
    let rank = tensor.rank();
    let mut shape = tensor.shape().to_vec();
    let mut strides = tensor.strides().to_vec();
    if rank >= 2 {
        shape.swap(rank - 2, rank - 1);
        strides.swap(rank - 2, rank - 1);
    }
    if strides == natural_strides(&shape) {
        return Ok(true);
    }
    Err(call.invalid(format!(
        "a weight of shape {:?} has strides {:?}, wanted a matrix without gaps or its transpose",
        tensor.shape(),
        tensor.strides()
    )))
}

/// The elements as they are stored: with the last two dims swapped back where strides swap them.
fn as_stored(tensor: &Tensor, flipped: bool) -> ArrayD<f32> {
    let mut values = tensor.load::<f32>();
    if flipped {
        values.swap_axes(tensor.rank() - 2, tensor.rank() - 1);
    }
    values
}

/// Each matrix of a stack with its elements moved by `source`: the place in the matrix that an element comes from.
fn moved(stored: &ArrayD<f32>, source: impl Fn(usize) -> usize) -> ArrayD<f32> {
    let size: usize = stored.shape().iter().rev().take(2).product();
    let values: Vec<f32> = stored.iter().copied().collect();
    let moved = (0..values.len())
        .map(|at| values[at / size * size + source(at % size)])
        .collect();
    ArrayD::from_shape_vec(stored.raw_dim(), moved).unwrap_or_else(|_| stored.clone())
}

/// Rearranges a weight in place; its handle goes on telling the shape.
fn transform(call: &Call) -> Result<Work, Refusal> {
    let weight = call.tensor(0)?;
    if weight.rank() < 2 {
        return Err(call.invalid(format!("shape {:?} holds no matrix", weight.shape())));
    }
    if weight.is_empty() {
        return Ok(Work::nothing());
    }
    let flipped = is_flipped(call, &weight)?;
    let block = block(weight.dtype());
    let [rows, columns] = extents(&weight, flipped);
    whole_blocks(call, rows, columns, block)?;
    Ok(Work::new(move || {
        let mut sources = vec![0; rows * columns];
        for (source, place) in places(rows, columns, block).into_iter().enumerate() {
            sources[place] = source;
        }
        let mut result = moved(&as_stored(&weight, flipped), |at| sources[at]);
        if flipped {
            result.swap_axes(weight.rank() - 2, weight.rank() - 1);
        }
        weight.store(&result)
    }))
}

/// Whether a tensor lies in the format: because it says so, or because the op takes no other.
pub(super) fn is_blocked(call: &Call, tensor: &Tensor) -> Result<bool, Refusal> {
    let asked = call.name().ends_with("WeightNz");
    if !asked && (tensor.format() != FRACTAL_NZ || tensor.rank() != 2) {
        return Ok(false);
    }
    let [rows, columns] = extents(tensor, is_flipped(call, tensor)?);
    whole_blocks(call, rows, columns, block(tensor.dtype()))?;
    Ok(true)
}

/// Rows and columns as they are stored.
fn extents(tensor: &Tensor, flipped: bool) -> [usize; 2] {
    match (tensor.shape(), flipped) {
        ([.., rows, columns], false) | ([.., columns, rows], true) => [*rows, *columns],
        _ => [0, 0],
    }
}

/// The matrices that a blocked tensor holds.
pub(super) fn unblocked(tensor: &Tensor) -> ArrayD<f32> {
    let flipped = !tensor.is_contiguous();
    let [rows, columns] = extents(tensor, flipped);
    let places = places(rows, columns, block(tensor.dtype()));
    let mut matrices = moved(&as_stored(tensor, flipped), |at| places[at]);
    if flipped {
        matrices.swap_axes(tensor.rank() - 2, tensor.rank() - 1);
    }
    matrices
}
