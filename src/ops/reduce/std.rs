//! `std`: the standard deviation over dims.

use super::spread::{Form, Spread, VarOptions, samples_of};
use crate::ops::prelude::*;

impl Tensor {
    /// The standard deviation over dims: the root of the variance.
    ///
    /// The divisor is the count less the correction (1), at least 0. Halves compute wider.
    /// Shapes: the reduced dims go, or stay with size 1 (`keepdim`). Dtypes: floats. PyTorch: `torch.std`. NPU: `aclnnStd`.
    ///
    /// ```
    /// use ascend_tensor::{Tensor, ops::reduce::VarOptions};
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([[1.0f32, 3.0], [2.0, 6.0]]);
    /// assert_eq!(x.std(VarOptions::new().dim(1).correction(0.0))?.to_vec::<f32>()?, [1.0, 2.0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `DType` for integers and bools, `Axis` for a dim out of range, `Option` for one given twice.
    pub fn std(&self, options: impl Into<VarOptions>) -> Result<Tensor> {
        run_one(
            &Spread {
                form: Form::Std,
                options: options.into(),
            },
            &[self],
        )
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "std",
    family: "reduce",
    kernels: &["aclnnStd"],
    samples,
};

fn samples() -> Vec<Sample> {
    samples_of(Form::Std)
}
