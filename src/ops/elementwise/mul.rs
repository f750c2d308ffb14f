//! `mul`: input * other.

use super::{plan_in_place, plan_promoted, second};
use crate::ops::prelude::*;

#[derive(Debug, Clone, Copy)]
struct Mul {
    other: Option<Scalar>,
    in_place: bool,
}

impl Tensor {
    /// `self * other`, elementwise with broadcasting and type promotion; for bools, logical and. Integers wrap.
    ///
    /// Shapes: any two that broadcast. Dtypes: all. PyTorch: `torch.mul`. NPU: `aclnnMul`, `aclnnMuls`.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([1i64, -2, 3]);
    /// assert_eq!(x.mul(&x)?.to_vec::<i64>()?, [1, 4, 9]);
    /// assert_eq!(x.mul(0.5)?.to_vec::<f32>()?, [0.5, -1.0, 1.5]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Broadcast` if the shapes do not fit, `Device` if the tensors are on two devices.
    pub fn mul<'a>(&self, other: impl Into<Operand<'a>>) -> Result<Tensor> {
        let other = other.into();
        let op = Mul {
            other: other.scalar(),
            in_place: false,
        };
        match other.tensor() {
            Some(other) => run_one(&op, &[self, other]),
            None => run_one(&op, &[self]),
        }
    }

    /// Multiplies this tensor by `other` in place; the dtype stays.
    ///
    /// # Errors
    /// As [`Tensor::mul`]; `Broadcast` if `other` is larger than this tensor, `Overlap` if this tensor overlaps itself.
    pub fn mul_<'a>(&mut self, other: impl Into<Operand<'a>>) -> Result<()> {
        let other = other.into();
        let op = Mul {
            other: other.scalar(),
            in_place: true,
        };
        *self = match other.tensor() {
            Some(other) => run_one(&op, &[self, other])?,
            None => run_one(&op, &[self])?,
        };
        Ok(())
    }
}

impl Op for Mul {
    fn name(&self) -> &'static str {
        if self.in_place { "mul_" } else { "mul" }
    }

    fn infer(&self, x: &[Meta], plan: &mut Plan) -> Result<()> {
        if self.in_place {
            return plan_in_place(self.name(), x, result_type(x, self.other.as_slice()), plan);
        }
        plan_promoted(self.name(), x, self.other.as_slice(), plan).map(|_| ())
    }

    fn alike(&self, dtype: DType) -> Option<DType> {
        (!self.in_place && (self.other.is_none() || dtype.is_float())).then_some(dtype)
    }

    fn cpu(&self, x: &[Host<'_>], y: &mut [HostMut<'_>]) -> Result<Counts> {
        let shape = *y[0].shape();
        with_lane!(y[0].dtype(), T => {
            let scalar = T::from_scalar(self.other.unwrap_or(Scalar::Int(1)));
            let mut room = None;
            let other = second(x, || Host::splat(&scalar, &shape), &mut room);
            map::map2::<T, T, T>(&x[0], other, &mut y[0], |x, other| x.times(other));
        });
        Ok(Counts::EXACT)
    }

    fn ascend(&self, cx: &Launch, x: &[Dev<'_>], y: &[Dev<'_>]) -> Result<Counts> {
        match self.other {
            None => aclnn::mul(cx, &x[0], &x[1], &y[0])?,
            Some(other) => aclnn::muls(cx, &x[0], AclScalar::of(other, y[0].dtype()), &y[0])?,
        }
        Ok(Counts::EXACT)
    }

    fn gradient(&self) -> Gradient {
        Gradient::Backward
    }

    fn backward(&self, cx: &GradCx<'_>) -> Result<Grads> {
        let dy = cx.gradient()?;
        match self.other {
            Some(other) => Ok(smallvec![cx.want(0, || dy.mul(other))?]),
            None => Ok(smallvec![
                cx.want(0, || dy.mul(cx.input(1)?))?,
                cx.want(1, || dy.mul(cx.input(0)?))?
            ]),
        }
    }

    fn saves(&self) -> Saves {
        if self.other.is_some() {
            Saves::NOTHING
        } else {
            Saves::INPUTS
        }
    }

    fn writes(&self) -> Writes {
        if self.in_place {
            Writes::FIRST
        } else {
            Writes::NOTHING
        }
    }

    fn cast(&self) -> CastRule {
        CastRule::Widest
    }

    fn boxed(&self) -> Box<dyn Op> {
        Box::new(*self)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "mul",
    family: "elementwise",
    kernels: &["aclnnMul", "aclnnMuls"],
    samples,
};

fn samples() -> Vec<Sample> {
    let mul = |other| {
        Box::new(Mul {
            other,
            in_place: false,
        })
    };
    let pair = vec![
        SampleInput::new([3, 1], -2.0, 2.0),
        SampleInput::new([3, 4], -2.0, 2.0),
    ];
    vec![
        Sample {
            op: mul(None),
            inputs: pair,
            dtypes: DType::ALL,
        },
        Sample {
            op: mul(Some(2i64.into())),
            inputs: vec![SampleInput::new([2, 5], -2.0, 2.0)],
            dtypes: NUMBERS,
        },
    ]
}
