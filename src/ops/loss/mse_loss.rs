//! `mse_loss`: squared differences.

use super::{Elementwise, Formula, Reduction, samples_of};
use crate::ops::prelude::*;

#[derive(Debug, Clone, Copy)]
struct Squared;

impl Tensor {
    /// `(x - target)^2`, averaged, summed or as it is; halves compute in f32.
    ///
    /// Shapes: any two that broadcast; a single number unless nothing is reduced. Dtypes: floats.
    /// PyTorch: `torch.nn.functional.mse_loss`. NPU: `aclnnMseLoss`, `aclnnMseLossBackward`.
    ///
    /// ```
    /// use ascend_tensor::{Tensor, ops::loss::Reduction};
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let (x, target) = (Tensor::new([1.0f32, 2.0]), Tensor::new([1.0f32, 4.0]));
    /// assert_eq!(x.mse_loss(&target, ())?.item::<f32>()?, 2.0);
    /// assert_eq!(x.mse_loss(&target, Reduction::None)?.to_vec::<f32>()?, [0.0, 4.0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Broadcast` for shapes that do not fit, `DType` for integers and bools.
    pub fn mse_loss(&self, target: &Tensor, reduction: impl Into<Reduction>) -> Result<Tensor> {
        run_one(
            &Elementwise {
                formula: Squared,
                reduction: reduction.into(),
            },
            &[self, target],
        )
    }
}

impl Formula for Squared {
    const NAME: &'static str = "mse_loss";

    fn losses(&self, x: &[Tensor]) -> Result<Tensor> {
        x[0].sub(&x[1])?.square()
    }

    fn ascend(&self, cx: &Launch, x: &[Dev<'_>], reduction: Reduction, y: &Dev<'_>) -> Result<()> {
        aclnn::mse_loss(cx, &x[0], &x[1], reduction.code(), y)
    }

    fn ascend_slope(
        &self,
        cx: &Launch,
        dy: &Dev<'_>,
        x: &[Dev<'_>],
        reduction: Reduction,
        dx: &Dev<'_>,
    ) -> Result<()> {
        aclnn::mse_loss_backward(cx, dy, &x[0], &x[1], reduction.code(), dx)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "mse_loss",
    family: "loss",
    kernels: &["aclnnMseLoss", "aclnnMseLossBackward"],
    samples,
};

fn samples() -> Vec<Sample> {
    samples_of(&Squared, 2)
}
