//! `rand`, `randn` and `randint`: uniform, normal and integer random tensors.

use std::ops::Range;

use super::generator::{Generator, Reserved, default_generator};
use crate::cpu::random::{counters, fill, fill_normal, fill_wide};
use crate::ops::prelude::*;

/// Settings of random tensors. Made from `()`, or from a device.
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct RandomOptions {
    pub(super) dtype: Option<DType>,
    pub(super) device: Option<Device>,
    pub(super) generator: Option<Generator>,
}

impl RandomOptions {
    /// The op's usual dtype, on the CPU, from the default generator.
    pub fn new() -> Self {
        RandomOptions::default()
    }

    /// The dtype.
    pub fn dtype(mut self, dtype: DType) -> Self {
        self.dtype = Some(dtype);
        self
    }

    /// The device.
    pub fn device(mut self, device: Device) -> Self {
        self.device = Some(device);
        self
    }

    /// The generator to draw from.
    pub fn generator(mut self, generator: &Generator) -> Self {
        self.generator = Some(generator.clone());
        self
    }

    pub(super) fn reserve(&self, counters: u64) -> Reserved {
        self.generator
            .clone()
            .unwrap_or_else(default_generator)
            .reserve(counters)
    }
}

impl From<()> for RandomOptions {
    fn from((): ()) -> Self {
        RandomOptions::new()
    }
}

impl From<Device> for RandomOptions {
    fn from(device: Device) -> Self {
        RandomOptions::new().device(device)
    }
}

