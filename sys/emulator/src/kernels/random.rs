//! Random numbers: a counter-based generator (Philox 4x32, ten rounds) and the ops that fill tensors from it.
//!
//! Equal seeds and offsets give equal numbers on every run; they are not the numbers of real hardware.
//! Knows the kernel interface; it must not know streams, handles or device memory.

use super::common::{expect_broadcast, load_broadcast, size_of};
use crate::dtype::{Class, DType};
use crate::failure::{Fault, Refusal};
use crate::kernel::{Arg, Call, Prepare, Work};
use crate::tensor::Tensor;

/// This family's ops.
pub(crate) const KERNELS: &[(&str, Prepare)] = &[
    ("aclnnInplaceNormal", normal as Prepare),
    ("aclnnInplaceNormalTensor", normal as Prepare),
    ("aclnnNormalFloatFloat", normal_of as Prepare),
    ("aclnnNormalFloatTensor", normal_of as Prepare),
    ("aclnnNormalTensorFloat", normal_of as Prepare),
    ("aclnnNormalTensorTensor", normal_of as Prepare),
    ("aclnnInplaceUniform", uniform as Prepare),
    ("aclnnInplaceUniformTensor", uniform as Prepare),
    ("aclnnInplaceRandom", integers as Prepare),
    ("aclnnInplaceRandomTensor", integers as Prepare),
    ("aclnnBernoulli", bernoulli as Prepare),
    ("aclnnBernoulliTensor", bernoulli as Prepare),
    ("aclnnInplaceBernoulli", bernoulli as Prepare),
    ("aclnnInplaceBernoulliTensor", bernoulli as Prepare),
    ("aclnnRandperm", permutation as Prepare),
    ("aclnnMultinomial", multinomial as Prepare),
    ("aclnnMultinomialTensor", multinomial as Prepare),
    ("aclnnRReluWithNoise", rrelu as Prepare),
    ("aclnnInplaceRReluWithNoise", rrelu as Prepare),
];

/// A stream of random 32-bit words.
#[derive(Debug, Clone)]
pub(crate) struct Philox {
    key: [u32; 2],
    counter: [u32; 4],
    words: [u32; 4],
    used: usize,
}

impl Philox {
    /// The stream of a seed and an offset; streams of different offsets do not overlap.
    pub fn new(seed: u64, offset: u64) -> Philox {
        Philox {
            key: [seed as u32, (seed >> 32) as u32],
            counter: [0, 0, offset as u32, (offset >> 32) as u32],
            words: [0; 4],
            used: 4,
        }
    }

    fn block(&self) -> [u32; 4] {
        let ([mut k0, mut k1], [mut a, mut b, mut c, mut d]) = (self.key, self.counter);
        for _ in 0..10 {
            let first = u64::from(a) * 0xd251_1f53;
            let second = u64::from(c) * 0xcd9e_8d57;
            (a, b, c, d) = (
                (second >> 32) as u32 ^ b ^ k0,
                second as u32,
                (first >> 32) as u32 ^ d ^ k1,
                first as u32,
            );
            k0 = k0.wrapping_add(0x9e37_79b9);
            k1 = k1.wrapping_add(0xbb67_ae85);
        }
        [a, b, c, d]
    }

    /// The next word.
    pub fn word(&mut self) -> u32 {
        if self.used == self.words.len() {
            self.words = self.block();
            self.used = 0;
            self.counter[0] = self.counter[0].wrapping_add(1);
            if self.counter[0] == 0 {
                self.counter[1] = self.counter[1].wrapping_add(1);
            }
        }
        let word = self.words[self.used];
        self.used += 1;
        word
    }

    /// A number of [0, 1) with 24 bits, exact in f32.
    pub fn unit(&mut self) -> f32 {
        (self.word() >> 8) as f32 / 16_777_216.0
    }

