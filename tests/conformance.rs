//! Conformance: every op against values that PyTorch computed, on the CPU and on the emulated NPU.
//!
//! Reads a folder of cases (`ASCEND_TENSOR_CONFORMANCE`, default `tests/data/conformance`), runs each case on both devices,
//! values and gradients, and prints one line per op and a total. `ASCEND_TENSOR_CONFORMANCE_ONLY` takes a comma-separated
//! list of ops, `ASCEND_TENSOR_CONFORMANCE_DEVICES` one of `cpu` and `ascend`. A failing case fails the run.

#[path = "conformance/calls/mod.rs"]
mod calls;
#[path = "conformance/case.rs"]
mod case;
#[path = "conformance/compare.rs"]
mod compare;
#[path = "conformance/report.rs"]
mod report;
#[path = "conformance/run.rs"]
mod run;

use std::path::PathBuf;
use std::process::ExitCode;

use ascend_tensor::Device;

fn main() -> ExitCode {
    let folder = std::env::var_os("ASCEND_TENSOR_CONFORMANCE").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/conformance"),
        PathBuf::from,
    );
    let only = std::env::var("ASCEND_TENSOR_CONFORMANCE_ONLY").unwrap_or_default();
    let wanted = |op: &str| only.is_empty() || only.split(',').any(|name| name == op);
    let devices = match std::env::var("ASCEND_TENSOR_CONFORMANCE_DEVICES").as_deref() {
        Ok("cpu") => vec![Device::Cpu],
        Ok("ascend") => vec![Device::ascend(0)],
        _ => vec![Device::Cpu, Device::ascend(0)],
    };
    if let Err(error) = run::open_emulator() {
        println!("the emulated NPU cannot be opened: {error}");
        return ExitCode::FAILURE;
    }
    let files = match case::files(&folder) {
        Ok(files) if !files.is_empty() => files,
        Ok(_) => {
            println!("no case files in {}", folder.display());
            return ExitCode::FAILURE;
        }
        Err(error) => {
            println!("{}: {error}", folder.display());
            return ExitCode::FAILURE;
        }
    };
    let mut report = report::Report::new(&devices);
    for file in files {
        match case::File::read(&file) {
            Ok(file) if wanted(&file.op) => run::file(&file, &devices, &mut report),
            Ok(_) => {}
            Err(error) => report.broken(&file, &error),
        }
    }
    report.print()
}
