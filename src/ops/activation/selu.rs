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
    /// NPU: `aclnnSelu`, `aclnnEluBackward`.
    /// In `f32` on the CPU it is at most 2 units in the last place off.
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

    fn slope(&self, dy: &Tensor, x: &Tensor) -> Result<Tensor> {
        x.le(0i64)?
            .where_cond(&dy.mul(&x.exp()?.mul(SCALE * ALPHA)?)?, &dy.mul(SCALE)?)
    }

    /// By the kernel that reads the input: the result of a half has lost what the slope is made of.
    fn ascend_slope(&self, cx: &Launch, dy: &Dev<'_>, x: &Dev<'_>, dx: &Dev<'_>) -> Result<()> {
        let [alpha, scale, one] = [ALPHA, SCALE, 1.0].map(|value| AclScalar::of(value, DType::F32));
        aclnn::elu_backward(cx, dy, alpha, scale, one, false, x, dx)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "selu",
    family: "activation",
    kernels: &["aclnnSelu", "aclnnEluBackward"],
    samples,
};

fn samples() -> Vec<Sample> {
    vec![sample(Selu, -4.0, 4.0, FLOATS)]
}
