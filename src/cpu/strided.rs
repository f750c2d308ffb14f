//! Walks over several layouts of one shape at once, in runs along the innermost dim.
//!
//! Knows shapes and strides. Must not know dtypes or memory.

use smallvec::SmallVec;

use crate::layout::Layout;
use crate::shape::MAX_RANK;

/// The common walk over `N` layouts of one shape: size-1 dims dropped, neighbouring dims merged where all layouts allow it.
#[derive(Debug, Clone)]
pub(crate) struct Walk<const N: usize> {
    sizes: SmallVec<[usize; MAX_RANK]>,
    /// One row of `N` strides per dim.
    strides: SmallVec<[[usize; N]; MAX_RANK]>,
    offsets: [usize; N],
}

impl<const N: usize> Walk<N> {
    /// The layouts must have one shape.
    pub fn new(layouts: [&Layout; N]) -> Self {
        let mut sizes: SmallVec<[usize; MAX_RANK]> = SmallVec::new();
        let mut strides: SmallVec<[[usize; N]; MAX_RANK]> = SmallVec::new();
        let rank = layouts
            .iter()
            .map(|layout| layout.shape().rank())
            .min()
            .unwrap_or(0);
        for dim in 0..rank {
            let size = layouts[0].shape().size(dim);
            if size == 1 {
                continue;
            }
            let row: [usize; N] = std::array::from_fn(|index| layouts[index].strides()[dim]);
            match strides.last_mut() {
                Some(last)
                    if last
                        .iter()
                        .zip(&row)
                        .all(|(outer, inner)| *outer == inner * size) =>
                {
                    *last = row;
                    if let Some(own) = sizes.last_mut() {
                        *own *= size;
                    }
                }
                _ => {
                    sizes.push(size);
                    strides.push(row);
                }
            }
        }
        if sizes.is_empty() {
            sizes.push(1);
            strides.push([0; N]);
        }
        Walk {
            sizes,
            strides,
            offsets: std::array::from_fn(|index| layouts[index].offset()),
        }
    }

    /// The number of elements.
    pub fn elements(&self) -> usize {
        self.sizes.iter().product()
    }

    /// The merged dims: their sizes and strides.
    pub fn dims(&self) -> impl Iterator<Item = (usize, [usize; N])> + '_ {
        self.sizes.iter().copied().zip(self.strides.iter().copied())
    }

    /// The offsets of the first element.
    pub fn offsets(&self) -> [usize; N] {
        self.offsets
    }

    /// The strides along the runs.
    pub fn inner(&self) -> [usize; N] {
        self.strides.last().copied().unwrap_or([0; N])
    }

    /// Calls `body` with the element offsets of the start of each run and its length, for the elements `range` in
    /// row-major order; a run is at most `longest` elements.
    pub fn runs(
        &self,
        range: std::ops::Range<usize>,
        longest: usize,
        mut body: impl FnMut([usize; N], usize),
    ) {
        let last = self.sizes.len() - 1;
        let mut index: [usize; MAX_RANK] = [0; MAX_RANK];
        let mut rest = range.start;
        for dim in (0..=last).rev() {
            index[dim] = rest % self.sizes[dim].max(1);
            rest /= self.sizes[dim].max(1);
        }
        let mut offsets = self.offsets;
        for (dim, strides) in self.strides.iter().enumerate() {
            for (offset, stride) in offsets.iter_mut().zip(strides) {
                *offset += index[dim] * stride;
            }
        }
        let inner = self.inner();
        let mut left = range.len();
        while left > 0 {
            let run = (self.sizes[last] - index[last]).min(left).min(longest);
            body(offsets, run);
            left -= run;
            index[last] += run;
            for (offset, stride) in offsets.iter_mut().zip(&inner) {
                *offset += run * stride;
            }
            let mut dim = last;
            while index[dim] == self.sizes[dim] && dim > 0 {
                for (n, offset) in offsets.iter_mut().enumerate() {
                    *offset = (*offset + self.strides[dim - 1][n])
                        - self.sizes[dim] * self.strides[dim][n];
                }
                index[dim] = 0;
                dim -= 1;
                index[dim] += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_element_once_in_order() {
        let a = Layout::contiguous([3, 4, 5]).permute(&[2, 0, 1]);
        let b = Layout::contiguous([5, 3, 4]);
        let walk = Walk::new([&a, &b]);
        for (start, end, longest) in [
            (0, 60, 60),
            (0, 60, 3),
            (7, 41, 60),
            (13, 13, 8),
            (59, 60, 1),
        ] {
            let mut seen = vec![];
            walk.runs(start..end, longest, |[x, y], count| {
                for step in 0..count {
                    seen.push((x + step * walk.inner()[0], y + step * walk.inner()[1]));
                }
            });
            let want: Vec<_> = (start..end)
                .map(|index| ((index / 4 % 3) * 20 + (index % 4) * 5 + index / 12, index))
                .collect();
            assert_eq!(seen, want);
        }
    }
}
