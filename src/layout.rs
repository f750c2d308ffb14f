//! Layouts: how a shape lies in a storage, as strides and an offset counted in elements.
//!
//! Knows views: permute, narrow, step, expand, reshape where no copy is needed. Must not know dtypes, data or devices.

use crate::error::{Error, Result};
use crate::shape::{MAX_RANK, Shape};

/// A shape with the strides and the offset, in elements, at which its elements lie in a storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Layout {
    shape: Shape,
    strides: [usize; MAX_RANK],
    offset: usize,
}

impl Layout {
    /// The row-major layout of a shape, from the start of the storage.
    pub fn contiguous(shape: impl Into<Shape>) -> Self {
        let shape = shape.into();
        let mut strides = [0; MAX_RANK];
        let mut step = 1usize;
        let rank = shape.rank().min(MAX_RANK);
        for (stride, size) in strides[..rank].iter_mut().zip(shape.dims()).rev() {
            *stride = step;
            step = step.saturating_mul((*size).max(1));
        }
        Layout {
            shape,
            strides,
            offset: 0,
        }
    }

    /// The shape.
    #[inline]
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// The sizes of the dims.
    #[inline]
    pub fn dims(&self) -> &[usize] {
        self.shape.dims()
    }

    /// The strides, in elements, one per dim.
    #[inline]
    pub fn strides(&self) -> &[usize] {
        self.strides
            .get(..self.shape.rank())
            .unwrap_or(&self.strides)
    }

    /// The number of elements before the first.
    #[inline]
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// The number of elements.
    #[inline]
    pub fn elements(&self) -> usize {
        self.shape.elements()
    }

    /// Whether the elements lie row-major without gaps (from the offset on).
    #[inline]
    pub fn is_contiguous(&self) -> bool {
        let mut step = 1;
        for (size, stride) in self.dims().iter().zip(self.strides()).rev() {
            if *size != 1 && *stride != step {
                return self.shape.is_empty();
            }
            step *= (*size).max(1);
        }
        true
    }

    /// Whether this is the row-major layout of its shape from the start of a storage, with no other strides for dims of size 1.
    #[inline]
    pub(crate) fn is_plain(&self) -> bool {
        let mut step = 1;
        for (size, stride) in self.pairs().rev() {
            if stride != step {
                return false;
            }
            step *= size.max(1);
        }
        self.offset == 0
    }

    /// Whether another layout is the same: as `==`, quicker for few dims.
    pub(crate) fn alike(&self, other: &Layout) -> bool {
        self.offset == other.offset
            && self.shape.rank() == other.shape.rank()
            && self
                .pairs()
                .zip(other.pairs())
                .all(|(own, other)| own == other)
    }

    /// One past the largest element index in the storage (the offset itself for an empty shape).
    pub(crate) fn end(&self) -> usize {
        if self.shape.is_empty() {
            return self.offset;
        }
        let span: usize = self
            .dims()
            .iter()
            .zip(self.strides())
            .map(|(size, stride)| (size - 1) * stride)
            .sum();
        self.offset + span + 1
    }

    /// Whether two index tuples may name the same element (a broadcast dim, for example).
    pub(crate) fn overlaps_itself(&self) -> bool {
        let mut dims: smallvec::SmallVec<[(usize, usize); MAX_RANK]> = self
            .strides()
            .iter()
            .copied()
            .zip(self.dims().iter().copied())
            .filter(|(_, size)| *size > 1)
            .collect();
        dims.sort_unstable();
        let mut reach = 0;
        for (stride, size) in dims {
            if stride <= reach {
                return !self.shape.is_empty();
            }
            reach += stride * (size - 1);
        }
        false
    }

    pub(crate) fn from_pairs(
        pairs: impl IntoIterator<Item = (usize, usize)>,
        offset: usize,
    ) -> Self {
        let mut strides = [0; MAX_RANK];
        let mut count = 0;
        let shape = pairs
            .into_iter()
            .map(|(size, stride)| {
                if let Some(slot) = strides.get_mut(count) {
                    *slot = stride;
                }
                count += 1;
                size
            })
            .collect();
        Layout {
            shape,
            strides,
            offset,
        }
    }

