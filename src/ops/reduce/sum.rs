//! `sum`: the sum of elements over dims.

use super::ReduceOptions;
use crate::cpu::lane::Lane;
use crate::cpu::reduce::{Fold, fold, reduced_shape};
use crate::ops::prelude::*;
use crate::shape::MAX_RANK;

#[derive(Debug, Clone)]
struct Sum {
    options: ReduceOptions,
}

impl Tensor {
    /// The sum over dims; integers and bools give `i64`, halves accumulate in f32; the empty sum is 0.
    ///
    /// Shapes: the reduced dims go, or stay with size 1 (`keepdim`). Dtypes: all. PyTorch: `torch.sum`. NPU: `aclnnReduceSum`.
    ///
    /// ```
    /// use ascend_tensor::{Tensor, ops::reduce::ReduceOptions};
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([[1.0f32, 2.0], [3.0, 4.0]]);
    /// assert_eq!(x.sum(())?.item::<f32>()?, 10.0);
    /// assert_eq!(x.sum(0)?.to_vec::<f32>()?, [4.0, 6.0]);
    /// assert_eq!(x.sum(ReduceOptions::new().dim(-1).keepdim())?.dims(), [2, 1]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Axis` for a dim out of range, `Option` for one given twice.
    pub fn sum(&self, options: impl Into<ReduceOptions>) -> Result<Tensor> {
        run_one(
            &Sum {
                options: options.into(),
            },
            &[self],
        )
    }

    /// Sums over broadcast dims, so that the result has `shape`: the gradient of broadcasting.
    pub(crate) fn sum_to(&self, op: &'static str, shape: &Shape) -> Result<Tensor> {
        let lead = self
            .rank()
            .checked_sub(shape.rank())
            .ok_or_else(|| Error::shape(op, self.shape(), shape))?;
        let wide =
            |dim: &usize| *dim < lead || shape.size(*dim - lead) == 1 && self.dims()[*dim] != 1;
        let dims: Vec<i64> = (0..self.rank())
            .filter(wide)
            .map(|dim| dim as i64)
            .collect();
        let sum = if dims.is_empty() {
            self.clone()
        } else {
            self.sum(ReduceOptions::new().dim(dims).keepdim())?
        };
        sum.reshape(*shape)
    }
}

/// Sums floats in double precision and integers wrapping.
pub(super) struct Total<T> {
    mean: bool,
    lane: std::marker::PhantomData<fn(T)>,
}

impl<T> Total<T> {
    /// The sum.
    pub(super) fn sum() -> Self {
        Total {
            mean: false,
            lane: std::marker::PhantomData,
        }
    }

    /// The sum over the count.
    pub(super) fn mean() -> Self {
        Total {
            mean: true,
            lane: std::marker::PhantomData,
        }
    }
}

impl<T: Lane> Fold for Total<T> {
    type In = T;
    type State = f64;
    type Out = T;

    fn start(&self) -> f64 {
        0.0
    }

    #[inline(always)]
    fn step(&self, state: f64, x: T) -> f64 {
        state + x.to_f64()
    }

    #[inline(always)]
    fn join(&self, first: f64, second: f64) -> f64 {
        first + second
    }

    fn finish(&self, state: f64, count: usize) -> T {
        T::from_f64(if self.mean {
            state / count as f64
        } else {
            state
        })
    }
}

struct Wrapping;

impl Fold for Wrapping {
    type In = i64;
    type State = i64;
    type Out = i64;

    fn start(&self) -> i64 {
        0
    }

    #[inline(always)]
    fn step(&self, state: i64, x: i64) -> i64 {
        state.wrapping_add(x)
    }

    #[inline(always)]
    fn join(&self, first: i64, second: i64) -> i64 {
        first.wrapping_add(second)
    }

    fn finish(&self, state: i64, _count: usize) -> i64 {
        state
    }
}

impl Sum {
    fn mask(&self, shape: &Shape) -> Result<[bool; MAX_RANK]> {
        self.options.dim.resolve(self.name(), shape)
    }
}

impl Op for Sum {
    fn name(&self) -> &'static str {
        "sum"
    }

    fn infer(&self, x: &[Meta], plan: &mut Plan) -> Result<()> {
        let mask = self.mask(&x[0].shape)?;
        let own = if x[0].dtype.is_float() {
            x[0].dtype
        } else {
            DType::I64
        };
        let dtype = self.options.dtype.unwrap_or(own);
        plan.cast(0, dtype);
        plan.output(reduced_shape(&x[0].shape, &mask, self.options.keep), dtype);
        Ok(())
    }

    fn cpu(&self, x: &[Host<'_>], y: &mut [HostMut<'_>]) -> Result<Counts> {
        let mask = self.mask(x[0].shape())?;
        match x[0].dtype() {
            DType::I64 => fold(&Wrapping, &x[0], &mask, &mut y[0]),
            dtype => with_lane!(dtype, T => fold(&Total::<T>::sum(), &x[0], &mask, &mut y[0])),
        }
        Ok(Counts::EXACT)
    }

    fn ascend(&self, cx: &Launch, x: &[Dev<'_>], y: &[Dev<'_>]) -> Result<Counts> {
        let mask = self.mask(x[0].shape())?;
        let dims: Vec<i64> = (0..x[0].shape().rank())
            .filter(|dim| mask[*dim])
            .map(|dim| dim as i64)
            .collect();
        aclnn::reduce_sum(cx, &x[0], &dims, self.options.keep, y[0].dtype(), &y[0])?;
        Ok(Counts::EXACT)
    }

    fn gradient(&self) -> Gradient {
        Gradient::Backward
    }

    fn saves(&self) -> Saves {
        Saves::NOTHING
    }

    fn backward(&self, cx: &GradCx<'_>) -> Result<Grads> {
        let shape = cx.meta(0)?.shape;
        let kept = reduced_shape(&shape, &self.mask(&shape)?, true);
        Ok(smallvec![Some(
            cx.gradient()?.reshape(kept)?.expand(shape)?
        )])
    }

    fn cast(&self) -> CastRule {
        CastRule::Full
    }

    fn boxed(&self) -> Box<dyn Op> {
        Box::new(self.clone())
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "sum",
    family: "reduce",
    kernels: &["aclnnReduceSum"],
    samples,
};

fn samples() -> Vec<Sample> {
    let sum = |options: ReduceOptions| Sample {
        op: Box::new(Sum { options }),
        inputs: vec![SampleInput::new([2, 3, 4], -2.0, 2.0)],
        dtypes: DType::ALL,
    };
    vec![
        sum(().into()),
        sum([0, 2].into()),
        sum(ReduceOptions::new().dim(-1).keepdim()),
    ]
}
