//! The ops of the family `norm`.

use super::Call;

pub const CALLS: &[(&str, Call)] = &[];
