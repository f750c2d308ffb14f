//! One layer: attention and a feed-forward block, dense or of experts, each after a norm and beside the residual.
//!
//! Knows the order of a layer's parts. Must not know the model around it.

use super::Config;
use crate::autograd::checkpoint;
use crate::error::{Error, Result};
use crate::nn::{
    Experts, ExpertsSize, Init, LatentAttention, LatentAttentionOptions, LatentCache, Mixture,
    Module, Phase, Place, RmsNorm, Rotation, Router, RouterOptions, Routing, SwiGlu, SwiGluSize,
    Visitor,
};
use crate::tensor::Tensor;

/// The feed-forward block of a layer.
#[derive(Debug, Clone)]
pub enum FeedForward {
    /// One block for all tokens.
    Dense(SwiGlu),
    /// A mixture of experts.
    Mixture(Mixture),
}

/// One layer of the model.
///
/// State: `self_attn`, `mlp`, `input_layernorm`, `post_attention_layernorm`.
#[derive(Debug, Clone)]
pub struct Block {
    attention: LatentAttention,
    feed_forward: FeedForward,
    before: RmsNorm,
    between: RmsNorm,
}

impl Config {
    /// New weights' values; without a deviation no numbers are drawn.
    pub(super) fn init(&self) -> Init {
        if self.initializer_range == 0.0 {
            return Init::Zeros;
        }
        Init::Normal {
            deviation: self.initializer_range,
        }
    }

    fn attention(&self) -> LatentAttentionOptions {
        let head = self.qk_nope_head_dim + self.qk_rope_head_dim;
        let usual = 1.0 / (head as f64).sqrt();
        let mut options = LatentAttentionOptions::new(self.hidden_size);
        options.heads = self.num_attention_heads;
        options.q_lora_rank = self.q_lora_rank;
        options.kv_lora_rank = self.kv_lora_rank;
        options.qk_nope_head_dim = self.qk_nope_head_dim;
        options.qk_rope_head_dim = self.qk_rope_head_dim;
        options.v_head_dim = self.v_head_dim;
        options.bias = self.attention_bias;
        options.dropout = self.attention_dropout;
        options.scale = Some(usual * self.rope_score_factor);
        options.init = self.init();
        options
    }

    fn router(&self) -> RouterOptions {
        let mut options = RouterOptions::new(self.hidden_size);
        options.experts = self.n_routed_experts;
        options.top_k = self.num_experts_per_tok;
        options.scoring = self.scoring_func;
        options.groups = self.n_group;
        options.top_groups = self.topk_group;
        options.group_score = self.topk_method;
        options.normalize = self.norm_topk_prob;
        options.scale = self.routed_scaling_factor;
        options.init = self.init();
        options
    }

    fn feed_forward(&self, dense: bool, place: &Place) -> Result<FeedForward> {
        let block = |hidden| -> Result<SwiGlu> {
            let size = SwiGluSize {
                width: self.hidden_size,
                hidden,
            };
            let block = SwiGlu::new(size, self.init(), place)?;
            Ok(block.activation(self.hidden_act))
        };
        if dense {
            return Ok(FeedForward::Dense(block(self.intermediate_size)?));
        }
        let size = ExpertsSize {
            experts: self.n_routed_experts,
            width: self.hidden_size,
            hidden: self.moe_intermediate_size,
        };
        let experts = Experts::new(size, self.init(), place)?.activation(self.hidden_act);
        let shared = self.moe_intermediate_size * self.n_shared_experts;
        let shared = (shared > 0).then(|| block(shared)).transpose()?;
        let router = Router::new(self.router(), place)?;
        Ok(FeedForward::Mixture(Mixture::new(router, experts, shared)))
    }
}

impl Block {
    pub(super) fn new(config: &Config, dense: bool, place: &Place) -> Result<Self> {
        let norm = || RmsNorm::new(config.hidden_size, config.rms_norm_eps, place);
        Ok(Block {
            attention: LatentAttention::new(config.attention(), place)?,
            feed_forward: config.feed_forward(dense, place)?,
            before: norm()?,
            between: norm()?,
        })
    }

    /// The feed-forward block.
    pub fn feed_forward(&self) -> &FeedForward {
        &self.feed_forward
    }

    pub(super) fn attention(&self) -> &LatentAttention {
        &self.attention
    }

    /// `[batch, length, hidden]` -> the same shape, and the routing of a mixture.
    ///
    /// # Errors
    /// `Shape` and `Broadcast` for another width, or a rotation of another length.
    pub fn forward(
        &self,
        x: &Tensor,
        rotation: &Rotation,
        phase: Phase,
    ) -> Result<(Tensor, Option<Routing>)> {
        let attended = self.before.forward(x)?;
        let attended = self.attention.forward(&attended, rotation, phase)?;
        self.finish(&x.add(&attended)?)
    }

    /// As [`Block::forward`] in training, with only the input kept for the gradient.
    pub(super) fn forward_checkpointed(
        &self,
        x: &Tensor,
        rotation: &Rotation,
    ) -> Result<(Tensor, Option<Routing>)> {
        let (block, rotation) = (self.clone(), rotation.clone());
        let parameters: Vec<Tensor> = self
            .parameters()
            .iter()
            .map(|(_, parameter)| parameter.tensor())
            .collect();
        let body = move |x: &[Tensor]| {
            let (y, routing) = block.forward(&x[0], &rotation, Phase::Training)?;
            let parts = routing.map(|own| [own.weights, own.experts, own.scores]);
            Ok(std::iter::once(y)
                .chain(parts.into_iter().flatten())
                .collect())
        };
        let mut made = checkpoint(&[x], &parameters.iter().collect::<Vec<_>>(), body)?.into_iter();
        let missing = || Error::NoGradient { op: "checkpoint" };
        let y = made.next().ok_or_else(missing)?;
        let routing = match (made.next(), made.next(), made.next()) {
            (Some(weights), Some(experts), Some(scores)) => Some(Routing {
                weights,
                experts,
                scores,
            }),
            _ => None,
        };
        Ok((y, routing))
    }

    /// As [`Block::forward`] for tokens that follow those in the cache.
    ///
    /// # Errors
    /// As [`Block::forward`], and `Option` if the cache is full.
    pub fn decode(
        &self,
        x: &Tensor,
        rotation: &Rotation,
        cache: &mut LatentCache,
    ) -> Result<Tensor> {
        let attended = self.before.forward(x)?;
        let attended = self.attention.decode(&attended, rotation, cache)?;
        Ok(self.finish(&x.add(&attended)?)?.0)
    }

    fn finish(&self, x: &Tensor) -> Result<(Tensor, Option<Routing>)> {
        let between = self.between.forward(x)?;
        let (more, routing) = match &self.feed_forward {
            FeedForward::Dense(block) => (block.forward(&between)?, None),
            FeedForward::Mixture(mixture) => {
                let (more, routing) = mixture.forward_routed(&between)?;
                (more, Some(routing))
            }
        };
        Ok((x.add(&more)?, routing))
    }
}

impl Module for Block {
    fn visit(&self, visitor: &mut Visitor<'_>) {
        visitor.module("self_attn", &self.attention);
        match &self.feed_forward {
            FeedForward::Dense(block) => visitor.module("mlp", block),
            FeedForward::Mixture(mixture) => visitor.module("mlp", mixture),
        }
        visitor.module("input_layernorm", &self.before);
        visitor.module("post_attention_layernorm", &self.between);
    }
}
