//! Random numbers: tensors drawn from generators, and dropout.
//!
//! Knows the generators' seeds and counters. Must not know layers.

rooms! {}
