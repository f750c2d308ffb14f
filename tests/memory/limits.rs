//! Ops under a sweep of memory limits: each gives a value or says that there is no memory, and the process lives.
//!
//! A child without a limit says how much address space it has at the beginning and at most; others then run with limits in
//! between. `ASCEND_TENSOR_LIMITS` sets how many (2 by default).

use std::process::Command;

use ascend_tensor::nn::{Linear, Place};
use ascend_tensor::ops::attention::AttentionOptions;
use ascend_tensor::{
    AdamOptions, AdamState, Conv2dOptions, DType, Device, LayerNormOptions, MaxPool2dOptions,
    Result, Tensor, TopkOptions, no_grad, trim_cpu_memory,
};

/// Set in the processes that run the ops.
const CHILD: &str = "ASCEND_TENSOR_TEST_LIMITED_OPS";

fn full(shape: &[usize], dtype: DType) -> Result<Tensor> {
    Tensor::full(shape.to_vec(), 0.5f32, Device::Cpu)?.to_dtype(dtype)
}

fn floats(shape: &[usize]) -> Result<Tensor> {
    full(shape, DType::F32)
}

fn matmul(dtype: DType) -> Result<()> {
    full(&[2048, 8], dtype)?.matmul(&full(&[8, 1024], dtype)?)?;
    full(&[16, 4096], dtype)?.matmul(&full(&[256, 4096], dtype)?.transpose(0, 1)?)?;
    full(&[1, 4096], dtype)?.matmul(&full(&[4096, 512], dtype)?)?;
    Ok(())
}

fn conv(dtype: DType) -> Result<()> {
    let x = full(&[2, 4, 128, 128], dtype)?.requires_grad()?;
    let weight = full(&[4, 4, 3, 3], dtype)?.requires_grad()?;
    let y = x.conv2d(&weight, Conv2dOptions::new().padding(1))?;
    y.sum(())?.backward()?;
    let slim = full(&[4, 1, 3, 3], dtype)?;
    x.detach()
        .conv2d(&slim, Conv2dOptions::new().groups(4).padding(1))?;
    Ok(())
}

fn attention(dtype: DType) -> Result<()> {
    let part = || full(&[2, 8, 128, 64], dtype)?.requires_grad();
    let (q, k, v) = (part()?, part()?, part()?);
    let y = q.scaled_dot_product_attention(&k, &v, AttentionOptions::new().causal())?;
    y.sum(())?.backward()?;
    Ok(())
}

fn optimiser(dtype: DType) -> Result<()> {
    let mut weight = full(&[1 << 20], dtype)?;
    let gradient = full(&[1 << 20], dtype)?;
    let mut state = AdamState::zeros(&weight)?;
    no_grad(|| weight.adamw_step_(&gradient, &mut state, 1, AdamOptions::new()))
}

fn ordering(dtype: DType) -> Result<()> {
    let x = Tensor::rand([64, 2048], ())?.to_dtype(dtype)?;
    x.sort(1)?;
    x.sort(0)?;
    x.argsort(1)?;
    x.topk(50, TopkOptions::new())?;
    x.reshape([1 << 17])?.sort(0)?;
    x.cumsum(0)?;
    x.gt(0.5)?.nonzero()?;
    x.to_dtype(DType::I32)?.unique(None)?;
    Ok(())
}

fn norms(dtype: DType) -> Result<()> {
    let x = full(&[512, 1024], dtype)?.requires_grad()?;
    let (weight, bias) = (full(&[1024], dtype)?, full(&[1024], dtype)?);
    let options = LayerNormOptions::new([1024]).weight(&weight).bias(&bias);
    x.layer_norm(options)?.softmax(0)?.sum(())?.backward()?;
    let labels = full(&[512], DType::I64)?;
    x.cross_entropy(&labels, ())?.backward()?;
    x.detach().var(0)?.add(&x.detach().std(1)?.sum(())?)?;
    Ok(())
}

fn indexing(dtype: DType) -> Result<()> {
    let x = full(&[1024, 512], dtype)?;
    let rows = full(&[2048], DType::I64)?;
    x.index_select(0, &rows)?.embedding(&rows, ())?;
    let index = full(&[1024, 512], DType::I64)?;
    x.gather(1, &index)?;
    x.scatter_add(0, &index, &x)?;
    Tensor::cat(&[&x, &x, &x], 1)?;
    x.transpose(0, 1)?.contiguous()?.reshape([8, 64, 32, 32])?;
    let image = x.reshape([8, 8, 64, 128])?;
    image.max_pool2d(MaxPool2dOptions::new(3).stride(2))?;
    image.permute([0, 2, 3, 1])?.contiguous()?;
    Ok(())
}

