//! `clip_grad_norm`: gradients scaled down together to a largest norm.

use crate::cpu::lane::Lane;
use crate::cpu::reduce::{Fold, fold};
use crate::ops::prelude::*;

/// Settings of [`Tensor::clip_grad_norm`]. Made from the largest norm, for the 2-norm.
#[derive(Debug, Clone, Copy, PartialEq)]
#[must_use]
pub struct ClipOptions {
    max_norm: f64,
    norm_type: f64,
}

impl ClipOptions {
    /// The 2-norm, at most this.
    pub fn new(max_norm: f64) -> Self {
        ClipOptions {
            max_norm,
            norm_type: 2.0,
        }
    }

    /// The norm's exponent; `f64::INFINITY` for the largest absolute value.
    pub fn norm_type(mut self, norm_type: f64) -> Self {
        self.norm_type = norm_type;
        self
    }
}

impl From<f64> for ClipOptions {
    fn from(max_norm: f64) -> Self {
        ClipOptions::new(max_norm)
    }
}

/// The norm of all elements of all inputs.
#[derive(Debug, Clone, Copy)]
struct TotalNorm {
    norm_type: f64,
}

impl Tensor {
    /// The norm of all gradients taken as one vector, and the gradients times `min(1, max_norm / (norm + 1e-6))`.
    ///
    /// Shapes: any. Dtypes: floats. PyTorch: `torch.nn.utils.clip_grad_norm_`. NPU: elementwise kernels and reductions.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let (x, y) = (Tensor::new([3.0f32]), Tensor::new([4.0f32]));
    /// let (norm, clipped) = Tensor::clip_grad_norm(&[&x, &y], 1.0)?;
    /// assert_eq!(norm.item::<f32>()?, 5.0);
    /// assert!((clipped[0].item::<f32>()? - 0.6).abs() < 1e-6);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `DType` for gradients that are no floats, `Option` for a norm type that is not above 0.
    pub fn clip_grad_norm(
        gradients: &[&Tensor],
        options: impl Into<ClipOptions>,
    ) -> Result<(Tensor, Vec<Tensor>)> {
        let ClipOptions {
            max_norm,
            norm_type,
        } = options.into();
        let total = run_one(&TotalNorm { norm_type }, gradients)?;
        let one = Tensor::ones((), total.dtype(), total.device())?;
        let factor = total
            .add(1e-6)?
            .reciprocal()?
            .mul(max_norm)?
            .minimum(&one)?;
        let clipped = gradients
            .iter()
            .map(|gradient| gradient.mul(&factor)?.to_dtype(gradient.dtype()))
            .collect::<Result<_>>()?;
        Ok((total, clipped))
    }
}

/// The sum of powers, or the largest absolute value.
struct Powers<T> {
    norm_type: f64,
    lane: std::marker::PhantomData<fn(T)>,
}

impl<T: Lane> Fold for Powers<T> {
    type In = T;
    type State = f64;
    type Out = f64;

    fn start(&self) -> f64 {
        0.0
    }

    #[inline(always)]
    fn step(&self, state: f64, x: T) -> f64 {
        let x = x.to_f64().abs();
        if self.norm_type == 2.0 {
            state + x * x
        } else if self.norm_type == f64::INFINITY {
            state.larger(x)
        } else {
            state + x.powf(self.norm_type)
        }
    }

    #[inline(always)]
    fn join(&self, first: f64, second: f64) -> f64 {
        if self.norm_type == f64::INFINITY {
            first.larger(second)
        } else {
            first + second
        }
    }

    fn finish(&self, state: f64, _count: usize) -> f64 {
        state
    }
}

impl Op for TotalNorm {
    fn name(&self) -> &'static str {
        "clip_grad_norm"
    }

    fn infer(&self, x: &[Meta], plan: &mut Plan) -> Result<()> {
        if let Some(other) = x.iter().find(|x| !x.dtype.is_float()) {
            return Err(Error::dtype(self.name(), other.dtype, "floats"));
        }
        if self.norm_type.is_nan() || self.norm_type <= 0.0 {
            return Err(Error::option(
                self.name(),
                "norm_type",
                format!("got {}, wanted one above 0", self.norm_type),
            ));
        }
        plan.output(
            Shape::SCALAR,
            x.iter()
                .map(|x| x.dtype)
                .reduce(DType::promote)
                .unwrap_or(DType::F32),
        );
        Ok(())
    }

    fn cpu(&self, x: &[Host<'_>], y: &mut [HostMut<'_>]) -> Result<Counts> {
        let mut total = 0.0;
        for x in x {
            let mut part = [0.0f64];
            let Some(mut out) = HostMut::from_slice(&mut part, &Shape::SCALAR) else {
                continue;
            };
            with_float!(x.dtype(), T => {
                let powers = Powers::<T> { norm_type: self.norm_type, lane: std::marker::PhantomData };
                fold(&powers, x, &[true; crate::shape::MAX_RANK], &mut out);
            });
            total = if self.norm_type == f64::INFINITY {
                Number::larger(total, part[0])
            } else {
                total + part[0]
            };
        }
        let norm = match self.norm_type {
            2.0 => total.sqrt(),
            f64::INFINITY => total,
            power => total.powf(1.0 / power),
        };
        with_float!(y[0].dtype(), T => map::fill(&mut y[0], T::from_f64(norm)));
        Ok(Counts::EXACT)
    }

    fn compose(&self, x: &[Tensor]) -> Result<Outputs> {
        let dtype = x
            .iter()
            .map(Tensor::dtype)
            .reduce(DType::promote)
            .unwrap_or(DType::F32);
        let device = x.first().map_or(Device::Cpu, Tensor::device);
        let mut total = Tensor::zeros((), dtype.compute(), device)?;
        for x in x.iter().filter(|x| x.elements() > 0) {
            let x = x.to_dtype(dtype.compute())?;
            total = match self.norm_type {
                f64::INFINITY => total.maximum(&x.abs()?.amax(())?)?,
                2.0 => total.add(&x.mul(&x)?.sum(())?)?,
                power => total.add(&x.abs()?.pow(power)?.sum(())?)?,
            };
        }
        let norm = match self.norm_type {
            f64::INFINITY => total,
            2.0 => total.sqrt()?,
            power => total.pow(1.0 / power)?,
        };
        Ok(smallvec![norm.to_dtype(dtype)?])
    }

    fn gradient(&self) -> Gradient {
        Gradient::Compose
    }

    fn boxed(&self) -> Box<dyn Op> {
        Box::new(*self)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "clip_grad_norm",
    family: "update",
    kernels: &["aclnnReduceSum"],
    samples,
};

fn samples() -> Vec<Sample> {
    let inputs = || {
        vec![
            SampleInput::new([3, 4], 0.5, 2.0),
            SampleInput::new([5], 0.5, 2.0),
        ]
    };
    let one = |norm_type| Sample {
        op: Box::new(TotalNorm { norm_type }),
        inputs: inputs(),
        dtypes: FLOATS,
    };
    vec![one(2.0), one(3.0)]
}
