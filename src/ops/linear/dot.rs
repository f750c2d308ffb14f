//! `dot`: vector by vector.

use super::matmul::{Form, Product};
use crate::ops::prelude::*;

impl Tensor {
    /// The sum of the products of two vectors' elements.
    ///
    /// Shapes: `[k] x [k] -> []`. Dtypes: all but `bool`, equal ones; integers wrap, halves accumulate in f32.
    /// PyTorch: `torch.dot`. NPU: `aclnnMatmul`.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([1.0f32, 2.0, 3.0]);
    /// assert_eq!(x.dot(&x)?.item::<f32>()?, 14.0);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Shape` for other ranks or sizes that do not fit, `DType` for unequal dtypes.
    pub fn dot(&self, other: &Tensor) -> Result<Tensor> {
        run_one(&Product::of(Form::Dot), &[self, other])
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "dot",
    family: "linear",
    kernels: &["aclnnMatmul"],
    samples,
};

fn samples() -> Vec<Sample> {
    super::product_samples(Form::Dot, &[(&[4], &[4])])
}
