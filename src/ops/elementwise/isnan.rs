//! `isnan`: whether elements are NaN.

use super::unary::{Apply, Rule, Unary, sample};
use crate::ops::prelude::*;

#[derive(Debug, Clone, Copy)]
struct IsNan;

impl Tensor {
    /// Whether each element is NaN; false for integers.
    ///
    /// Shapes: any. Dtypes: all, the result is `bool`. PyTorch: `torch.isnan`. NPU: composed of simpler ops.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([1.0f32, f32::NAN]);
    /// assert_eq!(x.isnan()?.to_vec::<bool>()?, [false, true]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Memory and device errors only.
    pub fn isnan(&self) -> Result<Tensor> {
        Apply(IsNan).run(self)
    }
}

impl Unary for IsNan {
    const NAME: &'static str = "isnan";
    const RULE: Rule = Rule::Truth;
    const GRADIENT: Gradient = Gradient::Constant;

    fn cpu(&self, x: &Host<'_>, y: &mut HostMut<'_>) {
        with_lane!(x.dtype(), T => map::map1::<T, bool>(x, y, Number::is_nan))
    }

    fn compose(&self, x: &Tensor) -> Result<Tensor> {
        x.ne(x)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "isnan",
    family: "elementwise",
    kernels: &[],
    samples,
};

fn samples() -> Vec<Sample> {
    vec![sample(IsNan, -2.0, 2.0, DType::ALL)]
}
