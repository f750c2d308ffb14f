//! `gelu`: the elements times the normal distribution function.

use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI};

use crate::cpu::map::Formula2;
use crate::cpu::real::Real;
use crate::ops::elementwise::binary::{self, Binary, Side, combine, tensors};
use crate::ops::elementwise::unary::{Apply, Formula, Rule, Unary, float, may_fuse, sample};
use crate::ops::prelude::*;

/// Which formula [`Tensor::gelu`] uses; `()` is the exact one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum GeluApproximation {
    /// `x / 2 (1 + erf(x / sqrt(2)))`.
    #[default]
    None,
    /// `x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))`.
    Tanh,
}

impl From<()> for GeluApproximation {
    fn from((): ()) -> Self {
        GeluApproximation::None
    }
}

/// `sqrt(2 / pi)`.
const SCALE: f64 = FRAC_2_SQRT_PI * FRAC_1_SQRT_2;
const CUBE: f64 = 0.044715;
/// A square of numbers where the slope is 0 or 1.
const FLAT: f64 = 1e30;

#[derive(Debug, Clone, Copy)]
struct Gelu {
    approximate: GeluApproximation,
}

impl Tensor {
    /// `x Phi(x)` with the normal distribution function `Phi`, exactly (`()`) or with a hyperbolic tangent.
    ///
    /// Shapes: any. Dtypes: floats. PyTorch: `torch.nn.functional.gelu`. NPU: `aclnnGeluV2`, `aclnnGeluBackwardV2`.
    /// In `f32` on the CPU it is at most 8 units in the last place off, or 2e-37; with the hyperbolic tangent 2, or 4e-7, and 8, or
    /// 1e-8.
    ///
    /// ```
    /// use ascend_tensor::{Tensor, ops::activation::GeluApproximation};
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([0.0f32, 100.0]);
    /// assert_eq!(x.gelu(())?.to_vec::<f32>()?, [0.0, 100.0]);
    /// assert_eq!(x.gelu(GeluApproximation::Tanh)?.to_vec::<f32>()?, [0.0, 100.0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `DType` for integers and bools; memory and device errors.
    pub fn gelu(&self, approximate: impl Into<GeluApproximation>) -> Result<Tensor> {
        Apply(Gelu {
            approximate: approximate.into(),
        })
        .run(self)
    }
}

/// The exact formula.
struct Exact;

/// The formula with the hyperbolic tangent.
struct Approximate;

/// `dy` times the derivative of one of the two.
struct Slope<const TANH: bool>;

impl<const TANH: bool> Formula2 for Slope<TANH> {
    #[inline(always)]
    fn at<T: Real>(&self, dy: T, x: T) -> T {
        let form = if TANH {
            GeluApproximation::Tanh
        } else {
            GeluApproximation::None
        };
        dy.times(form.slope(x))
    }
}

impl Formula for Exact {
    const LONG: bool = true;

    #[inline(always)]
    fn at<T: Real>(&self, x: T) -> T {
        let (tail, _) = x.normal_tail();
        let right = if x > T::ZERO { x } else { T::ZERO };
        // Beyond, there is no tail; an infinity on the right stays one.
        let near = if x > T::from_f64(14.0) {
            T::from_f64(14.0)
        } else {
            x
        };
        right.minus(near.absolute().times(tail))
    }
}

impl Formula for Approximate {
    #[inline(always)]
    fn at<T: Real>(&self, x: T) -> T {
        x.times(twice_inner(x).sigmoid())
    }
}

/// `u = 2 sqrt(2 / pi) (x + 0.044715 x^3)`: `(1 + tanh(u / 2)) / 2` is the logistic function of `u`, which loses nothing on the left.
#[inline(always)]
fn twice_inner<T: Real>(x: T) -> T {
    x.times(x.times(x).scaled(2.0 * SCALE * CUBE).shifted(2.0 * SCALE))
}

impl GeluApproximation {
    /// The derivative.
    #[inline(always)]
    fn slope<T: Real>(self, x: T) -> T {
        match self {
            GeluApproximation::None => {
                let (tail, e) = x.normal_tail();
                let below = if x > T::ZERO {
                    T::ONE.minus(tail)
                } else {
                    tail
                };
                below.plus(x.times(e.scaled(SCALE * 0.5)))
            }
            GeluApproximation::Tanh => {
                let (s, rest) = twice_inner(x).sigmoids();
                // The square of a large number is none; both factors vanish there.
                let square = x.times(x).smaller(T::from_f64(FLAT));
                let steep = square.scaled(6.0 * SCALE * CUBE).shifted(2.0 * SCALE);
                s.plus(x.times(s.times(rest)).times(steep))
            }
        }
    }

