//! Where the heads of queries, keys and values lie: in four layouts of fixed length, or packed sample after sample.
//!
//! Knows the kernel interface and ndarray; it must not know masks, softmax, streams or device memory.

use crate::failure::{Fault, Refusal};
use crate::kernel::Call;
use crate::tensor::Tensor;
use ndarray::{Array2, Axis, concatenate};

/// Where the heads of a tensor lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Heads {
    pub batch: usize,
    pub heads: usize,
    pub rows: usize,
    pub width: usize,
    /// Strides of batch, head and row.
    strides: [usize; 3],
}

impl Heads {
    /// From a shape in one of the four layouts; `heads` is needed where heads and width share a dim.
    pub fn new(
        call: &Call,
        shape: &[usize],
        layout: &str,
        width: Option<usize>,
        heads: usize,
    ) -> Result<Heads, Refusal> {
        let refuse = || {
            call.invalid(format!(
                "shape {shape:?} is not {layout} with {heads} heads"
            ))
        };
        let (batch, rows, heads, width) = match (layout, shape) {
            ("BSH" | "SBH", &[first, second, joint]) => {
                let width = width.unwrap_or(joint / heads.max(1));
                if width == 0 || !joint.is_multiple_of(width) {
                    return Err(refuse());
                }
                let (batch, rows) = if layout == "BSH" {
                    (first, second)
                } else {
                    (second, first)
                };
                (batch, rows, joint / width, width)
            }
            ("BSND", &[batch, rows, heads, width]) => (batch, rows, heads, width),
            ("BNSD", &[batch, heads, rows, width]) => (batch, rows, heads, width),
            _ => return Err(refuse()),
        };
        let joint = heads * width;
        let strides = match layout {
            "SBH" => [joint, width, batch * joint],
            "BNSD" => [rows * joint, rows * width, width],
            _ => [rows * joint, width, joint],
        };
        Ok(Heads {
            batch,
            heads,
            rows,
            width,
            strides,
        })
    }

    fn start(&self, batch: usize, head: usize, row: usize) -> usize {
        batch * self.strides[0] + head * self.strides[1] + row * self.strides[2]
    }

    pub fn gather(&self, values: &[f32], batch: usize, head: usize) -> Array2<f32> {
        let mut matrix = Array2::zeros((self.rows, self.width));
        for (row, mut target) in matrix.outer_iter_mut().enumerate() {
            let start = self.start(batch, head, row);
            for (target, &value) in target.iter_mut().zip(&values[start..start + self.width]) {
                *target = value;
            }
        }
        matrix
    }

    pub fn add(&self, values: &mut [f32], batch: usize, head: usize, matrix: &Array2<f32>) {
        for (row, source) in matrix.outer_iter().enumerate() {
            let start = self.start(batch, head, row);
            for (target, &value) in values[start..start + self.width].iter_mut().zip(source) {
                *target += value;
            }
        }
    }
}

/// Queries, keys or values of one kind: `[rows, heads, width]`.
#[derive(Debug, Clone)]
pub(super) struct Packed {
    pub parts: Vec<Tensor>,
    pub heads: usize,
    pub width: usize,
}

impl Packed {
    pub fn new(call: &Call, index: usize, rope: Option<usize>) -> Result<Packed, Refusal> {
        let plain = call.tensor(index)?;
        let rope = rope
            .and_then(|rope| call.optional_tensor(rope))
            .filter(|rope| !rope.is_empty());
        let &[rows, heads, mut width] = plain.shape() else {
            return Err(call.invalid(format!("shape {:?} is not TND", plain.shape())));
        };
        let mut parts = vec![plain];
        if let Some(rope) = rope {
            match rope.shape() {
                [more_rows, more_heads, more] if (*more_rows, *more_heads) == (rows, heads) => {
                    width += more;
                }
                shape => return Err(call.invalid(format!("the rotary part has shape {shape:?}"))),
            }
            parts.push(rope);
        }
        Ok(Packed {
            parts,
            heads,
            width,
        })
    }

    pub fn rows(&self) -> usize {
        self.parts[0].shape()[0]
    }

    /// All values, rotary parts after the plain ones: rows of `heads * width`.
    pub fn load(&self) -> Result<Array2<f32>, Fault> {
        let rows = self.rows() * self.heads;
        let parts: Vec<Array2<f32>> = self
            .parts
            .iter()
            .map(|part| Array2::from_shape_vec((rows, part.shape()[2]), part.load_vec()))
            .collect::<Result<_, _>>()
            .map_err(|error| Fault::exception(error.to_string()))?;
        let views: Vec<_> = parts.iter().map(|part| part.view()).collect();
        concatenate(Axis(1), &views).map_err(|error| Fault::exception(error.to_string()))
    }

    /// Writes a gradient back into tensors like the parts.
    pub fn store(&self, targets: &[Tensor], values: &Array2<f32>) -> Result<(), Fault> {
        let mut from = 0;
        for (part, target) in self.parts.iter().zip(targets) {
            let to = from + part.shape()[2];
            target.store(&values.slice(ndarray::s![.., from..to]))?;
            from = to;
        }
        Ok(())
    }
}

/// One sample's and head's rows of all values.
pub(super) fn lines(
    values: &Array2<f32>,
    rows: &std::ops::Range<usize>,
    heads: usize,
    head: usize,
) -> Array2<f32> {
    let picked: Vec<usize> = rows.clone().map(|row| row * heads + head).collect();
    values.select(Axis(0), &picked)
}

pub(super) fn add_lines(
    target: &mut Array2<f32>,
    rows: &std::ops::Range<usize>,
    heads: usize,
    head: usize,
    part: &Array2<f32>,
) {
    for (row, line) in rows.clone().zip(part.outer_iter()) {
        let mut target = target.row_mut(row * heads + head);
        target += &line;
    }
}
