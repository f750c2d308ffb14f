//! Mixture of experts: gating, routing of tokens to experts, and bringing them back.
//!
//! Knows the kernel interface; it must not know streams, handles or device memory.

use super::common::{checked_index, size_of, volume};
use super::softmax::soften;
use crate::dtype::DType;
use crate::failure::{Fault, Refusal};
use crate::kernel::{Call, Prepare, Work};
use crate::tensor::Tensor;

/// This family's ops.
pub(crate) const KERNELS: &[(&str, Prepare)] = &[
    ("aclnnMoeGatingTopKSoftmax", gating as Prepare),
    ("aclnnMoeGatingTopKSoftmaxV2", gating as Prepare),
    ("aclnnMoeInitRouting", init_routing as Prepare),
    ("aclnnMoeInitRoutingV2", init_routing_v2 as Prepare),
    ("aclnnMoeTokenPermute", permute as Prepare),
    ("aclnnMoeTokenPermuteGrad", permute_grad as Prepare),
    ("aclnnMoeTokenUnpermute", unpermute as Prepare),
    ("aclnnMoeTokenUnpermuteGrad", unpermute_grad as Prepare),
    ("aclnnMoeFinalizeRouting", finalize as Prepare),
    ("aclnnMoeFinalizeRoutingV2", finalize_v2 as Prepare),
];

fn matrix(call: &Call, what: &str, tensor: &Tensor) -> Result<(usize, usize), Refusal> {
    match tensor.shape() {
        &[rows, columns] => Ok((rows, columns)),
        other => Err(call.invalid(format!("{what} has shape {other:?}, wanted 2 dims"))),
    }
}

/// Softmax over all experts, then the k largest in descending order; the first of equals comes first.
fn gating(call: &Call) -> Result<Work, Refusal> {
    let (x, finished) = (call.tensor(0)?, call.optional_tensor(1));
    let k = size_of(call, "k", call.int(2)?, 1)?;
    let second_form = call.name().ends_with("V2");
    let (renorm, first) = if second_form {
        (call.int(3)? == 1, 5)
    } else {
        (false, 3)
    };
    let (y, experts) = (call.tensor(first)?, call.tensor(first + 1)?);
    let Some((&count, lead)) = x.shape().split_last().filter(|split| !split.1.is_empty()) else {
        return Err(call.invalid(format!("x has shape {:?}, wanted 2 or 3 dims", x.shape())));
    };
    if k > count || k > 1024 {
        return Err(call.invalid(format!("k is {k} of {count} experts")));
    }
    let rows = if second_form {
        None
    } else {
        Some(call.tensor(5)?)
    };
    let wants_all = second_form && call.bool(4)?;
    let all = if wants_all {
        Some(call.tensor(7)?)
    } else {
        None
    };
    let shape = [lead, &[k]].concat();
    for tensor in [Some(&y), Some(&experts), rows.as_ref()]
        .into_iter()
        .flatten()
    {
        call.expect_shape("an output", tensor, &shape)?;
    }
    if let Some(finished) = &finished {
        call.expect_shape("finished", finished, lead)?;
    }
    let tokens = volume(lead);
    Ok(Work::new(move || {
        let done = finished.as_ref().map(|tensor| tensor.load_vec::<bool>());
        let mut values = x.load_vec::<f32>();
        let (mut weights, mut indices) = (Vec::new(), Vec::new());
        for (token, row) in values.chunks_exact_mut(count).enumerate() {
            soften(row, false);
            let mut order: Vec<usize> = (0..count).collect();
            order.sort_by(|&a, &b| row[b].total_cmp(&row[a]));
            let chosen = &order[..k];
            let sum: f32 = if renorm {
                chosen.iter().map(|&at| row[at]).sum()
            } else {
                1.0
            };
            weights.extend(chosen.iter().map(|&at| row[at] / sum));
            let over = done.as_ref().is_some_and(|done| done[token]);
            indices.extend(
                chosen
                    .iter()
                    .map(|&at| if over { count } else { at } as i64),
            );
        }
        y.store_slice(&weights)?;
        experts.store_slice(&indices)?;
        if let Some(rows) = &rows {
            let numbers: Vec<i64> = (0..tokens * k)
                .map(|at| (at % k * tokens + at / k) as i64)
                .collect();
            rows.store_slice(&numbers)?;
        }
        all.as_ref().map_or(Ok(()), |all| all.store_slice(&values))
    }))
}

