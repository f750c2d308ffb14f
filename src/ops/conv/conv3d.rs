//! `conv3d`: convolution over three dims.

use super::convolution::Convolution;
use super::{Conv3dOptions, sample};
use crate::ops::prelude::*;

impl Tensor {
    /// Windows over the last three dims, each times the weight and summed: `y[o] = b[o] + sum over c, t of w[o, c, t] x[c, t]`
    /// within each group of channels. Zeros surround the input; halves accumulate in f32.
    ///
    /// Shapes: `[n, c, d, h, w]` (or without `n`) by `[o, c / groups, kd, kh, kw]` give `[n, o, ..]`, each size
    /// `(size + 2 padding - dilation (k - 1) - 1) / stride + 1`; the bias is `[o]`. Dtypes: all but `bool`, equal ones.
    /// PyTorch: `torch.nn.functional.conv3d`. NPU: `aclnnConvolution`, `aclnnConvolutionBackward`.
    ///
    /// ```
    /// use ascend_tensor::{DType, Device, Tensor};
    /// use ascend_tensor::ops::conv::{Conv3dOptions, Padding};
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::ones([1, 2, 3, 3, 3], DType::F32, Device::Cpu)?;
    /// let weight = Tensor::ones([4, 2, 2, 2, 2], DType::F32, Device::Cpu)?;
    /// assert_eq!(x.conv3d(&weight, 2)?.to_vec::<f32>()?, [16.0; 4]);
    /// assert_eq!(x.conv3d(&weight, Conv3dOptions::new().padding(Padding::Same))?.dims(), [1, 4, 3, 3, 3]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Shape` for a wrong number of dims, channels that do not fit or divide, a kernel larger than the padded input, or a bias
    /// of another length; `DType` for unequal dtypes and bools; `Option` for a stride, dilation or number of groups of 0, and
    /// for `Padding::Same` with a stride.
    pub fn conv3d<'a>(
        &self,
        weight: &Tensor,
        options: impl Into<Conv3dOptions<'a>>,
    ) -> Result<Tensor> {
        Convolution::run_plain("conv3d", self, weight, &options.into())
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "conv3d",
    family: "conv",
    kernels: &["aclnnConvolution", "aclnnConvolutionBackward"],
    samples,
};

fn samples() -> Vec<Sample> {
    vec![sample(
        Convolution::plain(
            "conv3d",
            &Conv3dOptions::new().stride([1, 2, 1]).padding([1, 0, 1]),
        ),
        &[1, 2, 2, 4, 3],
        &[2, 2, 2, 2, 1],
        Some(2),
    )]
}
