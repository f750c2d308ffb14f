//! Generation: one token after another, with a cache of what was read before, or without.
//!
//! Knows caches and sampling. Must not know how text becomes tokens.

use super::DeepSeek;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::mode::no_grad;
use crate::nn::{LatentCache, Phase};
use crate::ops::random::{Generator, RandomOptions};
use crate::tensor::Tensor;

/// What the layers keep of the tokens read so far.
#[derive(Debug, Clone)]
pub struct Cache {
    layers: Vec<LatentCache>,
}

impl Cache {
    /// The number of tokens read.
    pub fn len(&self) -> usize {
        self.layers.first().map_or(0, LatentCache::len)
    }

    /// Whether nothing was read.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes that the cache takes.
    pub fn bytes(&self) -> usize {
        self.layers.iter().map(LatentCache::bytes).sum()
    }

    /// Forgets the tokens from a length on.
    pub fn truncate(&mut self, length: usize) {
        for layer in &mut self.layers {
            layer.truncate(length);
        }
    }
}

/// How the next token is picked.
///
/// ```
/// use ascend_tensor::Generator;
/// use ascend_tensor::models::deepseek::Sampling;
/// # fn main() -> ascend_tensor::Result<()> {
/// let (logits, generator) = ([0.1f32, 3.0, 2.9, -5.0], Generator::new(1));
/// assert_eq!(Sampling::greedy().pick(&logits, &generator)?, 1);
/// let two = Sampling::greedy().temperature(1.0).top_k(2);
/// assert!((0..20).all(|_| matches!(two.pick(&logits, &generator), Ok(1 | 2))));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
#[must_use]
pub struct Sampling {
    temperature: f64,
    top_k: usize,
    top_p: f64,
}

impl Default for Sampling {
    fn default() -> Self {
        Sampling {
            temperature: 0.0,
            top_k: usize::MAX,
            top_p: 1.0,
        }
    }
}

impl Sampling {
    /// Always the likeliest token.
    pub fn greedy() -> Self {
        Sampling::default()
    }

    /// By chance, from the distribution at a temperature; 0 is greedy.
    pub fn temperature(mut self, temperature: f64) -> Self {
        self.temperature = temperature;
        self
    }

    /// Among so many of the likeliest only.
    pub fn top_k(mut self, top_k: usize) -> Self {
        self.top_k = top_k;
        self
    }

    /// Among the likeliest whose probabilities reach this sum.
    pub fn top_p(mut self, top_p: f64) -> Self {
        self.top_p = top_p;
        self
    }

    /// Picks a token by its logits.
    ///
    /// # Errors
    /// `Option` for a temperature below 0, logits with NaN, a `top_k` of 0 or a `top_p` outside `(0, 1]`; `Shape` for no logits.
    pub fn pick(&self, logits: &[f32], generator: &Generator) -> Result<usize> {
        let refuse = |name, why: String| Err(Error::option("sampling", name, why));
        if self.temperature.is_nan() || self.temperature < 0.0 {
            return refuse(
                "temperature",
                format!("got {}, wanted 0 or more", self.temperature),
            );
        }
        if self.top_k == 0 {
            return refuse("top_k", "got 0, wanted 1 or more".into());
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return refuse(
                "top_p",
                format!("got {}, wanted above 0, up to 1", self.top_p),
            );
        }
        let mut order: Vec<usize> = (0..logits.len()).collect();
        order.sort_by(|a, b| logits[*b].total_cmp(&logits[*a]));
        let Some(best) = order.first().copied() else {
            return Err(Error::shape("sampling", "no logits", "one or more"));
        };
        if logits[best].is_nan() {
            return refuse("logits", "got NaN, wanted numbers".into());
        }
        if self.temperature == 0.0 {
            return Ok(best);
        }
        order.truncate(self.top_k);
        let weight =
            |token: &usize| (f64::from(logits[*token] - logits[best]) / self.temperature).exp();
        let weights: Vec<f64> = order.iter().map(weight).collect();
        let total: f64 = weights.iter().sum();
        let (mut kept, mut reached) = (0, 0.0);
        while kept < weights.len() && (kept == 0 || reached < self.top_p * total) {
            reached += weights[kept];
            kept += 1;
        }
        let options = RandomOptions::new().dtype(DType::F64).generator(generator);
        let mut left = Tensor::rand([1], options)?.item::<f64>()? * reached;
        for (token, weight) in order.iter().zip(&weights).take(kept) {
            left -= weight;
            if left < 0.0 {
                return Ok(*token);
            }
        }
        Ok(order[kept - 1])
    }
}

impl DeepSeek {
    /// An empty cache for so many tokens of each of `batch` sequences: `[batch, capacity]`.
    ///
    /// # Errors
    /// Memory and device errors.
    pub fn cache(&self, size: [usize; 2]) -> Result<Cache> {
        let layers = self.layers().iter();
        let layers = layers.map(|layer| layer.attention().cache(size));
        Ok(Cache {
            layers: layers.collect::<Result<_>>()?,
        })
    }

    /// The logits `[batch, vocabulary]` after tokens `[batch, length]` that follow those in the cache, which is extended.
    ///
    /// # Errors
    /// As [`DeepSeek::forward`], and `Option` if the cache is full.
    pub fn decode(&self, tokens: &Tensor, cache: &mut Cache) -> Result<Tensor> {
        let length = match tokens.dims() {
            [_, length] if *length > 0 => *length,
            _ => {
                let want = "[batch, length] with a length of 1 or more";
                return Err(Error::shape("decode", tokens.shape(), want));
            }
        };
        let (embedding, norm, head, rotary) = self.parts();
        no_grad(|| {
            let rotation = rotary.rotation(length, cache.len(), tokens.device())?;
            let mut x = embedding.forward(tokens)?;
            for (layer, cache) in self.layers().iter().zip(&mut cache.layers) {
                x = layer.decode(&x, &rotation, cache)?;
            }
            head.forward(&norm.forward(&x.select(1, -1)?)?)
        })
    }

    /// The logits `[batch, vocabulary]` after tokens `[batch, length]`, without a cache.
    ///
    /// # Errors
    /// As [`DeepSeek::forward`].
    pub fn next(&self, tokens: &Tensor) -> Result<Tensor> {
        let (_, _, head, _) = self.parts();
        no_grad(|| {
            let hidden = self.hidden(tokens, Phase::Evaluation, &mut Vec::new())?;
            head.forward(&hidden.select(1, -1)?)
        })
    }

    /// Continues a prompt of one sequence by `count` tokens, with a cache.
    ///
    /// # Errors
    /// As [`DeepSeek::decode`] and [`Sampling::pick`].
    pub fn generate(
        &self,
        prompt: &[i64],
        count: usize,
        sampling: Sampling,
        generator: &Generator,
    ) -> Result<Vec<i64>> {
        let device = self.parts().0.weight().tensor().device();
        let mut cache = self.cache([1, prompt.len().saturating_add(count)])?;
        let (mut new, mut made) = (prompt.to_vec(), Vec::new());
        while made.len() < count {
            let tokens = Tensor::from_slice(&new, [1, new.len()])?.to_device(device)?;
            let logits = self.decode(&tokens, &mut cache)?.to_dtype(DType::F32)?;
            let token = sampling.pick(&logits.to_vec::<f32>()?, generator)? as i64;
            made.push(token);
            new = vec![token];
        }
        Ok(made)
    }
}
