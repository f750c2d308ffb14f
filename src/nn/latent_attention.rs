//! Multi-head latent attention: keys and values come from one compressed vector per token, which is all that is cached.
//!
//! Knows the projections, the cache and the absorbed form for decoding. Must not know what is around it.

use super::attention::attend_with;
use super::{
    AttentionMask, Dropout, Init, Linear, LinearOptions, Module, Phase, Place, RmsNorm, Rotation,
    Visitor,
};
use crate::check;
use crate::device::Device;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::ops::view::SliceOptions;
use crate::tensor::Tensor;

/// The sizes of a [`LatentAttention`], with DeepSeek's names.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct LatentAttentionOptions {
    /// The width of a token.
    pub hidden_size: usize,
    /// The number of heads.
    pub heads: usize,
    /// The rank of the queries' compression; `None` for queries straight from the token.
    pub q_lora_rank: Option<usize>,
    /// The rank of the keys' and values' compression.
    pub kv_lora_rank: usize,
    /// The dims of a head that carry no position.
    pub qk_nope_head_dim: usize,
    /// The dims of a head that are turned by position.
    pub qk_rope_head_dim: usize,
    /// The dims of a head's values.
    pub v_head_dim: usize,
    /// Whether the projections from the token and to the result have biases.
    pub bias: bool,
    /// How many of the attention weights are dropped in training.
    pub dropout: f64,
    /// The epsilon of the norms of the compressed vectors.
    pub epsilon: f64,
    /// The factor of the scores; `None` for one over the root of a head's dims.
    pub scale: Option<f64>,
    /// The starting values of the weights.
    pub init: Init,
}

impl LatentAttentionOptions {
    /// One head of 128 + 64 dims with values of 128, rank 512, no compression of queries.
    pub fn new(hidden_size: usize) -> Self {
        LatentAttentionOptions {
            hidden_size,
            heads: 1,
            q_lora_rank: None,
            kv_lora_rank: 512,
            qk_nope_head_dim: 128,
            qk_rope_head_dim: 64,
            v_head_dim: 128,
            bias: false,
            dropout: 0.0,
            epsilon: 1e-6,
            scale: None,
            init: Init::Normal { deviation: 0.02 },
        }
    }

    fn check(&self) -> Result<()> {
        let op = "latent_attention";
        check::sizes(
            op,
            &[
                ("hidden_size", self.hidden_size),
                ("heads", self.heads),
                ("q_lora_rank", self.q_lora_rank.unwrap_or(1)),
                ("kv_lora_rank", self.kv_lora_rank),
                ("qk_nope_head_dim", self.qk_nope_head_dim),
                ("qk_rope_head_dim", self.qk_rope_head_dim),
                ("v_head_dim", self.v_head_dim),
            ],
        )?;
        check::probability(op, "dropout", self.dropout)?;
        check::not_negative(op, "epsilon", self.epsilon)?;
        check::finite(op, "scale", self.scale.unwrap_or(1.0))
    }

    fn head(&self) -> usize {
        self.qk_nope_head_dim + self.qk_rope_head_dim
    }
}

/// How queries are made.
#[derive(Debug, Clone)]
enum Queries {
    Straight(Linear),
    Compressed {
        down: Linear,
        norm: RmsNorm,
        up: Linear,
    },
}

/// Multi-head latent attention of DeepSeek-V2 and V3.
///
/// State, with Hugging Face's names: `q_proj` or `q_a_proj`, `q_a_layernorm`, `q_b_proj`; `kv_a_proj_with_mqa`,
/// `kv_a_layernorm`, `kv_b_proj`, `o_proj`.
///
/// ```
/// use ascend_tensor::nn::{LatentAttention, LatentAttentionOptions, Phase, Place, Rotary, RotaryOptions};
/// use ascend_tensor::{DType, Device, Tensor};
/// # fn main() -> ascend_tensor::Result<()> {
/// let mut options = LatentAttentionOptions::new(8);
/// (options.heads, options.kv_lora_rank, options.v_head_dim) = (2, 4, 3);
/// (options.qk_nope_head_dim, options.qk_rope_head_dim) = (4, 2);
/// let (layer, rotary) = (LatentAttention::new(options, &Place::default())?, Rotary::new(RotaryOptions::new(2))?);
/// let x = Tensor::ones([1, 3, 8], DType::F32, Device::Cpu)?;
/// let whole = layer.forward(&x, &rotary.rotation(3, 0, Device::Cpu)?, Phase::Evaluation)?;
/// // Token by token with a cache of 6 numbers per token, the same.
/// let mut cache = layer.cache([1, 3])?;
/// assert_eq!(cache.bytes(), 3 * (4 + 2) * 4);
/// for place in 0..3 {
///     let rotation = rotary.rotation(1, place as usize, Device::Cpu)?;
///     let y = layer.decode(&x.narrow(1, place, 1)?, &rotation, &mut cache)?;
///     let off = y.sub(&whole.narrow(1, place, 1)?)?.abs()?.amax(())?.item::<f32>()?;
///     assert!(off < 1e-6);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct LatentAttention {
    options: LatentAttentionOptions,
    queries: Queries,
    down: Linear,
    norm: RmsNorm,
    up: Linear,
    output: Linear,
    dropout: Dropout,
}

