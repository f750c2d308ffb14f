//! Updates: one optimiser step for one parameter, functional and in place.
//!
//! Knows formulas of steps. Must not know parameter groups or schedules (that is `optim`).

rooms! {}
