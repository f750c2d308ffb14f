//! `hardsigmoid`: a straight line from 0 to 1.

use crate::cpu::real::Real;
use crate::ops::elementwise::unary::{Apply, Formula, Rule, Unary, float, sample};
use crate::ops::prelude::*;

#[derive(Debug, Clone, Copy)]
struct Hardsigmoid;

impl Tensor {
    /// `clamp(x / 6 + 1 / 2, 0, 1)`.
    ///
    /// Shapes: any. Dtypes: floats. PyTorch: `torch.nn.functional.hardsigmoid`.
    /// NPU: `aclnnHardsigmoid`, `aclnnHardsigmoidBackward`.
    /// In `f32` on the CPU it is at most 1.5 units in the last place off.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([-4.0f32, 0.0, 3.0]);
    /// assert_eq!(x.hardsigmoid()?.to_vec::<f32>()?, [0.0, 0.5, 1.0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `DType` for integers and bools; memory and device errors.
    pub fn hardsigmoid(&self) -> Result<Tensor> {
        Apply(Hardsigmoid).run(self)
    }
}

impl Formula for Hardsigmoid {
    #[inline(always)]
    fn at<T: Real>(&self, x: T) -> T {
        x.shifted(3.0)
            .larger(T::ZERO)
            .smaller(T::from_f64(6.0))
            .over(T::from_f64(6.0))
    }
}

impl Unary for Hardsigmoid {
    const NAME: &'static str = "hardsigmoid";
    const RULE: Rule = Rule::FloatOnly;
    const FUSED_SLOPE: bool = true;

    fn cpu(&self, x: &Host<'_>, y: &mut HostMut<'_>) {
        float(x, y, self);
    }

    fn ascend(&self, cx: &Launch, x: &Dev<'_>, y: &Dev<'_>) -> Result<()> {
        aclnn::hardsigmoid(cx, x, y)
    }

    fn compose(&self, x: &Tensor) -> Result<Tensor> {
        if x.dtype().is_half() {
            return Apply(*self).widened(x);
        }
        x.add(3i64)?.clamp(0i64..=6i64)?.div(6i64)
    }

    fn slope(&self, dy: &Tensor, x: &Tensor) -> Result<Tensor> {
        let inside = x.gt(-3i64)?.logical_and(&x.lt(3i64)?)?;
        // PyTorch's gradient has 1 / 6 in single precision, for every dtype.
        inside.where_cond(&dy.mul(f64::from(1.0f32 / 6.0))?, 0i64)
    }

    fn ascend_slope(&self, cx: &Launch, dy: &Dev<'_>, x: &Dev<'_>, dx: &Dev<'_>) -> Result<()> {
        aclnn::hardsigmoid_backward(cx, dy, x, dx)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "hardsigmoid",
    family: "activation",
    kernels: &["aclnnHardsigmoid", "aclnnHardsigmoidBackward"],
    samples,
};

fn samples() -> Vec<Sample> {
    vec![sample(Hardsigmoid, -4.0, 4.0, FLOATS)]
}
