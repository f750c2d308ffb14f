//! Modules: things that own named parameters, and what can be done with all of them at once.
//!
//! Knows names, devices and files of states. Must not know what a module computes.

use std::collections::BTreeMap;
use std::path::Path;

use super::Parameter;
use crate::device::Device;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::io;
use crate::tensor::Tensor;

/// Values of parameters and buffers by their dotted names.
pub type StateDict = BTreeMap<String, Tensor>;

/// Something that owns parameters: a layer, a block, a model.
///
/// ```
/// use ascend_tensor::nn::{Linear, Module, Place, Visitor};
/// struct Network { first: Linear, second: Linear }
/// impl Module for Network {
///     fn visit(&self, visitor: &mut Visitor<'_>) {
///         visitor.module("first", &self.first);
///         visitor.module("second", &self.second);
///     }
/// }
/// # fn main() -> ascend_tensor::Result<()> {
/// let place = Place::default();
/// let network = Network { first: Linear::new([8, 4], (), &place)?, second: Linear::new([2, 8], (), &place)? };
/// let names: Vec<String> = network.parameters().into_iter().map(|(name, _)| name).collect();
/// assert_eq!(names, ["first.weight", "first.bias", "second.weight", "second.bias"]);
/// # Ok(())
/// # }
/// ```
pub trait Module {
    /// Shows every parameter, buffer and inner module, with its name, in a fixed order.
    fn visit(&self, visitor: &mut Visitor<'_>);

    /// All parameters and buffers with their dotted names; a parameter shared by two modules appears under both names.
    fn state(&self) -> Vec<(String, Parameter)> {
        let mut found = Vec::new();
        let mut take = |name: &str, parameter: &Parameter| {
            found.push((name.to_string(), parameter.clone()));
        };
        self.visit(&mut Visitor::new(&mut take));
        found
    }

    /// The trained parameters, each once, under its first name.
    fn parameters(&self) -> Vec<(String, Parameter)> {
        let mut found: Vec<(String, Parameter)> = Vec::new();
        for (name, parameter) in self.state() {
            let known = found.iter().any(|(_, own)| own.is_same(&parameter));
            if parameter.is_trained() && !known {
                found.push((name, parameter));
            }
        }
        found
    }

    /// The number of trained elements.
    fn parameter_count(&self) -> usize {
        let sizes = self.parameters();
        sizes.iter().map(|(_, own)| own.tensor().elements()).sum()
    }

    /// The present values. They share memory with the parameters, so a later step changes them; copy to keep them.
    fn state_dict(&self) -> StateDict {
        let state = self.state().into_iter();
        state
            .map(|(name, own)| (name, own.tensor().detach()))
            .collect()
    }

    /// Takes values over by name: all that the module has, and no others. Each is cast and moved to where its parameter is.
    ///
    /// # Errors
    /// [`Error::Entry`] that names a missing tensor, one that the module does not have, or one of another shape; nothing is
    /// changed then.
    fn load_state_dict(&self, values: &StateDict) -> Result<()> {
        load(&self.state(), values)
    }

    /// Moves all parameters and buffers to a device. Optimisers that hold states have to be moved too.
    ///
    /// # Errors
    /// Memory and device errors.
    fn to_device(&self, device: Device) -> Result<()> {
        each(&self.state(), |tensor| tensor.to_device(device).map(Some))
    }

    /// Casts all float parameters and buffers.
    ///
    /// # Errors
    /// `DType` for a dtype that is no float, memory and device errors.
    fn to_dtype(&self, dtype: DType) -> Result<()> {
        if !dtype.is_float() {
            return Err(Error::dtype("to_dtype", dtype, "a float"));
        }
        each(&self.state(), |tensor| {
            let float = tensor.dtype().is_float();
            float.then(|| tensor.to_dtype(dtype)).transpose()
        })
    }

    /// Forgets tensors that are kept between calls and are no part of the state, since their device may have been lost.
    fn forget(&self) {}

    /// Writes the state to a safetensors file, whole or not at all.
    ///
    /// # Errors
    /// `Io`, and device errors.
    fn save(&self, path: &Path) -> Result<()> {
        let values = self.state_dict();
        io::save_safetensors(path, values.iter().map(|(name, own)| (name.as_str(), own)))
    }

    /// Reads the state from a safetensors file.
    ///
    /// # Errors
    /// As [`Module::load_state_dict`], and `Io` and `Format` of the file.
    fn load(&self, path: &Path) -> Result<()> {
        self.load_state_dict(&io::load_safetensors(path)?)
    }
}

/// Replaces each parameter's tensor once.
fn each(
    state: &[(String, Parameter)],
    change: impl Fn(&Tensor) -> Result<Option<Tensor>>,
) -> Result<()> {
    for (index, (_, parameter)) in state.iter().enumerate() {
        let done = state[..index].iter().any(|(_, own)| own.is_same(parameter));
        let old = parameter.tensor().detach();
        if let Some(fresh) = (!done).then(|| change(&old)).transpose()?.flatten() {
            parameter.set(&fresh)?;
        }
    }
    Ok(())
}

fn load(state: &[(String, Parameter)], values: &StateDict) -> Result<()> {
    let op = "load_state_dict";
    if let Some(extra) = values
        .keys()
        .find(|name| state.iter().all(|(own, _)| own != *name))
    {
        return Err(Error::entry(op, extra, "the module has no such tensor"));
    }
    let mut found = Vec::with_capacity(state.len());
    for (name, parameter) in state {
        let own = parameter.tensor();
        let value = values
            .get(name)
            .ok_or_else(|| Error::entry(op, name, "it is missing"))?;
        if value.shape() != own.shape() {
            let why = format!("got shape {}, wanted {}", value.shape(), own.shape());
            return Err(Error::entry(op, name, why));
        }
        if value.dtype().is_float() != own.dtype().is_float() {
            let why = format!("got dtype {}, wanted {}", value.dtype(), own.dtype());
            return Err(Error::entry(op, name, why));
        }
        let value = value.to_dtype(own.dtype())?.to_device(own.device())?;
        found.push((parameter, value.detach()));
    }
    for (parameter, value) in found {
        parameter.set(&value.copy()?)?;
    }
    Ok(())
}

/// What [`Module::visit`] shows its parts to; it keeps the dotted prefix.
pub struct Visitor<'a> {
    prefix: String,
    take: &'a mut dyn FnMut(&str, &Parameter),
}

