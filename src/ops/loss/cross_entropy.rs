//! `cross_entropy`: minus the log-likelihood of classes under logits.

use super::Reduction;
use super::nll_loss::{Labelled, check_labels, check_weight, class_dim, label};
use crate::ops::prelude::*;
use crate::ops::reduce::widened;

/// Settings of [`Tensor::cross_entropy`]. Made from `()`, from a [`Reduction`], or built up.
#[derive(Debug, Clone, Copy)]
#[must_use]
pub struct CrossEntropyOptions<'a> {
    reduction: Reduction,
    weight: Option<&'a Tensor>,
    ignore: i64,
    smoothing: f64,
}

impl<'a> CrossEntropyOptions<'a> {
    /// The mean, without weights or smoothing; labels of -100 are ignored.
    pub fn new() -> Self {
        CrossEntropyOptions {
            reduction: Reduction::Mean,
            weight: None,
            ignore: -100,
            smoothing: 0.0,
        }
    }

    /// How the losses become the result.
    pub fn reduction(mut self, reduction: Reduction) -> Self {
        self.reduction = reduction;
        self
    }

    /// A factor of each class.
    pub fn weight(mut self, weight: &'a Tensor) -> Self {
        self.weight = Some(weight);
        self
    }

    /// The label that does not count.
    pub fn ignore_index(mut self, label: i64) -> Self {
        self.ignore = label;
        self
    }

    /// How much of the target is spread evenly over all classes, from 0 to 1.
    pub fn label_smoothing(mut self, smoothing: f64) -> Self {
        self.smoothing = smoothing;
        self
    }
}

impl Default for CrossEntropyOptions<'_> {
    fn default() -> Self {
        CrossEntropyOptions::new()
    }
}

impl<R: Into<Reduction>> From<R> for CrossEntropyOptions<'_> {
    fn from(reduction: R) -> Self {
        CrossEntropyOptions::new().reduction(reduction.into())
    }
}

#[derive(Debug, Clone, Copy)]
struct CrossEntropy {
    reduction: Reduction,
    ignore: i64,
    smoothing: f64,
}

impl Tensor {
    /// `-sum(w[c] t[c] log_softmax(x)[c])` over the class dim (1, or 0 of a vector); halves compute in f32.
    ///
    /// The target holds labels, of which the ignored count nothing and by whose weights the mean divides; or probabilities of
    /// all classes, where the mean divides by the number of positions. Label smoothing `e` makes it `t (1 - e) + e / c`.
    /// Shapes: `[c]` or `[n, c, ..]`, labels without the class dim or probabilities with it; a single number unless nothing is
    /// reduced. Dtypes: floats, labels integers. PyTorch: `torch.nn.functional.cross_entropy`.
    /// NPU: `aclnnLogSoftmax`, `aclnnGather` and elementwise kernels.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([[0.0f64, 0.0], [1000.0, 0.0]]);
    /// let loss = x.cross_entropy(&Tensor::new([0i64, 0]), ())?.item::<f64>()?;
    /// assert!((loss - 2.0f64.ln() / 2.0).abs() < 1e-12);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Shape` for a target or weights that do not fit, `DType` for other dtypes, `Option` for a smoothing outside 0 to 1,
    /// `Index` for a label out of range (on the NPU only under [`check_data`](crate::check_data)).
    pub fn cross_entropy<'a>(
        &self,
        target: &Tensor,
        options: impl Into<CrossEntropyOptions<'a>>,
    ) -> Result<Tensor> {
        let CrossEntropyOptions {
            reduction,
            weight,
            ignore,
            smoothing,
        } = options.into();
        let op = CrossEntropy {
            reduction,
            ignore,
            smoothing,
        };
        match weight {
            Some(weight) => run_one(&op, &[self, target, weight]),
            None => run_one(&op, &[self, target]),
        }
    }
}

impl CrossEntropy {
    /// The losses of labels, and what their mean divides by.
    fn labels(
        &self,
        logarithms: &Tensor,
        target: &Tensor,
        weight: Option<&Tensor>,
    ) -> Result<(Tensor, Tensor)> {
        let Labelled { picked, factor } = label(logarithms, target, weight, self.ignore)?;
        let ignored = target.eq(self.ignore)?;
        let mut losses = picked.mul(&factor)?.neg()?;
        if self.smoothing != 0.0 {
            let dim = class_dim(logarithms.shape());
            let classes = logarithms.shape().size(dim) as f64;
            let spread = weighted(logarithms, weight)?
                .sum(dim as i64)?
                .mul(-self.smoothing / classes)?;
            losses = losses.mul(1.0 - self.smoothing)?.add(&spread)?;
        }
        Ok((ignored.where_cond(0.0, &losses)?, factor.sum(())?))
    }

