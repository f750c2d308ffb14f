//! `huber_loss`: squared near 0, absolute beyond, with the slope of the square.

use super::{Elementwise, Formula, Reduction, samples_of};
use crate::ops::prelude::*;

/// Settings of [`Tensor::huber_loss`]. Made from `()`, from a [`Reduction`], or built up.
#[derive(Debug, Clone, Copy)]
#[must_use]
pub struct HuberOptions {
    reduction: Reduction,
    delta: f64,
}

impl HuberOptions {
    /// The mean, with a delta of 1.
    pub fn new() -> Self {
        HuberOptions {
            reduction: Reduction::Mean,
            delta: 1.0,
        }
    }

    /// How the losses become the result.
    pub fn reduction(mut self, reduction: Reduction) -> Self {
        self.reduction = reduction;
        self
    }

    /// Where the square ends.
    pub fn delta(mut self, delta: f64) -> Self {
        self.delta = delta;
        self
    }
}

impl Default for HuberOptions {
    fn default() -> Self {
        HuberOptions::new()
    }
}

impl<R: Into<Reduction>> From<R> for HuberOptions {
    fn from(reduction: R) -> Self {
        HuberOptions::new().reduction(reduction.into())
    }
}

#[derive(Debug, Clone, Copy)]
struct Huber {
    delta: f64,
}

impl Tensor {
    /// With `d = |x - target|`: `d^2 / 2` where `d <= delta`, else `delta (d - delta / 2)`; halves compute in f32.
    ///
    /// Shapes: any two that broadcast; a single number unless nothing is reduced. Dtypes: floats.
    /// PyTorch: `torch.nn.functional.huber_loss`. NPU: `aclnnSmoothL1Loss` and its gradient, whose
    /// values times `delta` these are; elementwise kernels where shapes broadcast.
    ///
    /// ```
    /// use ascend_tensor::{Tensor, ops::loss::HuberOptions};
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let (x, target) = (Tensor::new([1.0f32, 4.0]), Tensor::new([0.0f32, 0.0]));
    /// assert_eq!(x.huber_loss(&target, HuberOptions::new().delta(2.0))?.item::<f32>()?, 3.25);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Broadcast` for shapes that do not fit, `DType` for integers and bools, `Option` for a delta that is not positive.
    pub fn huber_loss(&self, target: &Tensor, options: impl Into<HuberOptions>) -> Result<Tensor> {
        let HuberOptions { reduction, delta } = options.into();
        run_one(
            &Elementwise {
                formula: Huber { delta },
                reduction,
            },
            &[self, target],
        )
    }
}

impl Formula for Huber {
    const NAME: &'static str = "huber_loss";

    fn check(&self, _x: &[Meta]) -> Result<()> {
        if self.delta > 0.0 {
            Ok(())
        } else {
            Err(Error::option(
                Self::NAME,
                "delta",
                format!("got {}, wanted more than 0", self.delta),
            ))
        }
    }

    fn losses(&self, x: &[Tensor]) -> Result<Tensor> {
        let distance = x[0].sub(&x[1])?.abs()?;
        let beyond = distance.sub(0.5 * self.delta)?.mul(self.delta)?;
        distance
            .le(self.delta)?
            .where_cond(&distance.square()?.mul(0.5)?, &beyond)
    }

    fn ascend(&self, cx: &Launch, x: &[Dev<'_>], reduction: Reduction, y: &Dev<'_>) -> Result<()> {
        let beta = self.beta(cx, y.dtype())?;
        aclnn::smooth_l1_loss(cx, &x[0], &x[1], reduction.code(), beta, y)?;
        if self.delta == 1.0 {
            return Ok(());
        }
        aclnn::muls(cx, y, AclScalar::of(self.delta, y.dtype()), y)
    }

    fn ascend_slope(
        &self,
        cx: &Launch,
        dy: &Dev<'_>,
        x: &[Dev<'_>],
        reduction: Reduction,
        dx: &Dev<'_>,
    ) -> Result<()> {
        let (code, beta) = (reduction.code(), self.beta(cx, dx.dtype())?);
        if self.delta == 1.0 {
            return aclnn::smooth_l1_loss_backward(cx, dy, &x[0], &x[1], code, beta, dx);
        }
        let scaled = cx.temporary(*dy.shape(), dy.dtype())?;
        let delta = AclScalar::of(self.delta, dy.dtype());
        aclnn::muls(cx, dy, delta, &scaled.dev())?;
        aclnn::smooth_l1_loss_backward(cx, &scaled.dev(), &x[0], &x[1], code, beta, dx)
    }
}

impl Huber {
    /// The smooth L1 loss's threshold: with it, that loss is this one over `delta`.
    fn beta(&self, cx: &Launch, dtype: DType) -> Result<f32> {
        let beta = self.delta as f32;
        if beta.is_normal() {
            return Ok(beta);
        }
        Err(Error::unsupported(
            Self::NAME,
            Device::Ascend(cx.device()),
            dtype,
            "the kernel takes a threshold that is a normal f32",
        ))
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "huber_loss",
    family: "loss",
    kernels: &[
        "aclnnSmoothL1Loss",
        "aclnnSmoothL1LossBackward",
        "aclnnMuls",
    ],
    samples,
};

fn samples() -> Vec<Sample> {
    samples_of(&Huber { delta: 0.5 }, 2)
}
