//! Exponential moving averages of parameters.
//!
//! Knows averages by name. Must not know optimisers.

use crate::check;
use crate::error::Result;
use crate::mode::no_grad;
use crate::nn::{Parameter, StateDict};

/// `average = decay average + (1 - decay) parameter`, after each step.
///
/// ```
/// use ascend_tensor::nn::Parameter;
/// use ascend_tensor::optim::Ema;
/// use ascend_tensor::Tensor;
/// # fn main() -> ascend_tensor::Result<()> {
/// let weight = Parameter::new(&Tensor::new([1.0f32, 2.0]))?;
/// let all = vec![("weight".to_string(), weight.clone())];
/// let mut averages = Ema::new(all, 0.75)?;
/// weight.set(&Tensor::new([5.0f32, 2.0]))?;
/// averages.update()?;
/// assert_eq!(averages.state_dict()["weight"].to_vec::<f32>()?, [2.0, 2.0]);
/// let inside = averages.with_averages(|| weight.tensor().to_vec::<f32>())?;
/// assert_eq!((inside, weight.tensor().to_vec::<f32>()?), (vec![2.0, 2.0], vec![5.0, 2.0]));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Ema {
    parameters: Vec<(String, Parameter)>,
    averages: StateDict,
    decay: f64,
}

impl Ema {
    /// Averages that start at the parameters' present values.
    ///
    /// # Errors
    /// `Option` for a decay outside `[0, 1]`; memory and device errors.
    pub fn new(parameters: Vec<(String, Parameter)>, decay: f64) -> Result<Self> {
        check::probability("ema", "decay", decay)?;
        let mut averages = StateDict::new();
        for (name, own) in &parameters {
            averages.insert(name.clone(), own.tensor().detach().copy()?);
        }
        Ok(Ema {
            parameters,
            averages,
            decay,
        })
    }

    /// Moves the averages toward the parameters.
    ///
    /// # Errors
    /// Memory and device errors.
    pub fn update(&mut self) -> Result<()> {
        no_grad(|| {
            for (name, own) in &self.parameters {
                if let Some(average) = self.averages.get_mut(name) {
                    *average = average.lerp(&own.tensor().detach(), 1.0 - self.decay)?;
                }
            }
            Ok(())
        })
    }

    /// The averages by name, for a model's `load_state_dict` or a checkpoint.
    pub fn state_dict(&self) -> &StateDict {
        &self.averages
    }

    /// Runs `body` with the averages in the parameters' places, and puts the parameters' values back.
    ///
    /// # Errors
    /// Those of `body`; memory and device errors.
    pub fn with_averages<R>(&self, body: impl FnOnce() -> Result<R>) -> Result<R> {
        let mut kept = Vec::with_capacity(self.parameters.len());
        for (name, own) in &self.parameters {
            kept.push((own, own.tensor().detach()));
            if let Some(average) = self.averages.get(name) {
                own.set(average)?;
            }
        }
        let answer = body();
        for (own, value) in kept {
            own.set(&value)?;
        }
        answer
    }
}
