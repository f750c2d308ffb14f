//! `add`: input + alpha * other.

use super::{plan_promoted, second};
use crate::cpu::sweep::sweep;
use crate::ops::prelude::*;

/// Settings of [`Tensor::add_with`].
#[derive(Debug, Clone, Copy)]
#[must_use]
pub struct AddOptions {
    alpha: Scalar,
}

impl Default for AddOptions {
    fn default() -> Self {
        AddOptions {
            alpha: Scalar::Int(1),
        }
    }
}

impl AddOptions {
    /// `alpha` is 1.
    pub fn new() -> Self {
        AddOptions::default()
    }

    /// The factor of the other operand.
    pub fn alpha(mut self, alpha: impl Into<Scalar>) -> Self {
        self.alpha = alpha.into();
        self
    }
}

#[derive(Debug, Clone, Copy)]
struct Add {
    other: Option<Scalar>,
    alpha: Scalar,
    in_place: bool,
}

impl Tensor {
    /// `self + other`, elementwise with broadcasting and type promotion; for bools, logical or.
    ///
    /// Shapes: any two that broadcast. Dtypes: all. PyTorch: `torch.add`. NPU: `aclnnAdd`, `aclnnAdds`.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([[1.0f32, 2.0], [3.0, 4.0]]);
    /// let row = Tensor::new([10.0f32, 20.0]);
    /// assert_eq!(x.add(&row)?.to_vec::<f32>()?, [11.0, 22.0, 13.0, 24.0]);
    /// assert_eq!(x.add(0.5)?.to_vec::<f32>()?, [1.5, 2.5, 3.5, 4.5]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Broadcast` if the shapes do not fit, `Device` if the tensors are on two devices.
    pub fn add<'a>(&self, other: impl Into<Operand<'a>>) -> Result<Tensor> {
        self.add_with(other, AddOptions::new())
    }

    /// `self + alpha * other`.
    ///
    /// # Errors
    /// As [`Tensor::add`], and `DType` for a float `alpha` where the result is an integer.
    pub fn add_with<'a>(
        &self,
        other: impl Into<Operand<'a>>,
        options: AddOptions,
    ) -> Result<Tensor> {
        let other = other.into();
        let op = Add {
            other: other.scalar(),
            alpha: options.alpha,
            in_place: false,
        };
        match other.tensor() {
            Some(other) => run_one(&op, &[self, other]),
            None => run_one(&op, &[self]),
        }
    }

    /// Adds `other` to this tensor in place; the dtype stays.
    ///
    /// # Errors
    /// As [`Tensor::add`]; `Broadcast` if `other` is larger than this tensor, `Overlap` if this tensor overlaps itself.
    pub fn add_<'a>(&mut self, other: impl Into<Operand<'a>>) -> Result<()> {
        self.add_with_(other, AddOptions::new())
    }

    /// Adds `alpha * other` to this tensor in place; the dtype stays.
    ///
    /// # Errors
    /// As [`Tensor::add_`].
    pub fn add_with_<'a>(
        &mut self,
        other: impl Into<Operand<'a>>,
        options: AddOptions,
    ) -> Result<()> {
        let other = other.into();
        let op = Add {
            other: other.scalar(),
            alpha: options.alpha,
            in_place: true,
        };
        *self = match other.tensor() {
            Some(other) => run_one(&op, &[self, other])?,
            None => run_one(&op, &[self])?,
        };
        Ok(())
    }
}

impl Op for Add {
    fn name(&self) -> &'static str {
        if self.in_place { "add_" } else { "add" }
    }

    fn infer(&self, x: &[Meta], plan: &mut Plan) -> Result<()> {
        let dtype = result_type(x, self.other.as_slice());
        let alpha_fits = dtype.is_float() || !self.alpha.dtype().is_float();
        if !alpha_fits {
            return Err(Error::dtype(
                self.name(),
                format!("a float alpha for a result of {dtype}"),
                "an integer alpha",
            ));
        }
        if self.in_place {
            return super::plan_in_place(self.name(), x, dtype, plan);
        }
        plan_promoted(self.name(), x, self.other.as_slice(), plan).map(|_| ())
    }

    fn alike(&self, dtype: DType) -> Option<DType> {
        let fits = self.alpha.is_one() && !self.in_place;
        (fits && (self.other.is_none() || dtype.is_float())).then_some(dtype)
    }

    fn cpu(&self, x: &[Host<'_>], y: &mut [HostMut<'_>]) -> Result<Counts> {
        let shape = *y[0].shape();
        if let ([_, other], true) = (x, self.in_place && self.alpha.is_one())
            && y[0].dtype() == DType::F32
        {
            let other = other.broadcast(&shape);
            sweep::<f32, 2, 1, 3>([&x[0], &other], [&y[0]], |[x, other]| [x + other]);
            return Ok(Counts::EXACT);
        }
        with_lane!(y[0].dtype(), T => {
            let (scalar, alpha) = (T::from_scalar(self.other.unwrap_or(Scalar::Int(0))), T::from_scalar(self.alpha));
            let mut room = None;
            let other = second(x, || Host::splat(&scalar, &shape), &mut room);
            if self.alpha.is_one() {
                map::map2::<T, T, T>(&x[0], other, &mut y[0], |x, other| x.plus(other));
            } else {
                map::map2::<T, T, T>(&x[0], other, &mut y[0], |x, other| x.plus(alpha.times(other)));
            }
        });
        Ok(Counts::EXACT)
    }

    fn ascend(&self, cx: &Launch, x: &[Dev<'_>], y: &[Dev<'_>]) -> Result<Counts> {
        let alpha = AclScalar::of(self.alpha, y[0].dtype());
        match self.other {
            None => aclnn::add(cx, &x[0], &x[1], alpha, &y[0])?,
            Some(other) => {
                aclnn::adds(cx, &x[0], AclScalar::of(other, y[0].dtype()), alpha, &y[0])?
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
                true => Ok(dy.clone()),
                false => dy.mul(self.alpha),
            })?
        ])
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
    name: "add",
    family: "elementwise",
    kernels: &["aclnnAdd", "aclnnAdds"],
    samples,
};

fn samples() -> Vec<Sample> {
    let add = |other, alpha: Scalar| {
        Box::new(Add {
            other,
            alpha,
            in_place: false,
        })
    };
    let pair = || {
        vec![
            SampleInput::new([3, 4], -2.0, 2.0),
            SampleInput::new([4], -2.0, 2.0),
        ]
    };
    vec![
        Sample {
            op: add(None, 1i64.into()),
            inputs: pair(),
            dtypes: DType::ALL,
        },
        Sample {
            op: add(None, 2i64.into()),
            inputs: pair(),
            dtypes: NUMBERS,
        },
        Sample {
            op: add(Some(3i64.into()), 1i64.into()),
            inputs: vec![SampleInput::new([2, 5], -2.0, 2.0)],
            dtypes: NUMBERS,
        },
    ]
}
