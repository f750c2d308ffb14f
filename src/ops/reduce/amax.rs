//! `amax`: the largest element over dims.

use super::ReduceOptions;
use super::extreme::{End, ExtremeOf};
use crate::ops::prelude::*;

impl Tensor {
    /// The largest element over dims; NaN wins. Elements that tie share the gradient evenly.
    ///
    /// Shapes: the reduced dims go, or stay with size 1 (`keepdim`). Dtypes: all. PyTorch: `torch.amax`. NPU: `aclnnAmax`.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([[1.0f32, 2.0], [3.0, 4.0]]);
    /// assert_eq!(x.amax(())?.item::<f32>()?, 4.0);
    /// assert_eq!(x.amax(1)?.to_vec::<f32>()?, [2.0, 4.0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Index` (dims given) or `Option` (all dims) where nothing would be reduced, `Axis` for a dim out of range, `Option` for
    /// one given twice.
    pub fn amax(&self, options: impl Into<ReduceOptions>) -> Result<Tensor> {
        run_one(
            &ExtremeOf {
                end: End::Largest,
                options: options.into(),
            },
            &[self],
        )
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "amax",
    family: "reduce",
    kernels: &["aclnnAmax"],
    samples,
};

fn samples() -> Vec<Sample> {
    super::reduce_samples(
        |options| {
            Box::new(ExtremeOf {
                end: End::Largest,
                options,
            })
        },
        DType::ALL,
    )
}
