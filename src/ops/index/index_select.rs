//! `index_select`: slices along a dim, by an index.

use super::{Negative, host_indices, index_dtype, on_device};
use crate::cpu::gather::{Paths, gather};
use crate::ops::prelude::*;

#[derive(Debug, Clone, Copy)]
struct IndexSelect {
    dim: i64,
}

impl Tensor {
    /// The slices along a dim that an index names, in its order.
    ///
    /// Shapes: `[.., n, ..]` and an index `[k]` or `[]` -> `[.., k, ..]`. Dtypes: all; the index `i64` or `i32`.
    /// PyTorch: `torch.index_select`. NPU: `aclnnIndexSelect`.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([[1i32, 2], [3, 4], [5, 6]]);
    /// let rows = x.index_select(0, &Tensor::new([2i64, 0]))?;
    /// assert_eq!(rows.to_vec::<i32>()?, [5, 6, 1, 2]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Axis` for a dim out of range, `Index` for an index out of range or negative (on the NPU under
    /// [`check_data`](crate::check_data) only), `DType` for an index that is not an integer, `Shape` for one of two dims.
    pub fn index_select(&self, dim: i64, index: &Tensor) -> Result<Tensor> {
        if self.rank() == 0 {
            return self.reshape([1])?.index_select(dim, index)?.reshape(());
        }
        run_one(&IndexSelect { dim }, &[self, index])
    }
}

/// Refuses an index of two dims or more, or of another dtype than an index has; answers its length.
pub(super) fn one_dim(op: &'static str, index: &Meta) -> Result<usize> {
    index_dtype(op, index)?;
    match index.shape.rank() {
        0 | 1 => Ok(index.shape.elements()),
        _ => Err(Error::shape(
            op,
            format!("an index of {}", index.shape),
            "an index of at most one dim",
        )),
    }
}

impl Op for IndexSelect {
    fn name(&self) -> &'static str {
        "index_select"
    }

    fn infer(&self, x: &[Meta], plan: &mut Plan) -> Result<()> {
        let dim = x[0].shape.axis(self.name(), self.dim)?;
        plan.output(
            x[0].shape.with(dim, one_dim(self.name(), &x[1])?),
            x[0].dtype,
        );
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
        let paths = Paths::of(x[0].layout()).with_indices(
            self.name(),
            dim,
            index.iter().map(|index| *index as usize),
        )?;
        gather(&x[0], &paths, 0, &mut y[0]);
        Ok(Counts::EXACT)
    }

    fn ascend(&self, cx: &Launch, x: &[Dev<'_>], y: &[Dev<'_>]) -> Result<Counts> {
        let dim = x[0].shape().axis(self.name(), self.dim)?;
        on_device(cx, &x[1], x[0].shape().size(dim), Negative::Refused)?;
        let index = x[1].with_layout(
            x[1].layout()
                .reshape(&[x[1].elements()].into())
                .unwrap_or(*x[1].layout()),
        );
        aclnn::index_select(cx, &x[0], dim as i64, &index, &y[0])?;
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
        let zeros = Tensor::zeros(cx.meta(0)?.shape, dy.dtype(), dy.device())?;
        Ok(smallvec![cx.want(0, || zeros.index_add(
            self.dim,
            cx.input(1)?,
            dy,
            ()
        ))?])
    }

    fn boxed(&self) -> Box<dyn Op> {
        Box::new(*self)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "index_select",
    family: "index",
    kernels: &["aclnnIndexSelect"],
    samples,
};

fn samples() -> Vec<Sample> {
    let inputs = |shape: [usize; 3]| {
        vec![
            SampleInput::new(shape, -2.0, 2.0),
            SampleInput::typed([5], DType::I64, 0.0, 2.9),
        ]
    };
    let one = |dim, shape| Sample {
        op: Box::new(IndexSelect { dim }),
        inputs: inputs(shape),
        dtypes: DType::ALL,
    };
    vec![one(1, [2, 3, 4]), one(-1, [2, 4, 3])]
}
