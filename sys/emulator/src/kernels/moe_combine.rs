//! Rows of experts back to the ranks of their tokens.
//!
//! Knows the kernel interface and ranks; it must not know sockets, streams' queues or device memory.

use super::fused_collective::Ranks;
use super::moe_distribute::{Choices, Spread, refuse_later};
use super::norm::root_normalize;
use crate::failure::{Fault, Refusal};
use crate::kernel::{Call, Prepare, Work};
use crate::tensor::Tensor;

/// This family's ops.
pub(crate) const KERNELS: &[(&str, Prepare)] = &[
    ("aclnnMoeDistributeCombine", |call| combine(call, 1, false)),
    ("aclnnMoeDistributeCombineV2", |call| {
        combine(call, 2, false)
    }),
    ("aclnnMoeDistributeCombineV3", |call| {
        combine(call, 3, false)
    }),
    ("aclnnMoeDistributeCombineV4", |call| {
        combine(call, 4, false)
    }),
    ("aclnnMoeDistributeCombineAddRmsNorm", |call| {
        combine(call, 2, true)
    }),
    ("aclnnMoeDistributeCombineAddRmsNormV2", |call| {
        combine(call, 3, true)
    }),
];

/// What follows the sum of a token's rows: a residual added, then the root-mean-square norm.
struct Norm {
    residual: Tensor,
    gamma: Tensor,
    epsilon: f32,
    y: Tensor,
    rstd: Tensor,
}

/// Rows back to their tokens, each times its weight, those of one token added up.
fn combine(call: &Call, form: usize, normed: bool) -> Result<Work, Refusal> {
    let shift = 2 * usize::from(normed);
    let later = form.saturating_sub(2);
    // Counts of tensor parallelism, mask, two scales, groups and weights follow each other from here.
    let first = 5 + shift;
    let group = match form {
        1 => first + 6,
        2 => first + 7,
        _ => first + 12 + (later - 1),
    };
    let numbers = group + 14 + usize::from(form > 1) + usize::from(normed);
    let outputs = numbers + if form > 2 { 3 } else { 0 };
    if form > 2 {
        refuse_later(call, first + 7..group, numbers..outputs)?;
    }
    if form > 1 && call.optional_tensor(first + 6).is_some() {
        // The manual's formula and its text differ about the factor of these.
        return Err(call.unsupported("rows of a shared expert have no kernel here"));
    }
    refuse_later(call, first + 2..first + 5, 0..0)?;
    if call.int(group + 12)? != 0 {
        return Err(call.unsupported(format!(
            "commQuantMode {} has no kernel here",
            call.int(group + 12)?
        )));
    }
    let (rows, ends, weights) = (call.tensor(0)?, call.tensor(3)?, call.tensor(4)?);
    let out = call.tensor(outputs + if normed { 2 } else { 0 })?;
    let (Some(&width), tokens) = (out.shape().last(), call.tensor(1)?.shape()[0]) else {
        return Err(call.invalid("x has no dims"));
    };
    if rows.rank() != 2 || rows.shape()[1] != width || out.count() != tokens * width || width == 0 {
        return Err(call.invalid(format!(
            "expandX {:?} and x {:?} for {tokens} tokens",
            rows.shape(),
            out.shape()
        )));
    }
    call.expect_dtype("x", &out, &[rows.dtype()])?;
    let choices = Choices::of(call, tokens, first + 1)?;
    call.expect_shape("expertScales", &weights, choices.experts.shape())?;
    let (ranks, spread) = Spread::of(call, group, &format!("back {width} of {}", rows.dtype()))?;
    if ends.count() < spread.experts {
        return Err(call.invalid(format!("epSendCounts has shape {:?}", ends.shape())));
    }
    let norm = match normed {
        true => Some(Norm::of(call, numbers - 1, outputs, &out, width)?),
        false => None,
    };
    let combine = Combine {
        rows,
        ends,
        weights,
        out,
        choices,
        ranks,
        spread,
        norm,
    };
    let op = call.name();
    Ok(Work::waiting(move || combine.run(op)))
}

/// What goes back, and where it arrives.
struct Combine {
    rows: Tensor,
    ends: Tensor,
    weights: Tensor,
    out: Tensor,
    choices: Choices,
    ranks: Ranks,
    spread: Spread,
    norm: Option<Norm>,
}

