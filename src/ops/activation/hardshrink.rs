//! `hardshrink`: zero near zero.

use crate::cpu::real::Real;
use crate::ops::elementwise::unary::{Apply, Formula, Rule, Unary, float, sample};
use crate::ops::prelude::*;

#[derive(Debug, Clone, Copy)]
struct Hardshrink {
    lambd: f64,
}

impl Tensor {
    /// 0 where `-lambd <= x <= lambd`, else `x`; NaN stays.
    ///
    /// Shapes: any. Dtypes: floats. PyTorch: `torch.nn.functional.hardshrink`.
    /// NPU: `aclnnHardshrink`, `aclnnHardshrinkBackward`.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([0.25f32, 2.0]);
    /// assert_eq!(x.hardshrink(0.5)?.to_vec::<f32>()?, [0.0, 2.0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `DType` for integers and bools; memory and device errors.
    pub fn hardshrink(&self, lambd: f64) -> Result<Tensor> {
        Apply(Hardshrink { lambd }).run(self)
    }
}

impl Formula for Hardshrink {
    #[inline(always)]
    fn at<T: Real>(&self, x: T) -> T {
        let limit = T::from_f64(self.lambd);
        if x >= limit.negate() && x <= limit {
            T::ZERO
        } else {
            x
        }
    }
}

impl Unary for Hardshrink {
    const NAME: &'static str = "hardshrink";
    const RULE: Rule = Rule::FloatOnly;
    const FUSED_SLOPE: bool = true;

    fn cpu(&self, x: &Host<'_>, y: &mut HostMut<'_>) {
        float(x, y, self);
    }

    fn ascend(&self, cx: &Launch, x: &Dev<'_>, y: &Dev<'_>) -> Result<()> {
        aclnn::hardshrink(cx, x, AclScalar::of(self.lambd, DType::F32), y)
    }

    fn compose(&self, x: &Tensor) -> Result<Tensor> {
        x.masked_fill(&x.ge(-self.lambd)?.logical_and(&x.le(self.lambd)?)?, 0i64)
    }

    fn slope(&self, dy: &Tensor, x: &Tensor) -> Result<Tensor> {
        dy.masked_fill(&x.ge(-self.lambd)?.logical_and(&x.le(self.lambd)?)?, 0i64)
    }

    fn ascend_slope(&self, cx: &Launch, dy: &Dev<'_>, x: &Dev<'_>, dx: &Dev<'_>) -> Result<()> {
        let limit = AclScalar::of(self.lambd, DType::F32);
        aclnn::hardshrink_backward(cx, dy, x, limit, dx)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "hardshrink",
    family: "activation",
    kernels: &["aclnnHardshrink", "aclnnHardshrinkBackward"],
    samples,
};

fn samples() -> Vec<Sample> {
    vec![sample(Hardshrink { lambd: 0.5 }, -4.0, 4.0, FLOATS)]
}
