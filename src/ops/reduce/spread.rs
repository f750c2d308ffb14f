//! The plumbing of `var`, `std` and `var_mean`: squared deviations from the mean.
//!
//! Knows the two passes over the data and the gradients. Must not know the public methods.

use super::ReduceOptions;
use crate::cpu::lane::Lane;
use crate::cpu::reduce::{Fold, fold};
use crate::cpu::{rows, total};
use crate::ops::prelude::*;
use crate::shape::MAX_RANK;

/// The dims of [`Tensor::var`] and its kin, whether they stay with size 1, and what is taken off the count.
///
/// Made from dims alone (`()` for all, a number, an array), or built up.
#[derive(Debug, Clone)]
#[must_use]
pub struct VarOptions {
    pub(super) reduce: ReduceOptions,
    pub(super) correction: f64,
}

impl Default for VarOptions {
    fn default() -> Self {
        VarOptions {
            reduce: ReduceOptions::new(),
            correction: 1.0,
        }
    }
}

impl VarOptions {
    /// Over all dims, none kept, with a correction of 1.
    pub fn new() -> Self {
        VarOptions::default()
    }

    /// The dims to reduce; none means all.
    pub fn dim(mut self, dim: impl Into<Axes>) -> Self {
        self.reduce = self.reduce.dim(dim);
        self
    }

    /// Keeps the reduced dims with size 1.
    pub fn keepdim(mut self) -> Self {
        self.reduce = self.reduce.keepdim();
        self
    }

    /// Divides by the count less this: 1 for a sample, 0 for a population.
    pub fn correction(mut self, correction: f64) -> Self {
        self.correction = correction;
        self
    }
}

impl<T: Into<Axes>> From<T> for VarOptions {
    fn from(dim: T) -> Self {
        VarOptions::new().dim(dim)
    }
}

/// What is made of the deviations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Var,
    Std,
    VarMean,
}

#[derive(Debug, Clone)]
pub(super) struct Spread {
    pub(super) form: Form,
    pub(super) options: VarOptions,
}

/// Sums squared deviations from a known mean.
struct Squares<T> {
    mean: f64,
    divisor: f64,
    root: bool,
    lane: std::marker::PhantomData<fn(T)>,
}

impl<T: Lane> Fold for Squares<T> {
    type In = T;
    type State = f64;
    type Out = T;

    fn start(&self) -> f64 {
        0.0
    }

    #[inline(always)]
    fn step(&self, state: f64, x: T) -> f64 {
        let deviation = x.to_f64() - self.mean;
        state + deviation * deviation
    }

    #[inline(always)]
    fn join(&self, first: f64, second: f64) -> f64 {
        first + second
    }

    fn finish(&self, state: f64, _count: usize) -> T {
        let variance = state / self.divisor;
        T::from_f64(if self.root { variance.sqrt() } else { variance })
    }
}

impl Spread {
    /// What the squared deviations are divided by.
    fn divisor(&self, count: usize) -> f64 {
        (count as f64 - self.options.correction).max(0.0)
    }

