//! `erfinv`: the inverse of the error function.

use super::unary::{Apply, Rule, Unary, sample};
use crate::cpu::real::Real;
use crate::ops::prelude::*;

#[derive(Debug, Clone, Copy)]
struct Erfinv;

impl Tensor {
    /// The inverse of the error function; infinite at -1 and 1, NaN beyond.
    ///
    /// Shapes: any. Dtypes: all; integers and bools give `f32`. PyTorch: `torch.erfinv`. NPU: `aclnnErfinv`.
    /// In `f32` on the CPU it is at most 0.51 unit in the last place off.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([0.0f32, 1.0]);
    /// assert_eq!(x.erfinv()?.to_vec::<f32>()?, [0.0, f32::INFINITY]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Memory and device errors only.
    pub fn erfinv(&self) -> Result<Tensor> {
        Apply(Erfinv).run(self)
    }
}

impl Unary for Erfinv {
    const NAME: &'static str = "erfinv";
    const RULE: Rule = Rule::Float;
    const CAST: CastRule = CastRule::Full;
    const SAVES: Saves = Saves::OUTPUTS;

    fn cpu(&self, x: &Host<'_>, y: &mut HostMut<'_>) {
        with_float!(x.dtype(), T => map::map1::<T, T>(x, y, Real::erfinv))
    }

    fn ascend(&self, cx: &Launch, x: &Dev<'_>, y: &Dev<'_>) -> Result<()> {
        aclnn::erfinv(cx, x, y)
    }

    fn backward(&self, cx: &GradCx<'_>, dy: &Tensor) -> Result<Tensor> {
        let slope = cx.output(0)?.square()?.exp()?;
        dy.mul(1.0 / std::f64::consts::FRAC_2_SQRT_PI)?.mul(&slope)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "erfinv",
    family: "elementwise",
    kernels: &["aclnnErfinv"],
    samples,
};

fn samples() -> Vec<Sample> {
    vec![sample(Erfinv, -0.9, 0.9, DType::ALL)]
}
