//! `tanhshrink`: the elements minus their hyperbolic tangent.

use crate::cpu::real::Real;
use crate::ops::elementwise::unary::{Apply, Formula, Rule, Unary, float, sample};
use crate::ops::prelude::*;

#[derive(Debug, Clone, Copy)]
struct Tanhshrink;

impl Tensor {
    /// `x - tanh(x)`.
    ///
    /// Shapes: any. Dtypes: all; integers and bools give `f32`. PyTorch: `torch.nn.functional.tanhshrink`. NPU: composed of simpler ops.
    /// In `f32` on the CPU it is at most 12 units in the last place off.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([0.0f32]);
    /// assert_eq!(x.tanhshrink()?.to_vec::<f32>()?, [0.0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// None of its own; memory and device errors.
    pub fn tanhshrink(&self) -> Result<Tensor> {
        Apply(Tanhshrink).run(self)
    }
}

impl Formula for Tanhshrink {
    #[inline(always)]
    fn at<T: Real>(&self, x: T) -> T {
        x.tanhshrink()
    }
}

impl Unary for Tanhshrink {
    const NAME: &'static str = "tanhshrink";
    const RULE: Rule = Rule::Float;

    fn cpu(&self, x: &Host<'_>, y: &mut HostMut<'_>) {
        float(x, y, self);
    }

    fn compose(&self, x: &Tensor) -> Result<Tensor> {
        let x = x.to_dtype(x.dtype().to_float())?;
        x.sub(&x.tanh()?)
    }

    fn backward(&self, cx: &GradCx<'_>, dy: &Tensor) -> Result<Tensor> {
        dy.mul(&cx.input(0)?.tanh()?.square()?)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "tanhshrink",
    family: "activation",
    kernels: &[],
    samples,
};

fn samples() -> Vec<Sample> {
    vec![sample(Tanhshrink, -4.0, 4.0, NUMBERS)]
}
