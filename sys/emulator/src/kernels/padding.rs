//! Padding: by a constant, by reflection, by the edge, or in a circle; and the gradients.
//!
//! Knows which source each padded index has; it must not know memory.

use super::placement::{AxisTable, OUTSIDE, rearranged, returned};
use crate::failure::Refusal;
use crate::kernel::{Call, Prepare, Work};

/// This family's ops.
pub(crate) const KERNELS: &[(&str, Prepare)] = &[
    ("aclnnConstantPadNd", constant as Prepare),
    ("aclnnReflectionPad1d", |call| {
        forward(call, 1, Mode::Reflect)
    }),
    ("aclnnReflectionPad2d", |call| {
        forward(call, 2, Mode::Reflect)
    }),
    ("aclnnReflectionPad3d", |call| {
        forward(call, 3, Mode::Reflect)
    }),
    ("aclnnReplicationPad1d", |call| forward(call, 1, Mode::Edge)),
    ("aclnnReplicationPad2d", |call| forward(call, 2, Mode::Edge)),
    ("aclnnReplicationPad3d", |call| forward(call, 3, Mode::Edge)),
    ("aclnnCircularPad2d", |call| forward(call, 2, Mode::Circle)),
    ("aclnnCircularPad3d", |call| forward(call, 3, Mode::Circle)),
    ("aclnnReflectionPad1dBackward", |call| {
        backward(call, 1, Mode::Reflect)
    }),
    ("aclnnReflectionPad2dBackward", |call| {
        backward(call, 2, Mode::Reflect)
    }),
    ("aclnnReflectionPad3dBackward", |call| {
        backward(call, 3, Mode::Reflect)
    }),
    ("aclnnReplicationPad1dBackward", |call| {
        backward(call, 1, Mode::Edge)
    }),
    ("aclnnReplicationPad2dBackward", |call| {
        backward(call, 2, Mode::Edge)
    }),
    ("aclnnReplicationPad3dBackward", |call| {
        backward(call, 3, Mode::Edge)
    }),
    ("aclnnCircularPad2dBackward", |call| {
        backward(call, 2, Mode::Circle)
    }),
    ("aclnnCircularPad3dBackward", |call| {
        backward(call, 3, Mode::Circle)
    }),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Constant,
    Reflect,
    Edge,
    Circle,
}

impl Mode {
    /// The source of the index that lies `index` after the start of a dim of `length`.
    fn source(self, index: i64, length: i64) -> usize {
        let inside = (0..length).contains(&index);
        let source = match self {
            _ if inside => index,
            Mode::Constant => return OUTSIDE,
            Mode::Reflect if index < 0 => -index,
            Mode::Reflect => 2 * (length - 1) - index,
            Mode::Edge => index.clamp(0, (length - 1).max(0)),
            Mode::Circle => index.rem_euclid(length.max(1)),
        };
        usize::try_from(source).unwrap_or(OUTSIDE)
    }

    /// Whether a dim of `length` can be padded by `amount`.
    fn admits(self, amount: i64, length: i64) -> bool {
        match self {
            Mode::Constant => true,
            Mode::Reflect => amount < length,
            Mode::Edge => length > 0,
            Mode::Circle => amount <= length,
        }
    }
}

/// Pairs of amounts, the last dim first; negative amounts crop. No dim grows past the longest of `padded_shape`.
fn tables(
    call: &Call,
    shape: &[usize],
    amounts: &[i64],
    mode: Mode,
    padded_shape: &[usize],
) -> Result<Vec<AxisTable>, Refusal> {
    let longest = padded_shape.iter().copied().max().unwrap_or(0) as i64;
    if !amounts.len().is_multiple_of(2) || amounts.len() / 2 > shape.len() {
        return Err(call.invalid(format!(
            "pad {amounts:?} does not hold pairs for the dims of {shape:?}"
        )));
    }
    let mut tables = AxisTable::identity(shape);
    for (table, pair) in tables.iter_mut().rev().zip(amounts.chunks(2)) {
        let &[before, after] = pair else { continue };
        let length = table.sources.len() as i64;
        let padded = length
            .checked_add(before)
            .and_then(|sum| sum.checked_add(after));
        let fits = mode.admits(before, length) && mode.admits(after, length);
        match padded {
            Some(padded) if fits && (0..=longest).contains(&padded) => {
                table.sources = (0..padded)
                    .map(|index| mode.source(index - before, length))
                    .collect();
            }
            _ => {
                return Err(call.invalid(format!(
                    "a dim of {length} cannot be padded by {before} and {after} to a dim of {padded_shape:?}"
                )));
            }
        }
    }
    Ok(tables)
}

fn constant(call: &Call) -> Result<Work, Refusal> {
    let (x, amounts, value, out) = (
        call.tensor(0)?,
        call.ints(1)?,
        call.scalar(2)?,
        call.tensor(3)?,
    );
    let tables = tables(call, x.shape(), amounts, Mode::Constant, out.shape())?;
    rearranged(call, x, &tables, out, Some(value))
}

/// Input of `dims` padded dims after one or two others.
fn expect_dims(call: &Call, shape: &[usize], amounts: &[i64], dims: usize) -> Result<(), Refusal> {
    if amounts.len() != 2 * dims {
        return Err(call.invalid(format!("padding {amounts:?}, wanted {} numbers", 2 * dims)));
    }
    if shape.len() != dims + 1 && shape.len() != dims + 2 {
        return Err(call.invalid(format!(
            "self has shape {shape:?}, wanted {} or {} dims",
            dims + 1,
            dims + 2
        )));
    }
    Ok(())
}

fn forward(call: &Call, dims: usize, mode: Mode) -> Result<Work, Refusal> {
    let (x, amounts, out) = (call.tensor(0)?, call.ints(1)?, call.tensor(2)?);
    expect_dims(call, x.shape(), amounts, dims)?;
    let tables = tables(call, x.shape(), amounts, mode, out.shape())?;
    rearranged(call, x, &tables, out, None)
}

fn backward(call: &Call, dims: usize, mode: Mode) -> Result<Work, Refusal> {
    let (dy, x, amounts, dx) = (
        call.tensor(0)?,
        call.tensor(1)?,
        call.ints(2)?,
        call.tensor(3)?,
    );
    expect_dims(call, x.shape(), amounts, dims)?;
    call.expect_shape("gradInput", &dx, x.shape())?;
    let tables = tables(call, x.shape(), amounts, mode, dy.shape())?;
    returned(call, dy, &tables, dx)
}
