//! Settings of the emulator and the only place where it reads the environment.
//!
//! Knows names and formats of settings; it must not know what anybody does with them.
//!
//! Each setting has a key in the file that `ASCEND_EMULATOR_CONFIG` names (a JSON object), and a variable
//! `ASCEND_EMULATOR_<KEY>`; the variable wins. A key or a value that is not understood makes every call fail with a text that
//! says so: nothing is ignored.
//!
//! | key, variable | meaning | default |
//! |---|---|---|
//! | `soc` | chip: `Ascend910A`, `Ascend910B1` to `Ascend910B4`, `Ascend910_9391` and the like, `Ascend310P3`, `Ascend310B1`, `Ascend950…`; `Ascend` may be left out | `Ascend910B3` |
//! | `devices` | number of devices, 1 to 64 | 1 |
//! | `memory` | bytes per device, suffix `K`, `M` or `G` allowed | the chip's: 24 to 128 GiB |
//! | `delay` | `seed:microseconds`: random delay before each task of a stream, up to that long | none |
//! | `latency` | microseconds that each task of a stream takes longer | 0 |
//! | `strict` | `report`, `protect` (device memory cannot be touched by host code) or `abort` (a violation prints a backtrace and ends the process) | `report` |
//! | `faults` | schedule of faults, see [`Settings::faults`]; in the file also a list | none |
//! | `disorder` | `1`: index_add, accumulating index_put and the gradient of embedding add in another order in each run, unless `ACL_OPT_DETERMINISTIC` is on | `0` |
//! | `log` | `1` keeps a log of calls in memory, a path writes it to that file, `stderr` prints it | off |
//! | `trace` | path of a Chrome trace of calls, kernels and copies; `%p` in it is the process id | none |
//! | `hccl_connect_timeout` | seconds that ranks wait for each other at start; over `HCCL_CONNECT_TIMEOUT`, without its limits | 120 |
//! | `hccl_exec_timeout` | seconds that a collective waits for its peers, 0 is forever; over `HCCL_EXEC_TIMEOUT`, without its limits | 1836 |
//!
//! CANN's own variables are read too: `ASCEND_RT_VISIBLE_DEVICES` (as many devices are visible as are listed and exist),
//! `HCCL_CONNECT_TIMEOUT`, `HCCL_EXEC_TIMEOUT`, `HCCL_BUFFSIZE`. Values of `HCCL_CONNECT_TIMEOUT` outside of CANN's range of
//! 120 to 7200 seconds are used as they are, since a test cannot wait two minutes, and booked as a violation.

use crate::kernel::Family;
use serde_json::{Map, Value};
use std::fmt;
use std::time::Duration;

/// How violations of the rules are met. Each is reported by error code and text, and kept for [`violations`](crate::violations).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Strictness {
    /// Report.
    #[default]
    Report,
    /// Report; device memory lies behind addresses that host code cannot read or write.
    Protect,
    /// As `Protect`, and a violation prints its text with a backtrace and aborts the process.
    Abort,
    /// As `Report`, but what real hardware does not notice goes on and is kept as a violation only: views with gaps that reach
    /// beyond the storage that their creator named, outputs that overlap an input partly. At both pass addresses that are not
    /// multiples of 32, views without gaps beyond that storage, outputs that overlap each other, and the bytes that the runtime
    /// adds to a device block.
    Lenient,
}

/// Where calls are logged.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Log {
    /// Nowhere.
    #[default]
    Off,
    /// In memory, for [`call_log`](crate::call_log).
    Memory,
    /// On the standard error output.
    Stderr,
    /// In a file.
    File(String),
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
    /// Time that each task of a stream takes longer.
    pub latency: Duration,
    /// What happens on violations.
    pub strictness: Strictness,
    /// Faults to inject, separated by `;`:
    /// `aclrtMalloc:3=207001` (the third call of a function returns a code), `aclrtMalloc:3+=207001` (each from the third on),
    /// `kernel:17=507015` (the 17th kernel fails on the device), `device-dies-after-launches=40` (then every call but destroy and
    /// reset fails with 507010; `=40:507015` for another code), `device-lost-at-launch=40` (likewise, until the device is reset),
    /// `memory-limit=1048576`.
    pub faults: String,
    /// Whether kernels that CANN calls non-deterministic are so.
    pub disorder: bool,
    /// Where calls are logged.
    pub log: Log,
    /// Path of a Chrome trace.
    pub trace: Option<String>,
    /// How long ranks wait for each other when they make a communicator.
    pub hccl_connect_timeout: Duration,
    /// How long a collective waits for its peers; `None` is forever.
    pub hccl_exec_timeout: Option<Duration>,
    /// Megabytes of each of the two exchange buffers of a communicator.
    pub hccl_buffer: u64,
    /// What is odd about variables of HCCL: CANN would refuse it.
    pub(crate) odd: Vec<String>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            soc: String::from("Ascend910B3"),
            devices: 1,
            memory: 64 << 30,
            delay: None,
            latency: Duration::ZERO,
            strictness: Strictness::Report,
            faults: String::new(),
            disorder: false,
            log: Log::Off,
            trace: None,
            hccl_connect_timeout: Duration::from_secs(120),
            hccl_exec_timeout: Some(Duration::from_secs(1836)),
            hccl_buffer: 200,
            odd: Vec::new(),
        }
    }
}

