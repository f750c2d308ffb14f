//! `cosine_similarity`: the cosine of the angle between vectors along a dim.

use super::{NormalizeOptions, float_only};
use crate::ops::prelude::*;
use crate::ops::reduce::{NormOptions, widened};

#[derive(Debug, Clone, Copy)]
struct CosineSimilarity {
    options: NormalizeOptions,
}

impl Tensor {
    /// `sum(x y) / (max(|x|, eps) max(|y|, eps))` along a dim; halves compute in f32.
    ///
    /// Shapes: any two that broadcast; the dim goes. Dtypes: floats. PyTorch: `torch.cosine_similarity`.
    /// NPU: `aclnnLinalgVectorNorm`, `aclnnReduceSum`, `aclnnDiv`.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([3.0f64, 4.0]);
    /// assert_eq!(x.cosine_similarity(&Tensor::new([-6.0f64, -8.0]), 0)?.item::<f64>()?, -1.0);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Broadcast` for shapes that do not fit, `Axis` for a dim out of range, `DType` for integers and bools.
    pub fn cosine_similarity(
        &self,
        other: &Tensor,
        options: impl Into<NormalizeOptions>,
    ) -> Result<Tensor> {
        run_one(
            &CosineSimilarity {
                options: options.into(),
            },
            &[self, other],
        )
    }
}

impl Op for CosineSimilarity {
    fn name(&self) -> &'static str {
        "cosine_similarity"
    }

    fn infer(&self, x: &[Meta], plan: &mut Plan) -> Result<()> {
        let dtype = result_type(x, &[]);
        float_only("cosine_similarity", dtype)?;
        let shape = broadcast("cosine_similarity", x)?;
        let dim = shape.axis_or_scalar("cosine_similarity", self.options.dim)?;
        plan.cast(0, dtype);
        plan.cast(1, dtype);
        plan.output(shape.without(dim), dtype);
        Ok(())
    }

    fn compose(&self, x: &[Tensor]) -> Result<Outputs> {
        let shape = x[0].shape().broadcast("cosine_similarity", x[1].shape())?;
        let wide = |x: &Tensor| x.to_dtype(widened(x.dtype()))?.expand(shape);
        let (a, b, dim) = (wide(&x[0])?, wide(&x[1])?, self.options.dim);
        let length = |x: &Tensor| {
            x.norm(NormOptions::new().dim(dim))?
                .clamp(self.options.epsilon.unwrap_or(1e-8)..)
        };
        let cosine = a.mul(&b)?.sum(dim)?.div(&length(&a)?.mul(&length(&b)?)?)?;
        Ok(smallvec![cosine.to_dtype(x[0].dtype())?])
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
    name: "cosine_similarity",
    family: "norm",
    kernels: &["aclnnLinalgVectorNorm", "aclnnReduceSum", "aclnnDiv"],
    samples,
};

fn samples() -> Vec<Sample> {
    let inputs = vec![
        SampleInput::new([3, 4], -2.0, 2.0),
        SampleInput::new([4], -2.0, 2.0),
    ];
    vec![Sample {
        op: Box::new(CosineSimilarity { options: ().into() }),
        inputs,
        dtypes: FLOATS,
    }]
}
