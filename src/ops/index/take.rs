//! `take` and `take_along_dim`: other ways to say `index` and `gather`, so without ops of their own.

use crate::ops::prelude::*;

/// Refuses an index that is not `i64`.
fn wants_i64(op: &'static str, index: &Tensor) -> Result<()> {
    if index.dtype() == DType::I64 {
        Ok(())
    } else {
        Err(Error::dtype(
            op,
            format!("{} for an index", index.dtype()),
            "i64",
        ))
    }
}

impl Tensor {
    /// The elements of the flattened tensor that an index names; negative indices count from the end.
    ///
    /// Shapes: that of the index. Dtypes: all; the index `i64`. PyTorch: `torch.take`. NPU: `aclnnIndex`.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([[1i32, 2], [3, 4]]);
    /// assert_eq!(x.take(&Tensor::new([2i64, -1]))?.to_vec::<i32>()?, [3, 4]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Index` for an index out of range, `DType` for one that is not `i64`.
    pub fn take(&self, index: &Tensor) -> Result<Tensor> {
        wants_i64("take", index)?;
        self.reshape([self.elements()])?.index(&[Some(index)])
    }

    /// Elements along a dim by an index that broadcasts with this tensor in the other dims; with `None`, both flattened.
    ///
    /// Dtypes: all; the index `i64`. PyTorch: `torch.take_along_dim`. NPU: `aclnnGather`.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([[1i32, 2], [3, 4]]);
    /// assert_eq!(x.take_along_dim(&Tensor::new([[1i64]]), 1)?.to_vec::<i32>()?, [2, 4]);
    /// assert_eq!(x.take_along_dim(&Tensor::new([3i64, 0]), None)?.to_vec::<i32>()?, [4, 1]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Axis` for a dim out of range, `Index` for an index out of range or negative, `DType` for one that is not `i64`,
    /// `Shape` if it does not broadcast.
    pub fn take_along_dim(&self, index: &Tensor, dim: impl Into<Option<i64>>) -> Result<Tensor> {
        let op = "take_along_dim";
        wants_i64(op, index)?;
        let Some(dim) = dim.into() else {
            return self
                .reshape([self.elements()])?
                .gather(0, &index.reshape([index.elements()])?);
        };
        if self.rank() != index.rank() {
            return Err(Error::shape(
                op,
                format!("an index of {} for {}", index.shape(), self.shape()),
                "as many dims",
            ));
        }
        let at = self.shape().axis(op, dim)?;
        let common = self
            .shape()
            .with(at, 1)
            .broadcast(op, &index.shape().with(at, 1))?;
        let size = |tensor: &Tensor| common.with(at, tensor.shape().size(at));
        self.expand(size(self))?
            .gather(dim, &index.expand(size(index))?)
    }
}
