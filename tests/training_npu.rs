//! Training on the emulated NPU: both overflow modes, where bad numbers come from, and what a step reports.
//!
//! All in one test: the mode and the emulator's state are the process's.

use std::path::Path;

use ascend_tensor::io::load_safetensors;
use ascend_tensor::models::deepseek::{DeepSeek, LossOptions};
use ascend_tensor::nn::{Activation, Layer, Linear, Module, Phase, Place, Sequential};
use ascend_tensor::ops::update::AdamState;
use ascend_tensor::optim::{Adam, AdamOptions};
use ascend_tensor::train::{
    Difference, GradScaler, OverflowMode, Recording, Report, StepLoss, Trainer, TrainerOptions,
    record,
};
use ascend_tensor::{
    BackwardFault, DType, Device, Error, Generator, Result, Tensor, Tolerance, anomaly, ascend,
    no_grad,
};

fn network() -> Result<Sequential> {
    let place = Place::new(Device::ascend(0)).generator(&Generator::new(5));
    Ok(Sequential::new()
        .then(Linear::new([16, 8], (), &place)?)
        .then(Activation::Tanh)
        .then(Linear::new([4, 16], (), &place)?))
}

fn batch() -> Result<Tensor> {
    let rows = (0..8).flat_map(|row| (0..9).map(move |at| (row * 7 + at * 3) % 11));
    Tensor::new(rows.collect::<Vec<i64>>()).reshape([8, 9])
}

fn loss<'a>(model: &Sequential, batch: &Tensor) -> Result<StepLoss<'a>> {
    let x = batch.narrow(1, 0, 8)?.to_dtype(DType::F32)?.mul(0.1)?;
    let labels = batch.select(1, 8)?.remainder(4)?;
    let logits = model.forward(&x, Phase::Training)?;
    Ok(StepLoss::new(logits.cross_entropy(&labels, ())?, 8))
}

fn bits(model: &Sequential) -> Result<Vec<u32>> {
    let values = |x: &Tensor| Ok(x.to_vec::<f32>()?.into_iter().map(f32::to_bits).collect());
    let all: Result<Vec<Vec<u32>>> = model.state_dict().values().map(values).collect();
    Ok(all?.concat())
}

/// f16 with a scale that is far too large: steps are left out until it fits, then the loss falls. Nobody says the mode.
fn scaled() -> Result<()> {
    let model = network()?;
    let adam = Adam::w(model.parameters(), AdamOptions::new().lr(0.01));
    let options = TrainerOptions::new()
        .precision(DType::F16)
        .scaler(GradScaler::new(1e8).growth_interval(1000));
    let mut trainer = Trainer::new(&model, adam, options)?;
    let mut reports: Vec<Report> = Vec::new();
    for _ in 0..60 {
        let before = bits(&model)?;
        let report = trainer.step(&[batch()?], &|batch| loss(&model, batch))?;
        assert_eq!(bits(&model)? == before, report.skipped, "{report:?}");
        reports.push(report);
    }
    let skipped = reports.iter().take_while(|report| report.skipped).count();
    assert!((3..30).contains(&skipped), "{skipped} steps left out");
    let done = &reports[skipped..];
    assert!(
        done.iter()
            .all(|report| !report.skipped && report.grad_norm < 100.0)
    );
    assert!(done[done.len() - 1].loss < 0.8 * done[0].loss);
    Ok(())
}

/// Without a scaler, a number that overflows ends the run with the name of the op that made it.
fn named() -> Result<()> {
    let model = network()?;
    let adam = Adam::w(model.parameters(), AdamOptions::new());
    let mut trainer = Trainer::new(&model, adam, TrainerOptions::new())?;
    let before = bits(&model)?;
    let bad = |batch: &Tensor| -> Result<StepLoss<'static>> {
        let x = batch.narrow(1, 0, 8)?.to_dtype(DType::F32)?;
        let y = model.forward(&x, Phase::Training)?;
        Ok(StepLoss::new(y.add(200.0)?.exp()?.mean(())?.log()?, 8))
    };
    let told = trainer.step(&[batch()?], &bad).unwrap_err();
    let found = match &told {
        Error::NotFinite(found) => found,
        _ => panic!("{told}"),
    };
    assert!(
        found.op == "exp" && found.inputs.contains("f32 [8, 4]"),
        "{told}"
    );
    assert!(bits(&model)? == before, "nothing has changed");
    // And the run can go on.
    assert!(
        trainer
            .step(&[batch()?], &|batch| loss(&model, batch))?
            .loss
            .is_finite()
    );
    Ok(())
}

