//! The ops of the family `attention`.

use super::Call;

pub const CALLS: &[(&str, Call)] = &[];
