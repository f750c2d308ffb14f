//! Where each element of an output comes from, for ops that only move elements: a table per axis, combined to positions.
//!
//! Knows shapes and positions; it must not know which op moves.

use super::common::{by_class, volume};
use super::element::no_kernel;
use crate::failure::{Fault, Refusal};
use crate::kernel::{Call, Scalar, Work};
use crate::number::Number;
use crate::tensor::{Tensor, natural_strides};

/// A place outside the input.
pub(crate) const OUTSIDE: usize = usize::MAX;

/// One axis of the output.
#[derive(Debug, Clone)]
pub(crate) struct AxisTable {
    /// Elements of the contiguous input between neighbours along the axis.
    pub stride: usize,
    /// For each index of the output, the index of the input, or [`OUTSIDE`].
    pub sources: Vec<usize>,
}

impl AxisTable {
    /// The tables of an output that equals the input.
    pub fn identity(shape: &[usize]) -> Vec<AxisTable> {
        shape
            .iter()
            .zip(natural_strides(shape))
            .map(|(&dim, stride)| AxisTable {
                stride,
                sources: (0..dim).collect(),
            })
            .collect()
    }
}

/// The shape that the tables span.
pub(crate) fn shape_of(tables: &[AxisTable]) -> Vec<usize> {
    tables.iter().map(|table| table.sources.len()).collect()
}

/// For each element of the output in row-major order, its place in the contiguous input.
pub(crate) fn positions(tables: &[AxisTable]) -> Vec<usize> {
    let mut positions = vec![0usize];
    if shape_of(tables).contains(&0) {
        return Vec::new();
    }
    for table in tables {
        let mut next = Vec::with_capacity(positions.len() * table.sources.len());
        for &start in &positions {
            next.extend(table.sources.iter().map(|&source| {
                if start == OUTSIDE || source == OUTSIDE {
                    OUTSIDE
                } else {
                    start + source * table.stride
                }
            }));
        }
        positions = next;
    }
    positions
}

/// Phase 2 of an op that fills `out` from `x` by the tables; places outside get `fill` (0 if there is none).
pub(crate) fn rearranged(
    call: &Call,
    x: Tensor,
    tables: &[AxisTable],
    out: Tensor,
    fill: Option<Scalar>,
) -> Result<Work, Refusal> {
    call.expect_dtype("out", &out, &[x.dtype()])?;
    call.expect_shape_or_one_element("out", &out, &shape_of(tables))?;
    if out.is_empty() {
        return Ok(Work::nothing());
    }
    let positions = positions(tables);
    let refused = no_kernel(call, x.dtype());
    by_class!(x.dtype(), T => {
        let fill = fill.map_or_else(|| T::get(0u8), |fill| fill.rounded_to::<T>(x.dtype()));
        Ok(Work::new(move || pick::<T>(&x, &positions, &out, fill)))
    }, Err(refused))
}

fn pick<T: Number>(x: &Tensor, positions: &[usize], out: &Tensor, fill: T) -> Result<(), Fault> {
    let values = x.load_vec::<T>();
    let moved: Vec<T> = positions
        .iter()
        .map(|&place| values.get(place).copied().unwrap_or(fill))
        .collect();
    out.store_slice(&moved)
}

/// Phase 2 of the gradient of [`rearranged`]: each element of `dy` is added at the place that it came from.
pub(crate) fn returned(
    call: &Call,
    dy: Tensor,
    tables: &[AxisTable],
    dx: Tensor,
) -> Result<Work, Refusal> {
    call.expect_dtype("gradInput", &dx, &[dy.dtype()])?;
    call.expect_shape("gradOutput", &dy, &shape_of(tables))?;
    if !dy.dtype().is_float() {
        return Err(no_kernel(call, dy.dtype()));
    }
    let positions = positions(tables);
    Ok(Work::new(move || {
        let mut sums = vec![0f64; volume(dx.shape())];
        for (value, &place) in dy.load_vec::<f64>().into_iter().zip(&positions) {
            if let Some(sum) = sums.get_mut(place) {
                *sum += value;
            }
        }
        dx.store_slice(&sums)
    }))
}