    /// A number of [0, 1) with 53 bits.
    pub fn wide_unit(&mut self) -> f64 {
        let (high, low) = (u64::from(self.word() >> 5), u64::from(self.word() >> 6));
        ((high << 26) | low) as f64 / 9_007_199_254_740_992.0
    }

    /// Two independent normal numbers (Box and Muller).
    fn normals(&mut self) -> [f64; 2] {
        let radius = (-2.0 * (1.0 - self.wide_unit()).ln()).sqrt();
        let angle = std::f64::consts::TAU * self.wide_unit();
        [radius * angle.cos(), radius * angle.sin()]
    }

    /// An integer below `limit`, which is not 0.
    fn below(&mut self, limit: u64) -> u64 {
        let wide = (u64::from(self.word()) << 32) | u64::from(self.word());
        ((u128::from(wide) * u128::from(limit)) >> 64) as u64
    }
}

/// Seed and offset: host values, or device tensors with an offset on top.
#[derive(Debug, Clone)]
pub(crate) enum Origin {
    /// Known when the op is prepared.
    Host(u64, u64),
    /// Read when it runs.
    Device(Tensor, Tensor, u64),
}

impl Origin {
    /// From the parameters at `index`.
    pub fn of(call: &Call, index: usize) -> Result<Origin, Refusal> {
        if matches!(call.arg(index), Some(Arg::Tensor(_))) {
            return Ok(Origin::Device(
                call.tensor(index)?,
                call.tensor(index + 1)?,
                call.int(index + 2)? as u64,
            ));
        }
        Ok(Origin::Host(
            call.int(index)? as u64,
            call.int(index + 1)? as u64,
        ))
    }

    /// The stream.
    pub fn start(&self) -> Philox {
        match self {
            Origin::Host(seed, offset) => Philox::new(*seed, *offset),
            Origin::Device(seed, offset, more) => Philox::new(
                seed.load_one::<i64>() as u64,
                (offset.load_one::<i64>() as u64).wrapping_add(*more),
            ),
        }
    }
}

fn normals(random: &mut Philox, count: usize) -> Vec<f64> {
    let mut values: Vec<f64> = (0..count.div_ceil(2))
        .flat_map(|_| random.normals())
        .collect();
    values.truncate(count);
    values
}

/// `self = mean + std * z`.
fn normal(call: &Call) -> Result<Work, Refusal> {
    let (out, mean, std) = (call.tensor(0)?, call.float(1)?, call.float(2)?);
    let origin = Origin::of(call, 3)?;
    if std < 0.0 {
        return Err(call.invalid(format!("std is {std}, wanted at least 0")));
    }
    Ok(Work::new(move || {
        let mut values = normals(&mut origin.start(), out.count());
        values.iter_mut().for_each(|z| *z = mean + std * *z);
        out.store_slice(&values)
    }))
}

/// `out = mean + std * z`, each of them a number or a tensor.
fn normal_of(call: &Call) -> Result<Work, Refusal> {
    let out = call.tensor(4)?;
    let origin = Origin::of(call, 2)?;
    let number = |index: usize| call.float(index).unwrap_or_default();
    let (mean, std) = (call.optional_tensor(0), call.optional_tensor(1));
    let (mean_number, std_number) = (number(0), number(1));
    for tensor in [&mean, &std].into_iter().flatten() {
        expect_broadcast(call, "a parameter", tensor, out.shape())?;
    }
    Ok(Work::new(move || {
        let fill = |tensor: &Option<Tensor>, number: f64| {
            tensor.as_ref().map_or_else(
                || vec![number; out.count()],
                |tensor| load_broadcast::<f64>(tensor, out.shape()),
            )
        };
        let (means, stds) = (fill(&mean, mean_number), fill(&std, std_number));
        let mut values = normals(&mut origin.start(), out.count());
        for (z, (mean, std)) in values.iter_mut().zip(means.iter().zip(&stds)) {
            *z = mean + std * *z;
        }
        out.store_slice(&values)
    }))
}

