//! `instance_norm`: each channel of each sample brought to mean 0 and variance 1.

use super::{AffineOptions, float_only, plan_affine};
use crate::ops::prelude::*;

#[derive(Debug, Clone, Copy)]
struct InstanceNorm {
    epsilon: f64,
    weight: bool,
    bias: bool,
}

impl Tensor {
    /// A layer norm over each channel of each sample; weight and bias are per channel.
    ///
    /// Shapes: `[n, c, ..]`, weight and bias `[c]`. Dtypes: floats. PyTorch: `torch.nn.functional.instance_norm`.
    /// NPU: `aclnnGroupNorm`.
    ///
    /// ```
    /// use ascend_tensor::{Tensor, ops::norm::AffineOptions};
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([[[1.0f64, 3.0], [2.0, 6.0]]]);
    /// let y = x.instance_norm(AffineOptions::new().epsilon(0.0))?;
    /// assert_eq!(y.to_vec::<f64>()?, [-1.0, 1.0, -1.0, 1.0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Shape` for fewer than two dims, or weight or bias of another length; `Option` for a single element per channel;
    /// `DType` for integers and bools.
    pub fn instance_norm<'a>(&self, options: impl Into<AffineOptions<'a>>) -> Result<Tensor> {
        let options = options.into();
        let op = InstanceNorm {
            epsilon: options.epsilon,
            weight: options.weight.is_some(),
            bias: options.bias.is_some(),
        };
        run_one(&op, &options.inputs(self))
    }
}

impl Op for InstanceNorm {
    fn name(&self) -> &'static str {
        "instance_norm"
    }

    fn infer(&self, x: &[Meta], plan: &mut Plan) -> Result<()> {
        let shape = x[0].shape;
        float_only("instance_norm", x[0].dtype)?;
        if shape.rank() < 2 {
            return Err(Error::shape("instance_norm", shape, "at least two dims"));
        }
        if shape.dims().iter().skip(2).product::<usize>() == 1 {
            return Err(Error::option(
                "instance_norm",
                "input",
                format!("got one element per channel in {shape}, wanted more"),
            ));
        }
        plan_affine("instance_norm", x, plan)
    }

    fn compose(&self, x: &[Tensor]) -> Result<Outputs> {
        let mut options = AffineOptions::new().epsilon(self.epsilon);
        if let (true, Some(weight)) = (self.weight, x.get(1)) {
            options = options.weight(weight);
        }
        if let (true, Some(bias)) = (self.bias, x.last()) {
            options = options.bias(bias);
        }
        // A group for each channel; there may be none.
        let groups = x[0].dims().get(1).map_or(1, |count| (*count).max(1));
        Ok(smallvec![x[0].group_norm(groups as i64, options)?])
    }

    fn is_composed(&self, _x: &[Meta], _device: Device) -> bool {
        true
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
    name: "instance_norm",
    family: "norm",
    kernels: &["aclnnGroupNorm"],
    samples,
};

fn samples() -> Vec<Sample> {
    let sample = |weight: bool, bias: bool| Sample {
        op: Box::new(InstanceNorm {
            epsilon: 1e-5,
            weight,
            bias,
        }),
        inputs: super::affine_samples(&[2, 4, 3], weight, bias),
        dtypes: FLOATS,
    };
    vec![sample(false, false), sample(true, true)]
}