    pub(crate) fn pairs(
        &self,
    ) -> impl DoubleEndedIterator<Item = (usize, usize)> + ExactSizeIterator + Clone + '_ {
        self.dims()
            .iter()
            .copied()
            .zip(self.strides().iter().copied())
    }

    /// The layout with the dims in another order; `order` is a permutation of the dims.
    pub(crate) fn permute(&self, order: &[usize]) -> Self {
        let pair = |dim: &usize| {
            (
                self.shape.size(*dim),
                self.strides.get(*dim).copied().unwrap_or(0),
            )
        };
        Layout::from_pairs(order.iter().map(pair), self.offset)
    }

    /// The layout with two dims swapped.
    pub(crate) fn transpose(&self, a: usize, b: usize) -> Self {
        let mut order: smallvec::SmallVec<[usize; MAX_RANK]> = (0..self.shape.rank()).collect();
        if a < order.len() && b < order.len() {
            order.swap(a, b);
        }
        self.permute(&order)
    }

    /// Elements `start`, `start + step`, ... (`length` of them) along a dim; the caller has checked the range.
    pub(crate) fn slice(&self, dim: usize, start: usize, length: usize, step: usize) -> Self {
        let mut layout = *self;
        layout.shape = self.shape.with(dim, length);
        if let Some(stride) = layout.strides.get_mut(dim) {
            if length > 0 {
                layout.offset += start * *stride;
            }
            *stride = stride.saturating_mul(step);
        }
        layout
    }

    /// One index along a dim, which goes.
    pub(crate) fn select(&self, dim: usize, index: usize) -> Self {
        let narrowed = self.slice(dim, index, 1, 1);
        let pairs = narrowed
            .pairs()
            .enumerate()
            .filter(|(position, _)| *position != dim);
        Layout::from_pairs(pairs.map(|(_, pair)| pair), narrowed.offset)
    }

    /// The layout with a new dim of size 1 before `dim`.
    pub(crate) fn unsqueeze(&self, dim: usize) -> Self {
        let step = self
            .pairs()
            .nth(dim)
            .map_or(1, |(size, stride)| size.saturating_mul(stride));
        let mut pairs: smallvec::SmallVec<[(usize, usize); MAX_RANK]> = self.pairs().collect();
        pairs.insert(dim.min(pairs.len()), (1, step));
        Layout::from_pairs(pairs, self.offset)
    }

    /// The layout without the dims of the mask (each has size 1).
    pub(crate) fn squeeze(&self, mask: &[bool; MAX_RANK]) -> Self {
        let kept = self
            .pairs()
            .zip(mask)
            .filter(|(_, dropped)| !**dropped)
            .map(|(pair, _)| pair);
        Layout::from_pairs(kept, self.offset)
    }

    /// The layout broadcast to a shape, stride 0 in the new extents.
    pub(crate) fn expand(&self, op: &'static str, shape: &Shape) -> Result<Self> {
        shape.check(op)?;
        let refuse = || {
            Error::shape(
                op,
                format!("{} for a tensor of {}", shape, self.shape),
                "a shape that the tensor broadcasts to",
            )
        };
        let lead = shape
            .rank()
            .checked_sub(self.shape.rank())
            .ok_or_else(refuse)?;
        let mut pairs: smallvec::SmallVec<[(usize, usize); MAX_RANK]> = smallvec::smallvec![];
        for (dim, size) in shape.dims().iter().enumerate() {
            pairs.push(
                match dim
                    .checked_sub(lead)
                    .and_then(|index| self.pairs().nth(index))
                {
                    None => (*size, 0),
                    Some((own, stride)) if own == *size => (own, stride),
                    Some((1, _)) => (*size, 0),
                    Some(_) => return Err(refuse()),
                },
            );
        }
        Ok(Layout::from_pairs(pairs, self.offset))
    }

    /// The same elements in row-major order under another shape, if no copy is needed.
    pub(crate) fn reshape(&self, shape: &Shape) -> Option<Self> {
        if self.shape.is_empty() || self.is_contiguous() {
            let mut layout = Layout::contiguous(*shape);
            layout.offset = self.offset;
            return Some(layout);
        }
        // Runs of dims of `self` that lie without a gap, matched against runs of `shape` of the same count.
        let own: smallvec::SmallVec<[(usize, usize); MAX_RANK]> =
            self.pairs().filter(|(size, _)| *size != 1).collect();
        let mut strides = [1; MAX_RANK];
        let mut next = 0;
        let mut dim = 0;
        while next < own.len() {
            let first = next;
            let (mut count, mut made) = (own[next].0, 1);
            let start = dim;
            next += 1;
            while made != count || (dim < shape.rank() && shape.size(dim) == 1) {
                if made < count {
                    made *= if dim < shape.rank() {
                        shape.size(dim)
                    } else {
                        return None;
                    };
                    dim += 1;
                } else if made > count {
                    if next >= own.len() || own[next - 1].1 != own[next].0 * own[next].1 {
                        return None;
                    }
                    count *= own[next].0;
                    next += 1;
                } else {
                    dim += 1;
                }
            }
            debug_assert!(first < next);
            let mut step = own[next - 1].1;
            for back in (start..dim).rev() {
                strides[back] = step;
                step *= shape.size(back);
            }
        }
        Some(Layout {
            shape: *shape,
            strides,
            offset: self.offset,
        })
    }

    /// Neighbouring dims merged where they lie without a gap, dims of size 1 dropped; same elements in the same order.
    pub(crate) fn merged(&self) -> Self {
        let mut pairs: smallvec::SmallVec<[(usize, usize); MAX_RANK]> = smallvec::smallvec![];
        for (size, stride) in self.pairs().filter(|(size, _)| *size != 1) {
            match pairs.last_mut() {
                Some(last) if last.1 == size * stride => *last = (last.0 * size, stride),
                _ => pairs.push((size, stride)),
            }
        }
        Layout::from_pairs(pairs, self.offset)
    }

    /// The layout of neighbours along the last dim taken two by two, if they lie so that each pair begins at an even place.
    pub(crate) fn halved(&self) -> Option<Self> {
        let last = self.shape.rank().checked_sub(1)?;
        let even = |(size, stride): (usize, usize)| stride.is_multiple_of(2) || size <= 1;
        let fits = self.strides[last] == 1
            && self.dims()[last].is_multiple_of(2)
            && self.offset.is_multiple_of(2)
            && self.pairs().take(last).all(even);
        let half = |(dim, (size, stride))| {
            if dim == last {
                (size / 2, 1)
            } else {
                (size, stride / 2)
            }
        };
        fits.then(|| Layout::from_pairs(self.pairs().enumerate().map(half), self.offset / 2))
    }

    pub(crate) fn with_offset(mut self, offset: usize) -> Self {
        self.offset = offset;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn indices(layout: &Layout) -> Vec<usize> {
        let mut all = vec![layout.offset()];
        for (size, stride) in layout.pairs() {
            all = all
                .iter()
                .flat_map(|base| (0..size).map(move |index| base + index * stride))
                .collect();
        }
        all
    }

    #[test]
    fn views_name_the_right_elements() {
        let layout = Layout::contiguous([2, 3, 4]);
        assert_eq!(layout.strides(), [12, 4, 1]);
        assert_eq!(
            indices(&layout.select(1, 2)),
            [8, 9, 10, 11, 20, 21, 22, 23]
        );
        assert_eq!(
            indices(&layout.slice(2, 1, 2, 2).select(0, 1)),
            [13, 15, 17, 19, 21, 23]
        );
        assert_eq!(layout.permute(&[2, 0, 1]).dims(), [4, 2, 3]);
        assert!(!layout.transpose(0, 2).is_contiguous());
        assert_eq!(
            Layout::contiguous([3, 1])
                .expand("t", &Shape::from([2, 3, 2]))
                .ok()
                .map(|l| indices(&l)),
            Some(vec![0, 0, 1, 1, 2, 2, 0, 0, 1, 1, 2, 2])
        );
    }

    #[test]
    fn reshape_keeps_the_order_or_refuses() {
        let base = Layout::contiguous([4, 6]);
        for view in [
            base,
            base.slice(1, 0, 6, 1),
            base.slice(0, 1, 2, 2),
            base.slice(1, 0, 4, 1),
            base.transpose(0, 1),
            base.unsqueeze(1),
        ] {
            let count = view.elements();
            for a in (1..=count).filter(|a| count % a == 0) {
                for b in (1..=count / a).filter(|b| (count / a) % b == 0) {
                    let shape = Shape::from([a, b, count / a / b]);
                    if let Some(found) = view.reshape(&shape) {
                        assert_eq!(indices(&found), indices(&view), "{view:?} to {shape}");
                    } else {
                        assert!(!view.is_contiguous());
                    }
                }
            }
        }
        assert!(
            base.slice(1, 0, 4, 1)
                .reshape(&Shape::from([2, 2, 2, 2]))
                .is_some()
        );
        assert!(base.transpose(0, 1).reshape(&Shape::from([24])).is_none());
    }

    #[test]
    fn self_overlap_is_seen() {
        assert!(!Layout::contiguous([3, 4]).transpose(0, 1).overlaps_itself());
        assert!(
            Layout::contiguous([3, 1])
                .expand("t", &Shape::from([3, 2]))
                .is_ok_and(|l| l.overlaps_itself())
        );
    }
}
