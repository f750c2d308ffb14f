//! Sorting, searching and selection.
//!
//! Knows the order of numbers (NaN is the greatest). Must not know arithmetic.

rooms! {}
