//! `hardswish`: the elements times a straight line from 0 to 1.

use crate::cpu::real::Real;
use crate::ops::elementwise::unary::{Apply, Formula, Rule, Unary, float, sample};
use crate::ops::prelude::*;

#[derive(Debug, Clone, Copy)]
struct Hardswish;

impl Tensor {
    /// `x clamp(x + 3, 0, 6) / 6`.
    ///
    /// Shapes: any. Dtypes: floats. PyTorch: `torch.nn.functional.hardswish`.
    /// NPU: `aclnnHardswish`, `aclnnHardswishBackwardV2`.
    /// In `f32` on the CPU it is at most 2 units in the last place off; from 5.67e37 on the product is infinite.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([-4.0f32, 0.0, 3.0]);
    /// assert_eq!(x.hardswish()?.to_vec::<f32>()?, [0.0, 0.0, 3.0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `DType` for integers and bools; memory and device errors.
    pub fn hardswish(&self) -> Result<Tensor> {
        Apply(Hardswish).run(self)
    }
}

impl Formula for Hardswish {
    #[inline(always)]
    fn at<T: Real>(&self, x: T) -> T {
        x.times(x.shifted(3.0).larger(T::ZERO).smaller(T::from_f64(6.0)))
            .over(T::from_f64(6.0))
    }
}

impl Unary for Hardswish {
    const NAME: &'static str = "hardswish";
    const RULE: Rule = Rule::FloatOnly;
    const FUSED_SLOPE: bool = true;

    fn cpu(&self, x: &Host<'_>, y: &mut HostMut<'_>) {
        float(x, y, self);
    }

    fn ascend(&self, cx: &Launch, x: &Dev<'_>, y: &Dev<'_>) -> Result<()> {
        aclnn::hardswish(cx, x, y)
    }

    fn compose(&self, x: &Tensor) -> Result<Tensor> {
        if x.dtype().is_half() {
            return Apply(*self).widened(x);
        }
        x.mul(&x.add(3i64)?.clamp(0i64..=6i64)?)?.div(6i64)
    }

    fn slope(&self, dy: &Tensor, x: &Tensor) -> Result<Tensor> {
        let middle = dy.mul(&x.div(3i64)?.add(0.5)?)?;
        x.ge(3i64)?
            .where_cond(dy, &middle.masked_fill(&x.le(-3i64)?, 0i64)?)
    }

    fn ascend_slope(&self, cx: &Launch, dy: &Dev<'_>, x: &Dev<'_>, dx: &Dev<'_>) -> Result<()> {
        aclnn::hardswish_backward_v2(cx, dy, x, dx)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "hardswish",
    family: "activation",
    kernels: &["aclnnHardswish", "aclnnHardswishBackwardV2"],
    samples,
};

fn samples() -> Vec<Sample> {
    vec![sample(Hardswish, -4.0, 4.0, FLOATS)]
}
