//! `avg_pool2d`: the mean of each window.

use super::AvgPool2dOptions;
use super::mean::MeanPool;
use crate::ops::prelude::*;

impl Tensor {
    /// The mean of each window over the last two dims. Padded zeros count unless excluded; what a last window has beyond the
    /// padding never does. Halves compute in f32.
    ///
    /// Shapes: `[n, c, h, w]` or without `n`, each size `(size + 2 padding - k) / stride + 1`, rounded up with `ceil_mode` where the last window starts
    /// inside. Dtypes: floats, `i64`. PyTorch: `torch.nn.functional.avg_pool2d`. NPU: `aclnnAvgPool2d`, `aclnnAvgPool2dBackward`.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([[[1.0f32, 3.0], [2.0, 6.0]]]);
    /// assert_eq!(x.avg_pool2d(2)?.to_vec::<f32>()?, [3.0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Shape` for other than 3 or 4 dims, an empty plane, or a window larger than the padded input; `Option` for a
    /// kernel or stride of 0, a padding of more than half the kernel, or a divisor of 0; `DType` for others.
    pub fn avg_pool2d(&self, options: impl Into<AvgPool2dOptions>) -> Result<Tensor> {
        MeanPool::sliding("avg_pool2d", &options.into()).run(self)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "avg_pool2d",
    family: "pool",
    kernels: &["aclnnAvgPool2d", "aclnnAvgPool2dBackward"],
    samples,
};

fn samples() -> Vec<Sample> {
    let op = |options: AvgPool2dOptions| MeanPool::sliding("avg_pool2d", &options);
    vec![
        op(AvgPool2dOptions::new([3, 2]).stride([2, 1]).padding([1, 0])).sample(&[2, 2, 5, 4]),
        op(AvgPool2dOptions::new(2)
            .stride(3)
            .padding(1)
            .ceil_mode()
            .exclude_padding())
        .sample(&[2, 6, 5]),
        op(AvgPool2dOptions::new(2).divisor_override(3)).sample(&[1, 2, 4, 5]),
    ]
}
