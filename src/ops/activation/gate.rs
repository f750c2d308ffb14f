//! The form of gated activations: one half of the input opens or closes the other.
//!
//! Knows how the halves lie and how both gradients are written. Must not know any single gate.

use std::marker::PhantomData;

use std::fmt::Debug;

use crate::cpu::map::Formula2;
use crate::cpu::real::Real;
use crate::cpu::sweep::sweep;
use crate::ops::elementwise::unary::may_fuse;
use crate::ops::prelude::*;

/// What a gated activation says of itself.
pub(super) trait Gate: Debug + Clone + Copy + Send + Sync + 'static {
    const NAME: &'static str;
    const BACKWARD: &'static str;

    /// The result from the first and the second half.
    fn at<T: Real>(a: T, b: T) -> T;

    /// The derivatives by both halves.
    fn slopes<T: Real>(a: T, b: T) -> (T, T);

    /// Queues the kernel.
    fn ascend(cx: &Launch, x: &Dev<'_>, dim: i64, y: &Dev<'_>) -> Result<()>;

    /// Queues the gradient's kernel.
    fn ascend_backward(
        cx: &Launch,
        dy: &Dev<'_>,
        x: &Dev<'_>,
        dim: i64,
        dx: &Dev<'_>,
    ) -> Result<()>;

    /// The meaning in simpler ops.
    fn compose(a: &Tensor, b: &Tensor) -> Result<Tensor>;

    /// The derivatives in simpler ops.
    fn compose_slopes(a: &Tensor, b: &Tensor) -> Result<(Tensor, Tensor)>;
}

/// A gated activation as an op.
#[derive(Debug, Clone, Copy)]
pub(super) struct Gated<G> {
    dim: i64,
    gate: PhantomData<fn(G)>,
}

/// Its gradient in one kernel: from `dy` and `x`.
#[derive(Debug, Clone, Copy)]
struct GatedBackward<G>(Gated<G>);

impl<G: Gate> Gated<G> {
    pub fn along(dim: i64) -> Self {
        Gated {
            dim,
            gate: PhantomData,
        }
    }

    /// The dim, and half its size.
    fn half(&self, shape: &Shape) -> Result<(usize, usize)> {
        let dim = shape.axis(G::NAME, self.dim)?;
        let size = shape.size(dim);
        if !size.is_multiple_of(2) {
            return Err(Error::shape(
                G::NAME,
                format!("{shape} to halve along dim {dim}"),
                "an even size",
            ));
        }
        Ok((dim, size / 2))
    }

    /// The halves as tensors, halves of floats widened.
    fn halves(&self, x: &Tensor) -> Result<(Tensor, Tensor)> {
        let (dim, half) = self.half(x.shape())?;
        let wide = x.to_dtype(x.dtype().compute())?;
        let (dim, half) = (dim as i64, half as i64);
        Ok((wide.narrow(dim, 0, half)?, wide.narrow(dim, half, half)?))
    }

    fn composed_backward(&self, dy: &Tensor, x: &Tensor) -> Result<Tensor> {
        let (a, b) = self.halves(x)?;
        let (da, db) = G::compose_slopes(&a, &b)?;
        Tensor::cat(&[&da.mul(dy)?, &db.mul(dy)?], self.dim)?.to_dtype(x.dtype())
    }
}

impl<G: Gate> Formula2 for Gated<G> {
    #[inline(always)]
    fn at<T: Real>(&self, a: T, b: T) -> T {
        G::at(a, b)
    }
}

impl<G: Gate> Op for Gated<G> {
    fn name(&self) -> &'static str {
        G::NAME
    }

    fn infer(&self, x: &[Meta], plan: &mut Plan) -> Result<()> {
        if !x[0].dtype.is_float() {
            return Err(Error::dtype(G::NAME, x[0].dtype, "a float"));
        }
        let (dim, half) = self.half(&x[0].shape)?;
        plan.output(x[0].shape.with(dim, half), x[0].dtype);
        Ok(())
    }

    fn cpu(&self, x: &[Host<'_>], y: &mut [HostMut<'_>]) -> Result<Counts> {
        let (dim, half) = self.half(x[0].shape())?;
        let part = |start: usize| x[0].with_layout(x[0].layout().slice(dim, start, half, 1));
        let (a, b) = (part(0), part(half));
        with_float!(x[0].dtype(), T => map::formula2::<T>(&a, &b, &mut y[0], self));
        Ok(Counts::EXACT)
    }

    fn ascend(&self, cx: &Launch, x: &[Dev<'_>], y: &[Dev<'_>]) -> Result<Counts> {
        let (dim, _) = self.half(x[0].shape())?;
        G::ascend(cx, &x[0], dim as i64, &y[0])?;
        Ok(Counts::EXACT)
    }

    fn compose(&self, x: &[Tensor]) -> Result<Outputs> {
        let (a, b) = self.halves(&x[0])?;
        Ok(smallvec![G::compose(&a, &b)?.to_dtype(x[0].dtype())?])
    }

    fn gradient(&self) -> Gradient {
        Gradient::Backward
    }

    fn backward(&self, cx: &GradCx<'_>) -> Result<Grads> {
        let (dy, x) = (cx.gradient()?, cx.input(0)?);
        let dx = if may_fuse() {
            run_one(&GatedBackward(*self), &[dy, x])?
        } else {
            self.composed_backward(dy, x)?
        };
        Ok(smallvec![Some(dx)])
    }

    fn boxed(&self) -> Box<dyn Op> {
        Box::new(*self)
    }
}

impl<G: Gate> Op for GatedBackward<G> {
    fn name(&self) -> &'static str {
        G::BACKWARD
    }

    fn infer(&self, x: &[Meta], plan: &mut Plan) -> Result<()> {
        plan.output(x[1].shape, x[1].dtype);
        Ok(())
    }

    fn cpu(&self, x: &[Host<'_>], y: &mut [HostMut<'_>]) -> Result<Counts> {
        let (dim, half) = self.0.half(x[1].shape())?;
        let part = |start: usize| x[1].with_layout(x[1].layout().slice(dim, start, half, 1));
        let (a, b) = (part(0), part(half));
        with_float!(x[1].dtype(), T => {
            let (da, db) = y[0].split(dim, half);
            sweep::<T, 3, 2, 5>([&x[0], &a, &b], [&da, &db], |[dy, a, b]| {
                let (by_a, by_b) = G::slopes(a, b);
                [dy * by_a, dy * by_b]
            });
        });
        Ok(Counts::EXACT)
    }

    fn ascend(&self, cx: &Launch, x: &[Dev<'_>], y: &[Dev<'_>]) -> Result<Counts> {
        let (dim, _) = self.0.half(x[1].shape())?;
        G::ascend_backward(cx, &x[0], &x[1], dim as i64, &y[0])?;
        Ok(Counts::EXACT)
    }

    fn compose(&self, x: &[Tensor]) -> Result<Outputs> {
        Ok(smallvec![self.0.composed_backward(&x[0], &x[1])?])
    }

    fn gradient(&self) -> Gradient {
        Gradient::Missing
    }

    fn boxed(&self) -> Box<dyn Op> {
        Box::new(*self)
    }
}
