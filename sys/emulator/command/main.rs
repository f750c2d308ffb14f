//! The command `ascend-emulator`: lays out a folder that looks like an installed CANN toolkit, and answers as `npu-smi` does.
//!
//! Knows its arguments; it must not know what a toolkit holds or how a device is described.

mod install;
mod layout;
mod npu_smi;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

const USAGE: &str = "\
usage:
  ascend-emulator install <dir>    lay out a CANN toolkit in <dir> whose libraries are the emulator
      --library <file>             take this libascend_emulator.so instead of the one that was built with this command
      --headers <dir>              take the C headers from here instead of from the sources
  ascend-emulator info             the emulated devices, as `npu-smi info` prints them
  ascend-emulator --version";

fn main() -> ExitCode {
    let mut arguments: Vec<OsString> = std::env::args_os().collect();
    let called = arguments.first().map(PathBuf::from).unwrap_or_default();
    if called.file_name().is_some_and(|name| name == "npu-smi") {
        return finish(npu_smi::run(&arguments[1..]));
    }
    let rest = arguments.split_off(arguments.len().min(2));
    match arguments.get(1).and_then(|argument| argument.to_str()) {
        Some("install") => finish(install_in(&rest)),
        Some("info") => finish(npu_smi::run(&[OsString::from("info")])),
        Some("--version" | "-V") => {
            println!(
                "ascend-emulator {} as CANN {}",
                env!("CARGO_PKG_VERSION"),
                layout::VERSION
            );
            ExitCode::SUCCESS
        }
        Some("--help" | "-h" | "help") => {
            println!("{USAGE}");
            ExitCode::SUCCESS
        }
        _ => {
            eprintln!("{USAGE}");
            ExitCode::from(2)
        }
    }
}

fn finish(outcome: Result<(), String>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ascend-emulator: {error}");
            ExitCode::FAILURE
        }
    }
}

fn install_in(arguments: &[OsString]) -> Result<(), String> {
    let (mut target, mut sources) = (None, install::Sources::default());
    let mut waiting = arguments.iter();
    while let Some(argument) = waiting.next() {
        let mut value = || {
            let value = waiting.next().map(PathBuf::from);
            value.ok_or_else(|| format!("{} wants a path", argument.display()))
        };
        match argument.to_str() {
            Some("--library") => sources.library = Some(value()?),
            Some("--headers") => sources.headers = Some(value()?),
            Some(option) if option.starts_with('-') => {
                return Err(format!("unknown option {option}\n{USAGE}"));
            }
            _ if target.is_some() => return Err(format!("more than one folder\n{USAGE}")),
            _ => target = Some(PathBuf::from(argument)),
        }
    }
    let target = target.ok_or_else(|| format!("install wants a folder\n{USAGE}"))?;
    let root = install::run(&target, &sources)?;
    println!("installed in {0}\nsource {0}/set_env.sh", root.display());
    Ok(())
}
