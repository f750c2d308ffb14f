//! `LayerNorm`, `RmsNorm` and `GroupNorm`: norms without running statistics.
//!
//! Knows weights and epsilons. Must not know how a norm is computed.

use super::{Init, Layer, Module, Parameter, Phase, Place, Visitor};
use crate::check;
use crate::error::{Error, Result};
use crate::ops::norm::{AffineOptions, LayerNormOptions, RmsNormOptions};
use crate::tensor::Tensor;

/// The last dim brought to mean 0 and variance 1. PyTorch: `torch.nn.LayerNorm`.
///
/// State: `weight`, `bias`, both `[width]`.
///
/// ```
/// use ascend_tensor::nn::{LayerNorm, Place};
/// use ascend_tensor::Tensor;
/// # fn main() -> ascend_tensor::Result<()> {
/// let norm = LayerNorm::new(2, 0.0, &Place::default())?;
/// let y = norm.forward(&Tensor::new([[1.0f32, 3.0], [10.0, 2.0]]))?;
/// assert_eq!(y.to_vec::<f32>()?, [-1.0, 1.0, 1.0, -1.0]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct LayerNorm {
    weight: Parameter,
    bias: Parameter,
    epsilon: f64,
}

impl LayerNorm {
    /// A norm over a last dim of this width; PyTorch's usual epsilon is 1e-5.
    ///
    /// # Errors
    /// Memory and device errors.
    pub fn new(width: usize, epsilon: f64, place: &Place) -> Result<Self> {
        check::not_negative("layer_norm", "epsilon", epsilon)?;
        Ok(LayerNorm {
            weight: Parameter::new(&Init::Ones.tensor([width], place)?)?,
            bias: Parameter::new(&Init::Zeros.tensor([width], place)?)?,
            epsilon,
        })
    }

    /// Any shape that ends in the width.
    ///
    /// # Errors
    /// As [`Tensor::layer_norm`].
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (weight, bias) = (self.weight.tensor(), self.bias.tensor());
        let options = LayerNormOptions::new(*weight.shape()).weight(&weight);
        x.layer_norm(options.bias(&bias).epsilon(self.epsilon))
    }
}

impl Module for LayerNorm {
    fn visit(&self, visitor: &mut Visitor<'_>) {
        visitor.parameter("weight", &self.weight);
        visitor.parameter("bias", &self.bias);
    }
}

impl Layer for LayerNorm {
    fn forward(&self, x: &Tensor, _phase: Phase) -> Result<Tensor> {
        self.forward(x)
    }
}

/// The last dim brought to a root mean square of 1. PyTorch: `torch.nn.RMSNorm`.
///
/// State: `weight` `[width]`.
///
/// ```
/// use ascend_tensor::nn::{Place, RmsNorm};
/// use ascend_tensor::Tensor;
/// # fn main() -> ascend_tensor::Result<()> {
/// // The root of the mean square of 1 and 7 is 5.
/// let y = RmsNorm::new(2, 0.0, &Place::default())?.forward(&Tensor::new([1.0f32, 7.0]))?.to_vec::<f32>()?;
/// assert!((y[0] - 0.2).abs() < 1e-6 && (y[1] - 1.4).abs() < 1e-6);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct RmsNorm {
    weight: Parameter,
    epsilon: f64,
}

impl RmsNorm {
    /// A norm over a last dim of this width.
    ///
    /// # Errors
    /// Memory and device errors.
    pub fn new(width: usize, epsilon: f64, place: &Place) -> Result<Self> {
        check::not_negative("rms_norm", "epsilon", epsilon)?;
        Ok(RmsNorm {
            weight: Parameter::new(&Init::Ones.tensor([width], place)?)?,
            epsilon,
        })
    }

    /// Any shape that ends in the width.
    ///
    /// # Errors
    /// As [`Tensor::rms_norm`].
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let weight = self.weight.tensor();
        let options = RmsNormOptions::new(*weight.shape()).weight(&weight);
        x.rms_norm(options.epsilon(self.epsilon))
    }
}

impl Module for RmsNorm {
    fn visit(&self, visitor: &mut Visitor<'_>) {
        visitor.parameter("weight", &self.weight);
    }
}

impl Layer for RmsNorm {
    fn forward(&self, x: &Tensor, _phase: Phase) -> Result<Tensor> {
        self.forward(x)
    }
}

/// Groups of channels of each sample brought to mean 0 and variance 1. PyTorch: `torch.nn.GroupNorm`.
///
/// State: `weight`, `bias`, both `[channels]`.
///
/// ```
/// use ascend_tensor::nn::{GroupNorm, Groups, Place};
/// use ascend_tensor::Tensor;
/// # fn main() -> ascend_tensor::Result<()> {
/// let norm = GroupNorm::new(Groups { channels: 2, groups: 2 }, 0.0, &Place::default())?;
/// let y = norm.forward(&Tensor::new([[[1.0f32, 3.0], [2.0, 6.0]]]))?;
/// assert_eq!(y.to_vec::<f32>()?, [-1.0, 1.0, -1.0, 1.0]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct GroupNorm {
    weight: Parameter,
    bias: Parameter,
    groups: usize,
    epsilon: f64,
}

/// How channels are grouped in a [`GroupNorm`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Groups {
    /// The number of channels.
    pub channels: usize,
    /// The number of groups, which divides that of the channels.
    pub groups: usize,
}

impl GroupNorm {
    /// A norm over groups of channels; PyTorch's usual epsilon is 1e-5.
    ///
    /// # Errors
    /// Memory and device errors.
    pub fn new(size: Groups, epsilon: f64, place: &Place) -> Result<Self> {
        check::not_negative("group_norm", "epsilon", epsilon)?;
        if size.groups == 0 || !size.channels.is_multiple_of(size.groups) {
            let why = format!("got {}, wanted a divisor of {}", size.groups, size.channels);
            return Err(Error::option("group_norm", "groups", why));
        }
        Ok(GroupNorm {
            weight: Parameter::new(&Init::Ones.tensor([size.channels], place)?)?,
            bias: Parameter::new(&Init::Zeros.tensor([size.channels], place)?)?,
            groups: size.groups,
            epsilon,
        })
    }

    /// `[n, channels, ..]`.
    ///
    /// # Errors
    /// As [`Tensor::group_norm`].
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (weight, bias) = (self.weight.tensor(), self.bias.tensor());
        let options = AffineOptions::new().weight(&weight).bias(&bias);
        x.group_norm(self.groups as i64, options.epsilon(self.epsilon))
    }
}

impl Module for GroupNorm {
    fn visit(&self, visitor: &mut Visitor<'_>) {
        visitor.parameter("weight", &self.weight);
        visitor.parameter("bias", &self.bias);
    }
}

impl Layer for GroupNorm {
    fn forward(&self, x: &Tensor, _phase: Phase) -> Result<Tensor> {
        self.forward(x)
    }
}
