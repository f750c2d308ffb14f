//! Devices: where a tensor's data lives and its ops run.
//!
//! Knows names of devices only. Must not know how a device is opened (that is `ascend::runtime`).

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};

/// Where a tensor's data lives: the host's CPU, or an Ascend NPU by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[non_exhaustive]
// As a word: see `BackwardFault`.
#[repr(align(8))]
pub enum Device {
    /// The host.
    #[default]
    Cpu,
    /// An Ascend NPU, by the number that CANN gives it in this process.
    Ascend(u32),
}

impl Device {
    /// The Ascend NPU with this number. Naming it does not open it; the first op does.
    ///
    /// ```
    /// use ascend_tensor::Device;
    /// assert_eq!(Device::ascend(0).to_string(), "ascend:0");
    /// ```
    pub const fn ascend(number: u32) -> Self {
        Device::Ascend(number)
    }

    /// Whether the device is the host's CPU.
    pub const fn is_cpu(self) -> bool {
        matches!(self, Device::Cpu)
    }

    /// Whether the device is an Ascend NPU.
    pub const fn is_ascend(self) -> bool {
        matches!(self, Device::Ascend(_))
    }

    /// The first Ascend NPU if CANN loads and reports one, else the CPU.
    pub fn best() -> Self {
        match crate::ascend::device_count() {
            Ok(count) if count > 0 => Device::Ascend(0),
            _ => Device::Cpu,
        }
    }

    /// Waits until all work queued on the device is done, and reports failures that happened since the last call.
    ///
    /// # Errors
    /// The first failure of the work that was queued.
    pub fn synchronize(self) -> Result<()> {
        match self {
            Device::Cpu => Ok(()),
            Device::Ascend(number) => crate::ascend::synchronize(number),
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Device::Cpu => f.write_str("cpu"),
            Device::Ascend(number) => write!(f, "ascend:{number}"),
        }
    }
}

impl FromStr for Device {
    type Err = Error;

    /// Reads `cpu`, `ascend` (number 0) or `ascend:N`.
    fn from_str(text: &str) -> Result<Self> {
        let number = match text {
            "cpu" => return Ok(Device::Cpu),
            "ascend" => Some(0),
            _ => text
                .strip_prefix("ascend:")
                .and_then(|number| number.parse().ok()),
        };
        number.map(Device::Ascend).ok_or_else(|| {
            Error::option(
                "device",
                "name",
                format!("got {text:?}, wanted cpu, ascend or ascend:N"),
            )
        })
    }
}
