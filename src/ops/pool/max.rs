//! The op behind every pooling by the maximum, and its gradient.
//!
//! Knows kernels for any windows. Must not know how the public methods describe them.

use super::rule::{Pooling, Rule, Sliding};
use crate::cpu::dense::{dense, into_dense};
use crate::ops::prelude::*;

/// The largest element of each window.
#[derive(Debug, Clone, Copy)]
pub(super) struct MaxPool {
    pub pooling: Pooling,
    /// Whether the positions are an output too.
    pub indices: bool,
}

/// `dx` from `dy`, the input and the positions of the maxima.
#[derive(Debug, Clone, Copy)]
struct MaxPoolGradient {
    pooling: Pooling,
}

impl MaxPool {
    /// The maxima alone.
    pub fn values(pooling: Pooling, x: &Tensor) -> Result<Tensor> {
        run_one(
            &MaxPool {
                pooling,
                indices: false,
            },
            &[x],
        )
    }

    /// The maxima and their positions.
    pub fn pairs(pooling: Pooling, x: &Tensor) -> Result<(Tensor, Tensor)> {
        let op = MaxPool {
            pooling,
            indices: true,
        };
        let mut outputs = run(&op, &[x])?.into_iter();
        outputs
            .next()
            .zip(outputs.next())
            .ok_or(Error::NoGradient { op: pooling.name })
    }

    /// A sample over an input of a shape.
    pub fn sample(self, shape: &[usize]) -> Sample {
        Sample {
            op: Box::new(self),
            inputs: vec![SampleInput::new(shape, -20.0, 20.0)],
            dtypes: NUMBERS,
        }
    }
}

/// The refusal of what CANN's kernels do not take.
fn refuse(op: &'static str, cx: &Launch, dtype: DType, why: &str) -> Error {
    Error::unsupported(op, Device::Ascend(cx.device()), dtype, why)
}

/// The numbers as CANN takes them.
fn numbers(pair: [usize; 2]) -> [i64; 2] {
    pair.map(|number| number as i64)
}

impl Sliding {
    /// CANN's kernels of the training chips take windows without gaps only.
    fn demand_dense(&self, op: &'static str, cx: &Launch, dtype: DType) -> Result<()> {
        if self.dilation == [1; 2] {
            return Ok(());
        }
        Err(refuse(op, cx, dtype, "the kernel takes a dilation of 1"))
    }
}

