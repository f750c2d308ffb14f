//! `stack`: equal shapes along a new dim; a `cat` of views, so without an op of its own.

use crate::ops::prelude::*;

impl Tensor {
    /// The tensors along a new dim; dtypes promote.
    ///
    /// Shapes: `n` times `[..]` -> `[.., n, ..]`. Dtypes: all. PyTorch: `torch.stack`. NPU: `aclnnCat`.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let (x, y) = (Tensor::new([1i32, 2]), Tensor::new([3i32, 4]));
    /// assert_eq!(Tensor::stack(&[&x, &y], 1)?.to_vec::<i32>()?, [1, 3, 2, 4]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Option` for no tensors, `Shape` if shapes differ, `Axis` for a place out of range.
    pub fn stack(tensors: &[&Tensor], dim: i64) -> Result<Tensor> {
        let Some((first, rest)) = tensors.split_first() else {
            return Err(Error::option(
                "stack",
                "tensors",
                "got none, wanted at least one",
            ));
        };
        if let Some(other) = rest.iter().find(|other| other.shape() != first.shape()) {
            return Err(Error::shape(
                "stack",
                format!("{} and {}", first.shape(), other.shape()),
                "equal shapes",
            ));
        }
        let rows = tensors
            .iter()
            .map(|tensor| tensor.unsqueeze(dim))
            .collect::<Result<Vec<Tensor>>>()?;
        Tensor::cat(&rows.iter().collect::<Vec<&Tensor>>(), dim)
    }
}
