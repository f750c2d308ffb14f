//! The table of CANN's kernels: one declarative line makes one typed function.
//!
//! Knows how a line becomes a function that runs both phases through `Launch::run`. Must not know what any kernel computes.
//! The type of the C function's pointer checks each line: a wrong kind or order of arguments does not compile.

// A kernel is listed when its contract is known; not every one has an op yet. Arguments are as many as C wants.
#![allow(dead_code, unused_imports, clippy::too_many_arguments)]

/// Each line: the function's name, the two phases by their markers, and the arguments with their kinds in C's order.
macro_rules! aclnn {
    ($($name:ident = $first:ident, $second:ident($($argument:ident: $kind:ident),* $(,)?);)*) => {$(
        #[doc = concat!("Runs `", stringify!($second), "`.")]
        pub(crate) fn $name<'a>(cx: &'a Launch, $($argument: <$kind as Kind>::Value<'a>),*) -> Result<()> {
            const { assert!(is_pair(<f::$first as Function>::NAME, <f::$second as Function>::NAME)) };
            let dtypes = [$(Typed::dtype(&$argument)),*];
            $(let $argument = <$kind as Kind>::keep(cx, $argument)?;)*
            cx.run(f::$first, f::$second, &dtypes, |begin, size, executor| {
                // SAFETY: each argument is alive until the second phase has returned, and of the type that the pointer's
                // signature asks for; size and executor are writable for the call.
                unsafe { begin($(<$kind as Kind>::raw(&$argument),)* size, executor) }
            })?;
            $(<$kind as Kind>::finish(cx, &$argument)?;)*
            Ok(())
        }
    )*};
}

mod activation;
mod attention;
mod compare;
mod convolution;
mod create;
mod elementwise;
mod expert;
mod index;
mod kind;
mod linear;
mod loss;
mod norm;
mod random;
mod reduce;
mod update;
mod view;

pub(crate) use activation::*;
pub(crate) use attention::*;
pub(crate) use compare::*;
pub(crate) use convolution::*;
pub(crate) use create::*;
pub(crate) use elementwise::*;
pub(crate) use expert::*;
pub(crate) use index::*;
pub(crate) use linear::*;
pub(crate) use loss::*;
pub(crate) use norm::*;
pub(crate) use random::*;
pub(crate) use reduce::*;
pub(crate) use update::*;
pub(crate) use view::*;

/// What each family uses.
mod prelude {
    pub(super) use ascend_sys::{Function, f};

    pub(super) use super::is_pair;
    pub(super) use super::kind::{Kind, Typed};
    pub(super) use crate::ascend::launch::Launch;
    pub(super) use crate::error::Result;
}

pub(crate) use kind::Told;

use std::ffi::CStr;

/// Whether the first name is that of the second's first phase.
const fn is_pair(first: &CStr, second: &CStr) -> bool {
    let (first, second, suffix) = (first.to_bytes(), second.to_bytes(), b"GetWorkspaceSize");
    if first.len() != second.len() + suffix.len() {
        return false;
    }
    let mut at = 0;
    while at < first.len() {
        let want = if at < second.len() {
            second[at]
        } else {
            suffix[at - second.len()]
        };
        if first[at] != want {
            return false;
        }
        at += 1;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::is_pair;

    #[test]
    fn phases_pair_by_name() {
        assert!(is_pair(c"aclnnAddGetWorkspaceSize", c"aclnnAdd"));
        assert!(!is_pair(c"aclnnAddsGetWorkspaceSize", c"aclnnAdd"));
        assert!(!is_pair(c"aclnnSubGetWorkspaceSize", c"aclnnAdd"));
    }
}
