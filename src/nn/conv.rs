//! Convolution layers over one and two dims, and max pooling between them.
//!
//! Knows weights and their starting values. Must not know how a convolution is computed.

use super::{Init, Layer, Module, Parameter, Phase, Place, Visitor};
use crate::error::Result;
use crate::ops::conv::{ConvOptions, Padding, PerDim};
use crate::ops::pool::MaxPoolOptions;
use crate::tensor::Tensor;

/// How the window of a convolution layer moves, and whether the layer has a bias.
#[derive(Debug, Clone, Copy)]
#[must_use]
pub struct ConvLayerOptions<const N: usize> {
    window: ConvOptions<'static, N>,
    bias: bool,
}

impl<const N: usize> Default for ConvLayerOptions<N> {
    fn default() -> Self {
        ConvLayerOptions {
            window: ConvOptions::new(),
            bias: true,
        }
    }
}

impl<const N: usize> ConvLayerOptions<N> {
    /// Steps of 1, no padding, one group, with a bias.
    pub fn new() -> Self {
        ConvLayerOptions::default()
    }

    /// The steps of the window.
    pub fn stride(mut self, stride: impl Into<PerDim<N>>) -> Self {
        self.window = self.window.stride(stride);
        self
    }

    /// The zeros around the input.
    pub fn padding(mut self, padding: impl Into<Padding<N>>) -> Self {
        self.window = self.window.padding(padding);
        self
    }

    /// The distance of the window's elements.
    pub fn dilation(mut self, dilation: impl Into<PerDim<N>>) -> Self {
        self.window = self.window.dilation(dilation);
        self
    }

    /// The number of groups of channels that see nothing of each other.
    pub fn groups(mut self, groups: usize) -> Self {
        self.window = self.window.groups(groups);
        self
    }

    /// Without a bias.
    pub fn without_bias(mut self) -> Self {
        self.bias = false;
        self
    }
}

impl<const N: usize> From<()> for ConvLayerOptions<N> {
    fn from((): ()) -> Self {
        ConvLayerOptions::new()
    }
}

/// Weight and bias of a convolution over `N` dims, with PyTorch's starting values.
#[derive(Debug, Clone)]
struct Conv<const N: usize> {
    weight: Parameter,
    bias: Option<Parameter>,
    options: ConvLayerOptions<N>,
}

impl<const N: usize> Conv<N> {
    fn new(shape: &[usize], options: ConvLayerOptions<N>, place: &Place) -> Result<Self> {
        let init = Init::KaimingUniform { slope: 5f64.sqrt() };
        let fan = shape.iter().skip(1).copied().fold(1, usize::saturating_mul);
        let bias = Init::FanIn(fan);
        let outputs = shape.first().copied().unwrap_or(0);
        let weight = Parameter::new(&init.tensor(shape, place)?)?;
        let bias = options
            .bias
            .then(|| Parameter::new(&bias.tensor([outputs], place)?))
            .transpose()?;
        Ok(Conv {
            weight,
            bias,
            options,
        })
    }

    fn run(
        &self,
        forward: impl FnOnce(&Tensor, ConvOptions<'_, N>) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let bias = self.bias.as_ref().map(Parameter::tensor);
        let mut options = self.options.window;
        if let Some(bias) = &bias {
            options = options.bias(bias);
        }
        forward(&self.weight.tensor(), options)
    }

    fn show(&self, visitor: &mut Visitor<'_>) {
        visitor.parameter("weight", &self.weight);
        if let Some(bias) = &self.bias {
            visitor.parameter("bias", bias);
        }
    }
}

/// A convolution over one dim. PyTorch: `torch.nn.Conv1d`.
///
/// State: `weight` `[outputs, inputs / groups, kernel]`, `bias` `[outputs]`.
///
/// ```
/// use ascend_tensor::nn::{Conv1d, ConvLayerOptions, Module, Place};
/// use ascend_tensor::Tensor;
/// # fn main() -> ascend_tensor::Result<()> {
/// let conv = Conv1d::new([1, 1, 2], ConvLayerOptions::new().without_bias(), &Place::default())?;
/// conv.load_state_dict(&[("weight".to_string(), Tensor::new([[[1.0f32, -1.0]]]))].into())?;
/// let y = conv.forward(&Tensor::new([[[1.0f32, 4.0, 9.0]]]))?;
/// assert_eq!(y.to_vec::<f32>()?, [-3.0, -5.0]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Conv1d(Conv<1>);

impl Conv1d {
    /// A layer whose weight has the shape `[outputs, inputs / groups, kernel]`.
    ///
    /// # Errors
    /// Memory and device errors.
    pub fn new(
        shape: [usize; 3],
        options: impl Into<ConvLayerOptions<1>>,
        place: &Place,
    ) -> Result<Self> {
        Conv::new(&shape, options.into(), place).map(Conv1d)
    }

