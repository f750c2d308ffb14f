//! Several optimisers as one, each with parameters of its own.
//!
//! Knows which optimiser a state's entry belongs to. Must not know any rule of descent.

use super::Optimizer;
use crate::autograd::Gradients;
use crate::error::{Error, Result};
use crate::nn::{Parameter, StateDict};

const OP: &str = "multi_optimizer";

/// Optimisers that step together, such as Muon for the matrices of a network and AdamW for the rest.
///
/// ```
/// use ascend_tensor::nn::{Linear, Module, Place};
/// use ascend_tensor::optim::{Adam, AdamOptions, MultiOptimizer, Muon, MuonOptions, Optimizer};
/// use ascend_tensor::Tensor;
/// # fn main() -> ascend_tensor::Result<()> {
/// let layer = Linear::new([3, 2], (), &Place::default())?;
/// let (matrices, rest) = layer.parameters().into_iter().partition(|(_, own)| own.tensor().rank() == 2);
/// let muon = Muon::new(matrices, MuonOptions::new().lr(0.02))?;
/// let adamw = Adam::w(rest, AdamOptions::new().lr(0.001));
/// let mut both = MultiOptimizer::new(vec![Box::new(muon), Box::new(adamw)])?;
/// let loss = layer.forward(&Tensor::new([[1.0f32, 2.0]]))?.square()?.mean(())?;
/// both.step(&loss.backward()?)?;
/// assert_eq!(both.rates(), [0.02, 0.001]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct MultiOptimizer(Vec<Box<dyn Optimizer>>);

impl MultiOptimizer {
    /// The optimisers in the order in which they step.
    ///
    /// # Errors
    /// [`Error::Entry`] that names a parameter which two of them have, or a name that two parameters have.
    pub fn new(optimizers: Vec<Box<dyn Optimizer>>) -> Result<Self> {
        let mut seen: Vec<(String, Parameter)> = Vec::new();
        for optimizer in &optimizers {
            let own = optimizer.parameters();
            for (name, parameter) in &own {
                if seen
                    .iter()
                    .any(|(other, shared)| other == name || shared.is_same(parameter))
                {
                    return Err(Error::entry(OP, name, "two optimisers have it"));
                }
            }
            seen.extend(own);
        }
        Ok(MultiOptimizer(optimizers))
    }
}

/// How long the longest of the parameters' names is that an entry's name begins with.
fn length(optimizer: &dyn Optimizer, entry: &str) -> Option<usize> {
    let names = optimizer.parameters().into_iter();
    let fitting = names.filter(|(name, _)| {
        let rest = entry.strip_prefix(name.as_str());
        rest.is_some_and(|rest| rest.starts_with('.'))
    });
    fitting.map(|(name, _)| name.len()).max()
}

impl Optimizer for MultiOptimizer {
    fn step(&mut self, gradients: &Gradients) -> Result<()> {
        self.0.iter_mut().try_for_each(|one| one.step(gradients))
    }

    fn set_factor(&mut self, factor: f64) {
        self.0.iter_mut().for_each(|one| one.set_factor(factor));
    }

    fn rates(&self) -> Vec<f64> {
        self.0.iter().flat_map(|one| one.rates()).collect()
    }

    fn parameters(&self) -> Vec<(String, Parameter)> {
        self.0.iter().flat_map(|one| one.parameters()).collect()
    }

    fn check(&self) -> Result<()> {
        self.0.iter().try_for_each(|one| one.check())
    }

    fn state_dict(&self) -> Result<StateDict> {
        let mut all = StateDict::new();
        for one in &self.0 {
            all.extend(one.state_dict()?);
        }
        Ok(all)
    }

    fn load_state_dict(&mut self, state: &StateDict) -> Result<()> {
        let mut parts = vec![StateDict::new(); self.0.len()];
        for (name, value) in state {
            let lengths = self.0.iter().enumerate();
            let lengths = lengths.map(|(index, one)| (length(one.as_ref(), name), index));
            match lengths.max_by_key(|(length, _)| *length) {
                Some((Some(_), index)) => {
                    parts[index].insert(name.clone(), value.clone());
                }
                _ => {
                    let why = "no parameter of this name is optimised";
                    return Err(Error::entry("load_state_dict", name, why));
                }
            }
        }
        let mut pairs = self.0.iter_mut().zip(&parts);
        pairs.try_for_each(|(one, part)| one.load_state_dict(part))
    }
}
