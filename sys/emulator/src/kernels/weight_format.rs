//! FRACTAL_NZ: weights in blocks of 16 rows by 32 bytes of columns, columns of blocks first, padded with zeros to whole blocks.
//!
//! Knows where an element lies in that format and how to get there and back; it must not know products.

use crate::dtype::DType;
use crate::failure::Refusal;
use crate::kernel::{Call, Prepare, Work};
use crate::memory::{self, Missing};
use crate::tensor::{Tensor, natural_strides};
use ndarray::{ArrayD, IxDyn};

/// This family's ops.
pub(crate) const KERNELS: &[(&str, Prepare)] = &[
    ("aclnnTransMatmulWeight", transform as Prepare),
    ("aclnnNpuFormatCast", cast as Prepare),
];

/// `aclFormat` of the format.
const FRACTAL_NZ: i32 = 29;
const ROWS: usize = 16;

/// Whether a format is this one; 50 and 51 name their columns.
fn is_nz(format: i32) -> bool {
    matches!(format, FRACTAL_NZ | 50 | 51)
}

/// Matrices in blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Blocks {
    /// How many matrices there are.
    count: usize,
    rows: usize,
    columns: usize,
    /// Columns of a block.
    wide: usize,
}

impl Blocks {
    /// Those of matrices of a shape.
    fn of(shape: &[usize], wide: usize) -> Option<Blocks> {
        let [lead @ .., rows, columns] = shape else {
            return None;
        };
        Some(Blocks {
            count: lead.iter().product(),
            rows: *rows,
            columns: *columns,
            wide: wide.max(1),
        })
    }

    fn padded(&self) -> [usize; 2] {
        [
            self.rows.next_multiple_of(ROWS),
            self.columns.next_multiple_of(self.wide),
        ]
    }

    /// Elements with the padding.
    fn len(&self) -> usize {
        self.count * self.padded().iter().product::<usize>()
    }

    /// The shape by which they are stored.
    fn shape(&self, lead: &[usize]) -> Vec<usize> {
        let [rows, columns] = self.padded();
        let mut shape = lead.to_vec();
        shape.extend([columns / self.wide, rows / ROWS, ROWS, self.wide]);
        shape
    }

    /// Where the elements lie, in row-major order.
    fn places(self) -> impl Iterator<Item = usize> {
        let ([padded, columns], wide) = (self.padded(), self.wide);
        (0..self.count * self.rows * self.columns).map(move |at| {
            let (row, column) = (at / self.columns, at % self.columns);
            let (matrix, row) = (row / self.rows, row % self.rows);
            matrix * padded * columns + (column / wide * padded + row) * wide + column % wide
        })
    }

    fn pack(self, values: &[f64]) -> Vec<f64> {
        let mut packed = vec![0.0; self.len()];
        for (place, &value) in self.places().zip(values) {
            packed[place] = value;
        }
        packed
    }

    fn unpack(self, packed: &[f64]) -> Vec<f64> {
        self.places().map(|place| packed[place]).collect()
    }
}

/// Columns of a block where nothing else says them.
fn usual(dtype: DType) -> usize {
    256 / dtype.bits().max(8)
}

/// The blocks of a weight by its view, and whether the last two dims of the view are swapped.
fn stored(tensor: &Tensor) -> Option<(Blocks, bool)> {
    let mut shape = tensor.shape().to_vec();
    let rank = shape.len();
    if rank < 2 {
        return None;
    }
    let mut strides = tensor.strides().to_vec();
    let swapped = !tensor.is_contiguous();
    if swapped {
        shape.swap(rank - 1, rank - 2);
        strides.swap(rank - 1, rank - 2);
        if strides != natural_strides(&shape) {
            return None;
        }
    }
    let named = tensor.storage_shape();
    let wide = match named.last() {
        Some(&wide) if named.len() == rank + 2 => wide,
        _ => usual(tensor.dtype()),
    };
    Blocks::of(&shape, wide).map(|blocks| (blocks, swapped))
}

/// Refuses memory that ends before the padding does.
fn expect_room(call: &Call, tensor: &Tensor, count: usize) -> Result<(), Refusal> {
    let bytes = tensor.dtype().bytes(count).unwrap_or(usize::MAX);
    match memory::find(tensor.start(), bytes) {
        Err(Missing::Overrun(text)) => Err(call.invalid(format!(
            "{count} elements with the padding of whole blocks: {text}"
        ))),
        _ => Ok(()),
    }
}

