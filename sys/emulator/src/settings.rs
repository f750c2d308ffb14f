//! Settings of the emulator and the only place where it reads the environment.
//!
//! Knows names and formats of settings; it must not know what anybody does with them.
//!
//! | variable | meaning | default |
//! |---|---|---|
//! | `ASCEND_EMULATOR_SOC` | chip name, decides the product family | `Ascend910B3` |
//! | `ASCEND_EMULATOR_DEVICES` | number of devices | 1 |
//! | `ASCEND_EMULATOR_MEMORY` | bytes per device, suffix `K`, `M` or `G` allowed | `64G` |
//! | `ASCEND_EMULATOR_DELAY` | `seed:microseconds`: random delay before each task, up to that long | none |
//! | `ASCEND_EMULATOR_STRICT` | `report`, `protect` (device memory cannot be touched by host code) or `abort` (a violation ends the process) | `report` |
//! | `ASCEND_EMULATOR_FAULTS` | schedule of faults, see [`Settings::faults`] | none |
//! | `ASCEND_EMULATOR_LOG` | `1` keeps a log of calls | off |
//! | `ASCEND_RT_VISIBLE_DEVICES` | comma-separated ids: as many devices are visible as are listed and exist | all |

use std::fmt;

/// How violations of the rules are met. Each is reported by error code and text, and kept for [`violations`](crate::violations).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Strictness {
    /// Report.
    #[default]
    Report,
    /// Report; device memory lies behind addresses that host code cannot read or write.
    Protect,
    /// As `Protect`, and a violation prints its text and aborts the process.
    Abort,
}

/// What can be chosen before the first use.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Settings {
    /// Chip name, as `aclrtGetSocName` gives it.
    pub soc: String,
    /// Number of devices.
    pub devices: u32,
    /// Memory of each device in bytes; only accounted, host memory is taken as it is used.
    pub memory: u64,
    /// Seed and greatest length in microseconds of random delays before tasks.
    pub delay: Option<(u64, u64)>,
    /// What happens on violations.
    pub strictness: Strictness,
    /// Faults to inject, separated by `;`:
    /// `aclrtMalloc:3=207001` (the third call of a function returns a code), `aclrtMalloc:3+=207001` (each from the third on),
    /// `kernel:17=507015` (the 17th kernel fails on the device), `device-dies-after-launches=40` (then every call but destroy and
    /// reset fails with 507010; `=40:507015` for another code), `memory-limit=1048576`.
    pub faults: String,
    /// Keep a log of calls.
    pub log: bool,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            soc: String::from("Ascend910B3"),
            devices: 1,
            memory: 64 << 30,
            delay: None,
            strictness: Strictness::Report,
            faults: String::new(),
            log: false,
        }
    }
}

/// A setting that cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingsError {
    /// Which setting.
    pub setting: &'static str,
    /// Its value.
    pub got: String,
    /// What it should look like.
    pub wanted: &'static str,
}

impl fmt::Display for SettingsError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{} is `{}`, wanted {}",
            self.setting, self.got, self.wanted
        )
    }
}

impl std::error::Error for SettingsError {}

impl Settings {
    /// The settings that the environment asks for; what is not set or not understood keeps its default.
    pub fn from_environment() -> Settings {
        let mut settings = Settings::default();
        let read = |name: &str| std::env::var(name).ok();
        if let Some(soc) = read("ASCEND_EMULATOR_SOC") {
            settings.soc = soc;
        }
        if let Some(count) = read("ASCEND_EMULATOR_DEVICES").and_then(|text| text.parse().ok()) {
            settings.devices = count;
        }
        if let Some(memory) = read("ASCEND_EMULATOR_MEMORY").and_then(|text| bytes(&text)) {
            settings.memory = memory;
        }
        settings.delay = read("ASCEND_EMULATOR_DELAY").and_then(|text| {
            let (seed, length) = text.split_once(':')?;
            Some((seed.parse().ok()?, length.parse().ok()?))
        });
        settings.strictness = match read("ASCEND_EMULATOR_STRICT").as_deref() {
            Some("protect") => Strictness::Protect,
            Some("abort") => Strictness::Abort,
            _ => Strictness::Report,
        };
        settings.faults = read("ASCEND_EMULATOR_FAULTS").unwrap_or_default();
        settings.log = read("ASCEND_EMULATOR_LOG").is_some_and(|text| text != "0");
        if let Some(visible) = read("ASCEND_RT_VISIBLE_DEVICES") {
            let listed = visible
                .split(',')
                .map_while(|id| id.trim().parse::<u32>().ok())
                .filter(|&id| id < settings.devices)
                .count();
            settings.devices = u32::try_from(listed).unwrap_or(settings.devices);
        }
        settings
    }
}

/// A number of bytes with an optional suffix.
pub(crate) fn bytes(text: &str) -> Option<u64> {
    let (digits, shift) = match text.as_bytes().last()? {
        b'K' | b'k' => (&text[..text.len() - 1], 10),
        b'M' | b'm' => (&text[..text.len() - 1], 20),
        b'G' | b'g' => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    digits.trim().parse::<u64>().ok()?.checked_mul(1 << shift)
}
