//! Faults in the middle of training on the emulated NPU: each class, at random points, leaves the losses as they were.
//!
//! All in one test: the emulator's state is the process's.

use ascend_tensor::nn::{Activation, Dropout, Layer, Linear, Module, Phase, Place, Sequential};
use ascend_tensor::optim::{Adam, AdamOptions};
use ascend_tensor::train::{
    BatchLoader, Fault, LoaderOptions, StepLoss, Tokens, Trainer, TrainerOptions, classify,
};
use ascend_tensor::{DType, Device, Generator, Result, Tensor, ascend, manual_seed};

const STEPS: usize = 200;

fn loss<'a>(model: &'a Sequential, batch: &Tensor) -> Result<StepLoss<'a>> {
    let x = batch.narrow(1, 0, 6)?.to_dtype(DType::F32)?.mul(0.02)?;
    let labels = batch.select(1, 6)?.remainder(4)?;
    let logits = model.forward(&x, Phase::Training)?;
    Ok(StepLoss::new(
        logits.cross_entropy(&labels, ())?,
        batch.dims()[0],
    ))
}

/// Trains a small network with dropout; the losses and how often steps were repeated.
fn run(faults: &str) -> Result<(Vec<f64>, u32)> {
    ascend::reset(0)?;
    manual_seed(4);
    let place = Place::new(Device::ascend(0)).generator(&Generator::new(8));
    let model = Sequential::new()
        .then(Linear::new([12, 6], (), &place)?)
        .then(Activation::Tanh)
        .then(Dropout::new(0.1))
        .then(Linear::new([4, 12], (), &place)?);
    let tokens = Tokens::new((0..900).map(|i| i * i % 89).collect());
    let mut loader = BatchLoader::new(tokens, LoaderOptions::new(6).batch(4))?;
    let options = TrainerOptions::new().clip(1.0).snapshot_every(25);
    let adam = Adam::w(model.parameters(), AdamOptions::new().lr(0.01));
    let mut trainer = Trainer::new(&model, adam, options)?;
    ascend_emulator::set_faults(faults).expect("a schedule of faults");
    let (mut losses, mut retries) = (Vec::new(), 0);
    for _ in 0..STEPS {
        let report = trainer.step(&[loader.next()?], &|batch| loss(&model, batch))?;
        losses.push(report.loss);
        retries += report.retries;
    }
    ascend_emulator::set_faults("").expect("no faults");
    Ok((losses, retries))
}

fn same(fault: &str, losses: &[f64], want: &[f64]) {
    assert_eq!(losses.len(), want.len());
    for (step, (got, want)) in losses.iter().zip(want).enumerate() {
        assert!(got == want, "{fault}, step {step}: {got} for {want}");
    }
}

#[test]
fn losses_survive_every_class_of_fault() -> Result<()> {
    ascend::install(ascend_sys::Api::from_resolver(
        "ascend-emulator",
        ascend_emulator::resolve,
    ))?;
    ascend::synchronize(0)
        .or_else(|_| Tensor::new(1.0f32).to_device(Device::ascend(0)).map(|_| ()))?;
    let before = ascend::counters();
    let (want, retries) = run("")?;
    assert_eq!(retries, 0);
    let spent = ascend::counters().since(before);
    let launches = spent.launches;
    assert!(want[STEPS - 1].is_finite() && launches > 1000);
    let mut random = u64::from(std::process::id()) | 1;
    let mut next = |most: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        1 + random % most
    };
    let faults = [
        // A device that does not answer once, and a kernel that poisons its context.
        format!("aclnnTanh:{}=507010", next(STEPS as u64)),
        format!("kernel:{}=507015", next(launches / 2)),
        // A kernel that cannot be started once, and two at unrelated places.
        format!("aclnnTanh:{}=361001", next(STEPS as u64)),
        format!(
            "aclnnTanh:{}=361001;kernel:{}=507015",
            next(150),
            next(launches / 3)
        ),
        // The device is lost with a launch, and comes back with a reset.
        format!("device-lost-at-launch={}", next(launches)),
        // No memory for a kernel, after which the pool is emptied; and none for the pool itself.
        format!("aclnnTanh:{}=207001", next(STEPS as u64)),
        format!("aclnnTanhBackward:{}=207018", next(STEPS as u64)),
        "aclrtMalloc:1=207001;aclrtMalloc:2=207001;aclrtMalloc:3=207001".into(),
        // A wait that runs out of time, at any place and where the first snapshot is read.
        "aclrtSynchronizeStream:1=507046".into(),
        format!("aclrtSynchronizeStream:{}=507046", next(150)),
    ];
    for fault in faults {
        let (losses, retries) = run(&fault)?;
        println!("{fault}: {retries} repetitions");
        assert!(retries > 0, "{fault} was never met");
        same(&fault, &losses, &want);
    }
    let mut fatal = run("aclnnTanhGetWorkspaceSize:30+=161002").unwrap_err();
    assert_eq!(classify(&fatal), Fault::Fatal);
    ascend_emulator::set_faults("").expect("no faults");
    fatal = run("kernel:400+=507015").unwrap_err();
    assert_eq!(classify(&fatal), Fault::DeviceLost, "{fatal}");
    ascend_emulator::set_faults("").expect("no faults");
    fatal = run(&format!("device-dies-after-launches={}", launches / 2)).unwrap_err();
    assert_eq!(
        classify(&fatal),
        Fault::DeviceLost,
        "a dead device stays dead: {fatal}"
    );
    ascend_emulator::set_faults("").expect("no faults");
    assert_eq!(run("")?.0, want, "the process can go on afterwards");
    Ok(())
}
