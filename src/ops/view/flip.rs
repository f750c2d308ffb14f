//! `flip`: dims reversed.

use crate::cpu::gather::{Paths, gather};
use crate::ops::prelude::*;
use crate::shape::MAX_RANK;

#[derive(Debug, Clone)]
struct Flip {
    dims: Axes,
}

impl Tensor {
    /// The elements in reverse order along some dims (none: a copy).
    ///
    /// Dtypes: all. PyTorch: `torch.flip`. NPU: `aclnnFlip`.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([[1i32, 2], [3, 4]]);
    /// assert_eq!(x.flip(0)?.to_vec::<i32>()?, [3, 4, 1, 2]);
    /// assert_eq!(x.flip([0, 1])?.to_vec::<i32>()?, [4, 3, 2, 1]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Axis` for a dim out of range, `Option` for one given twice.
    pub fn flip(&self, dims: impl Into<Axes>) -> Result<Tensor> {
        run_one(&Flip { dims: dims.into() }, &[self])
    }
}

impl Flip {
    fn mask(&self, shape: &Shape) -> Result<[bool; MAX_RANK]> {
        if self.dims.as_slice().is_empty() {
            Ok([false; MAX_RANK])
        } else {
            self.dims.resolve(self.name(), shape)
        }
    }
}

impl Op for Flip {
    fn name(&self) -> &'static str {
        "flip"
    }

    fn infer(&self, x: &[Meta], plan: &mut Plan) -> Result<()> {
        self.mask(&x[0].shape)?;
        plan.output(x[0].shape, x[0].dtype);
        Ok(())
    }

    fn cpu(&self, x: &[Host<'_>], y: &mut [HostMut<'_>]) -> Result<Counts> {
        let mask = self.mask(x[0].shape())?;
        if y[0].elements() == 0 {
            // A dim may be of any size beside an empty one: no table of it.
            return Ok(Counts::EXACT);
        }
        let turn = |paths: Paths, dim: usize| {
            paths.with_indices(self.name(), dim, (0..x[0].shape().size(dim)).rev())
        };
        let paths = (0..x[0].shape().rank())
            .filter(|dim| mask[*dim])
            .try_fold(Paths::of(x[0].layout()), turn)?;
        gather(&x[0], &paths, 0, &mut y[0]);
        Ok(Counts::EXACT)
    }

    fn ascend(&self, cx: &Launch, x: &[Dev<'_>], y: &[Dev<'_>]) -> Result<Counts> {
        let mask = self.mask(x[0].shape())?;
        let dims: Vec<i64> = (0..x[0].shape().rank())
            .filter(|dim| mask[*dim])
            .map(|dim| dim as i64)
            .collect();
        if dims.is_empty() {
            aclnn::inplace_copy(cx, &y[0], &x[0])?
        } else {
            aclnn::flip(cx, &x[0], &dims, &y[0])?
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
        Ok(smallvec![Some(cx.gradient()?.flip(self.dims.clone())?)])
    }

    fn boxed(&self) -> Box<dyn Op> {
        Box::new(self.clone())
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "flip",
    family: "view",
    kernels: &["aclnnFlip"],
    samples,
};

fn samples() -> Vec<Sample> {
    let one = |dims: Axes| Sample {
        op: Box::new(Flip { dims }),
        inputs: vec![SampleInput::new([2, 3, 4], -2.0, 2.0)],
        dtypes: DType::ALL,
    };
    vec![one(1.into()), one([0, -1].into())]
}
