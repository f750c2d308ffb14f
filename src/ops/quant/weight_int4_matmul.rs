//! `weight_int4_matmul`: floats times weights of four bits.

use super::weight::{Bits, WeightMatmulOptions, samples_of};
use crate::ops::prelude::*;

impl Tensor {
    /// `x w + bias` with `w = (weight - zero_point) * scale`, all in f32, cast to this tensor's dtype. A byte of the weights holds
    /// two neighbouring columns, each from -8 to 7: the first in its low half.
    ///
    /// Shapes: `[.., m, k]`, weights `u8 [k, n / 2]`, scales and zero points `f32 [n]` or one, or with groups
    /// `[ceil(k / g), n]` -> `[.., m, n]`. Dtypes: floats. PyTorch: none (`torch_npu.npu_weight_quant_batchmatmul`).
    /// NPU: `aclnnWeightQuantBatchMatmulV2` for halves and a multiple of eight columns (its scales and zero points are halves
    /// too), else a matrix product of dequantised weights.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([[1.0f32, 2.0]]);
    /// let weight = Tensor::new([[0xf7u8], [0x01]]);
    /// let scale = Tensor::new([0.5f32]);
    /// assert_eq!(x.weight_int4_matmul(&weight, &scale, ())?.to_vec::<f32>()?, [4.5, -0.5]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Shape` for sizes that do not fit, `DType` for other dtypes.
    pub fn weight_int4_matmul<'a>(
        &self,
        weight: &Tensor,
        scale: &Tensor,
        options: impl Into<WeightMatmulOptions<'a>>,
    ) -> Result<Tensor> {
        options.into().run(Bits::Four, self, weight, scale)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "weight_int4_matmul",
    family: "quant",
    kernels: &["aclnnWeightQuantBatchMatmulV2"],
    samples,
};

fn samples() -> Vec<Sample> {
    samples_of(Bits::Four)
}
