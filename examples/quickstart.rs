//! Quickstart: a classifier trained on real data, on the best device there is.
//!
//! Prints the devices, loads the UCI red wine table (1599 wines, 11 measurements, a quality grade), standardises it, trains a
//! two-layer network by autograd and SGD, and prints how many held-out wines it grades right.
//! `--device cpu|ascend:0|emulator` chooses the device; `emulator` runs the whole NPU path on this computer.

mod common;

use std::error::Error;

use ascend_tensor::{
    DType, Device, Generator, RandomOptions, ReduceOptions, SgdOptions, Tensor, ascend, no_grad,
};

const HIDDEN: usize = 32;
const EPOCHS: usize = 40;
const BATCH: usize = 64;
const LEARNING_RATE: f64 = 0.02;
const MOMENTUM: f64 = 0.9;

fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let device = choose_device()?;
    println!("training on {device}");

    let (features, grades, classes) = load()?;
    let count = features.dims()[0];
    let held_out = count / 5;
    let generator = Generator::new(7);
    let order = Tensor::randperm(count, RandomOptions::new().generator(&generator))?;
    let (features, grades) = (
        features.index_select(0, &order)?,
        grades.index_select(0, &order)?,
    );
    let split = |x: &Tensor| -> ascend_tensor::Result<(Tensor, Tensor)> {
        Ok((
            x.narrow(0, held_out as i64, (count - held_out) as i64)?
                .to_device(device)?,
            x.narrow(0, 0, held_out as i64)?.to_device(device)?,
        ))
    };
    let ((x, x_test), (y, y_test)) = (split(&features)?, split(&grades)?);
    let (x, x_test) = standardise(&x, &x_test)?;

    let mut network = Network::new(x.dims()[1], classes, &generator, device)?;
    let loss = train(&mut network, &x, &y, &generator)?;

    let accuracy = no_grad(|| network.accuracy(&x_test, &y_test))?;
    let majority = majority_share(&y_test.to_vec::<i64>()?, classes);
    println!("last training loss {loss:.3}");
    println!(
        "held-out accuracy {:.1} % of {held_out} wines (always naming the most frequent grade: {:.1} %)",
        100.0 * accuracy,
        100.0 * majority
    );
    Ok(())
}

/// Prints what devices there are and picks the one asked for, or the best.
fn choose_device() -> Result<Device, Box<dyn Error + Send + Sync>> {
    let mut arguments = std::env::args().skip(1);
    let asked = match (arguments.next().as_deref(), arguments.next()) {
        (None, _) => None,
        (Some("--device"), Some(name)) => Some(name),
        (Some(other), _) => {
            return Err(format!(
                "unknown argument {other:?}; usage: quickstart [--device cpu|ascend:0|emulator]"
            )
            .into());
        }
    };
    let asked = asked.as_deref().map(common::device).transpose()?;
    match ascend::devices() {
        Ok(devices) => {
            for device in devices {
                println!("found {device}");
            }
        }
        Err(ascend_tensor::Error::Load(error)) => {
            println!(
                "no Ascend NPU: CANN is not installed ({} places were searched for libascendcl.so and libacl_rt.so)",
                error.tried().len()
            );
        }
        Err(error) => println!("no Ascend NPU: {error}"),
    }
    Ok(asked.unwrap_or_else(Device::best))
}

/// The table as tensors on the host: `[wines, measurements]` and the grade of each wine, counted from 0.
fn load() -> Result<(Tensor, Tensor, usize), Box<dyn Error + Send + Sync>> {
    let table = linfa_datasets::winequality();
    let (rows, columns) = table.records().dim();
    let features: Vec<f32> = table.records().iter().map(|value| *value as f32).collect();
    let least = table.targets().iter().min().copied().unwrap_or(0);
    let grades: Vec<i64> = table
        .targets()
        .iter()
        .map(|grade| (grade - least) as i64)
        .collect();
    let classes = grades.iter().max().map_or(0, |grade| *grade as usize + 1);
    Ok((
        Tensor::from_vec(features, [rows, columns])?,
        Tensor::from_vec(grades, [rows])?,
        classes,
    ))
}

