//! `squeeze`: dims of size 1 dropped, without a copy.

use super::{Rule, view_sample};
use crate::ops::prelude::*;

#[derive(Debug, Clone)]
struct Squeeze {
    dim: Axes,
}

impl Tensor {
    /// A view without the dims of size 1: all of them (`()`), or those of a list that have size 1.
    ///
    /// Dtypes: all. PyTorch: `torch.squeeze`. NPU: no kernel.
    ///
    /// ```
    /// use ascend_tensor::{DType, Device, Tensor};
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::zeros([1, 3, 1, 2], DType::F32, Device::Cpu)?;
    /// assert_eq!(x.squeeze(())?.dims(), [3, 2]);
    /// assert_eq!(x.squeeze([0, 1])?.dims(), [3, 1, 2]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Axis` for a dim out of range, `Option` for one given twice.
    pub fn squeeze(&self, dim: impl Into<Axes>) -> Result<Tensor> {
        self.viewed(Squeeze { dim: dim.into() })
    }
}

impl Rule for Squeeze {
    const NAME: &'static str = "squeeze";

    fn layout(&self, x: &Layout) -> Result<Layout> {
        let mut mask = self.dim.resolve(Self::NAME, x.shape())?;
        for (dim, drop) in mask.iter_mut().enumerate() {
            *drop &= x.shape().size(dim) == 1;
        }
        Ok(x.squeeze(&mask))
    }

    fn gradient(&self, dy: &Tensor, shape: &Shape) -> Result<Tensor> {
        dy.reshape(*shape)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "squeeze",
    family: "view",
    kernels: &[],
    samples,
};

fn samples() -> Vec<Sample> {
    vec![
        view_sample(Squeeze { dim: ().into() }, [1, 2, 1, 3]),
        view_sample(Squeeze { dim: [0, 1].into() }, [1, 2, 1, 3]),
    ]
}