/// A setting that cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingsError {
    /// Which setting.
    pub setting: String,
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

/// The keys, and what their values look like.
const KEYS: [(&str, &str); 12] = [
    (
        "soc",
        "a chip name such as Ascend910B3, Ascend910_9391, Ascend910A, Ascend310P3, Ascend310B1 or Ascend950PR",
    ),
    ("devices", "a number from 1 to 64"),
    ("memory", "bytes, with an optional suffix K, M or G"),
    ("delay", "seed:microseconds"),
    ("latency", "microseconds"),
    ("strict", "report, protect, abort or lenient"),
    (
        "faults",
        "name:n=code, name:n+=code, kernel:n=code, device-dies-after-launches=n[:code], device-lost-at-launch=n[:code] or memory-limit=bytes, separated by ;",
    ),
    ("disorder", "0 or 1"),
    ("log", "0, 1, stderr or a path"),
    ("trace", "a path"),
    ("hccl_connect_timeout", "seconds, more than 0"),
    ("hccl_exec_timeout", "seconds, 0 for ever"),
];

const PREFIX: &str = "ASCEND_EMULATOR_";
const CONFIG: &str = "ASCEND_EMULATOR_CONFIG";

impl Settings {
    /// The settings that the environment and the file that it names ask for.
    ///
    /// # Errors
    /// When the file cannot be read, a key is unknown, or a value is not understood.
    pub fn from_environment() -> Result<Settings, SettingsError> {
        let variables: Vec<(String, String)> = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .filter(|(name, _)| name.starts_with("ASCEND_") || name.starts_with("HCCL_"))
            .collect();
        Settings::read(&variables, |path| std::fs::read_to_string(path))
    }

    fn read(
        variables: &[(String, String)],
        open: impl Fn(&str) -> std::io::Result<String>,
    ) -> Result<Settings, SettingsError> {
        let variable = |name: &str| {
            variables
                .iter()
                .find(|(known, _)| known == name)
                .map(|(_, value)| value.trim())
        };
        let mut settings = Settings::default();
        settings.read_hccl(&variable)?;
        let mut given = Vec::new();
        if let Some(path) = variable(CONFIG) {
            given = file(path, open)?;
        }
        for (name, value) in variables {
            if let Some(key) = name.strip_prefix(PREFIX).filter(|_| name != CONFIG) {
                given.push((name.clone(), key.to_lowercase(), value.trim().to_string()));
            }
        }
        for (setting, key, value) in &given {
            settings.set(setting, key, value)?;
        }
        if given.iter().all(|(_, key, _)| key != "memory") {
            settings.memory = usual_memory(&settings.soc);
        }
        if let Some(visible) = variable("ASCEND_RT_VISIBLE_DEVICES") {
            let listed = visible
                .split(',')
                .map_while(|id| id.trim().parse::<u32>().ok())
                .filter(|&id| id < settings.devices)
                .count();
            settings.devices = u32::try_from(listed).unwrap_or(settings.devices);
        }
        Ok(settings)
    }

    /// Sets one key; `setting` is how the user wrote it.
    fn set(&mut self, setting: &str, key: &str, value: &str) -> Result<(), SettingsError> {
        let Some((_, wanted)) = KEYS.iter().find(|entry| entry.0 == key) else {
            return Err(SettingsError {
                setting: setting.to_string(),
                got: value.to_string(),
                wanted: "no such setting; known are soc, devices, memory, delay, latency, strict, faults, disorder, log, trace, hccl_connect_timeout, hccl_exec_timeout",
            });
        };
        self.apply(key, value).ok_or_else(|| SettingsError {
            setting: setting.to_string(),
            got: value.to_string(),
            wanted,
        })
    }

