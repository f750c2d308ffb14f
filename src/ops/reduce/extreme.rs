//! The plumbing of `amax`, `amin`, `max_dim`, `min_dim`, `argmax` and `argmin`: folds to the largest or smallest element.
//!
//! Knows which of two elements wins (NaN does) and how ties share gradients. Must not know the public methods.

use super::{LineOptions, ReduceOptions, picked};
use crate::cpu::lane::Lane;
use crate::cpu::reduce::{Fold, fold};
use crate::cpu::rows;
use crate::cpu::total::best;
use crate::ops::prelude::*;

/// Which end of the order is sought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Largest,
    Smallest,
}

/// Folds to the largest (or smallest) element.
struct Extreme<T, const LARGEST: bool>(std::marker::PhantomData<fn(T)>);

impl<T: Lane, const LARGEST: bool> Fold for Extreme<T, LARGEST> {
    type In = T;
    type State = T;
    type Out = T;

    fn start(&self) -> T {
        if LARGEST { T::LOWEST } else { T::HIGHEST }
    }

    #[inline(always)]
    fn step(&self, state: T, x: T) -> T {
        if LARGEST {
            state.larger(x)
        } else {
            state.smaller(x)
        }
    }

    #[inline(always)]
    fn join(&self, first: T, second: T) -> T {
        self.step(first, second)
    }

    fn finish(&self, state: T, _count: usize) -> T {
        state
    }
}

/// Whether `x` wins against `best`: beyond it, or the first NaN.
#[inline(always)]
pub(super) fn wins<T: Number>(end: End, x: T, best: T) -> bool {
    !best.is_nan()
        && (x.is_nan()
            || if end == End::Largest {
                x > best
            } else {
                x < best
            })
}

/// Where the first of the winning elements of a line stands: the best value in vectors, then where it is.
fn first<T: Number>(end: End, line: &[T]) -> usize {
    let simd = Simd::best();
    let best = vectorised!(simd, best_of(end, line));
    let is_best = |x: &T| *x == best || (best.is_nan() && x.is_nan());
    let mut done = 0;
    for part in line.chunks(256) {
        let found = vectorised!(simd, part.iter().fold(false, |found, x| found | is_best(x)));
        if found {
            return done + part.iter().position(is_best).unwrap_or(0);
        }
        done += part.len();
    }
    0
}

/// The winning value of a line.
#[inline(always)]
fn best_of<T: Number>(end: End, line: &[T]) -> T {
    let better = |a: T, b: T| match end {
        End::Largest => a.larger(b),
        End::Smallest => a.smaller(b),
    };
    let Some(first) = line.first() else {
        return T::ZERO;
    };
    best(line, *first, better)
}

/// `amax` and `amin`.
#[derive(Debug, Clone)]
pub(super) struct ExtremeOf {
    pub(super) end: End,
    pub(super) options: ReduceOptions,
}

impl Op for ExtremeOf {
    fn name(&self) -> &'static str {
        if self.end == End::Largest {
            "amax"
        } else {
            "amin"
        }
    }

    fn infer(&self, x: &[Meta], plan: &mut Plan) -> Result<()> {
        self.options.demand_elements(self.name(), &x[0].shape)?;
        let dtype = self.options.dtype.unwrap_or(x[0].dtype);
        plan.cast(0, dtype);
        plan.output(self.options.result(self.name(), &x[0].shape)?, dtype);
        Ok(())
    }

    fn cpu(&self, x: &[Host<'_>], y: &mut [HostMut<'_>]) -> Result<Counts> {
        let mask = self.options.mask(self.name(), x[0].shape())?;
        with_lane!(y[0].dtype(), T => match self.end {
            End::Largest => fold(&Extreme::<T, true>(std::marker::PhantomData), &x[0], &mask, &mut y[0]),
            End::Smallest => fold(&Extreme::<T, false>(std::marker::PhantomData), &x[0], &mask, &mut y[0]),
        });
        Ok(Counts::EXACT)
    }

    fn ascend(&self, cx: &Launch, x: &[Dev<'_>], y: &[Dev<'_>]) -> Result<Counts> {
        let dims = self.options.dims(self.name(), x[0].shape())?;
        let run = if self.end == End::Largest {
            aclnn::amax
        } else {
            aclnn::amin
        };
        run(cx, &x[0], &dims, self.options.keep, &y[0])?;
        Ok(Counts::EXACT)
    }

    fn gradient(&self) -> Gradient {
        Gradient::Backward
    }

    fn saves(&self) -> Saves {
        Saves::INPUTS.and_output(0)
    }

    /// Elements that tie share the gradient evenly.
    fn backward(&self, cx: &GradCx<'_>) -> Result<Grads> {
        let (x, kept) = (
            cx.input(0)?,
            self.options.kept(self.name(), &cx.meta(0)?.shape)?,
        );
        let (dy, y) = (cx.gradient()?.reshape(kept)?, cx.output(0)?.reshape(kept)?);
        let mask = x.detach().eq(&y.detach())?.to_dtype(x.dtype())?;
        let count = mask.sum(self.options.keeping())?;
        Ok(smallvec![Some(dy.div(&count)?.mul(&mask)?)])
    }

    fn boxed(&self) -> Box<dyn Op> {
        Box::new(self.clone())
    }
}

/// `max_dim` and `min_dim`: the extreme values along a dim and where they stand.
#[derive(Debug, Clone, Copy)]
pub(super) struct ExtremeAlong {
    pub(super) end: End,
    pub(super) options: LineOptions,
}

