//! `group_norm`: groups of channels of each sample brought to mean 0 and variance 1.

use super::{AffineOptions, affine, channels, float_only, plan_affine};
use crate::mode::{self, Modes};
use crate::ops::prelude::*;
use crate::ops::reduce::{ReduceOptions, VarOptions, widened};

#[derive(Debug, Clone, Copy)]
struct GroupNorm {
    groups: i64,
    epsilon: f64,
    weight: bool,
    bias: bool,
}

impl Tensor {
    /// A layer norm over each of `groups` groups of consecutive channels of each sample; weight and bias are per channel.
    ///
    /// Shapes: `[n, c, ..]`, weight and bias `[c]`. Dtypes: floats. PyTorch: `torch.nn.functional.group_norm`.
    /// NPU: `aclnnGroupNorm` and its gradient; halves are cast to f32 around it where a gradient is recorded.
    ///
    /// ```
    /// use ascend_tensor::{Tensor, ops::norm::AffineOptions};
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([[1.0f64, 3.0, 2.0, 6.0]]);
    /// let y = x.group_norm(2, AffineOptions::new().epsilon(0.0))?;
    /// assert_eq!(y.to_vec::<f64>()?, [-1.0, 1.0, -1.0, 1.0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Shape` for fewer than two dims, channels that do not divide, or weight or bias of another length; `Option` for a
    /// number of groups below 1; `DType` for integers and bools.
    pub fn group_norm<'a>(
        &self,
        groups: i64,
        options: impl Into<AffineOptions<'a>>,
    ) -> Result<Tensor> {
        let options = options.into();
        let op = GroupNorm {
            groups,
            epsilon: options.epsilon,
            weight: options.weight.is_some(),
            bias: options.bias.is_some(),
        };
        run_one(&op, &options.inputs(self))
    }
}

impl GroupNorm {
    /// As the kernels want them: samples, channels, elements per channel, groups.
    fn sizes(&self, shape: &Shape) -> [i64; 4] {
        let inner = shape.dims().iter().skip(2).product::<usize>();
        let [n, c, inner] = [shape.size(0), shape.size(1), inner].map(|size| size as i64);
        [n, c, inner, self.groups]
    }

    /// The number of elements of a group.
    fn line(&self, shape: &Shape) -> usize {
        let [_, c, inner, groups] = self.sizes(shape);
        (c / groups.max(1) * inner) as usize
    }

    /// The groups as lines: `[samples, groups, line]`, in the dtype that they are computed in.
    fn lines(&self, x: &Tensor) -> Result<Tensor> {
        let groups = usize::try_from(self.groups).unwrap_or(1).max(1);
        let (shape, line) = (x.shape(), self.line(x.shape()));
        x.to_dtype(widened(x.dtype()))?
            .reshape([shape.size(0), groups, line])
    }

    /// The gradients in differentiable ops.
    fn formula(&self, dy: &Tensor, x: &Tensor, weight: Option<&Tensor>) -> Result<Outputs> {
        let shape = *x.shape();
        let mean = ReduceOptions::new().dim(-1).keepdim();
        let lines = self.lines(x)?;
        let population = VarOptions::new().dim(-1).keepdim().correction(0.0);
        let (variance, center) = lines.var_mean(population)?;
        let rstd = variance.add(self.epsilon)?.rsqrt()?;
        let unit = lines.sub(&center)?.mul(&rstd)?;
        let dy = dy.to_dtype(unit.dtype())?;
        let g = match weight {
            Some(weight) => dy.mul(&channels(weight, &shape)?)?,
            None => dy.clone(),
        };
        let g = g.reshape(*unit.shape())?;
        let along = unit.mul(&g.mul(&unit)?.mean(mean.clone())?)?;
        let dx = g.sub(&g.mean(mean)?)?.sub(&along)?.mul(&rstd)?;
        let mut grads: Outputs = smallvec![dx.reshape(shape)?.to_dtype(x.dtype())?];
        let rest: Vec<i64> = (0..shape.rank() as i64).filter(|dim| *dim != 1).collect();
        if self.weight {
            grads.push(
                dy.mul(&unit.reshape(shape)?)?
                    .sum(ReduceOptions::new().dim(rest.clone()))?,
            );
        }
        if self.bias {
            grads.push(dy.sum(ReduceOptions::new().dim(rest))?);
        }
        Ok(grads)
    }
}

