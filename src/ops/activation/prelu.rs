//! `prelu`: the positive part and a learned fraction of the negative one.

use crate::ops::elementwise::binary::{Binary, Pair, Rule, Side, combine, tensors};
use crate::ops::prelude::*;

#[derive(Debug, Clone, Copy)]
struct Prelu;

impl Tensor {
    /// `x` where positive, else `weight x`, with one weight for all or one for each channel (dim 1).
    ///
    /// Shapes: `[n, c, ..]` with weights `[c]` or `[1]`; fewer than two dims count as one channel. Dtypes: floats, both the
    /// same. PyTorch: `torch.nn.functional.prelu`. NPU: `aclnnPrelu`,
    /// `aclnnPreluBackward`.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([[-1.0f32, -1.0], [2.0, 3.0]]);
    /// assert_eq!(x.prelu(&Tensor::new([0.5f32, 0.25]))?.to_vec::<f32>()?, [-0.5, -0.25, 2.0, 3.0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Shape` for another number of weights, `DType` if the dtypes differ or are no floats, `Device` if the tensors are on two
    /// devices.
    pub fn prelu(&self, weight: &Tensor) -> Result<Tensor> {
        if self.dtype() != weight.dtype() {
            return Err(Error::dtype(
                "prelu",
                format!("{} with weights of {}", self.dtype(), weight.dtype()),
                "one dtype",
            ));
        }
        let channels = self.dims().get(1).copied().unwrap_or(1);
        let weights = weight.elements();
        if weight.rank() > 1 || weights != 1 && weights != channels {
            let got = format!("weights of {} for {}", weight.shape(), self.shape());
            return Err(Error::shape(
                "prelu",
                got,
                format!("1 or {channels} weights"),
            ));
        }
        let lanes: Shape = (0..self.rank())
            .map(|dim| if dim == 1 { weights } else { 1 })
            .collect();
        combine(Prelu, self, Operand::Tensor(&weight.reshape(lanes)?))
    }
}

impl Binary for Prelu {
    const NAME: &'static str = "prelu";
    const RULE: Rule = Rule::FloatOnly;

    fn cpu(&self, x: &Host<'_>, weight: &Host<'_>, y: &mut HostMut<'_>) -> Result<()> {
        with_float!(x.dtype(), T => map::map2::<T, T, T>(x, weight, y, |x, weight| if x > 0.0 { x } else { weight * x }));
        Ok(())
    }

    fn ascend(&self, cx: &Launch, x: Side<'_>, weight: Side<'_>, y: &Dev<'_>) -> Result<()> {
        let (x, weight) = tensors(Self::NAME, cx, x, weight)?;
        let dense = cx.contiguous(weight)?;
        aclnn::prelu(cx, x, &flat(&dense.dev()), y)
    }

    fn compose(&self, x: &Tensor, weight: &Tensor) -> Result<Tensor> {
        x.gt(0i64)?.where_cond(x, &x.mul(weight)?)
    }

    fn backward(&self, pair: &Pair<'_>) -> Result<Grads> {
        let (dy, x, weight) = (pair.dz()?, pair.x_tensor()?, pair.y_tensor()?);
        if dy.device().is_ascend() {
            let grads = run(&PreluBackward, &[dy, &x, &weight])?;
            return Ok(grads.into_iter().map(Some).collect());
        }
        let positive = x.gt(0i64)?;
        pair.grads(
            || positive.where_cond(dy, &dy.mul(&weight)?),
            || positive.where_cond(0i64, &dy.mul(&x)?),
        )
    }
}

/// Dense weights as one line.
fn flat<'a>(weight: &Dev<'a>) -> Dev<'a> {
    let layout = Layout::contiguous([weight.elements()]).with_offset(weight.layout().offset());
    weight.with_layout(layout)
}

/// The gradients of input and weights in one kernel, from `dy` and both.
#[derive(Debug, Clone, Copy)]
struct PreluBackward;

impl Op for PreluBackward {
    fn name(&self) -> &'static str {
        "prelu_backward"
    }

    fn infer(&self, x: &[Meta], plan: &mut Plan) -> Result<()> {
        plan.output(x[1].shape, x[1].dtype);
        plan.output(x[2].shape, x[2].dtype);
        Ok(())
    }

    fn ascend(&self, cx: &Launch, x: &[Dev<'_>], y: &[Dev<'_>]) -> Result<Counts> {
        if x[1].is_empty() {
            aclnn::inplace_zero(cx, &y[1])?;
            return Ok(Counts::EXACT);
        }
        let weight = cx.contiguous(&x[2])?;
        aclnn::prelu_backward(cx, &x[0], &x[1], &flat(&weight.dev()), &y[0], &flat(&y[1]))?;
        Ok(Counts::EXACT)
    }

    fn compose(&self, x: &[Tensor]) -> Result<Outputs> {
        let positive = x[1].gt(0i64)?;
        let below = positive.where_cond(0i64, &x[0].mul(&x[1])?)?;
        Ok(smallvec![
            positive.where_cond(&x[0], &x[0].mul(&x[2])?)?,
            below.sum_to(self.name(), x[2].shape())?
        ])
    }

    fn gradient(&self) -> Gradient {
        Gradient::Compose
    }

    fn boxed(&self) -> Box<dyn Op> {
        Box::new(*self)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "prelu",
    family: "activation",
    kernels: &["aclnnPrelu", "aclnnPreluBackward"],
    samples,
};

fn samples() -> Vec<Sample> {
    let inputs = vec![
        SampleInput::new([3, 4], -2.0, 2.0),
        SampleInput::new([1, 4], 0.0, 1.0),
    ];
    let op = crate::ops::elementwise::binary::Combine {
        op: Prelu,
        left: None,
        right: None,
    };
    vec![Sample {
        op: Box::new(op),
        inputs,
        dtypes: FLOATS,
    }]
}
