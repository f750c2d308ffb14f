//! `nansum`: the sum over dims with NaN taken as 0.

use super::ReduceOptions;
use crate::ops::prelude::*;

#[derive(Debug, Clone)]
struct Nansum {
    options: ReduceOptions,
}

impl Tensor {
    /// The sum over dims with NaN taken as 0; integers and bools give `i64`.
    ///
    /// Shapes: the reduced dims go, or stay with size 1 (`keepdim`). Dtypes: all. PyTorch: `torch.nansum`. NPU: `aclnnReduceSum`.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// assert_eq!(Tensor::new([1.0f32, f32::NAN, 2.0]).nansum(())?.item::<f32>()?, 3.0);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Axis` for a dim out of range, `Option` for one given twice.
    pub fn nansum(&self, options: impl Into<ReduceOptions>) -> Result<Tensor> {
        run_one(
            &Nansum {
                options: options.into(),
            },
            &[self],
        )
    }
}

impl Op for Nansum {
    fn name(&self) -> &'static str {
        "nansum"
    }

    fn infer(&self, x: &[Meta], plan: &mut Plan) -> Result<()> {
        let own = if x[0].dtype.is_float() {
            x[0].dtype
        } else {
            DType::I64
        };
        let dtype = self.options.dtype.unwrap_or(own);
        plan.output(self.options.result("nansum", &x[0].shape)?, dtype);
        Ok(())
    }

    fn compose(&self, x: &[Tensor]) -> Result<Outputs> {
        if !x[0].dtype().is_float() {
            return Ok(smallvec![x[0].sum(self.options.clone())?]);
        }
        Ok(smallvec![
            x[0].isnan()?
                .where_cond(0.0, &x[0])?
                .sum(self.options.clone())?
        ])
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
        Box::new(self.clone())
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "nansum",
    family: "reduce",
    kernels: &["aclnnReduceSum"],
    samples,
};

fn samples() -> Vec<Sample> {
    super::reduce_samples(|options| Box::new(Nansum { options }), DType::ALL)
}
