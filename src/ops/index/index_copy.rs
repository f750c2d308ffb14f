//! `index_copy`: slices replaced at the places that an index names.

use super::index_add::slices_fit;
use super::{Negative, host_indices, on_device};
use crate::cpu::gather::{Paths, in_lanes, scatter};
use crate::ops::prelude::*;

#[derive(Debug, Clone, Copy)]
struct IndexCopy {
    dim: i64,
}

impl Tensor {
    /// This tensor with the slices along a dim that an index names replaced by those of `source`; of a place named twice, the
    /// last.
    ///
    /// Shapes: `[.., n, ..]`, an index `[k]`, a source `[.., k, ..]`. Dtypes: all; the index `i64` or `i32`.
    /// PyTorch: `torch.index_copy`. NPU: `aclnnInplaceCopy`, `aclnnInplaceIndexCopy`.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([1i32, 1, 1]);
    /// let y = x.index_copy(0, &Tensor::new([2i64, 0]), &Tensor::new([5i32, 6]))?;
    /// assert_eq!(y.to_vec::<i32>()?, [6, 1, 5]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Axis`, `Index`, `Shape` and `DType` as [`Tensor::index_add`].
    pub fn index_copy(&self, dim: i64, index: &Tensor, source: &Tensor) -> Result<Tensor> {
        if self.rank() == 0 {
            return self
                .reshape([1])?
                .index_copy(dim, index, &source.reshape([1])?)?
                .reshape(());
        }
        run_one(&IndexCopy { dim }, &[self, index, source])
    }
}

impl Op for IndexCopy {
    fn name(&self) -> &'static str {
        "index_copy"
    }

    fn infer(&self, x: &[Meta], plan: &mut Plan) -> Result<()> {
        slices_fit(self.name(), self.dim, x)?;
        plan.output(x[0].shape, x[0].dtype);
        Ok(())
    }

    fn cpu(&self, x: &[Host<'_>], y: &mut [HostMut<'_>]) -> Result<Counts> {
        let dim = x[0].shape().axis(self.name(), self.dim)?;
        let index = host_indices(
            self.name(),
            &x[1],
            x[0].shape().size(dim),
            Negative::Refused,
        )?;
        let paths = Paths::of(&Layout::contiguous(*x[0].shape())).with_indices(
            self.name(),
            dim,
            index.iter().map(|index| *index as usize),
        )?;
        map::copy(&x[0], &mut y[0]);
        with_lane!(x[0].dtype(), T => in_lanes::<T>(self.name(), &mut y[0], |target| scatter(&x[2], &paths, target, |_, x| x))?);
        Ok(Counts::EXACT)
    }

    fn ascend(&self, cx: &Launch, x: &[Dev<'_>], y: &[Dev<'_>]) -> Result<Counts> {
        let dim = x[0].shape().axis(self.name(), self.dim)?;
        on_device(cx, &x[1], x[0].shape().size(dim), Negative::Refused)?;
        aclnn::inplace_copy(cx, &y[0], &x[0])?;
        if x[2].elements() > 0 {
            aclnn::inplace_index_copy(cx, &y[0], dim as i64, &x[1], &x[2])?;
        }
        Ok(Counts::EXACT)
    }

    /// By `index_put` with full slices before the dim.
    fn compose(&self, x: &[Tensor]) -> Result<Outputs> {
        let dim = x[0].shape().axis(self.name(), self.dim)? as i64;
        let rows = x[0].movedim(dim, 0)?.index_put(
            &[Some(&x[1].reshape([x[1].elements()])?)],
            &x[2].movedim(dim, 0)?,
            (),
        )?;
        Ok(smallvec![rows.movedim(0, dim)?])
    }

    fn gradient(&self) -> Gradient {
        Gradient::Backward
    }

    fn saves(&self) -> Saves {
        Saves::NOTHING.and_input(1)
    }

    fn backward(&self, cx: &GradCx<'_>) -> Result<Grads> {
        let dy = cx.gradient()?;
        let kept = || dy.index_fill(self.dim, cx.input(1)?, 0i64);
        Ok(smallvec![
            cx.want(0, kept)?,
            None,
            cx.want(2, || dy.index_select(self.dim, cx.input(1)?))?
        ])
    }

    fn boxed(&self) -> Box<dyn Op> {
        Box::new(*self)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "index_copy",
    family: "index",
    kernels: &["aclnnInplaceCopy", "aclnnInplaceIndexCopy"],
    samples,
};

fn samples() -> Vec<Sample> {
    let inputs = vec![
        SampleInput::new([2, 3, 4], -2.0, 2.0),
        SampleInput::typed([1], DType::I64, 0.0, 2.9),
        SampleInput::new([2, 1, 4], -2.0, 2.0),
    ];
    vec![Sample {
        op: Box::new(IndexCopy { dim: 1 }),
        inputs,
        dtypes: DType::ALL,
    }]
}
