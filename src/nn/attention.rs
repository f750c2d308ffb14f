//! Attention over heads, and the multi-head layer as PyTorch has it.
//!
//! Knows heads, masks and projections. Must not know positions or caches.

use super::{Dropout, Init, Linear, LinearOptions, Module, Parameter, Phase, Place, Visitor};
use crate::check;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::ops::attention::AttentionOptions;
use crate::tensor::Tensor;

/// Which keys a query may look at.
#[derive(Debug, Clone, Copy, Default)]
pub enum AttentionMask<'a> {
    /// All.
    #[default]
    None,
    /// Those up to its own position, when queries and keys begin together.
    Causal,
    /// Those where this bool tensor is true; it broadcasts to `[.., queries, keys]`.
    Allowed(&'a Tensor),
}

/// `softmax(q k^T scale + mask) v` for `[batch, heads, length, dims]`.
///
/// ```
/// use ascend_tensor::nn::{AttentionMask, attend};
/// use ascend_tensor::Tensor;
/// # fn main() -> ascend_tensor::Result<()> {
/// // Queries of zeros look at all keys alike: each result is the mean of the values.
/// let (query, value) = (Tensor::new([[[[0.0f32], [0.0]]]]), Tensor::new([[[[1.0f32], [3.0]]]]));
/// let all = attend([&query, &value, &value], AttentionMask::None, 1.0)?;
/// assert_eq!(all.to_vec::<f32>()?, [2.0, 2.0]);
/// let before = attend([&query, &value, &value], AttentionMask::Causal, 1.0)?;
/// assert_eq!(before.to_vec::<f32>()?, [1.0, 2.0]);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// `Shape` and `Broadcast` for shapes that do not fit.
pub fn attend(
    [query, key, value]: [&Tensor; 3],
    mask: AttentionMask<'_>,
    scale: f64,
) -> Result<Tensor> {
    attend_with(
        [query, key, value],
        mask,
        scale,
        (&Dropout::new(0.0), Phase::Evaluation),
    )
}

/// As [`attend`], with dropout of the weights.
pub(super) fn attend_with(
    [query, key, value]: [&Tensor; 3],
    mask: AttentionMask<'_>,
    scale: f64,
    (dropout, phase): (&Dropout, Phase),
) -> Result<Tensor> {
    if !dropout.is_active(phase) {
        let options = AttentionOptions::new().scale(scale);
        let options = match mask {
            AttentionMask::None => options,
            AttentionMask::Causal => options.causal(),
            AttentionMask::Allowed(allowed) => options.mask(allowed),
        };
        return query.scaled_dot_product_attention(key, value, options);
    }
    let mut scores = query.mul(scale)?.matmul(&key.transpose(-2, -1)?)?;
    let causal;
    let allowed = match mask {
        AttentionMask::None => None,
        AttentionMask::Allowed(allowed) => Some(allowed),
        AttentionMask::Causal => {
            let [.., queries, keys] = scores.dims() else {
                return Err(Error::shape("attend", scores.shape(), "two dims or more"));
            };
            causal = Tensor::ones([*queries, *keys], DType::Bool, query.device())?.tril(0)?;
            Some(&causal)
        }
    };
    if let Some(allowed) = allowed {
        scores = scores.masked_fill(&allowed.logical_not()?, f64::NEG_INFINITY)?;
    }
    let weights = scores.softmax(-1)?.to_dtype(value.dtype())?;
    dropout.forward(&weights, phase)?.matmul(value)
}

/// Settings of [`MultiHeadAttention::new`].
#[derive(Debug, Clone, Copy)]
#[must_use]
pub struct MultiHeadOptions {
    width: usize,
    heads: usize,
    dropout: f64,
}

impl MultiHeadOptions {
    /// Tokens of this width, one head, no dropout.
    pub fn new(width: usize) -> Self {
        MultiHeadOptions {
            width,
            heads: 1,
            dropout: 0.0,
        }
    }

    /// The number of heads, which divides the width.
    pub fn heads(mut self, heads: usize) -> Self {
        self.heads = heads;
        self
    }

    /// How many of the attention weights are dropped in training.
    pub fn dropout(mut self, dropout: f64) -> Self {
        self.dropout = dropout;
        self
    }
}

