//! The form of ops with one input and one output of its shape.
//!
//! Knows their dtype rules, the road from method to kernel, and the fallback through a wider dtype. Must not know any single
//! op.

use std::fmt::Debug;

use crate::mode::{self, Modes};
use crate::ops::prelude::*;

/// Which dtypes a unary op takes, and what it gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rule {
    /// Any; integers and bools count as `f32`.
    Float,
    /// Floats only; the dtype stays.
    FloatOnly,
    /// Any but bool; the dtype stays.
    Numbers,
    /// Integers and bools; the dtype stays.
    Integers,
    /// Any; the dtype stays.
    Any,
    /// Any; the result is bool.
    Truth,
}

impl Rule {
    /// The dtype to compute in and the result's.
    pub fn apply(self, op: &'static str, dtype: DType) -> Result<(DType, DType)> {
        let refused = |want: &str| Err(Error::dtype(op, dtype, want));
        match self {
            Rule::Float => Ok((dtype.to_float(), dtype.to_float())),
            Rule::FloatOnly if !dtype.is_float() => refused("a float"),
            Rule::Numbers if dtype == DType::Bool => refused("a number"),
            Rule::Integers if dtype.is_float() => refused("an integer or bool"),
            Rule::Truth => Ok((dtype, DType::Bool)),
            _ => Ok((dtype, dtype)),
        }
    }
}

/// What a unary op says of itself.
pub(crate) trait Unary: Debug + Clone + Copy + Send + Sync + 'static {
    /// The op's name.
    const NAME: &'static str;
    /// The dtypes.
    const RULE: Rule;
    /// What `backward` reads.
    const SAVES: Saves = Saves::INPUTS;
    /// Whether there is a gradient.
    const GRADIENT: Gradient = Gradient::Backward;
    /// How autocast treats the op.
    const CAST: CastRule = CastRule::Keep;
    /// Whether CANN has a kernel for the gradient.
    const FUSED_SLOPE: bool = false;

    /// Refuses attributes outside their domain.
    fn check(&self) -> Result<()> {
        Ok(())
    }

    /// Runs on the host.
    fn cpu(&self, x: &Host<'_>, y: &mut HostMut<'_>);

    /// Queues the op's kernel on the NPU.
    fn ascend(&self, cx: &Launch, x: &Dev<'_>, _y: &Dev<'_>) -> Result<()> {
        Err(no_kernel(Self::NAME, cx.device(), x.dtype()))
    }

    /// The meaning in simpler ops; by default the op itself in a wider dtype.
    fn compose(&self, x: &Tensor) -> Result<Tensor> {
        Apply(*self).widened(x)
    }

    /// The gradient of the input from `dy`, that of the output: by default the slope at what is saved, one kernel on the NPU
    /// where CANN has one.
    fn backward(&self, cx: &GradCx<'_>, dy: &Tensor) -> Result<Tensor> {
        let saved = if Self::SAVES.output(0) {
            cx.output(0)?
        } else {
            cx.input(0)?
        };
        if Self::FUSED_SLOPE && may_fuse() && cx.device().is_ascend() {
            return run_one(&Slope(*self), &[dy, saved]);
        }
        self.slope(dy, saved)
    }

    /// `dy` times the slope at the input, or at the output if that is what `SAVES` names, in differentiable ops.
    fn slope(&self, _dy: &Tensor, _saved: &Tensor) -> Result<Tensor> {
        Err(Error::NoGradient { op: Self::NAME })
    }

    /// Queues CANN's kernel for the same.
    fn ascend_slope(&self, cx: &Launch, _dy: &Dev<'_>, x: &Dev<'_>, _dx: &Dev<'_>) -> Result<()> {
        Err(no_kernel(Self::NAME, cx.device(), x.dtype()))
    }
}

/// The gradient of a unary op as an [`Op`] of `dy` and what was saved: one kernel, or the formula.
#[derive(Debug, Clone, Copy)]
struct Slope<U>(U);

impl<U: Unary> Op for Slope<U> {
    fn name(&self) -> &'static str {
        U::NAME
    }

    fn infer(&self, x: &[Meta], plan: &mut Plan) -> Result<()> {
        plan.output(x[1].shape, x[1].dtype);
        Ok(())
    }

    fn ascend(&self, cx: &Launch, x: &[Dev<'_>], y: &[Dev<'_>]) -> Result<Counts> {
        self.0.ascend_slope(cx, &x[0], &x[1], &y[0])?;
        Ok(Counts::EXACT)
    }

    fn compose(&self, x: &[Tensor]) -> Result<Outputs> {
        Ok(smallvec![
            self.0.slope(&x[0], &x[1])?.to_dtype(x[1].dtype())?
        ])
    }

    fn gradient(&self) -> Gradient {
        Gradient::Missing
    }

    fn boxed(&self) -> Box<dyn Op> {
        Box::new(*self)
    }
}

