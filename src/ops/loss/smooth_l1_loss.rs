//! `smooth_l1_loss`: squared near 0, absolute beyond.

use super::{Elementwise, Formula, Reduction, samples_of};
use crate::ops::prelude::*;

/// Settings of [`Tensor::smooth_l1_loss`]. Made from `()`, from a [`Reduction`], or built up.
#[derive(Debug, Clone, Copy)]
#[must_use]
pub struct SmoothL1Options {
    reduction: Reduction,
    beta: f64,
}

impl SmoothL1Options {
    /// The mean, with a beta of 1.
    pub fn new() -> Self {
        SmoothL1Options {
            reduction: Reduction::Mean,
            beta: 1.0,
        }
    }

    /// How the losses become the result.
    pub fn reduction(mut self, reduction: Reduction) -> Self {
        self.reduction = reduction;
        self
    }

    /// Where the square ends; 0 gives the absolute difference.
    pub fn beta(mut self, beta: f64) -> Self {
        self.beta = beta;
        self
    }
}

impl Default for SmoothL1Options {
    fn default() -> Self {
        SmoothL1Options::new()
    }
}

impl<R: Into<Reduction>> From<R> for SmoothL1Options {
    fn from(reduction: R) -> Self {
        SmoothL1Options::new().reduction(reduction.into())
    }
}

#[derive(Debug, Clone, Copy)]
struct Smooth {
    beta: f64,
}

impl Tensor {
    /// With `d = |x - target|`: `d^2 / (2 beta)` where `d < beta`, else `d - beta / 2`; halves compute in f32.
    ///
    /// Shapes: any two that broadcast; a single number unless nothing is reduced. Dtypes: floats.
    /// PyTorch: `torch.nn.functional.smooth_l1_loss`. NPU: `aclnnSmoothL1Loss`,
    /// `aclnnSmoothL1LossBackward`.
    ///
    /// ```
    /// use ascend_tensor::{Tensor, ops::loss::Reduction};
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let (x, target) = (Tensor::new([0.5f32, 3.0]), Tensor::new([0.0f32, 0.0]));
    /// assert_eq!(x.smooth_l1_loss(&target, Reduction::None)?.to_vec::<f32>()?, [0.125, 2.5]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Broadcast` for shapes that do not fit, `DType` for integers and bools, `Option` for a negative beta.
    pub fn smooth_l1_loss(
        &self,
        target: &Tensor,
        options: impl Into<SmoothL1Options>,
    ) -> Result<Tensor> {
        let SmoothL1Options { reduction, beta } = options.into();
        run_one(
            &Elementwise {
                formula: Smooth { beta },
                reduction,
            },
            &[self, target],
        )
    }
}

impl Formula for Smooth {
    const NAME: &'static str = "smooth_l1_loss";

    fn check(&self, _x: &[Meta]) -> Result<()> {
        if self.beta >= 0.0 {
            Ok(())
        } else {
            Err(Error::option(
                Self::NAME,
                "beta",
                format!("got {}, wanted 0 or more", self.beta),
            ))
        }
    }

    fn losses(&self, x: &[Tensor]) -> Result<Tensor> {
        let distance = x[0].sub(&x[1])?.abs()?;
        if self.beta == 0.0 {
            return Ok(distance);
        }
        let square = distance.square()?.mul(0.5 / self.beta)?;
        distance
            .lt(self.beta)?
            .where_cond(&square, &distance.sub(0.5 * self.beta)?)
    }

    fn ascend(&self, cx: &Launch, x: &[Dev<'_>], reduction: Reduction, y: &Dev<'_>) -> Result<()> {
        aclnn::smooth_l1_loss(cx, &x[0], &x[1], reduction.code(), self.beta as f32, y)
    }

    fn ascend_slope(
        &self,
        cx: &Launch,
        dy: &Dev<'_>,
        x: &[Dev<'_>],
        reduction: Reduction,
        dx: &Dev<'_>,
    ) -> Result<()> {
        let (code, beta) = (reduction.code(), self.beta as f32);
        aclnn::smooth_l1_loss_backward(cx, dy, &x[0], &x[1], code, beta, dx)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "smooth_l1_loss",
    family: "loss",
    kernels: &["aclnnSmoothL1Loss", "aclnnSmoothL1LossBackward"],
    samples,
};

fn samples() -> Vec<Sample> {
    samples_of(&Smooth { beta: 0.5 }, 2)
}
