//! Rotary position embedding: frequencies, their scalings, and the rotation of queries and keys.
//!
//! Knows positions and angles. Must not know attention.

use std::sync::{Arc, Mutex, PoisonError};

use crate::check;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::mode::{self, Modes};
use crate::ops::attention::RotaryMode;
use crate::tensor::Tensor;

/// Which elements of a head turn together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Pairing {
    /// Element `i` with element `i + dims / 2` (GPT-NeoX, LLaMA in Hugging Face's layout).
    #[default]
    Half,
    /// Element `2 i` with element `2 i + 1` (the original paper, DeepSeek's `rope_interleave`).
    Interleaved,
}

const OP: &str = "rotary";

/// How frequencies are changed for contexts longer than those trained on, as Hugging Face's `rope_type`.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub enum RotaryScaling {
    /// The frequencies as they are (`default`).
    #[default]
    None,
    /// All frequencies divided by a factor (`linear`).
    Linear {
        /// The factor.
        factor: f64,
    },
    /// A larger base beyond the trained length (`dynamic`).
    Dynamic {
        /// The factor.
        factor: f64,
        /// The trained length.
        trained: usize,
    },
    /// High frequencies kept, low ones divided, a ramp between (`yarn`).
    Yarn {
        /// By how much low frequencies are divided.
        factor: f64,
        /// The trained length.
        trained: usize,
        /// Rotations over the trained length above which a frequency is kept.
        beta_fast: f64,
        /// Rotations below which it is divided in full.
        beta_slow: f64,
        /// What cosines and sines are multiplied with.
        attention_factor: f64,
        /// Whether the ends of the ramp are rounded to whole dims.
        truncate: bool,
    },
    /// As `Yarn`, with the ramp over wavelengths (`llama3`).
    Llama3 {
        /// By how much low frequencies are divided.
        factor: f64,
        /// The trained length.
        trained: usize,
        /// The trained length over the longest wavelength that is not divided in full.
        low: f64,
        /// The trained length over the longest wavelength that is kept.
        high: f64,
    },
}

impl RotaryScaling {
    /// Refuses factors that are not above 0, and a trained length of 0.
    fn check(&self) -> Result<()> {
        let factors: &[(&'static str, f64)] = match self {
            RotaryScaling::None => &[],
            RotaryScaling::Linear { factor } | RotaryScaling::Dynamic { factor, .. } => {
                &[("factor", *factor)]
            }
            RotaryScaling::Yarn {
                factor,
                beta_fast,
                beta_slow,
                attention_factor,
                ..
            } => &[
                ("factor", *factor),
                ("beta_fast", *beta_fast),
                ("beta_slow", *beta_slow),
                ("attention_factor", *attention_factor),
            ],
            RotaryScaling::Llama3 {
                factor, low, high, ..
            } => &[("factor", *factor), ("low", *low), ("high", *high)],
        };
        for (name, factor) in factors {
            check::positive(OP, name, *factor)?;
        }
        match self {
            RotaryScaling::Dynamic { trained, .. }
            | RotaryScaling::Yarn { trained, .. }
            | RotaryScaling::Llama3 { trained, .. } => check::sizes(OP, &[("trained", *trained)]),
            _ => Ok(()),
        }
    }
}

/// The frequencies of a [`Rotary`].
#[derive(Debug, Clone, PartialEq)]
#[must_use]
pub struct RotaryOptions {
    dims: usize,
    theta: f64,
    pairing: Pairing,
    scaling: RotaryScaling,
}

impl RotaryOptions {
    /// Heads (or parts of them) of so many dims, base 10000, pairs half a head apart.
    pub fn new(dims: usize) -> Self {
        RotaryOptions {
            dims,
            theta: 10_000.0,
            pairing: Pairing::Half,
            scaling: RotaryScaling::None,
        }
    }

    /// The base of the frequencies.
    pub fn theta(mut self, theta: f64) -> Self {
        self.theta = theta;
        self
    }

    /// Which elements turn together.
    pub fn pairing(mut self, pairing: Pairing) -> Self {
        self.pairing = pairing;
        self
    }

