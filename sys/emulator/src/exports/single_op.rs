//! Options of the older way to run operators, which compiles them first. The emulator compiles nothing, so they have no effect.
//!
//! Knows options only; it must not know attributes, operators or kernels.

use crate::exports::system::give_text;
use crate::failure::{Failure, code};
use crate::guard::{call, not_null, value};
use crate::kernel::Family;
use crate::state::world;
use ascend_sys::*;
use std::collections::BTreeMap;
use std::ffi::{CStr, c_char};
use std::sync::{Mutex, PoisonError};

/// The room that a value of a compile option may take, its closing zero byte included.
const OPTION_SIZE: usize = 256;
/// The last option that CANN knows.
const LAST_OPTION: aclCompileOpt = 16;

static OPTIONS: Mutex<BTreeMap<aclCompileOpt, String>> = Mutex::new(BTreeMap::new());

fn known(option: aclCompileOpt) -> Result<(), Failure> {
    if option <= LAST_OPTION {
        return Ok(());
    }
    Err(Failure::new(
        code::INVALID_PARAM,
        format!("compile option {option} is unknown, wanted 0 to {LAST_OPTION}"),
    ))
}

/// What an option is where nobody set it; empty where the documents name no default.
fn usual(option: aclCompileOpt, family: Family) -> &'static str {
    let older = matches!(family, Family::A910 | Family::P310 | Family::B310);
    match option {
        0 if older => "allow_fp32_to_fp16",
        0 => "must_keep_origin_dtype",
        10 if older => "enable",
        10 => "disable",
        // Convolutions use HF32, matrix products do not.
        14 => "10",
        _ => "",
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclSetCompileopt(opt: aclCompileOpt, value: *const c_char) -> aclError {
    call("aclSetCompileopt", || {
        known(opt)?;
        not_null(value, "value")?;
        // SAFETY: not null, and ends in a zero byte by the contract of the C function.
        let text = unsafe { CStr::from_ptr(value) }
            .to_string_lossy()
            .into_owned();
        if text.len() >= OPTION_SIZE {
            return Err(Failure::new(
                code::INVALID_PARAM,
                format!(
                    "value has {} bytes, wanted less than {OPTION_SIZE}",
                    text.len()
                ),
            ));
        }
        let mut options = OPTIONS.lock().unwrap_or_else(PoisonError::into_inner);
        options.insert(opt, text);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclGetCompileoptSize(opt: aclCompileOpt) -> usize {
    value("aclGetCompileoptSize", 0, || {
        known(opt).map(|()| OPTION_SIZE)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclGetCompileopt(
    opt: aclCompileOpt,
    value: *mut c_char,
    length: usize,
) -> aclError {
    call("aclGetCompileopt", || {
        known(opt)?;
        not_null(value, "value")?;
        let options = OPTIONS.lock().unwrap_or_else(PoisonError::into_inner);
        let text = match options.get(&opt) {
            Some(text) => text.as_str(),
            None => usual(opt, world()?.family),
        };
        // SAFETY: not null, and valid for `length` writes by the contract of the C function.
        unsafe { give_text(value, length, text) }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclopSetCompileFlag(flag: aclOpCompileFlag) -> aclError {
    call("aclopSetCompileFlag", || {
        if flag <= 1 {
            return Ok(());
        }
        Err(Failure::new(
            code::INVALID_PARAM,
            format!("compile flag {flag} is unknown, wanted 0 or 1"),
        ))
    })
}
