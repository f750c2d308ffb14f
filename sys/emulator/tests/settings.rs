//! Settings as a drop-in library reads them: a file, variables, and what happens when they make no sense; the call log and the
//! Chrome trace.
#![allow(missing_docs, clippy::macro_metavars_in_unsafe)]

mod common;

use common::*;
use serde_json::Value;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::ptr;

/// Runs one test of this file in a process of its own with other variables.
fn again(test: &str, variables: &[(&str, &str)]) -> Output {
    Command::new(std::env::current_exe().expect("a path"))
        .args(["--exact", test, "--nocapture"])
        .env("TEST_CHILD", "1")
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .output()
        .expect("the test runs again")
}

fn is_child() -> bool {
    std::env::var_os("TEST_CHILD").is_some()
}

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-{name}", std::process::id()))
}

#[test]
fn a_file_sets_everything() {
    if !is_child() {
        let file = path("settings.json");
        let text = r#"{"soc": "910A", "devices": 3, "memory": "1M", "latency": 20000, "faults": ["aclrtCreateEvent:1=207007"]}"#;
        std::fs::write(&file, text).expect("written");
        let file = file.to_string_lossy().into_owned();
        let output = again(
            "a_file_sets_everything",
            &[
                ("ASCEND_EMULATOR_CONFIG", &file),
                ("ASCEND_EMULATOR_DEVICES", "2"),
            ],
        );
        let _ = std::fs::remove_file(file);
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        return;
    }
    assert_eq!(acl!(aclInit(ptr::null())), 0);
    assert_eq!(acl!(aclrtSetDevice(1)), 0);
    let (mut count, mut free, mut total, mut mode) = (0, 0, 0, 9);
    assert_eq!(acl!(aclrtGetDeviceCount(&mut count)), 0);
    assert_eq!(count, 2, "the variable wins");
    assert_eq!(acl!(aclrtGetMemInfo(1, &mut free, &mut total)), 0);
    assert_eq!(total, 1 << 20);
    assert_eq!(acl!(aclrtGetDeviceSatMode(&mut mode)), 0);
    assert_eq!(mode, 0, "the first 910 saturates");
    let mut event = ptr::null_mut();
    assert_eq!(acl!(aclrtCreateEvent(&mut event)), 207007);
    let (x, begun) = (upload(&[1.0]), std::time::Instant::now());
    assert_eq!(add(x, x, x, 1, ptr::null_mut()), 0);
    assert_eq!(synchronize(ptr::null_mut()), 0);
    assert!(
        begun.elapsed().as_millis() >= 20,
        "a launch takes its latency"
    );
}

#[test]
fn nonsense_fails_every_call_with_a_text() {
    if !is_child() {
        for (name, value) in [
            ("ASCEND_EMULATOR_SOC", "A100"),
            ("ASCEND_EMULATOR_DEVICE", "2"),
            ("ASCEND_EMULATOR_STRICT", "very"),
            ("ASCEND_EMULATOR_CONFIG", "/nowhere.json"),
            ("ASCEND_EMULATOR_TRACE", "/nowhere/trace.json"),
            ("HCCL_EXEC_TIMEOUT", "soon"),
        ] {
            let output = again("nonsense_fails_every_call_with_a_text", &[(name, value)]);
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success(), "{said}");
            let line = said
                .lines()
                .find(|line| line.starts_with("ascend-emulator: "));
            assert!(
                line.is_some_and(|line| line.contains("wanted") || line.contains("trace")),
                "{name}: {said}"
            );
        }
        return;
    }
    assert_eq!(acl!(aclInit(ptr::null())), 100_008);
    assert!(recent().contains("a setting of the emulator is wrong"));
    assert_eq!(acl!(aclrtSetDevice(0)), 100_008);
    let mut comm = ptr::null_mut();
    assert_eq!(acl!(HcclCommInitRootInfo(1, ptr::null(), 0, &mut comm)), 1);
}