    /// How frequencies are changed for long contexts.
    pub fn scaling(mut self, scaling: RotaryScaling) -> Self {
        self.scaling = scaling;
        self
    }
}

/// Cosines and sines of a range of positions, `[length, dims]`, ready to turn heads.
#[derive(Debug, Clone)]
pub struct Rotation {
    cos: Tensor,
    sin: Tensor,
    pairing: Pairing,
}

impl Rotation {
    /// Turns heads: `[.., length, dims]` -> the same shape.
    ///
    /// # Errors
    /// As [`Tensor::rotary_embedding`], for another length or other dims.
    pub fn apply(&self, x: &Tensor) -> Result<Tensor> {
        let (cos, sin) = (self.cos.to_dtype(x.dtype())?, self.sin.to_dtype(x.dtype())?);
        let mode = match self.pairing {
            Pairing::Half => RotaryMode::Half,
            Pairing::Interleaved => RotaryMode::Interleave,
        };
        x.rotary_embedding(&cos, &sin, mode)
    }
}

/// A request for a rotation: length, offset and device.
type Key = (usize, usize, Device);

/// Rotary position embedding over the dims of a head. RoFormer (Su et al. 2021).
///
/// ```
/// use ascend_tensor::nn::{Rotary, RotaryOptions};
/// use ascend_tensor::{Device, Tensor};
/// # fn main() -> ascend_tensor::Result<()> {
/// let rotary = Rotary::new(RotaryOptions::new(2))?;
/// let turned = rotary.rotation(2, 0, Device::Cpu)?.apply(&Tensor::new([[[1.0f32, 0.0], [1.0, 0.0]]]))?;
/// // Position 0 stays, position 1 turns by an angle of 1.
/// let want = [1.0, 0.0, 1f32.cos(), 1f32.sin()];
/// assert!(turned.to_vec::<f32>()?.iter().zip(want).all(|(got, want)| (got - want).abs() < 1e-6));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Rotary {
    options: RotaryOptions,
    last: Arc<Mutex<Option<(Key, Rotation)>>>,
}

/// Memory for a table of so many positions.
fn room(length: usize, dims: usize) -> Result<Vec<f32>> {
    let (mut table, count) = (Vec::new(), length.saturating_mul(dims));
    table
        .try_reserve_exact(count)
        .map_err(|_| Error::OutOfMemory {
            op: OP,
            device: Device::Cpu,
            asked: count.saturating_mul(4),
            free: 0,
        })?;
    Ok(table)
}

impl Rotary {
    /// An embedding by its frequencies.
    ///
    /// # Errors
    /// `Option` for an odd number of dims, a base or a factor that is not above 0, a trained length of 0.
    pub fn new(options: RotaryOptions) -> Result<Self> {
        check::sizes(OP, &[("dims", options.dims)])?;
        if !options.dims.is_multiple_of(2) {
            let why = format!("got {}, wanted an even number", options.dims);
            return Err(Error::option(OP, "dims", why));
        }
        check::positive(OP, "theta", options.theta)?;
        options.scaling.check()?;
        Ok(Rotary {
            options,
            last: Arc::default(),
        })
    }

