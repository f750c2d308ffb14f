//! A convolutional network that reads handwritten digits: 1797 real ones, of which 450 are held out.
//!
//! `cargo run --release --example digits -- [--device cpu|ascend:0|emulator] [--epochs N] [--seed N]`

mod common;

use std::error::Error;

use ascend_tensor::nn::{
    Activation, BatchNorm, Conv2d, ConvLayerOptions, Dropout, Flatten, Layer, Linear, MaxPool2d,
    Module, Phase, Place, Sequential,
};
use ascend_tensor::optim::{Adam, AdamOptions, Schedule};
use ascend_tensor::train::{StepLoss, Trainer, TrainerOptions};
use ascend_tensor::{DType, Device, Generator, RandomOptions, Tensor, manual_seed, no_grad};

type Failure = Box<dyn Error + Send + Sync>;

/// The table; `examples/data/README.md` says where it is from.
const TABLE: &str = include_str!("data/digits.csv");
const HELD_OUT: usize = 450;
const BATCH: usize = 64;

fn main() -> Result<(), Failure> {
    let (mut device, mut epochs, mut seed) = (Device::Cpu, 12, 0);
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let value = words.next().ok_or(format!("{word} wants a value"))?;
        match word.as_str() {
            "--device" => device = common::device(&value)?,
            "--epochs" => epochs = value.parse()?,
            "--seed" => seed = value.parse()?,
            _ => return Err(format!("unknown argument {word:?}").into()),
        }
    }
    manual_seed(seed);
    let generator = Generator::new(seed);
    let table = load()?;
    let order = Tensor::randperm(table.dims()[0], RandomOptions::new().generator(&generator))?;
    let table = table.index_select(0, &order)?;
    let count = table.dims()[0] - HELD_OUT;
    let test = table
        .narrow(0, count as i64, HELD_OUT as i64)?
        .to_device(device)?;
    let (test_images, test_digits) = split(&test)?;

    let network = network(&Place::new(device).generator(&generator))?;
    println!("{} parameters on {device}", network.parameter_count());
    train(
        &network,
        &table.narrow(0, 0, count as i64)?,
        &generator,
        epochs,
    )?;
    let right = no_grad(|| -> ascend_tensor::Result<f32> {
        let guess = network
            .forward(&test_images, Phase::Evaluation)?
            .argmax(1)?;
        guess
            .eq(&test_digits)?
            .to_dtype(DType::F32)?
            .mean(())?
            .item()
    })?;
    println!(
        "held-out accuracy {:.1} % of {HELD_OUT} digits",
        100.0 * right
    );
    Ok(())
}

/// One row per digit: 64 pixels and which digit it is.
fn load() -> Result<Tensor, Failure> {
    let (mut numbers, mut rows) = (Vec::new(), 0);
    for line in TABLE.lines() {
        let row: Vec<f32> = line.split(',').map(str::parse).collect::<Result<_, _>>()?;
        numbers.extend(row);
        rows += 1;
    }
    Ok(Tensor::from_vec(numbers, [rows, 65])?)
}

/// Images `[rows, 1, 8, 8]` with values from -1 to 1, and which digit each is.
fn split(rows: &Tensor) -> ascend_tensor::Result<(Tensor, Tensor)> {
    let images = rows.narrow(1, 0, 64)?.div(8.0)?.sub(1.0)?;
    Ok((
        images.reshape([rows.dims()[0], 1, 8, 8])?,
        rows.select(1, 64)?.to_dtype(DType::I64)?,
    ))
}

fn network(place: &Place) -> ascend_tensor::Result<Sequential> {
    let same = ConvLayerOptions::new().padding(1);
    Ok(Sequential::new()
        .then(Conv2d::new([16, 1, 3, 3], same, place)?)
        .then(BatchNorm::new(16, place)?)
        .then(Activation::Relu)
        .then(MaxPool2d::new(2))
        .then(Conv2d::new([32, 16, 3, 3], same, place)?)
        .then(BatchNorm::new(32, place)?)
        .then(Activation::Relu)
        .then(MaxPool2d::new(2))
        .then(Flatten)
        .then(Dropout::new(0.2))
        .then(Linear::new([10, 128], (), place)?))
}

fn train(
    network: &Sequential,
    table: &Tensor,
    generator: &Generator,
    epochs: usize,
) -> Result<(), Failure> {
    let count = table.dims()[0];
    let steps = count / BATCH;
    let options = AdamOptions::new().lr(4e-3);
    let schedule = Schedule::Cosine {
        steps: (epochs * steps) as u64,
        least: 0.05,
    };
    let adam = Adam::w(network.parameters(), options);
    let mut trainer = Trainer::new(network, adam, TrainerOptions::new().schedule(schedule))?;
    let bar = common::progress((epochs * steps) as u64, "steps")?;
    for _ in 0..epochs {
        let order = Tensor::randperm(count, RandomOptions::new().generator(generator))?;
        for step in 0..steps {
            let rows = order.narrow(0, (step * BATCH) as i64, BATCH as i64)?;
            let loss = |batch: &Tensor| {
                let (images, digits) = split(batch)?;
                let logits = network.forward(&images, Phase::Training)?;
                Ok(StepLoss::new(logits.cross_entropy(&digits, ())?, BATCH))
            };
            let report = trainer.step(&[table.index_select(0, &rows)?], &loss)?;
            bar.set_message(format!("loss {:.3}", report.loss));
            bar.inc(1);
        }
    }
    bar.finish();
    Ok(())
}