    fn apply(&mut self, key: &str, value: &str) -> Option<()> {
        match key {
            "soc" => self.soc = chip(value)?,
            "devices" => {
                self.devices = value
                    .parse()
                    .ok()
                    .filter(|count| (1..=64).contains(count))?
            }
            "memory" => self.memory = bytes(value).filter(|&bytes| bytes > 0)?,
            "delay" => {
                let (seed, length) = value.split_once(':')?;
                self.delay = Some((seed.parse().ok()?, length.parse().ok()?));
            }
            "latency" => self.latency = Duration::from_micros(value.parse().ok()?),
            "strict" => {
                self.strictness = match value {
                    "report" => Strictness::Report,
                    "protect" => Strictness::Protect,
                    "abort" => Strictness::Abort,
                    "lenient" => Strictness::Lenient,
                    _ => return None,
                }
            }
            "faults" => {
                crate::ledger::Schedule::parse(value).ok()?;
                self.faults = value.to_string();
            }
            "disorder" => {
                self.disorder = match value {
                    "" | "0" => false,
                    "1" => true,
                    _ => return None,
                }
            }
            "log" => {
                self.log = match value {
                    "" | "0" => Log::Off,
                    "1" => Log::Memory,
                    "stderr" => Log::Stderr,
                    path => Log::File(path.to_string()),
                }
            }
            "trace" => self.trace = Some(value.to_string()).filter(|path| !path.is_empty()),
            "hccl_connect_timeout" => {
                self.hccl_connect_timeout = seconds(value).filter(|time| !time.is_zero())?;
            }
            "hccl_exec_timeout" => {
                self.hccl_exec_timeout = Some(seconds(value)?).filter(|time| !time.is_zero());
            }
            _ => return None,
        }
        Some(())
    }

    /// CANN's own variables.
    fn read_hccl<'a>(
        &mut self,
        variable: &impl Fn(&str) -> Option<&'a str>,
    ) -> Result<(), SettingsError> {
        let number = |name: &str, wanted: &'static str| match variable(name) {
            None | Some("") => Ok(None),
            Some(text) => text.parse::<u64>().map(Some).map_err(|_| SettingsError {
                setting: name.to_string(),
                got: text.to_string(),
                wanted,
            }),
        };
        let limits = "whole seconds from 120 to 7200";
        if let Some(time) = number("HCCL_CONNECT_TIMEOUT", limits)? {
            if !(120..=7200).contains(&time) {
                self.odd.push(format!(
                    "EI0001: HCCL_CONNECT_TIMEOUT is {time}, CANN takes {limits}"
                ));
            }
            self.hccl_connect_timeout = Duration::from_secs(time.max(1));
        }
        let limits = "whole seconds from 0 (for ever) to 2147483647";
        if let Some(time) = number("HCCL_EXEC_TIMEOUT", limits)? {
            self.hccl_exec_timeout = Some(Duration::from_secs(time)).filter(|time| !time.is_zero());
        }
        let limits = "megabytes, 1 or more";
        if let Some(buffer) = number("HCCL_BUFFSIZE", limits)? {
            self.hccl_buffer = buffer.max(1);
        }
        Ok(())
    }
}

/// The settings of a file: for each its name for texts, its key and its value as text.
fn file(
    path: &str,
    open: impl Fn(&str) -> std::io::Result<String>,
) -> Result<Vec<(String, String, String)>, SettingsError> {
    let refuse = |got: String, wanted| SettingsError {
        setting: format!("{CONFIG} ({path})"),
        got,
        wanted,
    };
    let text = open(path).map_err(|error| refuse(error.to_string(), "a file that can be read"))?;
    let object: Map<String, Value> = serde_json::from_str(&text)
        .map_err(|error| refuse(error.to_string(), "a JSON object with one key per setting"))?;
    let plain = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(on) => Some(String::from(if *on { "1" } else { "0" })),
        _ => None,
    };
    object
        .iter()
        .map(|(key, value)| {
            let text = match value {
                Value::Array(list) if key == "faults" => list
                    .iter()
                    .map(plain)
                    .collect::<Option<Vec<_>>>()
                    .map(|list| list.join(";")),
                value => plain(value),
            };
            let name = format!("{key} in {path}");
            match text {
                Some(text) => Ok((name, key.clone(), text)),
                None => Err(SettingsError {
                    setting: name,
                    got: value.to_string(),
                    wanted: "a text, a number or a list of faults",
                }),
            }
        })
        .collect()
}

