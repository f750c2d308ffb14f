//! `group_norm`: groups of channels of each sample brought to mean 0 and variance 1.

use super::{AffineOptions, affine, float_only, plan_affine};
use crate::ops::prelude::*;
use crate::ops::reduce::widened;

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
    /// NPU: `aclnnLayerNorm`.
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
        plan_affine("group_norm", x, plan)
    }

    fn compose(&self, x: &[Tensor]) -> Result<Outputs> {
        let shape = *x[0].shape();
        let groups = usize::try_from(self.groups).unwrap_or(1).max(1);
        let line = shape.size(1) / groups * shape.dims().iter().skip(2).product::<usize>();
        let lines = x[0]
            .to_dtype(widened(x[0].dtype()))?
            .reshape([shape.size(0), groups, line])?;
        let unit = lines
            .layer_norm(super::LayerNormOptions::new(line).epsilon(self.epsilon))?
            .reshape(shape)?;
        Ok(smallvec![
            affine(&unit, x, self.weight, self.bias)?.to_dtype(x[0].dtype())?
        ])
    }

    fn gradient(&self) -> Gradient {
        Gradient::Compose
    }

    fn cast(&self) -> CastRule {
        CastRule::Full
    }

    fn boxed(&self) -> Box<dyn Op> {
        Box::new(*self)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "group_norm",
    family: "norm",
    kernels: &["aclnnLayerNorm"],
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
