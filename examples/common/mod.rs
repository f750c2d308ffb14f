//! What the examples share: devices by name and progress bars.
//!
//! Knows the command line's words. Must not know what an example does.
#![allow(dead_code, reason = "an example uses a part")]

use std::error::Error;

use ascend_tensor::{Device, ascend};
use indicatif::{ProgressBar, ProgressStyle};

type Failure = Box<dyn Error + Send + Sync>;

/// The device of a name: `cpu`, `ascend:0`, or `emulator` for an NPU that this computer plays.
pub fn device(name: &str) -> Result<Device, Failure> {
    if name != "emulator" {
        return Ok(name.parse()?);
    }
    ascend::install(ascend_sys::Api::from_resolver(
        "ascend-emulator",
        ascend_emulator::resolve,
    ))?;
    Ok(Device::ascend(0))
}

/// A bar over so many of something, with the time left and what else is to be said.
pub fn progress(count: u64, unit: &str) -> Result<ProgressBar, Failure> {
    let template = format!("{{bar:30}} {{pos}}/{{len}} {unit}, {{elapsed}}, {{eta}} left {{msg}}");
    let bar = ProgressBar::new(count);
    bar.set_style(ProgressStyle::with_template(&template)?);
    Ok(bar)
}
