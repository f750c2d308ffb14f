//! The ops of the family `conv`.

use super::Call;

pub const CALLS: &[(&str, Call)] = &[];
