//! `kthvalue`: the k-th smallest element along a dim. The op behind `median_dim` too.

use super::{LineOptions, picked, run_two};
use crate::cpu::alloc::{lacks, noted};
use crate::cpu::rows;
use crate::ops::prelude::*;

/// Which element of the sorted line is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rank {
    /// The k-th from 1, NaN counting as the largest.
    Kth(i64),
    /// The lower middle one, or the first NaN.
    Median,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Ranked {
    pub(super) rank: Rank,
    pub(super) options: LineOptions,
}

impl Tensor {
    /// The `k`-th smallest element along a dim, counted from 1, and its index; NaN is the largest. The gradient goes to it.
    ///
    /// Shapes: the dim goes, or stays with size 1 (`keepdim`). Dtypes: all but `bool`, the indices are `i64`.
    /// PyTorch: `torch.kthvalue`. NPU: `aclnnKthvalue`, or `aclnnSort`.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let (values, indices) = Tensor::new([5i32, 1, 4, 2]).kthvalue(2, 0)?;
    /// assert_eq!((values.item::<i32>()?, indices.item::<i64>()?), (2, 3));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Axis` for a dim out of range, `Option` for `k` outside 1 to the dim's size, `DType` for bools.
    pub fn kthvalue(&self, k: i64, options: impl Into<LineOptions>) -> Result<(Tensor, Tensor)> {
        run_two(
            &Ranked {
                rank: Rank::Kth(k),
                options: options.into(),
            },
            &[self],
        )
    }
}

/// Where the chosen element of a line stands.
fn choose<T: Number>(rank: Rank, line: &[T]) -> usize {
    let place = match rank {
        Rank::Kth(k) => usize::try_from(k.saturating_sub(1)).unwrap_or(0),
        Rank::Median => match line.iter().position(|x| x.is_nan()) {
            Some(nan) => return nan,
            None => line.len().saturating_sub(1) / 2,
        },
    };
    let mut order = noted(line.len());
    if place >= line.len() || lacks() {
        return 0;
    }
    order.extend(0..line.len());
    let key = |index: usize| line[index];
    let (_, chosen, _) = order.select_nth_unstable_by(place, |a, b| {
        let (x, y) = (key(*a), key(*b));
        let nans = x.is_nan().cmp(&y.is_nan());
        nans.then(x.partial_cmp(&y).unwrap_or(std::cmp::Ordering::Equal))
            .then(a.cmp(b))
    });
    *chosen
}

impl Op for Ranked {
    fn name(&self) -> &'static str {
        if self.rank == Rank::Median {
            "median_dim"
        } else {
            "kthvalue"
        }
    }

    fn infer(&self, x: &[Meta], plan: &mut Plan) -> Result<()> {
        if x[0].dtype == DType::Bool {
            return Err(Error::dtype(self.name(), x[0].dtype, "a number"));
        }
        let size = x[0]
            .shape
            .size(x[0].shape.axis_or_scalar(self.name(), self.options.dim)?);
        if let Rank::Kth(k) = self.rank
            && !usize::try_from(k).is_ok_and(|k| (1..=size).contains(&k))
        {
            return Err(Error::option(
                self.name(),
                "k",
                format!("got {k}, wanted 1 to {size}"),
            ));
        }
        let (_, shape) = self.options.plan(self.name(), &x[0].shape)?;
        plan.output(shape, x[0].dtype);
        plan.output(shape, DType::I64);
        Ok(())
    }

    fn cpu(&self, x: &[Host<'_>], y: &mut [HostMut<'_>]) -> Result<Counts> {
        let dim = x[0].shape().axis_or_scalar(self.name(), self.options.dim)?;
        let [values, indices] = y else {
            return Ok(Counts::EXACT);
        };
        let rank = self.rank;
        with_lane!(x[0].dtype(), T => rows::picked::<T>(&x[0], dim, values, indices, |line| choose(rank, line)));
        Ok(Counts::EXACT)
    }

    fn ascend(&self, cx: &Launch, x: &[Dev<'_>], y: &[Dev<'_>]) -> Result<Counts> {
        match self.rank {
            Rank::Median => {
                aclnn::median_dim(cx, &x[0], self.options.dim, self.options.keep, &y[0], &y[1])?
            }
            Rank::Kth(k) => aclnn::kthvalue(
                cx,
                &x[0],
                k,
                self.options.dim,
                self.options.keep,
                &y[0],
                &y[1],
            )?,
        }
        Ok(Counts::EXACT)
    }

    fn gradient(&self) -> Gradient {
        Gradient::Backward
    }

    fn saves(&self) -> Saves {
        Saves::NOTHING.and_output(1)
    }

    fn backward(&self, cx: &GradCx<'_>) -> Result<Grads> {
        Ok(smallvec![Some(picked(
            &cx.meta(0)?.shape,
            &self.options,
            cx.gradient()?,
            cx.output(1)?
        )?)])
    }

    fn boxed(&self) -> Box<dyn Op> {
        Box::new(*self)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "kthvalue",
    family: "reduce",
    kernels: &["aclnnKthvalue"],
    samples,
};

fn samples() -> Vec<Sample> {
    super::line_samples(
        |dim| {
            Box::new(Ranked {
                rank: Rank::Kth(2),
                options: dim.into(),
            })
        },
        NUMBERS,
    )
}