/// Positions in the order of their keys; equals stay in order.
fn sorted(keys: &[i64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..keys.len()).collect();
    order.sort_by_key(|&at| keys.get(at).copied());
    order
}

fn rows_at(values: &[f32], width: usize, rows: impl Iterator<Item = usize>) -> Vec<f32> {
    rows.flat_map(|row| values[row * width..(row + 1) * width].iter().copied())
        .collect()
}

/// Tokens in the order of their experts; `rowIdx` says which slot (j N + n) each entry of `expertIdx` is.
fn init_routing(call: &Call) -> Result<Work, Refusal> {
    let (x, slots, experts) = (call.tensor(0)?, call.tensor(1)?, call.tensor(2)?);
    let active = size_of(call, "activeNum", call.int(3)?, 0)?;
    let (out, places, sorted_experts) = (call.tensor(4)?, call.tensor(5)?, call.tensor(6)?);
    let (tokens, width) = matrix(call, "x", &x)?;
    let (rows, k) = matrix(call, "expertIdx", &experts)?;
    call.expect_shape("rowIdx", &slots, experts.shape())?;
    if rows != tokens {
        return Err(call.invalid(format!("{tokens} tokens, {rows} rows of experts")));
    }
    let kept = tokens.min(active) * k;
    call.expect_shape("expandedXOut", &out, &[kept, width])?;
    call.expect_shape("expandedRowIdxOut", &places, &[rows * k])?;
    call.expect_shape("expandedExpertIdxOut", &sorted_experts, &[rows * k])?;
    let op = call.name();
    Ok(Work::new(move || {
        let (keys, slots) = (experts.load_vec::<i64>(), slots.load_vec::<i64>());
        let order = sorted(&keys);
        let mut inverse = vec![0i64; keys.len()];
        let mut sources = Vec::with_capacity(keys.len());
        for (place, &at) in order.iter().enumerate() {
            let slot = checked_index(op, slots[at], keys.len())?;
            inverse[slot] = place as i64;
            sources.push(slot % tokens);
        }
        let values = x.load_vec::<f32>();
        out.store_slice(&rows_at(&values, width, sources.into_iter().take(kept)))?;
        places.store_slice(&inverse)?;
        let keys: Vec<i64> = order.iter().map(|&at| keys[at]).collect();
        sorted_experts.store_slice(&keys)
    }))
}

/// Tokens in the order of their experts, slots counted n k + j; mode 1 gives each expert `expertCapacity` rows and drops the rest.
fn init_routing_v2(call: &Call) -> Result<Work, Refusal> {
    let (x, experts) = (call.tensor(0)?, call.tensor(1)?);
    let active = size_of(call, "activeNum", call.int(2)?, 0)?;
    let capacity = size_of(call, "expertCapacity", call.int(3)?, 0)?;
    let count = size_of(call, "expertNum", call.int(4)?, 0)?;
    let padded = match call.int(5)? {
        0 => false,
        1 if capacity > 0 && count > 0 => true,
        mode => return Err(call.invalid(format!("dropPadMode is {mode} with capacity {capacity}"))),
    };
    let flag = call.int(6)?;
    let (out, places) = (call.tensor(8)?, call.tensor(9)?);
    let (tokens, width) = matrix(call, "x", &x)?;
    let (rows, k) = matrix(call, "expertIdx", &experts)?;
    let slots = tokens * k;
    let kept = if active == 0 {
        slots
    } else {
        slots.min(active)
    };
    let shape = if padded {
        vec![count, capacity, width]
    } else {
        vec![kept, width]
    };
    if rows != tokens {
        return Err(call.invalid(format!("{tokens} tokens, {rows} rows of experts")));
    }
    call.expect_shape("expandedXOut", &out, &shape)?;
    call.expect_shape("expandedRowIdxOut", &places, &[slots])?;
    let statistics = if !padded && flag > 0 {
        Some(call.tensor(10)?)
    } else if padded && call.bool(7)? {
        Some(call.tensor(11)?)
    } else {
        None
    };
    if let Some(tensor) = &statistics {
        call.expect_shape("the counts", tensor, &[count])?;
    }
    let op = call.name();
    Ok(Work::new(move || {
        let keys = experts.load_vec::<i64>();
        let values = x.load_vec::<f32>();
        let mut counts = vec![0i64; count];
        let mut inverse = vec![-1i64; slots];
        let mut expanded = vec![0f32; out.count()];
        for (place, at) in sorted(&keys).into_iter().enumerate() {
            let mut target = place;
            if padded || statistics.is_some() {
                let expert = checked_index(op, keys[at], count)?;
                let rank = counts[expert] as usize;
                counts[expert] += 1;
                if padded && rank >= capacity {
                    continue;
                }
                if padded {
                    target = expert * capacity + rank;
                }
            }
            inverse[at] = target as i64;
            let source = &values[at / k * width..(at / k + 1) * width];
            if let Some(row) = expanded.get_mut(target * width..(target + 1) * width) {
                row.copy_from_slice(source);
            }
        }
        out.store_slice(&expanded)?;
        places.store_slice(&inverse)?;
        if !padded && flag == 1 {
            let mut sum = 0;
            counts.iter_mut().for_each(|count| {
                sum += *count;
                *count = sum;
            });
        }
        statistics
            .as_ref()
            .map_or(Ok(()), |tensor| tensor.store_slice(&counts))
    }))
}

