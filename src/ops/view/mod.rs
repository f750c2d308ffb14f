//! Views and copies: the same elements looked at differently, moved, or written into place.
//!
//! Knows axis rules that the family shares. Must not know arithmetic.

rooms! {
    copy,
    copy_,
    expand,
    reshape,
    to_device,
}

pub(crate) use to_device::ToDevice;