impl Op for MaxPool {
    fn name(&self) -> &'static str {
        self.pooling.name
    }

    fn infer(&self, x: &[Meta], plan: &mut Plan) -> Result<()> {
        let shape = self.pooling.result(&x[0].shape)?;
        if x[0].dtype == DType::Bool {
            return Err(Error::dtype(self.name(), x[0].dtype, "a number"));
        }
        plan.output(shape, x[0].dtype);
        if self.indices {
            plan.output(shape, DType::I64);
        } else if plan.is_on_ascend() {
            let sliding = matches!(self.pooling.rule, Rule::Sliding(_));
            plan.auxiliary(shape, if sliding { DType::I32 } else { DType::I64 });
        } else if plan.is_taped() {
            plan.auxiliary(shape, DType::I64);
        }
        Ok(())
    }

    fn cpu(&self, x: &[Host<'_>], y: &mut [HostMut<'_>]) -> Result<Counts> {
        let (op, windows) = (self.name(), self.pooling.windows(x[0].shape())?);
        let Some((values, indices)) = y.split_first_mut() else {
            return Ok(Counts::EXACT);
        };
        let indices = indices.first_mut().and_then(HostMut::as_mut_slice::<i64>);
        with_lane!(x[0].dtype(), T => {
            let mut held = Vec::new();
            let x = dense::<T>(op, &x[0], &mut held)?;
            into_dense(op, values, |y| {
                windows.max(x, y, indices);
                Ok(())
            })?;
        });
        Ok(Counts::EXACT)
    }

    fn ascend(&self, cx: &Launch, x: &[Dev<'_>], y: &[Dev<'_>]) -> Result<Counts> {
        let [values, indices] = y else {
            return Err(refuse(
                self.name(),
                cx,
                x[0].dtype(),
                "positions were not planned",
            ));
        };
        let [input, values, indices] = [&x[0], values, indices].map(|own| self.pooling.planes(own));
        let Rule::Sliding(sliding) = self.pooling.rule else {
            let shape = values.shape();
            let size = numbers([shape.size(shape.rank() - 2), shape.size(shape.rank() - 1)]);
            aclnn::adaptive_max_pool2d(cx, &input, &size, &values, &indices)?;
            return Ok(Counts::EXACT);
        };
        sliding.demand_dense(self.name(), cx, x[0].dtype())?;
        let narrow = cx.temporary(
            if self.indices {
                *indices.shape()
            } else {
                Shape::from([0])
            },
            DType::I32,
        )?;
        let narrow = narrow.dev();
        aclnn::max_pool2d_with_indices(
            cx,
            &input,
            &numbers(sliding.kernel),
            &numbers(sliding.stride),
            &numbers(sliding.padding),
            &numbers(sliding.dilation),
            sliding.ceil,
            &values,
            if self.indices { &narrow } else { &indices },
        )?;
        if self.indices {
            aclnn::cast(cx, &narrow, DType::I64, &indices)?;
        }
        Ok(Counts::EXACT)
    }

    fn compose(&self, x: &[Tensor]) -> Result<Outputs> {
        let shape = self.pooling.result(x[0].shape())?;
        let lowest = with_lane!(x[0].dtype(), T => Scalar::from(T::LOWEST));
        let (windows, positions) = self.pooling.gathered(&x[0], lowest)?;
        if !self.indices && !windows.is_tracked() {
            return Ok(smallvec![windows.amax(-1)?.reshape(shape)?]);
        }
        let place = last_nan_or_first_largest(&windows)?.unsqueeze(-1)?;
        let values = windows.gather(-1, &place)?;
        let mut outputs: Outputs = smallvec![values.reshape(shape)?];
        if self.indices {
            let positions = positions.unsqueeze(0)?.expand(*windows.shape())?;
            let index = positions.gather(-1, &place)?;
            outputs.push(index.reshape(shape)?);
        }
        Ok(outputs)
    }

    fn gradient(&self) -> Gradient {
        Gradient::Backward
    }

    fn saves(&self) -> Saves {
        Saves::INPUTS.and_output(1)
    }

    fn backward(&self, cx: &GradCx<'_>) -> Result<Grads> {
        let Some(dy) = cx.gradient_of(0) else {
            return Ok(smallvec![None]);
        };
        let op = MaxPoolGradient {
            pooling: self.pooling,
        };
        Ok(smallvec![Some(run_one(
            &op,
            &[dy, cx.input(0)?, cx.output(1)?]
        )?)])
    }

    fn boxed(&self) -> Box<dyn Op> {
        Box::new(*self)
    }
}

