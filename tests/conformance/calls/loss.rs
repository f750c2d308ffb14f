//! The ops of the family `loss`.

use super::Call;

pub const CALLS: &[(&str, Call)] = &[];
