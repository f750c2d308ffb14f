//! One process: the training with one fault, and everything that must hold afterwards.
//!
//! Knows what the crate promises after a failure. Must not know which functions there are.

use ascend_sys::f;
use ascend_tensor::ascend::{self, ShutdownReport};
use ascend_tensor::{Device, Error, Result, Tensor};

use crate::training::{Outcome, table, train};

fn api() -> ascend_sys::Api {
    ascend_sys::Api::from_resolver("ascend-emulator", ascend_emulator::resolve)
}

/// What the faults meet: a tensor that is computed early, the training, and the end of the use of the device.
fn use_device() -> (Result<Tensor>, Result<Outcome>) {
    let device = Device::ascend(0);
    let earlier = table(3, 3, 9.0).and_then(|x| x.to_device(device)?.mul(2.0));
    (earlier, train(device))
}

/// Runs the training without a fault and lists what it called, `CALL name count` per line, and its outcome.
pub fn record() -> Result<()> {
    ascend::install(api())?;
    let (earlier, outcome) = use_device();
    earlier?.to_vec::<f32>()?;
    let outcome = outcome?;
    let launches = ascend_emulator::kernel_launches();
    ascend::shutdown()?;
    for (name, count) in ascend_emulator::all_calls() {
        println!("CALL {name} {count}");
    }
    println!("CALL kernel {launches}");
    println!("GOOD {outcome:?}");
    Ok(())
}

/// All that a run told of a failure: its error, or what it printed and what the shutdown reported.
#[derive(Debug, Default)]
struct Told {
    errors: Vec<String>,
    lost: bool,
}

impl Told {
    fn add(&mut self, error: &Error) {
        self.lost |= error.is_device_lost();
        self.errors.push(error.to_string());
    }

    /// The outcome, if the run came to its end without telling of a failure.
    fn look_at(&mut self, outcome: Result<Outcome>) -> Option<Outcome> {
        match outcome {
            Err(error) => self.add(&error),
            // Printing cannot fail: it prints the failure.
            Ok(got) if got.printed.contains("failed with") => self.errors.push(got.printed),
            Ok(got) => return Some(got),
        }
        None
    }
}

/// Runs with a planned fault, and says in one line what became of it; an error is what must not be.
pub fn suffer(fault: &str) -> std::result::Result<String, String> {
    let told = |error: Error| format!("unexpected: {error}");
    let device = Device::ascend(0);
    ascend::install(api()).map_err(told)?;
    let mut found = Told::default();
    let (earlier, outcome) = use_device();
    if let Err(error) = &earlier {
        found.add(error);
    }
    let first = found.look_at(outcome);
    if let Ok(earlier) = &earlier {
        read_again(earlier, &mut found)?;
    }
    drop(earlier);
    if found.lost {
        ascend::reset(0).map_err(told)?;
    }
    let mut results: Vec<Outcome> = first.into_iter().collect();
    if !found.errors.is_empty() {
        results.push(recover(device, &mut found)?);
    }
    // Some functions are called at the end only: their failure is in the report, and the next use begins anew.
    let report = ascend::shutdown().map_err(told)?;
    report.failures.iter().for_each(|error| found.add(error));
    let fired = has_fired(fault);
    ascend_emulator::set_faults("").map_err(|error| error.to_string())?;
    let last = train(device).map_err(|error| format!("does not begin anew: {error}"))?;
    if results.iter().any(|result| *result != last) {
        return Err(format!("other results: {results:?} and {last:?}"));
    }
    let report = ascend::shutdown().map_err(told)?;
    tidy(&report, fault)?;
    let errors = found.errors.join(" | ");
    Ok(format!("{last:?} FIRED {fired} ERRORS {errors}"))
}

/// Whether the planned use of the function has come.
fn has_fired(fault: &str) -> bool {
    let plan = fault.split(['=', ':']).collect::<Vec<_>>();
    let [name, at, _] = plan[..] else {
        return false;
    };
    let count = match name {
        "kernel" => ascend_emulator::kernel_launches(),
        _ => ascend_emulator::calls(name),
    };
    at.parse().is_ok_and(|at: u64| count >= at)
}

/// What was computed before the fault can be read while the device is usable, and says so when it is lost.
fn read_again(earlier: &Tensor, found: &mut Told) -> std::result::Result<(), String> {
    let want: Vec<f32> = (0..9)
        .map(|at| 2.0 * ((at as f32 + 9.0) * 0.7).sin())
        .collect();
    // A failure that could not be returned where it happened surfaces once, at the next call.
    let mut got = earlier.to_vec::<f32>();
    if let Err(error @ Error::Deferred { .. }) = &got
        && !error.is_device_lost()
    {
        found.add(error);
        got = earlier.to_vec::<f32>();
    }
    match got {
        Ok(got) if found.lost => Err(format!("read {got:?} from a lost device")),
        Ok(got) if got == want => Ok(()),
        Ok(got) => Err(format!("an earlier tensor changed to {got:?}")),
        Err(error) if error.is_device_lost() => {
            found.add(&error);
            Ok(())
        }
        Err(error) => Err(format!("an earlier tensor cannot be read: {error}")),
    }
}

/// The same training runs after the failure, after a reset where the device was lost.
fn recover(device: Device, found: &mut Told) -> std::result::Result<Outcome, String> {
    let mut again = train(device);
    if let Err(error @ Error::Deferred { .. }) = &again
        && !error.is_device_lost()
    {
        found.add(error);
        again = train(device);
    }
    again.map_err(|error| format!("does not work again: {error}"))
}

/// Nothing is alive, nothing was broken, and CANN was given up.
fn tidy(report: &ShutdownReport, fault: &str) -> std::result::Result<(), String> {
    if !(report.alive.is_empty() && report.failures.is_empty() && report.released) {
        return Err(format!("the shutdown left something: {report:?}"));
    }
    let violations = ascend_emulator::violations();
    if !violations.is_empty() {
        return Err(format!("violations: {violations:?}"));
    }
    // What a failing destroying function was to destroy is still there; nothing else is.
    let name = fault.split(':').next().unwrap_or_default();
    let creating = name.replace("Destroy", "Create").replace("Free", "Malloc");
    let mut leaks = ascend_emulator::leaks();
    leaks.retain(|line| {
        let maker = line.split("made by ").nth(1).unwrap_or_default();
        let maker = maker.split(' ').next().unwrap_or_default();
        creating == name || !(creating.starts_with(maker) || maker.starts_with(&creating))
    });
    if !leaks.is_empty() {
        return Err(format!("leaks: {leaks:?}"));
    }
    let (mut flags, mut active) = (0, 0);
    let asked = api().function(f::aclrtGetPrimaryCtxState);
    let state = asked.map_err(|missing| missing.to_string())?;
    // SAFETY: both numbers are writable for the call.
    let code = unsafe { state(0, &mut flags, &mut active) };
    // Where its reset failed, the device stays counted as in use.
    if name != "aclrtResetDevice" && (code != 0 || active != 0) {
        return Err(format!("the device is still in use ({code}, {active})"));
    }
    Ok(())
}
