//! `minimum`: the smaller of two.

use super::binary::{Binary, Pair, Rule, Side, combine, samples_of, tensors};
use crate::ops::prelude::*;

#[derive(Debug, Clone, Copy)]
struct Minimum;

impl Tensor {
    /// The smaller of two elements; NaN if either is. For bools, logical and. At a tie each operand gets half of the gradient.
    ///
    /// Shapes: any two that broadcast. Dtypes: all. PyTorch: `torch.minimum`. NPU: `aclnnMinimum`.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([1.0f32, 5.0]);
    /// let y = Tensor::new([2.0f32, 3.0]);
    /// assert_eq!(x.minimum(&y)?.to_vec::<f32>()?, [1.0, 3.0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Broadcast` if the shapes do not fit, `Device` if the tensors are on two devices.
    pub fn minimum<'a>(&self, other: impl Into<Operand<'a>>) -> Result<Tensor> {
        combine(Minimum, self, other.into())
    }
}

impl Binary for Minimum {
    const NAME: &'static str = "minimum";
    const RULE: Rule = Rule::Any;

    fn cpu(&self, x: &Host<'_>, y: &Host<'_>, z: &mut HostMut<'_>) -> Result<()> {
        with_lane!(x.dtype(), T => map::map2::<T, T, T>(x, y, z, |x, y| x.smaller(y)));
        Ok(())
    }

    fn ascend(&self, cx: &Launch, x: Side<'_>, y: Side<'_>, z: &Dev<'_>) -> Result<()> {
        let (x, y) = tensors(Self::NAME, cx, x, y)?;
        aclnn::minimum(cx, x, y, z)
    }

    fn backward(&self, pair: &Pair<'_>) -> Result<Grads> {
        let (dz, x, y) = (pair.dz()?, pair.x_tensor()?, pair.y_tensor()?);
        let shared = x.eq(&y)?.where_cond(&dz.div(2i64)?, dz)?;
        pair.grads(
            || shared.masked_fill(&y.lt(&x)?, 0i64),
            || shared.masked_fill(&x.lt(&y)?, 0i64),
        )
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "minimum",
    family: "elementwise",
    kernels: &["aclnnMinimum"],
    samples,
};

fn samples() -> Vec<Sample> {
    samples_of(Minimum, -2.0, 2.0, DType::ALL)
}
