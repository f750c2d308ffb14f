//! Layers: modules from one tensor to one, chains of them, and those without parameters.
//!
//! Knows the phase and activations. Must not know any layer with parameters.

use super::{Module, Visitor};
use crate::error::{Error, Result};
use crate::ops::activation::GeluApproximation;
use crate::ops::random::{Generator, RandomOptions, default_generator};
use crate::tensor::Tensor;

/// What a forward pass is for: dropout and batch norms differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Phase {
    /// The loss of the result will be minimised.
    Training,
    /// The result itself is wanted.
    #[default]
    Evaluation,
}

/// A module from one tensor to one tensor.
pub trait Layer: Module + Send + Sync {
    /// The layer's output.
    ///
    /// # Errors
    /// Those of the ops that it uses.
    fn forward(&self, x: &Tensor, phase: Phase) -> Result<Tensor>;
}

/// Layers one after the other, named `0`, `1`, ... PyTorch: `torch.nn.Sequential`.
///
/// ```
/// use ascend_tensor::nn::{Activation, Flatten, Layer, Phase, Sequential};
/// use ascend_tensor::Tensor;
/// # fn main() -> ascend_tensor::Result<()> {
/// let chain = Sequential::new().then(Activation::Relu).then(Flatten);
/// let y = chain.forward(&Tensor::new([[[1.0f32], [-2.0]]]), Phase::Evaluation)?;
/// assert_eq!((y.dims(), y.to_vec::<f32>()?), (&[1, 2][..], vec![1.0, 0.0]));
/// # Ok(())
/// # }
/// ```
#[derive(Default)]
pub struct Sequential(Vec<Box<dyn Layer>>);

impl std::fmt::Debug for Sequential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sequential of {} layers", self.0.len())
    }
}

impl Sequential {
    /// No layers: the output is the input.
    pub fn new() -> Self {
        Sequential::default()
    }

    /// One more layer at the end.
    #[must_use]
    pub fn then(mut self, layer: impl Layer + 'static) -> Self {
        self.0.push(Box::new(layer));
        self
    }
}

impl Module for Sequential {
    fn visit(&self, visitor: &mut Visitor<'_>) {
        for (index, layer) in self.0.iter().enumerate() {
            visitor.module(&index.to_string(), layer.as_ref());
        }
    }
}

impl Layer for Sequential {
    fn forward(&self, x: &Tensor, phase: Phase) -> Result<Tensor> {
        let mut x = x.clone();
        for layer in &self.0 {
            x = layer.forward(&x, phase)?;
        }
        Ok(x)
    }
}

/// An elementwise function between layers.
///
/// ```
/// use ascend_tensor::nn::Activation;
/// use ascend_tensor::Tensor;
/// # fn main() -> ascend_tensor::Result<()> {
/// let silu: Activation = "silu".parse()?;
/// let y = silu.apply(&Tensor::new([0.0f32, 1.0]))?.to_vec::<f32>()?;
/// assert!(y[0] == 0.0 && (y[1] - 0.731_058_6).abs() < 1e-6);
/// assert!("swishy".parse::<Activation>().is_err());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Activation {
    /// `max(x, 0)`.
    Relu,
    /// `x sigmoid(x)`.
    Silu,
    /// `x` times the normal distribution function.
    Gelu,
    /// The approximation of `Gelu` by a hyperbolic tangent.
    GeluTanh,
    /// The hyperbolic tangent.
    Tanh,
    /// `1 / (1 + e^-x)`.
    Sigmoid,
}

impl Activation {
    /// The function of the tensor's elements.
    ///
    /// # Errors
    /// `DType` for integers and bools.
    pub fn apply(self, x: &Tensor) -> Result<Tensor> {
        match self {
            Activation::Relu => x.relu(),
            Activation::Silu => x.silu(),
            Activation::Gelu => x.gelu(GeluApproximation::None),
            Activation::GeluTanh => x.gelu(GeluApproximation::Tanh),
            Activation::Tanh => x.tanh(),
            Activation::Sigmoid => x.sigmoid(),
        }
    }
}

