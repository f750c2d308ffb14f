//! `square`: the elements times themselves.

use super::unary::{Apply, Rule, Unary, sample};
use crate::ops::prelude::*;

#[derive(Debug, Clone, Copy)]
struct Square;

impl Tensor {
    /// `x * x`; integers wrap, bools give `i64`.
    ///
    /// Shapes: any. Dtypes: all. PyTorch: `torch.square`. NPU: `aclnnMul`.
    /// In `f32` on the CPU it is at most 0.5 unit in the last place off.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// assert_eq!(Tensor::new([3.0f32, -2.0]).square()?.to_vec::<f32>()?, [9.0, 4.0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Memory and device errors only.
    pub fn square(&self) -> Result<Tensor> {
        if self.dtype() == DType::Bool {
            return self.to_dtype(DType::I64);
        }
        Apply(Square).run(self)
    }
}

impl Unary for Square {
    const NAME: &'static str = "square";
    const RULE: Rule = Rule::Numbers;

    fn cpu(&self, x: &Host<'_>, y: &mut HostMut<'_>) {
        with_lane!(x.dtype(), T => map::map1::<T, T>(x, y, |x| x.times(x)));
    }

    fn ascend(&self, cx: &Launch, x: &Dev<'_>, y: &Dev<'_>) -> Result<()> {
        aclnn::mul(cx, x, x, y)
    }

    fn compose(&self, x: &Tensor) -> Result<Tensor> {
        x.mul(x)
    }

    fn backward(&self, cx: &GradCx<'_>, dy: &Tensor) -> Result<Tensor> {
        dy.mul(&cx.input(0)?.mul(2i64)?)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "square",
    family: "elementwise",
    kernels: &["aclnnMul"],
    samples,
};

fn samples() -> Vec<Sample> {
    vec![sample(Square, -2.0, 2.0, NUMBERS)]
}
