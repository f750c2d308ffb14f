//! `var`: the variance over dims.

pub use super::spread::VarOptions;
use super::spread::{Form, Spread, samples_of};
use crate::ops::prelude::*;

impl Tensor {
    /// The variance over dims: the sum of squared deviations from the mean over the divisor.
    ///
    /// The divisor is the count less the correction (1), at least 0. Halves compute wider.
    /// Shapes: the reduced dims go, or stay with size 1 (`keepdim`). Dtypes: floats. PyTorch: `torch.var`. NPU: `aclnnVarCorrection`.
    ///
    /// ```
    /// use ascend_tensor::{Tensor, ops::reduce::VarOptions};
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([[1.0f32, 3.0], [2.0, 6.0]]);
    /// assert_eq!(x.var(1)?.to_vec::<f32>()?, [2.0, 8.0]);
    /// assert_eq!(x.var(VarOptions::new().dim(1).correction(0.0))?.to_vec::<f32>()?, [1.0, 4.0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `DType` for integers and bools, `Axis` for a dim out of range, `Option` for one given twice.
    pub fn var(&self, options: impl Into<VarOptions>) -> Result<Tensor> {
        run_one(
            &Spread {
                form: Form::Var,
                options: options.into(),
            },
            &[self],
        )
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "var",
    family: "reduce",
    kernels: &["aclnnVarCorrection"],
    samples,
};

fn samples() -> Vec<Sample> {
    samples_of(Form::Var)
}
