//! `norm`: the p-norm of elements over dims.

use super::ReduceOptions;
use crate::cpu::lane::Lane;
use crate::cpu::reduce::{Fold, fold};
use crate::ops::prelude::*;

/// The dims of [`Tensor::norm`], whether they stay with size 1, and the power.
///
/// Made from dims alone (`()` for all, a number, an array) for the 2-norm, or built up.
#[derive(Debug, Clone)]
#[must_use]
pub struct NormOptions {
    reduce: ReduceOptions,
    power: f64,
}

impl Default for NormOptions {
    fn default() -> Self {
        NormOptions {
            reduce: ReduceOptions::new(),
            power: 2.0,
        }
    }
}

impl NormOptions {
    /// The 2-norm over all dims.
    pub fn new() -> Self {
        NormOptions::default()
    }

    /// The dims to reduce; none means all.
    pub fn dim(mut self, dim: impl Into<Axes>) -> Self {
        self.reduce = self.reduce.dim(dim);
        self
    }

    /// Keeps the reduced dims with size 1.
    pub fn keepdim(mut self) -> Self {
        self.reduce = self.reduce.keepdim();
        self
    }

    /// The power: any number; infinity gives the largest absolute value, minus infinity the smallest, 0 counts non-zeros.
    pub fn power(mut self, power: f64) -> Self {
        self.power = power;
        self
    }
}

impl<T: Into<Axes>> From<T> for NormOptions {
    fn from(dim: T) -> Self {
        NormOptions::new().dim(dim)
    }
}

#[derive(Debug, Clone)]
struct Norm {
    options: NormOptions,
}

impl Tensor {
    /// `(sum |x|^p)^(1/p)` over dims; halves compute wider. The gradient of the 2-norm at 0 is 0.
    ///
    /// Shapes: the reduced dims go, or stay with size 1 (`keepdim`). Dtypes: floats. PyTorch: `torch.linalg.vector_norm`.
    /// NPU: `aclnnLinalgVectorNorm`.
    ///
    /// ```
    /// use ascend_tensor::{Tensor, ops::reduce::NormOptions};
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([3.0f32, -4.0]);
    /// assert_eq!(x.norm(())?.item::<f32>()?, 5.0);
    /// assert_eq!(x.norm(NormOptions::new().power(f64::INFINITY))?.item::<f32>()?, 4.0);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `DType` for integers and bools, `Axis` for a dim out of range, `Option` for one given twice, `Index` or `Option` for an
    /// infinite or negative power of nothing.
    pub fn norm(&self, options: impl Into<NormOptions>) -> Result<Tensor> {
        run_one(
            &Norm {
                options: options.into(),
            },
            &[self],
        )
    }
}

/// Folds powers of absolute values.
struct Powers<T> {
    power: f64,
    lane: std::marker::PhantomData<fn(T)>,
}

impl<T: Lane> Fold for Powers<T> {
    type In = T;
    type State = f64;
    type Out = T;

    fn start(&self) -> f64 {
        if self.power == f64::NEG_INFINITY {
            f64::INFINITY
        } else {
            0.0
        }
    }

    #[inline(always)]
    fn step(&self, state: f64, x: T) -> f64 {
        let x = x.to_f64().abs();
        let term = match self.power {
            2.0 => x * x,
            1.0 => x,
            0.0 => f64::from(u8::from(x != 0.0)),
            power if power.is_infinite() => x,
            power => x.powf(power),
        };
        self.join(state, term)
    }

    #[inline(always)]
    fn join(&self, first: f64, second: f64) -> f64 {
        if self.power == f64::INFINITY {
            Number::larger(first, second)
        } else if self.power == f64::NEG_INFINITY {
            Number::smaller(first, second)
        } else {
            first + second
        }
    }

    fn finish(&self, state: f64, _count: usize) -> T {
        T::from_f64(match self.power {
            2.0 => state.sqrt(),
            power if power == 0.0 || power == 1.0 || power.is_infinite() => state,
            power => state.powf(1.0 / power),
        })
    }
}

