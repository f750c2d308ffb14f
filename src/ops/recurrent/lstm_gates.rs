//! What an LSTM's step does after its matrix products: from the gates to the states, in one kernel of the NPU.
//!
//! Knows the order of the gates (i, f, g, o) and the kernels. Must not know weights.

use crate::ops::prelude::*;

/// Inputs: the gates' parts from the input and from the state, `[b, 4 h]`, and the cell. Outputs: `h'` and `c'`; on the NPU also
/// the gates after their functions, which the gradient's kernel reads.
#[derive(Debug, Clone, Copy)]
pub(super) struct LstmGates;

impl Op for LstmGates {
    fn name(&self) -> &'static str {
        "lstm_cell"
    }

    fn infer(&self, x: &[Meta], plan: &mut Plan) -> Result<()> {
        plan.output(x[2].shape, x[2].dtype);
        plan.output(x[2].shape, x[2].dtype);
        if plan.is_on_ascend() {
            plan.auxiliary(x[0].shape, x[0].dtype);
        }
        Ok(())
    }

    fn ascend(&self, cx: &Launch, x: &[Dev<'_>], y: &[Dev<'_>]) -> Result<Counts> {
        demand_elements(cx, &x[2])?;
        // PyTorch's client hands its gates over as they are: their order is that of the weights.
        aclnn::thnn_fused_lstm_cell(cx, &x[0], &x[1], &x[2], None, None, &y[0], &y[1], &y[2])?;
        Ok(Counts::EXACT)
    }

    fn compose(&self, x: &[Tensor]) -> Result<Outputs> {
        let gates = x[0].add(&x[1])?;
        let size = x[2].shape().size(1) as i64;
        let gate = |index: i64| gates.narrow(1, index * size, size);
        let (i, f) = (gate(0)?.sigmoid()?, gate(1)?.sigmoid()?);
        let (g, o) = (gate(2)?.tanh()?, gate(3)?.sigmoid()?);
        let next = f.mul(&x[2])?.add(&i.mul(&g)?)?;
        Ok(smallvec![o.mul(&next.tanh()?)?, next])
    }

    fn is_composed(&self, _x: &[Meta], device: Device) -> bool {
        device.is_cpu()
    }

    fn gradient(&self) -> Gradient {
        Gradient::Compose
    }

    fn saves(&self) -> Saves {
        Saves::INPUTS.and_output(1).and_output(2)
    }

    /// After a kernel, by the kernel.
    fn backward(&self, cx: &GradCx<'_>) -> Result<Grads> {
        let cell = cx.input(2)?;
        let gradient = |index| match cx.gradient_of(index) {
            Some(gradient) => Ok(gradient.clone()),
            None => cell.zeros_like(),
        };
        let (dh, dc) = (gradient(0)?, gradient(1)?);
        let inputs = [&dh, &dc, cell, cx.output(1)?, cx.output(2)?];
        let (gates, cell) = crate::ops::reduce::run_two(&LstmGatesBackward, &inputs)?;
        Ok(smallvec![Some(gates.clone()), Some(gates), Some(cell)])
    }

    fn boxed(&self) -> Box<dyn Op> {
        Box::new(*self)
    }
}

/// Inputs: the gradients of `h'` and `c'`, `c`, `c'`, and the gates. Outputs: the gradients of either part of the gates and of
/// `c`.
#[derive(Debug, Clone, Copy)]
struct LstmGatesBackward;

impl Op for LstmGatesBackward {
    fn name(&self) -> &'static str {
        "lstm_cell_backward"
    }

    fn infer(&self, x: &[Meta], plan: &mut Plan) -> Result<()> {
        plan.output(x[4].shape, x[4].dtype);
        plan.output(x[2].shape, x[2].dtype);
        Ok(())
    }

    fn ascend(&self, cx: &Launch, x: &[Dev<'_>], y: &[Dev<'_>]) -> Result<Counts> {
        let [dh, dc, cell, next, gates] = [0, 1, 2, 3, 4].map(|index: usize| &x[index]);
        let unused = cx.temporary([gates.shape().size(1)], gates.dtype())?;
        aclnn::thnn_fused_lstm_cell_backward(
            cx,
            Some(dh),
            Some(dc),
            cell,
            next,
            gates,
            false,
            &y[0],
            &y[1],
            &unused.dev(),
        )?;
        Ok(Counts::EXACT)
    }

    /// `o' = o (1 - o) dh tanh(c')` and so on, from the gates after their functions.
    fn compose(&self, x: &[Tensor]) -> Result<Outputs> {
        let [dh, dc, cell, next] = [0, 1, 2, 3].map(|index: usize| &x[index]);
        let size = cell.shape().size(1) as i64;
        let gate = |index: i64| x[4].narrow(1, index * size, size);
        let (i, f, g, o) = (gate(0)?, gate(1)?, gate(2)?, gate(3)?);
        let slope = |y: &Tensor| y.mul(&y.mul(-1.0)?.add(1.0)?);
        let flat = |y: &Tensor| y.square()?.mul(-1.0)?.add(1.0);
        let shown = next.tanh()?;
        let dc = dc.add(&dh.mul(&o)?.mul(&flat(&shown)?)?)?;
        let parts = [
            dc.mul(&g)?.mul(&slope(&i)?)?,
            dc.mul(cell)?.mul(&slope(&f)?)?,
            dc.mul(&i)?.mul(&flat(&g)?)?,
            dh.mul(&shown)?.mul(&slope(&o)?)?,
        ];
        let parts: Vec<&Tensor> = parts.iter().collect();
        Ok(smallvec![Tensor::cat(&parts, 1)?, dc.mul(&f)?])
    }

    fn is_composed(&self, _x: &[Meta], device: Device) -> bool {
        device.is_cpu()
    }

    fn gradient(&self) -> Gradient {
        Gradient::Missing
    }

    fn boxed(&self) -> Box<dyn Op> {
        Box::new(*self)
    }
}

fn demand_elements(cx: &Launch, x: &Dev<'_>) -> Result<()> {
    if !x.is_empty() {
        return Ok(());
    }
    let device = Device::Ascend(cx.device());
    let why = "the kernel takes no empty states";
    Err(Error::unsupported("lstm_cell", device, x.dtype(), why))
}
