//! `isclose`: whether elements are equal within a tolerance.

use crate::cpu::real::Real;
use crate::ops::prelude::*;

/// The tolerance of [`Tensor::isclose`]; `()` means 1e-5 relative and 1e-8 absolute, and that NaN is close to nothing.
#[derive(Debug, Clone, Copy)]
#[must_use]
pub struct IscloseOptions {
    rtol: f64,
    atol: f64,
    equal_nan: bool,
}

impl Default for IscloseOptions {
    fn default() -> Self {
        IscloseOptions {
            rtol: 1e-5,
            atol: 1e-8,
            equal_nan: false,
        }
    }
}

impl IscloseOptions {
    /// 1e-5 relative and 1e-8 absolute; NaN is close to nothing.
    pub fn new() -> Self {
        IscloseOptions::default()
    }

    /// The tolerance relative to the other operand.
    pub fn rtol(mut self, rtol: f64) -> Self {
        self.rtol = rtol;
        self
    }

    /// The absolute tolerance.
    pub fn atol(mut self, atol: f64) -> Self {
        self.atol = atol;
        self
    }

    /// Two NaN are close.
    pub fn equal_nan(mut self) -> Self {
        self.equal_nan = true;
        self
    }
}

impl From<()> for IscloseOptions {
    fn from((): ()) -> Self {
        IscloseOptions::new()
    }
}

#[derive(Debug, Clone, Copy)]
struct Isclose {
    options: IscloseOptions,
}

impl Tensor {
    /// `|self - other| <= atol + rtol |other|`; equal infinities are close.
    ///
    /// Shapes: any two that broadcast. Dtypes: all, both the same; the result is `bool`. PyTorch: `torch.isclose`. NPU:
    /// `aclnnIsClose`.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([1.0f32, 2.0]);
    /// assert_eq!(x.isclose(&Tensor::new([1.000001f32, 2.1]), ())?.to_vec::<bool>()?, [true, false]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `DType` if the dtypes differ, `Option` for a negative tolerance, `Broadcast` if the shapes do not fit, `Device` if the
    /// tensors are on two devices.
    pub fn isclose(&self, other: &Tensor, options: impl Into<IscloseOptions>) -> Result<Tensor> {
        run_one(
            &Isclose {
                options: options.into(),
            },
            &[self, other],
        )
    }
}

#[inline(always)]
fn close<T: Real>(x: T, y: T, rtol: T, atol: T, equal_nan: bool) -> bool {
    let distance = x.minus(y).absolute();
    let allowed = atol.plus(rtol.times(y).absolute());
    x == y
        || equal_nan && x.is_nan() && y.is_nan()
        || Real::is_finite(distance) && distance <= allowed
}

impl Op for Isclose {
    fn name(&self) -> &'static str {
        "isclose"
    }

    fn infer(&self, x: &[Meta], plan: &mut Plan) -> Result<()> {
        if x[0].dtype != x[1].dtype {
            return Err(Error::dtype(
                "isclose",
                format!("{} and {}", x[0].dtype, x[1].dtype),
                "one dtype",
            ));
        }
        for (name, value) in [("rtol", self.options.rtol), ("atol", self.options.atol)] {
            if value < 0.0 {
                return Err(Error::option(
                    "isclose",
                    name,
                    format!("got {value}, wanted a number that is not negative"),
                ));
            }
        }
        super::plan_as("isclose", x, x[0].dtype.to_float(), DType::Bool, plan)
    }

    fn cpu(&self, x: &[Host<'_>], y: &mut [HostMut<'_>]) -> Result<Counts> {
        let shape = *y[0].shape();
        let (left, right) = (x[0].broadcast(&shape), x[1].broadcast(&shape));
        let equal_nan = self.options.equal_nan;
        with_float!(x[0].dtype(), T => {
            let (rtol, atol) = (self.options.rtol as T, self.options.atol as T);
            map::map2::<T, T, bool>(&left, &right, &mut y[0], |x, y| close(x, y, rtol, atol, equal_nan));
        });
        Ok(Counts::EXACT)
    }

    fn ascend(&self, cx: &Launch, x: &[Dev<'_>], y: &[Dev<'_>]) -> Result<Counts> {
        let IscloseOptions {
            rtol,
            atol,
            equal_nan,
        } = self.options;
        aclnn::is_close(cx, &x[0], &x[1], rtol, atol, equal_nan, &y[0])?;
        Ok(Counts::EXACT)
    }

    fn compose(&self, x: &[Tensor]) -> Result<Outputs> {
        let IscloseOptions {
            rtol,
            atol,
            equal_nan,
        } = self.options;
        let wide = x[0].dtype().to_float().compute();
        let (x, y) = (x[0].to_dtype(wide)?, x[1].to_dtype(wide)?);
        let distance = x.sub(&y)?.abs()?;
        let near = distance
            .le(&y.mul(rtol)?.abs()?.add(atol)?)?
            .logical_and(&distance.isfinite()?)?;
        let near = near.logical_or(&x.eq(&y)?)?;
        Ok(smallvec![if equal_nan {
            near.logical_or(&x.isnan()?.logical_and(&y.isnan()?)?)?
        } else {
            near
        }])
    }

    fn gradient(&self) -> Gradient {
        Gradient::Constant
    }

    fn boxed(&self) -> Box<dyn Op> {
        Box::new(*self)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "isclose",
    family: "elementwise",
    kernels: &["aclnnIsClose"],
    samples,
};

fn samples() -> Vec<Sample> {
    let inputs = vec![
        SampleInput::new([3, 1], -2.0, 2.0),
        SampleInput::new([3, 4], -2.0, 2.0),
    ];
    vec![Sample {
        op: Box::new(Isclose {
            options: IscloseOptions::new().atol(1.0),
        }),
        inputs,
        dtypes: NUMBERS,
    }]
}
