//! `argmin`: where the smallest element stands.

use super::extreme::{ArgOptions, End, ExtremeIndex};
use crate::ops::prelude::*;

impl Tensor {
    /// The index of the first smallest element along a dim, or in the flattened tensor; the first NaN wins.
    ///
    /// Shapes: the dim goes, or stays with size 1 (`keepdim`). Dtypes: all but `bool`, to `i64`. PyTorch: `torch.argmin`.
    /// NPU: `aclnnArgMin`.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([[1.0f32, 2.0], [3.0, 4.0]]);
    /// assert_eq!(x.argmin(())?.item::<i64>()?, 0);
    /// assert_eq!(x.argmin(1)?.to_vec::<i64>()?, [0, 0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `DType` for bools, `Axis` for a dim out of range, `Index` (a dim given) or `Option` (none) where there is no element.
    pub fn argmin(&self, options: impl Into<ArgOptions>) -> Result<Tensor> {
        run_one(
            &ExtremeIndex {
                end: End::Smallest,
                options: options.into(),
            },
            &[self],
        )
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "argmin",
    family: "reduce",
    kernels: &["aclnnArgMin"],
    samples,
};

fn samples() -> Vec<Sample> {
    let mut samples = super::line_samples(
        |dim| {
            Box::new(ExtremeIndex {
                end: End::Smallest,
                options: dim.into(),
            })
        },
        NUMBERS,
    );
    samples.extend(super::line_samples(
        |_| {
            Box::new(ExtremeIndex {
                end: End::Smallest,
                options: ArgOptions::new(),
            })
        },
        NUMBERS,
    ));
    samples
}
