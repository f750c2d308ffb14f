//! The gradient of `cross_entropy` of labels as one kernel of the NPU.

use super::Reduction;
use super::labelled::{narrowed, ready};
use crate::ops::prelude::*;
use crate::ops::reduce::ReduceOptions;

/// Inputs: the gradient, logits `[n, c]`, labels, the logarithms of the softmax (f32), and the weights of classes if there are
/// some. Output: the gradient of the logits.
#[derive(Debug, Clone, Copy)]
pub(super) struct CrossEntropyBackward {
    pub reduction: Reduction,
    pub ignore: i64,
    pub smoothing: f64,
}

impl CrossEntropyBackward {
    /// `dx = dl - softmax(x) sum(dl)`, where `dl` is the gradient of the logarithms: `-dy w[c] ((1 - e) [c = t] + e / n)`.
    pub fn formula(&self, x: &[Tensor]) -> Result<Tensor> {
        let dtype = x[1].dtype();
        let wide = |x: &Tensor| x.to_dtype(dtype.compute());
        let classes = x[1].shape().size(1);
        let ignored = x[2].eq(self.ignore)?;
        let safe = ignored.where_cond(0i64, &x[2].to_dtype(DType::I64)?)?;
        let hot = safe.one_hot(classes)?.to_dtype(dtype.compute())?;
        let spread = self.smoothing / classes.max(1) as f64;
        let mut parts = hot.mul(1.0 - self.smoothing)?.add(spread)?;
        let ones = Tensor::ones(*safe.shape(), dtype.compute(), safe.device())?;
        let mut used = ignored.where_cond(0.0, &ones)?;
        if let Some(weight) = x.get(4) {
            let weight = wide(weight)?;
            parts = parts.mul(&weight)?;
            used = ignored.where_cond(0.0, &weight.take(&safe)?)?;
        }
        let mut each = wide(&x[0])?.neg()?;
        if self.reduction == Reduction::Mean {
            each = each.div(&used.sum(())?)?;
        }
        let each = ignored.where_cond(0.0, &each.expand(*safe.shape())?)?;
        let dl = parts.mul(&each.unsqueeze(1)?)?;
        let sums = dl.sum(ReduceOptions::new().dim(1).keepdim())?;
        dl.sub(&wide(&x[1])?.softmax(1)?.mul(&sums)?)?
            .to_dtype(dtype)
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

    fn ascend(&self, cx: &Launch, x: &[Dev<'_>], y: &[Dev<'_>]) -> Result<Counts> {
        let dy = ready(cx, &x[0], DType::F32)?;
        let target = ready(cx, &x[2], DType::I64)?;
        let weight = match x.get(4) {
            Some(weight) => Some(ready(cx, weight, DType::F32)?),
            None => None,
        };
        let weight = weight.as_ref().map(|weight| weight.dev());
        narrowed(cx, &y[0], DType::F32, |dx| {
            aclnn::cross_entropy_loss_grad(
                cx,
                &dy.dev(),
                &x[3],
                &target.dev(),
                weight.as_ref(),
                None,
                None,
                self.reduction.text(),
                self.ignore,
                self.smoothing,
                0.0,
                dx,
            )
        })?;
        Ok(Counts::EXACT)
    }

    fn compose(&self, x: &[Tensor]) -> Result<Outputs> {
        Ok(smallvec![self.formula(x)?])
    }

    fn gradient(&self) -> Gradient {
        Gradient::Compose
    }

    fn boxed(&self) -> Box<dyn Op> {
        Box::new(*self)
    }
}
