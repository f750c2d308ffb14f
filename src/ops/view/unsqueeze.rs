//! `unsqueeze`: a new dim of size 1, without a copy.

use super::{Rule, view_sample};
use crate::ops::prelude::*;
use crate::shape::resolve_axis;

#[derive(Debug, Clone, Copy)]
struct Unsqueeze {
    dim: i64,
}

impl Tensor {
    /// A view with a new dim of size 1 at `dim`; -1 makes it the last.
    ///
    /// Dtypes: all. PyTorch: `torch.unsqueeze`. NPU: no kernel.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([1.0f32, 2.0]);
    /// assert_eq!(x.unsqueeze(0)?.dims(), [1, 2]);
    /// assert_eq!(x.unsqueeze(-1)?.dims(), [2, 1]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Axis` for a place out of range, `Shape` for a ninth dim.
    pub fn unsqueeze(&self, dim: i64) -> Result<Tensor> {
        self.viewed(Unsqueeze { dim })
    }
}

impl Rule for Unsqueeze {
    const NAME: &'static str = "unsqueeze";

    fn layout(&self, x: &Layout) -> Result<Layout> {
        x.shape().inserted(0, 1).check(Self::NAME)?;
        Ok(x.unsqueeze(resolve_axis(Self::NAME, self.dim, x.shape().rank() + 1)?))
    }

    fn gradient(&self, dy: &Tensor, shape: &Shape) -> Result<Tensor> {
        dy.reshape(*shape)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "unsqueeze",
    family: "view",
    kernels: &[],
    samples,
};

fn samples() -> Vec<Sample> {
    vec![view_sample(Unsqueeze { dim: -2 }, [2, 3])]
}
