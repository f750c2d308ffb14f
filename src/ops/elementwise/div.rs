//! `div` and `floor_divide`: quotients, exact or rounded.

use std::sync::atomic::{AtomicBool, Ordering};

use super::binary::{Binary, Combine, Pair, Rule, Side, combine, samples_of, tensors};
use crate::cpu::integer;
use crate::cpu::real::Real;
use crate::mode::{self, Modes};
use crate::ops::prelude::*;

/// How [`Tensor::div_with`] rounds the quotient.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Rounding {
    /// Toward zero; the dtype stays.
    Trunc,
    /// Down; the dtype stays.
    Floor,
}

#[derive(Debug, Clone, Copy)]
struct Div;

#[derive(Debug, Clone, Copy)]
struct DivRounded {
    rounding: Rounding,
}

impl Tensor {
    /// `self / other`, elementwise with broadcasting and type promotion; integers and bools are divided as `f32`.
    ///
    /// Shapes: any two that broadcast. Dtypes: all. PyTorch: `torch.div`. NPU: `aclnnDiv`, `aclnnDivs`.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([1i64, -7]);
    /// assert_eq!(x.div(2i64)?.to_vec::<f32>()?, [0.5, -3.5]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Broadcast` if the shapes do not fit, `Device` if the tensors are on two devices.
    pub fn div<'a>(&self, other: impl Into<Operand<'a>>) -> Result<Tensor> {
        combine(Div, self, other.into())
    }

    /// `self / other` rounded; integers stay integers.
    ///
    /// Shapes: any two that broadcast. Dtypes: all but bool. PyTorch: `torch.div(rounding_mode=..)`. NPU: `aclnnDivMod`,
    /// `aclnnDivMods`.
    ///
    /// ```
    /// use ascend_tensor::{Tensor, ops::elementwise::Rounding};
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([7i64, -7]);
    /// assert_eq!(x.div_with(2i64, Rounding::Trunc)?.to_vec::<i64>()?, [3, -3]);
    /// assert_eq!(x.div_with(2i64, Rounding::Floor)?.to_vec::<i64>()?, [3, -4]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Tensor::div`]; `Option` for an integer divisor of zero (on an NPU only under `check_data`), `DType` for bools.
    pub fn div_with<'a>(
        &self,
        other: impl Into<Operand<'a>>,
        rounding: Rounding,
    ) -> Result<Tensor> {
        let other = other.into();
        check_divisor("div", self, other)?;
        combine(DivRounded { rounding }, self, other)
    }

    /// `self / other` rounded down.
    ///
    /// Shapes: any two that broadcast. Dtypes: all but bool. PyTorch: `torch.floor_divide`. NPU: `aclnnDivMod`, `aclnnDivMods`.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// assert_eq!(Tensor::new([7.0f32, -7.0]).floor_divide(2.0)?.to_vec::<f32>()?, [3.0, -4.0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Tensor::div_with`].
    pub fn floor_divide<'a>(&self, other: impl Into<Operand<'a>>) -> Result<Tensor> {
        self.div_with(other, Rounding::Floor)
    }
}

/// Refuses a zero among integer divisors of an NPU before the launch, where the user asked for that.
pub(super) fn check_divisor(op: &'static str, x: &Tensor, y: Operand<'_>) -> Result<()> {
    let Operand::Tensor(y) = y else { return Ok(()) };
    let integers = !x.dtype().is_float() && !y.dtype().is_float();
    if integers
        && y.device().is_ascend()
        && mode::current().has(Modes::CHECK_DATA)
        && x.shape().broadcast(op, y.shape())?.elements() > 0
        && y.to_f64_vec()?.contains(&0.0)
    {
        return Err(zero_divisor(op));
    }
    Ok(())
}

/// Refuses a zero number as the divisor of integers.
pub(super) fn check_scalar(op: &'static str, divisor: Option<Scalar>, dtype: DType) -> Result<()> {
    if dtype.is_int() && divisor.is_some_and(Scalar::is_zero) {
        Err(zero_divisor(op))
    } else {
        Ok(())
    }
}

fn zero_divisor(op: &'static str) -> Error {
    Error::option(
        op,
        "other",
        "got a zero among integer divisors, wanted none",
    )
}

/// Runs an integer function of a dividend and a divisor; an error if a divisor is zero.
pub(super) fn divide<T: crate::cpu::lane::Lane>(
    op: &'static str,
    x: &Host<'_>,
    y: &Host<'_>,
    z: &mut HostMut<'_>,
    f: impl Fn(T, T) -> T + Sync,
) -> Result<()> {
    let zero = AtomicBool::new(false);
    map::map2::<T, T, T>(x, y, z, |x, y| {
        if !y.is_true() {
            zero.store(true, Ordering::Relaxed);
        }
        f(x, y)
    });
    if zero.into_inner() {
        Err(zero_divisor(op))
    } else {
        Ok(())
    }
}

