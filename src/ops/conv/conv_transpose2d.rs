//! `conv_transpose2d`: transposed convolution over two dims.

use super::convolution::Convolution;
use super::gradient::ConvolutionGradient;
use super::{ConvTranspose2dOptions, sample};
use crate::ops::prelude::*;

impl Tensor {
    /// The transpose of a convolution, which is also its gradient: each element, times the weight, is added to a window of the
    /// output, and the bias to all. Halves accumulate in f32.
    ///
    /// Shapes: `[n, c, h, w]` (or without `n`) by `[c, o / groups, kh, kw]` give `[n, o, ..]`, each size
    /// `(size - 1) stride - 2 padding + dilation (k - 1) + output_padding + 1`; the bias is `[o]`. Dtypes: all but `bool`,
    /// equal ones. PyTorch: `torch.nn.functional.conv_transpose2d`. NPU: `aclnnConvolution`, `aclnnConvolutionBackward`.
    ///
    /// ```
    /// use ascend_tensor::{Tensor, ops::conv::ConvTranspose2dOptions};
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([[[[1.0f32, 2.0]]]]);
    /// let weight = Tensor::new([[[[1.0f32, 10.0]]]]);
    /// assert_eq!(x.conv_transpose2d(&weight, ())?.to_vec::<f32>()?, [1.0, 12.0, 20.0]);
    /// assert_eq!(x.conv_transpose2d(&weight, ConvTranspose2dOptions::new().stride([1, 2]))?.to_vec::<f32>()?, [1.0, 10.0, 2.0, 20.0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Shape` for a wrong number of dims, channels that do not fit or divide, an empty result, or a bias of another length;
    /// `DType` for unequal dtypes and bools; `Option` for a stride, dilation or number of groups of 0, and for an output padding
    /// that is not below the stride or the dilation.
    pub fn conv_transpose2d<'a>(
        &self,
        weight: &Tensor,
        options: impl Into<ConvTranspose2dOptions<'a>>,
    ) -> Result<Tensor> {
        let options = options.into();
        Convolution::transposed("conv_transpose2d", &options).run(self, weight, options.bias)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "conv_transpose2d",
    family: "conv",
    kernels: &["aclnnConvolution", "aclnnConvolutionBackward"],
    samples,
};

fn samples() -> Vec<Sample> {
    let op =
        |options: ConvTranspose2dOptions<'_>| Convolution::transposed("conv_transpose2d", &options);
    vec![
        sample(
            op(ConvTranspose2dOptions::new().stride([2, 1]).padding([1, 0])),
            &[2, 2, 3, 2],
            &[2, 3, 3, 2],
            Some(3),
        ),
        sample(
            op(ConvTranspose2dOptions::new()
                .stride(2)
                .output_padding(1)
                .dilation([1, 2])
                .groups(2)),
            &[4, 2, 3],
            &[4, 1, 2, 2],
            None,
        ),
        ConvolutionGradient::sample(
            op(ConvTranspose2dOptions::new().stride([2, 1]).padding(1)),
            &[3, 3, 4],
            &[2, 2, 4],
            &[2, 3, 3, 3],
        ),
    ]
}
