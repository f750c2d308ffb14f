//! `argmax`: where the largest element stands.

pub use super::extreme::ArgOptions;
use super::extreme::{End, ExtremeIndex};
use crate::ops::prelude::*;

impl Tensor {
    /// The index of the first largest element along a dim, or in the flattened tensor; the first NaN wins.
    ///
    /// Shapes: the dim goes, or stays with size 1 (`keepdim`). Dtypes: all but `bool`, to `i64`. PyTorch: `torch.argmax`.
    /// NPU: `aclnnArgMax`.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([[1.0f32, 2.0], [3.0, 4.0]]);
    /// assert_eq!(x.argmax(())?.item::<i64>()?, 3);
    /// assert_eq!(x.argmax(1)?.to_vec::<i64>()?, [1, 1]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `DType` for bools, `Axis` for a dim out of range, `Index` (a dim given) or `Option` (none) where there is no element.
    pub fn argmax(&self, options: impl Into<ArgOptions>) -> Result<Tensor> {
        run_one(
            &ExtremeIndex {
                end: End::Largest,
                options: options.into(),
            },
            &[self],
        )
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "argmax",
    family: "reduce",
    kernels: &["aclnnArgMax"],
    samples,
};

fn samples() -> Vec<Sample> {
    let mut samples = super::line_samples(
        |dim| {
            Box::new(ExtremeIndex {
                end: End::Largest,
                options: dim.into(),
            })
        },
        NUMBERS,
    );
    samples.extend(super::line_samples(
        |_| {
            Box::new(ExtremeIndex {
                end: End::Largest,
                options: ArgOptions::new(),
            })
        },
        NUMBERS,
    ));
    samples
}
