//! `cummin`: the smallest element so far along a dim.

use super::cummax::RunningExtreme;
use super::extreme::End;
use super::run_two;
use crate::ops::prelude::*;

impl Tensor {
    /// The smallest element so far along a dim and where it stands: a later equal one takes over, and so does a later NaN.
    ///
    /// Shapes: the input's. Dtypes: all, the indices are `i64`. PyTorch: `torch.cummin`. NPU: `aclnnCummin`.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let (values, indices) = Tensor::new([1i32, 3, 2, 3]).cummin(0)?;
    /// assert_eq!(values.to_vec::<i32>()?, [1, 1, 1, 1]);
    /// assert_eq!(indices.to_vec::<i64>()?, [0, 0, 0, 0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Axis` for a dim out of range.
    pub fn cummin(&self, dim: i64) -> Result<(Tensor, Tensor)> {
        run_two(
            &RunningExtreme {
                end: End::Smallest,
                dim,
            },
            &[self],
        )
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "cummin",
    family: "reduce",
    kernels: &["aclnnCummin"],
    samples,
};

fn samples() -> Vec<Sample> {
    super::line_samples(
        |dim| {
            Box::new(RunningExtreme {
                end: End::Smallest,
                dim,
            })
        },
        NUMBERS,
    )
}
