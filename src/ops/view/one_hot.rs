//! `one_hot`: classes as vectors with a single one; a scatter, so without an op of its own.

use crate::mode::{Modes, current};
use crate::ops::prelude::*;

impl Tensor {
    /// Each class as a vector with a one at its place, in a new last dim; without a number of classes (`None`), as many as the
    /// largest class needs.
    ///
    /// Shapes: `[..] -> [.., classes]`. Dtypes: `i64`. PyTorch: `torch.nn.functional.one_hot`. NPU: `aclnnInplaceZero`,
    /// `aclnnScatterValue`; without a number of classes the tensor is read back.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// assert_eq!(Tensor::new([2i64, 0]).one_hot(None)?.to_vec::<i64>()?, [0, 0, 1, 1, 0, 0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `DType` for a dtype other than `i64`; `Option` for a class that is negative or not below the number of classes (on the
    /// NPU under [`check_data`](crate::check_data) only), and for no elements without a number of classes.
    pub fn one_hot(&self, classes: impl Into<Option<usize>>) -> Result<Tensor> {
        let (op, classes) = ("one_hot", classes.into());
        if self.dtype() != DType::I64 {
            return Err(Error::dtype(op, self.dtype(), "i64"));
        }
        let mut count = classes;
        let checked = self.device().is_cpu() && !current().has(Modes::DRY);
        if classes.is_none() || checked || current().has(Modes::CHECK_DATA) {
            let values = self.to_vec::<i64>()?;
            let largest = values.iter().copied().max();
            let needed = largest
                .and_then(|largest| usize::try_from(largest).ok())
                .map(|largest| largest.saturating_add(1));
            count = classes.or(needed);
            let fits =
                |value: &i64| usize::try_from(*value).is_ok_and(|value| value < count.unwrap_or(0));
            if let Some(class) = values.iter().find(|value| !fits(value)) {
                return Err(Error::option(
                    op,
                    "input",
                    format!(
                        "got class {class}, wanted classes from 0 to below {}",
                        count.unwrap_or(0)
                    ),
                ));
            }
        }
        let Some(count) = count else {
            return Err(Error::option(
                op,
                "num_classes",
                "got none for a tensor without elements, wanted a number",
            ));
        };
        let zeros = Tensor::zeros(
            self.shape().inserted(self.rank(), count),
            DType::I64,
            self.device(),
        )?;
        zeros.scatter(-1, &self.unsqueeze(-1)?, 1i64)
    }
}
