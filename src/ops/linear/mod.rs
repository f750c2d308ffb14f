//! Matrix products: `matmul` and its forms with fixed ranks, sums with a product, linear layers.
//!
//! Knows how shapes and layouts of factors become batches of matrices. Must not know how a product is computed.

rooms! {
    addmm,
    baddbmm,
    bmm,
    dot,
    einsum,
    linear,
    matmul,
    mm,
    mv,
    outer,
}

use crate::ascend::Dev;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::layout::Layout;
use crate::op::{Meta, NUMBERS, Sample, SampleInput};
use crate::shape::Shape;
use crate::tensor::Tensor;

/// CANN's cube mode that keeps the dtype's precision.
pub(crate) const KEEP: i8 = 0;

/// A product's sizes: batches, rows (none for a vector on the left), inner size, columns (none for a vector on the right).
#[derive(Debug, Clone, Copy)]
struct Frame {
    batch: Shape,
    rows: Option<usize>,
    inner: usize,
    columns: Option<usize>,
}

impl Frame {
    /// The sizes of `x y`, where a matrix may be read transposed.
    fn of(op: &'static str, x: &Shape, y: &Shape, flip: [bool; 2]) -> Result<Self> {
        let misfit = || {
            Error::shape(
                op,
                format!("{x} and {y}"),
                "factors whose inner sizes are equal, with at least one dim each",
            )
        };
        let (batch_x, rows, inner) = match x.dims() {
            [] => return Err(misfit()),
            [inner] => (Shape::SCALAR, None, *inner),
            [batch @ .., rows, inner] if !flip[0] => (Shape::from(batch), Some(*rows), *inner),
            [batch @ .., inner, rows] => (Shape::from(batch), Some(*rows), *inner),
        };
        let (batch_y, other, columns) = match y.dims() {
            [] => return Err(misfit()),
            [inner] => (Shape::SCALAR, *inner, None),
            [batch @ .., inner, columns] if !flip[1] => {
                (Shape::from(batch), *inner, Some(*columns))
            }
            [batch @ .., columns, inner] => (Shape::from(batch), *inner, Some(*columns)),
        };
        if inner != other {
            return Err(misfit());
        }
        Ok(Frame {
            batch: batch_x.broadcast(op, &batch_y)?,
            rows,
            inner,
            columns,
        })
    }

    /// The shape of the result.
    fn result(&self) -> Shape {
        self.batch
            .dims()
            .iter()
            .copied()
            .chain(self.rows)
            .chain(self.columns)
            .collect()
    }

    /// The shape of the result with vectors as matrices of one row or column.
    fn full(&self) -> Shape {
        self.batch
            .dims()
            .iter()
            .copied()
            .chain([self.rows.unwrap_or(1), self.columns.unwrap_or(1)])
            .collect()
    }

    /// A factor's shape with the batches of the result.
    fn batched(&self, factor: &Shape) -> Shape {
        let dims = factor.dims();
        self.batch
            .dims()
            .iter()
            .chain(dims.iter().skip(dims.len().saturating_sub(2)))
            .copied()
            .collect()
    }

    /// The layouts of both factors and of the result as batches of matrices, broadcast.
    fn layouts(
        &self,
        op: &'static str,
        x: &Layout,
        y: &Layout,
        flip: [bool; 2],
    ) -> Result<[Layout; 3]> {
        let matrix = |layout: &Layout, dim: usize, flip: bool| match layout.shape().rank() {
            1 => layout.unsqueeze(dim),
            rank if flip => layout.transpose(rank - 2, rank - 1),
            _ => *layout,
        };
        let shape = |rows: usize, columns: usize| {
            self.batch
                .dims()
                .iter()
                .copied()
                .chain([rows, columns])
                .collect::<Shape>()
        };
        let x = matrix(x, 0, flip[0]).expand(op, &shape(self.rows.unwrap_or(1), self.inner))?;
        let y = matrix(y, 1, flip[1]).expand(op, &shape(self.inner, self.columns.unwrap_or(1)))?;
        Ok([x, y, Layout::contiguous(self.full())])
    }
}

/// A factor on the NPU, its last two dims swapped where asked.
fn lay<'a>(x: &Dev<'a>, flip: bool) -> Dev<'a> {
    match x.shape().rank() {
        rank if flip && rank >= 2 => x.with_layout(x.layout().transpose(rank - 2, rank - 1)),
        _ => *x,
    }
}

/// A factor with its last two dims swapped where asked.
fn transposed(x: &Tensor, flip: bool) -> Result<Tensor> {
    if flip && x.rank() >= 2 {
        x.transpose(-2, -1)
    } else {
        Ok(x.clone())
    }
}

/// Refuses bools and unequal dtypes.
pub(crate) fn same_dtype(op: &'static str, x: &[Meta]) -> Result<DType> {
    let mut dtypes = x.iter().map(|meta| meta.dtype);
    let first = dtypes.next().unwrap_or(DType::F32);
    if let Some(other) = dtypes.find(|other| *other != first) {
        return Err(Error::dtype(
            op,
            format!("{first} and {other}"),
            "equal dtypes",
        ));
    }
    if first == DType::Bool {
        return Err(Error::dtype(op, first, "a number"));
    }
    Ok(first)
}

/// Samples of a product of factors with these shapes.
fn product_samples(form: matmul::Form, shapes: &[(&[usize], &[usize])]) -> Vec<Sample> {
    let sample = |(x, y): &(&[usize], &[usize])| Sample {
        op: Box::new(matmul::Product::of(form)),
        inputs: vec![
            SampleInput::new(*x, -2.0, 2.0),
            SampleInput::new(*y, -2.0, 2.0),
        ],
        dtypes: NUMBERS,
    };
    shapes.iter().map(sample).collect()
}
