//! Every op of the catalog, forward and backward, with little more address space than the process has: a value, or an error
//! that says that there is no memory.
//!
//! A child runs the ops, for what is not mended ends the process; its last line then names the op.

use std::process::Command;

use ascend_tensor::{
    CpuOptions, DType, OpInfo, Result, Sample, Tensor, Writes, dispatch, manual_seed, no_grad,
    trim_cpu_memory,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::calls::{Ways, for_all, gradients};

/// Set in the process that runs the ops.
const CHILD: &str = "ASCEND_TENSOR_TEST_LIMITED_CATALOG";

/// KiB beyond what the process has: first less than the reserve that memory of tensors leaves free, then more and more than it.
const ROOMS: [usize; 6] = [3 << 10, 4200, 4500, 5 << 10, 6 << 10, 10 << 10];

/// Bytes beyond what the process has for the call before those with limits: what takes more would be refused with every one of
/// them, and takes minutes to fill.
const USUAL: usize = 512 << 20;

/// Bytes of address space that this process has.
fn mapped() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = text.split_whitespace().next();
    pages
        .and_then(|pages| pages.parse::<usize>().ok())
        .unwrap_or(0)
        * rustix::param::page_size()
}

/// Runs `body` with so much address space more than the process has now.
fn limited<T>(room: usize, body: impl FnOnce() -> T) -> T {
    let before = getrlimit(Resource::As);
    let limit = Rlimit {
        current: Some((mapped() + room) as u64),
        maximum: before.maximum,
    };
    setrlimit(Resource::As, limit).expect("a lower limit may be set");
    let result = body();
    setrlimit(Resource::As, before).expect("the limit before may be set");
    result
}

fn forward(sample: &Sample, inputs: &[Tensor]) -> Result<()> {
    let views: Vec<&Tensor> = inputs.iter().collect();
    manual_seed(7);
    no_grad(|| dispatch::run(sample.op.as_ref(), &views)).map(drop)
}

/// The inputs with their last two dims turned in memory, so that kernels meet strides.
fn turned(inputs: &[Tensor]) -> Result<Vec<Tensor>> {
    let turn = |x: &Tensor| match x.dims().len() {
        0 | 1 => Ok(x.clone()),
        _ => x.transpose(-1, -2)?.contiguous()?.transpose(-1, -2),
    };
    inputs.iter().map(turn).collect()
}

/// What the child counts.
#[derive(Default)]
struct Counts {
    calls: usize,
    refused: usize,
}

impl Counts {
    fn call(&mut self, name: &str, body: impl Fn() -> Result<()>) {
        let usual = body().is_ok();
        for room in ROOMS {
            trim_cpu_memory();
            let result = limited(room << 10, &body);
            self.calls += 1;
            match result {
                Ok(()) => {}
                Err(error) if error.is_out_of_memory() => self.refused += 1,
                Err(error) => assert!(!usual, "{name}: {error}"),
            }
        }
    }

    fn op(&mut self, op: &OpInfo, sample: &Sample, dtype: DType, inputs: &[Tensor]) {
        // What ended the process is the last line.
        println!("{} {dtype} {:?}", op.name, inputs.first().map(Tensor::dims));
        self.call(op.name, || forward(sample, inputs));
        if sample.op.writes() != Writes::NOTHING {
            return;
        }
        self.call(op.name, || gradients(sample, inputs).map(drop));
        if let Ok(turned) = turned(inputs) {
            self.call(op.name, || forward(sample, &turned));
        }
    }
}

/// In the child: all ops that the environment asks for.
fn all(ways: Ways) -> Result<()> {
    CpuOptions::new().threads(2).apply()?;
    let mut counts = Counts::default();
    let (met, left) = limited(USUAL, || {
        for_all(ways, |op, sample, dtype, inputs| {
            counts.op(op, sample, dtype, inputs)
        })
    });
    println!(
        "ops {met} calls {} refused {}",
        counts.calls, counts.refused
    );
    // An op that the limit of the first calls left out would go unseen.
    let named = std::env::var_os("ASCEND_TENSOR_ENLARGED_ONLY").is_some();
    assert!(met > 200 || named && left.is_empty(), "left out: {left:?}");
    assert!(counts.refused > 0);
    Ok(())
}

/// Runs some ops, or all, in a process of its own.
fn in_a_child(test: &str, only: &str, ways: Ways) -> Result<()> {
    if std::env::var_os(CHILD).is_some() {
        return all(ways);
    }
    let own = std::env::current_exe().expect("a test has a path");
    let mut command = Command::new(own);
    command.args(["--exact", test, "--nocapture", "--include-ignored"]);
    if !only.is_empty() {
        command.env("ASCEND_TENSOR_ENLARGED_ONLY", only);
    }
    let output = command.env(CHILD, "1").output().expect("a process");
    let text = String::from_utf8_lossy(&output.stdout);
    let last: Vec<&str> = text.lines().rev().take(12).collect();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{last:#?}\n{errors}");
    println!(
        "{}",
        text.lines()
            .find(|line| line.starts_with("ops "))
            .unwrap_or_default()
    );
    Ok(())
}

#[test]
fn ops_of_each_kind_meet_their_limits() -> Result<()> {
    in_a_child(
        "catalog::ops_of_each_kind_meet_their_limits",
        "cumsum,index_put,moe_token_permute",
        Ways::First,
    )
}

#[test]
#[ignore = "minutes in a debug build; run it in release"]
fn every_op_meets_its_limits() -> Result<()> {
    in_a_child("catalog::every_op_meets_its_limits", "", Ways::All)
}
