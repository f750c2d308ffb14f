//! Times the CPU backend on a list of workloads, one JSON line for each.
//!
//! `bench workloads.json [--only a,b] [--threads n] [--min-time seconds] [--quiet-wait seconds]`. A workload is an op with the
//! shapes, dtypes and attributes of a call; `--only` takes substrings of ids, or group names. Lines go to standard output,
//! everything else to standard error. `DSMINI_LOSS=1` prints the first three losses of the train step.

mod calls;
mod dsmini;
mod measure;
mod workload;

use std::error::Error;

use ascend_tensor::CpuOptions;
use measure::{Timing, time, wait_until_quiet};
use workload::Workload;

/// What the command line asks for.
struct Request {
    path: String,
    only: Vec<String>,
    threads: usize,
    min_time: f64,
    quiet_wait: f64,
}

impl Request {
    fn from_arguments() -> Result<Self, Box<dyn Error>> {
        let mut request = Request {
            path: String::new(),
            only: Vec::new(),
            threads: 2,
            min_time: 0.3,
            quiet_wait: 0.0,
        };
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            let mut value = || {
                arguments
                    .next()
                    .ok_or_else(|| format!("{argument} needs a value"))
            };
            match argument.as_str() {
                "--only" => request.only = value()?.split(',').map(str::to_string).collect(),
                "--threads" => request.threads = value()?.parse()?,
                "--min-time" => request.min_time = value()?.parse()?,
                "--quiet-wait" => request.quiet_wait = value()?.parse()?,
                flag if flag.starts_with("--") => {
                    return Err(format!("unknown option {flag}").into());
                }
                path => request.path = path.to_string(),
            }
        }
        if request.path.is_empty() {
            return Err("the path of workloads.json is missing".into());
        }
        Ok(request)
    }

    fn wants(&self, workload: &Workload) -> bool {
        self.only.is_empty()
            || self
                .only
                .iter()
                .any(|word| workload.id.contains(word.as_str()) || workload.group == *word)
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let request = Request::from_arguments()?;
    CpuOptions::new().threads(request.threads).apply()?;
    for workload in workload::read(&request.path)? {
        if !request.wants(&workload) {
            continue;
        }
        let call = match calls::prepare(&workload) {
            Ok(Some(call)) => call,
            Ok(None) => {
                eprintln!("{}: no such op", workload.id);
                continue;
            }
            Err(error) => {
                eprintln!("{}: {error}", workload.id);
                continue;
            }
        };
        wait_until_quiet(request.quiet_wait);
        match time(call, request.min_time) {
            Ok(Timing {
                median,
                least,
                repetitions,
            }) => println!(
                r#"{{"id":"{}","peer":"ascend-tensor","median_ns":{median:.0},"min_ns":{least:.0},"reps":{repetitions},"threads":{}}}"#,
                workload.id, request.threads
            ),
            Err(error) => eprintln!("{}: {error}", workload.id),
        }
    }
    Ok(())
}