impl Op for GroupNorm {
    fn name(&self) -> &'static str {
        "group_norm"
    }

    fn infer(&self, x: &[Meta], plan: &mut Plan) -> Result<()> {
        let shape = x[0].shape;
        float_only("group_norm", x[0].dtype)?;
        if shape.rank() < 2 {
            return Err(Error::shape("group_norm", shape, "at least two dims"));
        }
        let groups = usize::try_from(self.groups)
            .ok()
            .filter(|groups| *groups > 0);
        let groups = groups.ok_or_else(|| {
            Error::option(
                "group_norm",
                "groups",
                format!("got {}, wanted 1 or more", self.groups),
            )
        })?;
        if !shape.size(1).is_multiple_of(groups) {
            return Err(Error::shape(
                "group_norm",
                format!("{} channels", shape.size(1)),
                format!("a multiple of {groups}"),
            ));
        }
        plan_affine("group_norm", x, plan)?;
        if plan.is_taped() && plan.is_on_ascend() {
            // Mean and inverse deviation of each group.
            for _ in 0..2 {
                plan.auxiliary(Shape::from([shape.size(0), groups]), widened(x[0].dtype));
            }
        }
        Ok(())
    }

    fn ascend(&self, cx: &Launch, x: &[Dev<'_>], y: &[Dev<'_>]) -> Result<Counts> {
        let own = x[0].dtype();
        let taped = y.len() > 1;
        // The kernel keeps its statistics in the input's dtype: too coarse for the gradient of halves.
        let dtype = if taped || x.iter().any(|x| x.dtype() != own) {
            widened(own)
        } else {
            own
        };
        let [n, c, inner, groups] = self.sizes(x[0].shape());
        let spare;
        let (mean, rstd) = match y {
            [_, mean, rstd] => (*mean, *rstd),
            _ => {
                let one = || cx.temporary([n as usize, groups as usize], dtype);
                spare = [one()?, one()?];
                (spare[0].dev(), spare[1].dev())
            }
        };
        let inputs = x
            .iter()
            .map(|x| cx.cast(x, dtype))
            .collect::<Result<smallvec::SmallVec<[_; 3]>>>()?;
        let at = |at: usize| inputs.get(at).map(|input| input.dev());
        let weight = at(1).filter(|_| self.weight);
        let bias = at(1 + usize::from(self.weight)).filter(|_| self.bias);
        let wide = (dtype != own)
            .then(|| cx.temporary(*y[0].shape(), dtype))
            .transpose()?;
        let out = wide.as_ref().map_or(y[0], |wide| wide.dev());
        let input = inputs[0].dev();
        aclnn::group_norm(
            cx,
            &input,
            weight.as_ref(),
            bias.as_ref(),
            n,
            c,
            inner,
            groups,
            self.epsilon,
            &out,
            &mean,
            &rstd,
        )?;
        if wide.is_some() {
            aclnn::cast(cx, &out, own, &y[0])?;
        }
        Ok(Counts::EXACT)
    }

    fn compose(&self, x: &[Tensor]) -> Result<Outputs> {
        let shape = *x[0].shape();
        let line = self.line(&shape);
        let unit = self
            .lines(&x[0])?
            .layer_norm(super::LayerNormOptions::new(line).epsilon(self.epsilon))?
            .reshape(shape)?;
        Ok(smallvec![
            affine(&unit, x, self.weight, self.bias)?.to_dtype(x[0].dtype())?
        ])
    }

    fn is_composed(&self, _x: &[Meta], device: Device) -> bool {
        device.is_cpu()
    }

    fn gradient(&self) -> Gradient {
        Gradient::Backward
    }

    fn saves(&self) -> Saves {
        let saves = Saves::NOTHING.and_input(0).and_output(1).and_output(2);
        if self.weight {
            saves.and_input(1)
        } else {
            saves
        }
    }

    fn backward(&self, cx: &GradCx<'_>) -> Result<Grads> {
        let (dy, x) = (cx.gradient()?, cx.input(0)?);
        let weight = if self.weight {
            Some(cx.input(1)?)
        } else {
            None
        };
        if !mode::current().has(Modes::NO_GRAD) {
            return Ok(self.formula(dy, x, weight)?.into_iter().map(Some).collect());
        }
        let mut inputs: smallvec::SmallVec<[&Tensor; 5]> =
            smallvec![dy, x, cx.output(1)?, cx.output(2)?];
        inputs.extend(weight);
        let grads = run(&GroupNormBackward(*self), &inputs)?;
        Ok(grads.into_iter().map(Some).collect())
    }

    fn cast(&self) -> CastRule {
        CastRule::Full
    }

    fn boxed(&self) -> Box<dyn Op> {
        Box::new(*self)
    }
}

