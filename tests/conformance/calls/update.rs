//! The ops of the family `update`.

use super::Call;

pub const CALLS: &[(&str, Call)] = &[];
