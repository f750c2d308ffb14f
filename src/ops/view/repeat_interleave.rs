//! `repeat_interleave`: each element several times; views, or an `index_select`, so without an op of its own.

use crate::cpu::alloc::room;
use crate::ops::prelude::*;

/// How often [`Tensor::repeat_interleave`] repeats: a number for all, or a tensor with one count per index.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Repeats<'a> {
    /// All so often.
    All(i64),
    /// Each index so often: `i64` or `i32`, one dim.
    Each(&'a Tensor),
}

impl From<i64> for Repeats<'_> {
    fn from(count: i64) -> Self {
        Repeats::All(count)
    }
}

impl<'a> From<&'a Tensor> for Repeats<'a> {
    fn from(counts: &'a Tensor) -> Self {
        Repeats::Each(counts)
    }
}

const OP: &str = "repeat_interleave";

fn count_of(count: i64) -> Result<usize> {
    usize::try_from(count).map_err(|_| {
        Error::option(
            OP,
            "repeats",
            format!("got {count}, wanted counts that are not negative"),
        )
    })
}

impl Tensor {
    /// Each index along a dim (`None`: of the flattened tensor) several times in a row.
    ///
    /// Dtypes: all. PyTorch: `torch.repeat_interleave`. NPU: `aclnnInplaceCopy`; for a tensor of counts, which is read back,
    /// `aclnnIndexSelect`.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([1i32, 2, 3]);
    /// assert_eq!(x.repeat_interleave(2, None)?.to_vec::<i32>()?, [1, 1, 2, 2, 3, 3]);
    /// assert_eq!(x.repeat_interleave(&Tensor::new([2i64, 0, 1]), 0)?.to_vec::<i32>()?, [1, 1, 3]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Axis` for a dim out of range, `Option` for a negative count, `Shape` for a wrong number of counts, `DType` for counts
    /// that are not integers.
    pub fn repeat_interleave<'a>(
        &self,
        repeats: impl Into<Repeats<'a>>,
        dim: impl Into<Option<i64>>,
    ) -> Result<Tensor> {
        let Some(dim) = dim.into() else {
            return self
                .reshape([self.elements()])?
                .repeat_interleave(repeats, 0);
        };
        if self.rank() == 0 {
            return self.reshape([1])?.repeat_interleave(repeats, dim);
        }
        let axis = self.shape().axis(OP, dim)?;
        let size = self.dims()[axis];
        match repeats.into() {
            Repeats::All(count) => {
                let count = count_of(count)?;
                let (before, after) = (
                    self.dims()[..axis].iter().product(),
                    self.dims()[axis + 1..].iter().product(),
                );
                let shape = self.shape().with(axis, size.saturating_mul(count));
                shape.check(OP)?;
                self.reshape([before, size, 1, after])?
                    .expand([before, size, count, after])?
                    .reshape(shape)
            }
            Repeats::Each(counts) => {
                if !counts.dtype().is_int() {
                    return Err(Error::dtype(
                        OP,
                        format!("{} for counts", counts.dtype()),
                        "an integer",
                    ));
                }
                if counts.rank() > 1 || counts.elements() != size && counts.elements() != 1 {
                    return Err(Error::shape(
                        OP,
                        format!("counts of {} for a dim of {size}", counts.shape()),
                        "one count for each index",
                    ));
                }
                let counts = counts
                    .detach()
                    .to_device(Device::Cpu)?
                    .to_dtype(DType::I64)?
                    .to_vec::<i64>()?;
                let count = |position: usize| {
                    let own = counts.get(position).or(counts.first());
                    count_of(own.copied().unwrap_or(0))
                };
                let mut total = 0usize;
                for position in 0..size {
                    total = total.saturating_add(count(position)?);
                }
                let mut index = room(OP, total)?;
                for position in 0..size {
                    index.extend(std::iter::repeat_n(position as i64, count(position)?));
                }
                self.index_select(dim, &Tensor::new(index).to_device(self.device())?)
            }
        }
    }
}