impl From<&Generator> for RandomOptions {
    fn from(generator: &Generator) -> Self {
        RandomOptions::new().generator(generator)
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Distribution {
    Uniform,
    Normal,
    Integers { low: i64, high: i64 },
}

#[derive(Debug, Clone, Copy)]
struct Random {
    distribution: Distribution,
    shape: Shape,
    dtype: DType,
    device: Device,
    source: Reserved,
}

impl Tensor {
    /// Numbers uniform in `[0, 1)`.
    ///
    /// Dtypes: floats, `f32` if none is given. PyTorch: `torch.rand` (other numbers). NPU: made on the host, or
    /// `aclnnInplaceUniform` with [`Generator::device`].
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::rand([2, 3], ())?.to_vec::<f32>()?;
    /// assert!(x.iter().all(|x| (0.0..1.0).contains(x)));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `DType` for a dtype that is no float, and memory and device errors.
    pub fn rand(shape: impl Into<Shape>, options: impl Into<RandomOptions>) -> Result<Tensor> {
        Random::draw(Distribution::Uniform, shape.into(), &options.into())
    }

    /// Numbers of the standard normal distribution.
    ///
    /// Dtypes: floats, `f32` if none is given. PyTorch: `torch.randn` (other numbers). NPU: made on the host, or
    /// `aclnnInplaceNormal` with [`Generator::device`].
    ///
    /// # Errors
    /// As [`Tensor::rand`].
    pub fn randn(shape: impl Into<Shape>, options: impl Into<RandomOptions>) -> Result<Tensor> {
        Random::draw(Distribution::Normal, shape.into(), &options.into())
    }

    /// Integers uniform in a range.
    ///
    /// Dtypes: all but bool, `i64` if none is given. PyTorch: `torch.randint` (other numbers). NPU: made on the host, or
    /// `aclnnInplaceRandom` with [`Generator::device`].
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::randint(-2..3, [100], ())?.to_vec::<i64>()?;
    /// assert!(x.iter().all(|x| (-2..3).contains(x)));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Option` for an empty range, and as [`Tensor::rand`].
    pub fn randint(
        range: Range<i64>,
        shape: impl Into<Shape>,
        options: impl Into<RandomOptions>,
    ) -> Result<Tensor> {
        let distribution = Distribution::Integers {
            low: range.start,
            high: range.end,
        };
        Random::draw(distribution, shape.into(), &options.into())
    }
}

/// A uniform number in `[0, 1)` with as many bits as the dtype holds below 1, so that rounding never gives 1.
pub(super) fn unit(word: u32, dtype: DType) -> f32 {
    match dtype {
        DType::F16 => (word >> 21) as f32 / (1u32 << 11) as f32,
        DType::BF16 => (word >> 24) as f32 / (1u32 << 8) as f32,
        _ => (word >> 8) as f32 / (1u32 << 24) as f32,
    }
}

/// A uniform double in `[0, 1)`.
pub(super) fn wide_unit(bits: u64) -> f64 {
    (bits >> 11) as f64 / (1u64 << 53) as f64
}

/// A standard normal double from 64 bits, by Box and Muller.
fn normal(bits: u64) -> f64 {
    let (first, second) = ((bits >> 32) as f64 + 0.5, (bits as u32) as f64);
    let radius = (-2.0 * (first / (1u64 << 32) as f64).ln()).sqrt();
    radius * (second / (1u64 << 31) as f64 * std::f64::consts::PI).cos()
}

/// Uniform numbers from a reserved source.
pub(super) fn uniform(
    shape: Shape,
    dtype: DType,
    device: Device,
    source: Reserved,
) -> Result<Tensor> {
    run_one(
        &Random {
            distribution: Distribution::Uniform,
            shape,
            dtype,
            device,
            source,
        },
        &[],
    )
}

impl Random {
    fn draw(distribution: Distribution, shape: Shape, options: &RandomOptions) -> Result<Tensor> {
        let usual = if matches!(distribution, Distribution::Integers { .. }) {
            DType::I64
        } else {
            DType::F32
        };
        let (dtype, device) = (
            options.dtype.unwrap_or(usual),
            options.device.unwrap_or(Device::Cpu),
        );
        let wide = matches!(distribution, Distribution::Integers { .. }) || dtype == DType::F64;
        let words = if wide { 2 } else { 1 };
        shape.check("rand")?;
        let source = options.reserve(counters(shape.elements().saturating_mul(words)));
        run_one(
            &Random {
                distribution,
                shape,
                dtype,
                device,
                source,
            },
            &[],
        )
    }
}

impl Op for Random {
    fn name(&self) -> &'static str {
        match self.distribution {
            Distribution::Uniform => "rand",
            Distribution::Normal => "randn",
            Distribution::Integers { .. } => "randint",
        }
    }

    fn infer(&self, _x: &[Meta], plan: &mut Plan) -> Result<()> {
        match self.distribution {
            Distribution::Integers { low, high } if low >= high => {
                return Err(Error::option(
                    self.name(),
                    "range",
                    format!("got {low}..{high}, wanted one that is not empty"),
                ));
            }
            Distribution::Integers { .. } if self.dtype == DType::Bool => {
                return Err(Error::dtype(self.name(), self.dtype, "a number"));
            }
            Distribution::Uniform | Distribution::Normal if !self.dtype.is_float() => {
                return Err(Error::dtype(self.name(), self.dtype, "a float"));
            }
            _ => {}
        }
        plan.output(self.shape, self.dtype);
        Ok(())
    }

    fn cpu(&self, _x: &[Host<'_>], y: &mut [HostMut<'_>]) -> Result<Counts> {
        let (y, Reserved { seed, offset, .. }) = (&mut y[0], self.source);
        match (self.distribution, self.dtype) {
            (Distribution::Uniform, DType::F64) => fill_wide::<f64>(y, seed, offset, wide_unit),
            (Distribution::Uniform, dtype) => {
                fill::<f32>(y, seed, offset, |_, word| unit(word, dtype))
            }
            (Distribution::Normal, DType::F64) => fill_wide::<f64>(y, seed, offset, normal),
            (Distribution::Normal, _) => fill_normal(y, seed, offset),
            (Distribution::Integers { low, high }, dtype) => {
                let span = high.wrapping_sub(low) as u64;
                let place = |bits: u64| {
                    low.wrapping_add(((u128::from(bits) * u128::from(span)) >> 64) as i64)
                };
                with_lane!(dtype, T => fill_wide::<T>(y, seed, offset, |bits| T::from_i64(place(bits))));
            }
        }
        Ok(Counts::EXACT)
    }

    fn ascend(&self, cx: &Launch, _x: &[Dev<'_>], y: &[Dev<'_>]) -> Result<Counts> {
        let Reserved {
            seed,
            offset,
            native,
        } = self.source;
        if !native {
            return Err(Error::unsupported(
                self.name(),
                self.device,
                self.dtype,
                "portable numbers are made on the host",
            ));
        }
        match self.distribution {
            Distribution::Uniform => aclnn::inplace_uniform(cx, &y[0], 0.0, 1.0, seed, offset)?,
            Distribution::Normal => {
                aclnn::inplace_normal(cx, &y[0], 0.0, 1.0, seed as i64, offset as i64)?
            }
            Distribution::Integers { low, high } => {
                aclnn::inplace_random(cx, &y[0], low, high, seed as i64, offset as i64)?
            }
        }
        Ok(Counts::EXACT)
    }

    /// On the host, then moved.
    fn compose(&self, _x: &[Tensor]) -> Result<Outputs> {
        if self.device.is_cpu() {
            return Err(Error::unsupported(
                self.name(),
                self.device,
                self.dtype,
                "the op is not composed of others",
            ));
        }
        Ok(smallvec![
            run_one(
                &Random {
                    device: Device::Cpu,
                    ..*self
                },
                &[]
            )?
            .to_device(self.device)?
        ])
    }

    fn gradient(&self) -> Gradient {
        Gradient::Constant
    }

    fn device(&self) -> Device {
        self.device
    }

    fn boxed(&self) -> Box<dyn Op> {
        Box::new(*self)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "rand",
    family: "random",
    kernels: &[
        "aclnnInplaceUniform",
        "aclnnInplaceNormal",
        "aclnnInplaceRandom",
    ],
    samples,
};

fn samples() -> Vec<Sample> {
    let source = Reserved {
        seed: 5,
        offset: 0,
        native: false,
    };
    let one = |distribution, dtype| {
        let op = Box::new(Random {
            distribution,
            shape: Shape::from([3, 4]),
            dtype,
            device: Device::Cpu,
            source,
        });
        Sample {
            op,
            inputs: vec![],
            dtypes: &[DType::F32],
        }
    };
    let integers = Distribution::Integers { low: -3, high: 9 };
    vec![
        one(Distribution::Uniform, DType::F32),
        one(Distribution::Normal, DType::F64),
        one(integers, DType::I32),
    ]
}
