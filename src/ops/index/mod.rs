//! Indexing: elements chosen or written by index tensors.
//!
//! Knows index checks that the family shares. Must not know arithmetic.

rooms! {}
