//! The ops of the family `sort`.

use super::Call;

pub const CALLS: &[(&str, Call)] = &[];