/// What a [`LatentAttention`] keeps of past tokens: per token one compressed vector and one turned key for all heads.
#[derive(Debug, Clone)]
pub struct LatentCache {
    latent: Tensor,
    key: Tensor,
    length: usize,
}

impl LatentCache {
    /// The number of tokens kept.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether no tokens are kept.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Forgets all tokens, or those from a length on.
    pub fn truncate(&mut self, length: usize) {
        self.length = self.length.min(length);
    }

    /// The bytes that the cache takes.
    pub fn bytes(&self) -> usize {
        let size = |x: &Tensor| x.elements() * x.dtype().size();
        size(&self.latent) + size(&self.key)
    }

    /// Adds `[batch, length, ..]` vectors and keys; the answer is all that is kept.
    fn extend(&mut self, latent: &Tensor, key: &Tensor) -> Result<(Tensor, Tensor)> {
        let length = |x: &Tensor| x.dims().get(1).copied().unwrap_or(0);
        let (start, count, room) = (self.length, length(latent), length(&self.latent));
        if start + count > room {
            let why = format!("got {} tokens, wanted at most {room}", start + count);
            return Err(Error::option("latent_cache", "capacity", why));
        }
        let part = SliceOptions::new().start(start as i64);
        let part = part.end((start + count) as i64);
        crate::mode::no_grad(|| {
            self.latent.slice_assign_(1, part, &latent.detach())?;
            self.key.slice_assign_(1, part, &key.detach())
        })?;
        self.length += count;
        let kept = |x: &Tensor| x.narrow(1, 0, self.length as i64);
        Ok((kept(&self.latent)?, kept(&self.key)?))
    }
}

impl LatentAttention {
    /// A layer by its sizes.
    ///
    /// # Errors
    /// Memory and device errors.
    pub fn new(options: LatentAttentionOptions, place: &Place) -> Result<Self> {
        options.check()?;
        let plain = LinearOptions::new().without_bias().init(options.init);
        let outer = if options.bias {
            LinearOptions::new().init(options.init)
        } else {
            plain
        };
        let (hidden, heads) = (options.hidden_size, options.heads);
        let queries = heads * options.head();
        let queries = match options.q_lora_rank {
            None => Queries::Straight(Linear::new([queries, hidden], plain, place)?),
            Some(rank) => Queries::Compressed {
                down: Linear::new([rank, hidden], outer, place)?,
                norm: RmsNorm::new(rank, options.epsilon, place)?,
                up: Linear::new([queries, rank], plain, place)?,
            },
        };
        let rank = options.kv_lora_rank;
        let both = heads * (options.qk_nope_head_dim + options.v_head_dim);
        let layer = LatentAttention {
            queries,
            down: Linear::new([rank + options.qk_rope_head_dim, hidden], outer, place)?,
            norm: RmsNorm::new(rank, options.epsilon, place)?,
            up: Linear::new([both, rank], plain, place)?,
            output: Linear::new([hidden, heads * options.v_head_dim], outer, place)?,
            dropout: Dropout::new(options.dropout),
            options,
        };
        for bias in [&layer.down, &layer.output]
            .iter()
            .filter_map(|own| own.bias())
        {
            bias.update(|bias| bias.zero_())?;
        }
        Ok(layer)
    }

    fn scale(&self) -> f64 {
        let usual = 1.0 / (self.options.head() as f64).sqrt();
        self.options.scale.unwrap_or(usual)
    }

    /// The queries' parts without and with position, both `[batch, heads, length, ..]`; the second is turned.
    fn queries(&self, x: &Tensor, rotation: &Rotation) -> Result<(Tensor, Tensor)> {
        let queries = match &self.queries {
            Queries::Straight(linear) => linear.forward(x)?,
            Queries::Compressed { down, norm, up } => {
                up.forward(&norm.forward(&down.forward(x)?)?)?
            }
        };
        let queries = queries.unflatten(-1, &[self.options.heads as i64, -1])?;
        let (plain, turned) = self.cut(&queries.transpose(1, 2)?, self.options.qk_nope_head_dim)?;
        Ok((plain, rotation.apply(&turned)?))
    }

    /// The two parts of the last dim.
    fn cut(&self, x: &Tensor, first: usize) -> Result<(Tensor, Tensor)> {
        let whole = x.dims().last().copied().unwrap_or(0);
        let rest = whole.saturating_sub(first);
        Ok((
            x.narrow(-1, 0, first as i64)?,
            x.narrow(-1, first as i64, rest as i64)?,
        ))
    }

    /// The compressed vectors `[batch, length, rank]`, normed, and the turned keys `[batch, length, rope]`.
    fn compress(&self, x: &Tensor, rotation: &Rotation) -> Result<(Tensor, Tensor)> {
        let (latent, key) = self.cut(&self.down.forward(x)?, self.options.kv_lora_rank)?;
        Ok((self.norm.forward(&latent)?, rotation.apply(&key)?))
    }

