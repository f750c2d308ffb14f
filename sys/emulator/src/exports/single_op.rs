//! The older way to run operators: compile options, attributes, and the call that compiles and runs, which the emulator refuses.
//!
//! Knows options and attribute lists; it must not know kernels (those are reached through the aclnn functions only).

use crate::exports::system::give_text;
use crate::failure::{Failure, code};
use crate::guard::{call, not_null, value};
use crate::kernel::Family;
use crate::registry::{Kind, Registry};
use crate::state::world;
use ascend_sys::*;
use std::collections::BTreeMap;
use std::ffi::{CStr, c_char, c_int};
use std::ptr;
use std::sync::{Mutex, PoisonError};

/// The room that a value of a compile option may take, its closing zero byte included.
const OPTION_SIZE: usize = 256;
/// The last option that CANN knows.
const LAST_OPTION: aclCompileOpt = 16;

static OPTIONS: Mutex<BTreeMap<aclCompileOpt, String>> = Mutex::new(BTreeMap::new());
static ATTRIBUTES: Registry<()> = Registry::new(Kind::Attributes, code::INVALID_PARAM);

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

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclopCreateAttr() -> *mut aclopAttr {
    value("aclopCreateAttr", ptr::null_mut(), || {
        Ok(ATTRIBUTES.insert(()).cast())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclopDestroyAttr(attr: *const aclopAttr) {
    call("aclopDestroyAttr", || {
        if attr.is_null() {
            return Ok(());
        }
        ATTRIBUTES.remove(attr).map(drop)
    });
}

/// The attributes' values are never read, since nothing is compiled; names and lists are checked all the same.
fn set<T>(
    function: &'static str,
    attr: *mut aclopAttr,
    name: *const c_char,
    values: *const T,
) -> i32 {
    call(function, || {
        ATTRIBUTES.get(attr)?;
        not_null(name, "attrName")?;
        not_null(values, "values")
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclopSetAttrBool(
    attr: *mut aclopAttr,
    attrName: *const c_char,
    attrValue: u8,
) -> aclError {
    set("aclopSetAttrBool", attr, attrName, &raw const attrValue)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclopSetAttrInt(
    attr: *mut aclopAttr,
    attrName: *const c_char,
    attrValue: i64,
) -> aclError {
    set("aclopSetAttrInt", attr, attrName, &raw const attrValue)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclopSetAttrFloat(
    attr: *mut aclopAttr,
    attrName: *const c_char,
    attrValue: f32,
) -> aclError {
    set("aclopSetAttrFloat", attr, attrName, &raw const attrValue)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclopSetAttrDataType(
    attr: *mut aclopAttr,
    attrName: *const c_char,
    attrValue: aclDataType,
) -> aclError {
    set("aclopSetAttrDataType", attr, attrName, &raw const attrValue)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclopSetAttrString(
    attr: *mut aclopAttr,
    attrName: *const c_char,
    attrValue: *const c_char,
) -> aclError {
    set("aclopSetAttrString", attr, attrName, attrValue)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclopSetAttrListBool(
    attr: *mut aclopAttr,
    attrName: *const c_char,
    _numValues: c_int,
    values: *const u8,
) -> aclError {
    set("aclopSetAttrListBool", attr, attrName, values)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclopSetAttrListInt(
    attr: *mut aclopAttr,
    attrName: *const c_char,
    _numValues: c_int,
    values: *const i64,
) -> aclError {
    set("aclopSetAttrListInt", attr, attrName, values)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclopSetAttrListFloat(
    attr: *mut aclopAttr,
    attrName: *const c_char,
    _numValues: c_int,
    values: *const f32,
) -> aclError {
    set("aclopSetAttrListFloat", attr, attrName, values)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclopSetAttrListListInt(
    attr: *mut aclopAttr,
    attrName: *const c_char,
    _numLists: c_int,
    _numValues: *const c_int,
    values: *const *const i64,
) -> aclError {
    set("aclopSetAttrListListInt", attr, attrName, values)
}

/// Refuses with the name of the operator.
unsafe fn refuse(function: &'static str, op: *const c_char) -> i32 {
    call(function, || {
        not_null(op, "opType")?;
        // SAFETY: not null, and ends in a zero byte by the contract of the C function.
        let op = unsafe { CStr::from_ptr(op) }.to_string_lossy();
        Err(Failure::new(
            code::API_NOT_SUPPORT,
            format!(
                "{function}: the emulator compiles no single operators, {op} was asked for; it has the aclnn functions"
            ),
        ))
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclopCompile(
    opType: *const c_char,
    _numInputs: c_int,
    _inputDesc: *const *const aclTensorDesc,
    _numOutputs: c_int,
    _outputDesc: *const *const aclTensorDesc,
    _attr: *const aclopAttr,
    _engineType: aclopEngineType,
    _compileFlag: aclopCompileType,
    _opPath: *const c_char,
) -> aclError {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { refuse("aclopCompile", opType) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclopCompileAndExecute(
    opType: *const c_char,
    _numInputs: c_int,
    _inputDesc: *const *const aclTensorDesc,
    _inputs: *const *const aclDataBuffer,
    _numOutputs: c_int,
    _outputDesc: *const *const aclTensorDesc,
    _outputs: *const *mut aclDataBuffer,
    _attr: *const aclopAttr,
    _engineType: aclopEngineType,
    _compileFlag: aclopCompileType,
    _opPath: *const c_char,
    _stream: aclrtStream,
) -> aclError {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { refuse("aclopCompileAndExecute", opType) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclopCompileAndExecuteV2(
    opType: *const c_char,
    _numInputs: c_int,
    _inputDesc: *mut *mut aclTensorDesc,
    _inputs: *mut *mut aclDataBuffer,
    _numOutputs: c_int,
    _outputDesc: *mut *mut aclTensorDesc,
    _outputs: *mut *mut aclDataBuffer,
    _attr: *mut aclopAttr,
    _engineType: aclopEngineType,
    _compileFlag: aclopCompileType,
    _opPath: *const c_char,
    _stream: aclrtStream,
) -> aclError {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { refuse("aclopCompileAndExecuteV2", opType) }
}