/// Both tables with the mean of the first subtracted and divided by its standard deviation, column by column.
fn standardise(train: &Tensor, test: &Tensor) -> ascend_tensor::Result<(Tensor, Tensor)> {
    let mean = train.mean(ReduceOptions::new().dim(0).keepdim())?;
    let centred = (train - &mean)?;
    let deviation = centred
        .mul(&centred)?
        .mean(ReduceOptions::new().dim(0).keepdim())?
        .sqrt()?;
    Ok(((&centred / &deviation)?, ((test - &mean) / &deviation)?))
}

/// Two linear layers with a ReLU between them.
struct Network {
    parameters: [Tensor; 4],
    /// What SGD remembers of each parameter's gradients.
    momenta: [Option<Tensor>; 4],
}

impl Network {
    fn new(
        inputs: usize,
        classes: usize,
        generator: &Generator,
        device: Device,
    ) -> ascend_tensor::Result<Self> {
        let weight = |rows: usize, columns: usize| {
            let scale = (2.0 / columns as f64).sqrt();
            let options = RandomOptions::new().device(device).generator(generator);
            Tensor::randn([rows, columns], options)?
                .mul(scale)?
                .requires_grad()
        };
        let bias = |size: usize| Tensor::zeros([size], DType::F32, device)?.requires_grad();
        let parameters = [
            weight(HIDDEN, inputs)?,
            bias(HIDDEN)?,
            weight(classes, HIDDEN)?,
            bias(classes)?,
        ];
        Ok(Network {
            parameters,
            momenta: Default::default(),
        })
    }

    fn logits(&self, x: &Tensor) -> ascend_tensor::Result<Tensor> {
        let [w1, b1, w2, b2] = &self.parameters;
        x.linear(w1, Some(b1))?.relu()?.linear(w2, Some(b2))
    }

    fn accuracy(&self, x: &Tensor, y: &Tensor) -> ascend_tensor::Result<f32> {
        self.logits(x)?
            .argmax(1)?
            .eq(y)?
            .to_dtype(DType::F32)?
            .mean(())?
            .item()
    }
}

/// Trains and returns the last loss.
fn train(
    network: &mut Network,
    x: &Tensor,
    y: &Tensor,
    generator: &Generator,
) -> Result<f32, Box<dyn Error + Send + Sync>> {
    let count = x.dims()[0];
    let steps = count / BATCH;
    let bar = common::progress((EPOCHS * steps) as u64, "steps")?;
    let mut last = f32::NAN;
    for _ in 0..EPOCHS {
        let options = RandomOptions::new().device(x.device()).generator(generator);
        let order = Tensor::randperm(count, options)?;
        for step in 0..steps {
            let batch = order.narrow(0, (step * BATCH) as i64, BATCH as i64)?;
            let (x, y) = (x.index_select(0, &batch)?, y.index_select(0, &batch)?);
            let loss = network.logits(&x)?.cross_entropy(&y, ())?;
            let gradients = loss.backward()?;
            let options = SgdOptions::new(LEARNING_RATE).momentum(MOMENTUM);
            for (parameter, momentum) in network.parameters.iter_mut().zip(&mut network.momenta) {
                if let Some(gradient) = gradients.get(parameter) {
                    no_grad(|| parameter.sgd_step_(gradient, momentum, options))?;
                }
            }
            if step + 1 == steps {
                last = loss.item()?;
                bar.set_message(format!("{last:.3}"));
            }
            bar.inc(1);
        }
    }
    bar.finish();
    Ok(last)
}

/// The share of the most frequent grade.
fn majority_share(grades: &[i64], classes: usize) -> f32 {
    let count = |class: i64| grades.iter().filter(|grade| **grade == class).count();
    let most = (0..classes as i64).map(count).max().unwrap_or(0);
    most as f32 / grades.len().max(1) as f32
}