/// Below 0 the input times a slope: drawn from [lower, upper) in training and kept as noise, else the mean of both.
fn rrelu(call: &Call) -> Result<Work, Refusal> {
    let (x, noise) = (call.tensor(0)?, call.tensor(1)?);
    let out = call.optional_tensor(7).unwrap_or_else(|| x.clone());
    let (lower, upper) = (call.scalar(2)?.f64(), call.scalar(3)?.f64());
    let (training, origin) = (call.bool(4)?, Origin::of(call, 5)?);
    if lower > upper {
        return Err(call.invalid(format!("lower {lower} is above upper {upper}")));
    }
    call.expect_shape("out", &out, x.shape())?;
    if training {
        call.expect_shape("noise", &noise, x.shape())?;
    }
    Ok(Work::new(move || {
        let (mut random, mut values) = (origin.start(), x.load_vec::<f64>());
        let mut slopes = vec![1f64; values.len()];
        for (value, slope) in values.iter_mut().zip(&mut slopes) {
            if *value <= 0.0 {
                *slope = if training {
                    lower + (upper - lower) * random.wide_unit()
                } else {
                    f64::midpoint(lower, upper)
                };
                *value *= *slope;
            }
        }
        if training {
            noise.store_slice(&slopes)?;
        }
        out.store_slice(&values)
    }))
}

/// `self` uniform in [from, to) before it is rounded to its dtype.
fn uniform(call: &Call) -> Result<Work, Refusal> {
    let (out, from, to) = (call.tensor(0)?, call.float(1)?, call.float(2)?);
    let origin = Origin::of(call, 3)?;
    if from > to {
        return Err(call.invalid(format!("from {from} is above to {to}")));
    }
    Ok(Work::new(move || {
        let mut random = origin.start();
        if out.dtype().class() == Class::Float64 {
            let values: Vec<f64> = (0..out.count())
                .map(|_| from + (to - from) * random.wide_unit())
                .collect();
            return out.store_slice(&values);
        }
        let (from, width) = (from as f32, (to - from) as f32);
        let values: Vec<f32> = (0..out.count())
            .map(|_| from + width * random.unit())
            .collect();
        out.store_slice(&values)
    }))
}

/// `self` of integers of [from, to).
fn integers(call: &Call) -> Result<Work, Refusal> {
    let (out, from, to) = (call.tensor(0)?, call.int(1)?, call.int(2)?);
    let origin = Origin::of(call, 3)?;
    if from >= to {
        return Err(call.invalid(format!("from {from} is not below to {to}")));
    }
    let width = to.wrapping_sub(from) as u64;
    Ok(Work::new(move || {
        let mut random = origin.start();
        let values: Vec<i64> = (0..out.count())
            .map(|_| from.wrapping_add(random.below(width) as i64))
            .collect();
        out.store_slice(&values)
    }))
}

/// 1 with a probability, else 0. The probability is a scalar or a tensor.
fn bernoulli(call: &Call) -> Result<Work, Refusal> {
    let out = call.tensor(if call.name().starts_with("aclnnInplace") {
        0
    } else {
        4
    })?;
    let origin = Origin::Host(call.int(2)? as u64, call.int(3)? as u64);
    let (scalar, tensor) = (call.optional_scalar(1), call.optional_tensor(1));
    match (&scalar, &tensor) {
        (Some(scalar), _) if !(0.0..=1.0).contains(&scalar.f64()) => {
            return Err(call.invalid(format!("prob is {}, wanted [0, 1]", scalar.f64())));
        }
        (None, None) => return Err(call.invalid("prob is null")),
        (None, Some(tensor)) => expect_broadcast(call, "prob", tensor, out.shape())?,
        _ => {}
    }
    Ok(Work::new(move || {
        let mut random = origin.start();
        let probabilities = match (&scalar, &tensor) {
            (None, Some(tensor)) => load_broadcast::<f32>(tensor, out.shape()),
            (scalar, _) => vec![scalar.map_or(0.0, |p| p.f32()); out.count()],
        };
        let values: Vec<bool> = probabilities.iter().map(|&p| random.unit() < p).collect();
        out.store_slice(&values)
    }))
}

