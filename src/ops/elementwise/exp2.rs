//! `exp2`: two to the power of the elements.

use super::unary::{Apply, Rule, Unary, sample, wide};
use crate::cpu::real::Real;
use crate::ops::prelude::*;

#[derive(Debug, Clone, Copy)]
struct Exp2;

impl Tensor {
    /// `2^x`.
    ///
    /// Shapes: any. Dtypes: all; integers and bools give `f32`. PyTorch: `torch.exp2`. NPU: `aclnnExp2`.
    /// In `f32` on the CPU it is at most 1 unit in the last place off.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([3.0f32, -1.0]);
    /// assert_eq!(x.exp2()?.to_vec::<f32>()?, [8.0, 0.5]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Memory and device errors only.
    pub fn exp2(&self) -> Result<Tensor> {
        Apply(Exp2).run(self)
    }
}

impl Unary for Exp2 {
    const NAME: &'static str = "exp2";
    const RULE: Rule = Rule::Float;
    const SAVES: Saves = Saves::OUTPUTS;

    fn cpu(&self, x: &Host<'_>, y: &mut HostMut<'_>) {
        with_float!(x.dtype(), T => map::map1::<T, T>(x, y, Real::exp2))
    }

    fn ascend(&self, cx: &Launch, x: &Dev<'_>, y: &Dev<'_>) -> Result<()> {
        aclnn::exp2(cx, x, y)
    }

    fn compose(&self, x: &Tensor) -> Result<Tensor> {
        x.mul(std::f64::consts::LN_2)?.exp()
    }

    fn backward(&self, cx: &GradCx<'_>, dy: &Tensor) -> Result<Tensor> {
        let (dy, y) = (wide(dy)?, wide(cx.output(0)?)?);
        dy.mul(&y.mul(std::f64::consts::LN_2)?)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "exp2",
    family: "elementwise",
    kernels: &["aclnnExp2"],
    samples,
};

fn samples() -> Vec<Sample> {
    vec![sample(Exp2, -2.0, 2.0, DType::ALL)]
}
