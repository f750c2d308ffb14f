//! `conv2d`: convolution over two dims.

use super::convolution::Convolution;
use super::gradient::ConvolutionGradient;
use super::{Conv2dOptions, sample};
use crate::ops::prelude::*;

impl Tensor {
    /// Windows over the last two dims, each times the weight and summed: `y[o] = b[o] + sum over c, t of w[o, c, t] x[c, t]`
    /// within each group of channels. Zeros surround the input; halves accumulate in f32. On the CPU, kernels of three by three
    /// over many channels share products between neighbouring windows (Winograd): rounding errors are then relative to what
    /// lies in four by four positions, not in the window alone.
    ///
    /// Shapes: `[n, c, h, w]` (or without `n`) by `[o, c / groups, kh, kw]` give `[n, o, ..]`, each size
    /// `(size + 2 padding - dilation (k - 1) - 1) / stride + 1`; the bias is `[o]`. Dtypes: all but `bool`, equal ones.
    /// PyTorch: `torch.nn.functional.conv2d`. NPU: `aclnnConvolution`, `aclnnConvolutionBackward`.
    ///
    /// ```
    /// use ascend_tensor::{Tensor, ops::conv::Conv2dOptions};
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([[[[1.0f32, 2.0], [3.0, 4.0]]]]);
    /// let weight = Tensor::new([[[[1.0f32, 10.0], [100.0, 1000.0]]]]);
    /// assert_eq!(x.conv2d(&weight, ())?.to_vec::<f32>()?, [4321.0]);
    /// assert_eq!(x.conv2d(&weight, Conv2dOptions::new().stride(2).padding(1))?.to_vec::<f32>()?, [1000.0, 200.0, 30.0, 4.0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Shape` for a wrong number of dims, channels that do not fit or divide, a kernel larger than the padded input, or a bias
    /// of another length; `DType` for unequal dtypes and bools; `Option` for a stride, dilation or number of groups of 0, and
    /// for `Padding::Same` with a stride.
    pub fn conv2d<'a>(
        &self,
        weight: &Tensor,
        options: impl Into<Conv2dOptions<'a>>,
    ) -> Result<Tensor> {
        Convolution::run_plain("conv2d", self, weight, &options.into())
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "conv2d",
    family: "conv",
    kernels: &["aclnnConvolution", "aclnnConvolutionBackward"],
    samples,
};

fn samples() -> Vec<Sample> {
    vec![
        sample(
            Convolution::plain(
                "conv2d",
                &Conv2dOptions::new().stride([2, 1]).padding([1, 2]),
            ),
            &[2, 2, 5, 4],
            &[3, 2, 3, 2],
            Some(3),
        ),
        sample(
            Convolution::plain("conv2d", &Conv2dOptions::new().padding(1).groups(3)),
            &[3, 4, 5],
            &[3, 1, 3, 3],
            None,
        ),
        sample(
            Convolution::plain("conv2d", &Conv2dOptions::new().dilation([1, 2]).groups(2)),
            &[1, 4, 2, 5],
            &[4, 2, 1, 2],
            Some(4),
        ),
        ConvolutionGradient::sample(
            Convolution::plain("conv2d", &Conv2dOptions::new().stride([2, 1]).groups(2)),
            &[2, 4, 2, 3],
            &[2, 2, 4, 4],
            &[4, 1, 2, 2],
        ),
    ]
}
