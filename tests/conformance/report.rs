//! The report: one line per op, the failures, and a total.
//!
//! Knows counts and texts only.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

use ascend_tensor::Device;

/// How one case ended on one device.
pub enum Outcome {
    Passed,
    Failed(String),
    /// CANN has no kernel for a dtype: the text names the row of its dtype table.
    Ruled(String),
    /// The op does not exist yet.
    NotYet,
}

#[derive(Default)]
struct Count {
    total: usize,
    passed: usize,
    ruled: usize,
    not_yet: usize,
}

/// All outcomes.
pub struct Report {
    devices: Vec<Device>,
    ops: BTreeMap<String, Vec<Count>>,
    failures: Vec<String>,
    ruled: BTreeMap<String, usize>,
}

impl Report {
    pub fn new(devices: &[Device]) -> Self {
        Report {
            devices: devices.to_vec(),
            ops: BTreeMap::new(),
            failures: Vec::new(),
            ruled: BTreeMap::new(),
        }
    }

    pub fn add(&mut self, op: &str, case: &str, device: Device, outcome: Outcome) {
        let Some(index) = self.devices.iter().position(|own| *own == device) else {
            return;
        };
        let devices = self.devices.len();
        let counts = self
            .ops
            .entry(op.to_string())
            .or_insert_with(|| (0..devices).map(|_| Count::default()).collect());
        let count = &mut counts[index];
        count.total += 1;
        match outcome {
            Outcome::Passed => count.passed += 1,
            Outcome::NotYet => count.not_yet += 1,
            Outcome::Ruled(row) => {
                count.ruled += 1;
                *self
                    .ruled
                    .entry(format!("{op} on {device}: {row}"))
                    .or_default() += 1;
            }
            Outcome::Failed(why) => self
                .failures
                .push(format!("{op} {case} on {device}: {why}")),
        }
    }

    pub fn broken(&mut self, file: &Path, why: &str) {
        self.failures.push(format!("{}: {why}", file.display()));
    }

    /// Prints everything; success only if no case failed.
    pub fn print(&self) -> ExitCode {
        let mut totals: Vec<Count> = self.devices.iter().map(|_| Count::default()).collect();
        for (op, counts) in &self.ops {
            println!("{op} {}", self.line(counts));
            for (total, count) in totals.iter_mut().zip(counts) {
                total.total += count.total;
                total.passed += count.passed;
                total.ruled += count.ruled;
                total.not_yet += count.not_yet;
            }
        }
        let missing: Vec<&str> = self
            .ops
            .iter()
            .filter(|(_, counts)| counts[0].not_yet > 0)
            .map(|(op, _)| op.as_str())
            .collect();
        if !missing.is_empty() {
            println!("not yet ({} ops): {}", missing.len(), missing.join(" "));
        }
        for (row, count) in &self.ruled {
            println!("no CANN kernel ({count} cases): {row}");
        }
        for failure in &self.failures {
            println!("FAILED {failure}");
        }
        println!("total {}", self.line(&totals));
        let passed: usize = totals.iter().map(|count| count.passed).sum();
        let skipped: usize = totals.iter().map(|count| count.ruled + count.not_yet).sum();
        println!(
            "{passed} passed, {} failed, {skipped} skipped",
            self.failures.len()
        );
        if self.failures.is_empty() && passed > 0 {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        }
    }

    fn line(&self, counts: &[Count]) -> String {
        let one = |(device, count): (&Device, &Count)| {
            let name = if device.is_cpu() { "cpu" } else { "ascend" };
            let mut text = format!("{}/{} on {name}", count.passed, count.total);
            if count.ruled > 0 {
                text += &format!(" ({} without a CANN kernel)", count.ruled);
            }
            if count.not_yet > 0 {
                text += &format!(" ({} not yet)", count.not_yet);
            }
            text
        };
        self.devices
            .iter()
            .zip(counts)
            .map(one)
            .collect::<Vec<_>>()
            .join(", ")
    }
}
