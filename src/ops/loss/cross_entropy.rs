//! `cross_entropy`: minus the log-likelihood of classes under logits; labels without weights in one kernel, and its gradient.

use super::Reduction;
use super::nll_loss::{Labelled, NllLossOptions, check_labels, check_weight, class_dim, label};
use crate::cpu::alloc::{room, workspace};
use crate::cpu::dense::lanes;
use crate::cpu::lane::Lane;
use crate::cpu::rows;
use crate::cpu::total::exponentials;
use crate::ops::elementwise::unary::may_fuse;
use crate::ops::prelude::*;
use crate::ops::reduce::widened;

/// Settings of [`Tensor::cross_entropy`]. Made from `()`, from a [`Reduction`], or built up.
#[derive(Debug, Clone, Copy)]
#[must_use]
pub struct CrossEntropyOptions<'a> {
    reduction: Reduction,
    weight: Option<&'a Tensor>,
    ignore: i64,
    smoothing: f64,
}

impl<'a> CrossEntropyOptions<'a> {
    /// The mean, without weights or smoothing; labels of -100 are ignored.
    pub fn new() -> Self {
        CrossEntropyOptions {
            reduction: Reduction::Mean,
            weight: None,
            ignore: -100,
            smoothing: 0.0,
        }
    }

    /// How the losses become the result.
    pub fn reduction(mut self, reduction: Reduction) -> Self {
        self.reduction = reduction;
        self
    }

    /// A factor of each class.
    pub fn weight(mut self, weight: &'a Tensor) -> Self {
        self.weight = Some(weight);
        self
    }

    /// The label that does not count.
    pub fn ignore_index(mut self, label: i64) -> Self {
        self.ignore = label;
        self
    }

    /// How much of the target is spread evenly over all classes, from 0 to 1.
    pub fn label_smoothing(mut self, smoothing: f64) -> Self {
        self.smoothing = smoothing;
        self
    }
}

impl Default for CrossEntropyOptions<'_> {
    fn default() -> Self {
        CrossEntropyOptions::new()
    }
}

impl<R: Into<Reduction>> From<R> for CrossEntropyOptions<'_> {
    fn from(reduction: R) -> Self {
        CrossEntropyOptions::new().reduction(reduction.into())
    }
}

#[derive(Debug, Clone, Copy)]
struct CrossEntropy {
    reduction: Reduction,
    ignore: i64,
    smoothing: f64,
}

impl Tensor {
    /// `-sum(w[c] t[c] log_softmax(x)[c])` over the class dim (1, or 0 of a vector); halves compute in f32.
    ///
    /// The target holds labels, of which the ignored count nothing and by whose weights the mean divides; or probabilities of
    /// all classes, where the mean divides by the number of positions. Label smoothing `e` makes it `t (1 - e) + e / c`.
    /// Shapes: `[c]` or `[n, c, ..]`, labels without the class dim or probabilities with it; a single number unless nothing is
    /// reduced. Dtypes: floats, labels integers. PyTorch: `torch.nn.functional.cross_entropy`.
    /// NPU: `aclnnLogSoftmax` and `aclnnNLLLoss` or `aclnnNLLLoss2d`; smoothed labels and probabilities elementwise.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([[0.0f64, 0.0], [1000.0, 0.0]]);
    /// let loss = x.cross_entropy(&Tensor::new([0i64, 0]), ())?.item::<f64>()?;
    /// assert!((loss - 2.0f64.ln() / 2.0).abs() < 1e-12);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Shape` for a target or weights that do not fit, `DType` for other dtypes, `Option` for a smoothing outside 0 to 1,
    /// `Index` for a label out of range (on the NPU only under [`check_data`](crate::check_data)).
    pub fn cross_entropy<'a>(
        &self,
        target: &Tensor,
        options: impl Into<CrossEntropyOptions<'a>>,
    ) -> Result<Tensor> {
        let CrossEntropyOptions {
            reduction,
            weight,
            ignore,
            smoothing,
        } = options.into();
        let op = CrossEntropy {
            reduction,
            ignore,
            smoothing,
        };
        match weight {
            Some(weight) => run_one(&op, &[self, target, weight]),
            None => run_one(&op, &[self, target]),
        }
    }
}

