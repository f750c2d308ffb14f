//! `binary_cross_entropy`: minus the log-likelihood of yes-or-no targets under probabilities.

use super::Reduction;
use crate::mode::{self, Modes};
use crate::ops::prelude::*;
use crate::ops::reduce::widened;

/// Settings of [`Tensor::binary_cross_entropy`]. Made from `()`, from a [`Reduction`], or built up.
#[derive(Debug, Clone, Copy, Default)]
#[must_use]
pub struct BinaryCrossEntropyOptions<'a> {
    reduction: Reduction,
    weight: Option<&'a Tensor>,
}

impl<'a> BinaryCrossEntropyOptions<'a> {
    /// The mean, without weights.
    pub fn new() -> Self {
        BinaryCrossEntropyOptions::default()
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
}

impl<R: Into<Reduction>> From<R> for BinaryCrossEntropyOptions<'_> {
    fn from(reduction: R) -> Self {
        BinaryCrossEntropyOptions::new().reduction(reduction.into())
    }
}

#[derive(Debug, Clone, Copy)]
struct BinaryCrossEntropy {
    reduction: Reduction,
}

impl Tensor {
    /// `-w (t ln x + (1 - t) ln(1 - x))`, logarithms held above -100; halves compute in f32.
    ///
    /// Shapes: input and target alike; a single number unless nothing is reduced. Dtypes: floats.
    /// PyTorch: `torch.nn.functional.binary_cross_entropy`. NPU: `aclnnBinaryCrossEntropy` and its gradient.
    ///
    /// ```
    /// use ascend_tensor::{Tensor, ops::loss::Reduction};
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let (x, target) = (Tensor::new([1.0f32, 0.0]), Tensor::new([1.0f32, 1.0]));
    /// assert_eq!(x.binary_cross_entropy(&target, Reduction::None)?.to_vec::<f32>()?, [0.0, 100.0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Shape` for unequal shapes, `DType` for integers and bools, `Option` for an input outside 0 to 1 (on the NPU only
    /// under [`check_data`](crate::check_data)).
    pub fn binary_cross_entropy<'a>(
        &self,
        target: &Tensor,
        options: impl Into<BinaryCrossEntropyOptions<'a>>,
    ) -> Result<Tensor> {
        let BinaryCrossEntropyOptions { reduction, weight } = options.into();
        let op = BinaryCrossEntropy { reduction };
        if !self.device().is_cpu() && mode::current().has(Modes::CHECK_DATA) {
            demand_probabilities(self)?;
        }
        match weight {
            Some(weight) => run_one(&op, &[self, target, weight]),
            None => run_one(&op, &[self, target]),
        }
    }
}

/// Refuses elements outside 0 to 1.
fn demand_probabilities(x: &Tensor) -> Result<()> {
    let x = &x.detach();
    let inside = x.ge(0i64)?.logical_and(&x.le(1i64)?)?.all(())?;
    if inside.item::<bool>()? {
        return Ok(());
    }
    Err(Error::option(
        "binary_cross_entropy",
        "input",
        "got elements outside 0 to 1",
    ))
}

/// Weights with the input's shape, as CANN wants them.
fn weights<'a>(cx: &Launch, x: &Dev<'_>, weight: Option<&Dev<'a>>) -> Result<Option<Dev<'a>>> {
    const NAME: &str = "binary_cross_entropy";
    let widened = |weight: &Dev<'a>| {
        let layout = weight.layout().expand(NAME, x.shape());
        layout.map(|layout| weight.with_layout(layout))
    };
    match weight.map(widened).transpose() {
        Ok(weight) if !x.is_empty() => Ok(weight),
        _ => Err(Error::unsupported(
            NAME,
            Device::Ascend(cx.device()),
            x.dtype(),
            "the kernel takes no empty input, and no weight of more dims",
        )),
    }
}

/// The logarithm, not below -100.
fn logarithm(x: &Tensor) -> Result<Tensor> {
    x.log()?.clamp(-100.0..)
}