    /// One output: all passes on all threads. False where the mean is not finite.
    fn whole<T: Lane>(&self, x: &Host<'_>, mask: &[bool; MAX_RANK], y: &mut [HostMut<'_>]) -> bool {
        let kept = Shape::from(vec![1; x.shape().rank()]);
        let mut mean = 0.0;
        // The second round takes the first's rounding off, so that equal elements deviate by nothing.
        for _ in 0..2 {
            let mut part = [0.0f64];
            if let Some(mut out) = HostMut::from_slice(&mut part, &kept) {
                fold(
                    &Mean::<T> {
                        shift: mean,
                        lane: std::marker::PhantomData,
                    },
                    x,
                    mask,
                    &mut out,
                );
            }
            mean += part[0];
        }
        if !mean.is_finite() {
            return false;
        }
        let (divisor, root) = (self.divisor(x.elements()), self.form == Form::Std);
        fold(
            &Squares::<T> {
                mean,
                divisor,
                root,
                lane: std::marker::PhantomData,
            },
            x,
            mask,
            &mut y[0],
        );
        if let Some(out) = y.get_mut(1) {
            map::fill(out, T::from_f64(mean));
        }
        true
    }

    /// Line by line.
    fn lines<T: Lane>(
        &self,
        x: &Host<'_>,
        mask: &[bool; MAX_RANK],
        count: usize,
        y: &mut [HostMut<'_>],
    ) -> Result<()> {
        let kept = self.options.reduce.kept(self.name(), x.shape())?;
        let (divisor, root, simd) = (self.divisor(count), self.form == Form::Std, Simd::best());
        let result = |line: &[T]| {
            vectorised!(simd, {
                let (mean, squares) = spread(line);
                let variance = squares / divisor;
                (
                    T::from_f64(if root { variance.sqrt() } else { variance }),
                    T::from_f64(mean),
                )
            })
        };
        let layout = Layout::contiguous(kept);
        match y {
            [variance, mean] => {
                let (mut variance, mut mean) =
                    (variance.with_layout(layout), mean.with_layout(layout));
                rows::rows::<T, 1, 2>(
                    [x],
                    [&mut variance, &mut mean],
                    mask,
                    |_, [x], [variance, mean]| {
                        let (a, b) = result(x);
                        variance.fill(a);
                        mean.fill(b);
                    },
                );
            }
            [variance] => {
                let mut variance = variance.with_layout(layout);
                rows::rows::<T, 1, 1>([x], [&mut variance], mask, |_, [x], [variance]| {
                    variance.fill(result(x).0)
                });
            }
            _ => {}
        }
        Ok(())
    }
}

/// Sums of squares from here on come from huge numbers or from what is none, where the order of the steps is seen in the mean.
const PLAIN: f64 = 1e30;

/// The mean of a line and the sum of the squared deviations from it.
///
/// Numbers of up to 32 bits are passed over once, as differences from the first in double precision. As that is one of the
/// elements, the sum of the differences' squares is at most `n + 1` times that of the deviations, which comes out of it with an
/// error of about `1e-16 n`. Equal elements deviate by nothing.
#[inline(always)]
fn spread<T: Lane>(line: &[T]) -> (f64, f64) {
    if T::DTYPE != DType::F64
        && let Some(first) = line.first()
    {
        let (first, count) = (first.to_f64(), line.len() as f64);
        let (sum, square) = total::moments(line, |x| x.to_f64() - first);
        if square < PLAIN {
            return (first + sum / count, (square - sum * sum / count).max(0.0));
        }
    }
    let mean = mean_of(line);
    (mean, total::total(line, |x: T| (x.to_f64() - mean).powi(2)))
}

/// The mean of a line, exact where all elements are equal. One infinity among others makes it NaN: the difference of two.
#[inline(always)]
fn mean_of<T: Number>(line: &[T]) -> f64 {
    let count = line.len() as f64;
    let rough = total::total(line, |x: T| x.to_f64()) / count;
    let mean = rough + total::total(line, |x: T| x.to_f64() - rough) / count;
    if mean.is_finite() || line.is_empty() {
        return mean;
    }
    line.iter().zip(1u64..).fold(0.0, |mean, (x, count)| {
        mean + (x.to_f64() - mean) / count as f64
    })
}

/// The mean in double precision of the differences from a number.
struct Mean<T> {
    shift: f64,
    lane: std::marker::PhantomData<fn(T)>,
}

impl<T: Lane> Fold for Mean<T> {
    type In = T;
    type State = f64;
    type Out = f64;

    fn start(&self) -> f64 {
        0.0
    }

    #[inline(always)]
    fn step(&self, state: f64, x: T) -> f64 {
        state + (x.to_f64() - self.shift)
    }

    #[inline(always)]
    fn join(&self, first: f64, second: f64) -> f64 {
        first + second
    }

    fn finish(&self, state: f64, count: usize) -> f64 {
        state / count as f64
    }
}