/// The quotient of floats rounded down, as Python's `//`: exact where the quotient is not.
#[inline(always)]
fn floor_float<T: Real>(x: T, y: T) -> T {
    let rest = x.fmod(y);
    let quotient = x.minus(rest).over(y);
    let below = rest.is_true() && (y < T::ZERO) != (rest < T::ZERO);
    let quotient = if below {
        quotient.minus(T::ONE)
    } else {
        quotient
    };
    let down = Float::floor(quotient);
    let down = if quotient.minus(down) > T::from_f64(0.5) {
        down.plus(T::ONE)
    } else {
        down
    };
    let exact = x.over(y);
    if !y.is_true() {
        exact
    } else if quotient.is_true() {
        down
    } else {
        T::ZERO.copysign(exact)
    }
}

impl Binary for Div {
    const NAME: &'static str = "div";
    const RULE: Rule = Rule::Float;

    fn cpu(&self, x: &Host<'_>, y: &Host<'_>, z: &mut HostMut<'_>) -> Result<()> {
        with_float!(x.dtype(), T => map::map2::<T, T, T>(x, y, z, |x, y| x / y));
        Ok(())
    }

    fn ascend(&self, cx: &Launch, x: Side<'_>, y: Side<'_>, z: &Dev<'_>) -> Result<()> {
        match (x, y) {
            (Side::Tensor(x), Side::Tensor(y)) => aclnn::div(cx, x, y, z),
            (Side::Tensor(x), Side::Scalar(y)) => aclnn::divs(cx, x, y, z),
            (Side::Scalar(_), _) => tensors(Self::NAME, cx, x, y).map(|_| ()),
        }
    }

    fn backward(&self, pair: &Pair<'_>) -> Result<Grads> {
        let (dz, y) = (pair.dz()?, pair.y()?);
        pair.grads(
            || dz.div(y),
            || dz.neg()?.mul(&pair.x_tensor()?.div(y)?.div(y)?),
        )
    }
}

impl Binary for DivRounded {
    const NAME: &'static str = "div";
    const RULE: Rule = Rule::Numbers;

    fn check(&self, _left: Option<Scalar>, right: Option<Scalar>, dtype: DType) -> Result<()> {
        check_scalar(Self::NAME, right, dtype)
    }

    fn cpu(&self, x: &Host<'_>, y: &Host<'_>, z: &mut HostMut<'_>) -> Result<()> {
        match (x.dtype().is_float(), self.rounding) {
            (true, Rounding::Trunc) => {
                with_float!(x.dtype(), T => map::map2::<T, T, T>(x, y, z, |x, y| (x / y).trunc()))
            }
            (true, Rounding::Floor) => {
                with_float!(x.dtype(), T => map::map2::<T, T, T>(x, y, z, floor_float))
            }
            (false, Rounding::Trunc) => {
                return with_lane!(x.dtype(), T => divide::<T>(Self::NAME, x, y, z, |x, y| x.over(y)));
            }
            (false, Rounding::Floor) => {
                return with_lane!(x.dtype(), T => divide::<T>(Self::NAME, x, y, z, integer::floor_divide));
            }
        }
        Ok(())
    }

    fn ascend(&self, cx: &Launch, x: Side<'_>, y: Side<'_>, z: &Dev<'_>) -> Result<()> {
        let mode = match self.rounding {
            Rounding::Trunc => 1,
            Rounding::Floor => 2,
        };
        match (x, y) {
            (Side::Tensor(x), Side::Tensor(y)) => aclnn::div_mod(cx, x, y, mode, z),
            (Side::Tensor(x), Side::Scalar(y)) => aclnn::div_mods(cx, x, y, mode, z),
            (Side::Scalar(_), _) => tensors(Self::NAME, cx, x, y).map(|_| ()),
        }
    }

    fn backward(&self, pair: &Pair<'_>) -> Result<Grads> {
        let dz = pair.dz()?;
        pair.grads(|| dz.zeros_like(), || dz.zeros_like())
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "div",
    family: "elementwise",
    kernels: &["aclnnDiv", "aclnnDivs", "aclnnDivMod", "aclnnDivMods"],
    samples,
};

fn samples() -> Vec<Sample> {
    let rounded = |rounding| Sample {
        op: Box::new(Combine {
            op: DivRounded { rounding },
            left: None,
            right: None,
        }),
        inputs: vec![
            SampleInput::new([3, 1], 1.0, 9.0),
            SampleInput::new([3, 4], 1.0, 4.0),
        ],
        dtypes: NUMBERS,
    };
    let mut samples = samples_of(Div, 1.0, 4.0, DType::ALL);
    samples.extend([rounded(Rounding::Trunc), rounded(Rounding::Floor)]);
    samples
}
