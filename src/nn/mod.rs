//! Modules: layers with named parameters, their starting values and their states.
//!
//! Knows how layers are made of ops. Must not know devices' insides, optimisers or training loops.

mod attention;
mod batch_norm;
mod conv;
mod feed_forward;
mod init;
mod latent_attention;
mod layer;
mod linear;
mod mixture;
mod module;
mod norm;
mod parameter;
mod rotary;
mod router;

pub use attention::{AttentionMask, MultiHeadAttention, MultiHeadOptions, attend};
pub use batch_norm::BatchNorm;
pub use conv::{Conv1d, Conv2d, ConvLayerOptions, MaxPool2d};
pub use feed_forward::{SwiGlu, SwiGluSize};
pub use init::{Init, Place};
pub use latent_attention::{LatentAttention, LatentAttentionOptions, LatentCache};
pub use layer::{Activation, Dropout, Flatten, Layer, Phase, Sequential};
pub use linear::{Embedding, Linear, LinearOptions};
pub use mixture::{Experts, ExpertsSize, Mixture};
pub use module::{Module, StateDict, Visitor};
pub use norm::{GroupNorm, Groups, LayerNorm, RmsNorm};
pub use parameter::Parameter;
pub use rotary::{Pairing, Rotary, RotaryOptions, RotaryScaling, Rotation};
pub use router::{GroupScore, Router, RouterOptions, Routing, Scoring};
