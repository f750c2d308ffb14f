//! The plumbing of `layer_norm` and `rms_norm`: lines of the last dims brought to unit scale, and their gradient as one kernel.
//!
//! Knows the formulas, the kernels and the statistics kept for the gradient. Must not know the public methods.

use super::line_kernel::{NextIf, norm_lines};
use crate::cpu::lane::Lane;
use crate::cpu::total::total;
use crate::cpu::{rows, simd};
use crate::mode::{self, Modes};
use crate::ops::prelude::*;
use crate::ops::reduce::{ReduceOptions, VarOptions, widened};
use crate::shape::MAX_RANK;

/// Which of the two norms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// Less the mean, over the standard deviation.
    Layer,
    /// Over the root of the mean square.
    Rms,
}

/// The norm with its attributes; the inputs are `x`, then the weight and the bias if there are any.
#[derive(Debug, Clone, Copy)]
pub(super) struct LineNorm {
    pub(super) form: Form,
    pub(super) shape: Shape,
    /// `None`: the machine epsilon of the dtype that it is computed in.
    pub(super) epsilon: Option<f64>,
    pub(super) weight: bool,
    pub(super) bias: bool,
}

/// `x` line by line in another dtype, its deviations from the mean (itself for the RMS norm), and `1 / scale`, in ops.
struct Parts {
    x: Tensor,
    deviation: Tensor,
    rstd: Tensor,
}

impl LineNorm {
    pub(super) fn run(
        self,
        x: &Tensor,
        weight: Option<&Tensor>,
        bias: Option<&Tensor>,
    ) -> Result<Tensor> {
        let op = LineNorm {
            weight: weight.is_some(),
            bias: bias.is_some(),
            ..self
        };
        let inputs: smallvec::SmallVec<[&Tensor; 3]> =
            [Some(x), weight, bias].into_iter().flatten().collect();
        run_one(&op, &inputs)
    }

    pub(super) fn epsilon(&self, dtype: DType) -> f64 {
        let own = if dtype == DType::F64 {
            f64::EPSILON
        } else {
            f64::from(f32::EPSILON)
        };
        self.epsilon.unwrap_or(own)
    }

    fn dims(&self) -> ReduceOptions {
        let rank = self.shape.rank() as i64;
        ReduceOptions::new()
            .dim((-rank..0).collect::<Vec<i64>>())
            .keepdim()
    }

    pub(super) fn mask(&self, rank: usize) -> [bool; MAX_RANK] {
        rows::last(rank, self.shape.rank())
    }

    /// The shape of the statistics: the normalised dims have size 1.
    fn statistics(&self, x: &Shape) -> Shape {
        let mask = self.mask(x.rank());
        x.dims()
            .iter()
            .zip(mask)
            .map(|(size, line)| if line { 1 } else { *size })
            .collect()
    }

    fn parts(&self, x: &Tensor) -> Result<Parts> {
        let x = x.to_dtype(widened(x.dtype()))?;
        let (deviation, square) = if self.form == Form::Layer {
            let rank = self.shape.rank() as i64;
            let dims: Vec<i64> = (-rank..0).collect();
            let (square, mean) =
                x.var_mean(VarOptions::new().dim(dims).keepdim().correction(0.0))?;
            (x.sub(&mean)?, square)
        } else {
            (x.clone(), x.square()?.mean(self.dims())?)
        };
        let rstd = square.add(self.epsilon(x.dtype()))?.rsqrt()?;
        Ok(Parts { x, deviation, rstd })
    }

    fn weight_at(&self) -> Option<usize> {
        self.weight.then_some(1)
    }

    /// The gradients in differentiable ops.
    fn formula(&self, dy: &Tensor, x: &Tensor, weight: Option<&Tensor>) -> Result<Grads> {
        let Parts {
            x: wide,
            deviation,
            rstd,
        } = self.parts(x)?;
        let dy = dy.to_dtype(wide.dtype())?;
        let unit = deviation.mul(&rstd)?;
        let g = match weight {
            Some(weight) => dy.mul(weight)?,
            None => dy.clone(),
        };
        let along = unit.mul(&g.mul(&unit)?.mean(self.dims())?)?;
        let rest = if self.form == Form::Layer {
            g.sub(&g.mean(self.dims())?)?
        } else {
            g
        };
        let mut grads: Grads = smallvec![Some(rest.sub(&along)?.mul(&rstd)?)];
        if self.weight {
            grads.push(Some(dy.mul(&unit)?));
        }
        if self.bias {
            grads.push(Some(dy));
        }
        Ok(grads)
    }
}

