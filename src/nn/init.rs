//! Initialisers: the values that new parameters start with, as PyTorch's `torch.nn.init`.
//!
//! Knows distributions and fans. Must not know modules.

use crate::check;
use crate::device::Device;
use crate::dtype::DType;
use crate::error::Result;
use crate::ops::random::{Generator, RandomOptions, default_generator};
use crate::shape::Shape;
use crate::tensor::Tensor;

/// Where new parameters live, of what dtype, and where their random numbers come from.
///
/// The default is `f32` on the CPU from the default generator.
#[derive(Debug, Clone)]
#[must_use]
pub struct Place {
    device: Device,
    dtype: DType,
    generator: Generator,
}

impl Default for Place {
    fn default() -> Self {
        Place::new(Device::Cpu)
    }
}

impl From<Device> for Place {
    fn from(device: Device) -> Self {
        Place::new(device)
    }
}

impl Place {
    /// `f32` on a device, from the default generator.
    pub fn new(device: Device) -> Self {
        Place {
            device,
            dtype: DType::F32,
            generator: default_generator(),
        }
    }

    /// The dtype.
    pub fn dtype(mut self, dtype: DType) -> Self {
        self.dtype = dtype;
        self
    }

    /// The generator to draw from.
    pub fn generator(mut self, generator: &Generator) -> Self {
        self.generator = generator.clone();
        self
    }

    /// The device.
    pub fn device(&self) -> Device {
        self.device
    }

    pub(crate) fn source(&self) -> &Generator {
        &self.generator
    }

    fn finish(&self, values: &Tensor) -> Result<Tensor> {
        values.to_dtype(self.dtype)?.to_device(self.device)
    }
}

/// A rule for the starting values of a parameter. `fan_in` is the number of inputs of one output: the product of all sizes but
/// the first; `fan_out` is the first size times the product of the sizes from the third on.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Init {
    /// All zero.
    Zeros,
    /// All one.
    Ones,
    /// One value.
    Constant(f64),
    /// Normal with mean 0 and this standard deviation.
    Normal {
        /// The standard deviation.
        deviation: f64,
    },
    /// Normal with mean 0, drawn again where it is more than this many standard deviations off.
    TruncatedNormal {
        /// The standard deviation.
        deviation: f64,
        /// Where to cut, in values (PyTorch's default is 2).
        limit: f64,
    },
    /// Uniform in `[-bound, bound)`.
    Uniform {
        /// The bound.
        bound: f64,
    },
    /// He's uniform rule for a leaky ReLU of this slope; slope `sqrt(5)` is what PyTorch's linear and convolution layers use.
    KaimingUniform {
        /// The slope.
        slope: f64,
    },
    /// He's normal rule for a leaky ReLU of this slope.
    KaimingNormal {
        /// The slope.
        slope: f64,
    },
    /// Glorot's uniform rule.
    XavierUniform,
    /// Glorot's normal rule.
    XavierNormal,
    /// Uniform within one over the root of a fan that is given: PyTorch's rule for biases.
    FanIn(usize),
}

impl Init {
    /// A tensor of a shape, filled by the rule. The numbers are drawn in `f32` on the host, so that they are equal on all devices.
    ///
    /// ```
    /// use ascend_tensor::nn::{Init, Place};
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Init::KaimingUniform { slope: 5f64.sqrt() }.tensor([3, 4], &Place::default())?;
    /// assert!(x.to_vec::<f32>()?.iter().all(|x| x.abs() <= 0.5));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Option` for a deviation, bound or slope that is not finite, or a deviation that is negative; memory and device errors.
    pub fn tensor(self, shape: impl Into<Shape>, place: &Place) -> Result<Tensor> {
        self.fill(shape.into(), place)
    }

    /// Refuses numbers that no distribution has. A constant may be any number.
    fn check(self) -> Result<()> {
        let op = "init";
        match self {
            Init::Normal { deviation } => check::finite(op, "deviation", deviation)
                .and_then(|()| check::not_negative(op, "deviation", deviation)),
            Init::TruncatedNormal { deviation, limit } => {
                check::positive(op, "deviation", deviation)
                    .and_then(|()| check::positive(op, "limit", limit))
            }
            Init::Uniform { bound } => check::finite(op, "bound", bound),
            Init::KaimingUniform { slope } | Init::KaimingNormal { slope } => {
                check::finite(op, "slope", slope)
            }
            _ => Ok(()),
        }
    }

    fn fill(self, shape: Shape, place: &Place) -> Result<Tensor> {
        self.check()?;
        let (inputs, outputs) = fans(&shape);
        let gain = |slope: f64| (2.0 / (1.0 + slope * slope)).sqrt();
        let values = match self {
            Init::Zeros => Tensor::zeros(shape, DType::F32, Device::Cpu)?,
            Init::Ones => Tensor::ones(shape, DType::F32, Device::Cpu)?,
            Init::Constant(value) => {
                Tensor::zeros(shape, DType::F32, Device::Cpu)?.full_like(value)?
            }
            Init::Normal { deviation } => normal(shape, deviation, place)?,
            Init::TruncatedNormal { deviation, limit } => {
                truncated(shape, deviation, limit, place)?
            }
            Init::Uniform { bound } => uniform(shape, bound, place)?,
            Init::KaimingUniform { slope } => {
                uniform(shape, gain(slope) * (3.0 / inputs).sqrt(), place)?
            }
            Init::KaimingNormal { slope } => normal(shape, gain(slope) / inputs.sqrt(), place)?,
            Init::XavierUniform => uniform(shape, (6.0 / (inputs + outputs)).sqrt(), place)?,
            Init::XavierNormal => normal(shape, (2.0 / (inputs + outputs)).sqrt(), place)?,
            Init::FanIn(fan) => uniform(shape, 1.0 / (fan.max(1) as f64).sqrt(), place)?,
        };
        place.finish(&values)
    }
}

/// The fans of a weight; at least 1 each.
fn fans(shape: &Shape) -> (f64, f64) {
    let dims = shape.dims();
    let size = |dim: usize| dims.get(dim).map_or(1.0, |size| *size as f64);
    let field: f64 = dims.iter().skip(2).map(|size| *size as f64).product();
    ((size(1) * field).max(1.0), (size(0) * field).max(1.0))
}

fn options(place: &Place) -> RandomOptions {
    RandomOptions::new().generator(place.source())
}

fn normal(shape: Shape, deviation: f64, place: &Place) -> Result<Tensor> {
    Tensor::randn(shape, options(place))?.mul(deviation)
}

fn uniform(shape: Shape, bound: f64, place: &Place) -> Result<Tensor> {
    Tensor::rand(shape, options(place))?
        .mul(2.0 * bound)?
        .sub(bound)
}

/// By the inverse of the distribution function: `sqrt(2) erfinv(u)` with `u` uniform between the cut points' own.
fn truncated(shape: Shape, deviation: f64, limit: f64, place: &Place) -> Result<Tensor> {
    let cut = libm::erf(limit / deviation / std::f64::consts::SQRT_2);
    let values = uniform(shape, cut, place)?
        .erfinv()?
        .mul(deviation * std::f64::consts::SQRT_2)?;
    values.clamp(crate::ClampOptions::new().min(-limit).max(limit))
}
