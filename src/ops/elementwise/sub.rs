//! `sub`: input - alpha * other.

use super::{plan_promoted, second};
use crate::ops::prelude::*;

/// Settings of [`Tensor::sub_with`].
#[derive(Debug, Clone, Copy)]
#[must_use]
pub struct SubOptions {
    alpha: Scalar,
}

impl Default for SubOptions {
    fn default() -> Self {
        SubOptions {
            alpha: Scalar::Int(1),
        }
    }
}

impl SubOptions {
    /// `alpha` is 1.
    pub fn new() -> Self {
        SubOptions::default()
    }

    /// The factor of the other operand.
    pub fn alpha(mut self, alpha: impl Into<Scalar>) -> Self {
        self.alpha = alpha.into();
        self
    }
}

#[derive(Debug, Clone, Copy)]
struct Sub {
    other: Option<Scalar>,
    alpha: Scalar,
}

impl Tensor {
    /// `self - other`, elementwise with broadcasting and type promotion. Integers wrap.
    ///
    /// Shapes: any two that broadcast. Dtypes: all but bool. PyTorch: `torch.sub`. NPU: `aclnnSub`, `aclnnSubs`.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([[1.0f32, 2.0], [3.0, 4.0]]);
    /// let row = Tensor::new([10.0f32, 20.0]);
    /// assert_eq!(row.sub(&x)?.to_vec::<f32>()?, [9.0, 18.0, 7.0, 16.0]);
    /// assert_eq!(x.sub(0.5)?.to_vec::<f32>()?, [0.5, 1.5, 2.5, 3.5]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Broadcast` if the shapes do not fit, `DType` for bools, `Device` if the tensors are on two devices.
    pub fn sub<'a>(&self, other: impl Into<Operand<'a>>) -> Result<Tensor> {
        self.sub_with(other, SubOptions::new())
    }

    /// `self - alpha * other`.
    ///
    /// # Errors
    /// As [`Tensor::sub`], and `DType` for a float `alpha` where the result is an integer.
    pub fn sub_with<'a>(
        &self,
        other: impl Into<Operand<'a>>,
        options: SubOptions,
    ) -> Result<Tensor> {
        let other = other.into();
        let op = Sub {
            other: other.scalar(),
            alpha: options.alpha,
        };
        match other.tensor() {
            Some(other) => run_one(&op, &[self, other]),
            None => run_one(&op, &[self]),
        }
    }
}

impl Op for Sub {
    fn name(&self) -> &'static str {
        "sub"
    }

    fn infer(&self, x: &[Meta], plan: &mut Plan) -> Result<()> {
        let scalar_is_bool = self.other.is_some_and(|other| other.dtype() == DType::Bool);
        if scalar_is_bool || x.iter().any(|x| x.dtype == DType::Bool) {
            return Err(Error::dtype(
                "sub",
                DType::Bool,
                "numbers (logical_xor and logical_not are for bools)",
            ));
        }
        let dtype = plan_promoted("sub", x, self.other.as_slice(), plan)?;
        if self.alpha.dtype().is_float() && !dtype.is_float() {
            return Err(Error::dtype(
                "sub",
                format!("a float alpha for a result of {dtype}"),
                "an integer alpha",
            ));
        }
        Ok(())
    }

    fn alike(&self, dtype: DType) -> Option<DType> {
        let scalar = self.other.map(Scalar::dtype);
        let fits = dtype != DType::Bool && self.alpha.is_one() && scalar != Some(DType::Bool);
        (fits && (scalar.is_none() || dtype.is_float())).then_some(dtype)
    }

    fn cpu(&self, x: &[Host<'_>], y: &mut [HostMut<'_>]) -> Result<Counts> {
        let shape = *y[0].shape();
        with_lane!(y[0].dtype(), T => {
            let (scalar, alpha) = (T::from_scalar(self.other.unwrap_or(Scalar::Int(0))), T::from_scalar(self.alpha));
            let mut room = None;
            let other = second(x, || Host::splat(&scalar, &shape), &mut room);
            if self.alpha.is_one() {
                map::map2::<T, T, T>(&x[0], other, &mut y[0], |x, other| x.minus(other));
            } else {
                map::map2::<T, T, T>(&x[0], other, &mut y[0], |x, other| x.minus(alpha.times(other)));
            }
        });
        Ok(Counts::EXACT)
    }

    fn ascend(&self, cx: &Launch, x: &[Dev<'_>], y: &[Dev<'_>]) -> Result<Counts> {
        let alpha = AclScalar::of(self.alpha, y[0].dtype());
        match self.other {
            None => aclnn::sub(cx, &x[0], &x[1], alpha, &y[0])?,
            Some(other) => {
                aclnn::subs(cx, &x[0], AclScalar::of(other, y[0].dtype()), alpha, &y[0])?
            }
        }
        Ok(Counts::EXACT)
    }

    fn gradient(&self) -> Gradient {
        Gradient::Backward
    }

    fn saves(&self) -> Saves {
        Saves::NOTHING
    }

    fn backward(&self, cx: &GradCx<'_>) -> Result<Grads> {
        let dy = cx.gradient()?;
        Ok(smallvec![
            cx.want(0, || Ok(dy.clone()))?,
            cx.want(1, || match self.alpha.is_one() {
                true => dy.neg(),
                false => dy.neg()?.mul(self.alpha),
            })?
        ])
    }

    fn cast(&self) -> CastRule {
        CastRule::Widest
    }

    fn boxed(&self) -> Box<dyn Op> {
        Box::new(*self)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "sub",
    family: "elementwise",
    kernels: &["aclnnSub", "aclnnSubs"],
    samples,
};

fn samples() -> Vec<Sample> {
    let sub = |other, alpha: Scalar| Box::new(Sub { other, alpha });
    let pair = || {
        vec![
            SampleInput::new([3, 4], -2.0, 2.0),
            SampleInput::new([4], -2.0, 2.0),
        ]
    };
    vec![
        Sample {
            op: sub(None, 1i64.into()),
            inputs: pair(),
            dtypes: NUMBERS,
        },
        Sample {
            op: sub(None, 2i64.into()),
            inputs: pair(),
            dtypes: NUMBERS,
        },
        Sample {
            op: sub(Some(3i64.into()), 1i64.into()),
            inputs: vec![SampleInput::new([2, 5], -2.0, 2.0)],
            dtypes: NUMBERS,
        },
    ]
}
