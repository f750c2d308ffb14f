//! `count_nonzero`: the number of elements that are not zero.

use super::ReduceOptions;
use super::truth::{Form, Truth};
use crate::ops::prelude::*;

impl Tensor {
    /// The number of elements over dims that are not zero; NaN counts.
    ///
    /// Shapes: the reduced dims go, or stay with size 1 (`keepdim`). Dtypes: all, to `i64`. PyTorch: `torch.count_nonzero`.
    /// NPU: `aclnnNeScalar`, `aclnnReduceSum`.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([[1i32, 2], [0, 4]]);
    /// assert_eq!(x.count_nonzero(1)?.to_vec::<i64>()?, [2, 1]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Axis` for a dim out of range, `Option` for one given twice.
    pub fn count_nonzero(&self, options: impl Into<ReduceOptions>) -> Result<Tensor> {
        run_one(
            &Truth {
                form: Form::Count,
                options: options.into(),
            },
            &[self],
        )
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "count_nonzero",
    family: "reduce",
    kernels: &["aclnnNeScalar", "aclnnReduceSum"],
    samples,
};

fn samples() -> Vec<Sample> {
    super::reduce_samples(
        |options| {
            Box::new(Truth {
                form: Form::Count,
                options,
            })
        },
        DType::ALL,
    )
}