    /// `[batch, inputs, length] -> [batch, outputs, ..]`.
    ///
    /// # Errors
    /// As [`Tensor::conv1d`].
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.0.run(|weight, options| x.conv1d(weight, options))
    }
}

impl Module for Conv1d {
    fn visit(&self, visitor: &mut Visitor<'_>) {
        self.0.show(visitor);
    }
}

impl Layer for Conv1d {
    fn forward(&self, x: &Tensor, _phase: Phase) -> Result<Tensor> {
        self.forward(x)
    }
}

/// A convolution over two dims. PyTorch: `torch.nn.Conv2d`.
///
/// State: `weight` `[outputs, inputs / groups, height, width]`, `bias` `[outputs]`.
///
/// ```
/// use ascend_tensor::nn::{Conv2d, ConvLayerOptions, Module, Place};
/// use ascend_tensor::{DType, Device, Tensor};
/// # fn main() -> ascend_tensor::Result<()> {
/// let conv = Conv2d::new([8, 3, 3, 3], ConvLayerOptions::new().stride(2).padding(1), &Place::default())?;
/// let y = conv.forward(&Tensor::ones([1, 3, 6, 6], DType::F32, Device::Cpu)?)?;
/// assert_eq!(y.dims(), [1, 8, 3, 3]);
/// assert_eq!(conv.parameter_count(), 8 * 3 * 3 * 3 + 8);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Conv2d(Conv<2>);

impl Conv2d {
    /// A layer whose weight has the shape `[outputs, inputs / groups, height, width]`.
    ///
    /// # Errors
    /// Memory and device errors.
    pub fn new(
        shape: [usize; 4],
        options: impl Into<ConvLayerOptions<2>>,
        place: &Place,
    ) -> Result<Self> {
        Conv::new(&shape, options.into(), place).map(Conv2d)
    }

    /// `[batch, inputs, height, width] -> [batch, outputs, ..]`.
    ///
    /// # Errors
    /// As [`Tensor::conv2d`].
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.0.run(|weight, options| x.conv2d(weight, options))
    }
}

impl Module for Conv2d {
    fn visit(&self, visitor: &mut Visitor<'_>) {
        self.0.show(visitor);
    }
}

impl Layer for Conv2d {
    fn forward(&self, x: &Tensor, _phase: Phase) -> Result<Tensor> {
        self.forward(x)
    }
}

/// The largest element of each window over two dims. PyTorch: `torch.nn.MaxPool2d`.
///
/// ```
/// use ascend_tensor::nn::{Layer, MaxPool2d, Phase};
/// use ascend_tensor::Tensor;
/// # fn main() -> ascend_tensor::Result<()> {
/// let x = Tensor::new([[[[1.0f32, 2.0], [4.0, 3.0]]]]);
/// assert_eq!(MaxPool2d::new(2).forward(&x, Phase::Training)?.to_vec::<f32>()?, [4.0]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy)]
pub struct MaxPool2d(MaxPoolOptions<2>);

impl MaxPool2d {
    /// Windows of this size side by side, or as the options say.
    pub fn new(options: impl Into<MaxPoolOptions<2>>) -> Self {
        MaxPool2d(options.into())
    }
}

impl Module for MaxPool2d {
    fn visit(&self, _visitor: &mut Visitor<'_>) {}
}

impl Layer for MaxPool2d {
    fn forward(&self, x: &Tensor, _phase: Phase) -> Result<Tensor> {
        x.max_pool2d(self.0)
    }
}