fn whole_numbers(_: DType) -> Result<()> {
    let x = full(&[512, 64], DType::I8)?;
    let y = full(&[64, 1024], DType::I8)?;
    let columns = floats(&[1024])?;
    x.matmul(&y)?;
    x.int8_matmul(&y, &floats(&[512])?, &columns, ())?;
    floats(&[256, 64])?.weight_int8_matmul(&y, &columns, ())?;
    Ok(())
}

fn random(_: DType) -> Result<()> {
    let x = Tensor::randn([1 << 20], ())?;
    x.dropout(0.5, ())?;
    Tensor::randperm(1 << 18, ())?;
    Ok(())
}

fn layers(dtype: DType) -> Result<()> {
    let place = Place::new(Device::Cpu).dtype(dtype);
    let layer = Linear::new([1024, 512], (), &place)?;
    let loss = layer
        .forward(&full(&[32, 512], dtype)?)?
        .gelu(())?
        .mean(())?;
    loss.backward()?;
    Ok(())
}

type Run = fn(DType) -> Result<()>;
const RUNS: [(&str, Run); 11] = [
    ("matmul", matmul),
    ("conv", conv),
    ("attention", attention),
    ("optimiser", optimiser),
    ("ordering", ordering),
    ("norms", norms),
    ("indexing", indexing),
    ("whole numbers", whole_numbers),
    ("random", random),
    ("layers", layers),
    ("matmul", matmul),
];

/// KiB that a line of `/proc/self/status` tells.
fn status(name: &str) -> usize {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse().ok())
        .unwrap_or(0)
}

/// Runs everything, in a process of its own; says how many runs were refused.
fn all() -> Result<()> {
    // Threads begin with room of their own.
    let x = floats(&[1 << 16])?;
    x.add(&x)?;
    println!("begun {}", status("VmSize:"));
    let mut refused = 0;
    for dtype in [DType::F32, DType::BF16] {
        for (name, run) in RUNS {
            match run(dtype) {
                Ok(()) => {}
                Err(error) if error.is_out_of_memory() => refused += 1,
                Err(error) => panic!("{name} of {dtype}: {error}"),
            }
            trim_cpu_memory();
        }
    }
    println!("most {}", status("VmPeak:"));
    println!("refused {refused}");
    Ok(())
}

/// What a child says: how it ended, and the number after each of its words.
fn child(limit: &str) -> (bool, String, impl Fn(&str) -> Option<usize> + use<>) {
    let own = std::env::current_exe().expect("a test has a path");
    let name = "limits::ops_under_any_limit_give_values_or_say_that_there_is_no_memory";
    let output = Command::new("sh")
        .args(["-c", "ulimit -v \"$0\"; exec \"$@\"", limit])
        .arg(own)
        .args(["--exact", name, "--nocapture", "--test-threads", "1"])
        .env(CHILD, "1")
        .output()
        .expect("a shell");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let said = text.clone();
    let number = move |word: &str| {
        let line = said.lines().find_map(|line| line.split_once(word));
        line.and_then(|(_, number)| number.trim().parse().ok())
    };
    let all = format!("{text}{}", String::from_utf8_lossy(&output.stderr));
    (output.status.success(), all, number)
}

#[test]
fn ops_under_any_limit_give_values_or_say_that_there_is_no_memory() -> Result<()> {
    if std::env::var_os(CHILD).is_some() {
        return all();
    }
    let (lived, text, number) = child("unlimited");
    assert!(lived, "{text}");
    let (Some(least), Some(most)) = (number("begun "), number("most ")) else {
        panic!("{text}");
    };
    let count = std::env::var("ASCEND_TENSOR_LIMITS").map_or(2, |text| text.parse().unwrap_or(2));
    let (mut refused, mut begun) = (0, 0);
    // Small allocations of Rust itself have no errors: they keep a reserve.
    let least = least + (8 << 10);
    for index in 0..=count {
        let limit = least + (most - least) * index / count;
        let (lived, text, number) = child(&limit.to_string());
        if number("begun ").is_some() {
            begun += 1;
            assert!(lived, "under {limit} KiB ({least} .. {most}):\n{text}");
            refused += number("refused ").unwrap_or(0);
        }
    }
    println!("{begun} limits from {least} to {most} KiB, {refused} runs refused");
    assert!(2 * begun > count, "only {begun} of {count} processes began");
    assert!(refused > 0, "no limit was one");
    Ok(())
}
