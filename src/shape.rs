//! Shapes: the sizes of a tensor's dims, stored inline.
//!
//! Knows extents, axis numbers and broadcasting of shapes. Must not know strides (that is `layout`) or dtypes.

use std::fmt;

use crate::error::{Error, Result};

/// The largest number of dims a tensor can have: CANN's limit.
pub const MAX_RANK: usize = 8;

/// The sizes of a tensor's dims, at most [`MAX_RANK`] of them.
///
/// Made from arrays, slices, vectors or `()` (no dims); every op that takes a shape takes `impl Into<Shape>`.
/// A shape made from more than eight sizes is refused by the op that it is given to.
///
/// ```
/// use ascend_tensor::Shape;
/// let shape = Shape::from([2, 3]);
/// assert_eq!(shape.elements(), 6);
/// assert_eq!(shape.to_string(), "[2, 3]");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shape {
    dims: [usize; MAX_RANK],
    rank: u8,
}

impl Shape {
    /// The shape of a single number: no dims.
    pub const SCALAR: Shape = Shape {
        dims: [0; MAX_RANK],
        rank: 0,
    };

    fn from_slice(sizes: &[usize]) -> Self {
        let mut dims = [0; MAX_RANK];
        for (dim, size) in dims.iter_mut().zip(sizes) {
            *dim = *size;
        }
        Shape {
            dims,
            rank: u8::try_from(sizes.len()).unwrap_or(u8::MAX),
        }
    }

    /// The sizes.
    #[inline]
    pub fn dims(&self) -> &[usize] {
        self.dims.get(..self.rank()).unwrap_or(&self.dims)
    }

    pub(crate) fn dims_mut(&mut self) -> &mut [usize] {
        let rank = self.rank().min(MAX_RANK);
        &mut self.dims[..rank]
    }

    /// The number of dims.
    #[inline]
    pub const fn rank(&self) -> usize {
        self.rank as usize
    }

    /// The number of elements: the product of the sizes (1 without dims; saturates at `usize::MAX`).
    #[inline]
    pub fn elements(&self) -> usize {
        if self.dims().contains(&0) {
            return 0;
        }
        self.dims()
            .iter()
            .fold(1, |product: usize, size| product.saturating_mul(*size))
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.elements() == 0
    }

    /// The size of a dim, or 1 beyond the last.
    pub(crate) fn size(&self, dim: usize) -> usize {
        self.dims().get(dim).copied().unwrap_or(1)
    }

    /// Refuses more than eight dims and more elements than an address space holds. An empty shape is no excuse for sizes whose
    /// product nothing can hold: strides are products of sizes.
    pub(crate) fn check(&self, op: &'static str) -> Result<()> {
        if self.rank() > MAX_RANK {
            return Err(Error::shape(
                op,
                format!("{} dims", self.rank()),
                "at most 8 dims",
            ));
        }
        let sizes = self.dims().iter().map(|size| (*size).max(1));
        if sizes.fold(1, usize::saturating_mul) > isize::MAX as usize / 8 {
            return Err(Error::shape(
                op,
                format!("a shape of {self}"),
                "fewer elements than memory can address",
            ));
        }
        Ok(())
    }

    /// The index of a dim given with negative numbers counting from the end.
    pub(crate) fn axis(&self, op: &'static str, axis: i64) -> Result<usize> {
        resolve_axis(op, axis, self.rank())
    }

    /// Like `axis`, but a shape without dims admits 0 and -1 (reductions, scans and sorts); then the answer is 0.
    pub(crate) fn axis_or_scalar(&self, op: &'static str, axis: i64) -> Result<usize> {
        resolve_axis(op, axis, self.rank().max(1)).map_err(|_| Error::Axis {
            op,
            axis,
            rank: self.rank(),
        })
    }

    /// A copy with another size at a dim.
    pub(crate) fn with(&self, dim: usize, size: usize) -> Self {
        let mut shape = *self;
        if let Some(old) = shape.dims_mut().get_mut(dim) {
            *old = size;
        }
        shape
    }

    /// A copy without a dim.
    pub(crate) fn without(&self, dim: usize) -> Self {
        self.dims()
            .iter()
            .enumerate()
            .filter(|(index, _)| *index != dim)
            .map(|(_, size)| *size)
            .collect()
    }

    /// A copy with a new dim of that size before `dim`.
    pub(crate) fn inserted(&self, dim: usize, size: usize) -> Self {
        let (front, back) = self.dims().split_at(dim.min(self.rank()));
        front.iter().chain([&size]).chain(back).copied().collect()
    }

