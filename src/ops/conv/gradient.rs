//! The gradients of a convolution, and theirs: all are convolutions of the same geometry.
//!
//! Knows which way each gradient goes. Must not know how the public methods describe a convolution.

use super::convolution::{Convolution, Direction};
use crate::cpu::conv::Geometry;
use crate::cpu::dense::{dense, into_dense};
use crate::ops::linear::KEEP;
use crate::ops::prelude::*;

/// The gradients of input, weight and bias that are wanted; the inputs are `dy`, `x` and the weight.
#[derive(Debug, Clone, Copy)]
pub(super) struct ConvolutionGradient {
    pub forward: Convolution,
    pub wants: [bool; 3],
}

impl ConvolutionGradient {
    /// The wanted gradients in order.
    pub fn run(&self, dy: &Tensor, x: &Tensor, weight: &Tensor) -> Result<Outputs> {
        if self.wants == [false; 3] {
            return Ok(Outputs::new());
        }
        run(self, &[dy, x, weight])
    }

    /// One gradient.
    fn one(
        forward: &Convolution,
        position: usize,
        [dy, x, weight]: [&Tensor; 3],
    ) -> Result<Tensor> {
        let mut wants = [false; 3];
        wants[position] = true;
        run_one(
            &ConvolutionGradient {
                forward: *forward,
                wants,
            },
            &[dy, x, weight],
        )
    }

    /// Each wanted gradient's position among the outputs.
    fn places(&self) -> [Option<usize>; 3] {
        let mut count = 0;
        self.wants.map(|wanted| {
            count += usize::from(wanted);
            wanted.then(|| count - 1)
        })
    }

