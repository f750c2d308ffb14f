//! ascend-tensor
