//! Losses: how far a tensor is from a target, per element or as one number.
//!
//! Knows reductions and the plumbing that elementwise losses share. Must not know any single loss.

rooms! {
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    cross_entropy,
    huber_loss,
    kl_div,
    l1_loss,
    mse_loss,
    nll_loss,
    smooth_l1_loss,
}

mod labelled;
mod nll_loss_backward;

use crate::ops::prelude::*;
use crate::ops::reduce::widened;

/// How the losses of the elements become the result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reduction {
    /// They stay as they are.
    None,
    /// Their mean.
    #[default]
    Mean,
    /// Their sum.
    Sum,
}

impl From<()> for Reduction {
    fn from((): ()) -> Self {
        Reduction::Mean
    }
}

impl Reduction {
    /// The shape of the result for losses of this shape.
    fn shape(self, losses: &Shape) -> Shape {
        if self == Reduction::None {
            *losses
        } else {
            Shape::SCALAR
        }
    }

    fn apply(self, losses: &Tensor) -> Result<Tensor> {
        match self {
            Reduction::None => Ok(losses.clone()),
            Reduction::Mean => losses.mean(()),
            Reduction::Sum => losses.sum(()),
        }
    }

    /// CANN's number.
    fn code(self) -> i64 {
        match self {
            Reduction::None => 0,
            Reduction::Mean => 1,
            Reduction::Sum => 2,
        }
    }
}

/// A loss of each element by itself: all that such a loss's room has to say.
trait Formula: std::fmt::Debug + Clone + Send + Sync + 'static {
    /// The op's name.
    const NAME: &'static str;

    /// Refuses attributes and inputs that do not fit.
    fn check(&self, _x: &[Meta]) -> Result<()> {
        Ok(())
    }

    /// Whether no kernel of the device computes it.
    fn is_composed(&self, device: Device) -> bool {
        device.is_cpu()
    }

    /// The losses of the elements; halves come in as f32.
    fn losses(&self, x: &[Tensor]) -> Result<Tensor>;

    /// The kernel, if there is one for inputs of one shape.
    fn ascend(
        &self,
        cx: &Launch,
        x: &[Dev<'_>],
        _reduction: Reduction,
        _y: &Dev<'_>,
    ) -> Result<()> {
        let dtype = x.first().map_or(DType::F32, Dev::dtype);
        Err(Error::unsupported(
            Self::NAME,
            Device::Ascend(cx.device()),
            dtype,
            "the op is composed of others",
        ))
    }

    /// CANN's kernel for the input's gradient from `dy`, if there is one.
    fn ascend_slope(
        &self,
        cx: &Launch,
        _dy: &Dev<'_>,
        _x: &[Dev<'_>],
        _reduction: Reduction,
        dx: &Dev<'_>,
    ) -> Result<()> {
        Err(Error::unsupported(
            Self::NAME,
            Device::Ascend(cx.device()),
            dx.dtype(),
            "the gradient is that of a composition",
        ))
    }
}

/// The op of a [`Formula`]: the inputs promote and broadcast.
#[derive(Debug, Clone)]
struct Elementwise<F> {
    formula: F,
    reduction: Reduction,
}

impl<F: Formula> Op for Elementwise<F> {
    fn name(&self) -> &'static str {
        F::NAME
    }

    fn infer(&self, x: &[Meta], plan: &mut Plan) -> Result<()> {
        self.formula.check(x)?;
        let dtype = result_type(x, &[]);
        if !dtype.is_float() {
            return Err(Error::dtype(F::NAME, dtype, "a float dtype"));
        }
        for index in 0..x.len() {
            plan.cast(index, dtype);
        }
        plan.output(self.reduction.shape(&broadcast(F::NAME, x)?), dtype);
        Ok(())
    }

    fn ascend(&self, cx: &Launch, x: &[Dev<'_>], y: &[Dev<'_>]) -> Result<Counts> {
        if x.iter()
            .any(|own| own.shape() != x[0].shape() || own.elements() == 0)
        {
            let why = "the kernel takes inputs of one shape that are not empty";
            return Err(Error::unsupported(
                F::NAME,
                Device::Ascend(cx.device()),
                x[0].dtype(),
                why,
            ));
        }
        self.formula.ascend(cx, x, self.reduction, &y[0])?;
        Ok(Counts::EXACT)
    }

    fn compose(&self, x: &[Tensor]) -> Result<Outputs> {
        let wide: Vec<Tensor> = x
            .iter()
            .map(|x| x.to_dtype(widened(x.dtype())))
            .collect::<Result<_>>()?;
        let losses = self.formula.losses(&wide)?;
        Ok(smallvec![
            self.reduction.apply(&losses)?.to_dtype(x[0].dtype())?
        ])
    }

    fn is_composed(&self, _x: &[Meta], device: Device) -> bool {
        self.formula.is_composed(device)
    }

    fn gradient(&self) -> Gradient {
        Gradient::Compose
    }

    /// The input's on the NPU, of inputs of one shape; all else is the composition's.
    fn backward(&self, cx: &GradCx<'_>) -> Result<Grads> {
        let shape = cx.meta(0)?.shape;
        let composed = (1..cx.len())
            .any(|index| cx.needs(index) || cx.meta(index).is_ok_and(|own| own.shape != shape));
        if composed || cx.device().is_cpu() || shape.elements() == 0 {
            return Err(Error::NoGradient { op: F::NAME });
        }
        let mut inputs = vec![cx.gradient()?];
        for index in 0..cx.len() {
            inputs.push(cx.input(index)?);
        }
        let mut grads: Grads = smallvec![Some(run_one(&Slope(self.clone()), &inputs)?)];
        grads.resize(cx.len(), None);
        Ok(grads)
    }

    fn cast(&self) -> CastRule {
        CastRule::Full
    }

    fn boxed(&self) -> Box<dyn Op> {
        Box::new(self.clone())
    }
}

