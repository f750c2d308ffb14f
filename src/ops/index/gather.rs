//! `gather`: elements along a dim, by an index of the result's shape.

use super::{Negative, any_indices, host_indices, index_dtype, on_device};
use crate::cpu::gather::gather_along;
use crate::ops::prelude::*;

#[derive(Debug, Clone, Copy)]
struct Gather {
    dim: i64,
}

impl Tensor {
    /// Elements along a dim: for dim 0, `out[i][j] = self[index[i][j]][j]`.
    ///
    /// Shapes: the index has as many dims, none larger but `dim`; the result has the index's shape. Dtypes: all; the index
    /// `i64` or `i32`. PyTorch: `torch.gather`. NPU: `aclnnGather`.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([[1i32, 2], [3, 4]]);
    /// let index = Tensor::new([[0i64, 0], [1, 0]]);
    /// assert_eq!(x.gather(1, &index)?.to_vec::<i32>()?, [1, 1, 4, 3]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Axis` for a dim out of range, `Index` for an index out of range or negative (on the NPU under
    /// [`check_data`](crate::check_data) only), `DType` for one that is not an integer, `Shape` if it does not fit.
    pub fn gather(&self, dim: i64, index: &Tensor) -> Result<Tensor> {
        if self.rank() == 0 || index.rank() == 0 {
            let (x, at) = (lifted(self)?, lifted(index)?);
            return x.gather(dim, &at)?.reshape(*index.shape());
        }
        run_one(&Gather { dim }, &[self, index])
    }
}

/// A tensor without dims as one of one dim.
pub(super) fn lifted(x: &Tensor) -> Result<Tensor> {
    if x.rank() == 0 {
        x.reshape([1])
    } else {
        Ok(x.clone())
    }
}

/// The dim, after checking that an index fits a tensor: as many dims, none larger but `dim`.
pub(super) fn index_fits(op: &'static str, dim: i64, x: &Meta, index: &Meta) -> Result<usize> {
    let dim = x.shape.axis(op, dim)?;
    index_dtype(op, index)?;
    let larger = |other: usize| other != dim && index.shape.size(other) > x.shape.size(other);
    if !index.shape.is_empty()
        && (index.shape.rank() != x.shape.rank() || (0..x.shape.rank()).any(larger))
    {
        let got = format!("an index of {} for a tensor of {}", index.shape, x.shape);
        return Err(Error::shape(
            op,
            got,
            "as many dims, none larger but the one that is indexed",
        ));
    }
    Ok(dim)
}

impl Op for Gather {
    fn name(&self) -> &'static str {
        "gather"
    }

    fn infer(&self, x: &[Meta], plan: &mut Plan) -> Result<()> {
        index_fits(self.name(), self.dim, &x[0], &x[1])?;
        plan.output(x[1].shape, x[0].dtype);
        Ok(())
    }

    fn cpu(&self, x: &[Host<'_>], y: &mut [HostMut<'_>]) -> Result<Counts> {
        let dim = x[0].shape().axis(self.name(), self.dim)?;
        // Gathering checks the indices while it has them.
        if !gather_along(&x[0], dim, &any_indices(self.name(), &x[1])?, &mut y[0]) {
            let size = x[0].shape().size(dim);
            host_indices(self.name(), &x[1], size, Negative::Refused)?;
        }
        Ok(Counts::EXACT)
    }

    fn ascend(&self, cx: &Launch, x: &[Dev<'_>], y: &[Dev<'_>]) -> Result<Counts> {
        let dim = x[0].shape().axis(self.name(), self.dim)?;
        on_device(cx, &x[1], x[0].shape().size(dim), Negative::Refused)?;
        aclnn::gather(cx, &x[0], dim as i64, &x[1], &y[0])?;
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
        Ok(smallvec![cx.want(0, || zeros.scatter_add(
            self.dim,
            cx.input(1)?,
            dy
        ))?])
    }

    fn boxed(&self) -> Box<dyn Op> {
        Box::new(*self)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "gather",
    family: "index",
    kernels: &["aclnnGather"],
    samples,
};

fn samples() -> Vec<Sample> {
    let inputs = vec![
        SampleInput::new([2, 3, 4], -2.0, 2.0),
        SampleInput::typed([2, 5, 3], DType::I64, 0.0, 2.9),
    ];
    vec![Sample {
        op: Box::new(Gather { dim: 1 }),
        inputs,
        dtypes: DType::ALL,
    }]
}
