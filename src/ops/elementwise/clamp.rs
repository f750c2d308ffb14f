//! `clamp`: elements held between bounds.

use crate::ops::prelude::*;

/// The bounds of [`Tensor::clamp`]: numbers or tensors, one may be missing. Ranges of numbers convert.
#[derive(Debug, Clone, Copy, Default)]
#[must_use]
pub struct ClampOptions<'a> {
    min: Option<Operand<'a>>,
    max: Option<Operand<'a>>,
}

impl<'a> ClampOptions<'a> {
    /// No bounds yet; at least one is needed.
    pub fn new() -> Self {
        ClampOptions::default()
    }

    /// The lower bound.
    pub fn min(mut self, min: impl Into<Operand<'a>>) -> Self {
        self.min = Some(min.into());
        self
    }

    /// The upper bound.
    pub fn max(mut self, max: impl Into<Operand<'a>>) -> Self {
        self.max = Some(max.into());
        self
    }
}

impl<'a, T: Into<Scalar>> From<std::ops::RangeInclusive<T>> for ClampOptions<'a> {
    fn from(range: std::ops::RangeInclusive<T>) -> Self {
        let (min, max) = range.into_inner();
        ClampOptions {
            min: Some(Operand::Scalar(min.into())),
            max: Some(Operand::Scalar(max.into())),
        }
    }
}

impl<'a, T: Into<Scalar>> From<std::ops::RangeFrom<T>> for ClampOptions<'a> {
    fn from(range: std::ops::RangeFrom<T>) -> Self {
        ClampOptions {
            min: Some(Operand::Scalar(range.start.into())),
            max: None,
        }
    }
}

impl<'a, T: Into<Scalar>> From<std::ops::RangeToInclusive<T>> for ClampOptions<'a> {
    fn from(range: std::ops::RangeToInclusive<T>) -> Self {
        ClampOptions {
            min: None,
            max: Some(Operand::Scalar(range.end.into())),
        }
    }
}

/// A bound: a number, or the input at that position.
#[derive(Debug, Clone, Copy)]
enum Bound {
    Scalar(Scalar),
    Input(usize),
}

#[derive(Debug, Clone, Copy)]
struct Clamp {
    min: Option<Bound>,
    max: Option<Bound>,
}

impl Tensor {
    /// `min(max(x, low), high)`: the upper bound wins if the bounds cross; NaN stays.
    ///
    /// Shapes: tensor and bounds broadcast. Dtypes: all but bool. PyTorch: `torch.clamp`. NPU: `aclnnClamp`, `aclnnClampMin`,
    /// `aclnnClampMax`, `aclnnClampTensor`, `aclnnClampMinTensor`, `aclnnClampMaxTensor`.
    ///
    /// ```
    /// use ascend_tensor::{Tensor, ops::elementwise::ClampOptions};
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([-3.0f32, 0.5, 3.0]);
    /// assert_eq!(x.clamp(0.0..=1.0)?.to_vec::<f32>()?, [0.0, 0.5, 1.0]);
    /// assert_eq!(x.clamp(ClampOptions::new().min(0i64))?.to_vec::<f32>()?, [0.0, 0.5, 3.0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Option` without a bound, `DType` for bools, `Broadcast` if the shapes do not fit, `Device` if the tensors are on two
    /// devices.
    pub fn clamp<'a>(&self, options: impl Into<ClampOptions<'a>>) -> Result<Tensor> {
        let options = options.into();
        let mut inputs: smallvec::SmallVec<[&Tensor; 3]> = smallvec![self];
        let mut bound = |operand: Option<Operand<'a>>| match operand? {
            Operand::Scalar(value) => Some(Bound::Scalar(value)),
            Operand::Tensor(tensor) => {
                inputs.push(tensor);
                Some(Bound::Input(inputs.len() - 1))
            }
        };
        let op = Clamp {
            min: bound(options.min),
            max: bound(options.max),
        };
        run_one(&op, &inputs)
    }
}

impl Clamp {
    fn scalars(&self) -> smallvec::SmallVec<[Scalar; 2]> {
        let scalar = |bound: Bound| match bound {
            Bound::Scalar(value) => Some(value),
            Bound::Input(_) => None,
        };
        self.min
            .into_iter()
            .chain(self.max)
            .filter_map(scalar)
            .collect()
    }

    fn operand<'a>(bound: Option<Bound>, cx: &'a GradCx<'_>) -> Result<Option<Operand<'a>>> {
        match bound {
            None => Ok(None),
            Some(Bound::Scalar(value)) => Ok(Some(Operand::Scalar(value))),
            Some(Bound::Input(index)) => {
                cx.input(index).map(|tensor| Some(Operand::Tensor(tensor)))
            }
        }
    }

    /// A bound on the host: the input, the number, or (if there is none) a number that bounds nothing.
    fn host<'a, T: crate::cpu::lane::Lane>(
        bound: Option<Bound>,
        value: &'a T,
        x: &[Host<'a>],
        shape: &Shape,
    ) -> Host<'a> {
        match bound {
            Some(Bound::Input(index)) if index < x.len() => x[index].broadcast(shape),
            _ => Host::splat(value, shape),
        }
    }
}

