//! `to_dtype`: the same values in another dtype.

use crate::ops::prelude::*;

#[derive(Debug, Clone, Copy)]
struct ToDtype {
    dtype: DType,
}

impl Tensor {
    /// The same values in another dtype. The tensor itself (same memory) if it has the dtype already.
    ///
    /// Floats to integers truncate toward zero, integers wrap modulo 2^n, to `bool` is `!= 0`, to a float rounds to nearest
    /// even. Shapes: any. Dtypes: all. PyTorch: `Tensor.to(dtype)`. NPU: `aclnnCast`.
    ///
    /// ```
    /// use ascend_tensor::{DType, Tensor};
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([1.9f32, -1.9, 0.0]);
    /// assert_eq!(x.to_dtype(DType::I32)?.to_vec::<i32>()?, [1, -1, 0]);
    /// assert_eq!(x.to_dtype(DType::Bool)?.to_vec::<bool>()?, [true, true, false]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Memory and device errors only.
    pub fn to_dtype(&self, dtype: DType) -> Result<Tensor> {
        if self.dtype() == dtype {
            return Ok(self.clone());
        }
        run_one(&ToDtype { dtype }, &[self])
    }
}

impl Op for ToDtype {
    fn name(&self) -> &'static str {
        "to_dtype"
    }

    fn infer(&self, x: &[Meta], plan: &mut Plan) -> Result<()> {
        plan.output(x[0].shape, self.dtype);
        Ok(())
    }

    fn cpu(&self, x: &[Host<'_>], y: &mut [HostMut<'_>]) -> Result<Counts> {
        map::copy(&x[0], &mut y[0]);
        Ok(Counts::EXACT)
    }

    fn ascend(&self, cx: &Launch, x: &[Dev<'_>], y: &[Dev<'_>]) -> Result<Counts> {
        aclnn::cast(cx, &x[0], self.dtype, &y[0])?;
        Ok(Counts::EXACT)
    }

    fn gradient(&self) -> Gradient {
        if self.dtype.is_float() {
            Gradient::Backward
        } else {
            Gradient::Constant
        }
    }

    fn saves(&self) -> Saves {
        Saves::NOTHING
    }

    /// The tape brings the gradient back to the input's dtype.
    fn backward(&self, cx: &GradCx<'_>) -> Result<Grads> {
        Ok(smallvec![Some(cx.gradient()?.clone())])
    }

    fn boxed(&self) -> Box<dyn Op> {
        Box::new(*self)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "to_dtype",
    family: "elementwise",
    kernels: &["aclnnCast"],
    samples,
};

fn samples() -> Vec<Sample> {
    let cast = |dtype: &DType| Sample {
        op: Box::new(ToDtype { dtype: *dtype }),
        inputs: vec![SampleInput::new([3, 4], 0.0, 3.0)],
        dtypes: DType::ALL,
    };
    DType::ALL.iter().map(cast).collect()
}
