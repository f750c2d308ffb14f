//! The train step: a small DeepSeek-style transformer with latent attention and experts, forward, backward and AdamW.
//!
//! Knows the model. Must not know the clock.

use std::hint::black_box;

use ascend_tensor::ops::attention::{AttentionOptions, RotaryEmbeddingOptions};
use ascend_tensor::ops::moe::GroupList;
use ascend_tensor::{AdamOptions, AdamState, Result, RmsNormOptions, Tensor, TopkOptions, no_grad};

use crate::measure::Call;
use crate::workload::{SplitMix, Workload};

/// Sizes and rates, as the workload names them.
#[derive(Debug, Clone, Copy)]
struct Config {
    vocabulary: usize,
    width: usize,
    layers: usize,
    heads: usize,
    /// Of the latent that keys and values are made from.
    latent: usize,
    /// Of a query and key without position, and with.
    nope: usize,
    rope: usize,
    value: usize,
    dense_hidden: usize,
    experts: usize,
    chosen: usize,
    expert_hidden: usize,
    batch: usize,
    length: usize,
    theta: f64,
    epsilon: f64,
    optimizer: AdamOptions,
}

impl Config {
    fn new(w: &Workload) -> Self {
        Config {
            vocabulary: w.size("vocab"),
            width: w.size("d_model"),
            layers: w.size("layers"),
            heads: w.size("heads"),
            latent: w.size("kv_lora_rank"),
            nope: w.size("nope_dim"),
            rope: w.size("rope_dim"),
            value: w.size("v_dim"),
            dense_hidden: w.size("dense_hidden"),
            experts: w.size("experts"),
            chosen: w.size("top_k"),
            expert_hidden: w.size("expert_hidden"),
            batch: w.size("batch"),
            length: w.size("seq"),
            theta: w.float("rope_theta"),
            epsilon: w.float("norm_eps"),
            optimizer: AdamOptions::new()
                .lr(w.float("lr"))
                .betas([0.9, 0.95])
                .eps(1e-8)
                .weight_decay(w.float("weight_decay")),
        }
    }

    fn tokens(&self) -> usize {
        self.batch * self.length
    }
}

/// Makes parameters one after the other, each from a stream of its own.
#[derive(Default)]
struct Parameters {
    all: Vec<Tensor>,
    /// The number of the next stream.
    stream: u64,
}

impl Parameters {
    fn push(&mut self, values: Vec<f32>, shape: &[usize]) -> Result<usize> {
        self.all
            .push(Tensor::from_vec(values, shape)?.copy()?.requires_grad()?);
        Ok(self.all.len() - 1)
    }

    /// Near-normal numbers of deviation 0.02: sums of twelve uniform ones.
    fn normal(&mut self, count: usize) -> Vec<f32> {
        let mut stream = SplitMix(self.stream);
        self.stream += 1;
        let mut normal = || ((0..12).map(|_| stream.unit()).sum::<f32>() - 6.0) * 0.02;
        (0..count).map(|_| normal()).collect()
    }

    fn matrix(&mut self, rows: usize, columns: usize) -> Result<usize> {
        let values = self.normal(rows * columns);
        self.push(values, &[rows, columns])
    }

    fn ones(&mut self, count: usize) -> Result<usize> {
        self.stream += 1;
        self.push(vec![1.0; count], &[count])
    }

    /// The matrices of a gated unit: gate and up side by side, and down.
    fn gated(&mut self, width: usize, hidden: usize) -> Result<[usize; 2]> {
        let both = self.gate_up(width, hidden);
        Ok([
            self.push(both, &[width, 2 * hidden])?,
            self.matrix(hidden, width)?,
        ])
    }

    /// Gate and up, each from a stream of its own, row by row side by side.
    fn gate_up(&mut self, width: usize, hidden: usize) -> Vec<f32> {
        let [gate, up] = [self.normal(width * hidden), self.normal(width * hidden)];
        let rows = gate.chunks(hidden).zip(up.chunks(hidden));
        rows.flat_map(|(gate, up)| [gate, up].concat()).collect()
    }

    /// As `gated`, of several experts: each matrix with a dim of experts before.
    fn experts(&mut self, count: usize, width: usize, hidden: usize) -> Result<[usize; 2]> {
        let mut values: [Vec<f32>; 2] = Default::default();
        for _ in 0..count {
            values[0].extend(self.gate_up(width, hidden));
            values[1].extend(self.normal(hidden * width));
        }
        let [both, down] = values;
        Ok([
            self.push(both, &[count, width, 2 * hidden])?,
            self.push(down, &[count, hidden, width])?,
        ])
    }
}