impl std::fmt::Debug for Visitor<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Visitor")
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

impl<'a> Visitor<'a> {
    /// A visitor at the root, which hands each parameter with its full name to `take`.
    pub fn new(take: &'a mut dyn FnMut(&str, &Parameter)) -> Self {
        Visitor {
            prefix: String::new(),
            take,
        }
    }

    /// A parameter or buffer of this module.
    pub fn parameter(&mut self, name: &str, parameter: &Parameter) {
        let before = self.enter(name);
        (self.take)(&self.prefix, parameter);
        self.prefix.truncate(before);
    }

    /// A module within this one.
    pub fn module(&mut self, name: &str, module: &dyn Module) {
        let before = self.enter(name);
        module.visit(self);
        self.prefix.truncate(before);
    }

    /// Modules within this one, numbered from 0: `name.0`, `name.1`, ...
    pub fn modules<'m>(&mut self, name: &str, modules: impl IntoIterator<Item = &'m dyn Module>) {
        let before = self.enter(name);
        for (index, module) in modules.into_iter().enumerate() {
            self.module(&index.to_string(), module);
        }
        self.prefix.truncate(before);
    }

    /// Adds a name to the prefix; the answer is the length to go back to.
    fn enter(&mut self, name: &str) -> usize {
        let before = self.prefix.len();
        if before > 0 && !name.is_empty() {
            self.prefix.push('.');
        }
        self.prefix.push_str(name);
        before
    }
}
