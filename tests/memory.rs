//! Memory of the CPU backend in the long run and under a limit.

#![cfg(target_os = "linux")]

#[path = "enlarged/calls.rs"]
mod calls;
#[path = "memory/catalog.rs"]
mod catalog;
#[path = "memory/limits.rs"]
mod limits;

use std::process::Command;

use ascend_tensor::{
    AdamOptions, AdamState, DType, Device, Result, Tensor, cpu_memory, no_grad, trim_cpu_memory,
};

/// KiB of this process that are in memory.
fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse().ok())
        .unwrap_or(0)
}

/// A step of a small network: forward, backward, AdamW.
fn step(weights: &mut [Tensor; 2], states: &mut [AdamState; 2], number: i64) -> Result<f32> {
    let x = Tensor::full([16, 32], 0.5f32, Device::Cpu)?;
    let y = x.matmul(&weights[0])?.tanh()?.matmul(&weights[1])?;
    let loss = y.sub(1.0)?.square()?.mean(())?;
    let gradients = loss.backward()?;
    for (weight, state) in weights.iter_mut().zip(states) {
        if let Some(gradient) = gradients.get(weight) {
            no_grad(|| weight.adamw_step_(gradient, state, number, AdamOptions::new()))?;
        }
    }
    loss.item()
}

#[test]
fn a_thousand_steps_keep_their_memory() -> Result<()> {
    let weight =
        |rows, columns| Tensor::full([rows, columns], 0.01f32, Device::Cpu)?.requires_grad();
    let mut weights = [weight(32, 64)?, weight(64, 8)?];
    let mut states = [
        AdamState::zeros(&weights[0])?,
        AdamState::zeros(&weights[1])?,
    ];
    let first = step(&mut weights, &mut states, 1)?;
    for number in 2..=200 {
        step(&mut weights, &mut states, number)?;
    }
    let early = resident();
    let mut last = first;
    for number in 201..=1200 {
        last = step(&mut weights, &mut states, number)?;
    }
    let late = resident();
    println!("{early} KiB after 200 steps, {late} KiB after 1200");
    assert!(last < first, "{first} {last}");
    assert!(late <= early + 1024, "{early} KiB, then {late} KiB");
    Ok(())
}

/// Set in the process that runs under a limit.
const LIMITED: &str = "ASCEND_TENSOR_TEST_UNDER_A_LIMIT";

#[test]
fn under_a_limit_ops_fail_as_errors_and_the_process_lives() -> Result<()> {
    if std::env::var_os(LIMITED).is_some() {
        return to_the_limit();
    }
    let own = std::env::current_exe().expect("a test has a path");
    let name = "under_a_limit_ops_fail_as_errors_and_the_process_lives";
    let status = Command::new("sh")
        .args(["-c", "ulimit -v 700000; exec \"$0\" \"$@\""])
        .arg(own)
        .args(["--exact", name, "--nocapture"])
        .env(LIMITED, "1")
        .status()
        .expect("a shell");
    assert!(status.success(), "{status}");
    Ok(())
}

/// Holds tensors until there is no memory for another one, and goes on.
fn to_the_limit() -> Result<()> {
    let one = || Tensor::ones([2 << 20], DType::F32, Device::Cpu);
    let mut held = vec![one()?];
    let refused = loop {
        match one() {
            Ok(x) if held.len() < 1000 => held.push(x),
            Ok(_) => panic!("8 GB under a limit of 700 MB"),
            Err(error) => break error,
        }
    };
    assert!(refused.is_out_of_memory(), "{refused}");
    let matrix = held[0].reshape([1024, 2048])?;
    let made = [
        held[0].add(&held[0]).err(),
        held[0].exp().err(),
        matrix.matmul(&matrix.transpose(0, 1)?).err(),
        matrix.softmax(0).err(),
        matrix.transpose(0, 1)?.contiguous().err(),
    ];
    for error in made.into_iter().flatten() {
        assert!(error.is_out_of_memory(), "{error}");
    }
    held.truncate(1);
    // What freed blocks keep must make room for one that is larger than any of them.
    let kept = cpu_memory().cached;
    let large = Tensor::ones([100 << 20], DType::F32, Device::Cpu)?;
    let left = cpu_memory().cached;
    assert!(left < kept, "{kept} then {left} bytes");
    assert_eq!(large.narrow(0, (100 << 20) - 1, 1)?.item::<f32>()?, 1.0);
    drop(large);
    trim_cpu_memory();
    let sum = held[0].add(&held[0])?.sum(())?.item::<f32>()?;
    assert_eq!(sum, 4_194_304.0);
    Ok(())
}
