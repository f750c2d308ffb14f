//! `bincount`: how often each number occurs; a `scatter_add`, so without an op of its own.

use crate::ops::prelude::*;

/// Settings of [`Tensor::bincount`]. Made from `()`.
#[derive(Debug, Clone, Copy, Default)]
#[must_use]
pub struct BincountOptions<'a> {
    weights: Option<&'a Tensor>,
    least: usize,
}

impl<'a> BincountOptions<'a> {
    /// Counts, as many as the largest number needs.
    pub fn new() -> Self {
        BincountOptions::default()
    }

    /// Sums these instead of counting.
    pub fn weights(mut self, weights: &'a Tensor) -> Self {
        self.weights = Some(weights);
        self
    }

    /// At least this many counts.
    pub fn min_length(mut self, least: usize) -> Self {
        self.least = least;
        self
    }
}

impl From<()> for BincountOptions<'_> {
    fn from((): ()) -> Self {
        BincountOptions::new()
    }
}

impl Tensor {
    /// How often each number from 0 on occurs, or the sum of the weights of its places.
    ///
    /// Shapes: `[n] -> [largest + 1]`. Dtypes: integers -> `i64`; with weights `f64`, or `f32` if those are `f32`. PyTorch:
    /// `torch.bincount`. NPU: `aclnnScatterAdd`; the numbers are read back to learn the largest.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// assert_eq!(Tensor::new([1i64, 3, 1]).bincount(())?.to_vec::<i64>()?, [0, 2, 0, 1]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `DType` for floats and bools, `Shape` for another number of dims or of weights, `Option` for a negative number.
    pub fn bincount<'a>(&self, options: impl Into<BincountOptions<'a>>) -> Result<Tensor> {
        let (op, options) = ("bincount", options.into());
        if !self.dtype().is_int() {
            return Err(Error::dtype(op, self.dtype(), "an integer"));
        }
        if self.rank() != 1 {
            return Err(Error::shape(op, self.shape(), "one dim"));
        }
        if let Some(weights) = options
            .weights
            .filter(|weights| weights.shape() != self.shape())
        {
            return Err(Error::shape(
                op,
                format!("weights of {} for {}", weights.shape(), self.shape()),
                "one for each number",
            ));
        }
        let index = self.to_dtype(DType::I64)?;
        let numbers = index.to_vec::<i64>()?;
        if let Some(number) = numbers.iter().find(|number| **number < 0) {
            return Err(Error::option(
                op,
                "input",
                format!("got {number}, wanted numbers that are not negative"),
            ));
        }
        let largest = numbers
            .iter()
            .max()
            .and_then(|largest| usize::try_from(*largest).ok());
        let length = largest
            .map_or(0, |largest| largest.saturating_add(1))
            .max(options.least);
        let dtype = options.weights.map_or(DType::I64, |weights| {
            if weights.dtype() == DType::F32 {
                DType::F32
            } else {
                DType::F64
            }
        });
        let counted = match options.weights {
            Some(weights) => weights.detach().to_dtype(dtype)?,
            None => Tensor::ones(*self.shape(), dtype, self.device())?,
        };
        Tensor::zeros([length], dtype, self.device())?.scatter_add(0, &index, &counted)
    }
}