fn expect_unpadded(call: &Call, index: usize) -> Result<(), Refusal> {
    if call.bool(index)? {
        return Err(call.invalid("paddedMode must be false"));
    }
    Ok(())
}

/// Tokens in the order of a stable sort of their experts; `sortedIndices` says where each slot n k + j went.
fn permute(call: &Call) -> Result<Work, Refusal> {
    let (x, indices) = (call.tensor(0)?, call.tensor(1)?);
    let limit = call.int(2)?;
    expect_unpadded(call, 3)?;
    let (out, places) = (call.tensor(4)?, call.tensor(5)?);
    let (tokens, width) = matrix(call, "tokens", &x)?;
    let k = match indices.shape() {
        [rows] if *rows == tokens => 1,
        [rows, k] if *rows == tokens && *k <= 512 => *k,
        other => {
            return Err(call.invalid(format!("indices has shape {other:?} for {tokens} tokens")));
        }
    };
    let slots = tokens * k;
    let kept = match limit {
        0 => slots,
        1.. => slots.min(limit as usize),
        _ => slots.saturating_sub(limit.unsigned_abs() as usize),
    };
    call.expect_shape("permuteTokensOut", &out, &[kept, width])?;
    call.expect_shape("sortedIndicesOut", &places, &[slots])?;
    call.expect_dtype("permuteTokensOut", &out, &[x.dtype()])?;
    Ok(Work::new(move || {
        let order = sorted(&indices.load_vec::<i64>());
        let mut inverse = vec![0i64; slots];
        for (place, &at) in order.iter().enumerate() {
            inverse[at] = place as i64;
        }
        let values = x.load_vec::<f32>();
        out.store_slice(&rows_at(
            &values,
            width,
            order.iter().take(kept).map(|&at| at / k),
        ))?;
        places.store_slice(&inverse)
    }))
}

/// Each token's gradient is the sum over its slots.
fn permute_grad(call: &Call) -> Result<Work, Refusal> {
    let (grad, places, out) = (call.tensor(0)?, call.tensor(1)?, call.tensor(4)?);
    let k = size_of(call, "numTopk", call.int(2)?, 1)?;
    expect_unpadded(call, 3)?;
    let (rows, width) = matrix(call, "permutedOutputGrad", &grad)?;
    if !places.count().is_multiple_of(k) {
        return Err(call.invalid(format!("{} slots of {k} each", places.count())));
    }
    call.expect_shape("out", &out, &[places.count() / k, width])?;
    Ok(Work::new(move || {
        let values = grad.load_vec::<f32>();
        let mut sums = vec![0f32; out.count()];
        for (slot, place) in places.load_vec::<i64>().into_iter().enumerate() {
            if let Some(row) = usize::try_from(place).ok().filter(|&row| row < rows) {
                let source = &values[row * width..(row + 1) * width];
                let target = &mut sums[slot / k * width..(slot / k + 1) * width];
                target
                    .iter_mut()
                    .zip(source)
                    .for_each(|(sum, &value)| *sum += value);
            }
        }
        out.store_slice(&sums)
    }))
}

/// Checks the operands of the way back: rows, width and slots per token.
fn unpermute_sizes(
    call: &Call,
    permuted: &Tensor,
    places: &Tensor,
    probs: &Option<Tensor>,
    first: usize,
) -> Result<(usize, usize, usize), Refusal> {
    let (rows, width) = matrix(call, "permutedTokens", permuted)?;
    expect_unpadded(call, first)?;
    let k = match probs {
        Some(probs) => {
            let (tokens, k) = matrix(call, "probs", probs)?;
            if tokens * k != places.count() {
                return Err(call.invalid(format!(
                    "probs {:?} for {} slots",
                    probs.shape(),
                    places.count()
                )));
            }
            k
        }
        None => 1,
    };
    Ok((rows, width, k))
}