/// The gradients of a group norm; the inputs are `dy`, `x`, the mean and the inverse deviation of each group, and the weight
/// if there is one.
#[derive(Debug, Clone, Copy)]
struct GroupNormBackward(GroupNorm);

impl Op for GroupNormBackward {
    fn name(&self) -> &'static str {
        "group_norm_backward"
    }

    fn infer(&self, x: &[Meta], plan: &mut Plan) -> Result<()> {
        plan.output(x[1].shape, x[1].dtype);
        for _ in 0..usize::from(self.0.weight) + usize::from(self.0.bias) {
            plan.output(Shape::from([x[1].shape.size(1)]), widened(x[1].dtype));
        }
        Ok(())
    }

    fn ascend(&self, cx: &Launch, x: &[Dev<'_>], y: &[Dev<'_>]) -> Result<Counts> {
        let op = &self.0;
        let own = x[1].dtype();
        if x[1].is_empty() {
            let device = Device::Ascend(cx.device());
            let why = "the kernel takes no empty tensor";
            return Err(Error::unsupported(self.name(), device, own, why));
        }
        let dtype = widened(own);
        let inputs = x
            .iter()
            .map(|x| cx.cast(x, dtype))
            .collect::<Result<smallvec::SmallVec<[_; 5]>>>()?;
        let [dy, input, mean, rstd] = [0, 1, 2, 3].map(|at| inputs[at].dev());
        let weight = inputs.get(4).map(|weight| weight.dev());
        let wide = (dtype != own)
            .then(|| cx.temporary(*y[0].shape(), dtype))
            .transpose()?;
        let dx = wide.as_ref().map_or(y[0], |wide| wide.dev());
        let [n, c, inner, groups] = op.sizes(x[1].shape());
        let dw = y.get(1).filter(|_| op.weight);
        let db = y.last().filter(|_| op.bias);
        let mask = [true, op.weight, op.bias];
        aclnn::group_norm_backward(
            cx,
            &dy,
            &input,
            &mean,
            &rstd,
            weight.as_ref(),
            n,
            c,
            inner,
            groups,
            &mask,
            Some(&dx),
            dw,
            db,
        )?;
        if wide.is_some() {
            aclnn::cast(cx, &dx, own, &y[0])?;
        }
        Ok(Counts::EXACT)
    }

    fn compose(&self, x: &[Tensor]) -> Result<Outputs> {
        self.0.formula(&x[0], &x[1], x.get(4))
    }

    fn gradient(&self) -> Gradient {
        Gradient::Compose
    }

    fn boxed(&self) -> Box<dyn Op> {
        Box::new(*self)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "group_norm",
    family: "norm",
    kernels: &["aclnnGroupNorm"],
    samples,
};

fn samples() -> Vec<Sample> {
    let sample = |weight: bool, bias: bool| Sample {
        op: Box::new(GroupNorm {
            groups: 2,
            epsilon: 1e-5,
            weight,
            bias,
        }),
        inputs: super::affine_samples(&[2, 4, 3], weight, bias),
        dtypes: FLOATS,
    };
    vec![sample(false, false), sample(true, true)]
}
