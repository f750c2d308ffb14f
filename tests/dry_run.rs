//! Dry runs: they run the ops of a real run, and tell the memory that it takes.
//!
//! The measured peaks are the process's, so each is measured in a process of its own.

use std::cell::RefCell;
use std::path::Path;
use std::process::Command;
use std::rc::Rc;

use ascend_tensor::models::deepseek::{Config, DeepSeek, LossOptions};
use ascend_tensor::nn::{Activation, Layer, LayerNorm, Linear, Module, Phase, Place, Sequential};
use ascend_tensor::optim::{Adam, AdamOptions, Optimizer};
use ascend_tensor::{
    DType, Device, Result, Sample, Tensor, ascend, catalog, cpu_memory, dispatch, dry_run, no_grad,
    observe,
};

/// The ops that a function runs.
fn ops<R>(body: impl FnOnce() -> Result<R>) -> Result<(R, Vec<&'static str>)> {
    let seen = Rc::new(RefCell::new(Vec::new()));
    let list = Rc::clone(&seen);
    let note = move |call: &ascend_tensor::Call<'_>| {
        list.borrow_mut().push(call.op);
        Ok(())
    };
    let value = observe(note, body)?;
    let seen = seen.borrow().clone();
    Ok((value, seen))
}

fn inputs(sample: &Sample, dtype: DType, device: Device) -> Result<Vec<Tensor>> {
    let one = |input: &ascend_tensor::SampleInput| {
        let dtype = input.dtype.unwrap_or(dtype);
        let (low, count) = (input.low.max(0.0), input.shape.elements());
        // Whole numbers within the bounds fit every dtype.
        let top = (input.high.ceil() - 1.0).max(low);
        let value = |i: usize| (low.ceil() + (i % 3) as f64).min(top);
        Tensor::from_vec((0..count).map(value).collect(), input.shape)?
            .to_dtype(dtype)?
            .to_device(device)
    };
    sample.inputs.iter().map(one).collect()
}

