//! Properties: what holds for any input. Every op takes any shapes, dtypes, layouts and options and answers with a value or an
//! error, on the CPU and on the emulated NPU; chains of views mean what they mean to `ndarray`; files and texts may hold anything.
//!
//! `ASCEND_TENSOR_PROPERTIES` multiplies the number of trials (1 by default); `ASCEND_TENSOR_PROPERTIES_ONLY` names ops,
//! separated by commas. The seed is fixed: two runs try the same.

#[path = "conformance/calls/mod.rs"]
#[allow(dead_code, reason = "the conformance test uses the rest")]
mod calls;
#[path = "conformance/case.rs"]
#[allow(dead_code, reason = "the conformance test uses the rest")]
mod case;
#[path = "properties/mutate.rs"]
mod mutate;
#[path = "properties/texts.rs"]
mod texts;
#[path = "properties/views.rs"]
mod views;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, Once};
use std::time::{Duration, Instant};

use ascend_tensor::{BackwardOptions, Device, Tensor, ascend, check_data};
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};

use crate::calls::Args;
use crate::case::{Case, File};
use crate::mutate::Choices;

/// A runner of `cases` trials, times what the environment says, with a fixed seed.
pub fn runner(cases: u32) -> TestRunner {
    let factor = std::env::var("ASCEND_TENSOR_PROPERTIES");
    let factor: u32 = factor.ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let config = Config {
        cases: cases.saturating_mul(factor),
        failure_persistence: None,
        max_shrink_time: 5_000,
        ..Config::default()
    };
    TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha))
}

/// Gives the process its NPU: the emulator.
pub fn emulator() {
    static INSTALL: Once = Once::new();
    INSTALL.call_once(|| {
        let api = ascend_sys::Api::from_resolver("ascend-emulator", ascend_emulator::resolve);
        ascend::install(api).expect("nothing is installed yet");
    });
}

/// What runs now and since when; a trial that takes too long ends the process with its name.
static NOW: Mutex<Option<(String, Instant)>> = Mutex::new(None);
const LONGEST: Duration = Duration::from_secs(60);

/// How many calls gave a value: a property that holds for errors only would say little.
static ANSWERED: [AtomicUsize; 2] = [const { AtomicUsize::new(0) }; 2];

fn watch() {
    static START: Once = Once::new();
    START.call_once(|| {
        std::thread::spawn(|| {
            loop {
                std::thread::sleep(Duration::from_secs(1));
                let now = NOW.lock().ok().and_then(|now| now.clone());
                if let Some((what, since)) = now.filter(|(_, since)| since.elapsed() > LONGEST) {
                    eprintln!("{what} runs since {:?}", since.elapsed());
                    std::process::abort();
                }
            }
        });
    });
}

fn set_now(what: Option<String>) {
    if let Ok(mut now) = NOW.lock() {
        *now = what.map(|what| (what, Instant::now()));
    }
}

/// One call with changed inputs and attributes, and its gradient; an error is a fine answer, a panic is not.
fn attempt(file: &File, case: &Case, device: Device, words: &[u64]) -> Result<(), TestCaseError> {
    let mut choices = Choices::new(words);
    let Some(call) = calls::find(&file.op) else {
        return Ok(());
    };
    let attrs = mutate::attributes(&mut choices, file, case);
    let shown = std::cell::RefCell::new(String::new());
    let run = || {
        // Inputs that cannot even be made are no call of the op.
        let Ok(inputs) = mutate::inputs(&mut choices, file, case, device) else {
            return;
        };
        let text: Vec<String> = inputs
            .iter()
            .flat_map(|input| {
                input
                    .tensors()
                    .map(|x| format!("{x:?}"))
                    .collect::<Vec<_>>()
            })
            .collect();
        shown.replace(format!(
            "{}({}) {attrs:?} on {device}",
            file.op,
            text.join(", ")
        ));
        set_now(Some(shown.borrow().clone()));
        let args = Args::new(&inputs, &attrs, device);
        // Without a check of the data, indices out of range are CANN's to catch, and end the device.
        let Ok(outputs) = check_data(|| call(&args)) else {
            return;
        };
        ANSWERED[usize::from(device.is_cpu())].fetch_add(1, Ordering::Relaxed);
        for output in &outputs {
            let _ = output.to_f64_vec();
            if output.is_tracked() {
                let _ = backward(output);
            }
        }
    };
    let outcome = catch_unwind(AssertUnwindSafe(run));
    set_now(None);
    outcome.map_err(|panic| {
        let text = panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
        TestCaseError::fail(format!(
            "{} panics: {}",
            shown.borrow(),
            text.unwrap_or_default()
        ))
    })
}

fn backward(output: &Tensor) -> ascend_tensor::Result<()> {
    let seed = output.detach().ones_like()?;
    check_data(|| output.backward_with(BackwardOptions::new().gradient(&seed)))?;
    Ok(())
}

/// Tries every op of the conformance data with changed cases on a device.
fn every_op(device: Device, trials: u32) {
    watch();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/conformance");
    let only = std::env::var("ASCEND_TENSOR_PROPERTIES_ONLY").unwrap_or_default();
    let mut failures = Vec::new();
    let (mut count, mut tried_calls) = (0, 0);
    for path in case::files(&folder).expect("the conformance data is there") {
        let file = File::read(&path).expect("the conformance data can be read");
        if file.cases.is_empty() || !(only.is_empty() || only.split(',').any(|op| op == file.op)) {
            continue;
        }
        count += 1;
        tried_calls += runner(trials).config().cases as usize;
        let words = proptest::collection::vec(proptest::num::u64::ANY, 60);
        let which = proptest::prelude::any::<proptest::sample::Index>();
        let tried = runner(trials).run(&(which, words), |(which, words)| {
            attempt(&file, which.get(&file.cases), device, &words)
        });
        if let Err(error) = tried {
            failures.push(error.to_string());
        }
    }
    assert!(
        count > 100 || !only.is_empty(),
        "only {count} ops were tried"
    );
    let answered = ANSWERED[usize::from(device.is_cpu())].load(Ordering::Relaxed);
    assert!(
        answered > tried_calls / 5,
        "only {answered} of {tried_calls} calls gave a value"
    );
    println!("{answered} of {tried_calls} calls on {device} gave a value");
    assert!(
        failures.is_empty(),
        "{} of {count} ops fail:\n{}",
        failures.len(),
        failures.join("\n")
    );
}

#[test]
fn every_op_answers_anything_on_the_cpu() {
    every_op(Device::Cpu, 80);
}

#[test]
fn every_op_answers_anything_on_the_npu() {
    emulator();
    every_op(Device::ascend(0), 30);
    let violations = ascend_emulator::violations();
    assert!(violations.is_empty(), "{violations:#?}");
}
