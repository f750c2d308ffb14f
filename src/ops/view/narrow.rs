//! `narrow`: a run of indices along a dim, without a copy.

use super::{Rule, view_sample};
use crate::ops::prelude::*;

#[derive(Debug, Clone, Copy)]
struct Narrow {
    dim: i64,
    start: i64,
    length: i64,
}

impl Tensor {
    /// A view of the indices `start .. start + length` along a dim; a negative `start` counts from the end.
    ///
    /// Dtypes: all. PyTorch: `torch.narrow`. NPU: no kernel.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([0i32, 1, 2, 3, 4]);
    /// assert_eq!(x.narrow(0, 1, 3)?.to_vec::<i32>()?, [1, 2, 3]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Axis` for a dim out of range, `Index` if the run leaves the dim, `Option` for a negative length.
    pub fn narrow(&self, dim: i64, start: i64, length: i64) -> Result<Tensor> {
        self.viewed(Narrow { dim, start, length })
    }
}

impl Rule for Narrow {
    const NAME: &'static str = "narrow";

    fn layout(&self, x: &Layout) -> Result<Layout> {
        let dim = x.shape().axis(Self::NAME, self.dim)?;
        let len = x.shape().size(dim);
        let length = usize::try_from(self.length).map_err(|_| {
            Error::option(
                Self::NAME,
                "length",
                format!("got {}, wanted one that is not negative", self.length),
            )
        })?;
        let beyond = |index| Error::Index {
            op: Self::NAME,
            index,
            len,
        };
        let start = if self.start < 0 {
            self.start.saturating_add(len as i64)
        } else {
            self.start
        };
        let start = usize::try_from(start).map_err(|_| beyond(self.start))?;
        match start.checked_add(length) {
            Some(end) if end <= len => Ok(x.slice(dim, start, length, 1)),
            _ => Err(beyond(self.start.saturating_add(self.length))),
        }
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "narrow",
    family: "view",
    kernels: &[],
    samples,
};

fn samples() -> Vec<Sample> {
    vec![view_sample(
        Narrow {
            dim: 1,
            start: -3,
            length: 2,
        },
        [2, 4, 3],
    )]
}
