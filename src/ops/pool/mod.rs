//! Pooling and resizing.
//!
//! Knows window rules. Must not know layers.

rooms! {}
