//! `adaptive_avg_pool2d`: the means of as many windows as are wanted.

use super::OutputSize;
use super::mean::MeanPool;
use super::rule::Pooling;
use crate::ops::prelude::*;

impl Tensor {
    /// The means of the windows `[floor(i n / o), ceil((i + 1) n / o))` over the last two dims. Halves compute in f32.
    ///
    /// Shapes: `[n, c, h, w]` or without `n`, with the last sizes replaced. Dtypes: floats. PyTorch: `torch.nn.functional.adaptive_avg_pool2d`.
    /// NPU: `aclnnAdaptiveAvgPool2d`, `aclnnAdaptiveAvgPool2dBackward`.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([[[1.0f32, 3.0], [2.0, 6.0]]]);
    /// assert_eq!(x.adaptive_avg_pool2d(1)?.to_vec::<f32>()?, [3.0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Shape` for other than 3 or 4 dims or an empty plane, `DType` for integers and bools.
    pub fn adaptive_avg_pool2d(&self, size: impl Into<OutputSize>) -> Result<Tensor> {
        MeanPool::adaptive(Pooling::adaptive("adaptive_avg_pool2d", 2, size.into())).run(self)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "adaptive_avg_pool2d",
    family: "pool",
    kernels: &["aclnnAdaptiveAvgPool2d", "aclnnAdaptiveAvgPool2dBackward"],
    samples,
};

fn samples() -> Vec<Sample> {
    let op = |size| {
        MeanPool::adaptive(Pooling::adaptive(
            "adaptive_avg_pool2d",
            2,
            OutputSize::from(size),
        ))
    };
    vec![
        op([Some(3), Some(2)]).sample(&[2, 2, 5, 7]),
        op([None, Some(5)]).sample(&[2, 3, 4]),
    ]
}
