//! `relu6`: the positive part, at most 6.

use crate::ops::elementwise::unary::{Apply, Rule, Unary, sample};
use crate::ops::prelude::*;

#[derive(Debug, Clone, Copy)]
struct Relu6;

impl Tensor {
    /// `min(max(x, 0), 6)`; NaN stays. The gradient is 0 at both ends.
    ///
    /// Shapes: any. Dtypes: all but bool. PyTorch: `torch.nn.functional.relu6`.
    /// NPU: `aclnnHardtanh`, `aclnnHardtanhBackward`.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([-1.0f32, 2.0, 7.0]);
    /// assert_eq!(x.relu6()?.to_vec::<f32>()?, [0.0, 2.0, 6.0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `DType` for bools; memory and device errors.
    pub fn relu6(&self) -> Result<Tensor> {
        Apply(Relu6).run(self)
    }
}

impl Unary for Relu6 {
    const NAME: &'static str = "relu6";
    const RULE: Rule = Rule::Numbers;
    const FUSED_SLOPE: bool = true;

    fn cpu(&self, x: &Host<'_>, y: &mut HostMut<'_>) {
        with_lane!(x.dtype(), T => map::map1::<T, T>(x, y, |x| x.larger(T::ZERO).smaller(T::from_i64(6))));
    }

    fn ascend(&self, cx: &Launch, x: &Dev<'_>, y: &Dev<'_>) -> Result<()> {
        aclnn::hardtanh(
            cx,
            x,
            AclScalar::of(0i64, y.dtype()),
            AclScalar::of(6i64, y.dtype()),
            y,
        )
    }

    fn compose(&self, x: &Tensor) -> Result<Tensor> {
        x.clamp(0i64..=6i64)
    }

    fn slope(&self, dy: &Tensor, x: &Tensor) -> Result<Tensor> {
        let inside = x.gt(0i64)?.logical_and(&x.lt(6i64)?)?;
        inside.where_cond(dy, 0i64)
    }

    fn ascend_slope(&self, cx: &Launch, dy: &Dev<'_>, x: &Dev<'_>, dx: &Dev<'_>) -> Result<()> {
        aclnn::hardtanh_backward(
            cx,
            dy,
            x,
            AclScalar::of(0i64, dx.dtype()),
            AclScalar::of(6i64, dx.dtype()),
            dx,
        )
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "relu6",
    family: "activation",
    kernels: &["aclnnHardtanh", "aclnnHardtanhBackward"],
    samples,
};

fn samples() -> Vec<Sample> {
    vec![sample(Relu6, -4.0, 4.0, NUMBERS)]
}