/// The parameters of a layer, by number.
struct Layer {
    attention_norm: usize,
    unit_norm: usize,
    latent_norm: usize,
    query: usize,
    latent: usize,
    key_value: usize,
    output: usize,
    /// The dense unit, or the expert that all tokens use.
    unit: [usize; 2],
    /// The experts that tokens choose from, and what chooses.
    mixture: Option<([usize; 2], usize)>,
}

impl Layer {
    fn new(c: &Config, dense: bool, p: &mut Parameters) -> Result<Self> {
        let mut layer = Layer {
            attention_norm: p.ones(c.width)?,
            unit_norm: p.ones(c.width)?,
            latent_norm: p.ones(c.latent)?,
            query: p.matrix(c.width, c.heads * (c.nope + c.rope))?,
            latent: p.matrix(c.width, c.latent + c.rope)?,
            key_value: p.matrix(c.latent, c.heads * (c.nope + c.value))?,
            output: p.matrix(c.heads * c.value, c.width)?,
            unit: p.gated(
                c.width,
                if dense {
                    c.dense_hidden
                } else {
                    c.expert_hidden
                },
            )?,
            mixture: None,
        };
        if !dense {
            let experts = p.experts(c.experts, c.width, c.expert_hidden)?;
            layer.mixture = Some((experts, p.matrix(c.width, c.experts)?));
        }
        Ok(layer)
    }
}

struct Model {
    config: Config,
    parameters: Vec<Tensor>,
    states: Vec<AdamState>,
    step: i64,
    embedding: usize,
    head: usize,
    norm: usize,
    layers: Vec<Layer>,
    cos: Tensor,
    sin: Tensor,
    inputs: Tensor,
    targets: Tensor,
}

impl Model {
    fn new(w: &Workload) -> Result<Self> {
        let c = Config::new(w);
        let mut p = Parameters::default();
        let embedding = p.matrix(c.vocabulary, c.width)?;
        let head = p.matrix(c.width, c.vocabulary)?;
        let norm = p.ones(c.width)?;
        let layers = (0..c.layers)
            .map(|layer| Layer::new(&c, layer == 0, &mut p))
            .collect::<Result<_>>()?;
        let half = c.rope / 2;
        let angle = |i: usize| (i / half) as f64 * c.theta.powf(-((i % half) as f64) / half as f64);
        let table = |f: fn(f64) -> f64| {
            let values = (0..c.length * half).map(|i| f(angle(i)) as f32).collect();
            let table = Tensor::from_vec::<f32>(values, [c.length, 1, half])?;
            Tensor::cat(&[&table, &table], -1)
        };
        let mut stream = SplitMix(77);
        let ids: Vec<i64> = (0..c.batch * (c.length + 1))
            .map(|_| (stream.next() % c.vocabulary as u64) as i64)
            .collect();
        let ids = Tensor::from_vec(ids, [c.batch, c.length + 1])?;
        let part = |start| ids.narrow(1, start, c.length as i64)?.contiguous();
        Ok(Model {
            config: c,
            states: p.all.iter().map(AdamState::zeros).collect::<Result<_>>()?,
            parameters: p.all,
            step: 0,
            embedding,
            head,
            norm,
            layers,
            cos: table(f64::cos)?,
            sin: table(f64::sin)?,
            inputs: part(0)?.reshape([c.tokens()])?,
            targets: part(1)?.reshape([c.tokens()])?,
        })
    }

    fn norm(&self, x: &Tensor, weight: usize) -> Result<Tensor> {
        let weight = &self.parameters[weight];
        let options = RmsNormOptions::new(*weight.shape());
        x.rms_norm(options.weight(weight).epsilon(self.config.epsilon))
    }

    fn product(&self, x: &Tensor, matrix: usize) -> Result<Tensor> {
        x.matmul(&self.parameters[matrix])
    }

    /// `x` plus a product with a parameter.
    fn plus_product(&self, x: &Tensor, y: &Tensor, matrix: usize) -> Result<Tensor> {
        x.addmm(y, &self.parameters[matrix], ())
    }

    /// `x` plus a gated unit of `h`.
    fn plus_gated(&self, x: &Tensor, h: &Tensor, [both, down]: [usize; 2]) -> Result<Tensor> {
        self.plus_product(x, &self.product(h, both)?.swiglu(-1)?, down)
    }

