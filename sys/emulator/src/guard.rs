//! The one gate through which every exported function passes: books the call, injects faults, stops panics, keeps the error text.
//!
//! Knows codes and texts; it must not know what a function does.

use crate::failure::{Failure, code};
use crate::hccl::result::wrong;
use crate::ledger::{self, Site};
use crate::settings::Strictness;
use crate::trace;
use std::cell::{Cell, RefCell};
use std::ffi::{CString, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

thread_local! {
    static CURRENT: Cell<Site> = const { Cell::new(Site { name: "", number: 0 }) };
    static TEXT: RefCell<Option<String>> = const { RefCell::new(None) };
    static HANDED: RefCell<Option<CString>> = const { RefCell::new(None) };
    static LAST: Cell<i32> = const { Cell::new(0) };
}

/// Whether all threads share their error texts (`err_msg_mode` 1), and the shared text.
static SHARES: AtomicBool = AtomicBool::new(false);
static SHARED: Mutex<Option<String>> = Mutex::new(None);

/// Lets threads share their error texts, or not.
pub(crate) fn share_texts(share: bool) {
    SHARES.store(share, Ordering::Release);
}

/// The place of the error text that counts for this thread.
fn with_text<R>(use_it: impl FnOnce(&mut Option<String>) -> R) -> R {
    if SHARES.load(Ordering::Acquire) {
        return use_it(&mut SHARED.lock().unwrap_or_else(PoisonError::into_inner));
    }
    TEXT.with(|cell| use_it(&mut cell.borrow_mut()))
}

/// The exported function that this thread is in.
pub(crate) fn current() -> Site {
    CURRENT.with(Cell::get)
}

/// Runs an exported function's body; its failure becomes the returned code.
pub(crate) fn call(name: &'static str, body: impl FnOnce() -> Result<(), Failure>) -> i32 {
    let mut body = Some(body);
    match run(name, &mut || body.take().map_or(Ok(()), |body| body())) {
        Ok(()) => code::SUCCESS,
        Err(failure) => failure.code,
    }
}

/// Runs the body of an exported function that returns something other than a code.
pub(crate) fn value<R>(
    name: &'static str,
    otherwise: R,
    body: impl FnOnce() -> Result<R, Failure>,
) -> R {
    let (mut body, mut made) = (Some(body), None);
    let outcome = run(name, &mut || {
        made = body.take().map(|body| body()).transpose()?;
        Ok(())
    });
    outcome.ok().and(made).unwrap_or(otherwise)
}

/// The gate itself; there are thousands of bodies, so it exists once for all of them.
fn run(name: &'static str, body: &mut dyn FnMut() -> Result<(), Failure>) -> Result<(), Failure> {
    let booked = catch_unwind(AssertUnwindSafe(|| {
        let problem = crate::state::prepare()
            .err()
            .and_then(|problem| match name {
                "aclGetRecentErrMsg" | "HcclGetErrorString" => None,
                name if name.starts_with("Hccl") => Some(wrong(problem.text)),
                _ => Some(problem),
            });
        let (site, fault) = ledger::book(name);
        (site, problem.or(fault))
    }));
    let begun = trace::begin();
    let Ok((site, fault)) = booked else {
        return Err(Failure::new(
            code::INTERNAL_ERROR,
            "emulator cannot book a call",
        ));
    };
    let outer = CURRENT.with(|cell| cell.replace(site));
    let outcome = match fault {
        Some(fault) => Err(fault),
        None => catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|payload| {
            Err(Failure::new(
                code::INTERNAL_ERROR,
                format!("{name}: the emulator panicked: {}", panic_text(&*payload)),
            ))
        }),
    };
    CURRENT.with(|cell| cell.set(outer));
    if let Err(failure) = &outcome {
        keep(site, failure);
    }
    let code = outcome.as_ref().map_or_else(|failure| failure.code, |()| 0);
    trace::call(begun, site, code);
    outcome
}

/// What a panic said.
pub(crate) fn panic_text(payload: &(dyn std::any::Any + Send)) -> String {
    payload
        .downcast_ref::<&str>()
        .map(ToString::to_string)
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| String::from("no text"))
}

/// Keeps the text for `aclGetRecentErrMsg` and the code for `aclrtGetLastError`; the newest block comes first.
fn keep(site: Site, failure: &Failure) {
    if matches!(failure.code, code::REPEAT_INITIALIZE | code::SUCCESS) {
        return;
    }
    ledger::book_failure(site, failure);
    let of_runtime = failure.code >= code::INVALID_PARAM;
    if of_runtime {
        LAST.with(|cell| cell.set(failure.code));
    }
    let block = format!(
        "{}: [{}] {} failed with {}: {}",
        failure.prefix(),
        match failure.code {
            code if code / 1000 % 100 == 61 => "PID-op",
            _ if of_runtime => "runtime",
            _ => "HCCL",
        },
        site,
        failure.code,
        failure.text
    );
    with_text(|text| {
        let older = text.take().unwrap_or_default();
        let keep = older
            .char_indices()
            .nth(4000)
            .map_or(older.len(), |(at, _)| at);
        *text = Some(if older.is_empty() {
            block
        } else {
            format!("{block}\n{}", &older[..keep])
        });
    });
}

/// Hands out and clears this thread's text; null if there is none.
pub(crate) fn recent_text() -> *const c_char {
    let Some(text) = with_text(Option::take) else {
        return ptr::null();
    };
    let text = CString::new(text.replace('\0', " ")).unwrap_or_default();
    HANDED.with(|cell| cell.borrow_mut().insert(text).as_ptr())
}

/// The last code on this thread; cleared if asked.
pub(crate) fn last_code(clear: bool) -> i32 {
    LAST.with(|cell| if clear { cell.replace(0) } else { cell.get() })
}

/// Reports a violation: kept for the tests, fatal at the strictest level, and a failure with this code.
pub(crate) fn violation(code: i32, text: impl Into<String>) -> Failure {
    let text = text.into();
    let site = current();
    let line = if site.name.is_empty() {
        text.clone()
    } else {
        format!("{site}: {text}")
    };
    if crate::state::strictness() == Strictness::Abort {
        let trace = std::backtrace::Backtrace::force_capture();
        eprintln!("ascend-emulator: violation: {line}\n{trace}");
        crate::trace::flush();
        std::process::abort();
    }
    ledger::violation(line);
    Failure::new(code, text)
}

/// Whether a violation that real hardware does not notice may pass at one of these levels; then it is kept.
pub(crate) fn tolerates(levels: &[Strictness], text: impl FnOnce() -> String) -> bool {
    let passes = levels.contains(&crate::state::strictness());
    if passes {
        ledger::violation(format!("{}: {}", current(), text()));
    }
    passes
}

/// Refuses a null pointer of a runtime function.
pub(crate) fn not_null<T>(pointer: *const T, what: &str) -> Result<(), Failure> {
    if pointer.is_null() {
        return Err(Failure::new(
            code::INVALID_PARAM,
            format!("{what} is null, wanted a pointer"),
        ));
    }
    Ok(())
}

/// Writes a result through a caller's pointer; null is refused with 100000.
///
/// # Safety
/// `target` must be null or valid for a write of `T`.
pub(crate) unsafe fn give<T>(target: *mut T, what: &str, value: T) -> Result<(), Failure> {
    not_null(target, what)?;
    // SAFETY: not null, and valid by this function's contract.
    unsafe { target.write(value) };
    Ok(())
}