    /// The losses of probabilities.
    fn probabilities(
        &self,
        logarithms: &Tensor,
        target: &Tensor,
        weight: Option<&Tensor>,
    ) -> Result<Tensor> {
        let dim = class_dim(logarithms.shape());
        let mut target = target.to_dtype(logarithms.dtype())?;
        if self.smoothing != 0.0 {
            let classes = logarithms.shape().size(dim) as f64;
            target = target
                .mul(1.0 - self.smoothing)?
                .add(self.smoothing / classes)?;
        }
        weighted(&logarithms.mul(&target)?, weight)?
            .sum(dim as i64)?
            .neg()
    }
}

/// Each class times its weight.
fn weighted(x: &Tensor, weight: Option<&Tensor>) -> Result<Tensor> {
    let Some(weight) = weight else {
        return Ok(x.clone());
    };
    let dim = class_dim(x.shape());
    let shape: Shape = (0..x.rank())
        .map(|own| if own == dim { x.shape().size(dim) } else { 1 })
        .collect();
    x.mul(&weight.to_dtype(x.dtype())?.reshape(shape)?)
}

impl Op for CrossEntropy {
    fn name(&self) -> &'static str {
        "cross_entropy"
    }

    fn infer(&self, x: &[Meta], plan: &mut Plan) -> Result<()> {
        let (input, target) = (x[0], x[1]);
        if !(0.0..=1.0).contains(&self.smoothing) {
            return Err(Error::option(
                "cross_entropy",
                "label_smoothing",
                format!("got {}, wanted 0 to 1", self.smoothing),
            ));
        }
        if target.dtype.is_float() && target.shape == input.shape && input.shape.rank() > 0 {
            crate::ops::norm::float_only("cross_entropy", input.dtype)?;
            check_weight("cross_entropy", x)?;
        } else {
            check_labels("cross_entropy", x)?;
        }
        plan.output(
            self.reduction
                .shape(&input.shape.without(class_dim(&input.shape))),
            input.dtype,
        );
        Ok(())
    }

    fn compose(&self, x: &[Tensor]) -> Result<Outputs> {
        let dim = class_dim(x[0].shape()) as i64;
        let logarithms = x[0].to_dtype(widened(x[0].dtype()))?.log_softmax(dim)?;
        let loss = if x[1].dtype().is_float() {
            let losses = self.probabilities(&logarithms, &x[1], x.get(2))?;
            self.reduction.apply(&losses)?
        } else {
            let (losses, divisor) = self.labels(&logarithms, &x[1], x.get(2))?;
            match self.reduction {
                Reduction::None => losses,
                Reduction::Sum => losses.sum(())?,
                Reduction::Mean => losses.sum(())?.div(&divisor)?,
            }
        };
        Ok(smallvec![loss.to_dtype(x[0].dtype())?])
    }

    fn gradient(&self) -> Gradient {
        Gradient::Compose
    }

    fn cast(&self) -> CastRule {
        CastRule::Full
    }

    fn boxed(&self) -> Box<dyn Op> {
        Box::new(*self)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "cross_entropy",
    family: "loss",
    kernels: &["aclnnLogSoftmax", "aclnnGather"],
    samples,
};

fn samples() -> Vec<Sample> {
    let sample = |reduction, smoothing, labels: bool, weight: usize| {
        let target = if labels {
            SampleInput::typed([3, 2], DType::I64, 0.0, 4.0)
        } else {
            SampleInput::new([3, 4, 2], 0.0, 1.0)
        };
        let mut inputs = vec![SampleInput::new([3, 4, 2], -2.0, 2.0), target];
        inputs.resize(2 + weight, SampleInput::new([4], 0.5, 2.0));
        Sample {
            op: Box::new(CrossEntropy {
                reduction,
                ignore: 1,
                smoothing,
            }),
            inputs,
            dtypes: FLOATS,
        }
    };
    vec![
        sample(Reduction::Mean, 0.0, true, 0),
        sample(Reduction::None, 0.1, true, 1),
        sample(Reduction::Sum, 0.0, false, 1),
        sample(Reduction::Mean, 0.2, false, 0),
    ]
}
