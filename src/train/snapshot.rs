//! Snapshots: all that a training run needs to go on as if nothing had happened, in host memory.
//!
//! Knows states by name. Must not know files.

use serde_json::{Map, Value};

use super::{Position, ScalerState};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::nn::{Module, StateDict};
use crate::ops::random::{GeneratorState, default_generator};
use crate::optim::Optimizer;

/// The state of a run between two steps, copied to the host.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The number of steps done.
    pub step: u64,
    /// The model's parameters and buffers.
    pub model: StateDict,
    /// What the optimiser remembers.
    pub optimizer: StateDict,
    /// The loss scale.
    pub scaler: Option<ScalerState>,
    /// The default generator.
    pub generator: GeneratorState,
    /// Where the data goes on.
    pub data: Option<Position>,
    /// What the caller wants to find again.
    pub notes: Map<String, Value>,
}

/// Copies on the host, which later steps do not change.
fn to_host(state: StateDict) -> Result<StateDict> {
    let host = |(name, value): (String, crate::Tensor)| {
        let own = value.detach();
        let copy = if own.device().is_cpu() {
            own.copy()?
        } else {
            own.to_device(Device::Cpu)?
        };
        Ok((name, copy))
    };
    crate::mode::no_grad(|| state.into_iter().map(host).collect())
}

impl Snapshot {
    /// The present state of a model and its optimiser, and of the default generator.
    ///
    /// # Errors
    /// Memory and device errors.
    pub fn take(step: u64, model: &dyn Module, optimizer: &dyn Optimizer) -> Result<Self> {
        Ok(Snapshot {
            step,
            model: to_host(model.state_dict())?,
            optimizer: to_host(optimizer.state_dict()?)?,
            scaler: None,
            generator: default_generator().state(),
            data: None,
            notes: Map::new(),
        })
    }

    /// Puts the state back, onto the device where the model is, whatever has become of the tensors there.
    ///
    /// # Errors
    /// [`Error::Entry`] if model or optimiser are not those of the snapshot; memory and device errors.
    pub fn restore(&self, model: &dyn Module, optimizer: &mut dyn Optimizer) -> Result<()> {
        model.forget();
        let state = model.state();
        for (name, parameter) in &state {
            let own = parameter.tensor();
            let saved = self.model.get(name);
            let saved = saved.ok_or_else(|| Error::entry("restore", name, "it is missing"))?;
            if (saved.shape(), saved.dtype()) != (own.shape(), own.dtype()) {
                let why = format!(
                    "got {} {}, wanted {} {}",
                    saved.dtype(),
                    saved.shape(),
                    own.dtype(),
                    own.shape()
                );
                return Err(Error::entry("restore", name, why));
            }
        }
        if let Some(name) = self
            .model
            .keys()
            .find(|name| state.iter().all(|(own, _)| own != *name))
        {
            return Err(Error::entry(
                "restore",
                name,
                "the model has no such tensor",
            ));
        }
        for (name, parameter) in &state {
            if let Some(saved) = self.model.get(name) {
                let device = parameter.tensor().device();
                let fresh = if device.is_cpu() {
                    saved.copy()?
                } else {
                    saved.to_device(device)?
                };
                parameter.set(&fresh)?;
            }
        }
        optimizer.load_state_dict(&self.optimizer)?;
        default_generator().set_state(self.generator);
        Ok(())
    }
}
