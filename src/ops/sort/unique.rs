//! `unique`: the distinct elements, or slices, in order.

use std::cell::Cell;

use crate::ascend::aclnn::Told;
use crate::cpu::alloc::collected;
use crate::cpu::dense::lanes;
use crate::cpu::gather::{Path, Paths, gather};
use crate::cpu::order::Runs;
use crate::cpu::order::{row_runs, runs, wide_key};
use crate::cpu::reduce::offset_at;
use crate::ops::prelude::*;

/// What [`Tensor::unique`] found.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Unique {
    /// The distinct elements, ascending; or the distinct slices.
    pub values: Tensor,
    /// For each element (or slice) of the input, where it is among the values: `i64`.
    pub inverse: Tensor,
    /// How often each value occurs: `i64`.
    pub counts: Tensor,
}

#[derive(Debug, Clone, Copy)]
struct UniqueOp {
    dim: Option<i64>,
}

impl Tensor {
    /// The distinct elements in ascending order (`None`), or the distinct slices along a dim in lexicographic order.
    ///
    /// Shapes: `[..] -> [n]`, the inverse has this tensor's shape; with a dim `[.., m, ..] -> [.., n, ..]`, the inverse `[m]`.
    /// Dtypes: all; NaNs are all distinct. PyTorch: `torch.unique`. NPU: `aclnnUnique2`, `aclnnUniqueDim`; waits for the kernel
    /// to learn `n`.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let found = Tensor::new([5i32, 2, 5]).unique(None)?;
    /// assert_eq!(found.values.to_vec::<i32>()?, [2, 5]);
    /// assert_eq!(found.inverse.to_vec::<i64>()?, [1, 0, 1]);
    /// assert_eq!(found.counts.to_vec::<i64>()?, [1, 2]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Axis` for a dim out of range.
    pub fn unique(&self, dim: impl Into<Option<i64>>) -> Result<Unique> {
        let op = UniqueOp { dim: dim.into() };
        let mut outputs = run(&op, &[self])?.into_iter();
        let mut next = || outputs.next().ok_or(Error::NoGradient { op: "unique" });
        Ok(Unique {
            values: next()?,
            inverse: next()?,
            counts: next()?,
        })
    }
}

impl UniqueOp {
    /// The runs of equal slices along a dim.
    fn slices(&self, x: &Host<'_>, dim: usize) -> Result<Runs> {
        let (rows, width) = (
            x.shape().size(dim),
            x.elements() / x.shape().size(dim).max(1),
        );
        let order: Vec<usize> = [dim]
            .into_iter()
            .chain((0..x.shape().rank()).filter(|other| *other != dim))
            .collect();
        let turned = x.with_layout(x.layout().permute(&order));
        let keys = with_lane!(x.dtype(), T => {
            collected(self.name(), lanes::<T>(self.name(), &turned)?.into_iter().map(wide_key))?
        });
        row_runs(self.name(), &keys, width, rows)
    }
}

impl Op for UniqueOp {
    fn name(&self) -> &'static str {
        "unique"
    }

    fn infer(&self, x: &[Meta], plan: &mut Plan) -> Result<()> {
        let Some(dim) = self.dim else {
            let count = Shape::from([x[0].shape.elements()]);
            plan.output_at_most(count, x[0].dtype, 0);
            plan.output(x[0].shape, DType::I64);
            plan.output_at_most(count, DType::I64, 0);
            return Ok(());
        };
        let dim = x[0].shape.axis(self.name(), dim)?;
        let count = Shape::from([x[0].shape.size(dim)]);
        plan.output_at_most(x[0].shape, x[0].dtype, dim);
        plan.output(count, DType::I64);
        plan.output_at_most(count, DType::I64, 0);
        Ok(())
    }

    fn cpu(&self, x: &[Host<'_>], y: &mut [HostMut<'_>]) -> Result<Counts> {
        let x = &x[0];
        let [values, inverse, counts] = y else {
            return Ok(Counts::of(0));
        };
        let (firsts, run_of) = match self.dim {
            None => with_lane!(x.dtype(), T => runs(self.name(), &lanes::<T>(self.name(), x)?)?),
            Some(dim) => self.slices(x, x.shape().axis(self.name(), dim)?)?,
        };
        let count = firsts.len();
        let (paths, kept) = match self.dim {
            None => {
                let flat = x.layout().with_offset(0);
                let offsets = firsts.iter().map(|first| offset_at(&flat, *first));
                let offsets = collected(self.name(), offsets)?;
                (
                    Paths {
                        dims: smallvec![Path::Offsets(offsets)],
                        base: x.layout().offset(),
                    },
                    values.layout().slice(0, 0, count, 1),
                )
            }
            Some(dim) => {
                let dim = x.shape().axis(self.name(), dim)?;
                (
                    Paths::of(x.layout()).with_indices(self.name(), dim, firsts.iter().copied())?,
                    values.layout().slice(dim, 0, count, 1),
                )
            }
        };
        gather(x, &paths, 0, &mut values.with_layout(kept));
        if let Some(counts) = counts.as_mut_slice::<i64>() {
            counts.fill(0);
            run_of
                .iter()
                .filter_map(|run| counts.get_mut(*run).map(|count| *count += 1))
                .for_each(drop);
        }
        if let Some(inverse) = inverse.as_mut_slice::<i64>() {
            inverse
                .iter_mut()
                .zip(&run_of)
                .for_each(|(place, run)| *place = *run as i64);
        }
        Ok(Counts::of(count))
    }

    fn ascend(&self, cx: &Launch, x: &[Dev<'_>], y: &[Dev<'_>]) -> Result<Counts> {
        if x[0].elements() == 0 {
            return Ok(Counts::of(0));
        }
        let (values, counts) = (Cell::new(*y[0].shape()), Cell::new(*y[2].shape()));
        let (value_out, count_out) = (
            Told {
                dev: &y[0],
                shape: &values,
            },
            Told {
                dev: &y[2],
                shape: &counts,
            },
        );
        match self.dim {
            None => aclnn::unique2(cx, &x[0], true, true, true, value_out, &y[1], count_out)?,
            Some(dim) => {
                let dim = x[0].shape().axis(self.name(), dim)?;
                aclnn::unique_dim(
                    cx, &x[0], true, true, dim as i64, value_out, &y[1], count_out,
                )?;
                return Ok(Counts::of(values.get().size(dim)));
            }
        }
        Ok(Counts::of(values.get().size(0)))
    }

    fn gradient(&self) -> Gradient {
        Gradient::Constant
    }

    fn boxed(&self) -> Box<dyn Op> {
        Box::new(*self)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "unique",
    family: "sort",
    kernels: &["aclnnUnique2", "aclnnUniqueDim"],
    samples,
};

fn samples() -> Vec<Sample> {
    let one = |dim| Sample {
        op: Box::new(UniqueOp { dim }),
        inputs: vec![SampleInput::new([4, 3], -2.0, 2.0)],
        dtypes: DType::ALL,
    };
    vec![one(None), one(Some(0))]
}
