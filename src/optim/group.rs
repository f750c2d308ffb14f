//! What optimisers have in common: groups of named parameters, and states by name.
//!
//! Knows names and states. Must not know any rule of descent.

use crate::autograd::Gradients;
use crate::error::{Error, Result};
use crate::nn::{Parameter, StateDict};
use crate::tensor::Tensor;

/// A rule that moves parameters by their gradients.
pub trait Optimizer {
    /// Moves every parameter that has a gradient.
    ///
    /// # Errors
    /// Those of the update op.
    fn step(&mut self, gradients: &Gradients) -> Result<()>;

    /// Multiplies the learning rate of every group from now on; a schedule's answer goes here.
    fn set_factor(&mut self, factor: f64);

    /// The learning rates of the groups, factor included.
    fn rates(&self) -> Vec<f64>;

    /// All parameters with their names, group by group.
    fn parameters(&self) -> Vec<(String, Parameter)>;

    /// Refuses settings that a step would refuse, before there is one.
    ///
    /// # Errors
    /// `Option` that names the setting.
    fn check(&self) -> Result<()> {
        Ok(())
    }

    /// What the optimiser remembers, by `parameter.entry`. The tensors share memory with the optimiser's; copy to keep them.
    fn state_dict(&self) -> Result<StateDict>;

    /// Takes a state over. Each tensor is moved to its parameter's device.
    ///
    /// # Errors
    /// [`Error::Entry`] for a tensor that belongs to no parameter, or does not fit it.
    fn load_state_dict(&mut self, state: &StateDict) -> Result<()>;
}

/// One parameter under an optimiser, with what is remembered for it.
#[derive(Debug, Clone)]
pub(super) struct Slot<S> {
    pub name: String,
    pub parameter: Parameter,
    /// The parameter in `f32`, where it is a half itself: small steps would be lost in a half.
    pub master: Option<Tensor>,
    pub state: S,
}

impl<S: Default> Slot<S> {
    pub fn new(name: String, parameter: Parameter) -> Self {
        Slot {
            name,
            parameter,
            master: None,
            state: S::default(),
        }
    }
}

impl<S> Slot<S> {
    /// Runs a step on the parameter, or on its master copy, which is then rounded into the parameter.
    pub fn step(
        &mut self,
        gradient: &Tensor,
        change: impl FnOnce(&mut Tensor, &Tensor, &mut S) -> Result<()>,
    ) -> Result<()> {
        let own = self.parameter.tensor().detach();
        let state = &mut self.state;
        if !own.dtype().is_half() {
            return self.parameter.update(|own| {
                let gradient = gradient.to_dtype(own.dtype())?;
                change(own, &gradient, state)
            });
        }
        let master = &mut self.master;
        crate::mode::no_grad(|| {
            let mut wide = match master.take() {
                Some(wide) => wide,
                None => own.to_dtype(crate::dtype::DType::F32)?,
            };
            let gradient = gradient.to_dtype(wide.dtype())?;
            let done = change(&mut wide, &gradient, state);
            *master = Some(wide.clone());
            done?;
            own.clone().copy_(&wide.to_dtype(own.dtype())?)
        })
    }

    /// Takes one entry of a saved state, if it is this parameter's: the answer is the entry's name and tensor.
    pub fn entry<'a>(&self, name: &'a str) -> Option<&'a str> {
        name.strip_prefix(self.name.as_str())?.strip_prefix('.')
    }

    /// A saved tensor of the parameter's shape, as a copy on the parameter's device.
    pub fn fitting(&self, op: &'static str, name: &str, value: &Tensor) -> Result<Tensor> {
        fitting(op, name, value, &self.parameter.tensor())
    }
}

/// Parameters with settings of their own.
#[derive(Debug)]
struct Group<O, S> {
    options: O,
    slots: Vec<Slot<S>>,
}

/// All groups of an optimiser, and the schedule's factor of their learning rates.
#[derive(Debug)]
pub(super) struct Groups<O, S> {
    groups: Vec<Group<O, S>>,
    pub factor: f64,
}

impl<O, S: Default> Groups<O, S> {
    pub fn new() -> Self {
        Groups {
            groups: Vec::new(),
            factor: 1.0,
        }
    }

    pub fn add(&mut self, parameters: Vec<(String, Parameter)>, options: O) {
        let slots = parameters.into_iter();
        let slots = slots.map(|(name, parameter)| Slot::new(name, parameter));
        let slots = slots.collect();
        self.groups.push(Group { options, slots });
    }

    fn slots(&self) -> impl Iterator<Item = &Slot<S>> {
        self.groups.iter().flat_map(|group| &group.slots)
    }