impl Op for ExtremeAlong {
    fn name(&self) -> &'static str {
        if self.end == End::Largest {
            "max_dim"
        } else {
            "min_dim"
        }
    }

    fn infer(&self, x: &[Meta], plan: &mut Plan) -> Result<()> {
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
        let end = self.end;
        with_lane!(x[0].dtype(), T => rows::picked::<T>(&x[0], dim, values, indices, |line| first(end, line)));
        Ok(Counts::EXACT)
    }

    fn ascend(&self, cx: &Launch, x: &[Dev<'_>], y: &[Dev<'_>]) -> Result<Counts> {
        let run = if self.end == End::Largest {
            aclnn::max_dim
        } else {
            aclnn::min_dim
        };
        run(cx, &x[0], self.options.dim, self.options.keep, &y[0], &y[1])?;
        Ok(Counts::EXACT)
    }

    /// The index first, then what stands there.
    fn compose(&self, x: &[Tensor]) -> Result<Outputs> {
        let options = ArgOptions {
            dim: Some(self.options.dim),
            keep: true,
        };
        let number = if x[0].dtype() == DType::Bool {
            x[0].to_dtype(DType::I32)?
        } else {
            x[0].detach()
        };
        let index = run_one(
            &ExtremeIndex {
                end: self.end,
                options,
            },
            &[&number],
        )?;
        let shape = self.options.plan(self.name(), x[0].shape())?.1;
        Ok(smallvec![
            x[0].gather(self.options.dim, &index)?.reshape(shape)?,
            index.reshape(shape)?
        ])
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

/// The dim of [`Tensor::argmax`] and [`Tensor::argmin`] (none: of the flattened tensor), and whether it stays with size 1.
#[derive(Debug, Clone, Copy, Default)]
#[must_use]
pub struct ArgOptions {
    pub(super) dim: Option<i64>,
    pub(super) keep: bool,
}

impl ArgOptions {
    /// Of the flattened tensor.
    pub fn new() -> Self {
        ArgOptions::default()
    }

    /// Along this dim.
    pub fn dim(mut self, dim: i64) -> Self {
        self.dim = Some(dim);
        self
    }

    /// Keeps the reduced dims with size 1.
    pub fn keepdim(mut self) -> Self {
        self.keep = true;
        self
    }

    fn reduce(&self) -> ReduceOptions {
        let options = self.dim.map_or(ReduceOptions::new(), ReduceOptions::from);
        if self.keep {
            options.keepdim()
        } else {
            options
        }
    }
}

impl From<()> for ArgOptions {
    fn from((): ()) -> Self {
        ArgOptions::new()
    }
}

impl From<i64> for ArgOptions {
    fn from(dim: i64) -> Self {
        ArgOptions::new().dim(dim)
    }
}

/// `argmax` and `argmin`.
#[derive(Debug, Clone, Copy)]
pub(super) struct ExtremeIndex {
    pub(super) end: End,
    pub(super) options: ArgOptions,
}

impl Op for ExtremeIndex {
    fn name(&self) -> &'static str {
        if self.end == End::Largest {
            "argmax"
        } else {
            "argmin"
        }
    }

    fn infer(&self, x: &[Meta], plan: &mut Plan) -> Result<()> {
        if x[0].dtype == DType::Bool {
            return Err(Error::dtype(self.name(), x[0].dtype, "a number"));
        }
        let options = self.options.reduce();
        options.demand_elements(self.name(), &x[0].shape)?;
        plan.output(options.result(self.name(), &x[0].shape)?, DType::I64);
        Ok(())
    }

    fn cpu(&self, x: &[Host<'_>], y: &mut [HostMut<'_>]) -> Result<Counts> {
        let options = self.options.reduce();
        let mask = options.mask(self.name(), x[0].shape())?;
        let kept = options.kept(self.name(), x[0].shape())?;
        let Some(layout) = y[0].layout().reshape(&kept) else {
            return Ok(Counts::EXACT);
        };
        let (end, mut out) = (self.end, y[0].with_layout(layout));
        with_lane!(x[0].dtype(), T => {
            rows::marked::<T, 1, 0>([&x[0]], [], &mut out, &mask, |_, [line], [], marks| {
                marks.fill(first(end, line) as i64);
            });
        });
        Ok(Counts::EXACT)
    }

    fn ascend(&self, cx: &Launch, x: &[Dev<'_>], y: &[Dev<'_>]) -> Result<Counts> {
        let run = if self.end == End::Largest {
            aclnn::arg_max
        } else {
            aclnn::arg_min
        };
        if let Some(dim) = self.options.dim {
            run(cx, &x[0], dim, self.options.keep, &y[0])?;
            return Ok(Counts::EXACT);
        }
        let flat = cx.contiguous(&x[0])?;
        let flat = flat.dev().with_layout(
            Layout::contiguous(x[0].elements()).with_offset(flat.dev().layout().offset()),
        );
        run(
            cx,
            &flat,
            0,
            false,
            &y[0].with_layout(Layout::contiguous(()).with_offset(y[0].layout().offset())),
        )?;
        Ok(Counts::EXACT)
    }

    fn gradient(&self) -> Gradient {
        Gradient::Constant
    }

    fn boxed(&self) -> Box<dyn Op> {
        Box::new(*self)
    }
}
