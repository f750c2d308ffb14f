//! `flatten` and `unflatten`: reshapes of some dims, so without ops of their own.

use super::reshape::infer_sizes;
use crate::ops::prelude::*;

impl Tensor {
    /// The dims `start_dim` to `end_dim`, both included, merged to one; a tensor without dims becomes one of one dim.
    ///
    /// Dtypes: all. PyTorch: `torch.flatten`. NPU: as [`Tensor::reshape`].
    ///
    /// ```
    /// use ascend_tensor::{DType, Device, Tensor};
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::zeros([2, 3, 4], DType::F32, Device::Cpu)?;
    /// assert_eq!(x.flatten(1, -1)?.dims(), [2, 12]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Axis` for a dim out of range, `Option` if the start comes after the end.
    pub fn flatten(&self, start_dim: i64, end_dim: i64) -> Result<Tensor> {
        let axis = |dim| self.shape().axis_or_scalar("flatten", dim);
        let (start, end) = (axis(start_dim)?, axis(end_dim)?);
        if start > end {
            return Err(Error::option(
                "flatten",
                "start_dim",
                format!("got {start_dim} after end_dim {end_dim}, wanted one before it"),
            ));
        }
        if self.rank() == 0 {
            return self.reshape([1]);
        }
        let (before, rest) = self.dims().split_at(start);
        let (merged, after) = rest.split_at(end + 1 - start);
        let count = merged
            .iter()
            .fold(1usize, |count, size| count.saturating_mul(*size));
        self.reshape(
            before
                .iter()
                .chain([&count])
                .chain(after)
                .copied()
                .collect::<Shape>(),
        )
    }

    /// One dim split into several, of which one size may be -1 and is inferred.
    ///
    /// Dtypes: all. PyTorch: `torch.unflatten`. NPU: as [`Tensor::reshape`].
    ///
    /// ```
    /// use ascend_tensor::{DType, Device, Tensor};
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::zeros([2, 12], DType::F32, Device::Cpu)?;
    /// assert_eq!(x.unflatten(1, &[3, -1])?.dims(), [2, 3, 4]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Axis` for a dim out of range, `Shape` if the sizes do not fit, `Option` for two inferred or a negative size.
    pub fn unflatten(&self, dim: i64, sizes: &[i64]) -> Result<Tensor> {
        let dim = self.shape().axis("unflatten", dim)?;
        if sizes.is_empty() {
            return Err(Error::option(
                "unflatten",
                "sizes",
                "got none, wanted at least one",
            ));
        }
        let inner = infer_sizes("unflatten", sizes, self.dims()[dim])?;
        let (before, after) = (&self.dims()[..dim], &self.dims()[dim + 1..]);
        if inner.elements() != self.dims()[dim] {
            return Err(Error::shape(
                "unflatten",
                format!("{sizes:?} for a dim of {}", self.dims()[dim]),
                "sizes with that product",
            ));
        }
        self.reshape(
            before
                .iter()
                .chain(inner.dims())
                .chain(after)
                .copied()
                .collect::<Shape>(),
        )
    }
}
