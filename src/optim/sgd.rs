//! Stochastic gradient descent, with momentum.
//!
//! Knows running gradients. Must not know how a step is computed (that is the op `sgd_step`).

use super::Optimizer;
use super::group::{Slot, owner};
use crate::autograd::Gradients;
use crate::error::{Error, Result};
use crate::nn::{Parameter, StateDict};
use crate::ops::update::SgdOptions;
use crate::tensor::Tensor;

/// The running gradient, from the first step with momentum on.
type Running = Option<Tensor>;

#[derive(Debug)]
struct Group {
    options: SgdOptions,
    slots: Vec<Slot<Running>>,
}

/// Gradient descent over groups of parameters. PyTorch: `torch.optim.SGD`.
#[derive(Debug)]
pub struct Sgd {
    groups: Vec<Group>,
    factor: f64,
}

impl Sgd {
    /// Descent over one group.
    pub fn new(parameters: Vec<(String, Parameter)>, options: impl Into<SgdOptions>) -> Self {
        let empty = Sgd {
            groups: Vec::new(),
            factor: 1.0,
        };
        empty.group(parameters, options)
    }

    /// One more group with settings of its own.
    #[must_use]
    pub fn group(
        mut self,
        parameters: Vec<(String, Parameter)>,
        options: impl Into<SgdOptions>,
    ) -> Self {
        let slots = parameters.into_iter();
        let slots = slots.map(|(name, parameter)| Slot::new(name, parameter));
        self.groups.push(Group {
            options: options.into(),
            slots: slots.collect(),
        });
        self
    }

    fn slots(&self) -> impl Iterator<Item = &Slot<Running>> {
        self.groups.iter().flat_map(|group| &group.slots)
    }
}

impl Optimizer for Sgd {
    fn step(&mut self, gradients: &Gradients) -> Result<()> {
        for group in &mut self.groups {
            let options = group.options.scaled(self.factor);
            for slot in &mut group.slots {
                if let Some(gradient) = gradients.get(&slot.parameter.tensor()) {
                    slot.step(gradient, |own, gradient, running| {
                        own.sgd_step_(gradient, running, options)
                    })?;
                }
            }
        }
        Ok(())
    }

    fn set_factor(&mut self, factor: f64) {
        self.factor = factor;
    }

    fn rates(&self) -> Vec<f64> {
        let rate = |group: &Group| group.options.rate() * self.factor;
        self.groups.iter().map(rate).collect()
    }

    fn parameters(&self) -> Vec<(String, Parameter)> {
        self.slots()
            .map(|slot| (slot.name.clone(), slot.parameter.clone()))
            .collect()
    }

    fn state_dict(&self) -> Result<StateDict> {
        let mut found = StateDict::new();
        for slot in self.slots() {
            if let Some(running) = &slot.state {
                found.insert(format!("{}.momentum_buffer", slot.name), running.clone());
            }
            if let Some(master) = &slot.master {
                found.insert(format!("{}.master", slot.name), master.clone());
            }
        }
        Ok(found)
    }

    fn load_state_dict(&mut self, state: &StateDict) -> Result<()> {
        let op = "load_state_dict";
        for slot in self.groups.iter_mut().flat_map(|group| &mut group.slots) {
            (slot.state, slot.master) = (None, None);
        }
        for (name, value) in state {
            let slots = self.groups.iter_mut().flat_map(|group| &mut group.slots);
            let Some((slot, entry)) = owner(slots, name) else {
                return Err(Error::entry(
                    op,
                    name,
                    "no parameter of this name is optimised",
                ));
            };
            let value = slot.fitting(op, name, value)?;
            match entry {
                "momentum_buffer" => slot.state = Some(value),
                "master" => slot.master = Some(value),
                _ => return Err(Error::entry(op, name, "SGD keeps no such entry")),
            }
        }
        Ok(())
    }
}
