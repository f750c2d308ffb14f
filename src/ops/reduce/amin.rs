//! `amin`: the smallest element over dims.

use super::ReduceOptions;
use super::extreme::{End, ExtremeOf};
use crate::ops::prelude::*;

impl Tensor {
    /// The smallest element over dims; NaN wins. Elements that tie share the gradient evenly.
    ///
    /// Shapes: the reduced dims go, or stay with size 1 (`keepdim`). Dtypes: all. PyTorch: `torch.amin`. NPU: `aclnnAmin`.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([[1.0f32, 2.0], [3.0, 4.0]]);
    /// assert_eq!(x.amin(())?.item::<f32>()?, 1.0);
    /// assert_eq!(x.amin(1)?.to_vec::<f32>()?, [1.0, 3.0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Index` (dims given) or `Option` (all dims) where nothing would be reduced, `Axis` for a dim out of range, `Option` for
    /// one given twice.
    pub fn amin(&self, options: impl Into<ReduceOptions>) -> Result<Tensor> {
        run_one(
            &ExtremeOf {
                end: End::Smallest,
                options: options.into(),
            },
            &[self],
        )
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "amin",
    family: "reduce",
    kernels: &["aclnnAmin"],
    samples,
};

fn samples() -> Vec<Sample> {
    super::reduce_samples(
        |options| {
            Box::new(ExtremeOf {
                end: End::Smallest,
                options,
            })
        },
        DType::ALL,
    )
}
