//! Convolutions.
//!
//! Knows paddings and window rules. Must not know layers.

rooms! {}
