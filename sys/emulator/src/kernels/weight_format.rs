//! FRACTAL_NZ: weights in blocks of 16 rows by 16 columns (32 for 8-bit integers), columns of blocks first.
//!
//! Knows where an element lies in that format; it must not know products. Extents that are no multiples of a block are refused:
//! their padding lies outside the bytes that the tensor's shape tells.

use crate::dtype::DType;
use crate::failure::Refusal;
use crate::kernel::{Call, Prepare, Work};
use crate::tensor::Tensor;
use ndarray::{ArrayD, IxDyn};

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

/// Rearranges a weight in place; its handle goes on telling the shape.
fn transform(call: &Call) -> Result<Work, Refusal> {
    let weight = call.tensor(0)?;
    let [.., rows, columns] = *weight.shape() else {
        return Err(call.invalid(format!("shape {:?} holds no matrix", weight.shape())));
    };
    if weight.is_empty() {
        return Ok(Work::nothing());
    }
    if !weight.is_contiguous() {
        return Err(call.invalid("mmWeightRef must be contiguous"));
    }
    let block = block(weight.dtype());
    whole_blocks(call, rows, columns, block)?;
    Ok(Work::new(move || {
        let values = weight.load_vec::<f32>();
        let places = places(rows, columns, block);
        let mut result = vec![0f32; values.len()];
        let matrices = result
            .chunks_mut(rows * columns)
            .zip(values.chunks(rows * columns));
        for (target, source) in matrices {
            for (&place, &value) in places.iter().zip(source) {
                target[place] = value;
            }
        }
        weight.store_slice(&result)
    }))
}

/// Whether a tensor lies in the format; its last two dims may be swapped by strides, and must be whole blocks.
pub(super) fn is_blocked(call: &Call, tensor: &Tensor) -> Result<bool, Refusal> {
    if tensor.format() != FRACTAL_NZ || tensor.rank() != 2 {
        return Ok(false);
    }
    let [rows, columns] = stored(tensor);
    whole_blocks(call, rows, columns, block(tensor.dtype()))?;
    Ok(true)
}

/// Extents as they are stored.
fn stored(tensor: &Tensor) -> [usize; 2] {
    let (rows, columns) = (tensor.shape()[0], tensor.shape()[1]);
    if tensor.is_contiguous() {
        [rows, columns]
    } else {
        [columns, rows]
    }
}

/// The matrix that a blocked tensor holds.
pub(super) fn unblocked(tensor: &Tensor) -> ArrayD<f32> {
    let [rows, columns] = stored(tensor);
    let values = if tensor.is_contiguous() {
        tensor.load_vec::<f32>()
    } else {
        tensor
            .load::<f32>()
            .reversed_axes()
            .iter()
            .copied()
            .collect()
    };
    let places = places(rows, columns, block(tensor.dtype()));
    let matrix = ArrayD::from_shape_fn(IxDyn(&[rows, columns]), |at| {
        values[places[at[0] * columns + at[1]]]
    });
    if tensor.is_contiguous() {
        matrix
    } else {
        matrix.reversed_axes()
    }
}