/// out[n] = Σ_j probs[n][j] permuted[sortedIndices[n k + j]]; rows past the end and probabilities of 0 give nothing.
fn unpermute(call: &Call) -> Result<Work, Refusal> {
    let (permuted, places, probs) = (call.tensor(0)?, call.tensor(1)?, call.optional_tensor(2));
    let (rows, width, k) = unpermute_sizes(call, &permuted, &places, &probs, 3)?;
    let out = call.tensor(5)?;
    call.expect_shape("out", &out, &[places.count() / k.max(1), width])?;
    Ok(Work::new(move || {
        let values = permuted.load_vec::<f32>();
        let shares = probs.as_ref().map(|probs| probs.load_vec::<f32>());
        let mut sums = vec![0f32; out.count()];
        for (slot, place) in places.load_vec::<i64>().into_iter().enumerate() {
            let share = shares.as_ref().map_or(1.0, |shares| shares[slot]);
            let row = usize::try_from(place).map_err(|_| {
                Fault::exception(format!("aclnnMoeTokenUnpermute: row {place} is negative"))
            })?;
            if share != 0.0 && row < rows {
                let source = &values[row * width..(row + 1) * width];
                let target = &mut sums[slot / k * width..(slot / k + 1) * width];
                target
                    .iter_mut()
                    .zip(source)
                    .for_each(|(sum, &value)| *sum += share * value);
            }
        }
        out.store_slice(&sums)
    }))
}

fn unpermute_grad(call: &Call) -> Result<Work, Refusal> {
    let (permuted, dy, places) = (call.tensor(0)?, call.tensor(1)?, call.tensor(2)?);
    let probs = call.optional_tensor(3);
    let (rows, width, k) = unpermute_sizes(call, &permuted, &places, &probs, 4)?;
    let dx = call.tensor(6)?;
    let dprobs = if probs.is_some() {
        Some(call.tensor(7)?)
    } else {
        None
    };
    call.expect_shape(
        "unpermutedTokensGrad",
        &dy,
        &[places.count() / k.max(1), width],
    )?;
    call.expect_shape("permutedTokensGradOut", &dx, permuted.shape())?;
    if let (Some(out), Some(probs)) = (&dprobs, &probs) {
        call.expect_shape("probsGradOut", out, probs.shape())?;
    }
    Ok(Work::new(move || {
        let (values, grads) = (permuted.load_vec::<f32>(), dy.load_vec::<f32>());
        let shares = probs.as_ref().map(|probs| probs.load_vec::<f32>());
        let places = places.load_vec::<i64>();
        let (mut rows_out, mut shares_out) = (vec![0f32; values.len()], vec![0f32; places.len()]);
        for (slot, &place) in places.iter().enumerate() {
            let Some(row) = usize::try_from(place).ok().filter(|&row| row < rows) else {
                continue;
            };
            let share = shares.as_ref().map_or(1.0, |shares| shares[slot]);
            let grad = &grads[slot / k * width..(slot / k + 1) * width];
            let span = row * width..(row + 1) * width;
            shares_out[slot] = values[span.clone()]
                .iter()
                .zip(grad)
                .map(|(a, b)| a * b)
                .sum();
            rows_out[span]
                .iter_mut()
                .zip(grad)
                .for_each(|(out, &g)| *out = share * g);
        }
        dx.store_slice(&rows_out)?;
        dprobs
            .as_ref()
            .map_or(Ok(()), |out| out.store_slice(&shares_out))
    }))
}

/// The operands of the last step: residuals, and scaled expert rows with their bias.
struct Finalize {
    expanded: Tensor,
    residuals: Vec<Tensor>,
    bias: Option<Tensor>,
    scales: Option<Tensor>,
    places: Tensor,
    experts: Option<Tensor>,
    out: Tensor,
    /// Slots counted j N + n; else n k + j.
    by_column: bool,
    /// Rows of −1 are allowed and give nothing.
    dropping: bool,
}