impl Activation {
    /// The name that Hugging Face configurations use.
    pub fn name(self) -> &'static str {
        match self {
            Activation::Relu => "relu",
            Activation::Silu => "silu",
            Activation::Gelu => "gelu",
            Activation::GeluTanh => "gelu_pytorch_tanh",
            Activation::Tanh => "tanh",
            Activation::Sigmoid => "sigmoid",
        }
    }
}

impl std::str::FromStr for Activation {
    type Err = Error;

    /// Reads the names that Hugging Face configurations use for `hidden_act`.
    fn from_str(name: &str) -> Result<Self> {
        Ok(match name {
            "relu" => Activation::Relu,
            "silu" | "swish" => Activation::Silu,
            "gelu" => Activation::Gelu,
            "gelu_new" | "gelu_pytorch_tanh" => Activation::GeluTanh,
            "tanh" => Activation::Tanh,
            "sigmoid" => Activation::Sigmoid,
            _ => {
                let why = format!("got {name:?}, wanted relu, silu, gelu, tanh or sigmoid");
                return Err(Error::option("activation", "hidden_act", why));
            }
        })
    }
}

impl Module for Activation {
    fn visit(&self, _visitor: &mut Visitor<'_>) {}
}

impl Layer for Activation {
    fn forward(&self, x: &Tensor, _phase: Phase) -> Result<Tensor> {
        self.apply(x)
    }
}

/// Sets elements to zero at random in training and scales up the others. PyTorch: `torch.nn.Dropout`.
///
/// ```
/// use ascend_tensor::nn::{Dropout, Phase};
/// use ascend_tensor::{Generator, Tensor};
/// # fn main() -> ascend_tensor::Result<()> {
/// let dropout = Dropout::new(0.5).with_generator(&Generator::new(1));
/// let x = Tensor::new([3.0f32, 3.0, 3.0, 3.0]);
/// assert_eq!(dropout.forward(&x, Phase::Evaluation)?.to_vec::<f32>()?, [3.0; 4]);
/// let y = dropout.forward(&x, Phase::Training)?.to_vec::<f32>()?;
/// assert!(y.iter().all(|y| *y == 0.0 || *y == 6.0));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Dropout {
    probability: f64,
    generator: Generator,
}

impl Dropout {
    /// Zeros of this probability, drawn from the default generator.
    pub fn new(probability: f64) -> Self {
        Dropout {
            probability,
            generator: default_generator(),
        }
    }

    /// Draws from another generator.
    #[must_use]
    pub fn with_generator(mut self, generator: &Generator) -> Self {
        self.generator = generator.clone();
        self
    }

    /// Whether anything is dropped in a phase.
    pub(super) fn is_active(&self, phase: Phase) -> bool {
        phase == Phase::Training && self.probability != 0.0
    }

    /// In evaluation the input itself.
    ///
    /// # Errors
    /// As [`Tensor::dropout`].
    pub fn forward(&self, x: &Tensor, phase: Phase) -> Result<Tensor> {
        if !self.is_active(phase) {
            return Ok(x.clone());
        }
        let options = RandomOptions::new().generator(&self.generator);
        x.dropout(self.probability, options)
    }
}

impl Module for Dropout {
    fn visit(&self, _visitor: &mut Visitor<'_>) {}
}

impl Layer for Dropout {
    fn forward(&self, x: &Tensor, phase: Phase) -> Result<Tensor> {
        self.forward(x, phase)
    }
}

/// All dims from the second on become one. PyTorch: `torch.nn.Flatten`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Flatten;

impl Module for Flatten {
    fn visit(&self, _visitor: &mut Visitor<'_>) {}
}

impl Layer for Flatten {
    fn forward(&self, x: &Tensor, _phase: Phase) -> Result<Tensor> {
        x.flatten(1, -1)
    }
}