    /// The rotation of `length` positions from `offset` on. The last answer is kept for the next call.
    ///
    /// # Errors
    /// `Option` for positions beyond the largest integer; memory and device errors.
    pub fn rotation(&self, length: usize, offset: usize, device: Device) -> Result<Rotation> {
        let key = (length, offset, device);
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, rotation)) = last.as_ref().filter(|(own, _)| *own == key) {
            return Ok(rotation.clone());
        }
        let rotation = self.compute(length, offset, device)?;
        // Tables of a dry run have no values to keep.
        if !mode::current().has(Modes::DRY) {
            *last = Some((key, rotation.clone()));
        }
        Ok(rotation)
    }

    /// Forgets the kept rotation, which lies on a device that may have been lost.
    pub fn forget(&self) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn compute(&self, length: usize, offset: usize, device: Device) -> Result<Rotation> {
        let Some(end) = offset.checked_add(length) else {
            let why = format!("got {offset} before {length} positions, wanted a smaller one");
            return Err(Error::option(OP, "offset", why));
        };
        let dims = self.options.dims;
        let (mut cos, mut sin) = (room(length, dims)?, room(length, dims)?);
        let (frequencies, factor) = self.frequencies(end);
        for position in offset..end {
            for dim in 0..dims {
                let pair = match self.options.pairing {
                    Pairing::Half => dim % (dims / 2),
                    Pairing::Interleaved => dim / 2,
                };
                let angle = position as f32 * frequencies[pair];
                cos.push(angle.cos() * factor);
                sin.push(angle.sin() * factor);
            }
        }
        let table = |values| Tensor::from_vec(values, [length, dims])?.to_device(device);
        Ok(Rotation {
            cos: table(cos)?,
            sin: table(sin)?,
            pairing: self.options.pairing,
        })
    }

    /// The angle per position of each pair, and the factor of cosines and sines, for a context of this length.
    fn frequencies(&self, length: usize) -> (Vec<f32>, f32) {
        let RotaryOptions { dims, theta, .. } = self.options;
        let plain = |theta: f64| -> Vec<f32> {
            let exponent = |pair: usize| (2 * pair) as f32 / dims as f32;
            (0..dims / 2)
                .map(|pair| 1.0 / (theta as f32).powf(exponent(pair)))
                .collect()
        };
        let own = plain(theta);
        match &self.options.scaling {
            RotaryScaling::None => (own, 1.0),
            RotaryScaling::Linear { factor } => {
                (own.iter().map(|f| f / *factor as f32).collect(), 1.0)
            }
            RotaryScaling::Dynamic { factor, trained } if length > *trained => {
                let stretch = factor * length as f64 / *trained as f64 - (factor - 1.0);
                let power = dims as f64 / (dims as f64 - 2.0);
                (plain(theta * stretch.powf(power)), 1.0)
            }
            RotaryScaling::Dynamic { .. } => (own, 1.0),
            RotaryScaling::Yarn {
                attention_factor, ..
            } => (self.yarn(&own), *attention_factor as f32),
            RotaryScaling::Llama3 {
                factor,
                trained,
                low,
                high,
            } => (llama3(&own, *factor, *trained as f64, [*low, *high]), 1.0),
        }
    }

    fn yarn(&self, own: &[f32]) -> Vec<f32> {
        let RotaryScaling::Yarn {
            factor,
            trained,
            beta_fast,
            beta_slow,
            truncate,
            ..
        } = self.options.scaling
        else {
            return own.to_vec();
        };
        let dims = self.options.dims as f64;
        let place = |rotations: f64| {
            let wave = trained as f64 / (rotations * 2.0 * std::f64::consts::PI);
            dims * wave.ln() / (2.0 * self.options.theta.ln())
        };
        let (mut low, mut high) = (place(beta_fast), place(beta_slow));
        if truncate {
            (low, high) = (low.floor(), high.ceil());
        }
        let (low, mut high) = (low.max(0.0), high.min(dims - 1.0));
        if low == high {
            high += 0.001;
        }
        let blend = |(pair, f): (usize, &f32)| {
            let ramp = ((pair as f64 - low) / (high - low)).clamp(0.0, 1.0) as f32;
            f / factor as f32 * ramp + f * (1.0 - ramp)
        };
        own.iter().enumerate().map(blend).collect()
    }
}

fn llama3(own: &[f32], factor: f64, trained: f64, [low, high]: [f64; 2]) -> Vec<f32> {
    let one = |f: &f32| {
        let wave = 2.0 * std::f64::consts::PI / f64::from(*f);
        if wave < trained / high {
            return *f;
        }
        if wave > trained / low {
            return *f / factor as f32;
        }
        let smooth = (trained / wave - low) / (high - low);
        (f64::from(*f) * ((1.0 - smooth) / factor + smooth)) as f32
    };
    own.iter().map(one).collect()
}