impl Finalize {
    fn work(self, call: &Call) -> Result<Work, Refusal> {
        let (tokens, width) = matrix(call, "out", &self.out)?;
        if tokens == 0 || !self.places.count().is_multiple_of(tokens) {
            return Err(call.invalid(format!("{} slots for {tokens} tokens", self.places.count())));
        }
        let k = self.places.count() / tokens;
        if self.expanded.shape().last() != Some(&width) {
            return Err(call.invalid(format!("expandedX has shape {:?}", self.expanded.shape())));
        }
        for tensor in &self.residuals {
            call.expect_shape("a residual", tensor, &[tokens, width])?;
        }
        for (what, tensor) in [("scales", &self.scales), ("expertIdx", &self.experts)] {
            if let Some(tensor) = tensor {
                call.expect_shape(what, tensor, &[tokens, k])?;
            }
        }
        if let Some(bias) = &self.bias {
            let (_, columns) = matrix(call, "bias", bias)?;
            if columns != width || self.experts.is_none() {
                return Err(call.invalid("bias wants expertIdx and the width of expandedX"));
            }
        }
        let op = call.name();
        Ok(Work::new(move || self.run(op, tokens, width, k)))
    }

    /// out[n] = Σ residuals + Σ_j scales[n][j] (expanded[row of slot] + bias[expert]).
    fn run(&self, op: &str, tokens: usize, width: usize, k: usize) -> Result<(), Fault> {
        let values = self.expanded.load_vec::<f32>();
        let places = self.places.load_vec::<i64>();
        let scales = self.scales.as_ref().map(|tensor| tensor.load_vec::<f32>());
        let bias = self.bias.as_ref().map(|tensor| tensor.load_vec::<f32>());
        let experts = self.experts.as_ref().map(|tensor| tensor.load_vec::<i64>());
        let mut sums = vec![0f32; tokens * width];
        for tensor in &self.residuals {
            let own = tensor.load_vec::<f32>();
            sums.iter_mut()
                .zip(own)
                .for_each(|(sum, value)| *sum += value);
        }
        for token in 0..tokens {
            let target = &mut sums[token * width..(token + 1) * width];
            for j in 0..k {
                let own = token * k + j;
                let slot = if self.by_column {
                    j * tokens + token
                } else {
                    own
                };
                if self.dropping && places[slot] == -1 {
                    continue;
                }
                let row = checked_index(op, places[slot], values.len() / width.max(1))?;
                let scale = scales.as_ref().map_or(1.0, |scales| scales[own]);
                let shift = match (&bias, &experts) {
                    (Some(bias), Some(experts)) => {
                        let expert = checked_index(op, experts[own], bias.len() / width.max(1))?;
                        Some(&bias[expert * width..(expert + 1) * width])
                    }
                    _ => None,
                };
                for (column, sum) in target.iter_mut().enumerate() {
                    let extra = shift.map_or(0.0, |shift| shift[column]);
                    *sum += scale * (values[row * width + column] + extra);
                }
            }
        }
        self.out.store_slice(&sums)
    }
}

/// `expandedX, x1, x2?, bias, scales, expandedRowIdx, expandedExpertIdx, out`; slots are counted j N + n.
fn finalize(call: &Call) -> Result<Work, Refusal> {
    let finalize = Finalize {
        expanded: call.tensor(0)?,
        residuals: [Some(call.tensor(1)?), call.optional_tensor(2)]
            .into_iter()
            .flatten()
            .collect(),
        bias: Some(call.tensor(3)?),
        scales: Some(call.tensor(4)?),
        places: call.tensor(5)?,
        experts: Some(call.tensor(6)?),
        out: call.tensor(7)?,
        by_column: true,
        dropping: false,
    };
    finalize.work(call)
}

/// dropPadMode 0 and 1 count slots j N + n, 2 and 3 n k + j; 1 and 3 allow rows of −1.
fn finalize_v2(call: &Call) -> Result<Work, Refusal> {
    let mode = call.int(7)?;
    if !(0..=3).contains(&mode) {
        return Err(call.invalid(format!("dropPadMode is {mode}, wanted 0 to 3")));
    }
    let places = call.tensor(1)?;
    call.expect_dtype("expandedRowIdx", &places, &[DType::I32])?;
    let finalize = Finalize {
        expanded: call.tensor(0)?,
        residuals: [call.optional_tensor(2), call.optional_tensor(3)]
            .into_iter()
            .flatten()
            .collect(),
        bias: call.optional_tensor(4),
        scales: call.optional_tensor(5),
        places,
        experts: call.optional_tensor(6),
        out: call.tensor(8)?,
        by_column: mode < 2,
        dropping: mode % 2 == 1,
    };
    finalize.work(call)
}
