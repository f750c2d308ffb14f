//! `copy`: the same elements in fresh memory, row-major.

use crate::ops::prelude::*;

#[derive(Debug, Clone, Copy)]
struct Copied;

impl Tensor {
    /// A copy in fresh, contiguous memory.
    ///
    /// Shapes, dtypes: any. PyTorch: `Tensor.clone`. NPU: `aclnnInplaceCopy`.
    ///
    /// # Errors
    /// Memory and device errors only.
    pub fn copy(&self) -> Result<Tensor> {
        run_one(&Copied, &[self])
    }

    /// The tensor itself if its elements lie row-major without gaps, else a copy for which that holds.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([[1i32, 2], [3, 4]]).transpose(0, 1)?;
    /// assert!(!x.is_contiguous());
    /// assert!(x.contiguous()?.is_contiguous());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Memory and device errors only.
    pub fn contiguous(&self) -> Result<Tensor> {
        if self.is_contiguous() {
            Ok(self.clone())
        } else {
            self.copy()
        }
    }
}

impl Op for Copied {
    fn name(&self) -> &'static str {
        "copy"
    }

    fn infer(&self, x: &[Meta], plan: &mut Plan) -> Result<()> {
        plan.output(x[0].shape, x[0].dtype);
        Ok(())
    }

    fn cpu(&self, x: &[Host<'_>], y: &mut [HostMut<'_>]) -> Result<Counts> {
        map::copy(&x[0], &mut y[0]);
        Ok(Counts::EXACT)
    }

    fn ascend(&self, cx: &Launch, x: &[Dev<'_>], y: &[Dev<'_>]) -> Result<Counts> {
        aclnn::inplace_copy(cx, &y[0], &x[0])?;
        Ok(Counts::EXACT)
    }

    fn gradient(&self) -> Gradient {
        Gradient::Backward
    }

    fn saves(&self) -> Saves {
        Saves::NOTHING
    }

    fn backward(&self, cx: &GradCx<'_>) -> Result<Grads> {
        Ok(smallvec![Some(cx.gradient()?.clone())])
    }

    fn boxed(&self) -> Box<dyn Op> {
        Box::new(*self)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "copy",
    family: "view",
    kernels: &["aclnnInplaceCopy"],
    samples,
};

fn samples() -> Vec<Sample> {
    vec![Sample {
        op: Box::new(Copied),
        inputs: vec![SampleInput::new([3, 4], -2.0, 2.0)],
        dtypes: DType::ALL,
    }]
}