impl CrossEntropy {
    /// The losses of labels, and what their mean divides by.
    fn labels(
        &self,
        logarithms: &Tensor,
        target: &Tensor,
        weight: Option<&Tensor>,
    ) -> Result<(Tensor, Tensor)> {
        let Labelled { picked, factor } = label(logarithms, target, weight, self.ignore)?;
        let ignored = target.eq(self.ignore)?;
        let mut losses = picked.mul(&factor)?.neg()?;
        if self.smoothing != 0.0 {
            let dim = class_dim(logarithms.shape());
            let classes = logarithms.shape().size(dim) as f64;
            let spread = weighted(logarithms, weight)?
                .sum(dim as i64)?
                .mul(-self.smoothing / classes)?;
            losses = losses.mul(1.0 - self.smoothing)?.add(&spread)?;
        }
        Ok((ignored.where_cond(0.0, &losses)?, factor.sum(())?))
    }

    /// The losses of probabilities.
    fn probabilities(
        &self,
        logarithms: &Tensor,
        target: &Tensor,
        weight: Option<&Tensor>,
    ) -> Result<Tensor> {
        let dim = class_dim(logarithms.shape());
        let mut target = target.to_dtype(logarithms.dtype())?;
        if self.smoothing != 0.0 {
            let classes = logarithms.shape().size(dim) as f64;
            target = target
                .mul(1.0 - self.smoothing)?
                .add(self.smoothing / classes)?;
        }
        weighted(&logarithms.mul(&target)?, weight)?
            .sum(dim as i64)?
            .neg()
    }
}

/// Each class times its weight.
fn weighted(x: &Tensor, weight: Option<&Tensor>) -> Result<Tensor> {
    let Some(weight) = weight else {
        return Ok(x.clone());
    };
    let dim = class_dim(x.shape());
    let shape: Shape = (0..x.rank())
        .map(|own| if own == dim { x.shape().size(dim) } else { 1 })
        .collect();
    x.mul(&weight.to_dtype(x.dtype())?.reshape(shape)?)
}

impl Op for CrossEntropy {
    fn name(&self) -> &'static str {
        "cross_entropy"
    }

    fn infer(&self, x: &[Meta], plan: &mut Plan) -> Result<()> {
        let (input, target) = (x[0], x[1]);
        if !(0.0..=1.0).contains(&self.smoothing) {
            return Err(Error::option(
                "cross_entropy",
                "label_smoothing",
                format!("got {}, wanted 0 to 1", self.smoothing),
            ));
        }
        if target.dtype.is_float() && target.shape == input.shape && input.shape.rank() > 0 {
            crate::ops::norm::float_only("cross_entropy", input.dtype)?;
            check_weight("cross_entropy", x)?;
        } else if target.dtype.is_float() && target.shape.rank() == input.shape.rank() {
            return Err(Error::shape(
                "cross_entropy",
                format!("probabilities of {} for {}", target.shape, input.shape),
                "equal shapes",
            ));
        } else {
            check_labels("cross_entropy", x)?;
        }
        let rows = input.shape.without(class_dim(&input.shape));
        plan.output(self.reduction.shape(&rows), input.dtype);
        if plan.is_taped() && !plan.is_on_ascend() && self.is_fused(x) {
            plan.auxiliary(rows, widened(input.dtype));
        }
        Ok(())
    }

    fn cpu(&self, x: &[Host<'_>], y: &mut [HostMut<'_>]) -> Result<Counts> {
        let metas = x.iter().map(|x| Meta {
            shape: *x.shape(),
            dtype: x.dtype(),
        });
        if !self.is_fused(&metas.collect::<Vec<_>>()) {
            return Err(Error::unsupported(
                self.name(),
                Device::Cpu,
                x[0].dtype(),
                "the op is composed of others",
            ));
        }
        with_float!(x[0].dtype(), T => self.lines::<T>(x, y))?;
        Ok(Counts::EXACT)
    }

    fn compose(&self, x: &[Tensor]) -> Result<Outputs> {
        let dim = class_dim(x[0].shape()) as i64;
        let logarithms = x[0].to_dtype(widened(x[0].dtype()))?.log_softmax(dim)?;
        if !x[1].dtype().is_float() && self.smoothing == 0.0 {
            let mut options = NllLossOptions::new()
                .reduction(self.reduction)
                .ignore_index(self.ignore);
            if let Some(weight) = x.get(2) {
                options = options.weight(weight);
            }
            let loss = logarithms.nll_loss(&x[1], options)?;
            return Ok(smallvec![loss.to_dtype(x[0].dtype())?]);
        }
        let loss = if x[1].dtype().is_float() {
            let losses = self.probabilities(&logarithms, &x[1], x.get(2))?;
            self.reduction.apply(&losses)?
        } else {
            let (losses, divisor) = self.labels(&logarithms, &x[1], x.get(2))?;
            match self.reduction {
                Reduction::None => losses,
                Reduction::Sum => losses.sum(())?,
                Reduction::Mean => losses.sum(())?.div(&divisor)?,
            }
        };
        Ok(smallvec![loss.to_dtype(x[0].dtype())?])
    }

    fn is_composed(&self, x: &[Meta], device: Device) -> bool {
        device.is_ascend() || !self.is_fused(x)
    }

    fn gradient(&self) -> Gradient {
        Gradient::Backward
    }

    /// The auxiliary output is the logarithm of each row's sum.
    fn saves(&self) -> Saves {
        Saves::INPUTS.and_output(1)
    }

    fn backward(&self, cx: &GradCx<'_>) -> Result<Grads> {
        let (dy, x, target) = (cx.gradient()?, cx.input(0)?, cx.input(1)?);
        if x.elements() == 0 {
            let mut grads: Grads = smallvec![Some(x.zeros_like()?)];
            grads.resize(cx.len(), None);
            return Ok(grads);
        }
        let op = CrossEntropyBackward(*self);
        let dx = if may_fuse() {
            run_one(&op, &[dy, x, target, cx.output(1)?])?
        } else {
            self.slope(dy, x, target)?
        };
        Ok(smallvec![Some(dx), None])
    }

    fn cast(&self) -> CastRule {
        CastRule::Full
    }

    fn boxed(&self) -> Box<dyn Op> {
        Box::new(*self)
    }
}

