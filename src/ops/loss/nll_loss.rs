//! `nll_loss`: minus the log-probabilities of labels.

use super::Reduction;
use super::labelled::{check, folded, narrowed, ready, refuse_empty, shaped, weights};
use super::nll_loss_backward::NllLossBackward;
use crate::ops::elementwise::unary::may_fuse;
use crate::ops::prelude::*;
use crate::ops::reduce::widened;

/// Settings of [`Tensor::nll_loss`]. Made from `()`, from a [`Reduction`], or built up.
#[derive(Debug, Clone, Copy)]
#[must_use]
pub struct NllLossOptions<'a> {
    reduction: Reduction,
    weight: Option<&'a Tensor>,
    ignore: i64,
}

impl<'a> NllLossOptions<'a> {
    /// The mean, without weights; labels of -100 are ignored.
    pub fn new() -> Self {
        NllLossOptions {
            reduction: Reduction::Mean,
            weight: None,
            ignore: -100,
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
}

impl Default for NllLossOptions<'_> {
    fn default() -> Self {
        NllLossOptions::new()
    }
}

impl<R: Into<Reduction>> From<R> for NllLossOptions<'_> {
    fn from(reduction: R) -> Self {
        NllLossOptions::new().reduction(reduction.into())
    }
}

#[derive(Debug, Clone, Copy)]
struct NllLoss {
    reduction: Reduction,
    ignore: i64,
}

impl Tensor {
    /// `-weight[t] * x[n, t, ..]` of log-probabilities; ignored labels give 0, the mean divides by the weights of the others.
    ///
    /// Shapes: `[c]` and a single label, or `[n, c, ..]` and labels `[n, ..]`; a single number unless nothing is reduced.
    /// Dtypes: floats, labels integers. PyTorch: `torch.nn.functional.nll_loss`.
    /// NPU: `aclnnNLLLoss`, `aclnnNLLLoss2d` and their gradients.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([[-1.0f32, -2.0], [-3.0, -4.0]]);
    /// assert_eq!(x.nll_loss(&Tensor::new([1i64, 0]), ())?.item::<f32>()?, 2.5);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Shape` for labels or weights that do not fit, `DType` for other dtypes, `Index` for a label out of range (on the NPU only
    /// under [`check_data`](crate::check_data)).
    pub fn nll_loss<'a>(
        &self,
        target: &Tensor,
        options: impl Into<NllLossOptions<'a>>,
    ) -> Result<Tensor> {
        let NllLossOptions {
            reduction,
            weight,
            ignore,
        } = options.into();
        let op = NllLoss { reduction, ignore };
        match weight {
            Some(weight) => run_one(&op, &[self, target, weight]),
            None => run_one(&op, &[self, target]),
        }
    }
}

/// The class dim of an input.
pub(super) fn class_dim(shape: &Shape) -> usize {
    usize::from(shape.rank() > 1)
}

/// Checks labels and class weights against the input.
pub(super) fn check_labels(op: &'static str, x: &[Meta]) -> Result<()> {
    let (input, target) = (x[0], x[1]);
    crate::ops::norm::float_only(op, input.dtype)?;
    if input.shape.rank() == 0 {
        return Err(Error::shape(op, input.shape, "at least a class dim"));
    }
    if target.dtype.is_float() || target.dtype == DType::Bool {
        return Err(Error::dtype(
            op,
            format!("labels of {}", target.dtype),
            "integer labels",
        ));
    }
    let labels = input.shape.without(class_dim(&input.shape));
    if target.shape != labels {
        return Err(Error::shape(
            op,
            format!("labels of {} for an input of {}", target.shape, input.shape),
            labels,
        ));
    }
    check_weight(op, x)
}

/// Checks class weights against the input.
pub(super) fn check_weight(op: &'static str, x: &[Meta]) -> Result<()> {
    let classes = x[0].shape.size(class_dim(&x[0].shape));
    match x.get(2) {
        Some(weight) if weight.shape != Shape::from([classes]) => Err(Error::shape(
            op,
            format!("weights of {}", weight.shape),
            format!("one for each of {classes} classes"),
        )),
        Some(weight) if !weight.dtype.is_float() => {
            Err(Error::dtype(op, weight.dtype, "a float dtype"))
        }
        _ => Ok(()),
    }
}

/// What labels pick: the element of each position, the factor of each (0 where ignored), and the sum of the factors.
pub(super) struct Labelled {
    pub(super) picked: Tensor,
    pub(super) factor: Tensor,
}

/// Picks along the class dim; ignored labels get the factor 0.
pub(super) fn label(
    x: &Tensor,
    target: &Tensor,
    weight: Option<&Tensor>,
    ignore: i64,
) -> Result<Labelled> {
    let dim = class_dim(x.shape()) as i64;
    let target = target.to_dtype(DType::I64)?;
    let ignored = target.eq(ignore)?;
    let safe = ignored.where_cond(0i64, &target)?;
    let picked = x
        .gather(dim, &safe.unsqueeze(dim)?)?
        .reshape(*target.shape())?;
    let factor = match weight {
        Some(weight) => weight.to_dtype(x.dtype())?.take(&safe)?,
        None => picked.detach().ones_like()?,
    };
    Ok(Labelled {
        picked,
        factor: ignored.where_cond(0.0, &factor)?,
    })
}

