//! The ops of the family `activation`.

use super::Call;

pub const CALLS: &[(&str, Call)] = &[];
