//! The devices of the process: counting, describing, waiting, resetting and shutting down.
//!
//! Knows the order in which a device's things end. Must not know tensors or operators.

use std::sync::Arc;

use ascend_sys::f;

use super::context::{Context, ended};
use super::pool::Statistics;
use super::runtime::{Opened, Process, current_stream, default_stream, invalidate, process};
use crate::error::{Error, Result};

/// What is known of an NPU.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeviceInfo {
    /// The number that CANN gives it in this process.
    pub number: u32,
    /// The chip's name, such as `Ascend910B3`. Where a host has several kinds, CANN names the first.
    pub soc: Box<str>,
    /// Free memory in bytes.
    pub free: usize,
    /// All memory in bytes.
    pub total: usize,
}

impl std::fmt::Display for DeviceInfo {
    /// `ascend:0, Ascend910B3, 63.9 of 64.0 GiB free`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let gib = |bytes: usize| bytes as f64 / f64::from(1 << 30);
        write!(
            f,
            "ascend:{}, {}, {:.1} of {:.1} GiB free",
            self.number,
            self.soc,
            gib(self.free),
            gib(self.total)
        )
    }
}

/// What a shutdown found.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct ShutdownReport {
    /// Devices that stay open because buffers on them are still alive.
    pub alive: Vec<Alive>,
    /// Failures that surfaced meanwhile.
    pub failures: Vec<Error>,
    /// Whether CANN itself was given up, too.
    pub released: bool,
}

/// What is still alive on a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Alive {
    /// The device's number.
    pub device: u32,
    /// How many buffers there are.
    pub buffers: usize,
    /// Their lengths together, in bytes.
    pub bytes: usize,
}

/// How many NPUs the process sees.
///
/// # Errors
/// [`Error::Load`] where there is no CANN; failures of its start.
pub fn device_count() -> Result<usize> {
    count(&mut process(), "device_count")
}

fn count(process: &mut Process, op: &'static str) -> Result<usize> {
    let runtime = process.runtime(op)?;
    let mut count = 0u32;
    let cann = &runtime.cann;
    // SAFETY: the number is writable for the call.
    cann.call(op, f::aclrtGetDeviceCount, |get| unsafe { get(&mut count) })?;
    Ok(usize::try_from(count).unwrap_or(usize::MAX))
}

/// The NPUs that the process sees. Opens each of them.
///
/// # Errors
/// As [`device_count`]; failures of opening a device.
pub fn devices() -> Result<Vec<DeviceInfo>> {
    let op = "devices";
    let count = u32::try_from(device_count()?).unwrap_or(u32::MAX);
    (0..count)
        .map(|number| {
            let stream = default_stream(op, number)?;
            let (free, total) = stream.context().memory(op)?;
            let soc = stream.context().runtime().cann.soc_name(op)?;
            Ok(DeviceInfo {
                number,
                soc,
                free,
                total,
            })
        })
        .collect()
}

/// The context of a device that is open already.
fn opened(number: u32) -> Option<Arc<Context>> {
    let process = process();
    process
        .devices
        .iter()
        .find(|opened| opened.context.number() == number)
        .map(|opened| Arc::clone(&opened.context))
}

/// Refuses a number that no device has.
fn known(op: &'static str, number: u32) -> Result<()> {
    let count = count(&mut process(), op)?;
    if (number as usize) < count {
        Ok(())
    } else {
        Err(Error::option(
            op,
            "device",
            format!("got ascend:{number}, wanted one of {count}"),
        ))
    }
}

/// The context of an open device, bound to this thread; `None` if it is not open.
fn bound(op: &'static str, number: u32) -> Result<Option<Arc<Context>>> {
    let Some(context) = opened(number) else {
        known(op, number)?;
        return Ok(None);
    };
    context.check(op)?;
    context.bind(op)?;
    Ok(Some(context))
}

/// Waits until all work queued on an NPU is done.
///
/// # Errors
/// The first failure of that work, or an earlier one that surfaces; no such device.
pub fn synchronize(number: u32) -> Result<()> {
    let op = "synchronize";
    bound(op, number)?.map_or(Ok(()), |context| context.synchronize(op))
}

/// Gives the memory that the pool of an NPU keeps for reuse back to the device, after waiting for its work.
///
/// # Errors
/// As [`synchronize`].
pub fn empty_cache(number: u32) -> Result<()> {
    let op = "empty_cache";
    bound(op, number)?.map_or(Ok(()), |context| context.empty_cache(op))
}