impl Spread {
    /// An infinity among others makes the running mean NaN, unless all before the last element are finite. CANN's is the sum
    /// over the count. All before the last are a slab for each dim: its lines but for their last element, at the last place
    /// of the dims before.
    fn undo_infinities(&self, cx: &Launch, x: &Dev<'_>, y: &[Dev<'_>]) -> Result<()> {
        let dims = self.options.reduce.dims(self.name(), x.shape())?;
        if dims.iter().all(|dim| x.shape().size(*dim as usize) == 1) {
            return Ok(());
        }
        let truth = || cx.temporary(*y[0].shape(), DType::Bool);
        let nan = truth()?;
        aclnn::ne_tensor(cx, &y[0], &y[0], &nan.dev())?;
        let (mut finites, mut rest) = (Vec::new(), *x.layout());
        for dim in &dims {
            let (dim, count) = (*dim as usize, rest.shape().size(*dim as usize));
            if count == 1 {
                continue;
            }
            let slab = x.with_layout(rest.slice(dim, 0, count - 1, 1));
            rest = rest.slice(dim, count - 1, 1, 1);
            let (mean, finite) = (cx.temporary(*y[1].shape(), y[1].dtype())?, truth()?);
            aclnn::mean(
                cx,
                &slab,
                &dims,
                self.options.reduce.keep,
                y[1].dtype(),
                &mean.dev(),
            )?;
            aclnn::is_finite(cx, &mean.dev(), &finite.dev())?;
            finites.push(finite);
        }
        let mut finites = finites.into_iter();
        let Some(mut finite) = finites.next() else {
            return Ok(());
        };
        for other in finites {
            let both = truth()?;
            aclnn::logical_and(cx, &finite.dev(), &other.dev(), &both.dev())?;
            finite = both;
        }
        let mask = truth()?;
        aclnn::gt_tensor(cx, &nan.dev(), &finite.dev(), &mask.dev())?;
        aclnn::inplace_masked_fill_scalar(
            cx,
            &y[1],
            &mask.dev(),
            AclScalar::of(Scalar::Float(f64::NAN), y[1].dtype()),
        )
    }
}

