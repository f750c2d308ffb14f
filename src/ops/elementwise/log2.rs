//! `log2`: the logarithm to base 2.

use super::unary::{Apply, Rule, Unary, sample};
use crate::cpu::real::Real;
use crate::ops::prelude::*;

#[derive(Debug, Clone, Copy)]
struct Log2;

impl Tensor {
    /// The logarithm to base 2; minus infinity at zero, NaN for negative numbers.
    ///
    /// Shapes: any. Dtypes: all; integers and bools give `f32`. PyTorch: `torch.log2`. NPU: `aclnnLog2`.
    /// In `f32` on the CPU it is at most 1 unit in the last place off.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([8.0f32, 0.5]);
    /// assert_eq!(x.log2()?.to_vec::<f32>()?, [3.0, -1.0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Memory and device errors only.
    pub fn log2(&self) -> Result<Tensor> {
        Apply(Log2).run(self)
    }
}

impl Unary for Log2 {
    const NAME: &'static str = "log2";
    const RULE: Rule = Rule::Float;
    const CAST: CastRule = CastRule::Full;

    fn cpu(&self, x: &Host<'_>, y: &mut HostMut<'_>) {
        with_float!(x.dtype(), T => map::map1::<T, T>(x, y, Real::log2))
    }

    fn ascend(&self, cx: &Launch, x: &Dev<'_>, y: &Dev<'_>) -> Result<()> {
        aclnn::log2(cx, x, y)
    }

    fn compose(&self, x: &Tensor) -> Result<Tensor> {
        x.log()?.mul(std::f64::consts::LOG2_E)
    }

    fn backward(&self, cx: &GradCx<'_>, dy: &Tensor) -> Result<Tensor> {
        dy.div(&cx.input(0)?.mul(std::f64::consts::LN_2)?)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "log2",
    family: "elementwise",
    kernels: &["aclnnLog2"],
    samples,
};

fn samples() -> Vec<Sample> {
    vec![sample(Log2, 0.5, 4.0, DType::ALL)]
}