/// The input's gradient in one kernel; the inputs are `dy` and those of the loss.
#[derive(Debug, Clone)]
struct Slope<F>(Elementwise<F>);

impl<F: Formula> Op for Slope<F> {
    fn name(&self) -> &'static str {
        F::NAME
    }

    fn infer(&self, x: &[Meta], plan: &mut Plan) -> Result<()> {
        plan.output(x[1].shape, x[1].dtype);
        Ok(())
    }

    fn ascend(&self, cx: &Launch, x: &[Dev<'_>], y: &[Dev<'_>]) -> Result<Counts> {
        let (formula, reduction) = (&self.0.formula, self.0.reduction);
        formula.ascend_slope(cx, &x[0], &x[1..], reduction, &y[0])?;
        Ok(Counts::EXACT)
    }

    fn gradient(&self) -> Gradient {
        Gradient::Missing
    }

    fn boxed(&self) -> Box<dyn Op> {
        Box::new(self.clone())
    }
}

/// Refuses an input and a target of different shapes.
fn same_shape(op: &'static str, x: &[Meta]) -> Result<()> {
    if x[0].shape == x[1].shape {
        return Ok(());
    }
    Err(Error::shape(
        op,
        format!("an input of {} and a target of {}", x[0].shape, x[1].shape),
        "equal shapes",
    ))
}

/// Samples of an elementwise loss.
fn samples_of<F: Formula>(formula: &F, inputs: usize) -> Vec<Sample> {
    let sample = |reduction| Sample {
        op: Box::new(Elementwise {
            formula: formula.clone(),
            reduction,
        }),
        inputs: vec![SampleInput::new([3, 4], 0.1, 0.9); inputs],
        dtypes: FLOATS,
    };
    [Reduction::None, Reduction::Mean, Reduction::Sum]
        .into_iter()
        .map(sample)
        .collect()
}
