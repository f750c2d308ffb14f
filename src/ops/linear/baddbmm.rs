//! `baddbmm`: batches of matrix products added to a tensor.

use super::addmm::{AddProduct, AddmmOptions, samples_of};
use crate::ops::prelude::*;

impl Tensor {
    /// `beta * self + alpha * x y` for each pair of matrices, where this tensor broadcasts to the products' shape.
    ///
    /// Shapes: `[b, m, n] + [b, m, k] x [b, k, n] -> [b, m, n]`. Dtypes: all but `bool`, equal ones.
    /// PyTorch: `torch.baddbmm`. NPU: `aclnnBaddbmm`, `aclnnBatchMatMul`.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([[[1.0f32, 2.0]], [[3.0, 4.0]]]);
    /// let y = Tensor::new([[[1.0f32], [1.0]], [[2.0], [0.5]]]);
    /// assert_eq!(Tensor::new([1.0f32]).baddbmm(&x, &y, ())?.to_vec::<f32>()?, [4.0, 9.0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Tensor::addmm`], for factors of three dims.
    pub fn baddbmm(
        &self,
        x: &Tensor,
        y: &Tensor,
        options: impl Into<AddmmOptions>,
    ) -> Result<Tensor> {
        run_one(
            &AddProduct {
                batched: true,
                options: options.into(),
            },
            &[self, x, y],
        )
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "baddbmm",
    family: "linear",
    kernels: &["aclnnBaddbmm", "aclnnBatchMatMul"],
    samples,
};

fn samples() -> Vec<Sample> {
    samples_of(true, [&[3, 1], &[2, 3, 4], &[2, 4, 2]])
}
