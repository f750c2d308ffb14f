//! The ops of the family `index`.

use super::Call;

pub const CALLS: &[(&str, Call)] = &[];
