//! `kl_div`: the Kullback-Leibler divergence of a target from a distribution given by logarithms.

use super::{Elementwise, Formula, Reduction, samples_of};
use crate::ops::prelude::*;

/// How the divergences of the elements become the result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KlReduction {
    /// They stay as they are.
    None,
    /// Their mean.
    #[default]
    Mean,
    /// Their sum.
    Sum,
    /// Their sum over the size of dim 0: the divergence per sample.
    BatchMean,
}

/// Settings of [`Tensor::kl_div`]. Made from `()`, from a [`KlReduction`], or built up.
#[derive(Debug, Clone, Copy, Default)]
#[must_use]
pub struct KlDivOptions {
    reduction: KlReduction,
    logarithmic: bool,
}

impl KlDivOptions {
    /// The mean, with a target of probabilities.
    pub fn new() -> Self {
        KlDivOptions::default()
    }

    /// How the divergences become the result.
    pub fn reduction(mut self, reduction: KlReduction) -> Self {
        self.reduction = reduction;
        self
    }

    /// The target holds logarithms of probabilities too.
    pub fn log_target(mut self) -> Self {
        self.logarithmic = true;
        self
    }
}

impl From<()> for KlDivOptions {
    fn from((): ()) -> Self {
        KlDivOptions::new()
    }
}

impl From<KlReduction> for KlDivOptions {
    fn from(reduction: KlReduction) -> Self {
        KlDivOptions::new().reduction(reduction)
    }
}

#[derive(Debug, Clone, Copy)]
struct Divergence {
    logarithmic: bool,
}

impl Tensor {
    /// `t (ln t - x)`, 0 where `t` is 0; with a logarithmic target `e^t (t - x)`; halves compute in f32.
    ///
    /// Shapes: any two that broadcast; a single number unless nothing is reduced. Dtypes: floats.
    /// PyTorch: `torch.nn.functional.kl_div`. NPU: `aclnnKlDiv`, `aclnnKlDivBackward`.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let (x, target) = (Tensor::new([-1.0f32, -2.0]), Tensor::new([1.0f32, 0.0]));
    /// assert_eq!(x.kl_div(&target, ())?.item::<f32>()?, 0.5);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Broadcast` for shapes that do not fit, `DType` for integers and bools.
    pub fn kl_div(&self, target: &Tensor, options: impl Into<KlDivOptions>) -> Result<Tensor> {
        let KlDivOptions {
            reduction,
            logarithmic,
        } = options.into();
        let own = match reduction {
            KlReduction::None => Reduction::None,
            KlReduction::Mean => Reduction::Mean,
            KlReduction::Sum | KlReduction::BatchMean => Reduction::Sum,
        };
        let sum = run_one(
            &Elementwise {
                formula: Divergence { logarithmic },
                reduction: own,
            },
            &[self, target],
        )?;
        match reduction {
            KlReduction::BatchMean => sum.div(self.dims().first().map_or(1.0, |size| *size as f64)),
            _ => Ok(sum),
        }
    }
}

impl Formula for Divergence {
    const NAME: &'static str = "kl_div";

    fn is_composed(&self, device: Device) -> bool {
        device.is_cpu() || !self.logarithmic
    }

    fn losses(&self, x: &[Tensor]) -> Result<Tensor> {
        let [x, target] = x else {
            return Err(Error::NoGradient { op: Self::NAME });
        };
        if self.logarithmic {
            return target.exp()?.mul(&target.sub(x)?);
        }
        let logarithm = target.eq(0i64)?.where_cond(1.0, target)?.log()?;
        target.mul(&logarithm)?.sub(&target.mul(x)?)
    }

    fn ascend(&self, cx: &Launch, x: &[Dev<'_>], reduction: Reduction, y: &Dev<'_>) -> Result<()> {
        if !self.logarithmic {
            let why = "the kernel does not promise 0 for a target of 0";
            return Err(Error::unsupported(
                Self::NAME,
                Device::Ascend(cx.device()),
                y.dtype(),
                why,
            ));
        }
        aclnn::kl_div(cx, &x[0], &x[1], reduction.code(), true, y)
    }

    fn ascend_slope(
        &self,
        cx: &Launch,
        dy: &Dev<'_>,
        x: &[Dev<'_>],
        reduction: Reduction,
        dx: &Dev<'_>,
    ) -> Result<()> {
        let (code, logarithmic) = (reduction.code(), self.logarithmic);
        aclnn::kl_div_backward(cx, dy, &x[0], &x[1], code, logarithmic, dx)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "kl_div",
    family: "loss",
    kernels: &["aclnnKlDiv", "aclnnKlDivBackward"],
    samples,
};

fn samples() -> Vec<Sample> {
    let mut samples = samples_of(&Divergence { logarithmic: false }, 2);
    samples.extend(samples_of(&Divergence { logarithmic: true }, 2));
    samples
}
