//! `transpose`: two dims swapped, without a copy.

use super::{Rule, view_sample};
use crate::ops::prelude::*;

#[derive(Debug, Clone, Copy)]
struct Transpose {
    dim0: i64,
    dim1: i64,
}

impl Tensor {
    /// A view with two dims swapped.
    ///
    /// Shapes: `[.., m, .., n, ..] -> [.., n, .., m, ..]`. Dtypes: all. PyTorch: `torch.transpose`. NPU: no kernel.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([[1i32, 2, 3], [4, 5, 6]]);
    /// assert_eq!(x.transpose(0, 1)?.to_vec::<i32>()?, [1, 4, 2, 5, 3, 6]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Axis` for a dim out of range.
    pub fn transpose(&self, dim0: i64, dim1: i64) -> Result<Tensor> {
        self.viewed(Transpose { dim0, dim1 })
    }
}

impl Rule for Transpose {
    const NAME: &'static str = "transpose";

    fn layout(&self, x: &Layout) -> Result<Layout> {
        let axis = |dim| x.shape().axis_or_scalar(Self::NAME, dim);
        Ok(x.transpose(axis(self.dim0)?, axis(self.dim1)?))
    }

    fn gradient(&self, dy: &Tensor, _shape: &Shape) -> Result<Tensor> {
        dy.transpose(self.dim0, self.dim1)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "transpose",
    family: "view",
    kernels: &[],
    samples,
};

fn samples() -> Vec<Sample> {
    vec![view_sample(Transpose { dim0: 0, dim1: -1 }, [2, 3, 4])]
}
