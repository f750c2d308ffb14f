//! `max_dim`: the largest elements along a dim, and where they stand.

use super::extreme::{End, ExtremeAlong};
use super::{LineOptions, run_two};
use crate::ops::prelude::*;

impl Tensor {
    /// The largest element along a dim and the index of its first occurrence; the first NaN wins. The gradient goes to that element.
    ///
    /// Shapes: the dim goes, or stays with size 1 (`keepdim`). Dtypes: all, the indices are `i64`.
    /// PyTorch: `torch.max(input, dim)`. NPU: `aclnnMaxDim`.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([[1.0f32, 5.0, 5.0], [4.0, 3.0, 3.0]]);
    /// let (values, indices) = x.max_dim(1)?;
    /// assert_eq!(values.to_vec::<f32>()?, [5.0, 4.0]);
    /// assert_eq!(indices.to_vec::<i64>()?, [1, 0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Axis` for a dim out of range, `Index` for a dim of size 0.
    pub fn max_dim(&self, options: impl Into<LineOptions>) -> Result<(Tensor, Tensor)> {
        run_two(
            &ExtremeAlong {
                end: End::Largest,
                options: options.into(),
            },
            &[self],
        )
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "max_dim",
    family: "reduce",
    kernels: &["aclnnMaxDim"],
    samples,
};

fn samples() -> Vec<Sample> {
    super::line_samples(
        |dim| {
            Box::new(ExtremeAlong {
                end: End::Largest,
                options: dim.into(),
            })
        },
        NUMBERS,
    )
}
