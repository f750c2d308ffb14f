//! `tanh`: the hyperbolic tangent.

use super::binary::{self, Binary, Side, combine, tensors};
use super::unary::{Apply, Formula, Rule, Unary, float, may_fuse, sample};
use crate::cpu::real::Real;
use crate::ops::prelude::*;

#[derive(Debug, Clone, Copy)]
struct Tanh;

impl Tensor {
    /// The hyperbolic tangent.
    ///
    /// Shapes: any. Dtypes: all; integers and bools give `f32`. PyTorch: `torch.tanh`. NPU: `aclnnTanh`.
    /// In `f32` on the CPU it is at most 1.5 units in the last place off.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([0.0f32, f32::INFINITY]);
    /// assert_eq!(x.tanh()?.to_vec::<f32>()?, [0.0, 1.0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Memory and device errors only.
    pub fn tanh(&self) -> Result<Tensor> {
        Apply(Tanh).run(self)
    }
}

impl Formula for Tanh {
    #[inline(always)]
    fn at<T: Real>(&self, x: T) -> T {
        Float::tanh(x)
    }
}

impl Unary for Tanh {
    const NAME: &'static str = "tanh";
    const RULE: Rule = Rule::Float;
    const SAVES: Saves = Saves::OUTPUTS;

    fn cpu(&self, x: &Host<'_>, y: &mut HostMut<'_>) {
        float(x, y, self)
    }

    fn ascend(&self, cx: &Launch, x: &Dev<'_>, y: &Dev<'_>) -> Result<()> {
        aclnn::tanh(cx, x, y)
    }

    /// `e / (e + 2)` with `e = e^(2x) - 1`.
    fn compose(&self, x: &Tensor) -> Result<Tensor> {
        if x.dtype().is_half() {
            return Apply(*self).widened(x);
        }
        let e = x.clamp(-40.0..=40.0)?.mul(2i64)?.expm1()?;
        e.div(&e.add(2i64)?)
    }

    fn backward(&self, cx: &GradCx<'_>, dy: &Tensor) -> Result<Tensor> {
        let y = cx.output(0)?;
        if may_fuse() {
            return combine(TanhBackward, dy, Operand::Tensor(y));
        }
        dy.mul(&y.square()?.neg()?.add(1i64)?)
    }
}

/// The gradient of `tanh` in one kernel: `dy * (1 - y^2)`.
#[derive(Debug, Clone, Copy)]
struct TanhBackward;

impl Binary for TanhBackward {
    const NAME: &'static str = "tanh_backward";
    const RULE: binary::Rule = binary::Rule::FloatOnly;
    const GRADIENT: Gradient = Gradient::Missing;

    fn cpu(&self, dy: &Host<'_>, x: &Host<'_>, dx: &mut HostMut<'_>) -> Result<()> {
        with_float!(dx.dtype(), T => map::map2::<T, T, T>(dy, x, dx, |dy, y| dy * (1.0 - y * y)));
        Ok(())
    }

    fn ascend(&self, cx: &Launch, dy: Side<'_>, x: Side<'_>, dx: &Dev<'_>) -> Result<()> {
        let (dy, x) = tensors(Self::NAME, cx, dy, x)?;
        aclnn::tanh_backward(cx, dy, x, dx)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "tanh",
    family: "elementwise",
    kernels: &["aclnnTanh"],
    samples,
};

fn samples() -> Vec<Sample> {
    vec![sample(Tanh, -2.0, 2.0, DType::ALL)]
}
