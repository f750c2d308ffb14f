//! Convolutions over one, two or three dims, plain and transposed.
//!
//! Knows the options that the family shares. Must not know how a convolution is computed.

rooms! {
    conv1d,
    conv2d,
    conv3d,
    conv_transpose1d,
    conv_transpose2d,
}

mod convolution;
mod gradient;

use crate::op::{FLOATS, NUMBERS, Sample, SampleInput};
use crate::tensor::Tensor;

/// One number for each spatial dim, the last dim last. Made from one number for all of them, or from an array.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PerDim<const N: usize>([usize; N]);

impl<const N: usize> From<usize> for PerDim<N> {
    fn from(number: usize) -> Self {
        PerDim([number; N])
    }
}

impl<const N: usize> From<[usize; N]> for PerDim<N> {
    fn from(numbers: [usize; N]) -> Self {
        PerDim(numbers)
    }
}

impl<const N: usize> PerDim<N> {
    /// The numbers.
    pub fn get(self) -> [usize; N] {
        self.0
    }

    /// The numbers as the last of three dims; dims that are not there have `rest`.
    fn last_of_three(self, rest: usize) -> [usize; 3] {
        let mut all = [rest; 3];
        for (to, from) in all.iter_mut().rev().zip(self.0.iter().rev()) {
            *to = *from;
        }
        all
    }
}

/// The zeros around the input of a convolution. Made from one number for all dims, or from an array.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Padding<const N: usize> {
    /// This many at both ends of each dim.
    Both(PerDim<N>),
    /// As many as give an output of the input's size: `dilation * (k - 1)` in all, the smaller half in front. Stride 1 only.
    Same,
    /// None.
    Valid,
}

impl<const N: usize, T: Into<PerDim<N>>> From<T> for Padding<N> {
    fn from(numbers: T) -> Self {
        Padding::Both(numbers.into())
    }
}

/// Settings of a convolution over `N` dims. Made from `()`, from a stride, or built up.
#[derive(Debug, Clone, Copy)]
#[must_use]
pub struct ConvOptions<'a, const N: usize> {
    bias: Option<&'a Tensor>,
    stride: PerDim<N>,
    padding: Padding<N>,
    dilation: PerDim<N>,
    groups: usize,
}

/// Settings of [`Tensor::conv1d`].
pub type Conv1dOptions<'a> = ConvOptions<'a, 1>;
/// Settings of [`Tensor::conv2d`].
pub type Conv2dOptions<'a> = ConvOptions<'a, 2>;
/// Settings of [`Tensor::conv3d`].
pub type Conv3dOptions<'a> = ConvOptions<'a, 3>;

impl<const N: usize> Default for ConvOptions<'_, N> {
    fn default() -> Self {
        ConvOptions {
            bias: None,
            stride: PerDim([1; N]),
            padding: Padding::Valid,
            dilation: PerDim([1; N]),
            groups: 1,
        }
    }
}

impl<'a, const N: usize> ConvOptions<'a, N> {
    /// No bias, stride 1, no padding, dilation 1, one group.
    pub fn new() -> Self {
        ConvOptions::default()
    }

    /// What is added to each output channel.
    pub fn bias(mut self, bias: &'a Tensor) -> Self {
        self.bias = Some(bias);
        self
    }

    /// The distance between two windows.
    pub fn stride(mut self, stride: impl Into<PerDim<N>>) -> Self {
        self.stride = stride.into();
        self
    }

    /// The zeros around the input.
    pub fn padding(mut self, padding: impl Into<Padding<N>>) -> Self {
        self.padding = padding.into();
        self
    }

    /// The distance between two taps of the kernel.
    pub fn dilation(mut self, dilation: impl Into<PerDim<N>>) -> Self {
        self.dilation = dilation.into();
        self
    }

    /// Into how many groups the channels fall; each output channel reads the input channels of its group.
    pub fn groups(mut self, groups: usize) -> Self {
        self.groups = groups;
        self
    }
}

impl<const N: usize> From<()> for ConvOptions<'_, N> {
    fn from((): ()) -> Self {
        ConvOptions::default()
    }
}

impl<const N: usize> From<usize> for ConvOptions<'_, N> {
    fn from(stride: usize) -> Self {
        ConvOptions::new().stride(stride)
    }
}

/// Settings of a transposed convolution over `N` dims. Made from `()`, from a stride, or built up.
#[derive(Debug, Clone, Copy)]
#[must_use]
pub struct ConvTransposeOptions<'a, const N: usize> {
    bias: Option<&'a Tensor>,
    stride: PerDim<N>,
    padding: PerDim<N>,
    output_padding: PerDim<N>,
    dilation: PerDim<N>,
    groups: usize,
}

/// Settings of [`Tensor::conv_transpose1d`].
pub type ConvTranspose1dOptions<'a> = ConvTransposeOptions<'a, 1>;
/// Settings of [`Tensor::conv_transpose2d`].
pub type ConvTranspose2dOptions<'a> = ConvTransposeOptions<'a, 2>;

impl<const N: usize> Default for ConvTransposeOptions<'_, N> {
    fn default() -> Self {
        ConvTransposeOptions {
            bias: None,
            stride: PerDim([1; N]),
            padding: PerDim([0; N]),
            output_padding: PerDim([0; N]),
            dilation: PerDim([1; N]),
            groups: 1,
        }
    }
}

impl<'a, const N: usize> ConvTransposeOptions<'a, N> {
    /// No bias, stride 1, no padding, dilation 1, one group.
    pub fn new() -> Self {
        ConvTransposeOptions::default()
    }

    /// What is added to each output channel.
    pub fn bias(mut self, bias: &'a Tensor) -> Self {
        self.bias = Some(bias);
        self
    }

    /// How far apart the input's elements are spread over the output.
    pub fn stride(mut self, stride: impl Into<PerDim<N>>) -> Self {
        self.stride = stride.into();
        self
    }

    /// How much is cut off at both ends of the output.
    pub fn padding(mut self, padding: impl Into<PerDim<N>>) -> Self {
        self.padding = padding.into();
        self
    }

    /// How much the output is longer at its end; less than the stride or the dilation.
    pub fn output_padding(mut self, output_padding: impl Into<PerDim<N>>) -> Self {
        self.output_padding = output_padding.into();
        self
    }

    /// The distance between two taps of the kernel.
    pub fn dilation(mut self, dilation: impl Into<PerDim<N>>) -> Self {
        self.dilation = dilation.into();
        self
    }

    /// Into how many groups the channels fall; each input channel is spread over the output channels of its group.
    pub fn groups(mut self, groups: usize) -> Self {
        self.groups = groups;
        self
    }
}

impl<const N: usize> From<()> for ConvTransposeOptions<'_, N> {
    fn from((): ()) -> Self {
        ConvTransposeOptions::default()
    }
}

impl<const N: usize> From<usize> for ConvTransposeOptions<'_, N> {
    fn from(stride: usize) -> Self {
        ConvTransposeOptions::new().stride(stride)
    }
}

/// A sample of a convolution: input, weight and, where a size is given, a bias.
fn sample(
    op: convolution::Convolution,
    input: &[usize],
    weight: &[usize],
    bias: Option<usize>,
) -> Sample {
    let shapes = [
        SampleInput::new(input, -2.0, 2.0),
        SampleInput::new(weight, -2.0, 2.0),
    ];
    let bias = bias.map(|channels| SampleInput::new([channels], -2.0, 2.0));
    Sample {
        op: Box::new(op),
        inputs: shapes.into_iter().chain(bias).collect(),
        dtypes: if input.len() > 4 { FLOATS } else { NUMBERS },
    }
}