/// A unary op as an [`Op`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Apply<U>(pub U);

impl<U: Unary> Apply<U> {
    /// Runs the op.
    pub fn run(self, x: &Tensor) -> Result<Tensor> {
        run_one(&self, &[x])
    }

    /// The op in `f32` for halves and in `i32` for small integers, cast back.
    pub fn widened(self, x: &Tensor) -> Result<Tensor> {
        let wide = wider(U::NAME, x)?;
        let (_, result) = U::RULE.apply(U::NAME, x.dtype())?;
        run_one(&self, &[&x.to_dtype(wide)?])?.to_dtype(result)
    }
}

impl<U: Unary> Op for Apply<U> {
    fn name(&self) -> &'static str {
        U::NAME
    }

    fn infer(&self, x: &[Meta], plan: &mut Plan) -> Result<()> {
        let (compute, result) = U::RULE.apply(U::NAME, x[0].dtype)?;
        self.0.check()?;
        super::plan_as(U::NAME, x, compute, result, plan)
    }

    fn alike(&self, dtype: DType) -> Option<DType> {
        let (compute, result) = U::RULE.apply(U::NAME, dtype).ok()?;
        (compute == dtype && self.0.check().is_ok()).then_some(result)
    }

    fn cpu(&self, x: &[Host<'_>], y: &mut [HostMut<'_>]) -> Result<Counts> {
        self.0.cpu(&x[0], &mut y[0]);
        Ok(Counts::EXACT)
    }

    fn ascend(&self, cx: &Launch, x: &[Dev<'_>], y: &[Dev<'_>]) -> Result<Counts> {
        self.0.ascend(cx, &x[0], &y[0])?;
        Ok(Counts::EXACT)
    }

    /// Without history: the gradient is the op's own, whoever computed the value.
    fn compose(&self, x: &[Tensor]) -> Result<Outputs> {
        let (compute, _) = U::RULE.apply(U::NAME, x[0].dtype())?;
        Ok(smallvec![mode::no_grad(|| self
            .0
            .compose(&x[0].to_dtype(compute)?))?])
    }

    fn gradient(&self) -> Gradient {
        U::GRADIENT
    }

    fn saves(&self) -> Saves {
        U::SAVES
    }

    fn backward(&self, cx: &GradCx<'_>) -> Result<Grads> {
        Ok(smallvec![Some(self.0.backward(cx, cx.gradient()?)?)])
    }

    fn cast(&self) -> CastRule {
        U::CAST
    }

    fn boxed(&self) -> Box<dyn Op> {
        Box::new(*self)
    }
}

/// The error of an op without a kernel on an NPU.
pub(crate) fn no_kernel(op: &'static str, device: u32, dtype: DType) -> Error {
    Error::unsupported(
        op,
        Device::Ascend(device),
        dtype,
        "no kernel there takes this dtype or these attributes",
    )
}

/// The wider dtype that stands in for one that a kernel lacks.
pub(crate) fn wider(op: &'static str, x: &Tensor) -> Result<DType> {
    match x.dtype() {
        DType::F16 | DType::BF16 => Ok(DType::F32),
        DType::I16 | DType::I8 | DType::U8 | DType::Bool => Ok(DType::I32),
        dtype => Err(Error::unsupported(
            op,
            x.device(),
            dtype,
            "no kernel there takes this dtype, and no wider one stands in",
        )),
    }
}

pub(crate) use crate::cpu::map::Formula;

/// A half tensor in `f32`, for gradients of several steps: they round once, when the tape casts them back.
pub(crate) fn wide(x: &Tensor) -> Result<Tensor> {
    if x.dtype().is_half() {
        x.to_dtype(DType::F32)
    } else {
        Ok(x.clone())
    }
}

/// Runs a formula over an input.
pub(crate) fn float(x: &Host<'_>, y: &mut HostMut<'_>, formula: &impl Formula) {
    with_float!(x.dtype(), T => map::formula::<T>(x, y, formula));
}

/// Whether a gradient is being computed that nobody differentiates again, so that a fused kernel may compute it.
pub(crate) fn may_fuse() -> bool {
    mode::current().has(Modes::NO_GRAD)
}

/// A sample with one input of shape `[3, 4]`.
pub(crate) fn sample(op: impl Unary, low: f64, high: f64, dtypes: &'static [DType]) -> Sample {
    Sample {
        op: Box::new(Apply(op)),
        inputs: vec![SampleInput::new([3, 4], low, high)],
        dtypes,
    }
}
