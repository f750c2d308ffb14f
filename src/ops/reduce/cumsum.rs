//! `cumsum`: the running sum along a dim.

use crate::cpu::{rows, scan};
use crate::ops::prelude::*;

/// The dim of a running sum or product, and the dtype to compute in. Made from the dim alone, or built up.
#[derive(Debug, Clone, Copy)]
#[must_use]
pub struct ScanOptions {
    pub(super) dim: i64,
    pub(super) dtype: Option<DType>,
}

impl ScanOptions {
    /// Along this dim.
    pub fn new(dim: i64) -> Self {
        ScanOptions { dim, dtype: None }
    }

    /// Casts the input to this dtype first.
    pub fn dtype(mut self, dtype: DType) -> Self {
        self.dtype = Some(dtype);
        self
    }

    /// The plan of a scan: integers and bools become `i64` unless a dtype is asked for.
    pub(super) fn plan(&self, op: &'static str, x: &[Meta], plan: &mut Plan) -> Result<()> {
        x[0].shape.axis_or_scalar(op, self.dim)?;
        let own = if x[0].dtype.is_float() {
            x[0].dtype
        } else {
            DType::I64
        };
        let dtype = self.dtype.unwrap_or(own);
        plan.cast(0, dtype);
        plan.output(x[0].shape, dtype);
        Ok(())
    }
}

impl From<i64> for ScanOptions {
    fn from(dim: i64) -> Self {
        ScanOptions::new(dim)
    }
}

/// The running sum, from the front or from the back.
#[derive(Debug, Clone, Copy)]
struct Cumsum {
    options: ScanOptions,
    reverse: bool,
}

impl Tensor {
    /// `y[i] = x[0] + .. + x[i]` along a dim; integers and bools give `i64`, f32 and halves accumulate wider.
    ///
    /// Shapes: the input's. Dtypes: all. PyTorch: `torch.cumsum`. NPU: `aclnnCumsum`.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([[1i32, 2, 3], [4, 5, 6]]);
    /// assert_eq!(x.cumsum(1)?.to_vec::<i64>()?, [1, 3, 6, 4, 9, 15]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Axis` for a dim out of range.
    pub fn cumsum(&self, options: impl Into<ScanOptions>) -> Result<Tensor> {
        run_one(
            &Cumsum {
                options: options.into(),
                reverse: false,
            },
            &[self],
        )
    }

    /// `y[i] = x[i] + .. + x[n - 1]` along a dim: the gradient of a running sum.
    pub(crate) fn cumsum_back(&self, dim: i64) -> Result<Tensor> {
        run_one(
            &Cumsum {
                options: ScanOptions::new(dim),
                reverse: true,
            },
            &[self],
        )
    }
}

/// Neighbours that are summed among themselves first, so that the running sum is touched once for all of them.
const CHUNK: usize = 8;

/// Running sums of singles in double precision, which their sums cannot leave: so the order of additions is free.
fn singles<T: Number>(x: &[T], y: &mut [T]) {
    let mut total = 0.0f64;
    let (chunks, rest) = x.as_chunks::<CHUNK>();
    let (sums, tail) = y.split_at_mut(chunks.len() * CHUNK);
    for (x, y) in chunks.iter().zip(sums.chunks_exact_mut(CHUNK)) {
        let mut part = 0.0;
        for (x, y) in x.iter().zip(y) {
            part += x.to_f64();
            *y = T::from_f64(total + part);
        }
        total += part;
    }
    for (x, y) in rest.iter().zip(tail) {
        total += x.to_f64();
        *y = T::from_f64(total);
    }
}

/// The running sum of a line.
fn line<T: Number>(x: &[T], y: &mut [T], reverse: bool) {
    if T::DTYPE == DType::F32 && !reverse {
        return singles(x, y);
    }
    let mut wide = 0.0f64;
    let mut exact = T::ZERO;
    let mut step = |x: &T, y: &mut T| {
        if T::IS_FLOAT {
            wide += x.to_f64();
            *y = T::from_f64(wide);
        } else {
            exact = if T::DTYPE == DType::Bool {
                T::from_i64(i64::from(exact.is_true() || x.is_true()))
            } else {
                exact.plus(*x)
            };
            *y = exact;
        }
    };
    if reverse {
        x.iter().zip(y).rev().for_each(|(x, y)| step(x, y));
    } else {
        x.iter().zip(y).for_each(|(x, y)| step(x, y));
    }
}

impl Op for Cumsum {
    fn name(&self) -> &'static str {
        "cumsum"
    }

    fn infer(&self, x: &[Meta], plan: &mut Plan) -> Result<()> {
        self.options.plan("cumsum", x, plan)
    }

    fn cpu(&self, x: &[Host<'_>], y: &mut [HostMut<'_>]) -> Result<Counts> {
        let dim = x[0].shape().axis_or_scalar("cumsum", self.options.dim)?;
        let (mask, reverse) = (rows::one(dim), self.reverse);
        let last = dim + 1 == x[0].shape().rank();
        if last && !reverse && scan::running_sums(&x[0], &mut y[0]) {
            return Ok(Counts::EXACT);
        }
        with_lane!(y[0].dtype(), T => rows::rows::<T, 1, 1>([&x[0]], [&mut y[0]], &mask, |_, [x], [y]| line(x, y, reverse)));
        Ok(Counts::EXACT)
    }

    fn ascend(&self, cx: &Launch, x: &[Dev<'_>], y: &[Dev<'_>]) -> Result<Counts> {
        if self.reverse {
            aclnn::cumsum_v2(cx, &x[0], self.options.dim, false, true, &y[0])?;
        } else {
            aclnn::cumsum(cx, &x[0], self.options.dim, y[0].dtype(), &y[0])?;
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
        Ok(smallvec![Some(if self.reverse {
            dy.cumsum(self.options.dim)?
        } else {
            dy.cumsum_back(self.options.dim)?
        })])
    }

    fn cast(&self) -> CastRule {
        CastRule::Full
    }

    fn boxed(&self) -> Box<dyn Op> {
        Box::new(*self)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "cumsum",
    family: "reduce",
    kernels: &["aclnnCumsum", "aclnnCumsumV2"],
    samples,
};

fn samples() -> Vec<Sample> {
    super::line_samples(
        |dim| {
            Box::new(Cumsum {
                options: dim.into(),
                reverse: false,
            })
        },
        DType::ALL,
    )
}
