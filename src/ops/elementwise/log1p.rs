//! `log1p`: the natural logarithm of one plus the elements.

use super::unary::{Apply, Rule, Unary, sample};
use crate::cpu::real::Real;
use crate::ops::prelude::*;

#[derive(Debug, Clone, Copy)]
struct Log1p;

impl Tensor {
    /// `ln(1 + x)`, accurate near zero.
    ///
    /// Shapes: any. Dtypes: all; integers and bools give `f32`. PyTorch: `torch.log1p`. NPU: `aclnnLog1p`.
    /// In `f32` on the CPU it is at most 1 unit in the last place off.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([0.0f32, 1e-10]);
    /// assert_eq!(x.log1p()?.to_vec::<f32>()?, [0.0, 1e-10]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Memory and device errors only.
    pub fn log1p(&self) -> Result<Tensor> {
        Apply(Log1p).run(self)
    }
}

impl Unary for Log1p {
    const NAME: &'static str = "log1p";
    const RULE: Rule = Rule::Float;
    const CAST: CastRule = CastRule::Full;

    fn cpu(&self, x: &Host<'_>, y: &mut HostMut<'_>) {
        with_float!(x.dtype(), T => map::map1::<T, T>(x, y, Real::ln_1p))
    }

    fn ascend(&self, cx: &Launch, x: &Dev<'_>, y: &Dev<'_>) -> Result<()> {
        aclnn::log1p(cx, x, y)
    }

    fn backward(&self, cx: &GradCx<'_>, dy: &Tensor) -> Result<Tensor> {
        dy.div(&cx.input(0)?.add(1i64)?)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "log1p",
    family: "elementwise",
    kernels: &["aclnnLog1p"],
    samples,
};

fn samples() -> Vec<Sample> {
    vec![sample(Log1p, -0.5, 4.0, DType::ALL)]
}
