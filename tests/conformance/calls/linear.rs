//! The ops of the family `linear`.

use super::Call;

pub const CALLS: &[(&str, Call)] = &[];
