//! `mean`: the mean of elements over dims.

use super::ReduceOptions;
use super::sum::Total;
use crate::cpu::reduce::{fold, reduced_shape};
use crate::ops::prelude::*;

#[derive(Debug, Clone)]
struct Mean {
    options: ReduceOptions,
}

impl Tensor {
    /// The mean over dims; halves accumulate wider and round once; the mean of nothing is NaN.
    ///
    /// Shapes: the reduced dims go, or stay with size 1 (`keepdim`). Dtypes: floats, or any with a float `dtype` to compute in.
    /// PyTorch: `torch.mean`. NPU: `aclnnMean`.
    ///
    /// ```
    /// use ascend_tensor::{Tensor, ops::reduce::ReduceOptions};
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([[1.0f32, 2.0], [3.0, 4.0]]);
    /// assert_eq!(x.mean(())?.item::<f32>()?, 2.5);
    /// assert_eq!(x.mean(ReduceOptions::new().dim(0).keepdim())?.dims(), [1, 2]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `DType` for integers and bools without a float dtype, `Axis` for a dim out of range, `Option` for one given twice.
    pub fn mean(&self, options: impl Into<ReduceOptions>) -> Result<Tensor> {
        run_one(
            &Mean {
                options: options.into(),
            },
            &[self],
        )
    }
}

impl Op for Mean {
    fn name(&self) -> &'static str {
        "mean"
    }

    fn infer(&self, x: &[Meta], plan: &mut Plan) -> Result<()> {
        let mask = self.options.mask("mean", &x[0].shape)?;
        let dtype = self.options.dtype.unwrap_or(x[0].dtype);
        if !dtype.is_float() {
            return Err(Error::dtype(
                "mean",
                dtype,
                "a float dtype (ask for one with `ReduceOptions::dtype`)",
            ));
        }
        plan.cast(0, dtype);
        plan.output(reduced_shape(&x[0].shape, &mask, self.options.keep), dtype);
        Ok(())
    }

    fn cpu(&self, x: &[Host<'_>], y: &mut [HostMut<'_>]) -> Result<Counts> {
        let mask = self.options.mask("mean", x[0].shape())?;
        with_float!(y[0].dtype(), T => fold(&Total::<T>::mean(), &x[0], &mask, &mut y[0]));
        Ok(Counts::EXACT)
    }

    fn ascend(&self, cx: &Launch, x: &[Dev<'_>], y: &[Dev<'_>]) -> Result<Counts> {
        let dims = self.options.dims("mean", x[0].shape())?;
        if x[0].elements() == 0 {
            aclnn::inplace_fill_scalar(
                cx,
                &y[0],
                AclScalar::of(Scalar::Float(f64::NAN), y[0].dtype()),
            )?;
        } else {
            aclnn::mean(cx, &x[0], &dims, self.options.keep, y[0].dtype(), &y[0])?;
        }
        Ok(Counts::EXACT)
    }

    fn gradient(&self) -> Gradient {
        Gradient::Backward
    }

    fn saves(&self) -> Saves {
        Saves::NOTHING
    }

    fn backward(&self, cx: &GradCx<'_>) -> Result<Grads> {
        let shape = cx.meta(0)?.shape;
        let kept = reduced_shape(&shape, &self.options.mask("mean", &shape)?, true);
        let count = shape.elements() as f64 / kept.elements().max(1) as f64;
        Ok(smallvec![Some(
            cx.gradient()?
                .mul(1.0 / count)?
                .reshape(kept)?
                .expand(shape)?
        )])
    }

    fn cast(&self) -> CastRule {
        CastRule::Full
    }

    fn boxed(&self) -> Box<dyn Op> {
        Box::new(self.clone())
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "mean",
    family: "reduce",
    kernels: &["aclnnMean"],
    samples,
};

fn samples() -> Vec<Sample> {
    super::reduce_samples(|options| Box::new(Mean { options }), FLOATS)
}
