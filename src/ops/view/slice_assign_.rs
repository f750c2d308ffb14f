//! `slice_assign_`: values written over the indices `start:end:step` of a dim, in place.

use super::SliceOptions;
use crate::ops::prelude::*;

#[derive(Debug, Clone, Copy)]
struct SliceAssign {
    dim: i64,
    options: SliceOptions,
}

impl Tensor {
    /// Writes `source`, broadcast and cast, over the indices `start:end:step` along a dim, in place; views of this tensor
    /// see it. This is how a cache of keys and values grows.
    ///
    /// Shapes: `source` must broadcast to the slice. Dtypes: all. PyTorch: `x[start:end:step] = source`.
    /// NPU: `aclnnInplaceCopy`.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let mut x = Tensor::new([0i32, 1, 2, 3]);
    /// x.slice_assign_(0, 1..3, &Tensor::new([8i32, 9]))?;
    /// assert_eq!(x.to_vec::<i32>()?, [0, 8, 9, 3]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Tensor::slice`]; `Shape` if `source` does not broadcast to the slice, `Overlap` if this tensor overlaps itself.
    pub fn slice_assign_(
        &mut self,
        dim: i64,
        options: impl Into<SliceOptions>,
        source: &Tensor,
    ) -> Result<()> {
        *self = run_one(
            &SliceAssign {
                dim,
                options: options.into(),
            },
            &[self, source],
        )?;
        Ok(())
    }
}

impl SliceAssign {
    fn layout(&self, x: &Layout) -> Result<Layout> {
        self.options.layout(self.name(), self.dim, x)
    }
}

impl Op for SliceAssign {
    fn name(&self) -> &'static str {
        "slice_assign_"
    }

    fn infer(&self, x: &[Meta], _plan: &mut Plan) -> Result<()> {
        let slice = self.layout(&Layout::contiguous(x[0].shape))?;
        Layout::contiguous(x[1].shape)
            .expand(self.name(), slice.shape())
            .map(|_| ())
    }

    fn cpu(&self, x: &[Host<'_>], y: &mut [HostMut<'_>]) -> Result<Counts> {
        let slice = self.layout(y[0].layout())?;
        map::copy(&x[1].broadcast(slice.shape()), &mut y[0].with_layout(slice));
        Ok(Counts::EXACT)
    }

    fn ascend(&self, cx: &Launch, x: &[Dev<'_>], y: &[Dev<'_>]) -> Result<Counts> {
        let slice = y[0].with_layout(self.layout(y[0].layout())?);
        if slice.elements() > 0 {
            aclnn::inplace_copy(cx, &slice, &x[1])?;
        }
        Ok(Counts::EXACT)
    }

    fn gradient(&self) -> Gradient {
        Gradient::Backward
    }

    fn saves(&self) -> Saves {
        Saves::NOTHING
    }

    /// What was overwritten has no influence any more; the source gets the slice's gradient.
    fn backward(&self, cx: &GradCx<'_>) -> Result<Grads> {
        let dy = cx.gradient()?;
        let kept = || {
            let mut kept = dy.copy()?;
            kept.slice_assign_(
                self.dim,
                self.options,
                &Tensor::zeros((), dy.dtype(), dy.device())?,
            )?;
            Ok(kept)
        };
        Ok(smallvec![
            cx.want(0, kept)?,
            cx.want(1, || dy.slice(self.dim, self.options))?
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
    name: "slice_assign_",
    family: "view",
    kernels: &["aclnnInplaceCopy"],
    samples,
};

fn samples() -> Vec<Sample> {
    let op = Box::new(SliceAssign {
        dim: 1,
        options: SliceOptions::from(1..).step(2),
    });
    vec![Sample {
        op,
        inputs: vec![
            SampleInput::new([2, 5, 3], -2.0, 2.0),
            SampleInput::new([2, 2, 3], -2.0, 2.0),
        ],
        dtypes: DType::ALL,
    }]
}
