//! Normalisations and softmax: rows scaled by their own statistics.
//!
//! Knows the row rules that the family shares. Must not know layers or parameters.

rooms! {}
