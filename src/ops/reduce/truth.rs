//! The plumbing of `all`, `any` and `count_nonzero`: folds over whether elements are zero.
//!
//! Knows the folds and the result's dtype. Must not know the public methods.

use super::ReduceOptions;
use crate::cpu::lane::Lane;
use crate::cpu::reduce::{Fold, fold};
use crate::ops::prelude::*;

/// What is asked of the elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    All,
    Any,
    Count,
}

#[derive(Debug, Clone)]
pub(super) struct Truth {
    pub(super) form: Form,
    pub(super) options: ReduceOptions,
}

/// Counts the elements that are not zero; `finish` turns the count into the answer.
struct Counting<T, O> {
    form: Form,
    lanes: std::marker::PhantomData<fn(T) -> O>,
}

impl<T: Lane, O: Lane> Fold for Counting<T, O> {
    type In = T;
    type State = i64;
    type Out = O;

    fn start(&self) -> i64 {
        0
    }

    #[inline(always)]
    fn step(&self, state: i64, x: T) -> i64 {
        state + i64::from(x.is_true())
    }

    #[inline(always)]
    fn join(&self, first: i64, second: i64) -> i64 {
        first + second
    }

    fn finish(&self, state: i64, count: usize) -> O {
        O::from_i64(match self.form {
            Form::All => i64::from(state == count as i64),
            Form::Any => i64::from(state > 0),
            Form::Count => state,
        })
    }
}

impl Op for Truth {
    fn name(&self) -> &'static str {
        match self.form {
            Form::All => "all",
            Form::Any => "any",
            Form::Count => "count_nonzero",
        }
    }

    fn infer(&self, x: &[Meta], plan: &mut Plan) -> Result<()> {
        let dtype = match (self.form, x[0].dtype) {
            (Form::Count, _) => DType::I64,
            (_, DType::U8) => DType::U8,
            _ => DType::Bool,
        };
        plan.output(self.options.result(self.name(), &x[0].shape)?, dtype);
        Ok(())
    }

    fn cpu(&self, x: &[Host<'_>], y: &mut [HostMut<'_>]) -> Result<Counts> {
        let mask = self.options.mask(self.name(), x[0].shape())?;
        let form = self.form;
        with_lane!(x[0].dtype(), T => match y[0].dtype() {
            DType::I64 => fold(&Counting::<T, i64> { form, lanes: std::marker::PhantomData }, &x[0], &mask, &mut y[0]),
            DType::U8 => fold(&Counting::<T, u8> { form, lanes: std::marker::PhantomData }, &x[0], &mask, &mut y[0]),
            _ => fold(&Counting::<T, bool> { form, lanes: std::marker::PhantomData }, &x[0], &mask, &mut y[0]),
        });
        Ok(Counts::EXACT)
    }

    fn ascend(&self, cx: &Launch, x: &[Dev<'_>], y: &[Dev<'_>]) -> Result<Counts> {
        let dims = self.options.dims(self.name(), x[0].shape())?;
        match self.form {
            Form::All => aclnn::all(cx, &x[0], &dims, self.options.keep, &y[0])?,
            Form::Any => aclnn::any(cx, &x[0], &dims, self.options.keep, &y[0])?,
            Form::Count => {
                return Err(Error::unsupported(
                    self.name(),
                    Device::Ascend(cx.device()),
                    x[0].dtype(),
                    "a composition of two kernels",
                ));
            }
        }
        Ok(Counts::EXACT)
    }

    fn compose(&self, x: &[Tensor]) -> Result<Outputs> {
        let count = x[0].ne(0i64)?.sum(self.options.clone())?;
        let total = self.options.count(self.name(), x[0].shape())? as i64;
        Ok(smallvec![match self.form {
            Form::All => count.eq(total)?.to_dtype(if x[0].dtype() == DType::U8 {
                DType::U8
            } else {
                DType::Bool
            })?,
            Form::Any => count.gt(0i64)?.to_dtype(if x[0].dtype() == DType::U8 {
                DType::U8
            } else {
                DType::Bool
            })?,
            Form::Count => count,
        }])
    }

    fn gradient(&self) -> Gradient {
        Gradient::Constant
    }

    fn boxed(&self) -> Box<dyn Op> {
        Box::new(self.clone())
    }
}
