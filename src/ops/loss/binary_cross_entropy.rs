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
    /// PyTorch: `torch.nn.functional.binary_cross_entropy`. NPU: elementwise kernels.
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
        match weight {
            Some(weight) => run_one(&op, &[self, target, weight]),
            None => run_one(&op, &[self, target]),
        }
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

    fn compose(&self, x: &[Tensor]) -> Result<Outputs> {
        let dtype = x[0].dtype();
        // The tape records this op, not its parts: their gradient is not that of the clamped logarithms.
        let wide: Vec<Tensor> = x
            .iter()
            .map(|x| x.detach().to_dtype(widened(dtype)))
            .collect::<Result<_>>()?;
        let (x, target) = (&wide[0], &wide[1]);
        if x.device().is_cpu() || mode::current().has(Modes::CHECK_DATA) {
            let inside = x.ge(0i64)?.logical_and(&x.le(1i64)?)?.all(())?;
            if !inside.item::<bool>()? {
                return Err(Error::option(
                    self.name(),
                    "input",
                    "got elements outside 0 to 1",
                ));
            }
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
        let shape = if cx.len() > 2 {
            x.shape().broadcast(self.name(), &cx.meta(2)?.shape)?
        } else {
            *x.shape()
        };
        let dy = match self.reduction {
            Reduction::Mean => cx.gradient()?.div(shape.elements() as f64)?,
            _ => cx.gradient()?.clone(),
        };
        let dy = dy.expand(shape)?;
        let weighted = if cx.len() > 2 {
            dy.mul(cx.input(2)?)?
        } else {
            dy.clone()
        };
        let rest = x.neg()?.add(1i64)?;
        let mut grads: Grads = smallvec![
            cx.want(0, || weighted
                .mul(&x.sub(target)?)?
                .div(&x.mul(&rest)?.clamp(1e-12..)?))?,
            cx.want(1, || weighted.mul(&logarithm(&rest)?.sub(&logarithm(x)?)?))?,
        ];
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

pub(super) const INFO: OpInfo = OpInfo {
    name: "binary_cross_entropy",
    family: "loss",
    kernels: &[],
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