impl NllLoss {
    /// `dw[t] = -dy x[n, t]`, for the mean `-dy (x[n, t] + loss) / total`, summed over the positions with the label.
    fn weight_slope(&self, cx: &GradCx<'_>) -> Result<Tensor> {
        let (x, target, weight) = (cx.input(0)?, cx.input(1)?, cx.input(2)?);
        let wide = x.to_dtype(widened(x.dtype()))?;
        let Labelled { picked, factor } = label(&wide, target, Some(weight), self.ignore)?;
        let mut each = picked.neg()?;
        if self.reduction == Reduction::Mean {
            let total = factor.sum(())?;
            let loss = each.mul(&factor)?.sum(())?.div(&total)?;
            each = each.sub(&loss)?.div(&total)?;
        }
        let each = each.mul(&cx.gradient()?.to_dtype(wide.dtype())?)?;
        let ignored = target.eq(self.ignore)?;
        let safe = ignored.where_cond(0i64, &target.to_dtype(DType::I64)?)?;
        let each = ignored.where_cond(0.0, &each)?.reshape([safe.elements()])?;
        let zeros = weight.detach().to_dtype(wide.dtype())?.zeros_like()?;
        zeros
            .index_add(0, &safe.reshape([safe.elements()])?, &each, ())?
            .to_dtype(weight.dtype())
    }
}

impl Op for NllLoss {
    fn name(&self) -> &'static str {
        "nll_loss"
    }

    fn infer(&self, x: &[Meta], plan: &mut Plan) -> Result<()> {
        check_labels("nll_loss", x)?;
        plan.output(self.reduction.shape(&x[1].shape), x[0].dtype);
        if plan.is_on_ascend() {
            plan.auxiliary([1].into(), x[0].dtype.compute());
        }
        Ok(())
    }

    fn ascend(&self, cx: &Launch, x: &[Dev<'_>], y: &[Dev<'_>]) -> Result<Counts> {
        refuse_empty(cx, &x[0])?;
        let dtype = x[0].dtype().compute();
        let [input, labels] = folded(x[0].shape());
        check(cx, &x[1], input.size(1), self.ignore)?;
        let (own, target) = (ready(cx, &x[0], dtype)?, ready(cx, &x[1], DType::I64)?);
        let weight = weights(cx, x.get(2), input.size(1), dtype)?;
        let (own, target) = (shaped(&own.dev(), &input), shaped(&target.dev(), &labels));
        let run = if input.rank() == 2 {
            aclnn::nll_loss
        } else {
            aclnn::nll_loss2d
        };
        let to = match self.reduction {
            Reduction::None => shaped(&y[0], &labels),
            _ => y[0],
        };
        let (code, ignore) = (self.reduction.code(), self.ignore);
        narrowed(cx, &to, dtype, |loss| {
            run(cx, &own, &target, &weight.dev(), code, ignore, loss, &y[1])
        })?;
        Ok(Counts::EXACT)
    }

    fn compose(&self, x: &[Tensor]) -> Result<Outputs> {
        let wide = x[0].to_dtype(widened(x[0].dtype()))?;
        let Labelled { picked, factor } = label(&wide, &x[1], x.get(2), self.ignore)?;
        let ignored = x[1].eq(self.ignore)?;
        let losses = ignored.where_cond(0.0, &picked.mul(&factor)?.neg()?)?;
        let loss = match self.reduction {
            Reduction::None => losses,
            Reduction::Sum => losses.sum(())?,
            Reduction::Mean => losses.sum(())?.div(&factor.sum(())?)?,
        };
        Ok(smallvec![loss.to_dtype(x[0].dtype())?])
    }

    fn is_composed(&self, _x: &[Meta], device: Device) -> bool {
        device.is_cpu()
    }

    fn gradient(&self) -> Gradient {
        Gradient::Backward
    }

    fn saves(&self) -> Saves {
        Saves::INPUTS.and_output(1)
    }

    /// After a kernel: a composition has a history of its own.
    fn backward(&self, cx: &GradCx<'_>) -> Result<Grads> {
        let op = NllLossBackward {
            reduction: self.reduction,
            ignore: self.ignore,
        };
        let mut inputs = vec![cx.gradient()?, cx.input(0)?, cx.input(1)?, cx.output(1)?];
        let weighted = cx.len() > 2;
        if weighted {
            inputs.push(cx.input(2)?);
        }
        let dx = if may_fuse() {
            run_one(&op, &inputs)?
        } else {
            let inputs: Vec<Tensor> = inputs.into_iter().cloned().collect();
            op.compose(&inputs)?.remove(0)
        };
        let mut grads: Grads = smallvec![Some(dx), None];
        if weighted {
            grads.push(if cx.needs(2) {
                Some(self.weight_slope(cx)?)
            } else {
                None
            });
        }
        Ok(grads)
    }

    fn cast(&self) -> CastRule {
        CastRule::Full
    }

    fn boxed(&self) -> Box<dyn Op> {
        Box::new(*self)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "nll_loss",
    family: "loss",
    kernels: &[
        "aclnnNLLLoss",
        "aclnnNLLLossBackward",
        "aclnnNLLLoss2d",
        "aclnnNLLLoss2dBackward",
    ],
    samples,
};

fn samples() -> Vec<Sample> {
    let sample = |reduction, weight: usize| {
        let mut inputs = vec![
            SampleInput::new([3, 4, 2], -2.0, -0.1),
            SampleInput::typed([3, 2], DType::I64, 0.0, 4.0),
        ];
        inputs.resize(2 + weight, SampleInput::new([4], 0.5, 2.0));
        Sample {
            op: Box::new(NllLoss {
                reduction,
                ignore: 1,
            }),
            inputs,
            dtypes: FLOATS,
        }
    };
    vec![
        sample(Reduction::None, 0),
        sample(Reduction::Mean, 1),
        sample(Reduction::Sum, 1),
    ]
}
