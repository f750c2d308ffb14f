//! `adaptive_avg_pool1d`: the means of as many windows as are wanted.

use super::OutputSize;
use super::mean::MeanPool;
use super::rule::Pooling;
use crate::ops::prelude::*;

impl Tensor {
    /// The means of the windows `[floor(i n / o), ceil((i + 1) n / o))` over the last dim. Halves compute in f32.
    ///
    /// Shapes: `[n, c, l]` or without `n`, with the last sizes replaced. Dtypes: floats. PyTorch: `torch.nn.functional.adaptive_avg_pool1d`.
    /// NPU: `aclnnAdaptiveAvgPool2d`, `aclnnAdaptiveAvgPool2dBackward`.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([[1.0f32, 3.0, 2.0, 6.0]]);
    /// assert_eq!(x.adaptive_avg_pool1d(1)?.to_vec::<f32>()?, [3.0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Shape` for other than 2 or 3 dims or an empty plane, `DType` for integers and bools.
    pub fn adaptive_avg_pool1d(&self, size: usize) -> Result<Tensor> {
        MeanPool::adaptive(Pooling::adaptive(
            "adaptive_avg_pool1d",
            1,
            OutputSize::from([1, size]),
        ))
        .run(self)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "adaptive_avg_pool1d",
    family: "pool",
    kernels: &["aclnnAdaptiveAvgPool2d", "aclnnAdaptiveAvgPool2dBackward"],
    samples,
};

fn samples() -> Vec<Sample> {
    let op = |size| {
        MeanPool::adaptive(Pooling::adaptive(
            "adaptive_avg_pool1d",
            1,
            OutputSize::from(size),
        ))
    };
    vec![op([1, 3]).sample(&[2, 2, 7]), op([1, 5]).sample(&[2, 4])]
}