impl CrossEntropy {
    /// Whether one kernel computes the form: labels along the last dim, without weights or smoothing.
    fn is_fused(&self, x: &[Meta]) -> bool {
        x.len() == 2 && self.smoothing == 0.0 && x[0].shape.rank() <= 2 && !x[1].dtype.is_float()
    }

    /// The labels, none where the row is ignored, and how many count.
    fn checked(&self, target: &Host<'_>, classes: usize) -> Result<(Vec<Option<usize>>, usize)> {
        let wide = lanes::<i64>(self.name(), target)?;
        let label = |label: i64| match usize::try_from(label) {
            _ if label == self.ignore => Ok(None),
            Ok(own) if own < classes => Ok(Some(own)),
            _ => Err(Error::Index {
                op: self.name(),
                index: label,
                len: classes,
            }),
        };
        let mut labels = room(self.name(), wide.len())?;
        for own in wide {
            labels.push(label(own)?);
        }
        let counted = labels.iter().flatten().count();
        Ok((labels, counted))
    }

    /// The losses row by row, their reduction, and the logarithms of the sums if they are asked for.
    fn lines<T: Lane + Float>(&self, x: &[Host<'_>], y: &mut [HostMut<'_>]) -> Result<()> {
        let dim = class_dim(x[0].shape());
        let (labels, counted) = self.checked(&x[1], x[0].shape().size(dim))?;
        let kept = x[0].shape().with(dim, 1);
        let mut losses = workspace(self.name(), T::ZERO, labels.len())?;
        let mut logarithms = workspace(self.name(), T::ZERO, labels.len())?;
        let (loss, logarithm) = (
            HostMut::from_slice(&mut losses, &kept),
            HostMut::from_slice(&mut logarithms, &kept),
        );
        if let (Some(mut loss), Some(mut logarithm)) = (loss, logarithm) {
            let simd = Simd::best();
            let outputs = [&mut loss, &mut logarithm];
            rows::rows::<T, 1, 2>(
                [&x[0]],
                outputs,
                &rows::one(dim),
                |row, [x], [loss, out]| {
                    let logarithm = vectorised!(simd, {
                        let (top, sum) = exponentials(x);
                        Float::ln(sum).plus(top)
                    });
                    out.fill(logarithm);
                    let picked = labels[row].and_then(|label| x.get(label));
                    loss.fill(picked.map_or(T::ZERO, |x| logarithm.minus(*x)));
                },
            );
        }
        if let (Some(out), Some(sums)) = (
            y.get_mut(1),
            Host::from_slice(&logarithms, &x[1].shape().clone()),
        ) {
            map::copy(&sums, out);
        }
        if self.reduction == Reduction::None {
            if let Some(losses) = Host::from_slice(&losses, x[1].shape()) {
                map::copy(&losses, &mut y[0]);
            }
            return Ok(());
        }
        let sum: f64 = losses.iter().map(|loss| loss.to_f64()).sum();
        let divisor = if self.reduction == Reduction::Mean {
            counted as f64
        } else {
            1.0
        };
        map::fill(&mut y[0], T::from_f64(sum / divisor));
        Ok(())
    }

