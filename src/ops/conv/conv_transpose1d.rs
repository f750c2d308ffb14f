//! `conv_transpose1d`: transposed convolution over one dim.

use super::convolution::Convolution;
use super::{ConvTranspose1dOptions, sample};
use crate::ops::prelude::*;

impl Tensor {
    /// The transpose of a convolution, which is also its gradient: each element, times the weight, is added to a window of the
    /// output, and the bias to all. Halves accumulate in f32.
    ///
    /// Shapes: `[n, c, l]` (or without `n`) by `[c, o / groups, kl]` give `[n, o, ..]`, each size
    /// `(size - 1) stride - 2 padding + dilation (k - 1) + output_padding + 1`; the bias is `[o]`. Dtypes: all but `bool`,
    /// equal ones. PyTorch: `torch.nn.functional.conv_transpose1d`. NPU: `aclnnConvolution`, `aclnnConvolutionBackward`.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([[[1.0f32, 2.0]]]);
    /// let weight = Tensor::new([[[1.0f32, 10.0, 100.0]]]);
    /// assert_eq!(x.conv_transpose1d(&weight, ())?.to_vec::<f32>()?, [1.0, 12.0, 120.0, 200.0]);
    /// assert_eq!(x.conv_transpose1d(&weight, 2)?.to_vec::<f32>()?, [1.0, 10.0, 102.0, 20.0, 200.0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Shape` for a wrong number of dims, channels that do not fit or divide, an empty result, or a bias of another length;
    /// `DType` for unequal dtypes and bools; `Option` for a stride, dilation or number of groups of 0, and for an output padding
    /// that is not below the stride or the dilation.
    pub fn conv_transpose1d<'a>(
        &self,
        weight: &Tensor,
        options: impl Into<ConvTranspose1dOptions<'a>>,
    ) -> Result<Tensor> {
        let options = options.into();
        Convolution::transposed("conv_transpose1d", &options).run(self, weight, options.bias)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "conv_transpose1d",
    family: "conv",
    kernels: &["aclnnConvolution", "aclnnConvolutionBackward"],
    samples,
};

fn samples() -> Vec<Sample> {
    let op =
        |options: ConvTranspose1dOptions<'_>| Convolution::transposed("conv_transpose1d", &options);
    vec![
        sample(
            op(ConvTranspose1dOptions::new()
                .stride(3)
                .padding(1)
                .output_padding(2)),
            &[2, 2, 4],
            &[2, 3, 3],
            Some(3),
        ),
        sample(
            op(ConvTranspose1dOptions::new().dilation(2).groups(2)),
            &[4, 3],
            &[4, 1, 2],
            None,
        ),
    ]
}
