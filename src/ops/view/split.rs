//! `split`, `chunk` and `unbind`: pieces along a dim, each a `narrow` or `select`, so without ops of their own.

use crate::ops::prelude::*;

/// The sizes of the pieces of [`Tensor::split`]: one for all (from a number), or each (from a list).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum SplitSizes {
    /// Pieces of this size; the last may be smaller.
    Every(i64),
    /// Pieces of exactly these sizes.
    Exact(Vec<i64>),
}

impl From<i64> for SplitSizes {
    fn from(size: i64) -> Self {
        SplitSizes::Every(size)
    }
}

impl From<Vec<i64>> for SplitSizes {
    fn from(sizes: Vec<i64>) -> Self {
        SplitSizes::Exact(sizes)
    }
}

impl From<&[i64]> for SplitSizes {
    fn from(sizes: &[i64]) -> Self {
        SplitSizes::Exact(sizes.to_vec())
    }
}

impl<const N: usize> From<[i64; N]> for SplitSizes {
    fn from(sizes: [i64; N]) -> Self {
        SplitSizes::Exact(sizes.to_vec())
    }
}

impl Tensor {
    /// Views of consecutive pieces along a dim.
    ///
    /// Dtypes: all. PyTorch: `torch.split`. NPU: no kernel.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([1i32, 2, 3, 4, 5]);
    /// let sizes: Vec<usize> = x.split(2, 0)?.iter().map(Tensor::elements).collect();
    /// assert_eq!(sizes, [2, 2, 1]);
    /// assert_eq!(x.split([1, 4], 0)?[1].to_vec::<i32>()?, [2, 3, 4, 5]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Axis` for a dim out of range, `Shape` if exact sizes do not sum to the dim's, `Option` for a negative size, or 0 for all.
    pub fn split(&self, sizes: impl Into<SplitSizes>, dim: i64) -> Result<Vec<Tensor>> {
        let axis = self.shape().axis("split", dim)?;
        let total = self.dims()[axis];
        let refuse = |size: i64| {
            Error::option(
                "split",
                "sizes",
                format!("got {size}, wanted sizes that are not negative, and one above 0"),
            )
        };
        let size_of = |size: i64| usize::try_from(size).map_err(|_| refuse(size));
        match sizes.into() {
            SplitSizes::Every(size) => match size_of(size)? {
                0 if total > 0 => Err(refuse(0)),
                size => self.pieces(
                    dim,
                    (0..total.max(1))
                        .step_by(size.max(1))
                        .map(|start| size.min(total - start.min(total))),
                ),
            },
            SplitSizes::Exact(sizes) => {
                let sizes = sizes
                    .into_iter()
                    .map(size_of)
                    .collect::<Result<Vec<usize>>>()?;
                if sizes
                    .iter()
                    .fold(0usize, |sum, size| sum.saturating_add(*size))
                    != total
                {
                    return Err(Error::shape(
                        "split",
                        format!("{sizes:?} for a dim of {total}"),
                        "sizes with that sum",
                    ));
                }
                self.pieces(dim, sizes.into_iter())
            }
        }
    }

    /// Views of consecutive pieces along a dim, of equal size but for the last; possibly fewer than asked for.
    ///
    /// Dtypes: all. PyTorch: `torch.chunk`. NPU: no kernel.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// assert_eq!(Tensor::new([1i32, 2, 3, 4, 5]).chunk(4, 0)?.len(), 3);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Axis` for a dim out of range, `Option` for less than one piece.
    pub fn chunk(&self, chunks: i64, dim: i64) -> Result<Vec<Tensor>> {
        let count = usize::try_from(chunks).ok().filter(|count| *count > 0);
        let count = count.ok_or_else(|| {
            Error::option(
                "chunk",
                "chunks",
                format!("got {chunks}, wanted at least 1"),
            )
        })?;
        let total = self.dims()[self.shape().axis("chunk", dim)?];
        match total.div_ceil(count) {
            0 => self.pieces(dim, std::iter::repeat_n(0, count)),
            size => self.pieces(
                dim,
                (0..total)
                    .step_by(size)
                    .map(|start| size.min(total - start)),
            ),
        }
    }

    /// Views of each index along a dim, which goes.
    ///
    /// Dtypes: all. PyTorch: `torch.unbind`. NPU: no kernel.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let rows = Tensor::new([[1i32, 2], [3, 4]]).unbind(0)?;
    /// assert_eq!(rows[1].to_vec::<i32>()?, [3, 4]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Axis` for a dim out of range.
    pub fn unbind(&self, dim: i64) -> Result<Vec<Tensor>> {
        let axis = self.shape().axis("unbind", dim)?;
        let count = self.dims()[axis];
        let mut slices = room("unbind", count)?;
        for index in 0..count {
            slices.push(self.select(dim, index as i64)?);
        }
        Ok(slices)
    }

    fn pieces(&self, dim: i64, sizes: impl Iterator<Item = usize>) -> Result<Vec<Tensor>> {
        let mut start = 0;
        let mut pieces = room("split", sizes.size_hint().0)?;
        for size in sizes {
            pieces.push(self.narrow(dim, start, size as i64)?);
            start += size as i64;
        }
        Ok(pieces)
    }
}

/// Room for so many tensors: an empty dim has as many empty pieces as one asks for.
fn room(op: &'static str, count: usize) -> Result<Vec<Tensor>> {
    let mut room = Vec::new();
    room.try_reserve_exact(count)
        .map_err(|_| Error::OutOfMemory {
            op,
            device: Device::Cpu,
            asked: count.saturating_mul(size_of::<Tensor>()),
            free: 0,
        })?;
    Ok(room)
}
