//! The book of calls: counters by function, injected faults, the call log and the violations found.
//!
//! Knows names and numbers of calls; it must not know what the calls do.

use crate::failure::Failure;
use crate::settings::{Log, SettingsError, bytes};
use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A call: the function's name and its number among all calls since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Site {
    pub name: &'static str,
    pub number: u64,
}

impl std::fmt::Display for Site {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} (call {})", self.name, self.number)
    }
}

/// One line of a fault schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Planned {
    from: u64,
    repeat: bool,
    code: i32,
}

/// A parsed fault schedule.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Schedule {
    calls: HashMap<String, Vec<Planned>>,
    /// Launches after which the device dies, and the code from then on.
    pub death: Option<(u64, i32)>,
    /// The launch at which the device is lost until a reset, and the code.
    pub loss: Option<(u64, i32)>,
    pub memory_limit: Option<u64>,
}

impl Schedule {
    pub fn parse(text: &str) -> Result<Schedule, SettingsError> {
        let mut schedule = Schedule::default();
        for entry in text
            .split(';')
            .map(str::trim)
            .filter(|entry| !entry.is_empty())
        {
            schedule.add(entry).ok_or_else(|| SettingsError {
                setting: String::from("faults"),
                got: entry.to_string(),
                wanted: "name:n=code, name:n+=code, device-dies-after-launches=n[:code], device-lost-at-launch=n[:code] or memory-limit=bytes",
            })?;
        }
        Ok(schedule)
    }

    fn add(&mut self, entry: &str) -> Option<()> {
        let (what, value) = entry.split_once('=')?;
        match what {
            "device-dies-after-launches" | "device-lost-at-launch" => {
                let (count, code) = value.split_once(':').unwrap_or((value, "507010"));
                let planned = Some((count.parse().ok()?, code.parse().ok()?));
                if what == "device-lost-at-launch" {
                    self.loss = planned;
                } else {
                    self.death = planned;
                }
            }
            "memory-limit" => self.memory_limit = Some(bytes(value)?),
            _ => {
                let (what, repeat) = match what.strip_suffix('+') {
                    Some(rest) => (rest, true),
                    None => (what, false),
                };
                let (name, from) = what.split_once(':')?;
                self.calls
                    .entry(name.to_string())
                    .or_default()
                    .push(Planned {
                        from: from.parse().ok()?,
                        repeat,
                        code: value.parse().ok()?,
                    });
            }
        }
        Some(())
    }

    fn planned(&self, name: &str, count: u64) -> Option<i32> {
        if self.calls.is_empty() {
            return None;
        }
        let hits = |plan: &&Planned| count == plan.from || (plan.repeat && count > plan.from);
        self.calls
            .get(name)?
            .iter()
            .find(hits)
            .map(|plan| plan.code)
    }
}

#[derive(Default)]
struct Ledger {
    total: u64,
    counts: HashMap<&'static str, u64>,
    kernels: u64,
    schedule: Schedule,
    log: Option<VecDeque<String>>,
    log_file: Option<File>,
    log_prints: bool,
    violations: Vec<String>,
}

impl Ledger {
    fn log(&mut self, line: &str) {
        if let Some(log) = &mut self.log {
            if log.len() == LOG_LIMIT {
                log.pop_front();
            }
            log.push_back(line.to_string());
        }
        if let Some(file) = &mut self.log_file {
            let _ = writeln!(file, "{line}");
        }
        if self.log_prints {
            eprintln!("ascend-emulator: {line}");
        }
    }
}

const LOG_LIMIT: usize = 100_000;

static LEDGER: Mutex<Option<Ledger>> = Mutex::new(None);

fn with<R>(work: impl FnOnce(&mut Ledger) -> R) -> R {
    let mut guard: MutexGuard<Option<Ledger>> =
        LEDGER.lock().unwrap_or_else(PoisonError::into_inner);
    work(guard.get_or_insert_default())
}

/// Empties the book and sets a schedule. A log file that cannot be opened is an error; then nothing changes.
pub(crate) fn restart(schedule: Schedule, log: &Log) -> std::io::Result<()> {
    let log_file = match log {
        Log::File(path) => Some(File::create(
            path.replace("%p", &std::process::id().to_string()),
        )?),
        _ => None,
    };
    with(|ledger| {
        *ledger = Ledger {
            schedule,
            log: (*log == Log::Memory).then(VecDeque::new),
            log_file,
            log_prints: *log == Log::Stderr,
            ..Ledger::default()
        };
    });
    Ok(())
}

/// Replaces the schedule; counts in it start from now on.
pub(crate) fn set_schedule(schedule: Schedule) {
    with(|ledger| {
        ledger.schedule = schedule;
        ledger.counts.clear();
        ledger.kernels = 0;
    });
}

pub(crate) fn memory_limit() -> Option<u64> {
    with(|ledger| ledger.schedule.memory_limit)
}

/// Books one call; gives the fault that is planned for it.
pub(crate) fn book(name: &'static str) -> (Site, Option<Failure>) {
    with(|ledger| {
        ledger.total += 1;
        let count = ledger.counts.entry(name).or_insert(0);
        *count += 1;
        let fault = ledger
            .schedule
            .planned(name, *count)
            .map(|code| Failure::new(code, format!("{name}: injected at call {count}")));
        let site = Site {
            name,
            number: ledger.total,
        };
        ledger.log(&site.to_string());
        (site, fault)
    })
}

/// Notes in the call log that a call failed.
pub(crate) fn book_failure(site: Site, failure: &Failure) {
    with(|ledger| {
        ledger.log(&format!(
            "{site} failed with {}: {}",
            failure.code, failure.text
        ))
    });
}

/// Books one kernel launch: the fault that its task meets on the device, and whether the device dies or is lost with it.
pub(crate) fn book_kernel(name: &str) -> (Option<Failure>, Option<i32>) {
    with(|ledger| {
        ledger.kernels += 1;
        let count = ledger.kernels;
        let fault = ledger
            .schedule
            .planned("kernel", count)
            .map(|code| Failure::new(code, format!("{name}: injected at kernel {count}")));
        let death = ledger
            .schedule
            .death
            .and_then(|(limit, code)| (count > limit).then_some(code));
        let loss = ledger.schedule.loss;
        let loss = loss.and_then(|(at, code)| (count == at).then_some(code));
        (fault, death.or(loss))
    })
}

/// Keeps a violation of the rules.
pub(crate) fn violation(text: String) {
    with(|ledger| {
        if ledger.violations.len() < LOG_LIMIT {
            ledger.violations.push(text);
        }
    });
}

/// How often a C function was called since the start or the last reset.
pub fn calls(name: &str) -> u64 {
    with(|ledger| ledger.counts.get(name).copied().unwrap_or(0))
}

/// All functions that were called, with their counts, by name.
pub fn all_calls() -> Vec<(&'static str, u64)> {
    let mut counts: Vec<_> = with(|ledger| {
        ledger
            .counts
            .iter()
            .map(|(name, count)| (*name, *count))
            .collect()
    });
    counts.sort_unstable();
    counts
}

/// Kernels launched (second phases that put work on a stream, graph replays not counted).
pub fn kernel_launches() -> u64 {
    with(|ledger| ledger.kernels)
}

/// The call log, oldest first; empty unless switched on.
pub fn call_log() -> Vec<String> {
    with(|ledger| ledger.log.iter().flatten().cloned().collect())
}

/// Violations that real hardware would not have reported, oldest first: use after free, overlapping copies and the like.
pub fn violations() -> Vec<String> {
    with(|ledger| ledger.violations.clone())
}
