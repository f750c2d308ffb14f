//! The op behind every pooling by the mean, and its gradient.
//!
//! Knows kernels for any windows. Must not know how the public methods describe them.

use super::AvgPoolOptions;
use super::rule::{Pooling, Rule};
use crate::cpu::dense::{dense, into_dense};
use crate::cpu::pool::Divisor;
use crate::ops::elementwise::Rounding;
use crate::ops::linear::KEEP;
use crate::ops::prelude::*;
use crate::ops::reduce::widened;

/// The mean of each window.
#[derive(Debug, Clone, Copy)]
pub(super) struct MeanPool {
    pub pooling: Pooling,
    pub divisor: Divisor,
}

/// `dx` from `dy` and the input, of which only the shape counts.
#[derive(Debug, Clone, Copy)]
struct MeanPoolGradient(MeanPool);

impl MeanPool {
    /// By the options of a method.
    pub fn sliding<const N: usize>(name: &'static str, options: &AvgPoolOptions<N>) -> Self {
        MeanPool {
            pooling: Pooling::mean(name, options),
            divisor: match (options.divisor, options.count_padding) {
                (Some(divisor), _) => Divisor::Fixed(divisor),
                (None, true) => Divisor::Padded,
                (None, false) => Divisor::Inside,
            },
        }
    }

    /// Windows that divide the input.
    pub fn adaptive(pooling: Pooling) -> Self {
        MeanPool {
            pooling,
            divisor: Divisor::Inside,
        }
    }

    /// Runs on a tensor.
    pub fn run(&self, x: &Tensor) -> Result<Tensor> {
        run_one(self, &[x])
    }

    /// A sample over an input of a shape.
    pub fn sample(self, shape: &[usize]) -> Sample {
        Sample {
            op: Box::new(self),
            inputs: vec![SampleInput::new(shape, -2.0, 2.0)],
            dtypes: FLOATS,
        }
    }

    /// What each window's sum is divided by, for the outputs of a plane.
    fn divisors(&self, x: &Tensor) -> Result<Tensor> {
        let windows = self.pooling.windows(x.shape())?;
        let pairs = windows
            .rows
            .iter()
            .flat_map(|row| windows.columns.iter().map(move |column| (row, column)));
        let divisors: Vec<f64> = pairs
            .map(|(row, column)| match self.divisor {
                Divisor::Inside => (row.len() * column.len()) as f64,
                Divisor::Padded => (row.padded * column.padded) as f64,
                Divisor::Fixed(number) => number as f64,
            })
            .collect();
        let shape = [windows.rows.len(), windows.columns.len()];
        Tensor::from_vec(divisors, shape)?
            .to_dtype(x.dtype())?
            .to_device(x.device())
    }

    /// What CANN takes for the divisor: whether padding counts, and a number that replaces it, or 0.
    fn counting(&self) -> (bool, i64) {
        match self.divisor {
            Divisor::Inside => (false, 0),
            Divisor::Padded => (true, 0),
            Divisor::Fixed(number) => (true, number),
        }
    }
}

impl Op for MeanPool {
    fn name(&self) -> &'static str {
        self.pooling.name
    }

    fn infer(&self, x: &[Meta], plan: &mut Plan) -> Result<()> {
        let shape = self.pooling.result(&x[0].shape)?;
        if self.divisor == Divisor::Fixed(0) {
            return Err(Error::option(
                self.name(),
                "divisor_override",
                "got 0, wanted another number",
            ));
        }
        let whole = x[0].dtype == DType::I64 && matches!(self.pooling.rule, Rule::Sliding(_));
        if !x[0].dtype.is_float() && !whole {
            let want = "a float dtype, or i64 with sliding windows";
            return Err(Error::dtype(self.name(), x[0].dtype, want));
        }
        plan.output(shape, x[0].dtype);
        Ok(())
    }

    fn cpu(&self, x: &[Host<'_>], y: &mut [HostMut<'_>]) -> Result<Counts> {
        let (op, windows) = (self.name(), self.pooling.windows(x[0].shape())?);
        if x[0].dtype() == DType::I64 {
            let why = "whole numbers are composed of other ops";
            return Err(Error::unsupported(op, Device::Cpu, DType::I64, why));
        }
        with_float!(x[0].dtype(), T => {
            let mut held = Vec::new();
            let x = dense::<T>(op, &x[0], &mut held)?;
            into_dense(op, &mut y[0], |y| {
                windows.mean(x, self.divisor, y);
                Ok(())
            })?;
        });
        Ok(Counts::EXACT)
    }

    fn ascend(&self, cx: &Launch, x: &[Dev<'_>], y: &[Dev<'_>]) -> Result<Counts> {
        let [x, y] = [&x[0], &y[0]].map(|own| self.pooling.planes(own));
        let Rule::Sliding(sliding) = self.pooling.rule else {
            let shape = y.shape();
            let size = [shape.size(shape.rank() - 2), shape.size(shape.rank() - 1)]
                .map(|size| size as i64);
            aclnn::adaptive_avg_pool2d(cx, &x, &size, &y)?;
            return Ok(Counts::EXACT);
        };
        let [kernel, stride, padding] = [sliding.kernel, sliding.stride, sliding.padding]
            .map(|pair| pair.map(|number| number as i64));
        let (count, divisor) = self.counting();
        aclnn::avg_pool2d(
            cx,
            &x,
            &kernel,
            &stride,
            &padding,
            sliding.ceil,
            count,
            divisor,
            KEEP,
            &y,
        )?;
        Ok(Counts::EXACT)
    }

    fn compose(&self, x: &[Tensor]) -> Result<Outputs> {
        let shape = self.pooling.result(x[0].shape())?;
        let wide = x[0].to_dtype(widened(x[0].dtype()))?;
        let (windows, _) = self.pooling.gathered(&wide, Scalar::from(0.0))?;
        let (sums, divisors) = (windows.sum(-1)?, self.divisors(&wide)?);
        // Whole numbers are rounded toward 0.
        let mean = match x[0].dtype() {
            DType::I64 => sums.div_with(&divisors, Rounding::Trunc)?,
            _ => sums.div(&divisors)?,
        };
        Ok(smallvec![mean.reshape(shape)?.to_dtype(x[0].dtype())?])
    }

    fn gradient(&self) -> Gradient {
        Gradient::Backward
    }

    fn backward(&self, cx: &GradCx<'_>) -> Result<Grads> {
        let dx = run_one(&MeanPoolGradient(*self), &[cx.gradient()?, cx.input(0)?])?;
        Ok(smallvec![Some(dx)])
    }

    fn boxed(&self) -> Box<dyn Op> {
        Box::new(*self)
    }
}

