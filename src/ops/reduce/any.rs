//! `any`: whether some element is not zero.

use super::ReduceOptions;
use super::truth::{Form, Truth};
use crate::ops::prelude::*;

impl Tensor {
    /// Whether some element over dims is not zero; false for none. NaN is not zero.
    ///
    /// Shapes: the reduced dims go, or stay with size 1 (`keepdim`). Dtypes: all, to `bool`; `u8` stays `u8`.
    /// PyTorch: `torch.any`. NPU: `aclnnAny`.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([[1i32, 2], [0, 4]]);
    /// assert_eq!(x.any(())?.item::<bool>()?, true);
    /// assert_eq!(x.any(1)?.to_vec::<bool>()?, [true, true]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Axis` for a dim out of range, `Option` for one given twice.
    pub fn any(&self, options: impl Into<ReduceOptions>) -> Result<Tensor> {
        run_one(
            &Truth {
                form: Form::Any,
                options: options.into(),
            },
            &[self],
        )
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "any",
    family: "reduce",
    kernels: &["aclnnAny"],
    samples,
};

fn samples() -> Vec<Sample> {
    super::reduce_samples(
        |options| {
            Box::new(Truth {
                form: Form::Any,
                options,
            })
        },
        DType::ALL,
    )
}
