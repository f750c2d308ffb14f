//! `scatter_reduce`: elements folded along a dim into the places that an index names.

use super::gather::lifted;
use super::scatter::{corner, source_fits, source_gradient};
use super::{Negative, host_indices, on_device};
use crate::cpu::alloc::{filled, lacks};
use crate::cpu::gather::{in_lanes, scatter_along};
use crate::cpu::lane::Lane;
use crate::ops::prelude::*;

/// How [`Tensor::scatter_reduce`] folds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ScatterReduction {
    /// The sum.
    Sum,
    /// The product.
    Prod,
    /// The mean; of integers rounded down.
    Mean,
    /// The largest; NaN if any is.
    Amax,
    /// The smallest; NaN if any is.
    Amin,
}

/// Settings of [`Tensor::scatter_reduce`]. Made from a [`ScatterReduction`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct ScatterReduceOptions {
    reduction: ScatterReduction,
    include_self: bool,
}

impl ScatterReduceOptions {
    /// This reduction, over the tensor's own element too.
    pub fn new(reduction: ScatterReduction) -> Self {
        ScatterReduceOptions {
            reduction,
            include_self: true,
        }
    }

    /// Leaves the tensor's own element out where the index names its place.
    pub fn exclude_self(mut self) -> Self {
        self.include_self = false;
        self
    }
}

impl From<ScatterReduction> for ScatterReduceOptions {
    fn from(reduction: ScatterReduction) -> Self {
        ScatterReduceOptions::new(reduction)
    }
}

#[derive(Debug, Clone, Copy)]
struct ScatterReduce {
    dim: i64,
    reduction: ScatterReduction,
    include_self: bool,
}

impl Tensor {
    /// This tensor with elements folded in along a dim: for dim 0, `source[i][j]` into the place `[index[i][j]][j]`.
    ///
    /// Shapes and dtypes: as [`Tensor::scatter`]. PyTorch: `torch.scatter_reduce`. NPU: `aclnnScatterAdd` and elementwise
    /// kernels for sums and means, else `aclnnScatterReduce`.
    ///
    /// ```
    /// use ascend_tensor::{Tensor, ops::index::ScatterReduction};
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([1i32, 1, 1]);
    /// let (index, source) = (Tensor::new([2i64, 0, 2]), Tensor::new([5i32, 6, 7]));
    /// assert_eq!(x.scatter_reduce(0, &index, &source, ScatterReduction::Prod)?.to_vec::<i32>()?, [6, 1, 35]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Tensor::scatter`].
    pub fn scatter_reduce(
        &self,
        dim: i64,
        index: &Tensor,
        source: &Tensor,
        options: impl Into<ScatterReduceOptions>,
    ) -> Result<Tensor> {
        if self.rank() == 0 || index.rank() == 0 {
            return lifted(self)?
                .scatter_reduce(dim, &lifted(index)?, &lifted(source)?, options)?
                .reshape(*self.shape());
        }
        let ScatterReduceOptions {
            reduction,
            include_self,
        } = options.into();
        run_one(
            &ScatterReduce {
                dim,
                reduction,
                include_self,
            },
            &[self, index, source],
        )
    }
}

/// The mean of a sum: true for floats, rounded down for integers.
fn mean<T: Lane>(sum: T, count: i64) -> T {
    if T::IS_FLOAT {
        sum.over(T::from_i64(count))
    } else {
        T::from_i64(sum.to_i64().div_euclid(count.max(1)))
    }
}

impl ScatterReduce {
    fn fold<T: Lane>(
        &self,
        source: &Host<'_>,
        dim: usize,
        index: &[i64],
        (target, shape): (&mut [T], &Shape),
    ) {
        let neutral = match self.reduction {
            ScatterReduction::Sum | ScatterReduction::Mean => T::ZERO,
            ScatterReduction::Prod => T::ONE,
            ScatterReduction::Amax => T::LOWEST,
            ScatterReduction::Amin => T::HIGHEST,
        };
        if !self.include_self {
            scatter_along(
                &Host::splat(&neutral, source.shape()),
                dim,
                index,
                (&mut *target, shape),
                |_, x| x,
            );
        }
        match self.reduction {
            ScatterReduction::Sum | ScatterReduction::Mean => {
                scatter_along(source, dim, index, (&mut *target, shape), |a: T, x| {
                    a.plus(x)
                })
            }
            ScatterReduction::Prod => {
                scatter_along(source, dim, index, (&mut *target, shape), |a: T, x| {
                    a.times(x)
                })
            }
            ScatterReduction::Amax => {
                scatter_along(source, dim, index, (&mut *target, shape), |a: T, x| {
                    a.larger(x)
                })
            }
            ScatterReduction::Amin => {
                scatter_along(source, dim, index, (&mut *target, shape), |a: T, x| {
                    a.smaller(x)
                })
            }
        }
        if self.reduction == ScatterReduction::Mean {
            let mut counts = filled(i64::from(self.include_self), target.len());
            if lacks() {
                return;
            }
            scatter_along(
                &Host::splat(&1i64, source.shape()),
                dim,
                index,
                (&mut counts, shape),
                |a, x| a + x,
            );
            target
                .iter_mut()
                .zip(counts)
                .filter(|(_, count)| *count > 0)
                .for_each(|(x, count)| *x = mean(*x, count));
        }
    }

