//! `pow`: one operand to the power of the other.

use super::binary::{Binary, Pair, Rule, Side, combine, combine_scalar, samples_of, tensors};
use crate::cpu::integer;
use crate::cpu::real::Real;
use crate::ops::prelude::*;

#[derive(Debug, Clone, Copy)]
struct Pow;

impl Tensor {
    /// `self^exponent`, elementwise with broadcasting and type promotion. Integers wrap.
    ///
    /// Shapes: any two that broadcast. Dtypes: all but bool. PyTorch: `torch.pow`. NPU: `aclnnPowTensorTensor`,
    /// `aclnnPowTensorScalar`, `aclnnPowScalarTensor`.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// assert_eq!(Tensor::new([3.0f32, 4.0]).pow(2i64)?.to_vec::<f32>()?, [9.0, 16.0]);
    /// assert_eq!(Tensor::new([3i64, 4]).pow(&Tensor::new([2i64, 0]))?.to_vec::<i64>()?, [9, 1]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Broadcast` if the shapes do not fit, `DType` for bools, `Option` for integers to the power of a negative integer
    /// number, `Device` if the tensors are on two devices.
    pub fn pow<'a>(&self, exponent: impl Into<Operand<'a>>) -> Result<Tensor> {
        combine(Pow, self, exponent.into())
    }

    /// `base^self` for a number `base`.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// assert_eq!(Tensor::new([3.0f32, -1.0]).pow_of(2i64)?.to_vec::<f32>()?, [8.0, 0.5]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Tensor::pow`].
    pub fn pow_of(&self, base: impl Into<Scalar>) -> Result<Tensor> {
        combine_scalar(Pow, base.into(), self)
    }
}

impl Binary for Pow {
    const NAME: &'static str = "pow";
    const RULE: Rule = Rule::Numbers;
    const SAVES: Saves = Saves::INPUTS.and_output(0);

    fn check(&self, _left: Option<Scalar>, right: Option<Scalar>, dtype: DType) -> Result<()> {
        match right {
            Some(Scalar::Int(exponent)) if exponent < 0 && dtype.is_int() => Err(Error::option(
                "pow",
                "exponent",
                format!("got {exponent} for integers, wanted one that is not negative"),
            )),
            _ => Ok(()),
        }
    }

    fn cpu(&self, x: &Host<'_>, y: &Host<'_>, z: &mut HostMut<'_>) -> Result<()> {
        if x.dtype().is_float() {
            with_float!(x.dtype(), T => map::map2::<T, T, T>(x, y, z, Real::power));
        } else {
            with_lane!(x.dtype(), T => map::map2::<T, T, T>(x, y, z, integer::power));
        }
        Ok(())
    }

    fn cpu_scalar(&self, x: &Host<'_>, y: Scalar, z: &mut HostMut<'_>) -> bool {
        if !x.dtype().is_float() {
            return false;
        }
        let y = y.to_f64();
        with_float!(x.dtype(), T => {
            if y == 2.0 {
                map::map1::<T, T>(x, z, |x| x * x);
            } else if y == 3.0 {
                map::map1::<T, T>(x, z, |x| x * x * x);
            } else if y == 0.5 {
                map::map1::<T, T>(x, z, |x| x.sqrt());
            } else if y == -0.5 {
                map::map1::<T, T>(x, z, |x| 1.0 / x.sqrt());
            } else if y == -1.0 {
                map::map1::<T, T>(x, z, |x| 1.0 / x);
            } else if y == -2.0 {
                // The square of a small or large number is none.
                map::map1::<T, T>(x, z, |x| (1.0 / x) * (1.0 / x));
            } else {
                return false;
            }
        });
        true
    }

    fn ascend(&self, cx: &Launch, x: Side<'_>, y: Side<'_>, z: &Dev<'_>) -> Result<()> {
        match (x, y) {
            (Side::Tensor(x), Side::Tensor(y)) => aclnn::pow_tensor_tensor(cx, x, y, z),
            // The root of minus infinity is NaN, its power infinite.
            (Side::Tensor(x), Side::Scalar(y)) if y.value.to_f64() == 0.5 => aclnn::sqrt(cx, x, z),
            (Side::Tensor(x), Side::Scalar(y)) if y.value.to_f64() == -0.5 => {
                aclnn::rsqrt(cx, x, z)
            }
            (Side::Tensor(x), Side::Scalar(y)) => aclnn::pow_tensor_scalar(cx, x, y, z),
            (Side::Scalar(x), Side::Tensor(y)) => aclnn::pow_scalar_tensor(cx, x, y, z),
            (Side::Scalar(_), Side::Scalar(_)) => tensors(Self::NAME, cx, x, y).map(|_| ()),
        }
    }

    /// `dx = y x^(y-1) dz`, zero where `y` is; `dy = z ln(x) dz`, zero where `x` is and `y` is not negative.
    fn backward(&self, pair: &Pair<'_>) -> Result<Grads> {
        let dz = pair.dz()?;
        let dx = || match pair.y()? {
            Operand::Scalar(y) if y.is_zero() => dz.zeros_like(),
            Operand::Scalar(y) => {
                let below = match y {
                    Scalar::Float(y) => Scalar::Float(y - 1.0),
                    y => Scalar::Int(y.to_i64().wrapping_sub(1)),
                };
                dz.mul(&pair.x_tensor()?.pow(below)?.mul(y)?)
            }
            Operand::Tensor(y) => {
                let slope = pair.x_tensor()?.pow(&y.sub(1i64)?)?.mul(y)?;
                dz.mul(&slope)?.masked_fill(&y.eq(0i64)?, 0i64)
            }
        };
        let dy = || {
            let (x, y) = (pair.x_tensor()?, pair.y_tensor()?);
            let flat = x.eq(0i64)?.logical_and(&y.ge(0i64)?)?;
            let slope = pair.z()?.mul(&x.log()?)?;
            dz.mul(&slope.masked_fill(&flat, 0i64)?)
        };
        pair.grads(dx, dy)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "pow",
    family: "elementwise",
    kernels: &[
        "aclnnPowTensorTensor",
        "aclnnPowTensorScalar",
        "aclnnPowScalarTensor",
    ],
    samples,
};

fn samples() -> Vec<Sample> {
    samples_of(Pow, 1.0, 3.0, NUMBERS)
}
