//! ascend-sys
