//! `bmm`: batches of matrices.

use super::matmul::{Form, Product};
use crate::ops::prelude::*;

impl Tensor {
    /// The products of pairs of matrices, without broadcasting.
    ///
    /// Shapes: `[b, m, k] x [b, k, n] -> [b, m, n]`. Dtypes: all but `bool`, equal ones; integers wrap, halves accumulate in f32.
    /// PyTorch: `torch.bmm`. NPU: `aclnnBatchMatMul`.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([[[1.0f32, 2.0]], [[3.0, 4.0]]]);
    /// let y = Tensor::new([[[1.0f32], [1.0]], [[2.0], [0.5]]]);
    /// assert_eq!(x.bmm(&y)?.to_vec::<f32>()?, [3.0, 8.0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Shape` for other ranks or sizes that do not fit, `DType` for unequal dtypes.
    pub fn bmm(&self, other: &Tensor) -> Result<Tensor> {
        run_one(&Product::of(Form::Bmm), &[self, other])
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "bmm",
    family: "linear",
    kernels: &["aclnnBatchMatMul"],
    samples,
};

fn samples() -> Vec<Sample> {
    super::product_samples(Form::Bmm, &[(&[2, 3, 4], &[2, 4, 2])])
}