/// Attention with projections of queries, keys, values and the result. PyTorch: `torch.nn.MultiheadAttention` with
/// `batch_first=True`.
///
/// State: `in_proj_weight` `[3 width, width]`, `in_proj_bias`, `out_proj.weight`, `out_proj.bias`.
///
/// ```
/// use ascend_tensor::nn::{AttentionMask, Module, MultiHeadAttention, MultiHeadOptions, Phase, Place};
/// use ascend_tensor::{DType, Device, Tensor};
/// # fn main() -> ascend_tensor::Result<()> {
/// let layer = MultiHeadAttention::new(MultiHeadOptions::new(8).heads(2), &Place::default())?;
/// let x = Tensor::ones([1, 3, 8], DType::F32, Device::Cpu)?;
/// let y = layer.forward(&x, AttentionMask::Causal, Phase::Training)?;
/// assert_eq!(y.dims(), [1, 3, 8]);
/// assert_eq!(layer.parameter_count(), 4 * 8 * 8 + 4 * 8);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct MultiHeadAttention {
    weight: Parameter,
    bias: Parameter,
    output: Linear,
    options: MultiHeadOptions,
    dropout: Dropout,
}

impl MultiHeadAttention {
    /// A layer with PyTorch's starting values.
    ///
    /// # Errors
    /// `Option` for a width of 0, heads that do not divide it, or a dropout outside `[0, 1]`; memory and device errors.
    pub fn new(options: MultiHeadOptions, place: &Place) -> Result<Self> {
        let MultiHeadOptions {
            width,
            heads,
            dropout,
        } = options;
        check::sizes("multi_head_attention", &[("width", width)])?;
        check::probability("multi_head_attention", "dropout", dropout)?;
        if heads == 0 || !width.is_multiple_of(heads) {
            let why = format!("got {heads}, wanted a divisor of {width}");
            return Err(Error::option("multi_head_attention", "heads", why));
        }
        let output = Linear::new([width, width], LinearOptions::new(), place)?;
        if let Some(bias) = output.bias() {
            bias.update(|bias| bias.zero_())?;
        }
        Ok(MultiHeadAttention {
            weight: Parameter::new(&Init::XavierUniform.tensor([3 * width, width], place)?)?,
            bias: Parameter::new(&Init::Zeros.tensor([3 * width], place)?)?,
            output,
            options,
            dropout: Dropout::new(options.dropout),
        })
    }

    /// Attention of a sequence to itself: `[batch, length, width]` -> the same shape.
    ///
    /// # Errors
    /// `Shape` and `Broadcast` for shapes that do not fit.
    pub fn forward(&self, x: &Tensor, mask: AttentionMask<'_>, phase: Phase) -> Result<Tensor> {
        self.forward_to(x, x, mask, phase)
    }

    /// Attention of one sequence to another, which gives keys and values.
    ///
    /// # Errors
    /// As [`MultiHeadAttention::forward`].
    pub fn forward_to(
        &self,
        x: &Tensor,
        memory: &Tensor,
        mask: AttentionMask<'_>,
        phase: Phase,
    ) -> Result<Tensor> {
        let (weights, biases) = (
            self.weight.tensor().chunk(3, 0)?,
            self.bias.tensor().chunk(3, 0)?,
        );
        let heads = |part: usize, source: &Tensor| {
            source
                .linear(&weights[part], Some(&biases[part]))?
                .unflatten(-1, &[self.options.heads as i64, -1])?
                .transpose(1, 2)
        };
        let (query, key, value) = (heads(0, x)?, heads(1, memory)?, heads(2, memory)?);
        let scale = 1.0 / ((self.options.width / self.options.heads) as f64).sqrt();
        let result = attend_with([&query, &key, &value], mask, scale, (&self.dropout, phase))?;
        self.output.forward(&result.transpose(1, 2)?.flatten(2, 3)?)
    }
}

impl Module for MultiHeadAttention {
    fn visit(&self, visitor: &mut Visitor<'_>) {
        visitor.parameter("in_proj_weight", &self.weight);
        visitor.parameter("in_proj_bias", &self.bias);
        visitor.module("out_proj", &self.output);
    }
}
