//! The model: embedding, layers, norm and head, and its loss.
//!
//! Knows how tokens become logits. Must not know files or sampling.

use super::{Block, Config, FeedForward, Predictor};
use crate::error::{Error, Result};
use crate::nn::{
    Embedding, Linear, LinearOptions, Mixture, Module, Phase, Place, RmsNorm, Rotary,
    RotaryOptions, Routing, Visitor,
};
use crate::tensor::Tensor;

/// A DeepSeek-V3 language model.
///
/// Its state has Hugging Face's names, but for the experts of a layer, which are two stacked tensors
/// (`mlp.experts.gate_up`, `mlp.experts.down`); [`DeepSeek::load_pretrained`] and [`DeepSeek::save_pretrained`] read and write
/// the published layout.
///
/// ```
/// use ascend_tensor::models::deepseek::{Config, DeepSeek};
/// use ascend_tensor::nn::{Phase, Place};
/// use ascend_tensor::Tensor;
/// # fn main() -> ascend_tensor::Result<()> {
/// let config = Config::parse(r#"{"vocab_size": 10, "hidden_size": 8, "intermediate_size": 8, "moe_intermediate_size": 4,
///     "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2, "n_routed_experts": 4, "n_group": 1,
///     "topk_group": 1, "num_experts_per_tok": 2, "first_k_dense_replace": 1, "kv_lora_rank": 4, "q_lora_rank": null,
///     "qk_rope_head_dim": 2, "qk_nope_head_dim": 4, "v_head_dim": 4}"#)?;
/// let model = DeepSeek::new(&config, &Place::default())?;
/// let logits = model.forward(&Tensor::new([[1i64, 2, 3]]), Phase::Evaluation)?;
/// assert_eq!(logits.dims(), [1, 3, 10]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct DeepSeek {
    config: Config,
    embedding: Embedding,
    layers: Vec<Block>,
    norm: RmsNorm,
    head: Linear,
    predictors: Vec<Predictor>,
    rotary: Rotary,
    checkpointed: bool,
}

/// The terms of a loss beside the cross entropy of the next token.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[must_use]
pub struct LossOptions {
    balance: f64,
    further: f64,
}

impl LossOptions {
    /// The cross entropy alone.
    pub fn new() -> Self {
        LossOptions::default()
    }

    /// The factor of the loss that evens out the experts' loads within a sequence (1e-4 in the report).
    pub fn balance(mut self, factor: f64) -> Self {
        self.balance = factor;
        self
    }

    /// The factor of the mean loss of the multi-token prediction layers (0.3, later 0.1, in the report).
    pub fn further(mut self, factor: f64) -> Self {
        self.further = factor;
        self
    }
}

/// A loss and what it was made of.
#[derive(Debug, Clone)]
pub struct Loss {
    /// What to minimise.
    pub total: Tensor,
    /// The cross entropy of the next token.
    pub next: Tensor,
    /// The routings of the mixtures, for [`DeepSeek::balance`].
    pub routings: Vec<Routing>,
}

impl DeepSeek {
    /// A model with new weights, normal with the configuration's standard deviation.
    ///
    /// # Errors
    /// `Option` with the field's name for a configuration whose numbers do not fit; memory and device errors.
    pub fn new(config: &Config, place: &Place) -> Result<Self> {
        config.check()?;
        let init = config.init();
        let shape = [config.vocab_size, config.hidden_size];
        let mut embedding = Embedding::new(shape, init, place)?;
        if let Some(row) = config.pad_token_id {
            embedding = embedding.with_padding(row)?;
        }
        let layers = (0..config.num_hidden_layers)
            .map(|index| Block::new(config, index < config.first_k_dense_replace, place))
            .collect::<Result<_>>()?;
        let norm = RmsNorm::new(config.hidden_size, config.rms_norm_eps, place)?;
        let head = if config.tie_word_embeddings {
            Linear::from_parameters(embedding.weight(), None)
        } else {
            Linear::new(shape, LinearOptions::new().without_bias().init(init), place)?
        };
        let predictors = (0..config.num_nextn_predict_layers)
            .map(|_| Predictor::new(config, place))
            .collect::<Result<_>>()?;
        let rotary = RotaryOptions::new(config.qk_rope_head_dim)
            .theta(config.rope_theta)
            .pairing(config.rope_interleave)
            .scaling(config.rope_scaling.clone());
        Ok(DeepSeek {
            config: config.clone(),
            embedding,
            layers,
            norm,
            head,
            predictors,
            rotary: Rotary::new(rotary)?,
            checkpointed: false,
        })
    }

