//! `var_mean`: the variance and the mean over dims.

use super::run_two;
use super::spread::{Form, Spread, VarOptions, samples_of};
use crate::ops::prelude::*;

impl Tensor {
    /// The variance and the mean over dims, in one pass.
    ///
    /// The divisor is the count less the correction (1), at least 0. Halves compute wider.
    /// Shapes: the reduced dims go, or stay with size 1 (`keepdim`). Dtypes: floats. PyTorch: `torch.var_mean`. NPU: `aclnnVarMean`.
    ///
    /// ```
    /// use ascend_tensor::{Tensor, ops::reduce::VarOptions};
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([[1.0f32, 3.0], [2.0, 6.0]]);
    /// let (var, mean) = x.var_mean(VarOptions::new().dim(1))?;
    /// assert_eq!((var.to_vec::<f32>()?, mean.to_vec::<f32>()?), (vec![2.0, 8.0], vec![2.0, 4.0]));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `DType` for integers and bools, `Axis` for a dim out of range, `Option` for one given twice.
    pub fn var_mean(&self, options: impl Into<VarOptions>) -> Result<(Tensor, Tensor)> {
        run_two(
            &Spread {
                form: Form::VarMean,
                options: options.into(),
            },
            &[self],
        )
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "var_mean",
    family: "reduce",
    kernels: &["aclnnVarMean"],
    samples,
};

fn samples() -> Vec<Sample> {
    samples_of(Form::VarMean)
}
