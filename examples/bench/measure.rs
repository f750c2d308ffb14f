//! The clock: how a call is warmed up, repeated and summed up.
//!
//! Knows times only. Must not know what is called.

use std::time::{Duration, Instant};

use ascend_tensor::Result;

/// A prepared call.
pub type Call = Box<dyn FnMut() -> Result<()>>;

/// Nanoseconds of one call.
pub struct Timing {
    pub median: f64,
    pub least: f64,
    pub repetitions: usize,
}

/// Warms up for a tenth of a second, then takes samples until `min_time` seconds and five samples are there (but no longer
/// than ten times that). Calls under 50 us are repeated within a sample.
pub fn time(mut call: Call, min_time: f64) -> Result<Timing> {
    let start = Instant::now();
    let mut count = 0;
    while count < 1 || (start.elapsed().as_secs_f64() < 0.1 && count < 1000) {
        call()?;
        count += 1;
    }
    let start = Instant::now();
    call()?;
    let once = start.elapsed().as_secs_f64();
    let inner = ((50e-6 / once.max(1e-9)) as usize).clamp(1, 10_000);
    let (mut samples, mut total) = (Vec::new(), 0.0);
    while total < min_time || (samples.len() < 5 && total < 10.0 * min_time) {
        let start = Instant::now();
        for _ in 0..inner {
            call()?;
        }
        let taken = start.elapsed().as_secs_f64();
        samples.push(taken / inner as f64 * 1e9);
        total += taken;
    }
    samples.sort_by(f64::total_cmp);
    Ok(Timing {
        median: samples[samples.len() / 2],
        least: samples[0],
        repetitions: samples.len() * inner,
    })
}

/// Waits, at most so many seconds, until all processes together use less than an eighth of the CPUs.
pub fn wait_until_quiet(seconds: f64) {
    let start = Instant::now();
    while start.elapsed().as_secs_f64() < seconds {
        let (busy, total) = processor_time();
        std::thread::sleep(Duration::from_millis(150));
        let (busy_after, total_after) = processor_time();
        let share = (busy_after - busy) as f64 / (total_after - total).max(1) as f64;
        if share < 0.12 {
            return;
        }
    }
}

/// The ticks of all CPUs since the start of the system: busy ones, and all.
fn processor_time() -> (u64, u64) {
    let text = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let line = text.lines().next().unwrap_or_default();
    let ticks: Vec<u64> = line
        .split_whitespace()
        .skip(1)
        .take(8)
        .filter_map(|tick| tick.parse().ok())
        .collect();
    let total: u64 = ticks.iter().sum();
    let idle: u64 = ticks.iter().skip(3).take(2).sum();
    (total - idle, total)
}
