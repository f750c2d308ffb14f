//! Prints the aclnn operators that the emulator has a kernel for, one a line; with `--lacking` those that it only refuses.
//!
//! Knows the emulator's public interface only.

use std::process::ExitCode;

fn main() -> ExitCode {
    let names = match std::env::args().nth(1).as_deref() {
        None => ascend_emulator::supported_ops(),
        Some("--lacking") => ascend_emulator::lacking_ops(),
        Some(other) => {
            eprintln!("unknown argument {other:?}; usage: emulated-ops [--lacking]");
            return ExitCode::FAILURE;
        }
    };
    names.iter().for_each(|name| println!("{name}"));
    ExitCode::SUCCESS
}