impl Op for BinaryCrossEntropy {
    fn name(&self) -> &'static str {
        "binary_cross_entropy"
    }

    fn infer(&self, x: &[Meta], plan: &mut Plan) -> Result<()> {
        super::same_shape(self.name(), x)?;
        let dtype = result_type(x, &[]);
        if !dtype.is_float() {
            return Err(Error::dtype(self.name(), dtype, "a float dtype"));
        }
        for index in 0..x.len() {
            plan.cast(index, dtype);
        }
        plan.output(self.reduction.shape(&broadcast(self.name(), x)?), dtype);
        Ok(())
    }

    fn ascend(&self, cx: &Launch, x: &[Dev<'_>], y: &[Dev<'_>]) -> Result<Counts> {
        let weight = weights(cx, &x[0], x.get(2))?;
        let code = self.reduction.code();
        aclnn::binary_cross_entropy(cx, &x[0], &x[1], weight.as_ref(), code, &y[0])?;
        Ok(Counts::EXACT)
    }

    fn compose(&self, x: &[Tensor]) -> Result<Outputs> {
        let dtype = x[0].dtype();
        // The tape records this op, not its parts: their gradient is not that of the clamped logarithms.
        let wide: Vec<Tensor> = x
            .iter()
            .map(|x| x.detach().to_dtype(widened(dtype)))
            .collect::<Result<_>>()?;
        let (x, target) = (&wide[0], &wide[1]);
        if x.device().is_cpu() {
            demand_probabilities(x)?;
        }
        let other = target.neg()?.add(1i64)?;
        let losses = target
            .mul(&logarithm(x)?)?
            .add(&other.mul(&logarithm(&x.neg()?.add(1i64)?)?)?)?
            .neg()?;
        let losses = match wide.get(2) {
            Some(weight) => losses.mul(weight)?,
            None => losses,
        };
        Ok(smallvec![self.reduction.apply(&losses)?.to_dtype(dtype)?])
    }

    fn is_composed(&self, _x: &[Meta], device: Device) -> bool {
        device.is_cpu()
    }

    fn gradient(&self) -> Gradient {
        Gradient::Backward
    }

    /// `dx = w (x - t) / max(x (1 - x), 1e-12)`, `dt = w (ln(1 - x) - ln x)`.
    fn backward(&self, cx: &GradCx<'_>) -> Result<Grads> {
        let (x, target) = (cx.input(0)?, cx.input(1)?);
        let weight = if cx.len() > 2 {
            Some(cx.input(2)?)
        } else {
            None
        };
        let slope = || {
            let inputs = [Some(cx.gradient()?), Some(x), Some(target), weight];
            let inputs: smallvec::SmallVec<[&Tensor; 4]> = inputs.into_iter().flatten().collect();
            run_one(&BinaryCrossEntropySlope(*self), &inputs)
        };
        let mut grads: Grads = smallvec![cx.want(0, slope)?];
        if !cx.needs(1) && (weight.is_none() || !cx.needs(2)) {
            grads.resize(cx.len(), None);
            return Ok(grads);
        }
        let dy = self.spread(cx.gradient()?, x, weight)?;
        let rest = x.neg()?.add(1i64)?;
        grads.push(cx.want(1, || {
            let weighted = weight.map_or_else(|| Ok(dy.clone()), |weight| dy.mul(weight))?;
            weighted.mul(&logarithm(&rest)?.sub(&logarithm(x)?)?)
        })?);
        if cx.len() > 2 {
            let losses = || {
                target
                    .mul(&logarithm(x)?)?
                    .add(&target.neg()?.add(1i64)?.mul(&logarithm(&rest)?)?)?
                    .neg()
            };
            grads.push(cx.want(2, || dy.mul(&losses()?))?);
        }
        Ok(grads)
    }

    fn cast(&self) -> CastRule {
        CastRule::Full
    }

    fn boxed(&self) -> Box<dyn Op> {
        Box::new(*self)
    }
}

impl BinaryCrossEntropy {
    /// The gradient of each element's loss.
    fn spread(&self, dy: &Tensor, x: &Tensor, weight: Option<&Tensor>) -> Result<Tensor> {
        let shape = match weight {
            Some(weight) => x.shape().broadcast(self.name(), weight.shape())?,
            None => *x.shape(),
        };
        let dy = match self.reduction {
            Reduction::Mean => dy.div(shape.elements() as f64)?,
            _ => dy.clone(),
        };
        dy.expand(shape)
    }
}

/// The input's gradient; the inputs are `dy` and those of the loss.
#[derive(Debug, Clone, Copy)]
struct BinaryCrossEntropySlope(BinaryCrossEntropy);

impl Op for BinaryCrossEntropySlope {
    fn name(&self) -> &'static str {
        "binary_cross_entropy_backward"
    }

    fn infer(&self, x: &[Meta], plan: &mut Plan) -> Result<()> {
        plan.output(x[1].shape, x[1].dtype);
        Ok(())
    }

    fn ascend(&self, cx: &Launch, x: &[Dev<'_>], y: &[Dev<'_>]) -> Result<Counts> {
        let weight = weights(cx, &x[1], x.get(3))?;
        let (code, weight) = (self.0.reduction.code(), weight.as_ref());
        aclnn::binary_cross_entropy_backward(cx, &x[0], &x[1], &x[2], weight, code, &y[0])?;
        Ok(Counts::EXACT)
    }

    fn compose(&self, x: &[Tensor]) -> Result<Outputs> {
        let dy = self.0.spread(&x[0], &x[1], x.get(3))?;
        let weighted = x
            .get(3)
            .map_or_else(|| Ok(dy.clone()), |weight| dy.mul(weight))?;
        let rest = x[1].neg()?.add(1i64)?;
        let slope = weighted
            .mul(&x[1].sub(&x[2])?)?
            .div(&x[1].mul(&rest)?.clamp(1e-12..)?)?;
        Ok(smallvec![slope.sum_to(self.name(), x[1].shape())?])
    }

    fn is_composed(&self, _x: &[Meta], device: Device) -> bool {
        device.is_cpu()
    }

    fn gradient(&self) -> Gradient {
        Gradient::Compose
    }

    fn boxed(&self) -> Box<dyn Op> {
        Box::new(*self)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "binary_cross_entropy",
    family: "loss",
    kernels: &["aclnnBinaryCrossEntropy", "aclnnBinaryCrossEntropyBackward"],
    samples,
};

fn samples() -> Vec<Sample> {
    let sample = |reduction, inputs| Sample {
        op: Box::new(BinaryCrossEntropy { reduction }),
        inputs: vec![SampleInput::new([3, 4], 0.1, 0.9); inputs],
        dtypes: FLOATS,
    };
    vec![sample(Reduction::Mean, 2), sample(Reduction::None, 3)]
}