impl Op for Norm {
    fn name(&self) -> &'static str {
        "norm"
    }

    fn infer(&self, x: &[Meta], plan: &mut Plan) -> Result<()> {
        if !x[0].dtype.is_float() {
            return Err(Error::dtype("norm", x[0].dtype, "a float dtype"));
        }
        if self.options.power.is_infinite() || self.options.power < 0.0 {
            self.options.reduce.demand_elements("norm", &x[0].shape)?;
        }
        plan.output(self.options.reduce.result("norm", &x[0].shape)?, x[0].dtype);
        Ok(())
    }

    fn cpu(&self, x: &[Host<'_>], y: &mut [HostMut<'_>]) -> Result<Counts> {
        let mask = self.options.reduce.mask("norm", x[0].shape())?;
        let power = self.options.power;
        with_float!(x[0].dtype(), T => fold(&Powers::<T> { power, lane: std::marker::PhantomData }, &x[0], &mask, &mut y[0]));
        Ok(Counts::EXACT)
    }

    fn ascend(&self, cx: &Launch, x: &[Dev<'_>], y: &[Dev<'_>]) -> Result<Counts> {
        let power = self.options.power;
        if x[0].elements() == 0
            || ![0.0, 1.0, 2.0, f64::INFINITY, f64::NEG_INFINITY].contains(&power)
        {
            let why = "the kernel is used for the powers 0, 1, 2 and infinities of tensors that are not empty";
            return Err(Error::unsupported(
                "norm",
                Device::Ascend(cx.device()),
                x[0].dtype(),
                why,
            ));
        }
        let dims = self.options.reduce.dims("norm", x[0].shape())?;
        let power = AclScalar::of(Scalar::Float(power), DType::F32);
        aclnn::linalg_vector_norm(
            cx,
            &x[0],
            power,
            Some(&dims),
            self.options.reduce.keep,
            y[0].dtype(),
            &y[0],
        )?;
        Ok(Counts::EXACT)
    }

    fn compose(&self, x: &[Tensor]) -> Result<Outputs> {
        let (power, reduce) = (self.options.power, self.options.reduce.clone());
        // The tape records this op, not its parts: its gradient at 0 is not theirs.
        let size = x[0]
            .detach()
            .to_dtype(super::widened(x[0].dtype()))?
            .abs()?;
        let norm = match power {
            f64::INFINITY => size.amax(reduce)?,
            f64::NEG_INFINITY => size.amin(reduce)?,
            0.0 => size.ne(0i64)?.to_dtype(size.dtype())?.sum(reduce)?,
            1.0 => size.sum(reduce)?,
            2.0 => size.square()?.sum(reduce)?.sqrt()?,
            power => size.pow(power)?.sum(reduce)?.pow(1.0 / power)?,
        };
        Ok(smallvec![norm.to_dtype(x[0].dtype())?])
    }

    fn gradient(&self) -> Gradient {
        Gradient::Backward
    }

    fn saves(&self) -> Saves {
        Saves::INPUTS.and_output(0)
    }

    /// `dx = dy sign(x) |x|^(p-1) / y^(p-1)`, 0 where that divides by 0; at infinity, ties share it.
    fn backward(&self, cx: &GradCx<'_>) -> Result<Grads> {
        let (x, power) = (cx.input(0)?, self.options.power);
        let kept = self.options.reduce.kept("norm", x.shape())?;
        let (dy, y) = (cx.gradient()?.reshape(kept)?, cx.output(0)?.reshape(kept)?);
        let without_zero = |scale: Tensor| y.eq(0i64)?.where_cond(0.0, &scale);
        let dx = match power {
            0.0 => x.zeros_like()?,
            1.0 => dy.mul(&x.sign()?)?,
            2.0 => x.mul(&without_zero(dy.div(&y)?)?)?,
            power if power.is_infinite() => {
                let ties = x.detach().abs()?.eq(&y.detach())?.to_dtype(x.dtype())?;
                let count = ties.sum(self.options.reduce.keeping())?;
                x.sign()?.mul(&ties)?.mul(&dy.div(&count)?)?
            }
            power => {
                let steep = x.sign()?.mul(&x.abs()?.pow(power - 1.0)?)?;
                let steep = if power < 1.0 {
                    x.eq(0i64)?.where_cond(0.0, &steep)?
                } else {
                    steep
                };
                steep.mul(&without_zero(dy.div(&y.pow(power - 1.0)?)?)?)?
            }
        };
        Ok(smallvec![Some(dx)])
    }

    fn cast(&self) -> CastRule {
        CastRule::Full
    }

    fn boxed(&self) -> Box<dyn Op> {
        Box::new(self.clone())
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "norm",
    family: "reduce",
    kernels: &["aclnnLinalgVectorNorm"],
    samples,
};

fn samples() -> Vec<Sample> {
    let norm = |options| Sample {
        op: Box::new(Norm { options }),
        inputs: vec![SampleInput::new([2, 3, 4], -2.0, 2.0)],
        dtypes: FLOATS,
    };
    let powers = [0.0, 1.0, 2.0, 3.0, f64::INFINITY, f64::NEG_INFINITY];
    powers
        .into_iter()
        .map(|power| norm(NormOptions::new().dim([0, 2]).keepdim().power(power)))
        .chain([norm(().into())])
        .collect()
}