impl Op for LineNorm {
    fn name(&self) -> &'static str {
        if self.form == Form::Layer {
            "layer_norm"
        } else {
            "rms_norm"
        }
    }

    fn infer(&self, x: &[Meta], plan: &mut Plan) -> Result<()> {
        let (op, own) = (self.name(), x[0]);
        super::float_only(op, own.dtype)?;
        if self.shape.rank() == 0 || !own.shape.dims().ends_with(self.shape.dims()) {
            let want = format!("an input whose last dims are {}", self.shape);
            return Err(Error::shape(op, format!("an input of {}", own.shape), want));
        }
        for affine in x.iter().skip(1) {
            super::affine_dtype(op, own.dtype, affine.dtype)?;
            if affine.shape != self.shape {
                return Err(Error::shape(
                    op,
                    format!("a weight or bias of {}", affine.shape),
                    self.shape,
                ));
            }
        }
        plan.output(own.shape, own.dtype);
        if plan.is_taped() || plan.is_on_ascend() {
            for _ in 0..if self.form == Form::Layer { 2 } else { 1 } {
                plan.auxiliary(self.statistics(&own.shape), widened(own.dtype));
            }
        }
        Ok(())
    }

    fn cpu(&self, x: &[Host<'_>], y: &mut [HostMut<'_>]) -> Result<Counts> {
        with_float!(x[0].dtype(), T => norm_lines::<T>(self, x, y));
        Ok(Counts::EXACT)
    }

    fn ascend(&self, cx: &Launch, x: &[Dev<'_>], y: &[Dev<'_>]) -> Result<Counts> {
        let epsilon = self.epsilon(x[0].dtype());
        let weight = self.weight_at().and_then(|at| x.get(at));
        let bias = if self.bias { x.last() } else { None };
        match (self.form, y) {
            (Form::Layer, [y, mean, rstd]) => {
                let dims: Vec<i64> = self.shape.dims().iter().map(|size| *size as i64).collect();
                aclnn::layer_norm(
                    cx,
                    &x[0],
                    &dims,
                    weight,
                    bias,
                    epsilon,
                    y,
                    Some(mean),
                    Some(rstd),
                )?;
            }
            (Form::Rms, [y, rstd]) => {
                let ones = cx.temporary(self.shape, x[0].dtype())?;
                if weight.is_none() {
                    aclnn::inplace_one(cx, &ones.dev())?;
                }
                aclnn::rms_norm(cx, &x[0], weight.unwrap_or(&ones.dev()), epsilon, y, rstd)?;
            }
            _ => {
                return Err(Error::unsupported(
                    self.name(),
                    Device::Ascend(cx.device()),
                    x[0].dtype(),
                    "statistics were not planned",
                ));
            }
        }
        Ok(Counts::EXACT)
    }

    fn compose(&self, x: &[Tensor]) -> Result<Outputs> {
        let Parts {
            deviation, rstd, ..
        } = self.parts(&x[0])?;
        let mut y = deviation.mul(&rstd)?;
        let mut rest = x.iter().skip(1);
        if let Some(weight) = rest.next_if_true(self.weight) {
            y = y.mul(weight)?;
        }
        if let Some(bias) = rest.next_if_true(self.bias) {
            y = y.add(bias)?;
        }
        Ok(smallvec![y.to_dtype(x[0].dtype())?])
    }

    fn gradient(&self) -> Gradient {
        Gradient::Backward
    }

    fn saves(&self) -> Saves {
        let saves = Saves::NOTHING.and_input(0).and_output(1);
        let saves = if self.form == Form::Layer {
            saves.and_output(2)
        } else {
            saves
        };
        if self.weight {
            saves.and_input(1)
        } else {
            saves
        }
    }

    fn backward(&self, cx: &GradCx<'_>) -> Result<Grads> {
        let (dy, x) = (cx.gradient()?, cx.input(0)?);
        let weight = self.weight_at().map(|at| cx.input(at)).transpose()?;
        if !mode::current().has(Modes::NO_GRAD) {
            return self.formula(dy, x, weight);
        }
        let mut inputs: Vec<&Tensor> = vec![dy, x, cx.output(1)?];
        if self.form == Form::Layer {
            inputs.push(cx.output(2)?);
        }
        inputs.extend(weight);
        Ok(run(&LineNormBackward(*self), &inputs)?
            .into_iter()
            .map(Some)
            .collect())
    }

    fn cast(&self) -> CastRule {
        CastRule::Full
    }

    fn boxed(&self) -> Box<dyn Op> {
        Box::new(*self)
    }
}

