//! `bitwise_not`: all bits turned.

use super::unary::{Apply, Rule, Unary, sample};
use crate::ops::prelude::*;

#[derive(Debug, Clone, Copy)]
struct BitwiseNot;

impl Tensor {
    /// Each bit turned; for bools, logical not.
    ///
    /// Shapes: any. Dtypes: integers and bool. PyTorch: `torch.bitwise_not`. NPU: `aclnnBitwiseNot`.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([0i32, 5]);
    /// assert_eq!(x.bitwise_not()?.to_vec::<i32>()?, [-1, -6]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `DType` for floats; memory and device errors.
    pub fn bitwise_not(&self) -> Result<Tensor> {
        Apply(BitwiseNot).run(self)
    }
}

impl Unary for BitwiseNot {
    const NAME: &'static str = "bitwise_not";
    const RULE: Rule = Rule::Integers;
    const GRADIENT: Gradient = Gradient::Constant;

    fn cpu(&self, x: &Host<'_>, y: &mut HostMut<'_>) {
        match x.dtype() {
            DType::Bool => map::map1::<bool, bool>(x, y, |x| !x),
            dtype => with_lane!(dtype, T => map::map1::<T, T>(x, y, |x| T::ONE.negate().minus(x))),
        }
    }

    fn ascend(&self, cx: &Launch, x: &Dev<'_>, y: &Dev<'_>) -> Result<()> {
        aclnn::bitwise_not(cx, x, y)
    }

    fn compose(&self, x: &Tensor) -> Result<Tensor> {
        if x.dtype() == DType::Bool {
            x.logical_not()
        } else {
            Apply(*self).widened(x)
        }
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "bitwise_not",
    family: "elementwise",
    kernels: &["aclnnBitwiseNot"],
    samples,
};

fn samples() -> Vec<Sample> {
    vec![sample(
        BitwiseNot,
        -2.0,
        2.0,
        &[
            DType::I64,
            DType::I32,
            DType::I16,
            DType::I8,
            DType::U8,
            DType::Bool,
        ],
    )]
}
