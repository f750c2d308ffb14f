//! `relu`: the positive part.

use crate::ops::elementwise::binary::{self, Binary, Side, combine, tensors};
use crate::ops::elementwise::unary::{Apply, Rule, Unary, may_fuse, sample};
use crate::ops::prelude::*;

#[derive(Debug, Clone, Copy)]
struct Relu;

impl Tensor {
    /// `max(x, 0)`; NaN stays. The gradient at 0 is 0.
    ///
    /// Shapes: any. Dtypes: all but bool. PyTorch: `torch.relu`. NPU: `aclnnRelu`, `aclnnThresholdBackward`.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([-1.0f32, 2.0]);
    /// assert_eq!(x.relu()?.to_vec::<f32>()?, [0.0, 2.0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `DType` for bools; memory and device errors.
    pub fn relu(&self) -> Result<Tensor> {
        Apply(Relu).run(self)
    }
}

impl Unary for Relu {
    const NAME: &'static str = "relu";
    const RULE: Rule = Rule::Numbers;
    const SAVES: Saves = Saves::OUTPUTS;

    fn cpu(&self, x: &Host<'_>, y: &mut HostMut<'_>) {
        with_lane!(x.dtype(), T => map::map1::<T, T>(x, y, |x| if x < T::ZERO { T::ZERO } else { x }));
    }

    fn ascend(&self, cx: &Launch, x: &Dev<'_>, y: &Dev<'_>) -> Result<()> {
        aclnn::relu(cx, x, y)
    }

    fn compose(&self, x: &Tensor) -> Result<Tensor> {
        x.masked_fill(&x.lt(0i64)?, 0i64)
    }

    fn backward(&self, cx: &GradCx<'_>, dy: &Tensor) -> Result<Tensor> {
        let y = cx.output(0)?;
        if may_fuse() {
            return combine(ReluBackward, dy, Operand::Tensor(y));
        }
        dy.masked_fill(&y.le(0i64)?, 0i64)
    }
}

/// The gradient of `relu` in one kernel: `dy`, but 0 where the output is not positive.
#[derive(Debug, Clone, Copy)]
struct ReluBackward;

impl Binary for ReluBackward {
    const NAME: &'static str = "relu_backward";
    const RULE: binary::Rule = binary::Rule::FloatOnly;
    const GRADIENT: Gradient = Gradient::Missing;

    fn cpu(&self, dy: &Host<'_>, y: &Host<'_>, dx: &mut HostMut<'_>) -> Result<()> {
        with_float!(dx.dtype(), T => map::map2::<T, T, T>(dy, y, dx, |dy, y| if y <= 0.0 { 0.0 } else { dy }));
        Ok(())
    }

    fn ascend(&self, cx: &Launch, dy: Side<'_>, y: Side<'_>, dx: &Dev<'_>) -> Result<()> {
        let (dy, y) = tensors(Self::NAME, cx, dy, y)?;
        aclnn::threshold_backward(cx, dy, y, AclScalar::of(0i64, dx.dtype()), dx)
    }

    fn compose(&self, dy: &Tensor, y: &Tensor) -> Result<Tensor> {
        dy.masked_fill(&y.le(0i64)?, 0i64)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "relu",
    family: "activation",
    kernels: &["aclnnRelu", "aclnnThresholdBackward"],
    samples,
};

fn samples() -> Vec<Sample> {
    vec![sample(Relu, -2.0, 2.0, NUMBERS)]
}