impl Op for MeanPoolGradient {
    fn name(&self) -> &'static str {
        "avg_pool_backward"
    }

    fn infer(&self, x: &[Meta], plan: &mut Plan) -> Result<()> {
        plan.output(x[1].shape, x[0].dtype);
        Ok(())
    }

    fn cpu(&self, x: &[Host<'_>], y: &mut [HostMut<'_>]) -> Result<Counts> {
        let (op, windows) = (self.name(), self.0.pooling.windows(x[1].shape())?);
        with_float!(x[0].dtype(), T => {
            let mut held = Vec::new();
            let dy = dense::<T>(op, &x[0], &mut held)?;
            into_dense(op, &mut y[0], |dx| {
                windows.mean_gradient(dy, self.0.divisor, dx);
                Ok(())
            })?;
        });
        Ok(Counts::EXACT)
    }

    fn ascend(&self, cx: &Launch, x: &[Dev<'_>], y: &[Dev<'_>]) -> Result<Counts> {
        let pooling = &self.0.pooling;
        if x[0].is_empty() {
            aclnn::inplace_zero(cx, &y[0])?;
            return Ok(Counts::EXACT);
        }
        let [dy, input, dx] = [&x[0], &x[1], &y[0]].map(|own| pooling.planes(own));
        let Rule::Sliding(sliding) = pooling.rule else {
            aclnn::adaptive_avg_pool2d_backward(cx, &dy, &input, &dx)?;
            return Ok(Counts::EXACT);
        };
        let [kernel, stride, padding] = [sliding.kernel, sliding.stride, sliding.padding]
            .map(|pair| pair.map(|number| number as i64));
        let (count, divisor) = self.0.counting();
        aclnn::avg_pool2d_backward(
            cx,
            &dy,
            &input,
            &kernel,
            &stride,
            &padding,
            sliding.ceil,
            count,
            divisor,
            KEEP,
            &dx,
        )?;
        Ok(Counts::EXACT)
    }

    /// Each gradient's share, added to the elements of its window.
    fn compose(&self, x: &[Tensor]) -> Result<Outputs> {
        let op = &self.0;
        let shape = *x[1].shape();
        let divisors = op.divisors(&x[1])?;
        let outputs = divisors.elements();
        let lead = x[0].elements() / outputs.max(1);
        let plane = shape.elements() / lead.max(1);
        let blank = Tensor::zeros(shape, x[0].dtype(), x[0].device())?;
        let (inside, positions) = op.pooling.gathered(&blank.add(1.0)?, Scalar::from(0.0))?;
        let each = positions.elements() / outputs.max(1);
        let share = x[0]
            .reshape([lead, outputs, 1])?
            .div(&divisors.reshape([outputs, 1])?)?;
        let shares = share
            .mul(&inside.reshape([lead, outputs, each])?)?
            .reshape([lead, outputs * each])?;
        let sums = Tensor::zeros([lead, plane], x[0].dtype(), x[0].device())?;
        let sums = sums.index_add(1, &positions.reshape([outputs * each])?, &shares, ())?;
        Ok(smallvec![sums.reshape(shape)?])
    }

    fn gradient(&self) -> Gradient {
        Gradient::Backward
    }

    fn saves(&self) -> Saves {
        Saves::NOTHING
    }

    /// The mean again: the gradient is linear in `dy`.
    fn backward(&self, cx: &GradCx<'_>) -> Result<Grads> {
        Ok(smallvec![Some(self.0.run(cx.gradient()?)?), None])
    }

    fn boxed(&self) -> Box<dyn Op> {
        Box::new(*self)
    }
}