impl Op for Clamp {
    fn name(&self) -> &'static str {
        "clamp"
    }

    fn infer(&self, x: &[Meta], plan: &mut Plan) -> Result<()> {
        if self.min.is_none() && self.max.is_none() {
            return Err(Error::option(
                "clamp",
                "min, max",
                "got neither, wanted at least one bound",
            ));
        }
        let dtype = super::plan_promoted("clamp", x, &self.scalars(), plan)?;
        if dtype == DType::Bool {
            return Err(Error::dtype("clamp", dtype, "numbers"));
        }
        Ok(())
    }

    fn cpu(&self, x: &[Host<'_>], y: &mut [HostMut<'_>]) -> Result<Counts> {
        let shape = *y[0].shape();
        with_lane!(y[0].dtype(), T => {
            let number = |bound: Option<Bound>, none: T| match bound {
                Some(Bound::Scalar(value)) => T::from_scalar(value),
                _ => none,
            };
            let (low, high) = (number(self.min, T::LOWEST), number(self.max, T::HIGHEST));
            let input = x[0].broadcast(&shape);
            let scalars = x.len() == 1;
            if scalars {
                map::map1::<T, T>(&input, &mut y[0], |x| x.larger(low).smaller(high));
            } else {
                let (low, high) = (Self::host(self.min, &low, x, &shape), Self::host(self.max, &high, x, &shape));
                map::map3::<T, T, T, T>(&input, &low, &high, &mut y[0], |x, low, high| x.larger(low).smaller(high));
            }
        });
        Ok(Counts::EXACT)
    }

    fn ascend(&self, cx: &Launch, x: &[Dev<'_>], y: &[Dev<'_>]) -> Result<Counts> {
        let number = |value: Scalar| AclScalar::of(value, y[0].dtype());
        match (self.min, self.max) {
            (Some(Bound::Scalar(min)), None) => aclnn::clamp_min(cx, &x[0], number(min), &y[0])?,
            (None, Some(Bound::Scalar(max))) => aclnn::clamp_max(cx, &x[0], number(max), &y[0])?,
            (Some(Bound::Input(min)), None) => aclnn::clamp_min_tensor(cx, &x[0], &x[min], &y[0])?,
            (None, Some(Bound::Input(max))) => aclnn::clamp_max_tensor(cx, &x[0], &x[max], &y[0])?,
            (Some(Bound::Scalar(min)), Some(Bound::Scalar(max))) => {
                aclnn::clamp(cx, &x[0], Some(number(min)), Some(number(max)), &y[0])?
            }
            (Some(Bound::Input(min)), Some(Bound::Input(max))) => {
                aclnn::clamp_tensor(cx, &x[0], &x[min], &x[max], &y[0])?
            }
            _ => return Err(super::unary::no_kernel("clamp", cx.device(), y[0].dtype())),
        }
        Ok(Counts::EXACT)
    }

    /// Without history: the gradient is the op's own.
    fn compose(&self, x: &[Tensor]) -> Result<Outputs> {
        let tensor = |bound: Bound| match bound {
            Bound::Scalar(value) => Tensor::full_of((), value, x[0].dtype(), x[0].device()),
            Bound::Input(index) => Ok(x[index].clone()),
        };
        let clamped = crate::mode::no_grad(|| {
            let raised = self
                .min
                .map_or_else(|| Ok(x[0].clone()), |min| x[0].maximum(&tensor(min)?))?;
            self.max
                .map_or_else(|| Ok(raised.clone()), |max| raised.minimum(&tensor(max)?))
        });
        Ok(smallvec![clamped?])
    }

    fn gradient(&self) -> Gradient {
        Gradient::Backward
    }

    /// The input's where it lies between the bounds; a bound's where it took the input's place.
    fn backward(&self, cx: &GradCx<'_>) -> Result<Grads> {
        let (dy, x) = (cx.gradient()?, cx.input(0)?);
        let (min, max) = (Self::operand(self.min, cx)?, Self::operand(self.max, cx)?);
        let inside = || match (min, max) {
            (Some(min), Some(max)) => x.ge(min)?.logical_and(&x.le(max)?),
            (Some(min), None) => x.ge(min),
            (None, Some(max)) => x.le(max),
            (None, None) => x.eq(x),
        };
        let mut grads: Grads = smallvec![cx.want(0, || inside()?.where_cond(dy, 0i64))?];
        if let (Some(Bound::Input(index)), Some(min)) = (self.min, min) {
            let took = || match (min, max) {
                (Operand::Tensor(low), Some(max)) => x.lt(min)?.logical_and(&low.lt(max)?),
                _ => x.lt(min),
            };
            grads.push(cx.want(index, || took()?.where_cond(dy, 0i64))?);
        }
        if let (Some(Bound::Input(index)), Some(max)) = (self.max, max) {
            let took = || match (max, min) {
                (Operand::Tensor(high), Some(min)) => x.gt(max)?.logical_or(&high.lt(min)?),
                _ => x.gt(max),
            };
            grads.push(cx.want(index, || took()?.where_cond(dy, 0i64))?);
        }
        Ok(grads)
    }

    fn cast(&self) -> CastRule {
        CastRule::Widest
    }

    fn boxed(&self) -> Box<dyn Op> {
        Box::new(*self)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "clamp",
    family: "elementwise",
    kernels: &[
        "aclnnClamp",
        "aclnnClampMin",
        "aclnnClampMax",
        "aclnnClampTensor",
        "aclnnClampMinTensor",
        "aclnnClampMaxTensor",
    ],
    samples,
};

fn samples() -> Vec<Sample> {
    let number = |value: i64| Some(Bound::Scalar(Scalar::Int(value)));
    let of = |min, max, count: usize| Sample {
        op: Box::new(Clamp { min, max }),
        inputs: (0..count)
            .map(|_| SampleInput::new([3, 4], 0.0, 9.0))
            .collect(),
        dtypes: NUMBERS,
    };
    vec![
        of(number(2), number(5), 1),
        of(number(2), None, 1),
        of(None, number(5), 1),
        of(Some(Bound::Input(1)), Some(Bound::Input(2)), 3),
        of(None, Some(Bound::Input(1)), 2),
    ]
}
