//! `maximum`: the larger of two.

use super::binary::{Binary, Pair, Rule, Side, combine, samples_of, tensors};
use crate::ops::prelude::*;

#[derive(Debug, Clone, Copy)]
struct Maximum;

impl Tensor {
    /// The larger of two elements; NaN if either is. For bools, logical or. At a tie each operand gets half of the gradient.
    ///
    /// Shapes: any two that broadcast. Dtypes: all. PyTorch: `torch.maximum`. NPU: `aclnnMaximum`.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([1.0f32, 5.0]);
    /// let y = Tensor::new([2.0f32, 3.0]);
    /// assert_eq!(x.maximum(&y)?.to_vec::<f32>()?, [2.0, 5.0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Broadcast` if the shapes do not fit, `Device` if the tensors are on two devices.
    pub fn maximum<'a>(&self, other: impl Into<Operand<'a>>) -> Result<Tensor> {
        combine(Maximum, self, other.into())
    }
}

impl Binary for Maximum {
    const NAME: &'static str = "maximum";
    const RULE: Rule = Rule::Any;

    fn cpu(&self, x: &Host<'_>, y: &Host<'_>, z: &mut HostMut<'_>) -> Result<()> {
        with_lane!(x.dtype(), T => map::map2::<T, T, T>(x, y, z, |x, y| x.larger(y)));
        Ok(())
    }

    fn ascend(&self, cx: &Launch, x: Side<'_>, y: Side<'_>, z: &Dev<'_>) -> Result<()> {
        let (x, y) = tensors(Self::NAME, cx, x, y)?;
        aclnn::maximum(cx, x, y, z)
    }

    fn backward(&self, pair: &Pair<'_>) -> Result<Grads> {
        let (dz, x, y) = (pair.dz()?, pair.x_tensor()?, pair.y_tensor()?);
        let shared = x.eq(&y)?.where_cond(&dz.div(2i64)?, dz)?;
        pair.grads(
            || shared.masked_fill(&y.gt(&x)?, 0i64),
            || shared.masked_fill(&x.gt(&y)?, 0i64),
        )
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "maximum",
    family: "elementwise",
    kernels: &["aclnnMaximum"],
    samples,
};

fn samples() -> Vec<Sample> {
    samples_of(Maximum, -2.0, 2.0, DType::ALL)
}
