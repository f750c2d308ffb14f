//! `copy_`: another tensor's values written into this one's memory.

use crate::ops::prelude::*;

#[derive(Debug, Clone, Copy)]
struct CopyInto;

impl Tensor {
    /// Writes the values of `source`, broadcast and cast, into this tensor's memory; views of it see them.
    ///
    /// Shapes: `source` must broadcast to this tensor's shape. Dtypes: all. PyTorch: `Tensor.copy_`. NPU: `aclnnInplaceCopy`.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let mut x = Tensor::new([[1i32, 2], [3, 4]]);
    /// x.copy_(&Tensor::new([7i32, 8]))?;
    /// assert_eq!(x.to_vec::<i32>()?, [7, 8, 7, 8]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Shape` if `source` does not broadcast to this shape, `Overlap` if this tensor overlaps itself.
    pub fn copy_(&mut self, source: &Tensor) -> Result<()> {
        *self = run_one(&CopyInto, &[self, source])?;
        Ok(())
    }
}

impl Op for CopyInto {
    fn name(&self) -> &'static str {
        "copy_"
    }

    fn infer(&self, x: &[Meta], _plan: &mut Plan) -> Result<()> {
        Layout::contiguous(x[1].shape)
            .expand(self.name(), &x[0].shape)
            .map(|_| ())
    }

    fn cpu(&self, x: &[Host<'_>], y: &mut [HostMut<'_>]) -> Result<Counts> {
        let shape = *y[0].shape();
        map::copy(&x[1].broadcast(&shape), &mut y[0]);
        Ok(Counts::EXACT)
    }

    fn ascend(&self, cx: &Launch, x: &[Dev<'_>], y: &[Dev<'_>]) -> Result<Counts> {
        aclnn::inplace_copy(cx, &y[0], &x[1])?;
        Ok(Counts::EXACT)
    }

    fn gradient(&self) -> Gradient {
        Gradient::Backward
    }

    fn saves(&self) -> Saves {
        Saves::NOTHING
    }

    /// What was overwritten has no influence any more; the source gets the whole gradient.
    fn backward(&self, cx: &GradCx<'_>) -> Result<Grads> {
        let dy = cx.gradient()?;
        Ok(smallvec![
            cx.want(0, || dy.zeros_like())?,
            cx.want(1, || Ok(dy.clone()))?
        ])
    }

    fn writes(&self) -> Writes {
        Writes::FIRST
    }

    fn boxed(&self) -> Box<dyn Op> {
        Box::new(*self)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "copy_",
    family: "view",
    kernels: &["aclnnInplaceCopy"],
    samples,
};

fn samples() -> Vec<Sample> {
    let inputs = vec![
        SampleInput::new([3, 4], -2.0, 2.0),
        SampleInput::new([4], -2.0, 2.0),
    ];
    vec![Sample {
        op: Box::new(CopyInto),
        inputs,
        dtypes: DType::ALL,
    }]
}
