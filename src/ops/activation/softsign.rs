//! `softsign`: divided by one more than the absolute value.

use crate::cpu::real::Real;
use crate::ops::elementwise::unary::{Apply, Formula, Rule, Unary, float, sample};
use crate::ops::prelude::*;

#[derive(Debug, Clone, Copy)]
struct Softsign;

impl Tensor {
    /// `x / (1 + |x|)`.
    ///
    /// Shapes: any. Dtypes: all; integers and bools give `f32`. PyTorch: `torch.nn.functional.softsign`. NPU: composed of simpler ops.
    /// In `f32` on the CPU it is at most 1.5 units in the last place off.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([1.0f32, -3.0]);
    /// assert_eq!(x.softsign()?.to_vec::<f32>()?, [0.5, -0.75]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// None of its own; memory and device errors.
    pub fn softsign(&self) -> Result<Tensor> {
        Apply(Softsign).run(self)
    }
}

impl Formula for Softsign {
    #[inline(always)]
    fn at<T: Real>(&self, x: T) -> T {
        x.over(x.absolute().shifted(1.0))
    }
}

impl Unary for Softsign {
    const NAME: &'static str = "softsign";
    const RULE: Rule = Rule::Float;

    fn cpu(&self, x: &Host<'_>, y: &mut HostMut<'_>) {
        float(x, y, self);
    }

    fn compose(&self, x: &Tensor) -> Result<Tensor> {
        let x = x.to_dtype(x.dtype().to_float())?;
        x.div(&x.abs()?.add(1i64)?)
    }

    fn backward(&self, cx: &GradCx<'_>, dy: &Tensor) -> Result<Tensor> {
        dy.div(&cx.input(0)?.abs()?.add(1i64)?.square()?)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "softsign",
    family: "activation",
    kernels: &[],
    samples,
};

fn samples() -> Vec<Sample> {
    vec![sample(Softsign, -4.0, 4.0, NUMBERS)]
}
