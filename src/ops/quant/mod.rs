//! Quantisation: integers with scales.
//!
//! Knows scales and zero points. Must not know models.

rooms! {}
