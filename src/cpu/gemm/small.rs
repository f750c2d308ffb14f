//! Small products: straight from memory, without workspace, on the calling thread.
//!
//! Knows tiles over factors where they lie. Must not know blocks or threads.

use std::mem::MaybeUninit;

use super::Sizes;
use super::block::{Target, cut};
use super::kernel::{Finish, Kernels, Units};
use super::pack::{Matrix, Panel, Source};
use crate::cpu::lane::Lane;

/// Factors of more bytes than this together are worth packing.
const SMALL: usize = 160 << 10;
/// Room on the stack for a panel of the right factor that must be packed.
const ROOM: usize = 2048;

/// Whether a product is small, of factors whose elements are `T`s.
pub(super) fn is_small<T: Lane>(
    kernels: &Kernels<T, T>,
    sizes: Sizes,
    left: &Matrix<'_>,
    right: &Matrix<'_>,
) -> bool {
    let lanes = sizes.rows.saturating_add(sizes.columns);
    let bytes = lanes
        .saturating_mul(sizes.inner)
        .saturating_mul(size_of::<T>());
    let panel = sizes.inner * kernels.columns * size_of::<T>();
    let straight = right.lane == 1 && sizes.columns.is_multiple_of(kernels.columns / 2);
    bytes <= SMALL
        && left.dtype == T::DTYPE
        && right.dtype == T::DTYPE
        && (straight || panel <= ROOM * size_of::<u64>())
}

/// The product of two matrices that [`is_small`] has accepted.
///
/// # Safety
/// The matrices must have these sizes, and nobody else may touch the target.
pub(super) unsafe fn multiply<T: Lane>(
    kernels: &Kernels<T, T>,
    sizes: Sizes,
    (left, right): (&Matrix<'_>, &Matrix<'_>),
    target: &Target<T>,
) {
    let width = kernels.columns;
    let panels = sizes.rows.div_ceil(kernels.strided.len());
    let mut room = [MaybeUninit::<u64>::uninit(); ROOM];
    for column in (0..sizes.columns).step_by(width) {
        let count = width.min(sizes.columns - column);
        let vectors = usize::from(2 * count > width);
        let across = if right.lane == 1 && 2 * count == width * (vectors + 1) {
            Units {
                start: right.start.cast::<T>().wrapping_add(column),
                lane: 1,
                depth: right.depth,
            }
        } else {
            let room = room.as_mut_ptr().cast::<T>();
            // SAFETY: `is_small` has found the panel to fit.
            unsafe {
                right.pack(
                    0..sizes.inner,
                    column..column + count,
                    Panel::full(width),
                    room,
                )
            };
            Units {
                start: room.cast_const(),
                lane: 1,
                depth: width,
            }
        };
        for panel in 0..panels {
            let rows = cut(sizes.rows, panels, panel);
            let down = Units {
                start: left.start.cast::<T>().wrapping_add(rows.start * left.lane),
                lane: left.lane,
                depth: left.depth,
            };
            let place = (rows.start * target.row + column * target.column) * target.dtype.size();
            let from = rows.start * target.from_row + column * target.from_column;
            let finish = Finish {
                to: target.to.wrapping_add(place),
                dtype: target.dtype,
                row: target.row,
                column: target.column,
                from: if target.from.is_null() {
                    target.from
                } else {
                    target.from.wrapping_add(from)
                },
                from_row: target.from_row,
                from_column: target.from_column,
                scale: target.scale,
                columns: count,
            };
            let kernel = kernels.strided[rows.len() - 1][vectors];
            // SAFETY: the units and the tile lie within what the caller promised.
            unsafe { kernel(sizes.inner, down, across, &finish) };
        }
    }
}
