//! Telemetry: what a step did, as `tracing` events and as lines of JSON.
//!
//! Knows numbers of a step. Must not know where they come from.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::error::{Error, Result};

/// What one step did.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[non_exhaustive]
pub struct Report {
    /// The number of the step, from 0.
    pub step: u64,
    /// The loss.
    pub loss: f64,
    /// The norm of all gradients, before clipping.
    pub grad_norm: f64,
    /// The learning rate of the first group.
    pub rate: f64,
    /// The loss scale; 1 without a scaler.
    pub scale: f64,
    /// Whether the step was left out because of an overflow.
    pub skipped: bool,
    /// The tokens (or samples) of the batch.
    pub tokens: usize,
    /// The duration in seconds, repetitions and recovery included.
    pub seconds: f64,
    /// The most bytes that tensors had in use on the trainer's device so far: on the CPU in blocks above 128 KiB
    /// ([`cpu_memory`](crate::cpu_memory)), on an NPU with the kernels' workspaces
    /// ([`statistics`](crate::ascend::statistics)).
    pub peak_memory: usize,
    /// Kernels started on the NPU.
    pub launches: u64,
    /// Calls of CANN's C functions.
    pub calls: u64,
    /// Waits of the host for the NPU: one per step, more where a snapshot is taken or a step is repeated.
    pub syncs: u64,
    /// How often the step or those before it had to be repeated.
    pub retries: u32,
}

impl Report {
    /// Tokens per second.
    pub fn throughput(&self) -> f64 {
        if self.seconds > 0.0 {
            self.tokens as f64 / self.seconds
        } else {
            0.0
        }
    }

    /// The report as one line of JSON.
    pub fn to_json(&self) -> String {
        json!({
            "step": self.step,
            "loss": self.loss,
            "grad_norm": self.grad_norm,
            "rate": self.rate,
            "scale": self.scale,
            "skipped": self.skipped,
            "tokens": self.tokens,
            "seconds": self.seconds,
            "tokens_per_second": self.throughput(),
            "peak_memory": self.peak_memory,
            "launches": self.launches,
            "calls": self.calls,
            "syncs": self.syncs,
            "retries": self.retries,
        })
        .to_string()
    }
}

/// Where reports go: `tracing` events of the target `ascend_tensor::train`, and a file of JSON lines where one is given.
#[derive(Debug, Default)]
pub struct Telemetry {
    file: Option<(PathBuf, File)>,
}

impl Telemetry {
    /// Events only.
    pub fn new() -> Self {
        Telemetry::default()
    }

    /// Also appends to a file.
    ///
    /// # Errors
    /// `Io` if it cannot be opened.
    pub fn with_file(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let file = OpenOptions::new().create(true).append(true).open(path);
        let file = file.map_err(|error| Error::io("telemetry", path, error))?;
        Ok(Telemetry {
            file: Some((path.to_path_buf(), file)),
        })
    }

    /// Passes a report on.
    ///
    /// # Errors
    /// `Io` if the file cannot be written.
    pub fn send(&mut self, report: &Report) -> Result<()> {
        tracing::info!(
            target: "ascend_tensor::train",
            step = report.step,
            loss = report.loss,
            grad_norm = report.grad_norm,
            rate = report.rate,
            scale = report.scale,
            skipped = report.skipped,
            tokens_per_second = report.throughput(),
            peak_memory = report.peak_memory as u64,
            launches = report.launches,
            syncs = report.syncs,
            retries = report.retries,
            "step"
        );
        if let Some((path, file)) = &mut self.file {
            let line = report.to_json() + "\n";
            let written = file.write_all(line.as_bytes());
            written.map_err(|error| Error::io("telemetry", &*path, error))?;
        }
        Ok(())
    }
}