/// The numbers below `n` in random order (Fisher and Yates).
fn permutation(call: &Call) -> Result<Work, Refusal> {
    let count = size_of(call, "n", call.int(0)?, 0)?;
    let (origin, out) = (Origin::of(call, 1)?, call.tensor(3)?);
    call.expect_shape("out", &out, &[count])?;
    Ok(Work::new(move || {
        let mut random = origin.start();
        let mut values: Vec<i64> = (0..count as i64).collect();
        for last in (1..count).rev() {
            values.swap(last, random.below(last as u64 + 1) as usize);
        }
        out.store_slice(&values)
    }))
}

/// Draws categories by weight, with or without putting them back.
fn multinomial(call: &Call) -> Result<Work, Refusal> {
    let x = call.tensor(0)?;
    let samples = size_of(call, "numsamples", call.int(1)?, 1)?;
    let replacement = call.bool(2)?;
    let (origin, out) = (Origin::of(call, 3)?, call.tensor(call.count() - 1)?);
    let (lead, classes) = match x.shape() {
        [classes] => (&[][..], *classes),
        [lead @ .., classes] if lead.len() == 1 => (lead, *classes),
        other => {
            return Err(call.invalid(format!("self has shape {other:?}, wanted 1 or 2 dims")));
        }
    };
    if !replacement && samples > classes {
        return Err(call.invalid(format!("{samples} samples of {classes} categories")));
    }
    call.expect_shape("out", &out, &[lead, &[samples]].concat())?;
    call.expect_dtype("out", &out, &[DType::I64])?;
    Ok(Work::new(move || {
        let mut random = origin.start();
        let mut drawn = Vec::with_capacity(out.count());
        for row in x.load_vec::<f64>().chunks_exact(classes.max(1)) {
            let row = if replacement {
                draw(row, samples, &mut random)
            } else {
                draw_once(row, samples, &mut random)
            };
            drawn.extend(row?);
        }
        out.store_slice(&drawn)
    }))
}

fn bad_weights() -> Fault {
    Fault::exception("weights of a draw are negative, not finite or sum to 0")
}

/// Draws by the inverse of the cumulated weights.
fn draw(weights: &[f64], samples: usize, random: &mut Philox) -> Result<Vec<i64>, Fault> {
    let mut sum = 0.0;
    let cumulated: Vec<f64> = weights
        .iter()
        .map(|&weight| {
            sum += weight;
            sum
        })
        .collect();
    if !sum.is_finite() || sum <= 0.0 || weights.iter().any(|&weight| weight < 0.0) {
        return Err(bad_weights());
    }
    Ok((0..samples)
        .map(|_| {
            let point = random.wide_unit() * sum;
            cumulated
                .partition_point(|&end| end <= point)
                .min(weights.len() - 1) as i64
        })
        .collect())
}

/// The categories of the first arrivals of exponential clocks that run at the speed of the weights.
fn draw_once(weights: &[f64], samples: usize, random: &mut Philox) -> Result<Vec<i64>, Fault> {
    if weights
        .iter()
        .any(|weight| !weight.is_finite() || *weight < 0.0)
    {
        return Err(bad_weights());
    }
    let mut arrivals: Vec<(f64, i64)> = weights
        .iter()
        .enumerate()
        .map(|(class, &weight)| (-(1.0 - random.wide_unit()).ln() / weight, class as i64))
        .collect();
    arrivals.sort_by(|a, b| a.0.total_cmp(&b.0));
    Ok(arrivals.iter().take(samples).map(|entry| entry.1).collect())
}
