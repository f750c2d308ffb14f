//! `softplus`: a smooth positive part.

use crate::cpu::real::Real;
use crate::ops::elementwise::unary::{Apply, Formula, Rule, Unary, float, sample};
use crate::ops::prelude::*;

/// Settings of [`Tensor::softplus`]; `()` means a `beta` of 1 and a `threshold` of 20.
#[derive(Debug, Clone, Copy)]
#[must_use]
pub struct SoftplusOptions {
    beta: f64,
    threshold: f64,
}

impl Default for SoftplusOptions {
    fn default() -> Self {
        SoftplusOptions {
            beta: 1.0,
            threshold: 20.0,
        }
    }
}

impl SoftplusOptions {
    /// `beta` is 1, `threshold` is 20.
    pub fn new() -> Self {
        SoftplusOptions::default()
    }

    /// How sharp the bend is.
    pub fn beta(mut self, beta: f64) -> Self {
        self.beta = beta;
        self
    }

    /// Where `beta x` is above it, the result is `x`.
    pub fn threshold(mut self, threshold: f64) -> Self {
        self.threshold = threshold;
        self
    }
}

impl From<()> for SoftplusOptions {
    fn from((): ()) -> Self {
        SoftplusOptions::new()
    }
}

#[derive(Debug, Clone, Copy)]
struct Softplus {
    options: SoftplusOptions,
}

impl Tensor {
    /// `ln(1 + e^(beta x)) / beta`, and `x` itself where `beta x > threshold`.
    ///
    /// Shapes: any. Dtypes: floats. PyTorch: `torch.nn.functional.softplus`.
    /// NPU: `aclnnSoftplus`, `aclnnSoftplusBackward`.
    /// In `f32` on the CPU it is at most 3 units in the last place off.
    ///
    /// ```
    /// use ascend_tensor::{Tensor, ops::activation::SoftplusOptions};
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([100.0f32, -200.0]);
    /// assert_eq!(x.softplus(())?.to_vec::<f32>()?, [100.0, 0.0]);
    /// assert_eq!(x.softplus(SoftplusOptions::new().beta(2.0))?.to_vec::<f32>()?, [100.0, 0.0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `DType` for integers and bools; memory and device errors.
    pub fn softplus(&self, options: impl Into<SoftplusOptions>) -> Result<Tensor> {
        Apply(Softplus {
            options: options.into(),
        })
        .run(self)
    }
}

impl Formula for Softplus {
    #[inline(always)]
    fn at<T: Real>(&self, x: T) -> T {
        let z = x.scaled(self.options.beta);
        let bent = Float::exp(z).ln_1p().over(T::from_f64(self.options.beta));
        if z > T::from_f64(self.options.threshold) {
            x
        } else {
            bent
        }
    }
}

impl Softplus {
    /// The kernels divide by beta.
    fn demand_factor(&self, cx: &Launch, x: &Dev<'_>) -> Result<()> {
        if self.options.beta == 0.0 {
            let (device, why) = (Device::Ascend(cx.device()), "the kernel takes no beta of 0");
            return Err(Error::unsupported(Self::NAME, device, x.dtype(), why));
        }
        Ok(())
    }
}

impl Unary for Softplus {
    const NAME: &'static str = "softplus";
    const RULE: Rule = Rule::FloatOnly;
    const FUSED_SLOPE: bool = true;
    const CAST: CastRule = CastRule::Full;

    fn cpu(&self, x: &Host<'_>, y: &mut HostMut<'_>) {
        float(x, y, self);
    }

    fn ascend(&self, cx: &Launch, x: &Dev<'_>, y: &Dev<'_>) -> Result<()> {
        self.demand_factor(cx, x)?;
        let number = |value: f64| AclScalar::of(value, y.dtype());
        aclnn::softplus(
            cx,
            x,
            number(self.options.beta),
            number(self.options.threshold),
            y,
        )
    }

    fn compose(&self, x: &Tensor) -> Result<Tensor> {
        if x.dtype().is_half() {
            return Apply(*self).widened(x);
        }
        let SoftplusOptions { beta, threshold } = self.options;
        let z = x.mul(beta)?;
        z.gt(threshold)?
            .where_cond(x, &z.exp()?.log1p()?.div(beta)?)
    }

    /// `sigmoid(beta x) dy`, and `dy` where `beta x > threshold`.
    fn slope(&self, dy: &Tensor, x: &Tensor) -> Result<Tensor> {
        let z = x.mul(self.options.beta)?;
        z.gt(self.options.threshold)?
            .where_cond(dy, &dy.mul(&z.sigmoid()?)?)
    }

    fn ascend_slope(&self, cx: &Launch, dy: &Dev<'_>, x: &Dev<'_>, dx: &Dev<'_>) -> Result<()> {
        self.demand_factor(cx, x)?;
        aclnn::softplus_backward(
            cx,
            dy,
            x,
            AclScalar::of(self.options.beta, dx.dtype()),
            AclScalar::of(self.options.threshold, dx.dtype()),
            dx,
        )
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "softplus",
    family: "activation",
    kernels: &["aclnnSoftplus", "aclnnSoftplusBackward"],
    samples,
};

fn samples() -> Vec<Sample> {
    let of = |options| sample(Softplus { options }, -4.0, 4.0, FLOATS);
    vec![
        of(SoftplusOptions::new()),
        of(SoftplusOptions::new().beta(2.0).threshold(5.0)),
    ]
}
