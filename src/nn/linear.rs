//! `Linear` and `Embedding`: layers that are one matrix.
//!
//! Knows weights and their starting values. Must not know how a product is computed.

use super::{Init, Layer, Module, Parameter, Phase, Place, Visitor};
use crate::error::{Error, Result};
use crate::ops::index::EmbeddingOptions;
use crate::tensor::Tensor;

/// Settings of [`Linear::new`]. Made from `()`: with a bias, PyTorch's starting values.
#[derive(Debug, Clone, Copy)]
#[must_use]
pub struct LinearOptions {
    bias: bool,
    weight: Init,
}

impl Default for LinearOptions {
    fn default() -> Self {
        LinearOptions {
            bias: true,
            weight: Init::KaimingUniform {
                slope: 2.236_067_977_499_79,
            },
        }
    }
}

impl LinearOptions {
    /// With a bias, and PyTorch's starting values.
    pub fn new() -> Self {
        LinearOptions::default()
    }

    /// Without a bias.
    pub fn without_bias(mut self) -> Self {
        self.bias = false;
        self
    }

    /// The starting values of the weight.
    pub fn init(mut self, weight: Init) -> Self {
        self.weight = weight;
        self
    }
}

impl From<()> for LinearOptions {
    fn from((): ()) -> Self {
        LinearOptions::new()
    }
}

/// `y = x w^T + b` over the last dim. PyTorch: `torch.nn.Linear`.
///
/// State: `weight` `[outputs, inputs]`, `bias` `[outputs]`.
///
/// ```
/// use ascend_tensor::nn::{Linear, Parameter, Place};
/// use ascend_tensor::Tensor;
/// # fn main() -> ascend_tensor::Result<()> {
/// let weight = Parameter::new(&Tensor::new([[1.0f32, 2.0], [3.0, 4.0]]))?;
/// let bias = Parameter::new(&Tensor::new([10.0f32, 20.0]))?;
/// let y = Linear::from_parameters(&weight, Some(&bias)).forward(&Tensor::new([1.0f32, 1.0]))?;
/// assert_eq!(y.to_vec::<f32>()?, [13.0, 27.0]);
/// assert_eq!(Linear::new([3, 2], (), &Place::default())?.weight().tensor().dims(), [3, 2]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Linear {
    weight: Parameter,
    bias: Option<Parameter>,
}

impl Linear {
    /// A layer whose weight has the shape `[outputs, inputs]`.
    ///
    /// # Errors
    /// Memory and device errors.
    pub fn new(
        shape: [usize; 2],
        options: impl Into<LinearOptions>,
        place: &Place,
    ) -> Result<Self> {
        let options = options.into();
        let [outputs, inputs] = shape;
        let weight = Parameter::new(&options.weight.tensor(shape, place)?)?;
        let bias = options
            .bias
            .then(|| Parameter::new(&Init::FanIn(inputs).tensor([outputs], place)?))
            .transpose()?;
        Ok(Linear { weight, bias })
    }

    /// A layer with given parameters, which may be shared with other layers.
    pub fn from_parameters(weight: &Parameter, bias: Option<&Parameter>) -> Self {
        Linear {
            weight: weight.clone(),
            bias: bias.cloned(),
        }
    }

    /// The weight, `[outputs, inputs]`.
    pub fn weight(&self) -> &Parameter {
        &self.weight
    }

    /// The bias.
    pub fn bias(&self) -> Option<&Parameter> {
        self.bias.as_ref()
    }

    /// `[.., inputs] -> [.., outputs]`.
    ///
    /// # Errors
    /// As [`Tensor::linear`].
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let bias = self.bias.as_ref().map(Parameter::tensor);
        x.linear(&self.weight.tensor(), bias.as_ref())
    }
}

impl Module for Linear {
    fn visit(&self, visitor: &mut Visitor<'_>) {
        visitor.parameter("weight", &self.weight);
        if let Some(bias) = &self.bias {
            visitor.parameter("bias", bias);
        }
    }
}

impl Layer for Linear {
    fn forward(&self, x: &Tensor, _phase: Phase) -> Result<Tensor> {
        self.forward(x)
    }
}

/// Rows of a table by their numbers. PyTorch: `torch.nn.Embedding`.
///
/// State: `weight` `[rows, width]`. The row at the padding index starts at zero and has no gradient.
///
/// ```
/// use ascend_tensor::nn::{Embedding, Init, Place};
/// use ascend_tensor::Tensor;
/// # fn main() -> ascend_tensor::Result<()> {
/// let table = Embedding::new([3, 2], Init::Constant(0.5), &Place::default())?.with_padding(0)?;
/// let rows = table.forward(&Tensor::new([2i64, 0]))?;
/// assert_eq!(rows.to_vec::<f32>()?, [0.5, 0.5, 0.0, 0.0]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Embedding {
    weight: Parameter,
    padding: Option<i64>,
}

impl Embedding {
    /// A table of the shape `[rows, width]`, by default standard normal.
    ///
    /// # Errors
    /// Memory and device errors.
    pub fn new(shape: [usize; 2], init: impl Into<Option<Init>>, place: &Place) -> Result<Self> {
        let init = init.into().unwrap_or(Init::Normal { deviation: 1.0 });
        Ok(Embedding {
            weight: Parameter::new(&init.tensor(shape, place)?)?,
            padding: None,
        })
    }

    /// The row of this number stands for padding: it becomes zero and gets no gradient. Negative numbers count from the end.
    ///
    /// # Errors
    /// `Option` if there is no such row.
    pub fn with_padding(mut self, row: i64) -> Result<Self> {
        let rows = self.weight.tensor().dims().first().copied().unwrap_or(0);
        let at = if row < 0 { row + rows as i64 } else { row };
        if at < 0 || at >= rows as i64 {
            let why = format!("got {row}, wanted one of {rows} rows");
            return Err(Error::option("embedding", "padding_index", why));
        }
        self.weight
            .update(|weight| weight.narrow(0, at, 1)?.zero_())?;
        self.padding = Some(row);
        Ok(self)
    }

    /// The table.
    pub fn weight(&self) -> &Parameter {
        &self.weight
    }

    /// Integers `[..]` -> `[.., width]`.
    ///
    /// # Errors
    /// As [`Tensor::embedding`].
    pub fn forward(&self, ids: &Tensor) -> Result<Tensor> {
        let options = match self.padding {
            Some(row) => EmbeddingOptions::new().padding_index(row),
            None => EmbeddingOptions::new(),
        };
        self.weight.tensor().embedding(ids, options)
    }
}

impl Module for Embedding {
    fn visit(&self, visitor: &mut Visitor<'_>) {
        visitor.parameter("weight", &self.weight);
    }
}
