//! Attributes of single operators: lists of named values.
//!
//! Knows values by name; it must not know what an operator makes of them.

use crate::failure::{Failure, code};
use crate::guard::{call, not_null, value};
use crate::registry::{Kind, Registry};
use crate::single::{Attributes, Value};
use ascend_sys::*;
use std::ffi::{CStr, c_char, c_int};
use std::ptr;
use std::sync::{Mutex, PoisonError};

static ATTRIBUTES: Registry<Mutex<Attributes>> =
    Registry::new(Kind::Attributes, code::INVALID_PARAM);
/// The greatest length of a list.
const MOST: u64 = 1 << 20;

/// The attributes behind a handle; none for a null one.
pub(crate) fn attributes(attr: *const aclopAttr) -> Result<Attributes, Failure> {
    if attr.is_null() {
        return Ok(Attributes::new());
    }
    let found = ATTRIBUTES.get(attr)?;
    let values = found.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(values.clone())
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclopCreateAttr() -> *mut aclopAttr {
    value("aclopCreateAttr", ptr::null_mut(), || {
        Ok(ATTRIBUTES.insert(Mutex::new(Attributes::new())).cast())
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

/// # Safety
/// `text` must be null or end in a zero byte.
unsafe fn text(text: *const c_char, what: &str) -> Result<String, Failure> {
    not_null(text, what)?;
    // SAFETY: not null, and ends in a zero byte by this function's contract.
    Ok(unsafe { CStr::from_ptr(text) }
        .to_string_lossy()
        .into_owned())
}

/// # Safety
/// `values` must be null or valid for `count` reads.
unsafe fn list<T: Copy>(count: c_int, values: *const T) -> Result<Vec<T>, Failure> {
    not_null(values, "values")?;
    let count = u64::try_from(count)
        .map_err(|_| Failure::new(code::INVALID_PARAM, format!("numValues is {count}")))?;
    // SAFETY: not null, and valid for `count` reads by this function's contract.
    unsafe { crate::meta::copied(values, count, MOST) }
        .map_err(|failure| Failure::new(code::INVALID_PARAM, failure.text))
}

/// Sets one attribute.
///
/// # Safety
/// `name` must be null or end in a zero byte.
unsafe fn set(
    function: &'static str,
    attr: *mut aclopAttr,
    name: *const c_char,
    made: impl FnOnce() -> Result<Value, Failure>,
) -> i32 {
    call(function, || {
        let found = ATTRIBUTES.get(attr)?;
        // SAFETY: null or ends in a zero byte by this function's contract.
        let name = unsafe { text(name, "attrName") }?;
        let made = made()?;
        let mut values = found.lock().unwrap_or_else(PoisonError::into_inner);
        values.insert(name, made);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclopSetAttrBool(
    attr: *mut aclopAttr,
    attrName: *const c_char,
    attrValue: u8,
) -> aclError {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe {
        set("aclopSetAttrBool", attr, attrName, || {
            Ok(Value::Bool(attrValue != 0))
        })
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclopSetAttrInt(
    attr: *mut aclopAttr,
    attrName: *const c_char,
    attrValue: i64,
) -> aclError {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe {
        set("aclopSetAttrInt", attr, attrName, || {
            Ok(Value::Int(attrValue))
        })
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclopSetAttrFloat(
    attr: *mut aclopAttr,
    attrName: *const c_char,
    attrValue: f32,
) -> aclError {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe {
        set("aclopSetAttrFloat", attr, attrName, || {
            Ok(Value::Float(attrValue))
        })
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclopSetAttrDataType(
    attr: *mut aclopAttr,
    attrName: *const c_char,
    attrValue: aclDataType,
) -> aclError {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe {
        set("aclopSetAttrDataType", attr, attrName, || {
            Ok(Value::DType(attrValue))
        })
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclopSetAttrString(
    attr: *mut aclopAttr,
    attrName: *const c_char,
    attrValue: *const c_char,
) -> aclError {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe {
        set("aclopSetAttrString", attr, attrName, || {
            text(attrValue, "attrValue").map(Value::Text)
        })
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclopSetAttrListBool(
    attr: *mut aclopAttr,
    attrName: *const c_char,
    numValues: c_int,
    values: *const u8,
) -> aclError {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe {
        set("aclopSetAttrListBool", attr, attrName, || {
            list(numValues, values)
                .map(|values| Value::Bools(values.into_iter().map(|value| value != 0).collect()))
        })
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclopSetAttrListInt(
    attr: *mut aclopAttr,
    attrName: *const c_char,
    numValues: c_int,
    values: *const i64,
) -> aclError {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe {
        set("aclopSetAttrListInt", attr, attrName, || {
            list(numValues, values).map(Value::Ints)
        })
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclopSetAttrListFloat(
    attr: *mut aclopAttr,
    attrName: *const c_char,
    numValues: c_int,
    values: *const f32,
) -> aclError {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe {
        set("aclopSetAttrListFloat", attr, attrName, || {
            list(numValues, values).map(Value::Floats)
        })
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclopSetAttrListDataType(
    attr: *mut aclopAttr,
    attrName: *const c_char,
    numValues: c_int,
    values: *const aclDataType,
) -> aclError {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe {
        set("aclopSetAttrListDataType", attr, attrName, || {
            list(numValues, values).map(Value::DTypes)
        })
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclopSetAttrListString(
    attr: *mut aclopAttr,
    attrName: *const c_char,
    numValues: c_int,
    values: *mut *const c_char,
) -> aclError {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe {
        set("aclopSetAttrListString", attr, attrName, || {
            let texts = list(numValues, values.cast_const())?;
            let texts = texts.into_iter().map(|value| text(value, "values"));
            texts.collect::<Result<_, _>>().map(Value::Texts)
        })
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclopSetAttrListListInt(
    attr: *mut aclopAttr,
    attrName: *const c_char,
    numLists: c_int,
    numValues: *const c_int,
    values: *const *const i64,
) -> aclError {
    // SAFETY: the caller keeps the contract of the C function.
    unsafe {
        set("aclopSetAttrListListInt", attr, attrName, || {
            let counts = list(numLists, numValues)?;
            let lists = list(numLists, values)?.into_iter().zip(counts);
            let lists = lists.map(|(values, count)| list(count, values));
            lists.collect::<Result<_, _>>().map(Value::IntLists)
        })
    }
}
