//! Ops that take tensors apart into windows or chunks, or put them back: the gradient of unfold, chunks joined.
//!
//! Knows shapes and positions; it must not know streams, handles or device memory.

use super::common::{Lanes, size_of, volume};
use crate::failure::Refusal;
use crate::kernel::{Call, Prepare, Work};
use crate::tensor::Tensor;

/// This family's ops.
pub(crate) const KERNELS: &[(&str, Prepare)] = &[
    ("aclnnUnfoldGrad", unfold_grad),
    ("aclnnChunkCat", chunk_cat),
];

/// Each element of a window goes back to where it came from; windows that overlap add up.
fn unfold_grad(call: &Call) -> Result<Work, Refusal> {
    let (dy, sizes, dx) = (call.tensor(0)?, call.ints(1)?, call.tensor(5)?);
    let shape: Vec<usize> = sizes
        .iter()
        .filter_map(|&dim| usize::try_from(dim).ok())
        .collect();
    call.expect_shape("gradIn", &dx, &shape)?;
    let axis = call.axis(call.int(2)?, shape.len())?;
    let size = size_of(call, "size", call.int(3)?, 1)?;
    let step = size_of(call, "step", call.int(4)?, 1)?;
    let lanes = Lanes::new(&shape, axis);
    let windows = match lanes.length.checked_sub(size) {
        Some(rest) => rest / step + 1,
        None => return Err(call.invalid(format!("size is {size}, the dim {}", lanes.length))),
    };
    let mut wanted = shape.clone();
    if let Some(dim) = wanted.get_mut(axis) {
        *dim = windows;
    }
    wanted.push(size);
    call.expect_shape("gradOut", &dy, &wanted)?;
    Ok(Work::new(move || {
        let dy = dy.load_vec::<f32>();
        let mut result = vec![0f32; dx.count()];
        for outer in 0..lanes.outer {
            for window in 0..windows {
                for inner in 0..lanes.inner {
                    let from = ((outer * windows + window) * lanes.inner + inner) * size;
                    for part in 0..size {
                        let row = window * step + part;
                        let to = (outer * lanes.length + row) * lanes.inner + inner;
                        result[to] += dy[from + part];
                    }
                }
            }
        }
        dx.store_slice(&result)
    }))
}

/// Each tensor's first dim is cut into equal chunks (with zeros at the end), which are joined chunk by chunk.
fn chunk_cat(call: &Call) -> Result<Work, Refusal> {
    let (tensors, out) = (call.tensors(0)?, call.tensor(3)?);
    let dim = call.int(1)?;
    if dim != 0 {
        return Err(call.unsupported(format!("dim is {dim}, wanted 0")));
    }
    let chunks = size_of(call, "numChunks", call.int(2)?, 1)?;
    let width = |tensor: &Tensor| match tensor.shape() {
        [rows, rest @ ..] => rows.div_ceil(chunks) * volume(rest),
        [] => 1,
    };
    let widths: Vec<usize> = tensors.iter().map(width).collect();
    call.expect_shape("out", &out, &[chunks, widths.iter().sum()])?;
    Ok(Work::new(move || {
        let values: Vec<Vec<f32>> = tensors.iter().map(Tensor::load_vec).collect();
        let mut result = Vec::with_capacity(out.count());
        for chunk in 0..chunks {
            for (values, &width) in values.iter().zip(&widths) {
                let part = (chunk * width)..((chunk + 1) * width);
                result.extend(part.map(|at| values.get(at).copied().unwrap_or(0.0)));
            }
        }
        out.store_slice(&result)
    }))
}
