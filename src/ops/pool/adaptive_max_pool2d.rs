//! `adaptive_max_pool2d`: the maxima of as many windows as are wanted.

use super::OutputSize;
use super::max::MaxPool;
use super::rule::Pooling;
use crate::ops::prelude::*;

impl Tensor {
    /// The largest elements of the windows `[floor(i n / o), ceil((i + 1) n / o))` over the last two dims; NaN is larger than all.
    ///
    /// Shapes: `[n, c, h, w]` or without `n`, with the last sizes replaced. Dtypes: all but `bool`.
    /// PyTorch: `torch.nn.functional.adaptive_max_pool2d`. NPU: `aclnnAdaptiveMaxPool2d`, `aclnnAdaptiveMaxPool2dBackward`.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([[[1.0f32, 3.0, 2.0], [4.0, 0.0, 1.0]]]);
    /// assert_eq!(x.adaptive_max_pool2d([1, 2])?.to_vec::<f32>()?, [4.0, 3.0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Shape` for other than three or four dims or an empty plane, `DType` for bools.
    pub fn adaptive_max_pool2d(&self, size: impl Into<OutputSize>) -> Result<Tensor> {
        MaxPool::values(
            Pooling::adaptive("adaptive_max_pool2d", 2, size.into()),
            self,
        )
    }

    /// As [`Tensor::adaptive_max_pool2d`], and where in its plane each maximum stands: the first of equals, flat, as `i64`.
    ///
    /// PyTorch: `torch.nn.functional.adaptive_max_pool2d_with_indices`. NPU: `aclnnAdaptiveMaxPool2d`.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([[[1.0f32, 3.0, 2.0], [4.0, 0.0, 1.0]]]);
    /// let (_, indices) = x.adaptive_max_pool2d_with_indices([1, 2])?;
    /// assert_eq!(indices.to_vec::<i64>()?, [3, 1]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of [`Tensor::adaptive_max_pool2d`].
    pub fn adaptive_max_pool2d_with_indices(
        &self,
        size: impl Into<OutputSize>,
    ) -> Result<(Tensor, Tensor)> {
        MaxPool::pairs(
            Pooling::adaptive("adaptive_max_pool2d", 2, size.into()),
            self,
        )
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "adaptive_max_pool2d",
    family: "pool",
    kernels: &["aclnnAdaptiveMaxPool2d", "aclnnAdaptiveMaxPool2dBackward"],
    samples,
};

fn samples() -> Vec<Sample> {
    let op = |size, indices| MaxPool {
        pooling: Pooling::adaptive("adaptive_max_pool2d", 2, OutputSize::from(size)),
        indices,
    };
    vec![
        op([Some(3), Some(2)], true).sample(&[2, 2, 5, 7]),
        op([None, Some(5)], false).sample(&[2, 3, 4]),
    ]
}
