//! `softshrink`: pulled toward zero.

use crate::cpu::real::Real;
use crate::ops::elementwise::unary::{Apply, Formula, Rule, Unary, float, sample};
use crate::ops::prelude::*;

#[derive(Debug, Clone, Copy)]
struct Softshrink {
    lambd: f64,
}

impl Tensor {
    /// `sign(x) max(|x| - lambd, 0)`.
    ///
    /// Shapes: any. Dtypes: floats. PyTorch: `torch.nn.functional.softshrink`.
    /// NPU: `aclnnSoftshrink`, `aclnnSoftshrinkBackward`.
    /// In `f32` on the CPU it is at most 0.5 unit in the last place off.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([0.25f32, 2.0]);
    /// assert_eq!(x.softshrink(0.5)?.to_vec::<f32>()?, [0.0, 1.5]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Option` for a negative `lambd`, `DType` for integers and bools; memory and device errors.
    pub fn softshrink(&self, lambd: f64) -> Result<Tensor> {
        Apply(Softshrink { lambd }).run(self)
    }
}

impl Formula for Softshrink {
    #[inline(always)]
    fn at<T: Real>(&self, x: T) -> T {
        let limit = T::from_f64(self.lambd);
        x.minus(x.larger(limit.negate()).smaller(limit))
    }
}

impl Unary for Softshrink {
    const NAME: &'static str = "softshrink";
    const RULE: Rule = Rule::FloatOnly;
    const FUSED_SLOPE: bool = true;

    fn check(&self) -> Result<()> {
        if self.lambd < 0.0 {
            return Err(Error::option(
                "softshrink",
                "lambd",
                format!("got {}, wanted a number that is not negative", self.lambd),
            ));
        }
        Ok(())
    }

    fn cpu(&self, x: &Host<'_>, y: &mut HostMut<'_>) {
        float(x, y, self);
    }

    fn ascend(&self, cx: &Launch, x: &Dev<'_>, y: &Dev<'_>) -> Result<()> {
        aclnn::softshrink(cx, x, AclScalar::of(self.lambd, DType::F32), y)
    }

    fn compose(&self, x: &Tensor) -> Result<Tensor> {
        if x.dtype().is_half() {
            return Apply(*self).widened(x);
        }
        x.sub(&x.clamp(-self.lambd..=self.lambd)?)
    }

    fn slope(&self, dy: &Tensor, x: &Tensor) -> Result<Tensor> {
        dy.masked_fill(&x.ge(-self.lambd)?.logical_and(&x.le(self.lambd)?)?, 0i64)
    }

    fn ascend_slope(&self, cx: &Launch, dy: &Dev<'_>, x: &Dev<'_>, dx: &Dev<'_>) -> Result<()> {
        let limit = AclScalar::of(self.lambd, DType::F32);
        aclnn::softshrink_backward(cx, dy, x, limit, dx)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "softshrink",
    family: "activation",
    kernels: &["aclnnSoftshrink", "aclnnSoftshrinkBackward"],
    samples,
};

fn samples() -> Vec<Sample> {
    vec![sample(Softshrink { lambd: 0.5 }, -4.0, 4.0, FLOATS)]
}