/// The gradients of a norm; the inputs are `dy`, `x`, the mean (layer norm), the inverse scale, and the weight if there is one.
#[derive(Debug, Clone, Copy)]
struct LineNormBackward(LineNorm);

/// The tensor with a first dim of size 1.
fn as_row<'a>(x: &Dev<'a>) -> Dev<'a> {
    x.with_layout(x.layout().unsqueeze(0))
}

/// Elements whose sums are made side by side: some vectors.
const SIDE: usize = 32;

/// Writes a line of `dx` and adds to the sums of the weight's and the bias's gradients: all sums first, then the line, while
/// memory brings the next one.
#[inline(always)]
fn line_gradient<T: Float>(
    form: Form,
    [dy, x, mean, rstd, w]: [&[T]; 5],
    dx: &mut [T],
    sums: &mut [Vec<T>; 2],
) {
    let first = |line: &[T]| line.first().copied().unwrap_or(T::ZERO);
    let (mean, rstd, count) = (
        if form == Form::Layer {
            first(mean)
        } else {
            T::ZERO
        },
        first(rstd),
        T::from_i64(x.len() as i64),
    );
    let unit = |x: T| x.minus(mean).times(rstd);
    let (width, [dw, db]) = (x.len(), sums);
    let (mut levels, mut slopes) = ([T::ZERO; SIDE], [T::ZERO; SIDE]);
    let mut add = |dy: &[T], x: &[T], w: &[T], dw: &mut [T], db: &mut [T]| {
        let below = dy.iter().zip(x).zip(w).zip(dw).zip(db).enumerate();
        for (lane, ((((dy, x), w), dw), db)) in below {
            let (g, unit) = (dy.times(*w), unit(*x));
            levels[lane] = levels[lane].plus(g);
            slopes[lane] = slopes[lane].plus(g.times(unit));
            *dw = dw.plus(dy.times(unit));
            *db = db.plus(*dy);
        }
    };
    let ([dys, xs, ws], [dws, dbs]) = (
        [dy, x, w].map(|line| line.as_chunks::<SIDE>()),
        [dw, db].map(|sums| sums.as_chunks_mut::<SIDE>()),
    );
    for ((((dy, x), w), dw), db) in dys.0.iter().zip(xs.0).zip(ws.0).zip(dws.0).zip(dbs.0) {
        add(dy, x, w, dw, db);
    }
    add(dys.1, xs.1, ws.1, dws.1, dbs.1);
    let level = if form == Form::Layer {
        total(&levels, |g| g).over(count)
    } else {
        T::ZERO
    };
    let slope = total(&slopes, |g| g).over(count);
    let parts = dx.chunks_mut(SIDE).zip(dy.chunks(SIDE)).zip(x.chunks(SIDE));
    for (((dx, dy), x), w) in parts.zip(w.chunks(SIDE)) {
        for line in [dy, x] {
            simd::prefetch(line.as_ptr().wrapping_add(width).cast(), size_of_val(line));
        }
        for (((dx, dy), x), w) in dx.iter_mut().zip(dy).zip(x).zip(w) {
            let g = dy.times(*w);
            *dx = rstd.times(g.minus(level).minus(unit(*x).times(slope)));
        }
    }
}

fn gradient_lines<T: Lane + Float>(op: &LineNorm, x: &[Host<'_>], y: &mut [HostMut<'_>]) {
    let shape = *x[1].shape();
    let rstd = if op.form == Form::Layer { &x[3] } else { &x[2] };
    let one = T::ONE;
    let ones = Host::splat(&one, &shape);
    let weight = if op.weight {
        x.last().map_or(ones, |weight| weight.broadcast(&shape))
    } else {
        ones
    };
    let (mask, simd, form, length) = (
        op.mask(shape.rank()),
        Simd::best(),
        op.form,
        op.shape.elements(),
    );
    let Some((dx, affine)) = y.split_first_mut() else {
        return;
    };
    let sums = rows::summed::<T, 5, 1, 2>(
        [&x[0], &x[1], &x[2], rstd, &weight],
        [dx],
        &mask,
        length,
        |inputs, [dx], sums| {
            vectorised!(simd, line_gradient(form, inputs, dx, sums));
        },
    );
    let wanted = sums
        .iter()
        .zip([op.weight, op.bias])
        .filter(|(_, wanted)| *wanted)
        .map(|(sum, _)| sum);
    for (out, sum) in affine.iter_mut().zip(wanted) {
        if let Some(sum) = Host::from_slice(sum, &op.shape) {
            map::map1::<f64, T>(&sum, out, T::from_f64);
        }
    }
}

