//! The gradient of attention as one kernel: from the operands, the results, their gradient and what the forward pass kept.

use super::flash;
use super::frame::Frame;
use super::scaled_dot_product_attention::{Attention, spread};
use crate::cpu::attention::{Given, backward};
use crate::ops::prelude::*;
use crate::ops::reduce::ReduceOptions;

/// Inputs: queries, keys, values, the mask if there is one, the gradient of the results, the results (on the host those before
/// a half rounded them), and either the logarithms of the sums (host) or the maxima and sums (NPU). Outputs: the gradients of queries, keys and values.
#[derive(Debug, Clone, Copy)]
pub(super) struct AttentionBackward(pub Attention);

impl AttentionBackward {
    /// Where the gradient of the results is among the inputs.
    pub fn gradient_at(&self) -> usize {
        3 + usize::from(self.0.masked)
    }

    fn frame(&self, shapes: [&Shape; 3]) -> Result<Frame> {
        self.0.frame(shapes[0], shapes[1], shapes[2])
    }

    /// The same in simpler ops, and the gradient of a float mask if it is wanted: `dv = p^T dy`, `ds = p (dp - sum(dp p))` with
    /// `dp = dy v^T`, `dq = scale ds k`, `dk = scale ds^T q`.
    pub fn formula(&self, x: &[Tensor], mask: bool) -> Result<Outputs> {
        let frame = self.frame([x[0].shape(), x[1].shape(), x[2].shape()])?;
        let dtype = x[0].dtype();
        let wide = |x: &Tensor| x.to_dtype(dtype.compute());
        let dy = wide(&x[self.gradient_at()])?;
        let keys = spread(&wide(&x[1])?, frame.group)?;
        let values = spread(&wide(&x[2])?, frame.group)?;
        let weights = self.0.weights(&frame, &x[..self.gradient_at()])?;
        let dp = dy.matmul(&values.transpose(-2, -1)?)?;
        let kept = ReduceOptions::new().dim(-1).keepdim();
        let ds = weights.mul(&dp.sub(&dp.mul(&weights)?.sum(kept)?)?)?;
        let scaled = ds.mul(self.0.factor(&frame))?;
        let dq = scaled.matmul(&keys)?;
        let dk = scaled.transpose(-2, -1)?.matmul(&wide(&x[0])?)?;
        let dv = weights.transpose(-2, -1)?.matmul(&dy)?;
        let mut all: Outputs = smallvec![dq, gathered(&dk, &frame)?, gathered(&dv, &frame)?];
        if mask {
            all.push(ds);
        }
        all.iter().map(|x| x.to_dtype(dtype)).collect()
    }
}

/// Gradients of heads that several query heads shared, summed.
fn gathered(x: &Tensor, frame: &Frame) -> Result<Tensor> {
    let shared = frame.shared_shape(x.shape().size(x.rank() - 2), x.shape().size(x.rank() - 1));
    if frame.group <= 1 {
        return Ok(x.clone());
    }
    let dim = shared.rank() - 2;
    x.reshape(shared.inserted(dim, frame.group))?
        .sum(dim as i64)
}

impl Op for AttentionBackward {
    fn name(&self) -> &'static str {
        "scaled_dot_product_attention_backward"
    }

    fn infer(&self, x: &[Meta], plan: &mut Plan) -> Result<()> {
        let frame = self.frame([&x[0].shape, &x[1].shape, &x[2].shape])?;
        let dtype = x[0].dtype;
        plan.output(frame.shape(frame.rows, frame.width), dtype);
        plan.output(frame.shared_shape(frame.keys, frame.width), dtype);
        plan.output(frame.shared_shape(frame.keys, frame.value_width), dtype);
        Ok(())
    }

    fn cpu(&self, x: &[Host<'_>], y: &mut [HostMut<'_>]) -> Result<Counts> {
        let at = self.gradient_at();
        if x.len() != at + 3 {
            // A comparison with an NPU: the composition needs no statistics.
            let why = "the statistics are an NPU's";
            return Err(Error::unsupported(
                self.name(),
                Device::Cpu,
                x[0].dtype(),
                why,
            ));
        }
        if y.iter().all(|y| y.elements() == 0) {
            return Ok(Counts::EXACT);
        }
        let (problem, frame) = self.0.problem(x)?;
        let given = Given {
            dy: frame.own(&x[at], frame.rows, frame.value_width)?,
            y: frame.own(&x[at + 1], frame.rows, frame.value_width)?,
            logs: frame.own(&x[at + 2], frame.rows, 1)?,
        };
        if let [dq, dk, dv] = y {
            with_float!(x[0].dtype(), T => backward::<T>(&problem, &given, [dq, dk, dv])?);
        }
        Ok(Counts::EXACT)
    }

    fn ascend(&self, cx: &Launch, x: &[Dev<'_>], y: &[Dev<'_>]) -> Result<Counts> {
        let frame = self.frame([x[0].shape(), x[1].shape(), x[2].shape()])?;
        flash::backward(&self.0, &frame, cx, x, y)?;
        Ok(Counts::EXACT)
    }

    fn compose(&self, x: &[Tensor]) -> Result<Outputs> {
        self.formula(x, false)
    }

    fn gradient(&self) -> Gradient {
        Gradient::Compose
    }

    fn boxed(&self) -> Box<dyn Op> {
        Box::new(*self)
    }
}