/// The samples of the catalog on a device: how many were compared, and what differs, by the op's name.
fn compare(device: Device) -> (usize, Vec<(&'static str, String)>) {
    let (mut compared, mut wrong) = (0, Vec::new());
    for info in catalog() {
        for sample in (info.samples)() {
            let dtype = sample.dtypes.iter().find(|dtype| **dtype == DType::F32);
            let Some(dtype) = dtype.or(sample.dtypes.first()) else {
                continue;
            };
            let run = || {
                let inputs = inputs(&sample, *dtype, device)?;
                ops(|| dispatch::run(sample.op.as_ref(), &inputs.iter().collect::<Vec<_>>()))
            };
            // A copy to another device, and what the NPU cannot do.
            let Ok((real, want)) = run() else { continue };
            if info.name == "to_device" {
                continue;
            }
            match dry_run(run) {
                // An op whose composition reads data.
                Err(error) if error.to_string().contains("no values") => {}
                Err(error) => wrong.push((info.name, format!("{:?}: {error}", sample.op))),
                Ok(dry) => {
                    let (made, got) = dry.value;
                    compared += 1;
                    let metas = |all: &[Tensor]| -> Vec<_> {
                        all.iter().map(|x| (x.rank(), x.dtype())).collect()
                    };
                    if got != want || metas(&made) != metas(&real) {
                        let told = format!("{:?}: {got:?} for {want:?}", sample.op);
                        wrong.push((info.name, told));
                    }
                }
            }
        }
    }
    (compared, wrong)
}

/// Ops of which a dry run for an NPU counts other calls than a real run makes, and why.
///
/// A dry run asks no kernel, so it cannot know what CANN refuses for these shapes and dtypes; tensors of one element that stand
/// for a scalar are made inside the call and not counted.
const OTHER: &[(&str, &str)] = &[
    ("atan2", ONE),
    ("bitwise_left_shift", ONE),
    ("bitwise_right_shift", ONE),
    ("logical_and", ONE),
    ("logical_or", ONE),
    ("logical_xor", ONE),
    ("maximum", ONE),
    ("minimum", ONE),
    ("where", ONE),
    ("kl_div", INNER),
    ("dynamic_quant", INNER),
    ("nansum", INNER),
    ("cross_entropy", INNER),
    ("isin", COMPOSED),
    ("count_nonzero", COMPOSED),
    (
        "lstm_cell",
        "the gates' kernel needs the products of its inputs first",
    ),
    (
        "rotary_embedding",
        "CANN's kernel takes other widths of a head",
    ),
    (
        "scaled_dot_product_attention",
        "CANN's kernel takes other widths and masks",
    ),
    ("linear", "CANN's kernels take a weight of two dims"),
    ("norm", "CANN's kernel takes some powers only"),
    ("max_pool1d", "CANN's kernel takes no dilation"),
    ("max_pool2d", "CANN's kernel takes no dilation"),
    ("dequantize", "CANN's kernel makes halves only"),
    ("sgd_step", COMPOSED),
    ("scatter_reduce", "CANN's kernel makes no sums and means"),
    ("unfold", COMPOSED),
    (
        "diff",
        "twice along a dim of two: what has no elements needs no op",
    ),
    ("bernoulli", HOST),
    ("dropout", HOST),
    ("clip_grad_norm", COMPOSED),
];

/// A kernel that takes tensors only, and a scalar operand.
const ONE: &str = "the scalar is a tensor of one element";

/// An op that shares its catalog line with kernels of others, but is made of other ops itself.
const COMPOSED: &str = "made of other ops, of which the catalog knows kernels";

/// Portable random numbers.
const HOST: &str = "its random numbers are made on the host, and copied";

/// A composition in which such a kernel is used.
const INNER: &str = "a part of its composition is one of these ops";

#[test]
fn a_dry_run_runs_the_ops_of_a_real_one() -> Result<()> {
    ascend::install(ascend_sys::Api::from_resolver(
        "ascend-emulator",
        ascend_emulator::resolve,
    ))?;
    for (device, other) in [(Device::Cpu, &[][..]), (Device::ascend(0), OTHER)] {
        let (compared, wrong) = compare(device);
        println!("{} of {compared} calls differ on {device}", wrong.len());
        assert!(compared > 200, "{compared}");
        let excused = |op: &str| other.iter().any(|(own, _)| *own == op);
        let (named, unnamed): (Vec<_>, Vec<_>) = wrong.iter().partition(|(op, _)| excused(op));
        assert!(unnamed.is_empty(), "{device}\n{unnamed:#?}");
        let seen = |op: &str| named.iter().any(|(own, _)| *own == op);
        let stale: Vec<_> = other.iter().filter(|(op, _)| !seen(op)).collect();
        assert!(stale.is_empty(), "they agree by now: {stale:?}");
    }
    Ok(())
}

/// Two steps of a network of wide activations: the peak on the CPU.
fn network_steps(device: Device) -> Result<()> {
    let place = Place::new(device);
    let network = Sequential::new()
        .then(Linear::new([96, 64], (), &place)?)
        .then(Activation::Gelu)
        .then(LayerNorm::new(96, 1e-5, &place)?)
        .then(Linear::new([96, 96], (), &place)?)
        .then(Activation::Relu)
        .then(Linear::new([8, 96], (), &place)?);
    let mut adam = Adam::w(network.parameters(), AdamOptions::new());
    for _ in 0..2 {
        let x = Tensor::ones([4096, 64], DType::F32, device)?;
        let y = network.forward(&x, Phase::Training)?;
        adam.step(&y.softmax(-1)?.square()?.mean(())?.backward()?)?;
    }
    Ok(())
}

fn config() -> Result<Config> {
    Config::load(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parity/base/config.json"))
}

/// Two steps of a mixture model whose router is led to these experts.
fn model_steps(device: Device, led: bool) -> Result<()> {
    let model = DeepSeek::new(&config()?, &Place::new(device))?;
    for (name, own) in model.state() {
        if led && name.ends_with("e_score_correction_bias") {
            let mut bias = [0.0f32; 8];
            (bias[0], bias[1]) = (9.0, 9.0);
            own.set(&Tensor::new(bias).to_device(device)?)?;
        }
    }
    let mut adam = Adam::w(model.parameters(), AdamOptions::new());
    let tokens = Tensor::new((0..4 * 65).map(|i| i * i % 61).collect::<Vec<i64>>());
    let tokens = tokens.reshape([4, 65])?.to_device(device)?;
    for _ in 0..2 {
        let loss = model.loss(&tokens, LossOptions::new())?;
        adam.step(&loss.total.backward()?)?;
    }
    Ok(())
}

/// What a child measures, as bytes.
fn measure(what: &str) -> Result<usize> {
    let device = Device::ascend(0);
    match what {
        "cpu" => {
            network_steps(Device::Cpu)?;
            Ok(cpu_memory().peak)
        }
        _ => {
            ascend::install(ascend_sys::Api::from_resolver(
                "ascend-emulator",
                ascend_emulator::resolve,
            ))?;
            model_steps(device, what == "led")?;
            // What is left is the workspace of the stream, which is the kernels'.
            let found = ascend::statistics(0);
            Ok(found.peak_allocated - found.allocated)
        }
    }
}

#[test]
fn the_predicted_peak_is_the_measured_one() -> Result<()> {
    const CHILD: &str = "ASCEND_TENSOR_DRY_RUN_CHILD";
    if let Ok(what) = std::env::var(CHILD) {
        println!("peak {} bytes", measure(&what)?);
        return Ok(());
    }
    let own = std::env::current_exe().expect("the test's own file");
    let measured = |what: &str| -> usize {
        let name = "the_predicted_peak_is_the_measured_one";
        let child = Command::new(&own)
            .args(["--exact", name, "--nocapture"])
            .env(CHILD, what)
            .output()
            .expect("a child");
        let text = String::from_utf8_lossy(&child.stdout).into_owned();
        let found = text
            .split("peak ")
            .nth(1)
            .and_then(|rest| rest.split(' ').next());
        let found = found.and_then(|bytes| bytes.parse().ok());
        found.unwrap_or_else(|| panic!("{text}{}", String::from_utf8_lossy(&child.stderr)))
    };
    let npu = Device::ascend(0);
    let cpu = dry_run(|| network_steps(Device::Cpu))?;
    assert_eq!(cpu.kept(Device::Cpu), 0);
    let even = dry_run(|| model_steps(npu, false))?.peak(npu);
    let worst = dry_run(|| model_steps(npu, true))?.peak(npu);
    for (what, predicted) in [
        ("cpu", cpu.peak(Device::Cpu)),
        ("even", even),
        ("led", worst),
    ] {
        let measured = measured(what);
        println!("{what}: {predicted} bytes predicted, {measured} measured");
        let off = predicted as f64 / measured as f64 - 1.0;
        assert!(off.abs() < 0.15, "{what}: {predicted} for {measured}");
    }
    Ok(())
}

#[test]
fn a_tensor_of_a_dry_run_is_refused_elsewhere() -> Result<()> {
    let ghost = dry_run(|| Tensor::ones([3], DType::F32, Device::Cpu))?.value;
    let mut real = Tensor::new([1.0f32, 2.0, 3.0]);
    for told in [
        ghost.to_vec::<f32>().map(|_| ()),
        real.add(&ghost).map(|_| ()),
        no_grad(|| real.add_(&ghost)),
        ghost.sum(()).and_then(|sum| sum.item::<f32>()).map(|_| ()),
    ] {
        let told = told.expect_err("it has no values").to_string();
        assert!(told.contains("dry run"), "{told}");
    }
    assert_eq!(real.to_vec::<f32>()?, [1.0, 2.0, 3.0]);
    // A model that is there can be asked what a step would take beside it, and is left as it is.
    let weight = Tensor::new([2.0f32; 1000]).requires_grad()?;
    let run = dry_run(|| weight.square()?.sum(())?.backward())?;
    assert!(run.peak(Device::Cpu) >= 8000);
    assert_eq!(weight.to_vec::<f32>()?, [2.0; 1000]);
    Ok(())
}
