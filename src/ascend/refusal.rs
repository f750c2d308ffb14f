//! Refusals: whether CANN's dtype table explains why an operator would not take its arguments.
//!
//! Knows the table and the names of dtypes in it. Must not know operators. Looked at only after a first phase has refused, so
//! a CANN that takes more than its manual lists is not held back.

use ascend_sys::dtypes::{Family, parameters};

use crate::device::Device;
use crate::dtype::DType;
use crate::error::Error;

/// The codes by which a first phase refuses arguments.
const REFUSED: [i32; 2] = [161_002, 561_003];

/// The error itself, or `Unsupported` with the table's row where a tensor's dtype is not listed for the chip.
pub(super) fn explain(
    error: Error,
    device: u32,
    soc: &str,
    kernel: &str,
    dtypes: &[Option<DType>],
) -> Error {
    let Error::Acl(refused) = &error else {
        return error;
    };
    let Some(family) = Family::of_soc(soc).filter(|_| REFUSED.contains(&refused.code)) else {
        return error;
    };
    for row in parameters(kernel, family) {
        let Some(dtype) = dtypes.get(row.index).copied().flatten() else {
            continue;
        };
        if row.lists(dtype.name()) == Some(false) {
            let why = format!(
                "{kernel} takes no {dtype} for {} on {} by CANN's dtype table ({}); cast, or allow host_fallback",
                row.name,
                family.name(),
                row.dtypes
            );
            return Error::unsupported(refused.op, Device::Ascend(device), dtype, why);
        }
    }
    error
}
