//! Init and finalize with their counts, and the error texts.
//!
//! Knows the rules of the counts; it must not know devices' work.

use crate::failure::{Failure, code};
use crate::guard::{self, call, value};
use crate::kernel::Family;
use crate::state::{Init, world};
use ascend_sys::*;
use std::ffi::{CStr, c_char, c_void};
use std::ptr;
use std::sync::{Mutex, PoisonError};

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclInit(configPath: *const c_char) -> aclError {
    call("aclInit", || {
        // SAFETY: null or a C string.
        let config = unsafe { read_config(configPath) }?;
        let world = world()?;
        let mut init = world.init.lock().unwrap_or_else(PoisonError::into_inner);
        if init.count > 0 {
            init.count += 1;
            return Err(Failure::new(code::REPEAT_INITIALIZE, "already initialised"));
        }
        if init.config.as_ref().is_some_and(|first| *first != config) {
            return Err(Failure::new(
                code::INVALID_PARAM,
                "the process was initialised with another configuration before",
            ));
        }
        apply(&mut init, &config)?;
        init.config = Some(config);
        init.count = 1;
        init.ever = true;
        drop(init);
        run_callbacks(&INIT_CALLBACKS);
        Ok(())
    })
}

pub(super) unsafe fn read_config(path: *const c_char) -> Result<String, Failure> {
    if path.is_null() {
        return Ok(String::new());
    }
    // SAFETY: not null, and a C string by the contract of `aclInit`.
    let path = unsafe { CStr::from_ptr(path) }
        .to_string_lossy()
        .into_owned();
    if path.is_empty() {
        return Ok(String::new());
    }
    let text = std::fs::read_to_string(&path)
        .map_err(|error| Failure::new(code::INVALID_FILE, format!("{path}: {error}")))?;
    let text = text.trim();
    Ok(if text == "{}" {
        String::new()
    } else {
        text.to_string()
    })
}

/// How deep a configuration may be nested.
const DEPTH: usize = 10;

fn depth(value: &serde_json::Value) -> usize {
    let inner = match value {
        serde_json::Value::Array(items) => items.iter().map(depth).max(),
        serde_json::Value::Object(items) => items.values().map(depth).max(),
        _ => return 0,
    };
    1 + inner.unwrap_or(0)
}

/// The content of a configuration file; nothing is an empty object.
pub(super) fn parse_config(config: &str) -> Result<serde_json::Value, Failure> {
    let wrong = |text: String| Failure::new(code::PARSE_FILE, text);
    if config.is_empty() {
        return Ok(serde_json::Value::Object(serde_json::Map::new()));
    }
    let parsed: serde_json::Value = serde_json::from_str(config)
        .map_err(|error| wrong(format!("the configuration is no JSON: {error}")))?;
    if !parsed.is_object() {
        return Err(wrong(format!(
            "the configuration is {parsed}, wanted an object"
        )));
    }
    let depth = depth(&parsed);
    if depth > DEPTH {
        return Err(wrong(format!(
            "the configuration is nested {depth} deep, wanted at most {DEPTH}"
        )));
    }
    Ok(parsed)
}

/// The stack of a kernel: whole units of 16 KiB in the chip's range. Where documents name no range, any number passes.
fn check_stack(parsed: &serde_json::Value) -> Result<(), Failure> {
    let given = &parsed["StackSize"]["aicore_stack_size"];
    let most = match world()?.family {
        Family::A2 | Family::A3 => 192 << 10,
        Family::A950 => 128 << 10,
        _ => return Ok(()),
    };
    let fits = |size: u64| size.is_multiple_of(16 << 10) && (32 << 10..=most).contains(&size);
    if given.is_null() || given.as_u64().is_some_and(fits) {
        return Ok(());
    }
    Err(Failure::new(
        code::INVALID_PARAM,
        format!("aicore_stack_size is {given}, wanted a multiple of 16384 from 32768 to {most}"),
    ))
}

