//! `index_fill`: a number in the slices that an index names.

use super::index_select::one_dim;
use super::{Negative, host_indices, on_device};
use crate::cpu::gather::{Paths, in_lanes, scatter};
use crate::ops::prelude::*;

#[derive(Debug, Clone, Copy)]
struct IndexFill {
    dim: i64,
    value: Scalar,
}

impl Tensor {
    /// This tensor with a number in the slices along a dim that an index names; negative indices count from the end.
    ///
    /// Shapes: `[.., n, ..]` and an index `[k]`. Dtypes: all; the index `i64` or `i32`. PyTorch: `torch.index_fill`.
    /// NPU: `aclnnIndexFill`.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([1i32, 2, 3]);
    /// assert_eq!(x.index_fill(0, &Tensor::new([0i64, -1]), 9)?.to_vec::<i32>()?, [9, 2, 9]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Axis`, `Index`, `Shape` and `DType` as [`Tensor::index_select`].
    pub fn index_fill(&self, dim: i64, index: &Tensor, value: impl Into<Scalar>) -> Result<Tensor> {
        if self.rank() == 0 {
            return self
                .reshape([1])?
                .index_fill(dim, index, value)?
                .reshape(());
        }
        run_one(
            &IndexFill {
                dim,
                value: value.into(),
            },
            &[self, index],
        )
    }
}

impl Op for IndexFill {
    fn name(&self) -> &'static str {
        "index_fill"
    }

    fn infer(&self, x: &[Meta], plan: &mut Plan) -> Result<()> {
        x[0].shape.axis(self.name(), self.dim)?;
        one_dim(self.name(), &x[1])?;
        plan.output(x[0].shape, x[0].dtype);
        Ok(())
    }

    fn cpu(&self, x: &[Host<'_>], y: &mut [HostMut<'_>]) -> Result<Counts> {
        let dim = x[0].shape().axis(self.name(), self.dim)?;
        let index = host_indices(
            self.name(),
            &x[1],
            x[0].shape().size(dim),
            Negative::FromEnd,
        )?;
        let paths = Paths::of(&Layout::contiguous(*x[0].shape())).with_indices(
            self.name(),
            dim,
            index.iter().map(|index| *index as usize),
        )?;
        map::copy(&x[0], &mut y[0]);
        with_lane!(x[0].dtype(), T => {
            let value = T::from_scalar(self.value);
            let values = Host::splat(&value, &x[0].shape().with(dim, index.len()));
            in_lanes::<T>(self.name(), &mut y[0], |target| scatter(&values, &paths, target, |_, x| x))?;
        });
        Ok(Counts::EXACT)
    }

    fn ascend(&self, cx: &Launch, x: &[Dev<'_>], y: &[Dev<'_>]) -> Result<Counts> {
        let dim = x[0].shape().axis(self.name(), self.dim)?;
        on_device(cx, &x[1], x[0].shape().size(dim), Negative::FromEnd)?;
        if x[1].elements() == 0 {
            aclnn::inplace_copy(cx, &y[0], &x[0])?;
            return Ok(Counts::EXACT);
        }
        aclnn::index_fill(
            cx,
            &x[0],
            dim as i64,
            &x[1],
            AclScalar::of(self.value, x[0].dtype()),
            &y[0],
        )?;
        Ok(Counts::EXACT)
    }

    /// By `index_put`, whose indices may be negative too.
    fn compose(&self, x: &[Tensor]) -> Result<Outputs> {
        let dim = x[0].shape().axis(self.name(), self.dim)? as i64;
        let value = Tensor::full_of((), self.value, x[0].dtype(), x[0].device())?;
        let rows = x[0]
            .movedim(dim, 0)?
            .index_put(&[Some(&x[1])], &value, ())?;
        Ok(smallvec![rows.movedim(0, dim)?])
    }

    fn gradient(&self) -> Gradient {
        Gradient::Backward
    }

    fn saves(&self) -> Saves {
        Saves::NOTHING.and_input(1)
    }

    fn backward(&self, cx: &GradCx<'_>) -> Result<Grads> {
        Ok(smallvec![cx.want(0, || cx.gradient()?.index_fill(
            self.dim,
            cx.input(1)?,
            0i64
        ))?])
    }

    fn boxed(&self) -> Box<dyn Op> {
        Box::new(*self)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "index_fill",
    family: "index",
    kernels: &["aclnnIndexFill"],
    samples,
};

fn samples() -> Vec<Sample> {
    let inputs = vec![
        SampleInput::new([2, 3, 4], -2.0, 2.0),
        SampleInput::typed([2], DType::I64, -3.0, 2.9),
    ];
    vec![Sample {
        op: Box::new(IndexFill {
            dim: 1,
            value: Scalar::Int(1),
        }),
        inputs,
        dtypes: DType::ALL,
    }]
}
