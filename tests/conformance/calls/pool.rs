//! The ops of the family `pool`.

use super::Call;

pub const CALLS: &[(&str, Call)] = &[];