#[test]
fn calls_are_logged_in_a_file() {
    if !is_child() {
        let file = path("calls.log");
        let name = file.to_string_lossy().into_owned();
        let output = again(
            "calls_are_logged_in_a_file",
            &[("ASCEND_EMULATOR_LOG", &name)],
        );
        assert!(output.status.success());
        let log = std::fs::read_to_string(&file).expect("a log");
        let _ = std::fs::remove_file(file);
        assert_eq!(
            log.lines().collect::<Vec<_>>(),
            ["aclInit (call 1)", "aclrtSetDevice (call 2)"]
        );
        return;
    }
    assert_eq!(acl!(aclInit(ptr::null())), 0);
    assert_eq!(acl!(aclrtSetDevice(0)), 0);
}

/// Work for the trace: kernels and copies on two streams; then an end as `TEST_END` says.
fn traced_work() {
    assert_eq!(acl!(aclInit(ptr::null())), 0);
    assert_eq!(acl!(aclrtSetDevice(0)), 0);
    let (x, host, other) = (upload(&[1.0; 4]), pinned(16), stream());
    assert_eq!(add(x, x, x, 4, ptr::null_mut()), 0);
    assert_eq!(synchronize(ptr::null_mut()), 0);
    assert_eq!(
        acl!(aclrtMemcpyAsync(host, 16, x, 16, DEVICE_TO_HOST, other)),
        0
    );
    assert_eq!(synchronize(other), 0);
    assert_eq!(acl!(aclrtFree(ptr::null_mut())), 100_000);
    if std::env::var("TEST_END").as_deref() == Ok("kill") {
        std::thread::sleep(std::time::Duration::from_millis(60));
        assert_eq!(acl!(aclrtFree(x)), 0);
        // SAFETY: ends this process.
        unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
    }
}

fn trace(end: &str) -> Vec<Value> {
    let file = path(&format!("{end}.json"));
    let name = file.to_string_lossy().into_owned();
    let output = again(
        "a_trace_shows_calls_kernels_and_copies",
        &[("ASCEND_EMULATOR_TRACE", &name), ("TEST_END", end)],
    );
    assert_eq!(
        output.status.success(),
        end != "kill",
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = std::fs::read_to_string(&file).expect("a trace");
    let _ = std::fs::remove_file(file);
    match serde_json::from_str(&text) {
        Ok(Value::Array(events)) => events,
        other => panic!("no list of events: {other:?}\n{text}"),
    }
}

#[test]
fn a_trace_shows_calls_kernels_and_copies() {
    if is_child() {
        traced_work();
        return;
    }
    for end in ["return", "kill"] {
        let events = trace(end);
        let find = |name: &str, category: &str| {
            let found = events
                .iter()
                .find(|event| event["name"] == name && event["cat"] == category);
            found.unwrap_or_else(|| panic!("{end}: no {category} {name} in {events:#?}"))
        };
        let (launch, kernel, copy) = (
            find("aclnnAdd", "call"),
            find("aclnnAdd", "kernel"),
            find("aclrtMemcpyAsync", "copy"),
        );
        for event in [launch, kernel, copy] {
            assert!(
                event["ph"] == "X"
                    && event["ts"].as_f64() > Some(1e15)
                    && event["dur"].as_f64() > Some(0.0)
            );
        }
        assert_ne!(kernel["pid"], launch["pid"], "host and device are apart");
        assert_ne!(kernel["tid"], copy["tid"], "streams are apart");
        assert_eq!(kernel["args"]["call"], launch["args"]["call"]);
        assert!(kernel["ts"].as_f64() >= launch["ts"].as_f64());
        let names: Vec<&str> = events
            .iter()
            .filter_map(|event| event["args"]["name"].as_str())
            .collect();
        assert!(
            names.iter().any(|name| name.starts_with("device 0")),
            "{names:?}"
        );
        assert!(
            names.iter().any(|name| name.starts_with("stream ")),
            "{names:?}"
        );
        if end == "return" {
            assert_eq!(find("aclrtFree", "call")["args"]["code"], 100_000);
        }
    }
}