    pub fn rates(&self, rate: impl Fn(&O) -> f64) -> Vec<f64> {
        let rate = |group: &Group<O, S>| rate(&group.options) * self.factor;
        self.groups.iter().map(rate).collect()
    }

    /// Asks each group's settings.
    pub fn check(&self, check: impl Fn(&O) -> Result<()>) -> Result<()> {
        self.groups
            .iter()
            .try_for_each(|group| check(&group.options))
    }

    pub fn parameters(&self) -> Vec<(String, Parameter)> {
        self.slots()
            .map(|slot| (slot.name.clone(), slot.parameter.clone()))
            .collect()
    }

    /// Lets `change` move each parameter that has a gradient, with its group's settings.
    pub fn step(
        &mut self,
        gradients: &Gradients,
        mut change: impl FnMut(&O, &mut Tensor, &Tensor, &mut S) -> Result<()>,
    ) -> Result<()> {
        for group in &mut self.groups {
            let options = &group.options;
            for slot in &mut group.slots {
                if let Some(gradient) = gradients.get(&slot.parameter.tensor()) {
                    slot.step(gradient, |own, gradient, state| {
                        change(options, own, gradient, state)
                    })?;
                }
            }
        }
        Ok(())
    }

    /// What is remembered, by `parameter.entry`; `entries` names a state's own.
    pub fn state_dict(&self, entries: impl Fn(&S) -> Vec<(&'static str, Tensor)>) -> StateDict {
        let mut found = StateDict::new();
        for slot in self.slots() {
            let master = slot.master.clone().map(|master| ("master", master));
            for (entry, value) in entries(&slot.state).into_iter().chain(master) {
                found.insert(format!("{}.{entry}", slot.name), value);
            }
        }
        found
    }

    /// Takes a state over: `take` puts an entry where it belongs, with what copies it to the parameter's shape and device, and
    /// answers whether there is such an entry.
    pub fn load_state_dict(
        &mut self,
        state: &StateDict,
        take: impl Fn(&mut S, Entry<'_>) -> Result<bool>,
    ) -> Result<()> {
        let op = "load_state_dict";
        for slot in self.groups.iter_mut().flat_map(|group| &mut group.slots) {
            (slot.state, slot.master) = (S::default(), None);
        }
        for (name, value) in state {
            let slots = self.groups.iter_mut().flat_map(|group| &mut group.slots);
            let Some((slot, entry)) = owner(slots, name) else {
                let why = "no parameter of this name is optimised";
                return Err(Error::entry(op, name, why));
            };
            if entry == "master" {
                slot.master = Some(slot.fitting(op, name, value)?);
                continue;
            }
            let parameter = slot.parameter.tensor();
            let given = Entry {
                name,
                entry,
                value,
                parameter: &parameter,
            };
            if !take(&mut slot.state, given)? {
                let why = "the optimiser keeps no such entry";
                return Err(Error::entry(op, name, why));
            }
        }
        Ok(())
    }
}

/// An entry of a saved state, for a parameter.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry<'a> {
    /// The whole name.
    name: &'a str,
    /// What of the parameter's state it is.
    pub entry: &'a str,
    value: &'a Tensor,
    parameter: &'a Tensor,
}

impl Entry<'_> {
    /// A tensor of the parameter's shape, as a copy on the parameter's device.
    pub fn tensor(&self) -> Result<Tensor> {
        fitting("load_state_dict", self.name, self.value, self.parameter)
    }

    /// A count.
    pub fn count(&self) -> Result<i64> {
        let wrong = || {
            Error::entry(
                "load_state_dict",
                self.name,
                "got no single i64, wanted one",
            )
        };
        self.value.item::<i64>().map_err(|_| wrong())
    }
}

/// A saved tensor of the parameter's shape, as a copy on the parameter's device.
fn fitting(op: &'static str, name: &str, value: &Tensor, own: &Tensor) -> Result<Tensor> {
    if own.shape() != value.shape() {
        let why = format!("got shape {}, wanted {}", value.shape(), own.shape());
        return Err(Error::entry(op, name, why));
    }
    value.detach().copy()?.to_device(own.device())
}

/// The slot to which an entry of a saved state belongs, and the rest of the entry's name.
pub(super) fn owner<'s, 'n, S>(
    slots: impl Iterator<Item = &'s mut Slot<S>>,
    name: &'n str,
) -> Option<(&'s mut Slot<S>, &'n str)>
where
    S: 's,
{
    let mut best: Option<(&'s mut Slot<S>, &'n str)> = None;
    for slot in slots {
        if let Some(rest) = slot.entry(name)
            && best.as_ref().is_none_or(|(_, own)| rest.len() < own.len())
        {
            best = Some((slot, rest));
        }
    }
    best
}
