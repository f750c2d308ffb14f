//! Stochastic gradient descent, with momentum.
//!
//! Knows running gradients. Must not know how a step is computed (that is the op `sgd_step`).

use super::Optimizer;
use super::group::{Entry, Groups};
use crate::autograd::Gradients;
use crate::error::Result;
use crate::nn::{Parameter, StateDict};
use crate::ops::update::SgdOptions;
use crate::tensor::Tensor;

/// The running gradient, from the first step with momentum on.
pub(super) type Running = Option<Tensor>;

/// Gradient descent over groups of parameters. PyTorch: `torch.optim.SGD`.
///
/// ```
/// use ascend_tensor::nn::Parameter;
/// use ascend_tensor::optim::{Optimizer, Sgd};
/// use ascend_tensor::Tensor;
/// # fn main() -> ascend_tensor::Result<()> {
/// let weight = Parameter::new(&Tensor::new([1.0f32, 2.0]))?;
/// let all = vec![("weight".to_string(), weight.clone())];
/// let mut sgd = Sgd::new(all, 0.1);
/// sgd.step(&weight.tensor().square()?.sum(())?.backward()?)?;
/// let moved = weight.tensor().to_vec::<f32>()?;
/// assert!((moved[0] - 0.8).abs() < 1e-6 && (moved[1] - 1.6).abs() < 1e-6);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Sgd {
    groups: Groups<SgdOptions, Running>,
}

impl Sgd {
    /// Descent over one group.
    pub fn new(parameters: Vec<(String, Parameter)>, options: impl Into<SgdOptions>) -> Self {
        let empty = Sgd {
            groups: Groups::new(),
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
        self.groups.add(parameters, options.into());
        self
    }
}

impl Optimizer for Sgd {
    fn step(&mut self, gradients: &Gradients) -> Result<()> {
        let factor = self.groups.factor;
        self.groups
            .step(gradients, |options, own, gradient, running| {
                own.sgd_step_(gradient, running, options.scaled(factor))
            })
    }

    fn set_factor(&mut self, factor: f64) {
        self.groups.factor = factor;
    }

    fn rates(&self) -> Vec<f64> {
        self.groups.rates(|options| options.rate())
    }

    fn parameters(&self) -> Vec<(String, Parameter)> {
        self.groups.parameters()
    }

    fn check(&self) -> Result<()> {
        self.groups.check(SgdOptions::check)
    }

    fn state_dict(&self) -> Result<StateDict> {
        Ok(self.groups.state_dict(entries))
    }

    fn load_state_dict(&mut self, state: &StateDict) -> Result<()> {
        self.groups.load_state_dict(state, take)
    }
}

/// A running gradient under the name that PyTorch gives it.
pub(super) fn entries(running: &Running) -> Vec<(&'static str, Tensor)> {
    let entry = |running| ("momentum_buffer", running);
    running.clone().map(entry).into_iter().collect()
}

/// Takes a saved running gradient over; the answer is whether it is one.
pub(super) fn take(running: &mut Running, given: Entry<'_>) -> Result<bool> {
    let known = given.entry == "momentum_buffer";
    if known {
        *running = Some(given.tensor()?);
    }
    Ok(known)
}
