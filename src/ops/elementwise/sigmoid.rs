//! `sigmoid`: the logistic function.

use super::binary::{self, Binary, Side, combine, tensors};
use super::unary::{Apply, Formula, Rule, Unary, float, may_fuse, sample};
use crate::cpu::real::Real;
use crate::ops::prelude::*;

#[derive(Debug, Clone, Copy)]
struct Sigmoid;

impl Tensor {
    /// `1 / (1 + e^-x)`, without overflow.
    ///
    /// Shapes: any. Dtypes: all; integers and bools give `f32`. PyTorch: `torch.sigmoid`. NPU: `aclnnSigmoid`.
    /// In `f32` on the CPU it is at most 3 units in the last place off, or 1.2e-38.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([0.0f32, f32::INFINITY]);
    /// assert_eq!(x.sigmoid()?.to_vec::<f32>()?, [0.5, 1.0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Memory and device errors only.
    pub fn sigmoid(&self) -> Result<Tensor> {
        Apply(Sigmoid).run(self)
    }
}

impl Formula for Sigmoid {
    #[inline(always)]
    fn at<T: Real>(&self, x: T) -> T {
        Real::sigmoid(x)
    }
}

impl Unary for Sigmoid {
    const NAME: &'static str = "sigmoid";
    const RULE: Rule = Rule::Float;
    const SAVES: Saves = Saves::OUTPUTS;

    fn cpu(&self, x: &Host<'_>, y: &mut HostMut<'_>) {
        float(x, y, self)
    }

    fn ascend(&self, cx: &Launch, x: &Dev<'_>, y: &Dev<'_>) -> Result<()> {
        aclnn::sigmoid(cx, x, y)
    }

    fn compose(&self, x: &Tensor) -> Result<Tensor> {
        if x.dtype().is_half() {
            return Apply(*self).widened(x);
        }
        x.neg()?.exp()?.add(1i64)?.reciprocal()
    }

    fn backward(&self, cx: &GradCx<'_>, dy: &Tensor) -> Result<Tensor> {
        let y = cx.output(0)?;
        if may_fuse() {
            return combine(SigmoidBackward, dy, Operand::Tensor(y));
        }
        dy.mul(&y.mul(&y.neg()?.add(1i64)?)?)
    }
}

/// The gradient of `sigmoid` in one kernel: `dy * y * (1 - y)`.
#[derive(Debug, Clone, Copy)]
struct SigmoidBackward;

impl Binary for SigmoidBackward {
    const NAME: &'static str = "sigmoid_backward";
    const RULE: binary::Rule = binary::Rule::FloatOnly;
    const GRADIENT: Gradient = Gradient::Missing;

    fn cpu(&self, dy: &Host<'_>, x: &Host<'_>, dx: &mut HostMut<'_>) -> Result<()> {
        with_float!(dx.dtype(), T => map::map2::<T, T, T>(dy, x, dx, |dy, y| dy * (1.0 - y) * y));
        Ok(())
    }

    fn ascend(&self, cx: &Launch, dy: Side<'_>, x: Side<'_>, dx: &Dev<'_>) -> Result<()> {
        let (dy, x) = tensors(Self::NAME, cx, dy, x)?;
        aclnn::sigmoid_backward(cx, dy, x, dx)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "sigmoid",
    family: "elementwise",
    kernels: &["aclnnSigmoid"],
    samples,
};

fn samples() -> Vec<Sample> {
    vec![sample(Sigmoid, -2.0, 2.0, DType::ALL)]
}
