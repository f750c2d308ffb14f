//! The ops of the family `moe`.

use super::Call;

pub const CALLS: &[(&str, Call)] = &[];