fn apply(init: &mut Init, config: &str) -> Result<(), Failure> {
    let parsed = parse_config(config)?;
    check_stack(&parsed)?;
    let mode = &parsed["err_msg_mode"];
    guard::share_texts(mode.as_str() == Some("1") || mode.as_u64() == Some(1));
    let device = &parsed["defaultDevice"]["default_device"];
    let device = device
        .as_u64()
        .or_else(|| device.as_str().and_then(|text| text.parse().ok()));
    init.default_device = device.and_then(|id| u32::try_from(id).ok());
    Ok(())
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclFinalize() -> aclError {
    call("aclFinalize", || {
        let world = world()?;
        let mut init = world.init.lock().unwrap_or_else(PoisonError::into_inner);
        if !init.ever {
            return Ok(());
        }
        if init.count == 0 {
            return Err(Failure::new(
                code::REPEAT_FINALIZE,
                "nothing is left to finalize",
            ));
        }
        init.count = 0;
        drop(init);
        run_callbacks(&FINALIZE_CALLBACKS);
        crate::trace::flush();
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclFinalizeReference(refCount: *mut u64) -> aclError {
    call("aclFinalizeReference", || {
        let world = world()?;
        let mut init = world.init.lock().unwrap_or_else(PoisonError::into_inner);
        if init.count == 0 {
            return Err(Failure::new(
                code::REPEAT_FINALIZE,
                "nothing is left to finalize",
            ));
        }
        init.count -= 1;
        let left = init.count;
        drop(init);
        if !refCount.is_null() {
            // SAFETY: not null, and valid for a write.
            unsafe { refCount.write(left) };
        }
        if left == 0 {
            run_callbacks(&FINALIZE_CALLBACKS);
        }
        Ok(())
    })
}

/// A user's function that runs at init or finalize, with its argument.
type Registered = (i64, usize, usize);

static INIT_CALLBACKS: Mutex<Vec<Registered>> = Mutex::new(Vec::new());
static FINALIZE_CALLBACKS: Mutex<Vec<Registered>> = Mutex::new(Vec::new());

fn run_callbacks(list: &'static Mutex<Vec<Registered>>) {
    let callbacks = list.lock().unwrap_or_else(PoisonError::into_inner).clone();
    for (_, function, argument) in callbacks {
        let argument = ptr::with_exposed_provenance_mut::<c_void>(argument);
        let function = ptr::with_exposed_provenance::<()>(function);
        if ptr::eq(list, &raw const INIT_CALLBACKS) {
            // SAFETY: this list holds addresses of functions of exactly this type.
            let function: unsafe extern "C" fn(*const c_char, usize, *mut c_void) -> aclError =
                unsafe { std::mem::transmute(function) };
            // SAFETY: the user registered the function for this argument.
            unsafe { function(c"".as_ptr(), 0, argument) };
        } else {
            // SAFETY: this list holds addresses of functions of exactly this type.
            let function: unsafe extern "C" fn(*mut c_void) -> aclError =
                unsafe { std::mem::transmute(function) };
            // SAFETY: the user registered the function for this argument.
            unsafe { function(argument) };
        }
    }
}

fn check_kind(kind: aclRegisterCallbackType) -> Result<(), Failure> {
    if kind <= ACL_REG_TYPE_ACL_RETR || kind == ACL_REG_TYPE_OTHER {
        return Ok(());
    }
    Err(Failure::new(
        code::INVALID_PARAM,
        format!(
            "the kind of the callback is {kind}, wanted 0 to {ACL_REG_TYPE_ACL_RETR} or {ACL_REG_TYPE_OTHER}"
        ),
    ))
}

fn register(list: &Mutex<Vec<Registered>>, entry: Registered) {
    list.lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(entry);
}

fn unregister(list: &Mutex<Vec<Registered>>, kind: i64, function: usize) -> Result<(), Failure> {
    let mut list = list.lock().unwrap_or_else(PoisonError::into_inner);
    let before = list.len();
    list.retain(|known| known.0 != kind || known.1 != function);
    if list.len() == before {
        return Err(Failure::new(
            code::INVALID_PARAM,
            "the callback was not registered",
        ));
    }
    Ok(())
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclInitCallbackRegister(
    type_: aclRegisterCallbackType,
    cbFunc: aclInitCallbackFunc,
    userData: *mut c_void,
) -> aclError {
    call("aclInitCallbackRegister", || {
        let function =
            cbFunc.ok_or_else(|| Failure::new(code::INVALID_PARAM, "the callback is null"))?;
        check_kind(type_)?;
        let address = (function as *const ()).expose_provenance();
        register(
            &INIT_CALLBACKS,
            (i64::from(type_), address, userData.expose_provenance()),
        );
        if world()?
            .init
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .count
            > 0
        {
            // SAFETY: the user registers the function for this argument.
            unsafe { function(c"".as_ptr(), 0, userData) };
        }
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclInitCallbackUnRegister(
    type_: aclRegisterCallbackType,
    cbFunc: aclInitCallbackFunc,
) -> aclError {
    call("aclInitCallbackUnRegister", || {
        let address = cbFunc.map_or(0, |function| (function as *const ()).expose_provenance());
        unregister(&INIT_CALLBACKS, i64::from(type_), address)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclFinalizeCallbackRegister(
    type_: aclRegisterCallbackType,
    cbFunc: aclFinalizeCallbackFunc,
    userData: *mut c_void,
) -> aclError {
    call("aclFinalizeCallbackRegister", || {
        let function =
            cbFunc.ok_or_else(|| Failure::new(code::INVALID_PARAM, "the callback is null"))?;
        check_kind(type_)?;
        let address = (function as *const ()).expose_provenance();
        register(
            &FINALIZE_CALLBACKS,
            (i64::from(type_), address, userData.expose_provenance()),
        );
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclFinalizeCallbackUnRegister(
    type_: aclRegisterCallbackType,
    cbFunc: aclFinalizeCallbackFunc,
) -> aclError {
    call("aclFinalizeCallbackUnRegister", || {
        let address = cbFunc.map_or(0, |function| (function as *const ()).expose_provenance());
        unregister(&FINALIZE_CALLBACKS, i64::from(type_), address)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclnnInit(configPath: *const c_char) -> aclnnStatus {
    call("aclnnInit", || {
        // SAFETY: null or a C string.
        unsafe { read_config(configPath) }?;
        world()?
            .init
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .aclnn = true;
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclnnFinalize() -> aclnnStatus {
    call("aclnnFinalize", || {
        world()?
            .init
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .aclnn = false;
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclGetRecentErrMsg() -> *const c_char {
    value("aclGetRecentErrMsg", ptr::null(), || {
        Ok(guard::recent_text())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtPeekAtLastError(_level: aclrtLastErrLevel) -> aclError {
    value("aclrtPeekAtLastError", 0, || Ok(guard::last_code(false)))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtGetLastError(_level: aclrtLastErrLevel) -> aclError {
    value("aclrtGetLastError", 0, || Ok(guard::last_code(true)))
}
