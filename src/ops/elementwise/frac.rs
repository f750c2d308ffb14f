//! `frac`: the fraction.

use super::unary::{Apply, Formula, Rule, Unary, float, sample};
use crate::cpu::real::Real;
use crate::ops::prelude::*;

#[derive(Debug, Clone, Copy)]
struct Frac;

impl Tensor {
    /// `x - trunc(x)`: the fraction with the sign of the element.
    ///
    /// Shapes: any. Dtypes: floats. PyTorch: `torch.frac`. NPU: `aclnnFrac`.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([1.5f32, -1.25]);
    /// assert_eq!(x.frac()?.to_vec::<f32>()?, [0.5, -0.25]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `DType` for integers and bools; memory and device errors.
    pub fn frac(&self) -> Result<Tensor> {
        Apply(Frac).run(self)
    }
}

impl Formula for Frac {
    #[inline(always)]
    fn at<T: Real>(&self, x: T) -> T {
        x.minus(x.trunc())
    }
}

impl Unary for Frac {
    const NAME: &'static str = "frac";
    const RULE: Rule = Rule::FloatOnly;
    const SAVES: Saves = Saves::NOTHING;

    fn cpu(&self, x: &Host<'_>, y: &mut HostMut<'_>) {
        float(x, y, self)
    }

    fn ascend(&self, cx: &Launch, x: &Dev<'_>, y: &Dev<'_>) -> Result<()> {
        aclnn::frac(cx, x, y)
    }

    fn compose(&self, x: &Tensor) -> Result<Tensor> {
        x.sub(&x.trunc()?)
    }

    fn backward(&self, _cx: &GradCx<'_>, dy: &Tensor) -> Result<Tensor> {
        Ok(dy.clone())
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "frac",
    family: "elementwise",
    kernels: &["aclnnFrac"],
    samples,
};

fn samples() -> Vec<Sample> {
    vec![sample(Frac, -2.0, 2.0, FLOATS)]
}