    fn kernel(self) -> (i64, &'static std::ffi::CStr) {
        match self {
            GeluApproximation::None => (0, c"none"),
            GeluApproximation::Tanh => (1, c"tanh"),
        }
    }

    /// The gradient in simpler ops.
    fn composed(self, dy: &Tensor, x: &Tensor) -> Result<Tensor> {
        let slope = match self {
            GeluApproximation::None => {
                let below = x.mul(-FRAC_1_SQRT_2)?.erfc()?.mul(0.5)?;
                below.add(&x.square()?.mul(-0.5)?.exp()?.mul(SCALE * 0.5)?.mul(x)?)?
            }
            GeluApproximation::Tanh => {
                let square = x.square()?;
                let t = square.mul(CUBE)?.add(1i64)?.mul(x)?.mul(SCALE)?.tanh()?;
                let steep = square.mul(3.0 * CUBE)?.add(1i64)?.mul(SCALE)?;
                let right = x.mul(&t.square()?.neg()?.add(1i64)?)?.mul(&steep)?;
                t.add(1i64)?.add(&right)?.mul(0.5)?
            }
        };
        dy.mul(&slope)
    }
}

impl Unary for Gelu {
    const NAME: &'static str = "gelu";
    const RULE: Rule = Rule::FloatOnly;

    fn cpu(&self, x: &Host<'_>, y: &mut HostMut<'_>) {
        match self.approximate {
            GeluApproximation::None => float(x, y, &Exact),
            GeluApproximation::Tanh => float(x, y, &Approximate),
        }
    }

    fn ascend(&self, cx: &Launch, x: &Dev<'_>, y: &Dev<'_>) -> Result<()> {
        aclnn::gelu_v2(cx, x, self.approximate.kernel().0, y)
    }

    fn compose(&self, x: &Tensor) -> Result<Tensor> {
        if x.dtype().is_half() {
            return Apply(*self).widened(x);
        }
        let factor = match self.approximate {
            GeluApproximation::None => x.mul(-FRAC_1_SQRT_2)?.erfc()?,
            GeluApproximation::Tanh => x
                .square()?
                .mul(CUBE)?
                .add(1i64)?
                .mul(x)?
                .mul(SCALE)?
                .tanh()?
                .add(1i64)?,
        };
        x.mul(0.5)?.mul(&factor)
    }

    fn backward(&self, cx: &GradCx<'_>, dy: &Tensor) -> Result<Tensor> {
        let x = cx.input(0)?;
        if may_fuse() {
            return combine(
                GeluBackward {
                    approximate: self.approximate,
                },
                dy,
                Operand::Tensor(x),
            );
        }
        self.approximate.composed(dy, x)
    }
}

/// The gradient of `gelu` in one kernel.
#[derive(Debug, Clone, Copy)]
struct GeluBackward {
    approximate: GeluApproximation,
}

impl Binary for GeluBackward {
    const NAME: &'static str = "gelu_backward";
    const RULE: binary::Rule = binary::Rule::FloatOnly;
    const GRADIENT: Gradient = Gradient::Missing;

    fn cpu(&self, dy: &Host<'_>, x: &Host<'_>, dx: &mut HostMut<'_>) -> Result<()> {
        with_float!(dx.dtype(), T => match self.approximate {
            GeluApproximation::None => map::formula2::<T>(dy, x, dx, &Slope::<false>),
            GeluApproximation::Tanh => map::formula2::<T>(dy, x, dx, &Slope::<true>),
        });
        Ok(())
    }

    fn ascend(&self, cx: &Launch, dy: Side<'_>, x: Side<'_>, dx: &Dev<'_>) -> Result<()> {
        let (dy, x) = tensors(Self::NAME, cx, dy, x)?;
        aclnn::gelu_backward_v2(cx, dy, x, self.approximate.kernel().1, dx)
    }

    fn compose(&self, dy: &Tensor, x: &Tensor) -> Result<Tensor> {
        self.approximate.composed(dy, x)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "gelu",
    family: "activation",
    kernels: &["aclnnGeluV2", "aclnnGeluBackwardV2"],
    samples,
};

fn samples() -> Vec<Sample> {
    [GeluApproximation::None, GeluApproximation::Tanh]
        .map(|approximate| sample(Gelu { approximate }, -2.0, 2.0, FLOATS))
        .into()
}
