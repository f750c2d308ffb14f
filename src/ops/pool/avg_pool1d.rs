//! `avg_pool1d`: the mean of each window.

use super::AvgPool1dOptions;
use super::mean::MeanPool;
use crate::ops::prelude::*;

impl Tensor {
    /// The mean of each window over the last dim. Padded zeros count unless excluded; what a last window has beyond the
    /// padding never does. Halves compute in f32.
    ///
    /// Shapes: `[n, c, l]` or without `n`, each size `(size + 2 padding - k) / stride + 1`, rounded up with `ceil_mode` where the last window starts
    /// inside. Dtypes: floats, `i64`. PyTorch: `torch.nn.functional.avg_pool1d`. NPU: `aclnnAvgPool2d`, `aclnnAvgPool2dBackward`.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([[1.0f32, 3.0, 2.0, 6.0]]);
    /// assert_eq!(x.avg_pool1d(2)?.to_vec::<f32>()?, [2.0, 4.0]);
    /// // Whole numbers are rounded toward 0.
    /// assert_eq!(Tensor::new([[-3i64, 0]]).avg_pool1d(2)?.to_vec::<i64>()?, [-1]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Shape` for other than 2 or 3 dims, an empty plane, or a window larger than the padded input; `Option` for a
    /// kernel or stride of 0, a padding of more than half the kernel, or a divisor of 0; `DType` for others.
    pub fn avg_pool1d(&self, options: impl Into<AvgPool1dOptions>) -> Result<Tensor> {
        MeanPool::sliding("avg_pool1d", &options.into()).run(self)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "avg_pool1d",
    family: "pool",
    kernels: &["aclnnAvgPool2d", "aclnnAvgPool2dBackward"],
    samples,
};

fn samples() -> Vec<Sample> {
    let op = |options: AvgPool1dOptions| MeanPool::sliding("avg_pool1d", &options);
    vec![
        op(AvgPool1dOptions::new(3).stride(2).padding(1)).sample(&[2, 2, 7]),
        op(AvgPool1dOptions::new(2)
            .stride(3)
            .padding(1)
            .ceil_mode()
            .exclude_padding())
        .sample(&[2, 6]),
    ]
}