    /// `[batch, length, hidden]` -> the same shape, each token looking at itself and those before it.
    ///
    /// # Errors
    /// `Shape` and `Broadcast` for another width, or a rotation of another length.
    pub fn forward(&self, x: &Tensor, rotation: &Rotation, phase: Phase) -> Result<Tensor> {
        let (plain, turned) = self.queries(x, rotation)?;
        let (latent, key) = self.compress(x, rotation)?;
        let heads = self.options.heads;
        let expanded = self.up.forward(&latent)?;
        let expanded = expanded
            .unflatten(-1, &[heads as i64, -1])?
            .transpose(1, 2)?;
        let (plain_key, value) = self.cut(&expanded, self.options.qk_nope_head_dim)?;
        let mut shape = *plain_key.shape();
        if let Some(last) = shape.dims_mut().last_mut() {
            *last = self.options.qk_rope_head_dim;
        }
        let shared = key.unsqueeze(1)?.expand(shape)?;
        let query = Tensor::cat(&[&plain, &turned], -1)?;
        let key = Tensor::cat(&[&plain_key, &shared], -1)?;
        let result = attend_with(
            [&query, &key, &value],
            AttentionMask::Causal,
            self.scale(),
            (&self.dropout, phase),
        )?;
        self.output.forward(&result.transpose(1, 2)?.flatten(2, 3)?)
    }

    /// An empty cache for so many tokens of each of `batch` sequences.
    ///
    /// # Errors
    /// Memory and device errors.
    pub fn cache(&self, [batch, capacity]: [usize; 2]) -> Result<LatentCache> {
        let weight = self.up.weight().tensor();
        let (dtype, device): (DType, Device) = (weight.dtype(), weight.device());
        let zeros = |width| Tensor::zeros([batch, capacity, width], dtype, device);
        Ok(LatentCache {
            latent: zeros(self.options.kv_lora_rank)?,
            key: zeros(self.options.qk_rope_head_dim)?,
            length: 0,
        })
    }

    /// As [`LatentAttention::forward`] for tokens that follow those in the cache, which is extended by them.
    ///
    /// Keys and values are never made: their projection is absorbed into queries and result, so that a step reads the
    /// compressed vectors only.
    ///
    /// # Errors
    /// As [`LatentAttention::forward`], and `Option` if the cache is full.
    pub fn decode(
        &self,
        x: &Tensor,
        rotation: &Rotation,
        cache: &mut LatentCache,
    ) -> Result<Tensor> {
        let new = match x.dims() {
            [_, new, _] => *new,
            _ => return Err(Error::shape("decode", x.shape(), "[batch, length, hidden]")),
        };
        let past = cache.length;
        let (plain, turned) = self.queries(x, rotation)?;
        let (latent, key) = self.compress(x, rotation)?;
        let (latent, key) = cache.extend(&latent, &key)?;
        let heads = self.options.heads as i64;
        let rank = self.options.kv_lora_rank as i64;
        let up = self
            .up
            .weight()
            .tensor()
            .reshape_infer(&[heads, -1, rank])?;
        let nope = self.options.qk_nope_head_dim as i64;
        let (to_key, to_value) = (
            up.narrow(1, 0, nope)?,
            up.narrow(1, nope, self.options.v_head_dim as i64)?,
        );
        let (latent, key) = (latent.unsqueeze(1)?, key.unsqueeze(1)?);
        let absorbed = plain.matmul(&to_key)?;
        let scores = absorbed
            .matmul(&latent.transpose(-2, -1)?)?
            .add(&turned.matmul(&key.transpose(-2, -1)?)?)?
            .mul(self.scale())?;
        let all = cache.length;
        let scores = if new > 1 {
            let allowed = Tensor::ones([new, all], DType::Bool, x.device())?.tril(past as i64)?;
            scores.masked_fill(&allowed.logical_not()?, f64::NEG_INFINITY)?
        } else {
            scores
        };
        let mixed = scores
            .softmax(-1)?
            .to_dtype(latent.dtype())?
            .matmul(&latent)?;
        let result = mixed.matmul(&to_value.transpose(-2, -1)?)?;
        self.output.forward(&result.transpose(1, 2)?.flatten(2, 3)?)
    }
}

impl Module for LatentAttention {
    fn visit(&self, visitor: &mut Visitor<'_>) {
        match &self.queries {
            Queries::Straight(linear) => visitor.module("q_proj", linear),
            Queries::Compressed { down, norm, up } => {
                visitor.module("q_a_proj", down);
                visitor.module("q_a_layernorm", norm);
                visitor.module("q_b_proj", up);
            }
        }
        visitor.module("kv_a_proj_with_mqa", &self.down);
        visitor.module("kv_a_layernorm", &self.norm);
        visitor.module("kv_b_proj", &self.up);
        visitor.module("o_proj", &self.output);
    }
}
