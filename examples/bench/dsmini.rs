//! The train step: a small DeepSeek-style transformer with latent attention and experts, forward, backward and AdamW.
//!
//! Knows the model. Must not know the clock.

use std::hint::black_box;

use ascend_tensor::{
    AdamOptions, AdamState, ReduceOptions, Result, RmsNormOptions, Tensor, TopkOptions, no_grad,
};

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
}

impl Parameters {
    fn push(&mut self, values: Vec<f32>, shape: &[usize]) -> Result<usize> {
        self.all
            .push(Tensor::from_vec(values, shape)?.requires_grad()?);
        Ok(self.all.len() - 1)
    }

    /// Near-normal numbers of deviation 0.02: sums of twelve uniform ones.
    fn matrix(&mut self, rows: usize, columns: usize) -> Result<usize> {
        let mut stream = SplitMix(self.all.len() as u64);
        let mut normal = || ((0..12).map(|_| stream.unit()).sum::<f32>() - 6.0) * 0.02;
        let values = (0..rows * columns).map(|_| normal()).collect();
        self.push(values, &[rows, columns])
    }

    fn ones(&mut self, count: usize) -> Result<usize> {
        self.push(vec![1.0; count], &[count])
    }

    /// The three matrices of a gated unit: gate, up, down.
    fn gated(&mut self, width: usize, hidden: usize) -> Result<[usize; 3]> {
        Ok([
            self.matrix(width, hidden)?,
            self.matrix(width, hidden)?,
            self.matrix(hidden, width)?,
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
    unit: [usize; 3],
    experts: Vec<[usize; 3]>,
    router: Option<usize>,
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
            experts: Vec::new(),
            router: None,
        };
        if !dense {
            for _ in 0..c.experts {
                layer.experts.push(p.gated(c.width, c.expert_hidden)?);
            }
            layer.router = Some(p.matrix(c.width, c.experts)?);
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
            Tensor::from_vec::<f32>(values, [c.length, half])
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

    fn gated(&self, x: &Tensor, [gate, up, down]: [usize; 3]) -> Result<Tensor> {
        let hidden = self.product(x, gate)?.silu()?.mul(&self.product(x, up)?)?;
        self.product(&hidden, down)
    }

    /// `[a, b]` turned by the position's angles; `x` is `[batch, heads, length, rope]`.
    fn rotate(&self, x: &Tensor) -> Result<Tensor> {
        let half = self.config.rope as i64 / 2;
        let (a, b) = (x.narrow(3, 0, half)?, x.narrow(3, half, half)?);
        let first = a.mul(&self.cos)?.sub(&b.mul(&self.sin)?)?;
        let second = b.mul(&self.cos)?.add(&a.mul(&self.sin)?)?;
        Tensor::cat(&[&first, &second], 3)
    }

    fn attention(&self, layer: &Layer, h: &Tensor) -> Result<Tensor> {
        let c = &self.config;
        let (nope, rope) = (c.nope as i64, c.rope as i64);
        let heads = |x: &Tensor, width: usize| {
            x.reshape([c.batch, c.length, c.heads, width])?
                .transpose(1, 2)
        };
        let q = heads(&self.product(h, layer.query)?, c.nope + c.rope)?;
        let q = Tensor::cat(
            &[
                &q.narrow(3, 0, nope)?,
                &self.rotate(&q.narrow(3, nope, rope)?)?,
            ],
            3,
        )?;
        let latent = self.product(h, layer.latent)?;
        let shared = latent.narrow(1, c.latent as i64, rope)?;
        let shared = self.rotate(&shared.reshape([c.batch, 1, c.length, c.rope])?)?;
        let shared = shared.expand([c.batch, c.heads, c.length, c.rope])?;
        let latent = self.norm(&latent.narrow(1, 0, c.latent as i64)?, layer.latent_norm)?;
        let kv = heads(&self.product(&latent, layer.key_value)?, c.nope + c.value)?;
        let k = Tensor::cat(&[&kv.narrow(3, 0, nope)?, &shared], 3)?;
        let v = kv.narrow(3, nope, c.value as i64)?;
        let scale = 1.0 / ((c.nope + c.rope) as f64).sqrt();
        let scores = q.matmul(&k.transpose(2, 3)?)?.mul(scale)?;
        let later = Tensor::ones(
            [c.length, c.length],
            ascend_tensor::DType::Bool,
            ascend_tensor::Device::Cpu,
        )?
        .triu(1)?;
        let y = scores
            .masked_fill(&later, f64::NEG_INFINITY)?
            .softmax(-1)?
            .matmul(&v)?;
        let y = y
            .transpose(1, 2)?
            .reshape([c.tokens(), c.heads * c.value])?;
        self.product(&y, layer.output)
    }

    /// The shared expert, and the chosen ones on their own tokens.
    fn mixture(&self, layer: &Layer, router: usize, h: &Tensor) -> Result<Tensor> {
        let c = &self.config;
        let shares = self.product(h, router)?.softmax(-1)?;
        let (_, chosen) = no_grad(|| shares.detach().topk(c.chosen, TopkOptions::new()))?;
        let weights = shares.gather(-1, &chosen)?;
        let sums = weights.sum(ReduceOptions::new().dim(-1).keepdim())?;
        let weights = weights.div(&sums)?.reshape([c.tokens() * c.chosen, 1])?;
        let mut places = vec![Vec::new(); c.experts];
        for (place, expert) in chosen.to_vec::<i64>()?.into_iter().enumerate() {
            places[expert as usize].push(place as i64);
        }
        let mut y = self.gated(h, layer.unit)?;
        for (matrices, places) in layer.experts.iter().zip(places) {
            if places.is_empty() {
                continue;
            }
            let rows: Vec<i64> = places.iter().map(|place| place / c.chosen as i64).collect();
            let (rows, places) = (Tensor::new(rows), Tensor::new(places));
            let made = self.gated(&h.index_select(0, &rows)?, *matrices)?;
            let made = made.mul(&weights.index_select(0, &places)?)?;
            y = y.index_add(0, &rows, &made, ())?;
        }
        Ok(y)
    }

    fn loss(&self) -> Result<Tensor> {
        let mut x = self.parameters[self.embedding].embedding(&self.inputs, ())?;
        for layer in &self.layers {
            let h = self.norm(&x, layer.attention_norm)?;
            x = x.add(&self.attention(layer, &h)?)?;
            let h = self.norm(&x, layer.unit_norm)?;
            let y = match layer.router {
                Some(router) => self.mixture(layer, router, &h)?,
                None => self.gated(&h, layer.unit)?,
            };
            x = x.add(&y)?;
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
