//! `all`: whether every element is not zero.

use super::ReduceOptions;
use super::truth::{Form, Truth};
use crate::ops::prelude::*;

impl Tensor {
    /// Whether every element over dims is not zero; true for none. NaN is not zero.
    ///
    /// Shapes: the reduced dims go, or stay with size 1 (`keepdim`). Dtypes: all, to `bool`; `u8` stays `u8`.
    /// PyTorch: `torch.all`. NPU: `aclnnAll`.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([[1i32, 2], [0, 4]]);
    /// assert_eq!(x.all(())?.item::<bool>()?, false);
    /// assert_eq!(x.all(1)?.to_vec::<bool>()?, [true, false]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Axis` for a dim out of range, `Option` for one given twice.
    pub fn all(&self, options: impl Into<ReduceOptions>) -> Result<Tensor> {
        run_one(
            &Truth {
                form: Form::All,
                options: options.into(),
            },
            &[self],
        )
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "all",
    family: "reduce",
    kernels: &["aclnnAll"],
    samples,
};

fn samples() -> Vec<Sample> {
    super::reduce_samples(
        |options| {
            Box::new(Truth {
                form: Form::All,
                options,
            })
        },
        DType::ALL,
    )
}
