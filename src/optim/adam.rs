//! Adam and AdamW.
//!
//! Knows moments and counts of steps. Must not know how a step is computed (that is the op `adam_step`).

use super::Optimizer;
use super::group::{Slot, count_of, owner};
use crate::autograd::Gradients;
use crate::error::{Error, Result};
use crate::nn::{Parameter, StateDict};
use crate::ops::update::{AdamOptions, AdamState};
use crate::tensor::Tensor;

/// How weight decay enters a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AdamKind {
    /// As a part of the gradient: Adam with L2 regularisation.
    Coupled,
    /// Apart from the gradient: AdamW.
    Decoupled,
}

/// What is remembered of a parameter; made at its first step.
#[derive(Debug, Clone, Default)]
struct Moments {
    state: Option<AdamState>,
    step: i64,
}

#[derive(Debug)]
struct Group {
    options: AdamOptions,
    slots: Vec<Slot<Moments>>,
}

/// Adam and AdamW over groups of parameters. PyTorch: `torch.optim.Adam`, `torch.optim.AdamW`.
///
/// Half parameters keep an `f32` copy that the steps go to.
///
/// ```
/// use ascend_tensor::nn::{Linear, Module, Place};
/// use ascend_tensor::optim::{Adam, AdamOptions, Optimizer};
/// use ascend_tensor::Tensor;
/// # fn main() -> ascend_tensor::Result<()> {
/// let layer = Linear::new([1, 2], (), &Place::default())?;
/// let mut adamw = Adam::w(layer.parameters(), AdamOptions::new().lr(0.1));
/// let x = Tensor::new([[1.0f32, 2.0]]);
/// let loss = || layer.forward(&x)?.square()?.mean(());
/// let before = loss()?.item::<f32>()?;
/// for _ in 0..20 {
///     adamw.step(&loss()?.backward()?)?;
/// }
/// assert!(loss()?.item::<f32>()? < before);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Adam {
    kind: AdamKind,
    groups: Vec<Group>,
    factor: f64,
}

impl Adam {
    /// Adam over one group.
    pub fn new(parameters: Vec<(String, Parameter)>, options: AdamOptions) -> Self {
        Adam::of(AdamKind::Coupled).group(parameters, options)
    }

    /// AdamW over one group.
    pub fn w(parameters: Vec<(String, Parameter)>, options: AdamOptions) -> Self {
        Adam::of(AdamKind::Decoupled).group(parameters, options)
    }

    /// No groups yet.
    pub fn of(kind: AdamKind) -> Self {
        Adam {
            kind,
            groups: Vec::new(),
            factor: 1.0,
        }
    }

    /// One more group with settings of its own.
    #[must_use]
    pub fn group(mut self, parameters: Vec<(String, Parameter)>, options: AdamOptions) -> Self {
        let slots = parameters.into_iter();
        let slots = slots.map(|(name, parameter)| Slot::new(name, parameter));
        self.groups.push(Group {
            options,
            slots: slots.collect(),
        });
        self
    }

    fn slots(&self) -> impl Iterator<Item = &Slot<Moments>> {
        self.groups.iter().flat_map(|group| &group.slots)
    }
}

impl Optimizer for Adam {
    fn step(&mut self, gradients: &Gradients) -> Result<()> {
        let (kind, factor) = (self.kind, self.factor);
        for group in &mut self.groups {
            let options = group.options.scaled(factor);
            for slot in &mut group.slots {
                let Some(gradient) = gradients.get(&slot.parameter.tensor()) else {
                    continue;
                };
                slot.step(gradient, |own, gradient, moments| {
                    let mut state = match moments.state.take() {
                        Some(state) => state,
                        None => AdamState::zeros(own)?,
                    };
                    let step = moments.step + 1;
                    let done = match kind {
                        AdamKind::Coupled => own.adam_step_(gradient, &mut state, step, options),
                        AdamKind::Decoupled => own.adamw_step_(gradient, &mut state, step, options),
                    };
                    moments.state = Some(state);
                    done.map(|()| moments.step = step)
                })?;
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
            let mut keep = |entry: &str, value: Tensor| {
                found.insert(format!("{}.{entry}", slot.name), value);
            };
            if let Some(state) = &slot.state.state {
                keep("exp_avg", state.exp_avg.clone());
                keep("exp_avg_sq", state.exp_avg_sq.clone());
                keep("step", Tensor::new(slot.state.step));
            }
            if let Some(master) = &slot.master {
                keep("master", master.clone());
            }
        }
        Ok(found)
    }

    fn load_state_dict(&mut self, state: &StateDict) -> Result<()> {
        let op = "load_state_dict";
        for slot in self.groups.iter_mut().flat_map(|group| &mut group.slots) {
            (slot.state, slot.master) = (Moments::default(), None);
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
            if entry == "step" {
                slot.state.step = count_of(name, value)?;
                continue;
            }
            let value = slot.fitting(op, name, value)?;
            if entry == "master" {
                slot.master = Some(value);
                continue;
            }
            if slot.state.state.is_none() {
                slot.state.state = Some(AdamState::zeros(&value)?);
            }
            match (entry, &mut slot.state.state) {
                ("exp_avg", Some(state)) => state.exp_avg = value,
                ("exp_avg_sq", Some(state)) => state.exp_avg_sq = value,
                _ => return Err(Error::entry(op, name, "Adam keeps no such entry")),
            }
        }
        Ok(())
    }
}