    /// The gradients of lanes, each into its output.
    fn lanes<T: crate::cpu::lane::Lane>(
        &self,
        geometry: &Geometry,
        x: &[Host<'_>],
        y: &mut [HostMut<'_>],
    ) -> Result<()> {
        let op = self.name();
        let (mut dy, mut input, mut weight) = (Vec::new(), Vec::new(), Vec::new());
        let dy = dense::<T>(op, &x[0], &mut dy)?;
        let plain = self.forward.direction == Direction::Plain;
        let [dx_at, dw_at, db_at] = self.places();
        if let Some(at) = dx_at {
            let weight = dense(op, &x[2], &mut weight)?;
            into_dense(op, &mut y[at], |dx| {
                if plain {
                    geometry.input_gradient(op, dy, weight, None, dx)
                } else {
                    geometry.forward(op, dy, weight, None, dx)
                }
            })?;
        }
        if let Some(at) = dw_at {
            let input = dense(op, &x[1], &mut input)?;
            let (read, written) = if plain { (input, dy) } else { (dy, input) };
            into_dense(op, &mut y[at], |dw| {
                geometry.weight_gradient(op, read, written, dw)
            })?;
        }
        if let Some(at) = db_at {
            let (channels, sizes) = self.forward.result(geometry);
            into_dense(op, &mut y[at], |db| {
                Geometry::bias_gradient(dy, channels, sizes.iter().product(), db);
                Ok(())
            })?;
        }
        Ok(())
    }
}

impl ConvolutionGradient {
    /// The weight's gradient: batch and channels change places, what was written becomes the kernel, and stride and dilation
    /// change places too.
    fn weight_by_convolution(
        &self,
        dy: &Tensor,
        input: &Tensor,
        geometry: &Geometry,
    ) -> Result<Tensor> {
        let op = &self.forward;
        let lift = |x: &Tensor| {
            if x.rank() == op.dims + 1 {
                x.unsqueeze(0)
            } else {
                Ok(x.clone())
            }
        };
        let (read, written) = match op.direction {
            Direction::Plain => (lift(input)?, lift(dy)?),
            Direction::Transposed => (lift(dy)?, lift(input)?),
        };
        let turned = Convolution {
            direction: Direction::Plain,
            stride: op.dilation,
            dilation: op.stride,
            output_padding: [0; 3],
            groups: 1,
            ..*op
        };
        let group = |x: &Tensor, index: usize, channels: usize| {
            x.narrow(1, (index * channels) as i64, channels as i64)?
                .transpose(0, 1)
        };
        let kernel: Vec<usize> = geometry.kernel.iter().skip(3 - op.dims).copied().collect();
        let sizes: Vec<usize> = [geometry.inputs, geometry.outputs]
            .into_iter()
            .chain(kernel)
            .collect();
        let part = |index: usize| {
            let taps = group(&written, index, geometry.outputs)?;
            let sums = turned.run(&group(&read, index, geometry.inputs)?, &taps, None)?;
            cut(&sums, &sizes, 2)?.transpose(0, 1)
        };
        let parts = (0..geometry.groups).map(part).collect::<Result<Vec<_>>>()?;
        Tensor::cat(&parts.iter().collect::<Vec<_>>(), 0)
    }

    /// A sample of all three gradients.
    pub fn sample(forward: Convolution, dy: &[usize], input: &[usize], weight: &[usize]) -> Sample {
        let wants = [true; 3];
        Sample {
            op: Box::new(ConvolutionGradient { forward, wants }),
            inputs: [dy, input, weight]
                .map(|shape| SampleInput::new(shape, -2.0, 2.0))
                .to_vec(),
            dtypes: FLOATS,
        }
    }
}

/// The first elements of the dims from `first` on, as many as `sizes` says.
fn cut(x: &Tensor, sizes: &[usize], first: usize) -> Result<Tensor> {
    let mut y = x.clone();
    for (dim, size) in sizes.iter().enumerate().skip(first) {
        if y.dims()[dim] != *size {
            y = y.narrow(dim as i64, 0, *size as i64)?;
        }
    }
    Ok(y)
}

impl Op for ConvolutionGradient {
    fn name(&self) -> &'static str {
        "convolution_backward"
    }

    fn infer(&self, x: &[Meta], plan: &mut Plan) -> Result<()> {
        let geometry = self.forward.geometry(&x[1].shape, &x[2].shape)?;
        let shape = self.forward.result_shape(&x[1].shape, &geometry);
        if x[0].shape != shape {
            return Err(Error::shape(self.name(), x[0].shape, shape));
        }
        let bias = Shape::from([self.forward.result(&geometry).0]);
        for (wanted, shape) in self.wants.iter().zip([x[1].shape, x[2].shape, bias]) {
            if *wanted {
                plan.output(shape, x[1].dtype);
            }
        }
        Ok(())
    }

    fn cpu(&self, x: &[Host<'_>], y: &mut [HostMut<'_>]) -> Result<Counts> {
        let geometry = self.forward.geometry(x[1].shape(), x[2].shape())?;
        with_lane!(x[1].dtype(), T => self.lanes::<T>(&geometry, x, y)?);
        Ok(Counts::EXACT)
    }

    fn ascend(&self, cx: &Launch, x: &[Dev<'_>], y: &[Dev<'_>]) -> Result<Counts> {
        let op = &self.forward;
        if x.iter().any(Dev::is_empty) {
            for y in y.iter().filter(|y| !y.is_empty()) {
                aclnn::inplace_zero(cx, y)?;
            }
            return Ok(Counts::EXACT);
        }
        if !op.fits_kernel(x[2].shape(), true) {
            return Err(Error::unsupported(
                self.name(),
                Device::Ascend(cx.device()),
                x[1].dtype(),
                "the kernel takes no numbers beyond its manual",
            ));
        }
        let geometry = op.geometry(x[1].shape(), x[2].shape())?;
        let [dx, dw, db] = self.places().map(|place| place.map(|at| y[at]));
        let dx = dx.map(|dx| op.batched(&dx));
        aclnn::convolution_backward(
            cx,
            &op.batched(&x[0]),
            &op.batched(&x[1]),
            &x[2],
            Some(&[op.result(&geometry).0 as i64]),
            &op.numbers(op.stride),
            &op.numbers(op.padding),
            &op.numbers(op.dilation),
            op.direction == Direction::Transposed,
            &op.numbers(op.output_padding),
            i32::try_from(op.groups).unwrap_or(i32::MAX),
            &self.wants,
            KEEP,
            dx.as_ref(),
            dw.as_ref(),
            db.as_ref(),
        )?;
        Ok(Counts::EXACT)
    }

    fn compose(&self, x: &[Tensor]) -> Result<Outputs> {
        let [dy, input, weight] = [&x[0], &x[1], &x[2]];
        let geometry = self.forward.geometry(input.shape(), weight.shape())?;
        let mut outputs = Outputs::new();
        if self.wants[0] {
            let dx = self.forward.reversed(&geometry).run(dy, weight, None)?;
            outputs.push(cut(&dx, input.dims(), input.rank() - self.forward.dims)?);
        }
        if self.wants[1] {
            outputs.push(self.weight_by_convolution(dy, input, &geometry)?);
        }
        if self.wants[2] {
            let channel = dy.rank() - self.forward.dims - 1;
            let others: Vec<i64> = (0..dy.rank() as i64)
                .filter(|dim| *dim != channel as i64)
                .collect();
            outputs.push(dy.sum(others)?);
        }
        Ok(outputs)
    }

    fn gradient(&self) -> Gradient {
        Gradient::Backward
    }

    /// Of `dx = dy * w` and `dw = x * dy`, which are linear in each factor, and of `db`, a sum: with `gx`, `gw` and `gb` for
    /// those, `dy` has the convolutions `gx * w + x * gw + gb`, `x` the way back through `gw`, the weight what `gx` and `dy` give.
    fn backward(&self, cx: &GradCx<'_>) -> Result<Grads> {
        let (dy, x, weight) = (cx.input(0)?, cx.input(1)?, cx.input(2)?);
        let [gx, gw, gb] = self
            .places()
            .map(|place| place.and_then(|at| cx.gradient_of(at)));
        let add = |sum: Option<Tensor>, more: Tensor| match sum {
            Some(sum) => sum.add(&more).map(Some),
            None => Ok(Some(more)),
        };
        let mut to_dy = None;
        if cx.needs(0) {
            if let Some(gx) = gx {
                to_dy = add(to_dy, self.forward.run(gx, weight, None)?)?;
            }
            if let Some(gw) = gw {
                to_dy = add(to_dy, self.forward.run(x, gw, None)?)?;
            }
            if let Some(gb) = gb {
                let column: Shape = [gb.elements()]
                    .into_iter()
                    .chain([1; 3].into_iter().take(self.forward.dims))
                    .collect();
                to_dy = add(to_dy, gb.reshape(column)?.expand(*dy.shape())?)?;
            }
        }
        let back = |position: usize,
                    wanted: Option<&Tensor>,
                    factors: &dyn Fn(&Tensor) -> Result<Tensor>| {
            match wanted.filter(|_| cx.needs(position)) {
                Some(gradient) => factors(gradient).map(Some),
                None => Ok(None),
            }
        };
        let to_x = back(1, gw, &|gw| Self::one(&self.forward, 0, [dy, x, gw]))?;
        let weight_gradient = back(2, gx, &|gx| Self::one(&self.forward, 1, [dy, gx, weight]))?;
        Ok(smallvec![to_dy, to_x, weight_gradient])
    }

    fn boxed(&self) -> Box<dyn Op> {
        Box::new(*self)
    }
}
