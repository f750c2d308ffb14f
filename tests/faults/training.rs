//! The work under which calls fail: a small classifier as a user would train it, with most of what touches the device.
//!
//! Knows the crate's public interface only. Must not know faults.

use ascend_tensor::ascend::{self, Stream};
use ascend_tensor::{
    AdamOptions, AdamState, DType, Device, EmbeddingOptions, Generator, LayerNormOptions,
    RandomOptions, Result, SgdOptions, Tensor, no_grad,
};

const ROWS: usize = 12;
const BATCH: usize = 6;
const COLUMNS: usize = 5;
const HIDDEN: usize = 8;
const CLASSES: usize = 3;

/// What a run leaves for comparison: losses, texts and a tensor.
#[derive(Debug, Default, PartialEq)]
pub struct Outcome {
    pub losses: Vec<f32>,
    pub printed: String,
    pub last: Vec<f32>,
}

/// A tensor of fixed, uneven values on the host.
pub fn table(rows: usize, columns: usize, seed: f32) -> Result<Tensor> {
    let values = (0..rows * columns).map(|at| ((at as f32 + seed) * 0.7).sin());
    Tensor::from_vec(values.collect(), [rows, columns])
}

struct Network {
    weights: [Tensor; 4],
    scale: Tensor,
    names: Tensor,
}

impl Network {
    fn new(device: Device) -> Result<Self> {
        let leaf = |x: Tensor| x.to_device(device)?.requires_grad();
        Ok(Network {
            weights: [
                leaf(table(HIDDEN, COLUMNS, 1.0)?)?,
                leaf(Tensor::zeros([HIDDEN], DType::F32, Device::Cpu)?)?,
                leaf(table(CLASSES, HIDDEN, 2.0)?)?,
                leaf(Tensor::zeros([CLASSES], DType::F32, Device::Cpu)?)?,
            ],
            scale: leaf(Tensor::full([HIDDEN], 1.5f32, Device::Cpu)?)?,
            names: leaf(table(4, COLUMNS, 3.0)?)?,
        })
    }

    fn logits(&self, x: &Tensor, kind: &Tensor, generator: &Generator) -> Result<Tensor> {
        let [w1, b1, w2, b2] = &self.weights;
        let named = x.add(&self.names.embedding(kind, EmbeddingOptions::new())?)?;
        let hidden = named.linear(w1, Some(b1))?;
        let normal = hidden.layer_norm(LayerNormOptions::new(HIDDEN).weight(&self.scale))?;
        let options = RandomOptions::new().generator(generator);
        let kept = normal.relu()?.dropout(0.25, options)?;
        kept.linear(w2, Some(b2))
    }
}

/// Trains with SGD, then with AdamW, looks at the result in several ways, and works on a second stream.
pub fn train(device: Device) -> Result<Outcome> {
    ascend::devices()?;
    let generator = Generator::new(7);
    let x = table(ROWS, COLUMNS, 0.0)?.to_device(device)?;
    let labels: Vec<i64> = (0..ROWS as i64).map(|row| row % CLASSES as i64).collect();
    let y = Tensor::from_vec(labels, [ROWS])?.to_device(device)?;
    let mut network = Network::new(device)?;
    let mut outcome = Outcome::default();
    let mut momenta: [Option<Tensor>; 4] = Default::default();
    let mut state = AdamState::zeros(&network.scale)?;
    for step in 1..=3 {
        let options = RandomOptions::new().device(device).generator(&generator);
        let batch = Tensor::randperm(ROWS, options)?.narrow(0, 0, BATCH as i64)?;
        let (x, y) = (x.index_select(0, &batch)?, y.index_select(0, &batch)?);
        let loss = network.logits(&x, &y, &generator)?.cross_entropy(&y, ())?;
        let gradients = loss.backward()?;
        for (parameter, momentum) in network.weights.iter_mut().zip(&mut momenta) {
            if let Some(gradient) = gradients.get(parameter) {
                let options = SgdOptions::new(0.05).momentum(0.9);
                no_grad(|| parameter.sgd_step_(gradient, momentum, options))?;
            }
        }
        if let Some(gradient) = gradients.get(&network.scale) {
            let options = AdamOptions::new().lr(0.05).weight_decay(0.1);
            no_grad(|| (network.scale).adamw_step_(gradient, &mut state, step, options))?;
        }
        outcome.losses.push(loss.item()?);
    }
    no_grad(|| look(&network, &x, &y, &mut outcome))?;
    aside(device, &mut outcome)?;
    Ok(outcome)
}

/// Accuracy, a fused softmax, printing, and the pool.
fn look(network: &Network, x: &Tensor, y: &Tensor, outcome: &mut Outcome) -> Result<()> {
    let generator = Generator::new(1);
    let logits = network.logits(x, y, &generator)?;
    let right = logits.argmax(1)?.eq(y)?.to_dtype(DType::F32)?.mean(())?;
    outcome.losses.push(right.item()?);
    let shares = logits.softmax(1)?;
    outcome.printed = format!("{}\n{}", y.narrow(0, 0, 4)?, shares.transpose(0, 1)?);
    outcome.last = shares.to_vec()?;
    Ok(())
}

/// A second stream that uses a tensor of the first.
fn aside(device: Device, outcome: &mut Outcome) -> Result<()> {
    let Device::Ascend(number) = device else {
        return Ok(());
    };
    let shared = table(2, 4, 5.0)?.to_device(device)?;
    let stream = Stream::new(number)?;
    let doubled = stream.with(|| shared.mul(2.0))?;
    let back = doubled.add(&shared)?.to_vec::<f32>()?;
    outcome.last.extend(back);
    stream.synchronize()?;
    stream.close()?;
    ascend::synchronize(number)?;
    ascend::empty_cache(number)
}