impl Op for Spread {
    fn name(&self) -> &'static str {
        match self.form {
            Form::Var => "var",
            Form::Std => "std",
            Form::VarMean => "var_mean",
        }
    }

    fn infer(&self, x: &[Meta], plan: &mut Plan) -> Result<()> {
        if !x[0].dtype.is_float() {
            return Err(Error::dtype(self.name(), x[0].dtype, "a float dtype"));
        }
        let shape = self.options.reduce.result(self.name(), &x[0].shape)?;
        plan.output(shape, x[0].dtype);
        if self.form == Form::VarMean {
            plan.output(shape, x[0].dtype);
        }
        Ok(())
    }

    fn cpu(&self, x: &[Host<'_>], y: &mut [HostMut<'_>]) -> Result<Counts> {
        let mask = self.options.reduce.mask(self.name(), x[0].shape())?;
        let count = self.options.reduce.count(self.name(), x[0].shape())?;
        with_float!(x[0].dtype(), T => if y[0].elements() != 1 || !self.whole::<T>(&x[0], &mask, y) {
            self.lines::<T>(&x[0], &mask, count, y)?;
        });
        Ok(Counts::EXACT)
    }

    fn ascend(&self, cx: &Launch, x: &[Dev<'_>], y: &[Dev<'_>]) -> Result<Counts> {
        let refuse = |why| {
            Err(Error::unsupported(
                self.name(),
                Device::Ascend(cx.device()),
                x[0].dtype(),
                why,
            ))
        };
        let (dims, keep) = (
            self.options.reduce.dims(self.name(), x[0].shape())?,
            self.options.reduce.keep,
        );
        let correction = self.options.correction as i64;
        if correction as f64 != self.options.correction || x[0].elements() == 0 {
            return refuse("the kernels take a whole correction and no empty tensor");
        }
        if self.divisor(self.options.reduce.count(self.name(), x[0].shape())?) == 0.0 {
            return refuse("the kernels do not promise what a divisor of 0 gives");
        }
        match self.form {
            Form::Var => aclnn::var_correction(cx, &x[0], &dims, correction, keep, &y[0])?,
            Form::Std => aclnn::std(cx, &x[0], &dims, correction, keep, &y[0])?,
            Form::VarMean => {
                aclnn::var_mean(cx, &x[0], &dims, correction, keep, &y[0], &y[1])?;
                self.undo_infinities(cx, &x[0], y)?;
            }
        }
        Ok(Counts::EXACT)
    }

    fn compose(&self, x: &[Tensor]) -> Result<Outputs> {
        // The tape records this op, not its parts: the root's gradient at 0 is not theirs.
        let (x, dtype) = (
            &x[0].detach().to_dtype(widened(x[0].dtype()))?,
            x[0].dtype(),
        );
        let mean = x.mean(self.options.reduce.keeping())?;
        // The second round takes the first's rounding off, so that equal elements deviate by nothing.
        let count = self.options.reduce.count(self.name(), x.shape())?;
        let mean = match count {
            1 => mean,
            _ => mean.add(&x.sub(&mean)?.mean(self.options.reduce.keeping())?)?,
        };
        let deviation = x.sub(&mean)?;
        let divisor = self.divisor(count);
        let variance = deviation
            .square()?
            .sum(self.options.reduce.clone())?
            .div(divisor)?;
        Ok(match self.form {
            Form::Var => smallvec![variance.to_dtype(dtype)?],
            Form::Std => smallvec![variance.sqrt()?.to_dtype(dtype)?],
            Form::VarMean => smallvec![
                variance.to_dtype(dtype)?,
                mean.reshape(*variance.shape())?.to_dtype(dtype)?
            ],
        })
    }

    fn gradient(&self) -> Gradient {
        Gradient::Backward
    }

    fn saves(&self) -> Saves {
        if self.form == Form::Std {
            Saves::INPUTS.and_output(0)
        } else {
            Saves::INPUTS
        }
    }

    /// `2 (x - mean) / (n - correction)` for the variance, `1 / n` for the mean; over `2 std` for its root, 0 where that is 0.
    fn backward(&self, cx: &GradCx<'_>) -> Result<Grads> {
        let x = cx.input(0)?;
        let options = &self.options.reduce;
        let (kept, count) = (
            options.kept(self.name(), x.shape())?,
            options.count(self.name(), x.shape())? as f64,
        );
        let wide = x.to_dtype(widened(x.dtype()))?;
        let spread = |dy: &Tensor| -> Result<Tensor> {
            let deviation = wide.sub(&wide.mean(options.keeping())?)?;
            let divisor = self.divisor(count as usize);
            if divisor == 0.0 {
                // The deviation over nothing: infinite, and NaN where it is 0.
                let steep = deviation.eq(0i64)?.where_cond(f64::NAN, f64::INFINITY)?;
                return dy.reshape(kept)?.mul(&steep.to_dtype(wide.dtype())?);
            }
            let dy = dy.to_dtype(wide.dtype())?.reshape(kept)?;
            deviation.mul(&dy.mul(2.0 / divisor)?)
        };
        let mut dx = match (self.form, cx.gradient_of(0)) {
            (_, None) => None,
            (Form::Std, Some(dy)) => {
                let y = cx.output(0)?;
                let dy = y.eq(0i64)?.where_cond(0.0, &dy.div(&y.mul(2.0)?)?)?;
                Some(spread(&dy)?)
            }
            (_, Some(dy)) => Some(spread(dy)?),
        };
        if let (Form::VarMean, Some(dy)) = (self.form, cx.gradient_of(1)) {
            let mean = dy
                .to_dtype(wide.dtype())?
                .mul(1.0 / count)?
                .reshape(kept)?
                .expand(*x.shape())?;
            dx = Some(dx.map_or(Ok(mean.clone()), |dx| dx.add(&mean))?);
        }
        Ok(smallvec![dx])
    }

    fn cast(&self) -> CastRule {
        CastRule::Full
    }

    fn boxed(&self) -> Box<dyn Op> {
        Box::new(self.clone())
    }
}

/// The dtype in which compositions of half inputs compute.
pub(crate) fn widened(dtype: DType) -> DType {
    if dtype.is_half() { DType::F32 } else { dtype }
}

/// Samples of the three ops.
pub(super) fn samples_of(form: Form) -> Vec<Sample> {
    let options = [
        VarOptions::new(),
        [0, 2].into(),
        VarOptions::new().dim(-1).keepdim().correction(0.0),
    ];
    let sample = |options| Sample {
        op: Box::new(Spread { form, options }),
        inputs: vec![SampleInput::new([2, 3, 4], -2.0, 2.0)],
        dtypes: FLOATS,
    };
    options.into_iter().map(sample).collect()
}
