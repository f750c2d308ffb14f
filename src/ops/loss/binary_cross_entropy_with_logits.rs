//! `binary_cross_entropy_with_logits`: minus the log-likelihood of yes-or-no targets under logits.

use super::{Elementwise, Formula, Reduction, same_shape, samples_of};
use crate::ops::prelude::*;

/// Settings of [`Tensor::binary_cross_entropy_with_logits`]. Made from `()`, from a [`Reduction`], or built up.
#[derive(Debug, Clone, Copy, Default)]
#[must_use]
pub struct LogitsOptions<'a> {
    reduction: Reduction,
    weight: Option<&'a Tensor>,
    positive: Option<&'a Tensor>,
}

impl<'a> LogitsOptions<'a> {
    /// The mean, without weights.
    pub fn new() -> Self {
        LogitsOptions::default()
    }

    /// How the losses become the result.
    pub fn reduction(mut self, reduction: Reduction) -> Self {
        self.reduction = reduction;
        self
    }

    /// A factor of each element's loss, which broadcasts.
    pub fn weight(mut self, weight: &'a Tensor) -> Self {
        self.weight = Some(weight);
        self
    }

    /// A factor of the positive part of each element's loss, which broadcasts.
    pub fn positive_weight(mut self, weight: &'a Tensor) -> Self {
        self.positive = Some(weight);
        self
    }
}

impl<R: Into<Reduction>> From<R> for LogitsOptions<'_> {
    fn from(reduction: R) -> Self {
        LogitsOptions::new().reduction(reduction.into())
    }
}

#[derive(Debug, Clone, Copy)]
struct Logits {
    weight: bool,
    positive: bool,
}

impl Tensor {
    /// `-w (p t ln s(x) + (1 - t) ln(1 - s(x)))` with the sigmoid `s`, without overflow; halves compute in f32.
    ///
    /// Shapes: input and target alike, the weights broadcast; a single number unless nothing is reduced. Dtypes: floats.
    /// PyTorch: `torch.nn.functional.binary_cross_entropy_with_logits`.
    /// NPU: `aclnnBinaryCrossEntropyWithLogits`, `aclnnBinaryCrossEntropyWithLogitsBackward`; elementwise for other shapes.
    ///
    /// ```
    /// use ascend_tensor::{Tensor, ops::loss::Reduction};
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let (x, target) = (Tensor::new([200.0f32, 200.0]), Tensor::new([1.0f32, 0.0]));
    /// assert_eq!(x.binary_cross_entropy_with_logits(&target, Reduction::None)?.to_vec::<f32>()?, [0.0, 200.0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Shape` for unequal shapes, `Broadcast` for weights that do not fit, `DType` for integers and bools.
    pub fn binary_cross_entropy_with_logits<'a>(
        &self,
        target: &Tensor,
        options: impl Into<LogitsOptions<'a>>,
    ) -> Result<Tensor> {
        let LogitsOptions {
            reduction,
            weight,
            positive,
        } = options.into();
        let formula = Logits {
            weight: weight.is_some(),
            positive: positive.is_some(),
        };
        let inputs: smallvec::SmallVec<[&Tensor; 4]> = [Some(self), Some(target), weight, positive]
            .into_iter()
            .flatten()
            .collect();
        run_one(&Elementwise { formula, reduction }, &inputs)
    }
}

impl Logits {
    /// The weights of the elements and of the positive ones, where they are given.
    fn factors<'a, 'd>(&self, x: &'a [Dev<'d>]) -> (Option<&'a Dev<'d>>, Option<&'a Dev<'d>>) {
        let weight = x.get(2).filter(|_| self.weight);
        (weight, x.last().filter(|_| self.positive))
    }
}

impl Formula for Logits {
    const NAME: &'static str = "binary_cross_entropy_with_logits";

    fn check(&self, x: &[Meta]) -> Result<()> {
        same_shape(Self::NAME, x)
    }

    /// `(1 - t) x + (1 + (p - 1) t) ln(1 + e^-x)`.
    fn losses(&self, x: &[Tensor]) -> Result<Tensor> {
        let (input, target) = (&x[0], &x[1]);
        let mut soft = input.neg()?.logaddexp(&input.zeros_like()?)?;
        if let (true, Some(positive)) = (self.positive, x.last()) {
            soft = positive.sub(1i64)?.mul(target)?.add(1i64)?.mul(&soft)?;
        }
        let losses = target.neg()?.add(1i64)?.mul(input)?.add(&soft)?;
        match (self.weight, x.get(2)) {
            (true, Some(weight)) => losses.mul(weight),
            _ => Ok(losses),
        }
    }

    fn ascend(&self, cx: &Launch, x: &[Dev<'_>], reduction: Reduction, y: &Dev<'_>) -> Result<()> {
        let (weight, positive) = self.factors(x);
        let code = reduction.code();
        aclnn::binary_cross_entropy_with_logits(cx, &x[0], &x[1], weight, positive, code, y)
    }

    fn ascend_slope(
        &self,
        cx: &Launch,
        dy: &Dev<'_>,
        x: &[Dev<'_>],
        reduction: Reduction,
        dx: &Dev<'_>,
    ) -> Result<()> {
        let (weight, positive) = self.factors(x);
        let code = reduction.code();
        aclnn::binary_cross_entropy_with_logits_backward(
            cx, dy, &x[0], &x[1], weight, positive, code, dx,
        )
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "binary_cross_entropy_with_logits",
    family: "loss",
    kernels: &[
        "aclnnBinaryCrossEntropyWithLogits",
        "aclnnBinaryCrossEntropyWithLogitsBackward",
    ],
    samples,
};

fn samples() -> Vec<Sample> {
    let mut samples = samples_of(
        &Logits {
            weight: false,
            positive: false,
        },
        2,
    );
    samples.extend(samples_of(
        &Logits {
            weight: true,
            positive: true,
        },
        4,
    ));
    samples
}
