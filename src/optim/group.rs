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
        let own = self.parameter.tensor();
        if own.shape() != value.shape() {
            let why = format!("got shape {}, wanted {}", value.shape(), own.shape());
            return Err(Error::entry(op, name, why));
        }
        value.detach().copy()?.to_device(own.device())
    }
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

/// A count as a tensor, and back.
pub(super) fn count_of(name: &str, value: &Tensor) -> Result<i64> {
    let wrong = || Error::entry("load_state_dict", name, "got no single i64, wanted one");
    value.item::<i64>().map_err(|_| wrong())
}
