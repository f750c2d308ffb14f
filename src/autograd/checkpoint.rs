//! Gradient checkpointing: a part of a computation whose inner results are not kept but computed again for the gradient.
//!
//! Knows how to run a function without the tape and later under it. Must not know modules or ops.

use std::fmt;
use std::sync::Arc;

use smallvec::SmallVec;

use super::backward::backward_of;
use crate::dispatch;
use crate::dtype::DType;
use crate::error::Result;
use crate::mode::{self, Modes};
use crate::op::{GradCx, Gradient, Grads, Meta, Op, Outputs, Plan, Saves};
use crate::ops::random::{GeneratorState, default_generator};
use crate::tensor::Tensor;

type Body = dyn Fn(&[Tensor]) -> Result<Vec<Tensor>> + Send + Sync;

/// The function as an op: its inputs, then the parameters that it uses beside them.
#[derive(Clone)]
struct Checkpoint {
    body: Arc<Body>,
    inputs: usize,
    autocast: Option<DType>,
    generator: GeneratorState,
}

impl fmt::Debug for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Checkpoint")
            .field("inputs", &self.inputs)
            .finish_non_exhaustive()
    }
}

/// Runs `body` on `inputs` and keeps those only; a backward pass runs it once more to get what its gradient needs. So a deep
/// chain of such parts needs the memory of one part's inner results, for one more forward pass of time.
///
/// `parameters` are the tensors that `body` uses beside its inputs and that require gradients. The second run has the first
/// one's autocast and state of the default generator, so that dropout from it is the same. PyTorch:
/// `torch.utils.checkpoint.checkpoint`.
///
/// ```
/// use ascend_tensor::{Tensor, autograd::checkpoint};
/// # fn main() -> ascend_tensor::Result<()> {
/// let w = Tensor::new([2.0f32, 3.0]).requires_grad()?;
/// let x = Tensor::new([1.0f32, 1.0]).requires_grad()?;
/// let inner = w.clone();
/// let y = checkpoint(&[&x], &[&w], move |x| Ok(vec![x[0].mul(&inner)?.tanh()?]))?;
/// let gradients = y[0].sum(())?.backward()?;
/// let plain = x.mul(&w)?.tanh()?.sum(())?.backward()?;
/// for leaf in [&x, &w] {
///     let values = |all: &ascend_tensor::Gradients| all.get(leaf).map(|dx| dx.to_vec::<f32>()).transpose();
///     assert_eq!(values(&gradients)?, values(&plain)?);
/// }
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// Those of `body`.
pub fn checkpoint(
    inputs: &[&Tensor],
    parameters: &[&Tensor],
    body: impl Fn(&[Tensor]) -> Result<Vec<Tensor>> + Send + Sync + 'static,
) -> Result<Vec<Tensor>> {
    let op = Checkpoint {
        body: Arc::new(body),
        inputs: inputs.len(),
        autocast: mode::current()
            .has(Modes::AUTOCAST)
            .then(mode::autocast_dtype),
        generator: default_generator().state(),
    };
    let all: SmallVec<[&Tensor; 8]> = inputs.iter().chain(parameters).copied().collect();
    Ok(mode::without_autocast(|| dispatch::run(&op, &all))?.into_vec())
}

impl Checkpoint {
    fn run(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        match self.autocast {
            Some(dtype) => mode::autocast(dtype, || (self.body)(inputs)),
            None => mode::without_autocast(|| (self.body)(inputs)),
        }
    }

    /// The second run, under the tape and from the first one's random state.
    fn again(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        let generator = default_generator();
        let present = generator.state();
        generator.set_state(self.generator);
        let outputs = mode::enable_grad(|| self.run(inputs));
        generator.set_state(present);
        outputs
    }
}

impl Op for Checkpoint {
    fn name(&self) -> &'static str {
        "checkpoint"
    }

    /// The outputs are those of the function, which only running it tells.
    fn infer(&self, _inputs: &[Meta], _plan: &mut Plan) -> Result<()> {
        Ok(())
    }

    fn compose(&self, inputs: &[Tensor]) -> Result<Outputs> {
        let own = &inputs[..self.inputs.min(inputs.len())];
        Ok(mode::no_grad(|| self.run(own))?.into())
    }

    fn gradient(&self) -> Gradient {
        Gradient::Backward
    }

    fn saves(&self) -> Saves {
        Saves::INPUTS
    }

    fn backward(&self, cx: &GradCx<'_>) -> Result<Grads> {
        let start = |index: usize| {
            let input = cx.input(index)?;
            if cx.needs(index) {
                input.requires_grad()
            } else {
                Ok(input.detach())
            }
        };
        let starts: Vec<Tensor> = (0..self.inputs).map(start).collect::<Result<_>>()?;
        let outputs = self.again(&starts)?;
        let started = outputs.iter().enumerate();
        let started: Vec<(&Tensor, &Tensor)> = started
            .filter_map(|(index, output)| Some((output, cx.gradient_of(index)?)))
            .collect();
        let found = backward_of(&started)?;
        let one = |index: usize| {
            let leaf = match starts.get(index) {
                Some(start) => start,
                None => cx.input(index)?,
            };
            Ok(found.get(leaf).cloned())
        };
        (0..cx.len()).map(one).collect()
    }

    fn boxed(&self) -> Box<dyn Op> {
        Box::new(self.clone())
    }
}