impl Op for LineNormBackward {
    fn name(&self) -> &'static str {
        if self.0.form == Form::Layer {
            "layer_norm_backward"
        } else {
            "rms_norm_backward"
        }
    }

    fn infer(&self, x: &[Meta], plan: &mut Plan) -> Result<()> {
        plan.output(x[1].shape, x[1].dtype);
        for _ in 0..usize::from(self.0.weight) + usize::from(self.0.bias) {
            plan.output(self.0.shape, widened(x[1].dtype));
        }
        Ok(())
    }

    fn cpu(&self, x: &[Host<'_>], y: &mut [HostMut<'_>]) -> Result<Counts> {
        with_float!(x[1].dtype(), T => gradient_lines::<T>(&self.0, x, y));
        Ok(Counts::EXACT)
    }

    fn ascend(&self, cx: &Launch, x: &[Dev<'_>], y: &[Dev<'_>]) -> Result<Counts> {
        let op = &self.0;
        if x[1].elements() == 0 {
            return Err(Error::unsupported(
                self.name(),
                Device::Ascend(cx.device()),
                x[1].dtype(),
                "the kernels take no empty tensor",
            ));
        }
        let weight = if op.weight { x.last() } else { None };
        let spare = cx.temporary(op.shape, DType::F32)?;
        if op.form == Form::Rms {
            let ones = cx.temporary(op.shape, x[1].dtype())?;
            if weight.is_none() {
                aclnn::inplace_one(cx, &ones.dev())?;
            }
            let dw = if op.weight { y[1] } else { spare.dev() };
            // The kernel wants rows, of which a tensor of nothing but normalised dims is one.
            let bare = x[1].shape().rank() == op.shape.rank() && x[1].shape().rank() < MAX_RANK;
            let [dy, input, rstd, dx] =
                [&x[0], &x[1], &x[2], &y[0]].map(|own| if bare { as_row(own) } else { *own });
            aclnn::rms_norm_grad(
                cx,
                &dy,
                &input,
                &rstd,
                weight.unwrap_or(&ones.dev()),
                &dx,
                &dw,
            )?;
            return Ok(Counts::EXACT);
        }
        let dims: Vec<i64> = op.shape.dims().iter().map(|size| *size as i64).collect();
        let mask = [true, op.weight, op.bias];
        let dw = if op.weight { y.get(1) } else { None };
        let db = if op.bias { y.last() } else { None };
        aclnn::layer_norm_backward(
            cx,
            &x[0],
            &x[1],
            &dims,
            &x[2],
            &x[3],
            weight,
            weight,
            &mask,
            Some(&y[0]),
            dw,
            db,
        )?;
        Ok(Counts::EXACT)
    }

    fn compose(&self, x: &[Tensor]) -> Result<Outputs> {
        let weight = if self.0.weight { x.last() } else { None };
        let grads = self.0.formula(&x[0], &x[1], weight)?;
        let mut outputs = Outputs::new();
        for (index, gradient) in grads.into_iter().flatten().enumerate() {
            outputs.push(if index == 0 {
                gradient.to_dtype(x[1].dtype())?
            } else {
                gradient.sum_to(self.name(), &self.0.shape)?
            });
        }
        Ok(outputs)
    }

    fn gradient(&self) -> Gradient {
        Gradient::Compose
    }

    fn boxed(&self) -> Box<dyn Op> {
        Box::new(*self)
    }
}

/// Samples of a norm with and without weight and bias.
pub(super) fn samples_of(form: Form) -> Vec<Sample> {
    let sample = |shape: &[usize], weight: bool, bias: bool| {
        let op = LineNorm {
            form,
            shape: Shape::from(shape),
            epsilon: Some(1e-5),
            weight,
            bias,
        };
        let mut inputs = vec![SampleInput::new([2, 3, 4], -2.0, 2.0)];
        inputs.resize(
            1 + usize::from(weight) + usize::from(bias),
            SampleInput::new(shape, 0.5, 2.0),
        );
        Sample {
            op: Box::new(op),
            inputs,
            dtypes: FLOATS,
        }
    };
    vec![
        sample(&[4], false, false),
        sample(&[4], true, form == Form::Layer),
        sample(&[3, 4], true, form == Form::Layer),
    ]
}
