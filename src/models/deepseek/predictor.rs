//! Multi-token prediction: a layer after the last that predicts one token further.
//!
//! Knows how a token and a hidden state become the next hidden state. Must not know the main model's layers.

use super::{Block, Config};
use crate::error::Result;
use crate::nn::{Linear, LinearOptions, Module, Phase, Place, RmsNorm, Rotation, Routing, Visitor};
use crate::tensor::Tensor;

/// The prediction module of the DeepSeek-V3 report, section 2.2. Embedding and head are the main model's.
///
/// State, with the published names: `enorm`, `hnorm`, `eh_proj`, `shared_head.norm`, and those of a [`Block`].
#[derive(Debug, Clone)]
pub struct Predictor {
    token: RmsNorm,
    hidden: RmsNorm,
    join: Linear,
    block: Block,
    norm: RmsNorm,
}

impl Predictor {
    pub(super) fn new(config: &Config, place: &Place) -> Result<Self> {
        let norm = || RmsNorm::new(config.hidden_size, config.rms_norm_eps, place);
        let options = LinearOptions::new().without_bias().init(config.init());
        let width = config.hidden_size;
        let dense = config.first_k_dense_replace > config.num_hidden_layers;
        Ok(Predictor {
            token: norm()?,
            hidden: norm()?,
            join: Linear::new([width, 2 * width], options, place)?,
            block: Block::new(config, dense, place)?,
            norm: norm()?,
        })
    }

    /// The hidden states (after the norm) that predict one token further, from those that predicted the tokens whose
    /// embeddings are given: both `[batch, length, hidden]`.
    ///
    /// # Errors
    /// `Shape` and `Broadcast` for shapes that do not fit.
    pub fn forward(
        &self,
        hidden: &Tensor,
        embeddings: &Tensor,
        rotation: &Rotation,
        phase: Phase,
    ) -> Result<(Tensor, Option<Routing>)> {
        let both = [
            &self.token.forward(embeddings)?,
            &self.hidden.forward(hidden)?,
        ];
        let joined = self.join.forward(&Tensor::cat(&both, -1)?)?;
        let (hidden, routing) = self.block.forward(&joined, rotation, phase)?;
        Ok((self.norm.forward(&hidden)?, routing))
    }
}

/// A name in front of one module.
struct Under<'a>(&'static str, &'a dyn Module);

impl Module for Under<'_> {
    fn visit(&self, visitor: &mut Visitor<'_>) {
        visitor.module(self.0, self.1);
    }
}

impl Module for Predictor {
    fn visit(&self, visitor: &mut Visitor<'_>) {
        visitor.module("enorm", &self.token);
        visitor.module("hnorm", &self.hidden);
        visitor.module("eh_proj", &self.join);
        visitor.module("shared_head", &Under("norm", &self.norm));
        self.block.visit(visitor);
    }
}