    /// The gradient of the fused form in differentiable ops: the probabilities, less 1 at the label.
    fn slope(&self, dy: &Tensor, x: &Tensor, target: &Tensor) -> Result<Tensor> {
        let dim = class_dim(x.shape()) as i64;
        let wide = x.to_dtype(widened(x.dtype()))?;
        let ignored = target.eq(self.ignore)?;
        let safe = ignored.where_cond(0i64, &target.to_dtype(DType::I64)?)?;
        let hot = safe
            .one_hot(x.shape().size(class_dim(x.shape())))?
            .to_dtype(wide.dtype())?;
        let mut share = dy.to_dtype(wide.dtype())?.expand(*target.shape())?;
        if self.reduction == Reduction::Mean {
            let counted = target.ne(self.ignore)?.to_dtype(wide.dtype())?.sum(())?;
            share = share.div(&counted)?;
        }
        let share = ignored.where_cond(0.0, &share)?.unsqueeze(dim)?;
        wide.softmax(dim)?
            .sub(&hot)?
            .mul(&share)?
            .to_dtype(x.dtype())
    }
}

/// The gradient of the fused form as one kernel; the inputs are `dy`, `x`, the labels and the logarithms of the sums.
#[derive(Debug, Clone, Copy)]
struct CrossEntropyBackward(CrossEntropy);

impl CrossEntropyBackward {
    fn lines<T: Lane + Float>(&self, x: &[Host<'_>], y: &mut HostMut<'_>) -> Result<()> {
        let dim = class_dim(x[1].shape());
        let (labels, counted) = self.0.checked(&x[2], x[1].shape().size(dim))?;
        let dy = lanes::<T>(self.name(), &x[0].broadcast(x[2].shape()))?;
        let sums = lanes::<T>(self.name(), &x[3])?;
        let divisor = if self.0.reduction == Reduction::Mean {
            T::from_f64(counted as f64)
        } else {
            T::ONE
        };
        let simd = Simd::best();
        rows::rows::<T, 1, 1>([&x[1]], [y], &rows::one(dim), |row, [x], [dx]| {
            let Some(label) = labels[row] else {
                return dx.fill(T::ZERO);
            };
            let (share, sum) = (dy[row].over(divisor), sums[row]);
            vectorised!(simd, {
                for (dx, x) in dx.iter_mut().zip(x) {
                    *dx = Float::exp(x.minus(sum)).times(share);
                }
            });
            if let Some(dx) = dx.get_mut(label) {
                *dx = dx.minus(share);
            }
        });
        Ok(())
    }
}

impl Op for CrossEntropyBackward {
    fn name(&self) -> &'static str {
        "cross_entropy_backward"
    }

    fn infer(&self, x: &[Meta], plan: &mut Plan) -> Result<()> {
        plan.output(x[1].shape, x[1].dtype);
        Ok(())
    }

    fn cpu(&self, x: &[Host<'_>], y: &mut [HostMut<'_>]) -> Result<Counts> {
        with_float!(x[1].dtype(), T => self.lines::<T>(x, &mut y[0]))?;
        Ok(Counts::EXACT)
    }

    fn compose(&self, x: &[Tensor]) -> Result<Outputs> {
        Ok(smallvec![self.0.slope(&x[0], &x[1], &x[2])?])
    }

    fn gradient(&self) -> Gradient {
        Gradient::Compose
    }

    fn boxed(&self) -> Box<dyn Op> {
        Box::new(*self)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "cross_entropy",
    family: "loss",
    kernels: &["aclnnLogSoftmax", "aclnnNLLLoss", "aclnnNLLLoss2d"],
    samples,
};

fn samples() -> Vec<Sample> {
    let sample = |reduction, smoothing, labels: bool, weight: usize| {
        let target = if labels {
            SampleInput::typed([3, 2], DType::I64, 0.0, 4.0)
        } else {
            SampleInput::new([3, 4, 2], 0.0, 1.0)
        };
        let mut inputs = vec![SampleInput::new([3, 4, 2], -2.0, 2.0), target];
        inputs.resize(2 + weight, SampleInput::new([4], 0.5, 2.0));
        Sample {
            op: Box::new(CrossEntropy {
                reduction,
                ignore: 1,
                smoothing,
            }),
            inputs,
            dtypes: FLOATS,
        }
    };
    vec![
        sample(Reduction::Mean, 0.0, true, 0),
        sample(Reduction::None, 0.1, true, 1),
        sample(Reduction::Sum, 0.0, false, 1),
        sample(Reduction::Mean, 0.2, false, 0),
    ]
}