/// What the memory pool of an NPU holds; all zero for one that is not open.
pub fn statistics(number: u32) -> Statistics {
    opened(number).map_or_else(Statistics::default, |context| context.statistics())
}

/// Lets the peaks of [`statistics`] begin anew at the present values.
pub fn reset_peak_statistics(number: u32) {
    if let Some(context) = opened(number) {
        context.reset_peaks();
    }
}

/// Free and total memory of an NPU in bytes. Opens it.
///
/// # Errors
/// Failures of opening the device or of the question.
pub fn memory(number: u32) -> Result<(usize, usize)> {
    let op = "memory";
    current_stream(op, number)?.context().memory(op)
}

/// Gives an NPU up and lets the next use open it anew: the way back after a failure that poisoned its context.
///
/// Tensors that were on it are lost; each use of one fails. Must not run while other threads use the device.
///
/// # Errors
/// If CANN cannot reset the device; if there is no such device.
pub fn reset(number: u32) -> Result<()> {
    let op = "reset";
    let mut process = process();
    let Some(index) = process
        .devices
        .iter()
        .position(|opened| opened.context.number() == number)
    else {
        drop(process);
        return known(op, number);
    };
    let opened = process.devices.swap_remove(index);
    let done = give_up(op, &opened);
    invalidate();
    drop(process);
    drop(opened);
    done
}

/// Ends a device, whatever became of it; what is on it is lost.
fn give_up(op: &'static str, Opened { context, .. }: &Opened) -> Result<()> {
    let _ = context.end_communicators(op);
    // Binding fails where the device is beyond answering; its reset needs no binding.
    if context.bind(op).is_ok() {
        let _ = context.settle(op);
    }
    context.lose(ended(op, "aclrtResetDeviceForce"));
    for stream in context.streams() {
        let _ = stream.destroy(op);
    }
    context.abandon(op);
    context.reset_device(op, true)
}

/// Ends the use of all NPUs: waits for their work, empties the pools, and gives up the devices on which no buffer is alive.
///
/// What is still alive is in the report, and stays usable; a device that was lost is reset, and its tensors are gone. A later
/// use opens the devices anew. CANN itself is given up only if
/// no device stays open and it counts its users, so that others in the process are not disturbed.
///
/// # Errors
/// None at present: failures are in the report, so that one device's failure does not keep the others open.
pub fn shutdown() -> Result<ShutdownReport> {
    let op = "shutdown";
    let mut report = ShutdownReport::default();
    let mut process = process();
    for opened in std::mem::take(&mut process.devices) {
        if let Some(kept) = close(op, opened, &mut report) {
            process.devices.push(kept);
        }
    }
    invalidate();
    if process.devices.is_empty() {
        match release(op, &process) {
            Ok(true) => (process.initialised, report.released) = (false, true),
            Ok(false) => {}
            Err(error) => report.failures.push(error),
        }
    }
    Ok(report)
}

/// Takes back this crate's part in the initialisation of CANN, where CANN counts them; says whether it did.
fn release(op: &'static str, process: &Process) -> Result<bool> {
    let Some(runtime) = process.runtime.as_ref().filter(|_| process.initialised) else {
        return Ok(false);
    };
    let cann = &runtime.cann;
    if !cann.has(f::aclFinalizeReference) {
        return Ok(false);
    }
    let mut left = 0;
    // SAFETY: the number is writable for the call.
    cann.call(op, f::aclFinalizeReference, |finalize| unsafe {
        finalize(&mut left)
    })?;
    Ok(true)
}

/// Ends one device; the answer is the device if it must stay open.
fn close(op: &'static str, opened: Opened, report: &mut ShutdownReport) -> Option<Opened> {
    let context = Arc::clone(&opened.context);
    let mut keep = |result: Result<()>| result.map_err(|error| report.failures.push(error)).is_ok();
    if !keep(context.check(op)) && context.is_lost() {
        keep(give_up(op, &opened));
        return None;
    }
    if keep(context.bind(op)) {
        for stream in context.streams() {
            stream.release_workspace();
        }
        keep(context.empty_cache(op));
    }
    let (buffers, bytes) = context.alive();
    if !context.close(ended(op, "aclrtResetDevice")) {
        report.alive.push(Alive {
            device: context.number(),
            buffers,
            bytes,
        });
        return Some(opened);
    }
    keep(context.end_communicators(op));
    for stream in context.streams() {
        keep(stream.destroy(op));
    }
    keep(context.staging.abandon(&context, op).map_or(Ok(()), Err));
    keep(context.events.abandon(&context, op).map_or(Ok(()), Err));
    keep(context.reset_device(op, false));
    None
}
