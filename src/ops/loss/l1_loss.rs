//! `l1_loss`: absolute differences.

use super::{Elementwise, Formula, Reduction, samples_of};
use crate::ops::prelude::*;

#[derive(Debug, Clone, Copy)]
struct Absolute;

impl Tensor {
    /// `|x - target|`, averaged, summed or as it is; halves compute in f32.
    ///
    /// Shapes: any two that broadcast; a single number unless nothing is reduced. Dtypes: floats.
    /// PyTorch: `torch.nn.functional.l1_loss`. NPU: `aclnnL1Loss`, `aclnnL1LossBackward`.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let (x, target) = (Tensor::new([1.0f32, 2.0]), Tensor::new([1.0f32, 4.0]));
    /// assert_eq!(x.l1_loss(&target, ())?.item::<f32>()?, 1.0);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Broadcast` for shapes that do not fit, `DType` for integers and bools.
    pub fn l1_loss(&self, target: &Tensor, reduction: impl Into<Reduction>) -> Result<Tensor> {
        run_one(
            &Elementwise {
                formula: Absolute,
                reduction: reduction.into(),
            },
            &[self, target],
        )
    }
}

impl Formula for Absolute {
    const NAME: &'static str = "l1_loss";

    fn losses(&self, x: &[Tensor]) -> Result<Tensor> {
        x[0].sub(&x[1])?.abs()
    }

    fn ascend(&self, cx: &Launch, x: &[Dev<'_>], reduction: Reduction, y: &Dev<'_>) -> Result<()> {
        aclnn::l1_loss(cx, &x[0], &x[1], reduction.code(), y)
    }

    fn ascend_slope(
        &self,
        cx: &Launch,
        dy: &Dev<'_>,
        x: &[Dev<'_>],
        reduction: Reduction,
        dx: &Dev<'_>,
    ) -> Result<()> {
        aclnn::l1_loss_backward(cx, dy, &x[0], &x[1], reduction.code(), dx)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "l1_loss",
    family: "loss",
    kernels: &["aclnnL1Loss", "aclnnL1LossBackward"],
    samples,
};

fn samples() -> Vec<Sample> {
    samples_of(&Absolute, 2)
}
