//! `select`: one index along a dim, which goes; without a copy.

use super::{Rule, view_sample};
use crate::ops::prelude::*;

#[derive(Debug, Clone, Copy)]
struct Select {
    dim: i64,
    index: i64,
}

impl Tensor {
    /// A view of one index along a dim, which goes; a negative index counts from the end.
    ///
    /// Dtypes: all. PyTorch: `torch.select`. NPU: no kernel.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([[1i32, 2, 3], [4, 5, 6]]);
    /// assert_eq!(x.select(1, -1)?.to_vec::<i32>()?, [3, 6]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Axis` for a dim out of range, `Index` for an index out of range.
    pub fn select(&self, dim: i64, index: i64) -> Result<Tensor> {
        self.viewed(Select { dim, index })
    }
}

impl Rule for Select {
    const NAME: &'static str = "select";

    fn layout(&self, x: &Layout) -> Result<Layout> {
        let dim = x.shape().axis(Self::NAME, self.dim)?;
        let len = x.shape().size(dim);
        let wrapped = if self.index < 0 {
            self.index.saturating_add(len as i64)
        } else {
            self.index
        };
        match usize::try_from(wrapped) {
            Ok(index) if index < len => Ok(x.select(dim, index)),
            _ => Err(Error::Index {
                op: Self::NAME,
                index: self.index,
                len,
            }),
        }
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "select",
    family: "view",
    kernels: &[],
    samples,
};

fn samples() -> Vec<Sample> {
    vec![view_sample(Select { dim: 1, index: -1 }, [2, 4, 3])]
}
