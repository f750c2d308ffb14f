//! The settings of a trainer: schedule, clipping, precision, and what is kept for repetitions.
//!
//! Knows which settings no step could use. Must not know how a step is done.

use super::GradScaler;
use crate::check;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::optim::Schedule;

/// The settings of a [`Trainer`](super::Trainer).
#[derive(Debug, Clone)]
#[must_use]
pub struct TrainerOptions {
    pub(super) schedule: Schedule,
    pub(super) clip: Option<f64>,
    pub(super) precision: Option<DType>,
    pub(super) scaler: Option<GradScaler>,
    pub(super) snapshot_every: u64,
    pub(super) retries: u32,
    pub(super) anomaly: bool,
}

impl Default for TrainerOptions {
    fn default() -> Self {
        TrainerOptions {
            schedule: Schedule::Constant,
            clip: None,
            precision: None,
            scaler: None,
            snapshot_every: 50,
            retries: 8,
            anomaly: false,
        }
    }
}

impl TrainerOptions {
    /// A constant rate, no clipping, the tensors' own precision, a snapshot each 50 steps on an NPU, 8 repetitions.
    pub fn new() -> Self {
        TrainerOptions::default()
    }

    /// The schedule of the learning rate.
    pub fn schedule(mut self, schedule: Schedule) -> Self {
        self.schedule = schedule;
        self
    }

    /// The largest norm of the gradients.
    pub fn clip(mut self, norm: f64) -> Self {
        self.clip = Some(norm);
        self
    }

    /// Autocast to this dtype; `f16` gets a loss scaler unless one is given.
    pub fn precision(mut self, dtype: DType) -> Self {
        self.precision = (dtype != DType::F32).then_some(dtype);
        if dtype == DType::F16 && self.scaler.is_none() {
            self.scaler = Some(GradScaler::default());
        }
        self
    }

    /// The loss scaler.
    pub fn scaler(mut self, scaler: GradScaler) -> Self {
        self.scaler = Some(scaler);
        self
    }

    /// After how many steps on an NPU the state is copied to the host, to be restored after a fault. Batches since then are
    /// kept, too. 0 for never: then a lost device ends the run.
    pub fn snapshot_every(mut self, steps: u64) -> Self {
        self.snapshot_every = steps;
        self
    }

    /// How often in a row a step is repeated before its error is given up to the caller.
    pub fn retries(mut self, count: u32) -> Self {
        self.retries = count;
        self
    }

    /// Refuses what no step could do.
    pub(super) fn check(&self) -> Result<()> {
        self.schedule.check()?;
        if let Some(most) = self.clip {
            check::not_negative("trainer", "clip", most)?;
        }
        if let Some(dtype) = self.precision
            && !dtype.is_half()
        {
            let why = format!("got {dtype}, wanted f32, bf16 or f16");
            return Err(Error::option("trainer", "precision", why));
        }
        self.scaler.map_or(Ok(()), |scaler| scaler.check())
    }

    /// Checks the gradients of every op, and names the op of the first that is not finite. Slow.
    pub fn anomaly(mut self) -> Self {
        self.anomaly = true;
        self
    }
}
