//! The table of devices that `npu-smi info` prints: what build scripts read the chip's name from.
//!
//! Knows the runtime interface only, as any program does; numbers that an emulated device has not (power, temperature) are 0.

use ascend_sys::{Function, f};
use std::ffi::{CStr, OsString};
use std::fmt::Write as _;
use std::ptr;

/// One emulated device.
struct Device {
    number: u32,
    total: usize,
    free: usize,
}

pub(crate) fn run(arguments: &[OsString]) -> Result<(), String> {
    let words: Vec<&str> = arguments
        .iter()
        .filter_map(|argument| argument.to_str())
        .collect();
    match words.as_slice() {
        ["info"] => print!("{}", table(&soc()?, &devices()?)),
        ["info", "-l"] => print!("{}", list(&devices()?)),
        ["info", "-m"] => print!("{}", mapping(&soc()?, &devices()?)),
        ["-v" | "--version"] => println!("npu-smi version: {}", crate::layout::VERSION),
        _ => {
            return Err(String::from(
                "known are: npu-smi info, info -l, info -m, -v",
            ));
        }
    }
    Ok(())
}

fn function<F: Function>(_: F) -> Result<F::Pointer, String> {
    let address = ascend_emulator::resolve(F::NAME);
    let address = address.ok_or_else(|| format!("the emulator has no {:?}", F::NAME))?;
    // SAFETY: the table pairs each name with a function of exactly this type.
    Ok(unsafe { std::mem::transmute_copy(&address) })
}

fn succeed(name: &str, code: i32) -> Result<(), String> {
    match code {
        0 => Ok(()),
        code => Err(format!("{name} gave {code}")),
    }
}

/// The chip's name without its first word, as the table shows it: `910B3`.
fn soc() -> Result<String, String> {
    // SAFETY: the function takes nothing.
    let name = unsafe { function(f::aclrtGetSocName)?() };
    if name.is_null() {
        return Err(String::from("no chip"));
    }
    // SAFETY: not null, a C string that lives as long as the process.
    let name = unsafe { CStr::from_ptr(name) }.to_string_lossy();
    Ok(name.trim_start_matches("Ascend").to_owned())
}

fn devices() -> Result<Vec<Device>, String> {
    let mut count = 0;
    // SAFETY: both take null or a valid pointer.
    unsafe {
        succeed("aclInit", function(f::aclInit)?(ptr::null()))?;
        succeed(
            "aclrtGetDeviceCount",
            function(f::aclrtGetDeviceCount)?(&mut count),
        )?;
    }
    (0..count)
        .map(|number| {
            let (mut free, mut total) = (0, 0);
            let id = i32::try_from(number).map_err(|error| error.to_string())?;
            // SAFETY: the pointers are valid for writes; attribute 1 is the device's main memory.
            unsafe {
                succeed("aclrtSetDevice", function(f::aclrtSetDevice)?(id))?;
                let code = function(f::aclrtGetMemInfo)?(1, &mut free, &mut total);
                succeed("aclrtGetMemInfo", code)?;
            }
            Ok(Device {
                number,
                total,
                free,
            })
        })
        .collect()
}

const LINE: &str = "+---------------------------+---------------+----------------------------------------------------+";
const DOUBLE: &str = "+===========================+===============+====================================================+";

/// Scripts take the third word of the seventh line, so the lines stand where the real command has them.
fn table(soc: &str, devices: &[Device]) -> String {
    let version = crate::layout::VERSION;
    let mut text = format!("+{}+\n", "-".repeat(LINE.len() - 2));
    let title = format!("npu-smi {version} (emulated)   Version: {version}");
    let _ = writeln!(text, "| {title:<width$} |", width = LINE.len() - 4);
    let _ = writeln!(text, "{LINE}");
    row(
        &mut text,
        [
            "NPU   Name",
            "Health",
            "Power(W)    Temp(C)          Hugepages-Usage(page)",
        ],
    );
    row(
        &mut text,
        [
            "Chip",
            "Bus-Id",
            "AICore(%)   Memory-Usage(MB)  HBM-Usage(MB)",
        ],
    );
    let _ = writeln!(text, "{DOUBLE}");
    for device in devices {
        let used = (device.total - device.free) >> 20;
        let name = format!("{:<5} {soc}", device.number);
        let bus = format!("0000:{:02X}:00.0", device.number + 1);
        let memory = format!(
            "0           0    / 0          {used:<4} / {}",
            device.total >> 20
        );
        row(
            &mut text,
            [&name, "OK", "0.0         0                0    / 0"],
        );
        row(&mut text, ["0", &bus, &memory]);
        let _ = writeln!(text, "{DOUBLE}");
    }
    text
}

fn row(text: &mut String, cells: [&str; 3]) {
    let _ = writeln!(
        text,
        "| {:<25} | {:<13} | {:<50} |",
        cells[0], cells[1], cells[2]
    );
}

fn list(devices: &[Device]) -> String {
    let mut text = format!("\tTotal Count                    : {}\n", devices.len());
    for device in devices {
        let _ = writeln!(
            text,
            "\n\tNPU ID                         : {}",
            device.number
        );
        let _ = writeln!(text, "\tChip Count                     : 1");
    }
    text
}

fn mapping(soc: &str, devices: &[Device]) -> String {
    let mut text = String::from(
        "\tNPU ID                         Chip ID                        Chip Logic ID                  Chip Name\n",
    );
    for Device { number, .. } in devices {
        let _ = writeln!(text, "\t{number:<30} {:<30} {number:<30} Ascend {soc}", 0);
    }
    text
}
