//! `log10`: the logarithm to base 10.

use super::unary::{Apply, Rule, Unary, sample};
use crate::cpu::real::Real;
use crate::ops::prelude::*;

#[derive(Debug, Clone, Copy)]
struct Log10;

impl Tensor {
    /// The logarithm to base 10; minus infinity at zero, NaN for negative numbers.
    ///
    /// Shapes: any. Dtypes: all; integers and bools give `f32`. PyTorch: `torch.log10`. NPU: `aclnnLog10`.
    /// In `f32` on the CPU it is at most 2.5 units in the last place off.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([1.0f32, 1000.0]);
    /// assert_eq!(x.log10()?.to_vec::<f32>()?, [0.0, 3.0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Memory and device errors only.
    pub fn log10(&self) -> Result<Tensor> {
        Apply(Log10).run(self)
    }
}

impl Unary for Log10 {
    const NAME: &'static str = "log10";
    const RULE: Rule = Rule::Float;
    const CAST: CastRule = CastRule::Full;

    fn cpu(&self, x: &Host<'_>, y: &mut HostMut<'_>) {
        with_float!(x.dtype(), T => map::map1::<T, T>(x, y, Real::log10))
    }

    fn ascend(&self, cx: &Launch, x: &Dev<'_>, y: &Dev<'_>) -> Result<()> {
        aclnn::log10(cx, x, y)
    }

    fn compose(&self, x: &Tensor) -> Result<Tensor> {
        x.log()?.mul(std::f64::consts::LOG10_E)
    }

    fn backward(&self, cx: &GradCx<'_>, dy: &Tensor) -> Result<Tensor> {
        dy.div(&cx.input(0)?.mul(std::f64::consts::LN_10)?)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "log10",
    family: "elementwise",
    kernels: &["aclnnLog10"],
    samples,
};

fn samples() -> Vec<Sample> {
    vec![sample(Log10, 0.5, 4.0, DType::ALL)]
}
