//! Every op of the catalog on larger inputs, shared out to threads: the same bits whatever their number, and no more memory than
//! inputs, outputs and the stated workspace.
//!
//! An op whose attributes fit only its small samples is left out, and counted. `ASCEND_TENSOR_ENLARGED_ONLY` takes a
//! comma-separated list of ops.

#[path = "enlarged/calls.rs"]
mod calls;

use std::sync::Mutex;

use ascend_tensor::{
    CpuOptions, DType, Device, OpInfo, Result, Sample, Tensor, cpu_memory, dispatch, manual_seed,
    no_grad, reset_cpu_memory_peak, trim_cpu_memory,
};
use calls::{Ways, for_all, run};

fn bytes(x: &Tensor) -> Result<Vec<u64>> {
    if x.dtype() == DType::I64 {
        return Ok(x
            .to_vec::<i64>()?
            .into_iter()
            .map(i64::cast_unsigned)
            .collect());
    }
    let values = x.to_f64_vec()?;
    Ok(values
        .into_iter()
        .map(|value| if value.is_nan() { 1 } else { value.to_bits() })
        .collect())
}

fn bits(results: &[Tensor]) -> Result<Vec<Vec<u64>>> {
    results.iter().map(bytes).collect()
}

/// The settings are the process's: one test at a time.
static ONE: Mutex<()> = Mutex::new(());

/// Whether only some ops were asked for.
fn is_partial() -> bool {
    std::env::var_os("ASCEND_TENSOR_ENLARGED_ONLY").is_some()
}

#[test]
#[ignore = "minutes in a debug build; run it in release"]
fn results_do_not_depend_on_the_number_of_threads() -> Result<()> {
    let one = ONE.lock();
    let mut failed = Vec::new();
    let mut differ = |op: &OpInfo, sample: &Sample, dtype: DType, inputs: &[Tensor]| {
        let mut results = Vec::new();
        for threads in [1, 2, 3, 7] {
            let applied = CpuOptions::new().threads(threads).apply();
            let got = applied.and_then(|()| bits(&run(sample, inputs)?));
            match got {
                Ok(got) => results.push(got),
                Err(error) => failed.push(format!("{} {:?} {dtype}: {error}", op.name, sample.op)),
            }
        }
        if results.windows(2).any(|pair| pair[0] != pair[1]) {
            failed.push(format!("{} {:?} {dtype}", op.name, sample.op));
        }
    };
    let (met, left) = for_all(Ways::First, &mut differ);
    println!("{met} ops; not enlarged: {}", left.join(" "));
    drop(one);
    assert!(failed.is_empty(), "{failed:#?}");
    assert!(met > 200 || is_partial(), "only {met} ops");
    Ok(())
}

#[test]
#[ignore = "minutes in a debug build; run it in release"]
fn ops_take_no_more_memory_than_stated() -> Result<()> {
    let one = ONE.lock();
    CpuOptions::new().threads(2).apply()?;
    let mut failed = Vec::new();
    let (met, _) = for_all(Ways::First, |op, sample, dtype, inputs| {
        let views: Vec<&Tensor> = inputs.iter().collect();
        trim_cpu_memory();
        manual_seed(7);
        let before = cpu_memory().in_use;
        reset_cpu_memory_peak();
        let outputs = no_grad(|| dispatch::run(sample.op.as_ref(), &views));
        let after = cpu_memory();
        let made = outputs.unwrap_or_default();
        let elements = |x: &Tensor| x.shape().elements();
        let all: usize = inputs.iter().chain(made.iter()).map(elements).sum();
        let workspace = after.peak - after.in_use.max(before);
        let most = stated(op.name) * all * size_of::<f32>() * 9 / 8 + (256 << 10);
        if workspace > most {
            let name = format!("{} {dtype} {:?}", op.name, sample.op);
            failed.push(format!(
                "{name}: {workspace} bytes for {all} elements, stated {most}"
            ));
        }
    });
    drop(one);
    println!("{met} ops");
    assert!(failed.is_empty(), "{failed:#?}");
    assert!(met > 200 || is_partial(), "only {met} ops");
    Ok(())
}

/// The workspace of an op in the documentation's table, as a multiple of its inputs and outputs.
fn stated(op: &str) -> usize {
    let table = include_str!("../src/docs/memory.md");
    let rows = table.lines().filter_map(|line| {
        let (times, ops) = line.strip_prefix("| ")?.split_once(" | ")?;
        let named = ops.split_whitespace().any(|name| name == op);
        times.parse::<usize>().ok().filter(|_| named)
    });
    rows.max().unwrap_or(0)
}

#[test]
fn the_cache_is_bounded_and_given_back() -> Result<()> {
    let one = ONE.lock();
    let limit = cpu_memory().limit;
    CpuOptions::new().cache_limit(3 << 20).apply()?;
    let held: Vec<Tensor> = (0..8)
        .map(|_| Tensor::zeros([1 << 18], DType::F32, Device::Cpu))
        .collect::<Result<_>>()?;
    let before = cpu_memory();
    assert!(before.in_use >= 8 << 20 && before.limit == 3 << 20);
    drop(held);
    let after = cpu_memory();
    assert!(after.cached > 0 && after.cached <= 3 << 20, "{after:?}");
    assert!(after.in_use <= before.in_use - (8 << 20), "{after:?}");
    trim_cpu_memory();
    assert_eq!(cpu_memory().cached, 0);
    CpuOptions::new().cache_limit(limit).apply()?;
    drop(one);
    Ok(())
}
