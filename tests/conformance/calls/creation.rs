//! The ops of the family `creation`.

use super::Call;

pub const CALLS: &[(&str, Call)] = &[];
