//! `max_pool2d`: the largest element of each window.

use super::MaxPool2dOptions;
use super::max::MaxPool;
use super::rule::Pooling;
use crate::ops::prelude::*;

impl Tensor {
    /// The largest element of each window over the last two dims; NaN is larger than all, and padding never wins.
    ///
    /// Shapes: `[n, c, h, w]` or without `n`, each size `(size + 2 padding - dilation (k - 1) - 1) / stride + 1`, rounded up with `ceil_mode` where the
    /// last window starts inside. Dtypes: all but `bool`. PyTorch: `torch.nn.functional.max_pool2d`.
    /// NPU: `aclnnMaxPool2dWithIndices`, `aclnnMaxPool2dWithIndicesBackward`, which on the training chips know neither NaN nor
    /// minus infinity; with a dilation, windows are gathered.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([[[1.0f32, 3.0], [2.0, 5.0]]]);
    /// assert_eq!(x.max_pool2d(2)?.to_vec::<f32>()?, [5.0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Shape` for other than 3 or 4 dims, an empty plane, or a window larger than the padded input; `Option` for a
    /// kernel, stride or dilation of 0, or a padding of more than half the kernel; `DType` for bools.
    pub fn max_pool2d(&self, options: impl Into<MaxPool2dOptions>) -> Result<Tensor> {
        MaxPool::values(Pooling::max("max_pool2d", &options.into()), self)
    }

    /// As [`Tensor::max_pool2d`], and where in its plane each maximum stands: the first of equals, flat, as `i64`.
    ///
    /// PyTorch: `torch.nn.functional.max_pool2d_with_indices`. NPU: `aclnnMaxPool2dWithIndices`, `aclnnCast`.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([[[1.0f32, 3.0], [2.0, 5.0]]]);
    /// let (_, indices) = x.max_pool2d_with_indices(2)?;
    /// assert_eq!(indices.to_vec::<i64>()?, [3]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of [`Tensor::max_pool2d`].
    pub fn max_pool2d_with_indices(
        &self,
        options: impl Into<MaxPool2dOptions>,
    ) -> Result<(Tensor, Tensor)> {
        MaxPool::pairs(Pooling::max("max_pool2d", &options.into()), self)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "max_pool2d",
    family: "pool",
    kernels: &[
        "aclnnMaxPool2dWithIndices",
        "aclnnMaxPool2dWithIndicesBackward",
        "aclnnCast",
    ],
    samples,
};

fn samples() -> Vec<Sample> {
    let op = |options: MaxPool2dOptions, indices| MaxPool {
        pooling: Pooling::max("max_pool2d", &options),
        indices,
    };
    vec![
        op(
            MaxPool2dOptions::new([3, 2]).stride([2, 1]).padding([1, 0]),
            true,
        )
        .sample(&[2, 2, 5, 4]),
        op(MaxPool2dOptions::new(2).ceil_mode(), false).sample(&[2, 3, 5]),
        op(MaxPool2dOptions::new(2).dilation([2, 1]), false).sample(&[1, 2, 4, 3]),
    ]
}
