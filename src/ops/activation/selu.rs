//! `selu`: the self-normalising exponential unit.

use crate::cpu::real::Real;
use crate::ops::elementwise::unary::{Apply, Formula, Rule, Unary, float, sample};
use crate::ops::prelude::*;

#[derive(Debug, Clone, Copy)]
struct Selu;

impl Tensor {
    /// `1.0507009873554805 x` where positive, else `1.0507009873554805 * 1.6732632423543772 (e^x - 1)`.
    ///
    /// Shapes: any. Dtypes: floats. PyTorch: `torch.nn.functional.selu`.
    /// NPU: `aclnnSelu`, `aclnnSeluBackward`.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([0.0f32]);
    /// assert_eq!(x.selu()?.to_vec::<f32>()?, [0.0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `DType` for integers and bools; memory and device errors.
    pub fn selu(&self) -> Result<Tensor> {
        Apply(Selu).run(self)
    }
}

impl Formula for Selu {
    #[inline(always)]
    fn at<T: Real>(&self, x: T) -> T {
        if x > T::ZERO {
            x.scaled(SCALE)
        } else {
            x.exp_m1().scaled(SCALE * ALPHA)
        }
    }
}

const SCALE: f64 = 1.050_700_987_355_480_5;
const ALPHA: f64 = 1.673_263_242_354_377_2;

impl Unary for Selu {
    const NAME: &'static str = "selu";
    const RULE: Rule = Rule::FloatOnly;
    const SAVES: Saves = Saves::OUTPUTS;
    const FUSED_SLOPE: bool = true;

    fn cpu(&self, x: &Host<'_>, y: &mut HostMut<'_>) {
        float(x, y, self);
    }

    fn ascend(&self, cx: &Launch, x: &Dev<'_>, y: &Dev<'_>) -> Result<()> {
        aclnn::selu(cx, x, y)
    }

    fn compose(&self, x: &Tensor) -> Result<Tensor> {
        if x.dtype().is_half() {
            return Apply(*self).widened(x);
        }
        x.gt(0i64)?
            .where_cond(&x.mul(SCALE)?, &x.expm1()?.mul(SCALE * ALPHA)?)
    }

    fn slope(&self, dy: &Tensor, y: &Tensor) -> Result<Tensor> {
        let below = dy.mul(&y.add(SCALE * ALPHA)?)?;
        y.le(0i64)?.where_cond(&below, &dy.mul(SCALE)?)
    }

    fn ascend_slope(&self, cx: &Launch, dy: &Dev<'_>, y: &Dev<'_>, dx: &Dev<'_>) -> Result<()> {
        aclnn::selu_backward(cx, dy, y, dx)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "selu",
    family: "activation",
    kernels: &["aclnnSelu", "aclnnSeluBackward"],
    samples,
};

fn samples() -> Vec<Sample> {
    vec![sample(Selu, -4.0, 4.0, FLOATS)]
}
