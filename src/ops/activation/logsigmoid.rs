//! `logsigmoid`: the logarithm of the logistic function.

use crate::cpu::real::Real;
use crate::ops::elementwise::unary::{Apply, Formula, Rule, Unary, float, sample};
use crate::ops::prelude::*;

#[derive(Debug, Clone, Copy)]
struct Logsigmoid;

impl Tensor {
    /// `-ln(1 + e^-x)`, without overflow.
    ///
    /// Shapes: any. Dtypes: floats. PyTorch: `torch.nn.functional.logsigmoid`.
    /// NPU: `aclnnLogSigmoid`, `aclnnLogSigmoidBackward`.
    /// In `f32` on the CPU it is at most 3 units in the last place off.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([200.0f32, -200.0]);
    /// assert_eq!(x.logsigmoid()?.to_vec::<f32>()?, [0.0, -200.0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `DType` for integers and bools; memory and device errors.
    pub fn logsigmoid(&self) -> Result<Tensor> {
        Apply(Logsigmoid).run(self)
    }
}

impl Formula for Logsigmoid {
    #[inline(always)]
    fn at<T: Real>(&self, x: T) -> T {
        x.smaller(T::ZERO)
            .minus(Float::exp(x.absolute().negate()).ln_1p())
    }
}

impl Unary for Logsigmoid {
    const NAME: &'static str = "logsigmoid";
    const RULE: Rule = Rule::FloatOnly;
    const FUSED_SLOPE: bool = true;

    fn cpu(&self, x: &Host<'_>, y: &mut HostMut<'_>) {
        float(x, y, self);
    }

    fn ascend(&self, cx: &Launch, x: &Dev<'_>, y: &Dev<'_>) -> Result<()> {
        aclnn::log_sigmoid(cx, x, y)
    }

    fn compose(&self, x: &Tensor) -> Result<Tensor> {
        if x.dtype().is_half() {
            return Apply(*self).widened(x);
        }
        x.clamp(..=0i64)?.sub(&x.abs()?.neg()?.exp()?.log1p()?)
    }

    fn slope(&self, dy: &Tensor, x: &Tensor) -> Result<Tensor> {
        dy.mul(&x.neg()?.sigmoid()?)
    }

    fn ascend_slope(&self, cx: &Launch, dy: &Dev<'_>, x: &Dev<'_>, dx: &Dev<'_>) -> Result<()> {
        let unused = cx.temporary([0], x.dtype())?;
        aclnn::log_sigmoid_backward(cx, dy, x, &unused.dev(), dx)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "logsigmoid",
    family: "activation",
    kernels: &["aclnnLogSigmoid", "aclnnLogSigmoidBackward"],
    samples,
};

fn samples() -> Vec<Sample> {
    vec![sample(Logsigmoid, -4.0, 4.0, FLOATS)]
}
