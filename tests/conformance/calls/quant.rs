//! The ops of the family `quant`.

use super::Call;

pub const CALLS: &[(&str, Call)] = &[];
