//! Orders: lines of elements sorted, the best of them picked, and runs of equal ones found, by keys of bits.
//!
//! Knows how numbers become integer keys with the same order (NaN greatest, the zeros equal). Must not know ops.

use super::lane::Lane;
use super::par;
use super::reduce::offset_at;
use super::view::{Host, HostMut};
use crate::layout::Layout;

/// The sign bit of a key: flipped, signed order becomes unsigned order.
const TOP: u64 = 1 << 63;

/// A key of 64 bits: `key(a) < key(b)` exactly if `a < b`, NaN above all.
#[inline(always)]
pub(crate) fn wide_key<T: Lane>(x: T) -> u64 {
    if !T::IS_FLOAT {
        return x.to_i64() as u64 ^ TOP;
    }
    if x.is_nan() {
        return u64::MAX;
    }
    let bits = (x.to_f64() + 0.0).to_bits();
    if bits & TOP == 0 { bits | TOP } else { !bits }
}

/// As [`wide_key`], in 32 bits, for lanes of at most that size.
#[inline(always)]
fn narrow_key<T: Lane>(x: T) -> u32 {
    if !T::IS_FLOAT {
        return x.to_i64() as u32 ^ (1 << 31);
    }
    if x.is_nan() {
        return u32::MAX;
    }
    let bits = (x.to_f64() as f32 + 0.0).to_bits();
    if bits >> 31 == 0 {
        bits | 1 << 31
    } else {
        !bits
    }
}

/// A key and the position that it came from, in one integer whose order is the stable order.
trait Packed: Ord + Copy + Send {
    fn pack<T: Lane>(x: T, index: usize, descending: bool) -> Self;
    fn index(self) -> usize;
}

impl Packed for u64 {
    #[inline(always)]
    fn pack<T: Lane>(x: T, index: usize, descending: bool) -> Self {
        let key = narrow_key(x);
        u64::from(if descending { !key } else { key }) << 32 | (index as u64 & 0xffff_ffff)
    }

    fn index(self) -> usize {
        (self & 0xffff_ffff) as usize
    }
}

impl Packed for u128 {
    #[inline(always)]
    fn pack<T: Lane>(x: T, index: usize, descending: bool) -> Self {
        let key = wide_key(x);
        u128::from(if descending { !key } else { key }) << 64 | index as u128
    }

    fn index(self) -> usize {
        self as u64 as usize
    }
}

/// Which elements of each line, in which order: the first `count` of the whole order.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pick {
    pub dim: usize,
    pub descending: bool,
    pub count: usize,
}

/// For each line of `x` along a dim, the first elements of its stable order and the indices that they had there.
pub(crate) fn order<T: Lane>(
    x: &Host<'_>,
    pick: Pick,
    values: &mut HostMut<'_>,
    indices: &mut HostMut<'_>,
) {
    if size_of::<T>() <= 4 && u32::try_from(x.shape().size(pick.dim)).is_ok() {
        order_packed::<T, u64>(x, pick, values, indices);
    } else {
        order_packed::<T, u128>(x, pick, values, indices);
    }
}

struct Start(*mut u8);
// SAFETY: threads write different lines.
unsafe impl Sync for Start {}

impl Start {
    fn at(&self, offset: usize) -> *mut u8 {
        self.0.wrapping_add(offset)
    }
}

/// The layout of the first elements of the lines along a dim, and the step along a line.
fn lines_of(layout: &Layout, dim: usize) -> (Layout, usize) {
    if layout.shape().rank() == 0 {
        return (*layout, 0);
    }
    let step = layout.strides().get(dim).copied().unwrap_or(0);
    (layout.select(dim, 0), step)
}

