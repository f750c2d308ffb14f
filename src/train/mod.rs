//! Training loops that can be trusted: steps as transactions, checkpoints, data in order, and reports.
//!
//! Knows modules, optimisers and faults. Must not know any model or op.

mod checkpoint;
mod compare;
mod data;
mod fault;
mod options;
mod scaler;
mod sentinel;
mod snapshot;
mod telemetry;
mod trainer;

pub use crate::ascend::OverflowMode;
pub use checkpoint::{Checkpoints, Saver};
pub use compare::{Difference, Recording, record};
pub use data::{BatchLoader, LoaderOptions, Position, TokenWidth, Tokens};
pub use fault::{Fault, classify};
pub use options::TrainerOptions;
pub use scaler::{GradScaler, ScalerState};
pub use sentinel::{find_not_finite, watch};
pub use snapshot::Snapshot;
pub use telemetry::{Report, Telemetry};
pub use trainer::{LossOf, StepLoss, Trainer};
