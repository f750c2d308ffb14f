//! A number that changes when any header changes; generated files carry it, so that stale ones are noticed without libclang.
//! Knows only texts.

use std::collections::BTreeMap;

/// FNV-1a over paths and texts.
pub fn stamp(texts: &BTreeMap<String, String>) -> String {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for (path, text) in texts {
        for byte in path.bytes().chain([0]).chain(text.bytes()).chain([0]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    format!("{hash:016x}")
}
