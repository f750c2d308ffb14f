//! `scatter_add`: elements added along a dim, at the places that an index names.

use super::gather::lifted;
use super::scatter::{corner, source_fits, source_gradient};
use super::{Negative, host_indices, on_device};
use crate::cpu::gather::{in_lanes, scatter_along};
use crate::ops::prelude::*;

#[derive(Debug, Clone, Copy)]
struct ScatterAdd {
    dim: i64,
}

impl Tensor {
    /// This tensor with elements added along a dim: for dim 0, `out[index[i][j]][j] += source[i][j]`; a place named several
    /// times gets them all.
    ///
    /// Shapes and dtypes: as [`Tensor::scatter`]. PyTorch: `torch.scatter_add`. NPU: `aclnnScatterAdd`.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([1i32, 1, 1]);
    /// let y = x.scatter_add(0, &Tensor::new([2i64, 0, 2]), &Tensor::new([5i32, 6, 7]))?;
    /// assert_eq!(y.to_vec::<i32>()?, [7, 1, 13]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Tensor::scatter`].
    pub fn scatter_add(&self, dim: i64, index: &Tensor, source: &Tensor) -> Result<Tensor> {
        if self.rank() == 0 || index.rank() == 0 {
            return lifted(self)?
                .scatter_add(dim, &lifted(index)?, &lifted(source)?)?
                .reshape(*self.shape());
        }
        run_one(&ScatterAdd { dim }, &[self, index, source])
    }
}

impl Op for ScatterAdd {
    fn name(&self) -> &'static str {
        "scatter_add"
    }

    fn infer(&self, x: &[Meta], plan: &mut Plan) -> Result<()> {
        source_fits(self.name(), self.dim, x)?;
        plan.output(x[0].shape, x[0].dtype);
        Ok(())
    }

    fn cpu(&self, x: &[Host<'_>], y: &mut [HostMut<'_>]) -> Result<Counts> {
        let shape = *x[0].shape();
        let dim = shape.axis(self.name(), self.dim)?;
        let index = host_indices(self.name(), &x[1], shape.size(dim), Negative::Refused)?;
        let source = x[2].with_layout(corner(x[2].layout(), x[1].shape()));
        map::copy(&x[0], &mut y[0]);
        with_lane!(x[0].dtype(), T => {
            in_lanes::<T>(self.name(), &mut y[0], |target| scatter_along(&source, dim, &index, (target, &shape), |old, x| old.plus(x)))?;
        });
        Ok(Counts::EXACT)
    }

    fn ascend(&self, cx: &Launch, x: &[Dev<'_>], y: &[Dev<'_>]) -> Result<Counts> {
        let dim = x[0].shape().axis(self.name(), self.dim)?;
        on_device(cx, &x[1], x[0].shape().size(dim), Negative::Refused)?;
        if x[1].elements() == 0 {
            aclnn::inplace_copy(cx, &y[0], &x[0])?;
            return Ok(Counts::EXACT);
        }
        let source = cx.contiguous(&x[2].with_layout(corner(x[2].layout(), x[1].shape())))?;
        aclnn::scatter_add(cx, &x[0], dim as i64, &x[1], &source.dev(), &y[0])?;
        Ok(Counts::EXACT)
    }

    fn gradient(&self) -> Gradient {
        Gradient::Backward
    }

    fn saves(&self) -> Saves {
        Saves::NOTHING.and_input(1)
    }

    fn backward(&self, cx: &GradCx<'_>) -> Result<Grads> {
        let dy = cx.gradient()?;
        let source = || source_gradient(cx, dy.gather(self.dim, cx.input(1)?)?);
        Ok(smallvec![
            cx.want(0, || Ok(dy.clone()))?,
            None,
            cx.want(2, source)?
        ])
    }

    fn boxed(&self) -> Box<dyn Op> {
        Box::new(*self)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "scatter_add",
    family: "index",
    kernels: &["aclnnScatterAdd"],
    samples,
};

fn samples() -> Vec<Sample> {
    let index = SampleInput::typed([2, 5, 3], DType::I64, 0.0, 2.9);
    let inputs = vec![
        SampleInput::new([2, 3, 4], -2.0, 2.0),
        index,
        SampleInput::new([2, 6, 3], -2.0, 2.0),
    ];
    vec![Sample {
        op: Box::new(ScatterAdd { dim: 1 }),
        inputs,
        dtypes: NUMBERS,
    }]
}