/// A chip's full name, if it is one.
fn chip(name: &str) -> Option<String> {
    let model = name.strip_prefix("Ascend").unwrap_or(name);
    let digit = |rest: &str| rest.starts_with(|letter: char| letter.is_ascii_digit());
    let known = matches!(
        model,
        "910" | "910A" | "910B" | "910ProA" | "910ProB" | "910PremiumA" | "910_93"
    ) || model.strip_prefix("910B").is_some_and(digit)
        || model.strip_prefix("910_93").is_some_and(digit)
        || matches!(model, "310P" | "310B" | "950")
        || model.strip_prefix("310P").is_some_and(digit)
        || model.strip_prefix("310B").is_some_and(digit)
        || model
            .strip_prefix("950")
            .is_some_and(|rest| rest.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'));
    let full = match model {
        "910_93" => "910_9391",
        "310P" => "310P3",
        "310B" => "310B1",
        "950" => "950PR_9599",
        other => other,
    };
    known.then(|| format!("Ascend{full}"))
}

/// The memory of a chip's usual card.
fn usual_memory(soc: &str) -> u64 {
    let gigabytes = match crate::state::family(soc) {
        Family::A2 if soc.starts_with("Ascend910B4") => 32,
        Family::A2 | Family::A3 => 64,
        Family::A950 => 128,
        Family::A910 => 32,
        Family::P310 => 24,
        Family::B310 => 12,
    };
    gigabytes << 30
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

/// A time in seconds, with a fraction.
fn seconds(text: &str) -> Option<Duration> {
    let number = text.parse::<f64>().ok()?;
    Duration::try_from_secs_f64(number).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)], text: &str) -> Result<Settings, SettingsError> {
        let variables: Vec<(String, String)> = variables
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_string()))
            .collect();
        Settings::read(&variables, |path| match path {
            "set.json" => Ok(text.to_string()),
            _ => Err(std::io::ErrorKind::NotFound.into()),
        })
    }

    const FILE: (&str, &str) = (CONFIG, "set.json");

    #[test]
    fn the_file_is_read_and_variables_win() {
        let text = r#"{"soc": "910B1", "devices": 4, "memory": "2G", "latency": 20, "delay": "7:100", "strict": "protect",
            "faults": ["kernel:3=507015", "aclrtMalloc:1=207001"], "log": true, "trace": "t.json", "hccl_exec_timeout": 0.5}"#;
        let settings = read(&[FILE, ("ASCEND_EMULATOR_DEVICES", "2")], text).expect("understood");
        assert_eq!(
            (settings.soc.as_str(), settings.devices, settings.memory),
            ("Ascend910B1", 2, 2 << 30)
        );
        assert_eq!(
            (settings.latency, settings.delay),
            (Duration::from_micros(20), Some((7, 100)))
        );
        assert_eq!(
            (settings.strictness, settings.log),
            (Strictness::Protect, Log::Memory)
        );
        assert_eq!(settings.faults, "kernel:3=507015;aclrtMalloc:1=207001");
        assert_eq!(settings.trace.as_deref(), Some("t.json"));
        assert_eq!(settings.hccl_exec_timeout, Some(Duration::from_millis(500)));
    }

    #[test]
    fn chips_bring_their_memory() {
        let memory = |soc: &str| {
            read(&[("ASCEND_EMULATOR_SOC", soc)], "")
                .expect("a chip")
                .memory
                >> 30
        };
        let chips = [
            "910A",
            "910B1",
            "910B4",
            "Ascend910_9391",
            "310P",
            "310B",
            "950",
        ];
        assert_eq!(chips.map(memory), [32, 64, 32, 64, 24, 12, 128]);
    }

    #[test]
    fn what_is_not_understood_is_an_error() {
        let why = |variables: &[(&str, &str)], text: &str| {
            read(variables, text).expect_err("refused").to_string()
        };
        assert!(
            why(&[("ASCEND_EMULATOR_SOC", "H100")], "")
                .contains("ASCEND_EMULATOR_SOC is `H100`, wanted a chip")
        );
        assert!(why(&[("ASCEND_EMULATOR_SPEED", "9")], "").contains("no such setting"));
        assert!(
            why(&[FILE], r#"{"sock": 1}"#)
                .contains("sock in set.json is `1`, wanted no such setting")
        );
        assert!(
            why(&[FILE], r#"{"devices": 0}"#)
                .contains("devices in set.json is `0`, wanted a number from 1")
        );
        assert!(why(&[FILE], r#"{"soc": null}"#).contains("wanted a text"));
        assert!(why(&[FILE], "[1]").contains("wanted a JSON object"));
        assert!(why(&[(CONFIG, "none.json")], "").contains("none.json"));
        assert!(why(&[("ASCEND_EMULATOR_FAULTS", "kernel=1")], "").contains("kernel:n=code"));
        assert!(why(&[("HCCL_EXEC_TIMEOUT", "soon")], "").contains("HCCL_EXEC_TIMEOUT is `soon`"));
    }

    #[test]
    fn variables_of_hccl_are_read() {
        let settings = read(
            &[("HCCL_CONNECT_TIMEOUT", "5"), ("HCCL_EXEC_TIMEOUT", "0")],
            "",
        )
        .expect("understood");
        assert_eq!(settings.hccl_connect_timeout, Duration::from_secs(5));
        assert_eq!((settings.hccl_exec_timeout, settings.odd.len()), (None, 1));
        let settings = read(
            &[
                ("HCCL_BUFFSIZE", "64"),
                ("ASCEND_RT_VISIBLE_DEVICES", "0,5"),
            ],
            "",
        )
        .expect("understood");
        assert_eq!((settings.hccl_buffer, settings.devices), (64, 1));
    }
}
