//! Losses: predictions and targets to a number.
//!
//! Knows the reductions (none, mean, sum) that the family shares. Must not know models.

rooms! {}
