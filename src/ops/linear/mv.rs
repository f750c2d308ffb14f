//! `mv`: matrix by vector.

use super::matmul::{Form, Product};
use crate::ops::prelude::*;

impl Tensor {
    /// The product of a matrix and a vector.
    ///
    /// Shapes: `[m, k] x [k] -> [m]`. Dtypes: all but `bool`, equal ones; integers wrap, halves accumulate in f32.
    /// PyTorch: `torch.mv`. NPU: `aclnnMatmul`.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([[1.0f32, 2.0], [3.0, 4.0]]);
    /// assert_eq!(x.mv(&Tensor::new([1.0f32, -1.0]))?.to_vec::<f32>()?, [-1.0, -1.0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Shape` for other ranks or sizes that do not fit, `DType` for unequal dtypes.
    pub fn mv(&self, other: &Tensor) -> Result<Tensor> {
        run_one(&Product::of(Form::Mv), &[self, other])
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "mv",
    family: "linear",
    kernels: &["aclnnMatmul"],
    samples,
};

fn samples() -> Vec<Sample> {
    super::product_samples(Form::Mv, &[(&[3, 4], &[4])])
}
