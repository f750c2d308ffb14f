//! `cumprod`: the running product along a dim.

use super::cumsum::ScanOptions;
use crate::cpu::rows;
use crate::ops::prelude::*;

#[derive(Debug, Clone, Copy)]
struct Cumprod {
    options: ScanOptions,
}

impl Tensor {
    /// `y[i] = x[0] * .. * x[i]` along a dim; integers and bools give `i64`, f32 and halves accumulate wider.
    ///
    /// Shapes: the input's. Dtypes: all. PyTorch: `torch.cumprod`. NPU: `aclnnCumprod`.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// assert_eq!(Tensor::new([1i32, 2, 3, 4]).cumprod(0)?.to_vec::<i64>()?, [1, 2, 6, 24]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Axis` for a dim out of range.
    pub fn cumprod(&self, options: impl Into<ScanOptions>) -> Result<Tensor> {
        run_one(
            &Cumprod {
                options: options.into(),
            },
            &[self],
        )
    }
}

/// The running product of a line.
fn scan<T: Number>(x: &[T], y: &mut [T]) {
    let mut wide = 1.0f64;
    let mut exact = T::ONE;
    for (x, y) in x.iter().zip(y) {
        if T::IS_FLOAT {
            wide *= x.to_f64();
            *y = T::from_f64(wide);
        } else {
            exact = exact.times(*x);
            *y = exact;
        }
    }
}

impl Op for Cumprod {
    fn name(&self) -> &'static str {
        "cumprod"
    }

    fn infer(&self, x: &[Meta], plan: &mut Plan) -> Result<()> {
        self.options.plan("cumprod", x, plan)
    }

    fn cpu(&self, x: &[Host<'_>], y: &mut [HostMut<'_>]) -> Result<Counts> {
        let mask = rows::one(x[0].shape().axis_or_scalar("cumprod", self.options.dim)?);
        with_lane!(y[0].dtype(), T => rows::rows::<T, 1, 1>([&x[0]], [&mut y[0]], &mask, |_, [x], [y]| scan(x, y)));
        Ok(Counts::EXACT)
    }

    fn ascend(&self, cx: &Launch, x: &[Dev<'_>], y: &[Dev<'_>]) -> Result<Counts> {
        let dim = AclScalar {
            value: Scalar::Int(self.options.dim),
            dtype: DType::I32,
        };
        aclnn::cumprod(cx, &x[0], dim, y[0].dtype(), &y[0])?;
        Ok(Counts::EXACT)
    }

    fn gradient(&self) -> Gradient {
        Gradient::Backward
    }

    fn saves(&self) -> Saves {
        Saves::INPUTS.and_output(0)
    }

    /// Before the first zero of a line, `dx = sum of later (dy y) / x`; at it, the same with 1 in its place; after it, 0.
    fn backward(&self, cx: &GradCx<'_>) -> Result<Grads> {
        let (x, y, dy, dim) = (
            cx.input(0)?,
            cx.output(0)?,
            cx.gradient()?,
            self.options.dim,
        );
        let zero = x.eq(0i64)?;
        let zeros = zero.cumsum(dim)?;
        let first = zero.logical_and(&zeros.eq(1i64)?)?;
        let safe = first.where_cond(1.0, x)?;
        let before = dy
            .mul(y)?
            .cumsum_back(dim)?
            .div(&zero.where_cond(1.0, x)?)?;
        let at = dy.mul(&safe.cumprod(dim)?)?;
        let at = zeros.eq(0i64)?.where_cond(0.0, &at)?.cumsum_back(dim)?;
        let dx = zeros
            .eq(0i64)?
            .where_cond(&before, &first.where_cond(&at, 0.0)?)?;
        Ok(smallvec![Some(dx)])
    }

    fn cast(&self) -> CastRule {
        CastRule::Full
    }

    fn boxed(&self) -> Box<dyn Op> {
        Box::new(*self)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "cumprod",
    family: "reduce",
    kernels: &["aclnnCumprod"],
    samples,
};

fn samples() -> Vec<Sample> {
    super::line_samples(
        |dim| {
            Box::new(Cumprod {
                options: dim.into(),
            })
        },
        DType::ALL,
    )
}