    /// How many elements each place folds, at least 1.
    fn counts(&self, like: &Tensor, index: &Tensor) -> Result<Tensor> {
        let own = if self.include_self {
            like.ones_like()?
        } else {
            like.zeros_like()?
        };
        let ones = Tensor::ones(*index.shape(), like.dtype(), like.device())?;
        own.scatter_add(self.dim, index, &ones)?
            .maximum(&Tensor::ones((), like.dtype(), like.device())?)
    }

    /// The source's part that the index uses.
    fn used(&self, source: &Tensor, index: &Tensor) -> Result<Tensor> {
        let cut =
            |part: Tensor, (dim, size): (usize, &usize)| part.narrow(dim as i64, 0, *size as i64);
        index
            .dims()
            .iter()
            .enumerate()
            .try_fold(source.clone(), cut)
    }

    /// The gradient is shared evenly by all that equal the result; as in PyTorch, the own element counts among them even where
    /// it is left out.
    fn extreme_gradients(&self, cx: &GradCx<'_>) -> Result<(Tensor, Tensor)> {
        let (x, index, dy, y) = (cx.input(0)?, cx.input(1)?, cx.gradient()?, cx.output(0)?);
        let own = x.eq(y)?.to_dtype(dy.dtype())?;
        let theirs = self
            .used(cx.input(2)?, index)?
            .eq(&y.gather(self.dim, index)?)?
            .to_dtype(dy.dtype())?;
        let sharers = own.scatter_add(self.dim, index, &theirs)?;
        let share = dy.div(&sharers.maximum(&Tensor::ones((), dy.dtype(), dy.device())?)?)?;
        let dx = if self.include_self {
            own.mul(&share)?
        } else {
            dy.scatter(self.dim, index, 0i64)?
        };
        Ok((dx, theirs.mul(&share.gather(self.dim, index)?)?))
    }

    fn product_gradients(&self, cx: &GradCx<'_>) -> Result<(Tensor, Tensor)> {
        let (x, index, dy, y) = (cx.input(0)?, cx.input(1)?, cx.gradient()?, cx.output(0)?);
        let source = self.used(cx.input(2)?, index)?;
        let options = ScatterReduceOptions {
            reduction: ScatterReduction::Prod,
            include_self: self.include_self,
        };
        let x_safe = x.masked_fill(&x.eq(0i64)?, 1i64)?;
        let dx = dy
            .mul(&x_safe.scatter_reduce(self.dim, index, &source, options)?)?
            .div(&x_safe)?;
        let dx = if self.include_self {
            dx
        } else {
            dy.scatter(self.dim, index, 0i64)?
        };
        let is_zero = source.eq(0i64)?;
        let zeros = x
            .zeros_like()?
            .scatter_add(self.dim, index, &is_zero.to_dtype(x.dtype())?)?;
        let single = is_zero.logical_and(&zeros.gather(self.dim, index)?.eq(1i64)?)?;
        let others = x.scatter_reduce(
            self.dim,
            index,
            &source.masked_fill(&single, 1i64)?,
            options,
        )?;
        let of_single = dy.mul(&others)?.gather(self.dim, index)?;
        let of_rest = dy
            .mul(y)?
            .gather(self.dim, index)?
            .div(&source.masked_fill(&is_zero, 1i64)?)?;
        Ok((dx, single.where_cond(&of_single, &of_rest)?))
    }
}