    /// The model whose files say this of it.
    pub(super) fn described(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// The same model with the layers' inner results not kept in training but computed again for the gradient: the memory of
    /// one layer's instead of all, for one more forward pass.
    #[must_use]
    pub fn checkpointed(mut self) -> Self {
        self.checkpointed = true;
        self
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The layers.
    pub fn layers(&self) -> &[Block] {
        &self.layers
    }

    /// The multi-token prediction layers.
    pub fn predictors(&self) -> &[Predictor] {
        &self.predictors
    }

    pub(super) fn parts(&self) -> (&Embedding, &RmsNorm, &Linear, &Rotary) {
        (&self.embedding, &self.norm, &self.head, &self.rotary)
    }

    /// The layers' mixtures of experts.
    pub fn mixtures(&self) -> impl Iterator<Item = &Mixture> {
        self.layers
            .iter()
            .filter_map(|layer| match layer.feed_forward() {
                FeedForward::Mixture(mixture) => Some(mixture),
                FeedForward::Dense(_) => None,
            })
    }

    /// The logits of the next token at each position: integers `[batch, length]` -> `[batch, length, vocabulary]`.
    ///
    /// # Errors
    /// `Shape` for other than two dims, `Index` for a token that there is not (on an NPU only under
    /// [`check_data`](crate::check_data)).
    pub fn forward(&self, tokens: &Tensor, phase: Phase) -> Result<Tensor> {
        self.head
            .forward(&self.hidden(tokens, phase, &mut Vec::new())?)
    }

    /// The last layer's normed output, `[batch, length, hidden]`; the routings of the mixtures are added to a list.
    ///
    /// # Errors
    /// As [`DeepSeek::forward`].
    pub fn hidden(
        &self,
        tokens: &Tensor,
        phase: Phase,
        routings: &mut Vec<Routing>,
    ) -> Result<Tensor> {
        let [_, length] = tokens.dims() else {
            return Err(Error::shape("deepseek", tokens.shape(), "[batch, length]"));
        };
        let rotation = self.rotary.rotation(*length, 0, tokens.device())?;
        let mut x = self.embedding.forward(tokens)?;
        for layer in &self.layers {
            let (next, routing) = if self.checkpointed && phase == Phase::Training {
                layer.forward_checkpointed(&x, &rotation)?
            } else {
                layer.forward(&x, &rotation, phase)?
            };
            routings.extend(routing);
            x = next;
        }
        self.norm.forward(&x)
    }

    /// The loss of predicting each token of `[batch, length + 1]` from those before it.
    ///
    /// # Errors
    /// As [`DeepSeek::forward`], and `Shape` for sequences of fewer than two tokens or none at all.
    pub fn loss(&self, tokens: &Tensor, options: LossOptions) -> Result<Loss> {
        let (batch, length) = match tokens.dims() {
            [batch, length] if *batch > 0 && *length > 1 => (*batch, length - 1),
            _ => {
                let want = "[batch, length] with a batch of 1 or more and a length of 2 or more";
                return Err(Error::shape("deepseek_loss", tokens.shape(), want));
            }
        };
        let part = |start: usize, length: usize| tokens.narrow(1, start as i64, length as i64);
        let mut routings = Vec::new();
        let mut hidden = self.hidden(&part(0, length)?, Phase::Training, &mut routings)?;
        let next = self.cross_entropy(&hidden, &part(1, length)?)?;
        let mut total = next.clone();
        let depth = self.predictors.len().min(length.saturating_sub(1));
        if options.further != 0.0 {
            for (index, predictor) in self.predictors.iter().take(depth).enumerate() {
                let left = length - index - 1;
                let inputs = self.embedding.forward(&part(index + 1, left)?)?;
                let rotation = self.rotary.rotation(left, 0, tokens.device())?;
                let before = hidden.narrow(1, 0, left as i64)?;
                let (after, _) = predictor.forward(&before, &inputs, &rotation, Phase::Training)?;
                let loss = self.cross_entropy(&after, &part(index + 2, left)?)?;
                total = total.add(&loss.mul(options.further / depth as f64)?)?;
                hidden = after;
            }
        }
        if options.balance != 0.0 {
            for routing in &routings {
                total = total.add(&routing.auxiliary_loss(batch)?.mul(options.balance)?)?;
            }
        }
        Ok(Loss {
            total,
            next: next.detach(),
            routings: routings.iter().map(Routing::detach).collect(),
        })
    }

    fn cross_entropy(&self, hidden: &Tensor, targets: &Tensor) -> Result<Tensor> {
        let logits = self.head.forward(hidden)?.flatten(0, 1)?;
        logits.cross_entropy(&targets.flatten(0, 1)?, ())
    }

    /// Moves the balancing biases of the mixtures toward equal loads: the report's way without an auxiliary loss.
    ///
    /// # Errors
    /// `Shape` for routings of other mixtures.
    pub fn balance(&self, routings: &[Routing], speed: f64) -> Result<()> {
        let mut mixtures = self.mixtures().zip(routings);
        mixtures
            .try_for_each(|(mixture, routing)| mixture.router().balance(&routing.loads()?, speed))
    }
}

impl Module for DeepSeek {
    fn visit(&self, visitor: &mut Visitor<'_>) {
        visitor.module("model.embed_tokens", &self.embedding);
        for (index, layer) in self.layers.iter().enumerate() {
            visitor.module(&format!("model.layers.{index}"), layer);
        }
        for (index, predictor) in self.predictors.iter().enumerate() {
            let number = self.layers.len() + index;
            visitor.module(&format!("model.layers.{number}"), predictor);
        }
        visitor.module("model.norm", &self.norm);
        if !self.config.tie_word_embeddings {
            visitor.module("lm_head", &self.head);
        }
    }

    fn forget(&self) {
        self.rotary.forget();
    }
}
