//! Adam and AdamW.
//!
//! Knows moments and counts of steps. Must not know how a step is computed (that is the op `adam_step`).

use super::Optimizer;
use super::group::Groups;
use crate::autograd::Gradients;
use crate::error::Result;
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
    groups: Groups<AdamOptions, Moments>,
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
            groups: Groups::new(),
        }
    }

    /// One more group with settings of its own.
    #[must_use]
    pub fn group(mut self, parameters: Vec<(String, Parameter)>, options: AdamOptions) -> Self {
        self.groups.add(parameters, options);
        self
    }
}

impl Optimizer for Adam {
    fn step(&mut self, gradients: &Gradients) -> Result<()> {
        let (kind, factor) = (self.kind, self.groups.factor);
        self.groups
            .step(gradients, |options, own, gradient, moments| {
                let options = options.scaled(factor);
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
        self.groups.check(AdamOptions::check)
    }

    fn state_dict(&self) -> Result<StateDict> {
        Ok(self.groups.state_dict(|moments| match &moments.state {
            None => Vec::new(),
            Some(state) => vec![
                ("exp_avg", state.exp_avg.clone()),
                ("exp_avg_sq", state.exp_avg_sq.clone()),
                ("step", Tensor::new(moments.step)),
            ],
        }))
    }

    fn load_state_dict(&mut self, state: &StateDict) -> Result<()> {
        self.groups.load_state_dict(state, |moments, given| {
            if given.entry == "step" {
                moments.step = given.count()?;
                return Ok(true);
            }
            let value = given.tensor()?;
            let mut state = match moments.state.take() {
                Some(state) => state,
                None => AdamState::zeros(&value)?,
            };
            let known = match given.entry {
                "exp_avg" => {
                    state.exp_avg = value;
                    true
                }
                "exp_avg_sq" => {
                    state.exp_avg_sq = value;
                    true
                }
                _ => false,
            };
            moments.state = Some(state);
            Ok(known)
        })
    }
}