    /// `x` plus attention over `h`.
    fn plus_attention(&self, layer: &Layer, x: &Tensor, h: &Tensor) -> Result<Tensor> {
        let c = &self.config;
        let (nope, rope) = (c.nope as i64, c.rope as i64);
        let heads = |x: &Tensor, width: usize| x.reshape([c.batch, c.length, c.heads, width]);
        let q = heads(&self.product(h, layer.query)?, c.nope + c.rope)?;
        let last = RotaryEmbeddingOptions::new().columns(c.nope..c.nope + c.rope);
        let q = q.rotary_embedding(&self.cos, &self.sin, last)?;
        let latent = self.product(h, layer.latent)?;
        let shared = latent.narrow(1, c.latent as i64, rope)?;
        let shared = shared.reshape([c.batch, c.length, 1, c.rope])?;
        let shared = shared.rotary_embedding(&self.cos, &self.sin, ())?;
        let shared = shared.expand([c.batch, c.length, c.heads, c.rope])?;
        let latent = self.norm(&latent.narrow(1, 0, c.latent as i64)?, layer.latent_norm)?;
        let kv = heads(&self.product(&latent, layer.key_value)?, c.nope + c.value)?;
        let k = Tensor::cat(&[&kv.narrow(3, 0, nope)?, &shared], 3)?;
        let v = kv.narrow(3, nope, c.value as i64)?;
        let scale = 1.0 / ((c.nope + c.rope) as f64).sqrt();
        let options = AttentionOptions::new().causal().scale(scale);
        let [q, k, v] = [q, k, v].map(|x| x.transpose(1, 2));
        let y = q?.scaled_dot_product_attention(&k?, &v?, options)?;
        let y = y
            .transpose(1, 2)?
            .reshape([c.tokens(), c.heads * c.value])?;
        self.plus_product(x, &y, layer.output)
    }

    /// `x` plus the shared expert, and the chosen ones on their own tokens.
    fn plus_mixture(&self, layer: &Layer, x: &Tensor, h: &Tensor) -> Result<Tensor> {
        let y = self.plus_gated(x, h, layer.unit)?;
        let Some(([both, down], router)) = layer.mixture else {
            return Ok(y);
        };
        let c = &self.config;
        // The shares of the chosen experts, scaled to sum up to 1, are the softmax over their scores alone.
        let scores = self.product(h, router)?;
        let (scores, chosen) = scores.topk(c.chosen, TopkOptions::new())?;
        let weights = scores.softmax(-1)?;
        let mut counts = vec![0i64; c.experts];
        for expert in chosen.to_vec::<i64>()? {
            counts[expert as usize] += 1;
        }
        let counts = Tensor::new(counts);
        let own = h.moe_token_permute(&chosen, None)?;
        let product = |x: &Tensor, matrices: usize| {
            x.grouped_matmul(&self.parameters[matrices], &counts, GroupList::Counts)
        };
        let made = product(&product(&own.tokens, both)?.swiglu(-1)?, down)?;
        y.add(&made.moe_token_unpermute(&own.places, Some(&weights))?)
    }

    fn loss(&self) -> Result<Tensor> {
        let mut x = self.parameters[self.embedding].embedding(&self.inputs, ())?;
        for layer in &self.layers {
            let h = self.norm(&x, layer.attention_norm)?;
            x = self.plus_attention(layer, &x, &h)?;
            let h = self.norm(&x, layer.unit_norm)?;
            x = self.plus_mixture(layer, &x, &h)?;
        }
        let logits = self.product(&self.norm(&x, self.norm)?, self.head)?;
        logits.cross_entropy(&self.targets, ())
    }

    fn step(&mut self) -> Result<Tensor> {
        let loss = self.loss()?;
        let gradients = loss.backward()?;
        self.step += 1;
        let (step, optimizer) = (self.step, self.config.optimizer);
        no_grad(|| {
            for (parameter, state) in self.parameters.iter_mut().zip(&mut self.states) {
                if let Some(gradient) = gradients.get(parameter) {
                    parameter.adamw_step_(gradient, state, step, optimizer)?;
                }
            }
            Ok(loss)
        })
    }
}

/// The step as a call; with `DSMINI_LOSS` set, the first three losses are printed before.
pub fn prepare(w: &Workload) -> Result<Call> {
    let mut model = Model::new(w)?;
    if std::env::var_os("DSMINI_LOSS").is_some() {
        for _ in 0..3 {
            eprintln!("ascend-tensor loss {:.5}", model.step()?.item::<f32>()?);
        }
    }
    Ok(Box::new(move || {
        black_box(model.step()?);
        Ok(())
    }))
}
