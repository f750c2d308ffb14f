//! `mish`: the elements times the tangent of their softplus.

use crate::cpu::real::Real;
use crate::ops::elementwise::unary::{Apply, Formula, Rule, Unary, float, sample};
use crate::ops::prelude::*;

#[derive(Debug, Clone, Copy)]
struct Mish;

impl Tensor {
    /// `x tanh(ln(1 + e^x))`.
    ///
    /// Shapes: any. Dtypes: floats. PyTorch: `torch.nn.functional.mish`.
    /// NPU: `aclnnMish`, `aclnnMishBackward`.
    /// In `f32` on the CPU it is at most 5 units in the last place off, or 1e-37.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([0.0f32, 100.0]);
    /// assert_eq!(x.mish()?.to_vec::<f32>()?, [0.0, 100.0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `DType` for integers and bools; memory and device errors.
    pub fn mish(&self) -> Result<Tensor> {
        Apply(Mish).run(self)
    }
}

impl Formula for Mish {
    #[inline(always)]
    fn at<T: Real>(&self, x: T) -> T {
        let e = Float::exp(x.smaller(T::from_f64(20.0)));
        let n = e.times(e.shifted(2.0));
        let value = x.times(n).over(n.shifted(2.0));
        if x > T::from_f64(20.0) { x } else { value }
    }
}

impl Unary for Mish {
    const NAME: &'static str = "mish";
    const RULE: Rule = Rule::FloatOnly;
    const FUSED_SLOPE: bool = true;

    fn cpu(&self, x: &Host<'_>, y: &mut HostMut<'_>) {
        float(x, y, self);
    }

    fn ascend(&self, cx: &Launch, x: &Dev<'_>, y: &Dev<'_>) -> Result<()> {
        aclnn::mish(cx, x, y)
    }

    fn compose(&self, x: &Tensor) -> Result<Tensor> {
        if x.dtype().is_half() {
            return Apply(*self).widened(x);
        }
        x.mul(&x.softplus(())?.tanh()?)
    }

    fn slope(&self, dy: &Tensor, x: &Tensor) -> Result<Tensor> {
        let t = x.softplus(())?.tanh()?;
        let right = x.mul(&x.sigmoid()?)?.mul(&t.square()?.neg()?.add(1i64)?)?;
        dy.mul(&t.add(&right)?)
    }

    fn ascend_slope(&self, cx: &Launch, dy: &Dev<'_>, x: &Dev<'_>, dx: &Dev<'_>) -> Result<()> {
        aclnn::mish_backward(cx, dy, x, dx)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "mish",
    family: "activation",
    kernels: &["aclnnMish", "aclnnMishBackward"],
    samples,
};

fn samples() -> Vec<Sample> {
    vec![sample(Mish, -4.0, 4.0, FLOATS)]
}
