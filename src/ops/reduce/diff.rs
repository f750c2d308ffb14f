//! `diff`: differences of neighbours along a dim.

use crate::ops::prelude::*;

/// Settings of [`Tensor::diff`]: how often, and along which dim. Made from `()` or from the dim alone, or built up.
#[derive(Debug, Clone, Copy)]
#[must_use]
pub struct DiffOptions {
    times: i64,
    dim: i64,
}

impl Default for DiffOptions {
    fn default() -> Self {
        DiffOptions { times: 1, dim: -1 }
    }
}

impl DiffOptions {
    /// Once, along the last dim.
    pub fn new() -> Self {
        DiffOptions::default()
    }

    /// Along this dim.
    pub fn dim(mut self, dim: i64) -> Self {
        self.dim = dim;
        self
    }

    /// This many times over.
    pub fn times(mut self, times: i64) -> Self {
        self.times = times;
        self
    }
}

impl From<()> for DiffOptions {
    fn from((): ()) -> Self {
        DiffOptions::new()
    }
}

impl From<i64> for DiffOptions {
    fn from(dim: i64) -> Self {
        DiffOptions::new().dim(dim)
    }
}

#[derive(Debug, Clone, Copy)]
struct Diff {
    options: DiffOptions,
}

impl Tensor {
    /// `y[i] = x[i + 1] - x[i]` along a dim; for bools, exclusive or.
    ///
    /// Shapes: the dim shrinks by one each time, to 0 at least. Dtypes: all. PyTorch: `torch.diff`. NPU: `aclnnSub`.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// assert_eq!(Tensor::new([1i32, 4, 9, 16]).diff(())?.to_vec::<i32>()?, [3, 5, 7]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Shape` for a tensor without dims, `Axis` for a dim out of range, `Option` for a negative count.
    pub fn diff(&self, options: impl Into<DiffOptions>) -> Result<Tensor> {
        run_one(
            &Diff {
                options: options.into(),
            },
            &[self],
        )
    }
}

impl Op for Diff {
    fn name(&self) -> &'static str {
        "diff"
    }

    fn infer(&self, x: &[Meta], plan: &mut Plan) -> Result<()> {
        if x[0].shape.rank() == 0 {
            return Err(Error::shape("diff", x[0].shape, "at least one dim"));
        }
        let dim = x[0].shape.axis("diff", self.options.dim)?;
        let times = usize::try_from(self.options.times).map_err(|_| {
            Error::option(
                "diff",
                "times",
                format!("got {}, wanted 0 or more", self.options.times),
            )
        })?;
        plan.output(
            x[0].shape
                .with(dim, x[0].shape.size(dim).saturating_sub(times)),
            x[0].dtype,
        );
        Ok(())
    }

    fn compose(&self, x: &[Tensor]) -> Result<Outputs> {
        let dim = x[0].shape().axis("diff", self.options.dim)?;
        let size = x[0].shape().size(dim) as i64;
        let mut y = x[0].clone();
        for left in (0..size)
            .rev()
            .take(usize::try_from(self.options.times).unwrap_or(0))
        {
            let (later, earlier) = (
                y.narrow(self.options.dim, 1, left)?,
                y.narrow(self.options.dim, 0, left)?,
            );
            y = if y.dtype() == DType::Bool {
                later.ne(&earlier)?
            } else {
                later.sub(&earlier)?
            };
        }
        Ok(smallvec![if self.options.times == 0 {
            y.copy()?
        } else {
            y
        }])
    }

    fn is_composed(&self, _x: &[Meta], _device: Device) -> bool {
        true
    }

    fn gradient(&self) -> Gradient {
        Gradient::Compose
    }

    fn boxed(&self) -> Box<dyn Op> {
        Box::new(*self)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "diff",
    family: "reduce",
    kernels: &["aclnnSub"],
    samples,
};

fn samples() -> Vec<Sample> {
    super::line_samples(
        |dim| {
            Box::new(Diff {
                options: DiffOptions::new().dim(dim).times(2),
            })
        },
        DType::ALL,
    )
}
