//! `SwiGlu`: the gated feed-forward block of LLaMA and DeepSeek.
//!
//! Knows its three matrices. Must not know what is around it.

use super::{Activation, Init, Layer, Linear, LinearOptions, Module, Phase, Place, Visitor};
use crate::check;
use crate::error::Result;
use crate::tensor::Tensor;

/// `down(silu(gate(x)) * up(x))`, without biases.
///
/// State: `gate_proj.weight`, `up_proj.weight` `[hidden, width]`, `down_proj.weight` `[width, hidden]`.
///
/// ```
/// use ascend_tensor::nn::{Init, Place, SwiGlu, SwiGluSize};
/// use ascend_tensor::Tensor;
/// # fn main() -> ascend_tensor::Result<()> {
/// let block = SwiGlu::new(SwiGluSize { width: 2, hidden: 3 }, Init::Ones, &Place::default())?;
/// // Gate and up are 2 everywhere: 3 silu(2) 2 = 10.5696.
/// let y = block.forward(&Tensor::new([1.0f32, 1.0]))?.to_vec::<f32>()?;
/// assert!(y.iter().all(|y| (y - 10.5696).abs() < 1e-3));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct SwiGlu {
    gate: Linear,
    up: Linear,
    down: Linear,
    activation: Activation,
}

/// The sizes of a [`SwiGlu`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SwiGluSize {
    /// The size of the last dim of input and output.
    pub width: usize,
    /// The size between the matrices.
    pub hidden: usize,
}

impl SwiGlu {
    /// A block with `silu` as its gate function.
    ///
    /// # Errors
    /// Memory and device errors.
    pub fn new(size: SwiGluSize, init: Init, place: &Place) -> Result<Self> {
        let SwiGluSize { width, hidden } = size;
        check::sizes("swiglu", &[("width", width), ("hidden", hidden)])?;
        let options = LinearOptions::new().without_bias().init(init);
        Ok(SwiGlu {
            gate: Linear::new([hidden, width], options, place)?,
            up: Linear::new([hidden, width], options, place)?,
            down: Linear::new([width, hidden], options, place)?,
            activation: Activation::Silu,
        })
    }

    /// Another gate function.
    #[must_use]
    pub fn activation(mut self, activation: Activation) -> Self {
        self.activation = activation;
        self
    }

    /// `[.., width] -> [.., width]`.
    ///
    /// # Errors
    /// `Shape` for another width.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let gate = self.activation.apply(&self.gate.forward(x)?)?;
        self.down.forward(&gate.mul(&self.up.forward(x)?)?)
    }
}

impl Module for SwiGlu {
    fn visit(&self, visitor: &mut Visitor<'_>) {
        visitor.module("gate_proj", &self.gate);
        visitor.module("up_proj", &self.up);
        visitor.module("down_proj", &self.down);
    }
}

impl Layer for SwiGlu {
    fn forward(&self, x: &Tensor, _phase: Phase) -> Result<Tensor> {
        self.forward(x)
    }
}
