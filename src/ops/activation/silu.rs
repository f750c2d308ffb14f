//! `silu`: the elements times their logistic function.

use crate::cpu::map::Formula2;
use crate::cpu::real::Real;
use crate::ops::elementwise::binary::{self, Binary, Side, combine, tensors};
use crate::ops::elementwise::unary::{Apply, Formula, Rule, Unary, float, may_fuse, sample};
use crate::ops::prelude::*;

#[derive(Debug, Clone, Copy)]
struct Silu;

impl Tensor {
    /// `x sigmoid(x)`, also called swish.
    ///
    /// Shapes: any. Dtypes: floats. PyTorch: `torch.nn.functional.silu`. NPU: `aclnnSilu`, `aclnnSiluBackward`.
    /// In `f32` on the CPU it is at most 3.5 units in the last place off, or 3e-37.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([0.0f32, 100.0]);
    /// assert_eq!(x.silu()?.to_vec::<f32>()?, [0.0, 100.0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `DType` for integers and bools; memory and device errors.
    pub fn silu(&self) -> Result<Tensor> {
        Apply(Silu).run(self)
    }
}

impl Formula for Silu {
    #[inline(always)]
    fn at<T: Real>(&self, x: T) -> T {
        x.over(T::ONE.plus(Float::exp(x.negate())))
    }
}

impl Unary for Silu {
    const NAME: &'static str = "silu";
    const RULE: Rule = Rule::FloatOnly;

    fn cpu(&self, x: &Host<'_>, y: &mut HostMut<'_>) {
        float(x, y, self);
    }

    fn ascend(&self, cx: &Launch, x: &Dev<'_>, y: &Dev<'_>) -> Result<()> {
        aclnn::silu(cx, x, y)
    }

    fn compose(&self, x: &Tensor) -> Result<Tensor> {
        if x.dtype().is_half() {
            Apply(*self).widened(x)
        } else {
            x.mul(&x.sigmoid()?)
        }
    }

    /// `s (1 + x (1 - s)) dy` with `s = sigmoid(x)`.
    fn backward(&self, cx: &GradCx<'_>, dy: &Tensor) -> Result<Tensor> {
        let x = cx.input(0)?;
        if may_fuse() {
            return combine(SiluBackward, dy, Operand::Tensor(x));
        }
        slope(dy, x)
    }
}

fn slope(dy: &Tensor, x: &Tensor) -> Result<Tensor> {
    let s = x.sigmoid()?;
    let inner = x.mul(&s.neg()?.add(1i64)?)?.add(1i64)?;
    dy.mul(&s.mul(&inner)?)
}

/// The gradient of `silu` in one kernel.
#[derive(Debug, Clone, Copy)]
struct SiluBackward;

impl Formula2 for SiluBackward {
    #[inline(always)]
    fn at<T: Real>(&self, dy: T, x: T) -> T {
        let (s, rest) = x.sigmoids();
        dy.times(s).times(T::ONE.plus(x.times(rest)))
    }
}

impl Binary for SiluBackward {
    const NAME: &'static str = "silu_backward";
    const RULE: binary::Rule = binary::Rule::FloatOnly;
    const GRADIENT: Gradient = Gradient::Missing;

    fn cpu(&self, dy: &Host<'_>, x: &Host<'_>, dx: &mut HostMut<'_>) -> Result<()> {
        with_float!(dx.dtype(), T => map::formula2::<T>(dy, x, dx, self));
        Ok(())
    }

    fn ascend(&self, cx: &Launch, dy: Side<'_>, x: Side<'_>, dx: &Dev<'_>) -> Result<()> {
        let (dy, x) = tensors(Self::NAME, cx, dy, x)?;
        aclnn::silu_backward(cx, dy, x, dx)
    }

    fn compose(&self, dy: &Tensor, x: &Tensor) -> Result<Tensor> {
        slope(dy, x)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "silu",
    family: "activation",
    kernels: &["aclnnSilu", "aclnnSiluBackward"],
    samples,
};

fn samples() -> Vec<Sample> {
    vec![sample(Silu, -2.0, 2.0, FLOATS)]
}
