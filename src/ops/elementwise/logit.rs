//! `logit`: the inverse of the logistic function.

use super::unary::{Apply, Formula, Rule, Unary, float, sample};
use crate::cpu::real::Real;
use crate::ops::prelude::*;

#[derive(Debug, Clone, Copy)]
struct Logit {
    eps: Option<f64>,
}

impl Tensor {
    /// `ln(z / (1 - z))` with `z` the elements, held in `[eps, 1 - eps]` if `eps` is given; NaN outside `[0, 1]` if not. The
    /// gradient is 0 where elements were held.
    ///
    /// Shapes: any. Dtypes: all; integers and bools give `f32`. PyTorch: `torch.logit`. NPU: `aclnnLogit`.
    /// In `f32` on the CPU it is at most 4 units in the last place off, or 2e-7.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([0.5f32, 1.0]);
    /// assert_eq!(x.logit(None)?.to_vec::<f32>()?, [0.0, f32::INFINITY]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Memory and device errors only.
    pub fn logit(&self, eps: impl Into<Option<f64>>) -> Result<Tensor> {
        Apply(Logit { eps: eps.into() }).run(self)
    }
}

impl Formula for Logit {
    #[inline(always)]
    fn at<T: Real>(&self, x: T) -> T {
        let z = match self.eps {
            Some(eps) => x
                .larger(T::from_f64(eps))
                .smaller(T::ONE.minus(T::from_f64(eps))),
            None => x,
        };
        Float::ln(z.over(T::ONE.minus(z)))
    }
}

impl Unary for Logit {
    const NAME: &'static str = "logit";
    const RULE: Rule = Rule::Float;

    fn cpu(&self, x: &Host<'_>, y: &mut HostMut<'_>) {
        float(x, y, self);
    }

    fn ascend(&self, cx: &Launch, x: &Dev<'_>, y: &Dev<'_>) -> Result<()> {
        aclnn::logit(cx, x, self.eps.unwrap_or(-1.0), y)
    }

    fn compose(&self, x: &Tensor) -> Result<Tensor> {
        if x.dtype().is_half() {
            return Apply(*self).widened(x);
        }
        let z = self
            .eps
            .map_or_else(|| Ok(x.clone()), |eps| x.clamp(eps..=1.0 - eps))?;
        z.div(&z.neg()?.add(1i64)?)?.log()
    }

    /// `dy / (x (1 - x))`; outside the limits 0, or NaN where there are none. NaN is not outside.
    fn backward(&self, cx: &GradCx<'_>, dy: &Tensor) -> Result<Tensor> {
        let x = cx.input(0)?;
        let (low, other) = self.eps.map_or((0.0, f64::NAN), |eps| (eps, 0.0));
        let outside = x.lt(low)?.logical_or(&x.gt(1.0 - low)?)?;
        let slope = dy.div(&x.mul(&x.neg()?.add(1i64)?)?)?;
        outside.where_cond(other, &slope)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "logit",
    family: "elementwise",
    kernels: &["aclnnLogit"],
    samples,
};

fn samples() -> Vec<Sample> {
    vec![
        sample(Logit { eps: None }, 0.1, 0.9, FLOATS),
        sample(Logit { eps: Some(0.25) }, 0.0, 1.0, FLOATS),
    ]
}