fn order_packed<T: Lane, P: Packed>(
    x: &Host<'_>,
    pick: Pick,
    values: &mut HostMut<'_>,
    indices: &mut HostMut<'_>,
) {
    let Pick {
        dim,
        descending,
        count,
    } = pick;
    let size = x.shape().size(dim);
    if size == 0 || count == 0 || x.elements() == 0 {
        return;
    }
    let lines = x.elements() / size;
    let ((from, xs), (to, vs), (at, is)) = (
        lines_of(x.layout(), dim),
        lines_of(values.layout(), dim),
        lines_of(indices.layout(), dim),
    );
    let (width, dtype, wide) = (x.dtype().size(), values.dtype(), indices.dtype());
    let (value_start, index_start) = (Start(values.start()), Start(indices.start()));
    let body = |range: std::ops::Range<usize>| {
        let mut row = vec![T::ZERO; size];
        let mut packed: Vec<P> = Vec::with_capacity(size);
        let mut places = vec![0i64; count];
        let mut best = vec![T::ZERO; count];
        for number in range {
            // SAFETY: the line lies within `x`, and `T` serves its dtype.
            unsafe {
                T::gather(
                    x.start().wrapping_add(offset_at(&from, number) * width),
                    xs,
                    x.dtype(),
                    &mut row,
                )
            };
            let pack = |(index, x): (usize, &T)| P::pack(*x, index, descending);
            packed.clear();
            packed.extend(row.iter().enumerate().map(pack));
            if count < size {
                packed.select_nth_unstable(count - 1);
            }
            sort(&mut packed[..count], lines);
            for ((place, best), packed) in places.iter_mut().zip(&mut best).zip(&packed) {
                *place = packed.index() as i64;
                *best = row[packed.index()];
            }
            // SAFETY: the lines lie within the outputs, and the lanes serve their dtypes.
            unsafe {
                T::scatter(
                    &best,
                    value_start.at(offset_at(&to, number) * dtype.size()),
                    vs,
                    dtype,
                );
                i64::scatter(
                    &places,
                    index_start.at(offset_at(&at, number) * wide.size()),
                    is,
                    wide,
                );
            }
        }
    };
    par::ranges(lines, (par::GRAIN / size).max(1), body);
}

/// Sorts one line; on all threads if it is long and there are not enough lines to share out.
#[cfg(feature = "rayon")]
fn sort<P: Packed>(packed: &mut [P], lines: usize) {
    use rayon::slice::ParallelSliceMut;
    if lines < par::threads() && packed.len() > par::GRAIN {
        packed.par_sort_unstable()
    } else {
        packed.sort_unstable()
    }
}

#[cfg(not(feature = "rayon"))]
fn sort<P: Packed>(packed: &mut [P], _lines: usize) {
    packed.sort_unstable();
}

/// Runs of equal elements in order: for each the position of its first element; and for each position its run. NaNs equal
/// nothing, not even each other.
pub(crate) fn runs<T: Lane>(values: &[T]) -> (Vec<usize>, Vec<usize>) {
    let mut order: Vec<(u64, usize)> = values
        .iter()
        .enumerate()
        .map(|(index, x)| (wide_key(*x), index))
        .collect();
    order.sort_unstable();
    let (mut firsts, mut run_of) = (Vec::new(), vec![0; values.len()]);
    let mut last: Option<u64> = None;
    for (key, index) in order {
        if last != Some(key) || values[index].is_nan() {
            firsts.push(index);
        }
        last = Some(key);
        run_of[index] = firsts.len() - 1;
    }
    (firsts, run_of)
}

/// As [`runs`], for rows of `width` keys in lexicographic order.
pub(crate) fn row_runs(keys: &[u64], width: usize, rows: usize) -> (Vec<usize>, Vec<usize>) {
    let row = |index: usize| {
        keys.get(index * width..(index + 1) * width)
            .unwrap_or_default()
    };
    let mut order: Vec<usize> = (0..rows).collect();
    order.sort_by(|a, b| row(*a).cmp(row(*b)));
    let (mut firsts, mut run_of): (Vec<usize>, Vec<usize>) = (Vec::new(), vec![0; rows]);
    for index in order {
        if firsts.last().is_none_or(|first| row(*first) != row(index)) {
            firsts.push(index);
        }
        run_of[index] = firsts.len() - 1;
    }
    (firsts, run_of)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_the_order_of_numbers() {
        let rising = [
            f32::NEG_INFINITY,
            -2.5,
            -1e-40,
            0.0,
            1e-40,
            1.0,
            f32::INFINITY,
            f32::NAN,
        ];
        assert!(
            rising
                .windows(2)
                .all(|pair| narrow_key(pair[0]) < narrow_key(pair[1])
                    && wide_key(pair[0]) < wide_key(pair[1]))
        );
        assert_eq!(narrow_key(0.0f32), narrow_key(-0.0f32));
        assert!(
            narrow_key(-1i8) < narrow_key(0i8)
                && wide_key(i64::MIN) < wide_key(i64::MAX)
                && narrow_key(200u8) > narrow_key(3u8)
        );
    }

    #[test]
    fn runs_name_their_first() {
        assert_eq!(runs(&[3i32, 1, 3, 2]), (vec![1, 3, 0], vec![2, 0, 2, 1]));
        assert_eq!(
            row_runs(&[1, 2, 0, 5, 1, 2], 2, 3),
            (vec![1, 0], vec![1, 0, 1])
        );
    }
}