/// One model on both devices: the recordings agree, though some ops are made of others on one of them; then one differs.
fn devices_compared() -> Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parity/base");
    let tokens = load_safetensors(folder.join("batches.safetensors"))?["tokens"].select(0, 0)?;
    let pass = |device: Device, shift: f64| -> Result<Recording> {
        let model = DeepSeek::load_pretrained(&folder, &Place::new(device))?;
        let (name, weight) = model.parameters().into_iter().nth(20).expect("a weight");
        weight.update(|weight| weight.add_(shift))?;
        let tokens = tokens.to_device(device)?;
        let (_, recording) = record(|| no_grad(|| model.loss(&tokens, LossOptions::new())))?;
        assert!(recording.len() > 60, "{name}: {} ops", recording.len());
        Ok(recording)
    };
    let near = Tolerance {
        rtol: 1e-3,
        atol: 1e-4,
    };
    let (host, npu) = (pass(Device::Cpu, 0.0)?, pass(Device::ascend(0), 0.0)?);
    let found = host.compare(&npu, near)?;
    assert!(found.is_none(), "{found:?}");
    match host.compare(&pass(Device::ascend(0), 0.05)?, near)? {
        Some(Difference::Values { op, call, .. }) => println!("parity: op {call}, {op}, differs"),
        other => panic!("{other:?}"),
    }
    Ok(())
}

/// A step of a mixture model waits for the device once: nothing about the routing is read back.
fn routed_without_waiting() -> Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parity/base");
    let tokens = load_safetensors(folder.join("batches.safetensors"))?["tokens"].clone();
    let model = &DeepSeek::load_pretrained(&folder, &Place::new(Device::ascend(0)))?;
    let adam = Adam::w(model.parameters(), AdamOptions::new());
    let mut trainer = Trainer::new(model, adam, TrainerOptions::new().clip(1.0))?;
    for step in 0..3 {
        let loss = |batch: &Tensor| -> Result<StepLoss<'_>> {
            let loss = model.loss(batch, LossOptions::new().balance(1e-3))?;
            let routings = loss.routings;
            Ok(StepLoss::new(loss.total, 1).then(move || model.balance(&routings, 1e-3)))
        };
        let report = trainer.step(&[tokens.select(0, step)?], &loss)?;
        assert!(step == 0 || report.syncs == 1, "{report:?}");
    }
    Ok(())
}

/// A second beta so near 1 that single precision shows: the averages are those of the beta as given, by the formula in f64.
fn averages() -> Result<()> {
    let (lr, betas, start) = (0.01, [0.95, 0.9999], 0.5);
    let options = AdamOptions::new().lr(lr).betas(betas).weight_decay(0.0);
    let mut own = Tensor::new([start as f32]).to_device(Device::ascend(0))?;
    let mut state = AdamState::zeros(&own)?;
    let (mut p, mut m, mut v) = (start, 0.0, 0.0);
    for step in 1..=20 {
        let g = f64::from((step as f32 * 1.7).sin());
        let gradient = Tensor::new([g as f32]).to_device(Device::ascend(0))?;
        own.adamw_step_(&gradient, &mut state, step, options)?;
        m = betas[0] * m + (1.0 - betas[0]) * g;
        v = betas[1] * v + (1.0 - betas[1]) * g * g;
        let [first, second] = betas.map(|beta| 1.0 - beta.powi(step as i32));
        p -= lr / first * m / ((v / second).sqrt() + 1e-8);
        let (square, value) = (state.exp_avg_sq.to_f64_vec()?[0], own.to_f64_vec()?[0]);
        assert!(
            (square / v - 1.0).abs() < 2e-6,
            "step {step}: {square} for {v}"
        );
        assert!((value - p).abs() < 2e-7, "step {step}: {value} for {p}");
    }
    Ok(())
}

#[test]
fn overflows_are_found_in_both_modes() -> Result<()> {
    ascend::install(ascend_sys::Api::from_resolver(
        "ascend-emulator",
        ascend_emulator::resolve,
    ))?;
    for mode in [OverflowMode::Saturate, OverflowMode::Infinite] {
        ascend::set_overflow_mode(mode)?;
        assert_eq!(ascend::overflow_mode(0)?, mode);
        assert!(
            ascend::set_overflow_mode(mode).is_err(),
            "the device is open"
        );
        averages()?;
        scaled()?;
        named()?;
        ascend::reset(0)?;
    }

    let x = Tensor::new([1.0f32, 0.0])
        .to_device(Device::ascend(0))?
        .requires_grad()?;
    let told = anomaly(|| x.sqrt()?.sum(())?.backward()).unwrap_err();
    let (op, why) = match told {
        Error::Backward { op, why } => (op, why),
        other => panic!("{other}"),
    };
    assert_eq!((op, why), ("sqrt", BackwardFault::NotFinite));

    devices_compared()?;
    routed_without_waiting()?;

    let model = network()?;
    let adam = Adam::w(model.parameters(), AdamOptions::new());
    let mut trainer = Trainer::new(&model, adam, TrainerOptions::new())?;
    let mut reports = Vec::new();
    for _ in 0..3 {
        reports.push(trainer.step(&[batch()?], &|batch| loss(&model, batch))?);
    }
    let last = reports[2];
    println!("{}", last.to_json());
    assert_eq!(last.syncs, 1, "loss, norm and overflow are read at once");
    assert!(last.launches > 10 && last.calls > last.launches);
    assert!(last.peak_memory > 1000 && last.throughput() > 0.0);
    Ok(())
}
