//! The ops of the family `view`.

use super::Call;

pub const CALLS: &[(&str, Call)] = &[];
