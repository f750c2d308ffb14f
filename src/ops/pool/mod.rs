//! Pooling over windows of one or two dims, and resizing.
//!
//! Knows the options that the family shares. Must not know how a window is computed.

rooms! {
    adaptive_avg_pool1d,
    adaptive_avg_pool2d,
    adaptive_max_pool2d,
    avg_pool1d,
    avg_pool2d,
    interpolate,
    max_pool1d,
    max_pool2d,
}

mod max;
mod mean;
mod rule;
mod taps;

use crate::ops::conv::PerDim;

/// The windows of a maximum over `N` dims. Made from a kernel size, or built up.
#[derive(Debug, Clone, Copy)]
#[must_use]
pub struct MaxPoolOptions<const N: usize> {
    kernel: PerDim<N>,
    stride: Option<PerDim<N>>,
    padding: PerDim<N>,
    dilation: PerDim<N>,
    ceil: bool,
}

/// The windows of [`Tensor::max_pool1d`](crate::Tensor::max_pool1d).
pub type MaxPool1dOptions = MaxPoolOptions<1>;
/// The windows of [`Tensor::max_pool2d`](crate::Tensor::max_pool2d).
pub type MaxPool2dOptions = MaxPoolOptions<2>;

impl<const N: usize> MaxPoolOptions<N> {
    /// Windows of this size side by side, no padding, dilation 1, only whole windows.
    pub fn new(kernel: impl Into<PerDim<N>>) -> Self {
        MaxPoolOptions {
            kernel: kernel.into(),
            stride: None,
            padding: PerDim::from(0),
            dilation: PerDim::from(1),
            ceil: false,
        }
    }

    /// The distance between two windows; else the kernel's size.
    pub fn stride(mut self, stride: impl Into<PerDim<N>>) -> Self {
        self.stride = Some(stride.into());
        self
    }

    /// How much is added at both ends, at most half the kernel. It never wins.
    pub fn padding(mut self, padding: impl Into<PerDim<N>>) -> Self {
        self.padding = padding.into();
        self
    }

    /// The distance between two elements of a window.
    pub fn dilation(mut self, dilation: impl Into<PerDim<N>>) -> Self {
        self.dilation = dilation.into();
        self
    }

    /// A last window that reaches over the end counts too, if it starts inside.
    pub fn ceil_mode(mut self) -> Self {
        self.ceil = true;
        self
    }
}

impl<const N: usize, T: Into<PerDim<N>>> From<T> for MaxPoolOptions<N> {
    fn from(kernel: T) -> Self {
        MaxPoolOptions::new(kernel)
    }
}

/// The windows of a mean over `N` dims. Made from a kernel size, or built up.
#[derive(Debug, Clone, Copy)]
#[must_use]
pub struct AvgPoolOptions<const N: usize> {
    kernel: PerDim<N>,
    stride: Option<PerDim<N>>,
    padding: PerDim<N>,
    ceil: bool,
    count_padding: bool,
    divisor: Option<i64>,
}

/// The windows of [`Tensor::avg_pool1d`](crate::Tensor::avg_pool1d).
pub type AvgPool1dOptions = AvgPoolOptions<1>;
/// The windows of [`Tensor::avg_pool2d`](crate::Tensor::avg_pool2d).
pub type AvgPool2dOptions = AvgPoolOptions<2>;

impl<const N: usize> AvgPoolOptions<N> {
    /// Windows of this size side by side, no padding, only whole windows.
    pub fn new(kernel: impl Into<PerDim<N>>) -> Self {
        AvgPoolOptions {
            kernel: kernel.into(),
            stride: None,
            padding: PerDim::from(0),
            ceil: false,
            count_padding: true,
            divisor: None,
        }
    }

    /// The distance between two windows; else the kernel's size.
    pub fn stride(mut self, stride: impl Into<PerDim<N>>) -> Self {
        self.stride = Some(stride.into());
        self
    }

    /// How many zeros are added at both ends, at most half the kernel.
    pub fn padding(mut self, padding: impl Into<PerDim<N>>) -> Self {
        self.padding = padding.into();
        self
    }

    /// A last window that reaches over the end counts too, if it starts inside.
    pub fn ceil_mode(mut self) -> Self {
        self.ceil = true;
        self
    }

    /// Divides by the number of real elements, not of padded ones too.
    pub fn exclude_padding(mut self) -> Self {
        self.count_padding = false;
        self
    }

    /// Divides by this number instead of the number of elements.
    pub fn divisor_override(mut self, divisor: i64) -> Self {
        self.divisor = Some(divisor);
        self
    }
}

impl<const N: usize, T: Into<PerDim<N>>> From<T> for AvgPoolOptions<N> {
    fn from(kernel: T) -> Self {
        AvgPoolOptions::new(kernel)
    }
}

/// The size of an adaptive pooling's result. Made from one number for both dims, from an array, or from an array of options,
/// where `None` keeps the size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutputSize([Option<usize>; 2]);

impl From<usize> for OutputSize {
    fn from(size: usize) -> Self {
        OutputSize([Some(size); 2])
    }
}

impl From<[usize; 2]> for OutputSize {
    fn from(sizes: [usize; 2]) -> Self {
        OutputSize(sizes.map(Some))
    }
}

impl From<[Option<usize>; 2]> for OutputSize {
    fn from(sizes: [Option<usize>; 2]) -> Self {
        OutputSize(sizes)
    }
}
