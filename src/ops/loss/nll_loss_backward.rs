//! The gradient of `nll_loss` as one kernel of the NPU.

use super::Reduction;
use super::labelled::{folded, narrowed, ready, shaped, weights};
use super::nll_loss::class_dim;
use crate::ops::prelude::*;

/// `dx[n, t] = -w[t] dy / total`. Inputs: the gradient, log-probabilities, labels, the sum of the used weights, and the
/// weights of classes if there are some.
#[derive(Debug, Clone, Copy)]
pub(super) struct NllLossBackward {
    pub reduction: Reduction,
    pub ignore: i64,
}

impl Op for NllLossBackward {
    fn name(&self) -> &'static str {
        "nll_loss_backward"
    }

    fn infer(&self, x: &[Meta], plan: &mut Plan) -> Result<()> {
        plan.output(x[1].shape, x[1].dtype);
        Ok(())
    }

    fn ascend(&self, cx: &Launch, x: &[Dev<'_>], y: &[Dev<'_>]) -> Result<Counts> {
        let dtype = x[1].dtype().compute();
        let [input, labels] = folded(x[1].shape());
        let (dy, own) = (ready(cx, &x[0], dtype)?, ready(cx, &x[1], dtype)?);
        let target = ready(cx, &x[2], DType::I64)?;
        let weight = weights(cx, x.get(4), input.size(1), dtype)?;
        let mut dy = dy.dev();
        if self.reduction == Reduction::None {
            dy = shaped(&dy, &labels);
        }
        let (own, target) = (shaped(&own.dev(), &input), shaped(&target.dev(), &labels));
        let (code, ignore) = (self.reduction.code(), self.ignore);
        let run = if input.rank() == 2 {
            aclnn::nll_loss_backward
        } else {
            aclnn::nll_loss2d_backward
        };
        narrowed(cx, &shaped(&y[0], &input), dtype, |dx| {
            run(
                cx,
                &dy,
                &own,
                &target,
                &weight.dev(),
                code,
                ignore,
                &x[3],
                dx,
            )
        })?;
        Ok(Counts::EXACT)
    }

    fn compose(&self, x: &[Tensor]) -> Result<Outputs> {
        let dim = class_dim(x[1].shape()) as i64;
        let dtype = x[1].dtype();
        let wide = |x: &Tensor| x.to_dtype(dtype.compute());
        let ignored = x[2].eq(self.ignore)?;
        let safe = ignored.where_cond(0i64, &x[2].to_dtype(DType::I64)?)?;
        let mut each = wide(&x[0])?.neg()?;
        if self.reduction == Reduction::Mean {
            each = each.div(&wide(&x[3])?.reshape(())?)?;
        }
        if let Some(weight) = x.get(4) {
            each = each.mul(&wide(weight)?.take(&safe)?)?;
        }
        let each = ignored.where_cond(0.0, &each.expand(*safe.shape())?)?;
        let zeros = wide(&x[1])?.detach().zeros_like()?;
        let dx = zeros.scatter(dim, &safe.unsqueeze(dim)?, &each.unsqueeze(dim)?)?;
        Ok(smallvec![dx.to_dtype(dtype)?])
    }

    fn gradient(&self) -> Gradient {
        Gradient::Compose
    }

    fn boxed(&self) -> Box<dyn Op> {
        Box::new(*self)
    }
}