impl Combine {
    fn run(&self, op: &str) -> Result<(), Fault> {
        let parts = returned(op, &self.rows, &self.ends, self.spread)?;
        let parts: Vec<Vec<u8>> = parts
            .into_iter()
            .map(|part| self.ranks.bytes(part.into_iter()))
            .collect();
        let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
        let parts = self.ranks.turn(|turn| turn.swap(0, &parts))?;
        let parts: Vec<Vec<f32>> = parts.iter().map(|part| self.ranks.values(part)).collect();
        let width = self.rows.shape()[1];
        let list = self.choices.list(op, self.spread)?;
        let weights = self.weights.load_vec::<f32>();
        let mut sums = self.out.load_vec::<f32>();
        // Tokens that took no part stay as they are.
        for &(token, ..) in &list {
            sums[token * width..][..width].fill(0.0);
        }
        // A rank's rows come back by expert, then by token.
        let mut order: Vec<&(usize, usize, usize)> = list.iter().collect();
        order.sort_by_key(|entry| entry.2);
        let mut taken = vec![0; self.spread.ranks];
        for &&(token, choice, expert) in &order {
            let rank = expert / self.spread.own;
            let row = parts[rank]
                .get(taken[rank]..taken[rank] + width)
                .ok_or_else(|| {
                    Fault::exception(format!("{op}: rank {rank} sent too few rows back"))
                })?;
            taken[rank] += width;
            let weight = weights[token * self.choices.k + choice];
            let target = &mut sums[token * width..][..width];
            target
                .iter_mut()
                .zip(row)
                .for_each(|(sum, value)| *sum += weight * value);
        }
        if let Some(rank) = (0..self.spread.ranks).find(|&rank| taken[rank] != parts[rank].len()) {
            return Err(Fault::exception(format!(
                "{op}: rank {rank} sent more rows back than it got"
            )));
        }
        match &self.norm {
            Some(norm) => norm.run(sums, &self.out),
            None => self.out.store_slice(&sums),
        }
    }
}

/// Each rank's rows, expert by expert.
fn returned(
    op: &str,
    rows: &Tensor,
    ends: &Tensor,
    spread: Spread,
) -> Result<Vec<Vec<f32>>, Fault> {
    let (values, width) = (rows.load_vec::<f32>(), rows.shape()[1]);
    let ends = ends.load_vec::<i64>();
    let mut parts = vec![Vec::new(); spread.ranks];
    let mut from = 0;
    for (at, &end) in ends.iter().take(spread.experts).enumerate() {
        let end = usize::try_from(end).unwrap_or(usize::MAX);
        if end < from || end > rows.shape()[0] {
            return Err(Fault::exception(format!(
                "{op}: epSendCounts go from {from} to {end} of {} rows",
                rows.shape()[0]
            )));
        }
        parts[at % spread.ranks].extend_from_slice(&values[from * width..end * width]);
        from = end;
    }
    Ok(parts)
}

impl Norm {
    fn of(
        call: &Call,
        epsilon: usize,
        outputs: usize,
        out: &Tensor,
        width: usize,
    ) -> Result<Norm, Refusal> {
        let norm = Norm {
            residual: call.tensor(5)?,
            gamma: call.tensor(6)?,
            epsilon: call.float(epsilon)? as f32,
            y: call.tensor(outputs)?,
            rstd: call.tensor(outputs + 1)?,
        };
        call.expect_shape("gamma", &norm.gamma, &[width])?;
        for (what, tensor, count) in [
            ("residualX", &norm.residual, out.count()),
            ("y", &norm.y, out.count()),
            ("rstd", &norm.rstd, out.count() / width),
        ] {
            if tensor.count() != count {
                return Err(call.invalid(format!("{what} has shape {:?}", tensor.shape())));
            }
        }
        Ok(norm)
    }

    fn run(&self, mut sums: Vec<f32>, out: &Tensor) -> Result<(), Fault> {
        let residual = self.residual.load_vec::<f32>();
        sums.iter_mut()
            .zip(residual)
            .for_each(|(sum, own)| *sum += own);
        let gamma = self.gamma.load_vec::<f32>();
        let (y, rstd) = root_normalize(&sums, &gamma, self.epsilon, false);
        out.store_slice(&sums)?;
        self.y.store_slice(&y)?;
        self.rstd.store_slice(&rstd)
    }
}
