//! `log`: the natural logarithm.

use super::unary::{Apply, Formula, Rule, Unary, float, sample};
use crate::cpu::real::Real;
use crate::ops::prelude::*;

#[derive(Debug, Clone, Copy)]
struct Log;

impl Tensor {
    /// The natural logarithm; minus infinity at zero, NaN for negative numbers.
    ///
    /// Shapes: any. Dtypes: all; integers and bools give `f32`. PyTorch: `torch.log`. NPU: `aclnnLog`.
    /// In `f32` on the CPU it is at most 1 unit in the last place off.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([1.0f32, 0.0]);
    /// assert_eq!(x.log()?.to_vec::<f32>()?, [0.0, f32::NEG_INFINITY]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Memory and device errors only.
    pub fn log(&self) -> Result<Tensor> {
        Apply(Log).run(self)
    }
}

impl Formula for Log {
    #[inline(always)]
    fn at<T: Real>(&self, x: T) -> T {
        Float::ln(x)
    }
}

impl Unary for Log {
    const NAME: &'static str = "log";
    const RULE: Rule = Rule::Float;
    const CAST: CastRule = CastRule::Full;

    fn cpu(&self, x: &Host<'_>, y: &mut HostMut<'_>) {
        float(x, y, self)
    }

    fn ascend(&self, cx: &Launch, x: &Dev<'_>, y: &Dev<'_>) -> Result<()> {
        aclnn::log(cx, x, y)
    }

    fn backward(&self, cx: &GradCx<'_>, dy: &Tensor) -> Result<Tensor> {
        dy.div(cx.input(0)?)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "log",
    family: "elementwise",
    kernels: &["aclnnLog"],
    samples,
};

fn samples() -> Vec<Sample> {
    vec![sample(Log, 0.5, 4.0, DType::ALL)]
}