impl Op for ScatterReduce {
    fn name(&self) -> &'static str {
        "scatter_reduce"
    }

    fn infer(&self, x: &[Meta], plan: &mut Plan) -> Result<()> {
        source_fits(self.name(), self.dim, x)?;
        plan.output(x[0].shape, x[0].dtype);
        Ok(())
    }

    fn cpu(&self, x: &[Host<'_>], y: &mut [HostMut<'_>]) -> Result<Counts> {
        let shape = *x[0].shape();
        let dim = shape.axis(self.name(), self.dim)?;
        let index = host_indices(self.name(), &x[1], shape.size(dim), Negative::Refused)?;
        let source = x[2].with_layout(corner(x[2].layout(), x[1].shape()));
        map::copy(&x[0], &mut y[0]);
        if !index.is_empty() {
            with_lane!(x[0].dtype(), T => in_lanes::<T>(self.name(), &mut y[0], |target| self.fold(&source, dim, &index, (target, &shape)))?);
        }
        Ok(Counts::EXACT)
    }

    fn ascend(&self, cx: &Launch, x: &[Dev<'_>], y: &[Dev<'_>]) -> Result<Counts> {
        let dim = x[0].shape().axis(self.name(), self.dim)?;
        on_device(cx, &x[1], x[0].shape().size(dim), Negative::Refused)?;
        if x[1].elements() == 0 {
            aclnn::inplace_copy(cx, &y[0], &x[0])?;
            return Ok(Counts::EXACT);
        }
        let reduce = match self.reduction {
            ScatterReduction::Prod => 2,
            ScatterReduction::Amax => 3,
            ScatterReduction::Amin => 4,
            _ => {
                return Err(Error::unsupported(
                    self.name(),
                    Device::Ascend(cx.device()),
                    x[0].dtype(),
                    "sums and means are composed",
                ));
            }
        };
        let source = x[2].with_layout(corner(x[2].layout(), x[1].shape()));
        aclnn::scatter_reduce(
            cx,
            &x[0],
            dim as i64,
            &x[1],
            &source,
            reduce,
            self.include_self,
            &y[0],
        )?;
        Ok(Counts::EXACT)
    }

    fn compose(&self, x: &[Tensor]) -> Result<Outputs> {
        if !matches!(
            self.reduction,
            ScatterReduction::Sum | ScatterReduction::Mean
        ) {
            return Err(Error::unsupported(
                self.name(),
                x[0].device(),
                x[0].dtype(),
                "only sums and means are composed of others",
            ));
        }
        let start = if self.include_self {
            x[0].clone()
        } else {
            x[0].scatter(self.dim, &x[1], 0i64)?
        };
        let sum = start.scatter_add(self.dim, &x[1], &x[2])?;
        if self.reduction == ScatterReduction::Sum {
            return Ok(smallvec![sum]);
        }
        let counts = self.counts(&x[0], &x[1])?;
        Ok(smallvec![if sum.dtype().is_float() {
            sum.div(&counts)?
        } else {
            sum.floor_divide(&counts)?
        }])
    }

    fn gradient(&self) -> Gradient {
        Gradient::Backward
    }

    fn saves(&self) -> Saves {
        match self.reduction {
            ScatterReduction::Sum => Saves::NOTHING.and_input(1),
            ScatterReduction::Mean => Saves::NOTHING.and_input(1),
            _ => Saves::INPUTS.and_output(0),
        }
    }

    fn backward(&self, cx: &GradCx<'_>) -> Result<Grads> {
        let (dy, index) = (cx.gradient()?, cx.input(1)?);
        let (dx, source) = match self.reduction {
            ScatterReduction::Sum => (dy.clone(), dy.gather(self.dim, index)?),
            ScatterReduction::Mean => {
                let share = dy.div(&self.counts(dy, index)?)?;
                (share.clone(), share.gather(self.dim, index)?)
            }
            ScatterReduction::Prod => self.product_gradients(cx)?,
            ScatterReduction::Amax | ScatterReduction::Amin => self.extreme_gradients(cx)?,
        };
        let sums = matches!(
            self.reduction,
            ScatterReduction::Sum | ScatterReduction::Mean
        );
        let dx = if sums && !self.include_self {
            dx.scatter(self.dim, index, 0i64)?
        } else {
            dx
        };
        Ok(smallvec![
            cx.want(0, || Ok(dx))?,
            None,
            cx.want(2, || source_gradient(cx, source))?
        ])
    }

    fn boxed(&self) -> Box<dyn Op> {
        Box::new(*self)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "scatter_reduce",
    family: "index",
    kernels: &["aclnnScatterAdd", "aclnnScatterReduce"],
    samples,
};

fn samples() -> Vec<Sample> {
    let inputs = || {
        let index = SampleInput::typed([2, 5, 3], DType::I64, 0.0, 2.9);
        vec![
            SampleInput::new([2, 3, 4], 1.0, 3.0),
            index,
            SampleInput::new([2, 6, 3], 1.0, 3.0),
        ]
    };
    let one = |reduction, include_self| Sample {
        op: Box::new(ScatterReduce {
            dim: 1,
            reduction,
            include_self,
        }),
        inputs: inputs(),
        dtypes: NUMBERS,
    };
    vec![
        one(ScatterReduction::Sum, true),
        one(ScatterReduction::Mean, false),
        one(ScatterReduction::Prod, true),
        one(ScatterReduction::Amax, true),
    ]
}
