//! Optimisers: parameters moved by their gradients, with schedules, clipping, accumulation and averages.
//!
//! Knows parameters by name, and the update ops. Must not know modules, losses or training loops.

mod accumulate;
mod adam;
mod clip;
mod ema;
mod group;
mod multi;
mod muon;
mod schedule;
mod sgd;

pub use accumulate::Accumulator;
pub use adam::{Adam, AdamKind};
pub use clip::{clip_grad_norm, clip_grad_value, grad_norm};
pub use ema::Ema;
pub use group::Optimizer;
pub use multi::MultiOptimizer;
pub use muon::{Momentum, Muon, MuonOptions, MuonScale};
pub use schedule::Schedule;
pub use sgd::Sgd;

pub use crate::ops::update::{AdamOptions, SgdOptions};
