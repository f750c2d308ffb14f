//! Printing: tensors as PyTorch prints them.
//!
//! Knows text only. Must not know ops; a failed device read prints its error's text instead.

use std::fmt;

use crate::tensor::Tensor;

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tensor({} {} on {}", self.dtype(), self.shape(), self.device())?;
        if let Some(node) = self.node() {
            write!(f, ", {node:?}")?;
        }
        f.write_str(")")
    }
}
