//! Mixture of experts: gating, routing and grouped products.
//!
//! Knows token and expert indices. Must not know layers.

rooms! {}