impl Op for MaxPoolGradient {
    fn name(&self) -> &'static str {
        "max_pool_backward"
    }

    fn infer(&self, x: &[Meta], plan: &mut Plan) -> Result<()> {
        plan.output(x[1].shape, x[0].dtype);
        Ok(())
    }

    fn cpu(&self, x: &[Host<'_>], y: &mut [HostMut<'_>]) -> Result<Counts> {
        let (op, windows) = (self.name(), self.pooling.windows(x[1].shape())?);
        if x[2].dtype() != DType::I64 {
            let why = "the positions are an NPU's";
            return Err(Error::unsupported(op, Device::Cpu, x[2].dtype(), why));
        }
        with_lane!(x[0].dtype(), T => {
            let (mut dy, mut indices) = (Vec::new(), Vec::new());
            let (dy, indices) = (dense::<T>(op, &x[0], &mut dy)?, dense::<i64>(op, &x[2], &mut indices)?);
            into_dense(op, &mut y[0], |dx| {
                windows.max_gradient(dy, indices, dx);
                Ok(())
            })?;
        });
        Ok(Counts::EXACT)
    }

    fn ascend(&self, cx: &Launch, x: &[Dev<'_>], y: &[Dev<'_>]) -> Result<Counts> {
        if x[0].is_empty() {
            return Err(refuse(
                self.name(),
                cx,
                x[0].dtype(),
                "the kernel takes no empty tensor",
            ));
        }
        let [dy, input, indices, dx] =
            [&x[0], &x[1], &x[2], &y[0]].map(|own| self.pooling.planes(own));
        let Rule::Sliding(sliding) = self.pooling.rule else {
            aclnn::adaptive_max_pool2d_backward(cx, &dy, &input, &indices, &dx)?;
            return Ok(Counts::EXACT);
        };
        sliding.demand_dense(self.name(), cx, x[0].dtype())?;
        // The kernel of the training chips adds gradients up in f32 only.
        let half = dy.dtype().is_half();
        let wide = |own: &Dev<'_>| if half { DType::F32 } else { own.dtype() };
        let (dy, input) = (cx.cast(&x[0], wide(&dy))?, cx.cast(&x[1], wide(&input))?);
        let (dy, input) = (
            self.pooling.planes(&dy.dev()),
            self.pooling.planes(&input.dev()),
        );
        let indices = cx.cast(&x[2], DType::I32)?;
        let sums = cx.temporary(
            if half { *dx.shape() } else { Shape::from([0]) },
            DType::F32,
        )?;
        let sums = sums.dev();
        aclnn::max_pool2d_with_indices_backward(
            cx,
            &dy,
            &input,
            &self.pooling.planes(&indices.dev()),
            &numbers(sliding.kernel),
            &numbers(sliding.stride),
            &numbers(sliding.padding),
            &numbers(sliding.dilation),
            sliding.ceil,
            if half { &sums } else { &dx },
        )?;
        if half {
            aclnn::cast(cx, &sums, dx.dtype(), &dx)?;
        }
        Ok(Counts::EXACT)
    }

    fn compose(&self, x: &[Tensor]) -> Result<Outputs> {
        let plane = plane(x[1].shape(), self.pooling.dims);
        let lead = x[1].elements() / plane.max(1);
        let lines = [lead, x[0].elements() / lead.max(1)];
        let index = x[2].to_dtype(DType::I64)?.reshape(lines)?;
        let sums = Tensor::zeros([lead, plane], x[0].dtype(), x[0].device())?;
        let sums = sums.scatter_add(1, &index, &x[0].reshape(lines)?)?;
        Ok(smallvec![sums.reshape(*x[1].shape())?])
    }

    fn gradient(&self) -> Gradient {
        Gradient::Backward
    }

    fn saves(&self) -> Saves {
        Saves::NOTHING.and_input(2)
    }

    /// Each output took the gradient of the element that its index names.
    fn backward(&self, cx: &GradCx<'_>) -> Result<Grads> {
        let (ddx, index) = (cx.gradient()?, cx.input(2)?);
        let plane = plane(ddx.shape(), self.pooling.dims);
        let lead = ddx.elements() / plane.max(1);
        let index = index.to_dtype(DType::I64)?;
        let lines = index.reshape([lead, index.elements() / lead.max(1)])?;
        let taken = ddx.reshape([lead, plane])?.gather(1, &lines)?;
        Ok(smallvec![Some(taken.reshape(*index.shape())?), None, None])
    }

    fn boxed(&self) -> Box<dyn Op> {
        Box::new(*self)
    }
}

/// Where the maximum of each line stands: the last NaN if there is one, else the first of the largest.
fn last_nan_or_first_largest(lines: &Tensor) -> Result<Tensor> {
    let lines = &lines.detach();
    let first = lines.argmax(-1)?;
    let count = lines.dims().last().copied().unwrap_or(0);
    if !lines.dtype().is_float() || count < 2 {
        return Ok(first);
    }
    let order = Tensor::new((1..=count as i64).collect::<Vec<_>>()).to_device(lines.device())?;
    let (last, place) = lines.isnan()?.where_cond(&order, 0i64)?.max_dim(-1)?;
    last.gt(0i64)?.where_cond(&place, &first)
}

/// The elements of a plane.
fn plane(x: &Shape, dims: usize) -> usize {
    x.dims().iter().rev().take(dims).product()
}