/// Rearranges a weight in place; from then on its handle tells the format.
fn transform(call: &Call) -> Result<Work, Refusal> {
    let weight = call.tensor(0)?;
    if weight.is_empty() {
        return Ok(Work::nothing());
    }
    let (blocks, _) = stored(&weight).ok_or_else(|| {
        call.invalid(format!(
            "mmWeightRef of shape {:?} and strides {:?} is neither row-major nor its transpose",
            weight.shape(),
            weight.strides()
        ))
    })?;
    expect_room(call, &weight, blocks.len())?;
    weight.report_format(FRACTAL_NZ);
    Ok(Work::new(move || {
        let values = weight.row(weight.count()).load_vec::<f64>();
        weight.row(blocks.len()).store_slice(&blocks.pack(&values))
    }))
}

/// Whether a weight lies in the format.
pub(super) fn is_blocked(call: &Call, tensor: &Tensor) -> Result<bool, Refusal> {
    if !is_nz(tensor.format()) || tensor.is_empty() {
        return Ok(false);
    }
    expect_blocks(call, tensor)?;
    Ok(true)
}

/// Refuses a weight whose view does not tell the matrices.
pub(super) fn expect_blocks(call: &Call, tensor: &Tensor) -> Result<(), Refusal> {
    match stored(tensor) {
        Some((blocks, _)) if !(tensor.rank() >= 4 && tensor.storage_shape() == tensor.shape()) => {
            expect_room(call, tensor, blocks.len())
        }
        _ => Err(call.unsupported(format!(
            "a weight in FRACTAL_NZ whose view has shape {:?}, wanted the shape of the matrices",
            tensor.shape()
        ))),
    }
}

/// The matrices that a blocked tensor holds.
pub(super) fn unblocked(tensor: &Tensor) -> ArrayD<f32> {
    let Some((blocks, swapped)) = stored(tensor) else {
        return ArrayD::zeros(IxDyn(tensor.shape()));
    };
    let packed = tensor.row(blocks.len()).load_vec::<f64>();
    let values = blocks.unpack(&packed).into_iter().map(|value| value as f32);
    let mut shape = tensor.shape().to_vec();
    let rank = shape.len();
    if swapped {
        shape.swap(rank - 1, rank - 2);
    }
    let matrices = ArrayD::from_shape_vec(IxDyn(&shape), values.collect());
    let mut matrices = matrices.unwrap_or_else(|_| ArrayD::zeros(IxDyn(&shape)));
    if swapped {
        matrices.swap_axes(rank - 1, rank - 2);
    }
    matrices
}

/// From row-major matrices to blocks, or back; which way the formats say.
fn cast(call: &Call) -> Result<Work, Refusal> {
    let (source, target) = (call.tensor(0)?, call.tensor(1)?);
    let dtype = source.dtype();
    if target.dtype() != dtype || !matches!(dtype.bits(), 8 | 16 | 32) {
        return Err(call.unsupported(format!("from {dtype} to {}", target.dtype())));
    }
    let plain = |format: i32| matches!(format, -1 | 0 | 2 | 30 | 47);
    let (matrix, packed, back) = match (source.format(), target.format()) {
        (from, to) if plain(from) && is_nz(to) => (&source, &target, false),
        (from, to) if is_nz(from) && plain(to) => (&target, &source, true),
        (from, to) if from == to && source.shape() == target.shape() && plain(from) => {
            return Ok(Work::new(move || {
                target.store_slice(&source.load_vec::<f64>())
            }));
        }
        (from, to) => return Err(call.unsupported(format!("from format {from} to {to}"))),
    };
    let named = packed.storage_shape();
    let blocks = Blocks::of(matrix.shape(), named.last().copied().unwrap_or(0))
        .filter(|blocks| {
            let lead = &matrix.shape()[..matrix.rank() - 2];
            named == blocks.shape(lead)
                && (packed.shape() == matrix.shape() || packed.shape() == named)
        })
        .ok_or_else(|| {
            call.invalid(format!(
                "matrices of shape {:?} do not fit blocks of view {:?} and storage {named:?}",
                matrix.shape(),
                packed.shape()
            ))
        })?;
    if !matrix.is_contiguous() || !packed.is_contiguous() {
        return Err(call.invalid("both tensors must be contiguous"));
    }
    if matrix.is_empty() {
        return Ok(Work::nothing());
    }
    expect_room(call, packed, blocks.len())?;
    Ok(Work::new(move || {
        if back {
            let packed = source.row(blocks.len()).load_vec::<f64>();
            target.store_slice(&blocks.unpack(&packed))
        } else {
            let packed = blocks.pack(&source.load_vec::<f64>());
            target.row(blocks.len()).store_slice(&packed)
        }
    }))
}
