//! `median_dim`: the lower median along a dim.

use super::kthvalue::{Rank, Ranked};
use super::{LineOptions, run_two};
use crate::ops::prelude::*;

impl Tensor {
    /// The lower median along a dim and its index; NaN if there is one. The gradient goes to that element.
    ///
    /// Shapes: the dim goes, or stays with size 1 (`keepdim`). Dtypes: all but `bool`, the indices are `i64`.
    /// PyTorch: `torch.median(input, dim)`. NPU: `aclnnMedianDim`.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let (values, indices) = Tensor::new([5i32, 1, 4, 2]).median_dim(0)?;
    /// assert_eq!((values.item::<i32>()?, indices.item::<i64>()?), (2, 3));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Axis` for a dim out of range, `Index` for a dim of size 0, `DType` for bools.
    pub fn median_dim(&self, options: impl Into<LineOptions>) -> Result<(Tensor, Tensor)> {
        run_two(
            &Ranked {
                rank: Rank::Median,
                options: options.into(),
            },
            &[self],
        )
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "median_dim",
    family: "reduce",
    kernels: &["aclnnMedianDim"],
    samples,
};

fn samples() -> Vec<Sample> {
    super::line_samples(
        |dim| {
            Box::new(Ranked {
                rank: Rank::Median,
                options: dim.into(),
            })
        },
        NUMBERS,
    )
}
