//! `leaky_relu`: the positive part and a fraction of the negative one.

use crate::cpu::real::Real;
use crate::ops::elementwise::unary::{Apply, Formula, Rule, Unary, float, sample};
use crate::ops::prelude::*;

#[derive(Debug, Clone, Copy)]
struct LeakyRelu {
    negative_slope: f64,
}

impl Tensor {
    /// `x` where positive, else `negative_slope x`.
    ///
    /// Shapes: any. Dtypes: floats. PyTorch: `torch.nn.functional.leaky_relu`.
    /// NPU: `aclnnLeakyRelu`, `aclnnLeakyReluBackward`.
    /// In `f32` on the CPU it is at most 1 unit in the last place off.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([-2.0f32, 3.0]);
    /// assert_eq!(x.leaky_relu(0.5)?.to_vec::<f32>()?, [-1.0, 3.0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `DType` for integers and bools; memory and device errors.
    pub fn leaky_relu(&self, negative_slope: f64) -> Result<Tensor> {
        Apply(LeakyRelu { negative_slope }).run(self)
    }
}

impl Formula for LeakyRelu {
    #[inline(always)]
    fn at<T: Real>(&self, x: T) -> T {
        if x > T::ZERO {
            x
        } else {
            x.scaled(self.negative_slope)
        }
    }
}

impl Unary for LeakyRelu {
    const NAME: &'static str = "leaky_relu";
    const RULE: Rule = Rule::FloatOnly;
    const FUSED_SLOPE: bool = true;

    fn cpu(&self, x: &Host<'_>, y: &mut HostMut<'_>) {
        float(x, y, self);
    }

    fn ascend(&self, cx: &Launch, x: &Dev<'_>, y: &Dev<'_>) -> Result<()> {
        aclnn::leaky_relu(cx, x, AclScalar::of(self.negative_slope, y.dtype()), y)
    }

    fn compose(&self, x: &Tensor) -> Result<Tensor> {
        if x.dtype().is_half() {
            return Apply(*self).widened(x);
        }
        x.gt(0i64)?.where_cond(x, &x.mul(self.negative_slope)?)
    }

    fn slope(&self, dy: &Tensor, x: &Tensor) -> Result<Tensor> {
        x.gt(0i64)?.where_cond(dy, &dy.mul(self.negative_slope)?)
    }

    fn ascend_slope(&self, cx: &Launch, dy: &Dev<'_>, x: &Dev<'_>, dx: &Dev<'_>) -> Result<()> {
        aclnn::leaky_relu_backward(
            cx,
            dy,
            x,
            AclScalar::of(self.negative_slope, dx.dtype()),
            false,
            dx,
        )
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "leaky_relu",
    family: "activation",
    kernels: &["aclnnLeakyRelu", "aclnnLeakyReluBackward"],
    samples,
};

fn samples() -> Vec<Sample> {
    vec![sample(
        LeakyRelu {
            negative_slope: 0.01,
        },
        -4.0,
        4.0,
        FLOATS,
    )]
}