    /// The common shape of two shapes under NumPy's broadcasting, if there is one.
    pub(crate) fn broadcast(&self, op: &'static str, other: &Shape) -> Result<Shape> {
        let rank = self.rank().max(other.rank());
        let mut dims = [1; MAX_RANK];
        for (back, dim) in dims.iter_mut().take(rank).rev().enumerate() {
            let size = |shape: &Shape| {
                shape
                    .rank()
                    .checked_sub(back + 1)
                    .map_or(1, |index| shape.size(index))
            };
            *dim = match (size(self), size(other)) {
                (lhs, rhs) if lhs == rhs => lhs,
                (1, rhs) => rhs,
                (lhs, 1) => lhs,
                _ => return Err(Error::broadcast(op, *self, *other)),
            };
        }
        Ok(Shape::from_slice(dims.get(..rank).unwrap_or(&dims)))
    }
}

/// The index of a dim among `rank`, with negative numbers counting from the end.
pub(crate) fn resolve_axis(op: &'static str, axis: i64, rank: usize) -> Result<usize> {
    let wrapped = if axis < 0 {
        axis.saturating_add(rank as i64)
    } else {
        axis
    };
    usize::try_from(wrapped)
        .ok()
        .filter(|index| *index < rank)
        .ok_or(Error::Axis { op, axis, rank })
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.dims()).finish()
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromIterator<usize> for Shape {
    fn from_iter<I: IntoIterator<Item = usize>>(sizes: I) -> Self {
        let mut shape = Shape::SCALAR;
        for size in sizes {
            let rank = shape.rank();
            if let Some(dim) = shape.dims.get_mut(rank) {
                *dim = size;
            }
            shape.rank = shape.rank.saturating_add(1);
        }
        shape
    }
}

impl From<()> for Shape {
    fn from((): ()) -> Self {
        Shape::SCALAR
    }
}

impl From<usize> for Shape {
    fn from(size: usize) -> Self {
        Shape::from_slice(&[size])
    }
}

impl<const N: usize> From<[usize; N]> for Shape {
    fn from(sizes: [usize; N]) -> Self {
        Shape::from_slice(&sizes)
    }
}

impl<const N: usize> From<&[usize; N]> for Shape {
    fn from(sizes: &[usize; N]) -> Self {
        Shape::from_slice(sizes)
    }
}

impl From<&[usize]> for Shape {
    fn from(sizes: &[usize]) -> Self {
        Shape::from_slice(sizes)
    }
}

impl From<Vec<usize>> for Shape {
    fn from(sizes: Vec<usize>) -> Self {
        Shape::from_slice(&sizes)
    }
}

impl From<&Shape> for Shape {
    fn from(shape: &Shape) -> Self {
        *shape
    }
}

/// The dims that a reduction runs over: none given means all.
///
/// Made from one number, an array, a slice, a vector, or `()` for all dims; negative numbers count from the end.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Axes(smallvec::SmallVec<[i64; MAX_RANK]>);

impl Axes {
    /// The numbers as given; empty means all dims.
    pub fn as_slice(&self) -> &[i64] {
        &self.0
    }

    /// The set of dims as a mask by index; repeated dims are refused. A shape without dims admits 0 and -1.
    pub(crate) fn resolve(&self, op: &'static str, shape: &Shape) -> Result<[bool; MAX_RANK]> {
        let mut mask = [self.0.is_empty(); MAX_RANK];
        for axis in &self.0 {
            let index = shape.axis_or_scalar(op, *axis)?;
            if std::mem::replace(&mut mask[index], true) {
                return Err(Error::option(
                    op,
                    "dim",
                    format!("dim {axis} appears twice"),
                ));
            }
        }
        Ok(mask)
    }
}

impl From<()> for Axes {
    fn from((): ()) -> Self {
        Axes::default()
    }
}

impl From<i64> for Axes {
    fn from(axis: i64) -> Self {
        Axes(smallvec::smallvec![axis])
    }
}

impl<const N: usize> From<[i64; N]> for Axes {
    fn from(axes: [i64; N]) -> Self {
        Axes(axes.as_slice().into())
    }
}

impl From<&[i64]> for Axes {
    fn from(axes: &[i64]) -> Self {
        Axes(axes.into())
    }
}

impl From<Vec<i64>> for Axes {
    fn from(axes: Vec<i64>) -> Self {
        Axes(axes.into())
    }
}
