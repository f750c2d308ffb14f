//! Faults: every function of the C interface that a training calls fails at its first, second and a late use, each time in a
//! process of its own, since the emulator's state is the process's. Each time the failure comes out with the function's name and
//! CANN's text, earlier tensors can be read while the device is usable, the training runs again, and nothing stays alive.

#[path = "faults/child.rs"]
mod child;
#[path = "faults/training.rs"]
mod training;

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::Mutex;

use ascend_tensor::{DType, Result, Tensor};

/// Tells a process of this test what to be: `record`, or the fault that it suffers.
const ROLE: &str = "ASCEND_TENSOR_FAULT_ROLE";

/// Functions whose failure may stay unseen, with the reason.
const SILENT: &[(&str, &str)] = &[
    ("aclGetRecentErrMsg", "only a text is lost"),
    (
        "aclrtGetSocName",
        "only the explanation of a refusal is lost",
    ),
];

/// Failures that the crate mends by itself.
fn is_mended(name: &str, code: i32) -> bool {
    // Out of memory: the pool gives back what it does not use, and asks once more. No failure mode: the chip lacks it.
    matches!(
        (name, code),
        ("aclrtMalloc", 207_001) | ("aclrtSetStreamFailureMode", 207_000)
    ) || name.ends_with("GetWorkspaceSize") && code == 207_001
}

/// The codes that a function fails with at its first, second and late use: a refusal, a shortage, a loss of the device.
fn codes(name: &str) -> [i32; 3] {
    match name {
        "kernel" => [207_003, 507_015, 507_035],
        "aclInit" | "aclFinalizeReference" => [500_000, 100_000, 500_000],
        "aclrtMalloc" => [107_000, 207_001, 507_899],
        "aclrtMallocHost" => [207_001, 107_000, 507_899],
        "aclrtSetStreamFailureMode" => [207_000, 107_000, 107_000],
        "aclrtMemcpyAsync" | "aclrtMemcpy" => [107_000, 507_046, 507_013],
        name if name.ends_with("GetWorkspaceSize") => [161_002, 207_001, 561_103],
        name if name.starts_with("aclnn") => [361_001, 561_000, 507_015],
        name if name.starts_with("aclrt") => [107_000, 207_012, 507_010],
        _ => [161_002, 200_000, 561_000],
    }
}

/// What a process of this test printed, and its exit code.
fn run(role: &str, fault: &str) -> (Option<i32>, String) {
    let output = std::env::current_exe().and_then(|test| {
        Command::new(test)
            .args(["--exact", "every_call_may_fail", "--nocapture"])
            .env(ROLE, role)
            .env("ASCEND_EMULATOR_FAULTS", fault)
            .output()
    });
    match output {
        Ok(output) => {
            let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
            text.push_str(&String::from_utf8_lossy(&output.stderr));
            (output.status.code(), text)
        }
        Err(error) => (None, error.to_string()),
    }
}

fn be(role: &str) -> i32 {
    if role == "record" {
        return i32::from(child::record().is_err());
    }
    match child::suffer(role) {
        Ok(told) => println!("GOOD {told}"),
        Err(why) => println!("BAD {why}"),
    }
    0
}

/// The lines of a text that begin with a word, without it.
fn lines<'a>(text: &'a str, word: &'a str) -> impl Iterator<Item = &'a str> {
    text.lines().filter_map(move |line| line.strip_prefix(word))
}

/// The faults to try: each function at its first, second and a late use.
fn plan(record: &str) -> Vec<(String, u64, i32)> {
    let mut faults = Vec::new();
    for line in lines(record, "CALL ") {
        let Some((name, count)) = line.split_once(' ') else {
            continue;
        };
        let count: u64 = count.parse().unwrap_or(0);
        let uses = [1, 2, (count * 3 / 4).max(3)];
        let all = uses.into_iter().zip(codes(name));
        faults.extend(
            all.filter(|(at, _)| *at <= count)
                .map(|(at, code)| (name.to_string(), at, code)),
        );
    }
    faults
}

/// Why one fault's run is not as it should be.
fn judge(name: &str, at: u64, code: i32, outcome: &str) -> Option<String> {
    let fault = format!("{name}:{at}={code}");
    let (exit, text) = run(&fault, &fault);
    let bad = |why: &str| Some(format!("{fault}: {why}: exit {exit:?}: {text}"));
    let told = lines(&text, "GOOD ").find_map(|told| {
        let (got, rest) = told.split_once(" FIRED ")?;
        let (fired, errors) = rest.split_once(" ERRORS ")?;
        Some((got, fired == "true", errors))
    });
    let Some((got, fired, errors)) = told else {
        return bad("not as promised");
    };
    if exit != Some(0) || got != outcome {
        return bad("other results after the recovery");
    }
    // How often the host allocates, marks and waits depends on how far the device is.
    if !fired {
        return if at == 1 { bad("never called") } else { None };
    }
    if SILENT.iter().any(|(silent, _)| *silent == name) || is_mended(name, code) {
        return None;
    }
    let (call, kind) = match name {
        // It comes out at whatever call looks at the stream next.
        "kernel" => ("", "kernel"),
        _ => (name, "call"),
    };
    if !errors.contains(call) || !errors.contains(&format!("injected at {kind} {at}")) {
        return bad("the error does not name the call and give CANN's text");
    }
    None
}

#[test]
fn every_call_may_fail() {
    if let Ok(role) = std::env::var(ROLE) {
        std::process::exit(be(&role));
    }
    let (exit, record) = run("record", "");
    let Some(outcome) = lines(&record, "GOOD ").next().filter(|_| exit == Some(0)) else {
        panic!("the undisturbed training: {record}");
    };
    let faults = plan(&record);
    let functions: BTreeSet<&str> = faults.iter().map(|(name, ..)| name.as_str()).collect();
    assert!(functions.len() > 60, "only {functions:?} were called");
    let waiting = Mutex::new(faults.iter());
    let failures = Mutex::new(Vec::new());
    let work = || {
        while let Some((name, at, code)) = waiting.lock().ok().and_then(|mut faults| faults.next())
        {
            if let (Some(why), Ok(mut failures)) =
                (judge(name, *at, *code, outcome), failures.lock())
            {
                failures.push(why);
            }
        }
    };
    std::thread::scope(|scope| {
        let threads = std::thread::available_parallelism().map_or(2, usize::from);
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    let failures = failures.into_inner().unwrap_or_default();
    assert!(
        failures.is_empty(),
        "{} of {} faults:\n{}",
        failures.len(),
        faults.len(),
        failures.join("\n")
    );
}

#[test]
fn earlier_tensors_survive_a_refusal() -> Result<()> {
    let x = Tensor::new([[1.0f32, 2.0]]);
    assert!(x.matmul(&x).is_err());
    assert_eq!(x.to_vec::<f32>()?, [1.0, 2.0]);
    assert_eq!(x.to_dtype(DType::F64)?.to_vec::<f64>()?, [1.0, 2.0]);
    Ok(())
}
