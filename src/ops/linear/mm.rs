//! `mm`: matrix by matrix.

use super::matmul::{Form, Product};
use crate::ops::prelude::*;

impl Tensor {
    /// The product of two matrices, without broadcasting.
    ///
    /// Shapes: `[m, k] x [k, n] -> [m, n]`. Dtypes: all but `bool`, equal ones; integers wrap, halves accumulate in f32.
    /// PyTorch: `torch.mm`. NPU: `aclnnMm`.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([[1i64, 2], [3, 4]]);
    /// assert_eq!(x.mm(&x)?.to_vec::<i64>()?, [7, 10, 15, 22]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Shape` for other ranks or sizes that do not fit, `DType` for unequal dtypes.
    pub fn mm(&self, other: &Tensor) -> Result<Tensor> {
        run_one(&Product::of(Form::Mm), &[self, other])
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "mm",
    family: "linear",
    kernels: &["aclnnMm"],
    samples,
};

fn samples() -> Vec<Sample> {
    super::product_samples(Form::Mm, &[(&[3, 4], &[4, 2])])
}
