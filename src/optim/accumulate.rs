//! Gradient accumulation: the gradients of several small batches as those of one large batch.
//!
//! Knows sums of gradients. Must not know optimisers.

use crate::autograd::Gradients;
use crate::error::Result;
use crate::nn::Parameter;

/// Sums gradients over several backward passes, and gives their mean.
///
/// ```
/// use ascend_tensor::nn::Parameter;
/// use ascend_tensor::optim::Accumulator;
/// use ascend_tensor::Tensor;
/// # fn main() -> ascend_tensor::Result<()> {
/// let weight = Parameter::new(&Tensor::new([1.0f32, 2.0]))?;
/// let all = vec![("weight".to_string(), weight.clone())];
/// let mut sum = Accumulator::new();
/// for factor in [1.0, 3.0] {
///     sum.add(weight.tensor().mul(factor)?.sum(())?.backward()?)?;
/// }
/// let mean = sum.mean(&all)?;
/// let mean = mean.as_ref().and_then(|mean| mean.get(&weight.tensor()));
/// assert_eq!(mean.map(|mean| mean.to_vec::<f32>()).transpose()?, Some(vec![2.0, 2.0]));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Default)]
pub struct Accumulator {
    sum: Option<Gradients>,
    passes: usize,
}

impl Accumulator {
    /// Nothing yet.
    pub fn new() -> Self {
        Accumulator::default()
    }

    /// The number of passes since the last mean.
    pub fn passes(&self) -> usize {
        self.passes
    }

    /// Adds the gradients of one pass.
    ///
    /// # Errors
    /// If gradients cannot be added.
    pub fn add(&mut self, gradients: Gradients) -> Result<()> {
        match &mut self.sum {
            Some(sum) => sum.accumulate(gradients)?,
            None => self.sum = Some(gradients),
        }
        self.passes += 1;
        Ok(())
    }

    /// The mean over the passes, after which a new sum begins; `None` before the first pass.
    ///
    /// # Errors
    /// Memory and device errors.
    pub fn mean(&mut self, parameters: &[(String, Parameter)]) -> Result<Option<Gradients>> {
        let Some(mut sum) = self.sum.take() else {
            return Ok(None);
        };
        let passes = std::mem::take(&mut self.passes);
        if passes > 1 {
            for (_, parameter) in parameters {
                let leaf = parameter.tensor();
                if let Some(gradient) = sum.get(&leaf) {
                    let mean = gradient.div(passes as f64)?;
                    sum.put(&leaf, mean);
                }
            }
        }
        Ok(Some(sum))
    }
}
