//! DeepSeek-V3: latent attention and a mixture of experts, in Hugging Face's layout.
//!
//! Knows the published architecture, its configuration and its files. Must not know training loops.

mod block;
mod config;
mod files;
mod generate;
mod layout;
mod model;
mod predictor;
mod rope;

pub use block::{Block, FeedForward};
pub use config::Config;
pub use files::SaveOptions;
pub use generate::{Cache, Sampling};
pub use model::{DeepSeek, Loss, LossOptions};
pub use predictor::Predictor;
