//! `conv1d`: convolution over one dim.

use super::convolution::Convolution;
use super::{Conv1dOptions, sample};
use crate::ops::prelude::*;

impl Tensor {
    /// Windows over the last dim, each times the weight and summed: `y[o] = b[o] + sum over c, t of w[o, c, t] x[c, t]`
    /// within each group of channels. Zeros surround the input; halves accumulate in f32.
    ///
    /// Shapes: `[n, c, l]` (or without `n`) by `[o, c / groups, kl]` give `[n, o, ..]`, each size
    /// `(size + 2 padding - dilation (k - 1) - 1) / stride + 1`; the bias is `[o]`. Dtypes: all but `bool`, equal ones.
    /// PyTorch: `torch.nn.functional.conv1d`. NPU: `aclnnConvolution`, `aclnnConvolutionBackward`.
    ///
    /// ```
    /// use ascend_tensor::{Tensor, ops::conv::Conv1dOptions};
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([[[1.0f32, 2.0, 3.0, 4.0]]]);
    /// let weight = Tensor::new([[[1.0f32, 10.0]]]);
    /// assert_eq!(x.conv1d(&weight, ())?.to_vec::<f32>()?, [21.0, 32.0, 43.0]);
    /// assert_eq!(x.conv1d(&weight, Conv1dOptions::new().stride(2).padding(1))?.to_vec::<f32>()?, [10.0, 32.0, 4.0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Shape` for a wrong number of dims, channels that do not fit or divide, a kernel larger than the padded input, or a bias
    /// of another length; `DType` for unequal dtypes and bools; `Option` for a stride, dilation or number of groups of 0, and
    /// for `Padding::Same` with a stride.
    pub fn conv1d<'a>(
        &self,
        weight: &Tensor,
        options: impl Into<Conv1dOptions<'a>>,
    ) -> Result<Tensor> {
        Convolution::run_plain("conv1d", self, weight, &options.into())
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "conv1d",
    family: "conv",
    kernels: &["aclnnConvolution", "aclnnConvolutionBackward"],
    samples,
};

fn samples() -> Vec<Sample> {
    vec![
        sample(
            Convolution::plain("conv1d", &Conv1dOptions::new().stride(2).padding(1)),
            &[2, 2, 7],
            &[3, 2, 3],
            Some(3),
        ),
        sample(
            Convolution::plain("conv1d", &Conv1dOptions::new().dilation(2).groups(2)),
            &[2, 6],
            &[4, 1, 2],
            None,
        ),
    ]
}
