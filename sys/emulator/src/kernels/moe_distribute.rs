//! Tokens to the experts of other ranks.
//!
//! Knows the kernel interface and ranks; it must not know sockets, streams' queues or device memory.
//!
//! Rows lie by expert, then by rank, then by token. The manuals leave to the implementation what `epRecvCounts` (here: ends of the
//! rows of each expert and rank) and the notes for the way back hold (here: rank, token and choice of each row in the later forms,
//! the number among the rank's tokens for this expert in the first).

use super::fused_collective::Ranks;
use crate::dtype::DType;
use crate::failure::{Fault, Refusal};
use crate::kernel::{Call, Family, Prepare, Work};
use crate::tensor::Tensor;

/// This family's ops.
pub(crate) const KERNELS: &[(&str, Prepare)] = &[
    ("aclnnMoeDistributeDispatch", |call| Dispatch::of(call, 1)),
    ("aclnnMoeDistributeDispatchV2", |call| Dispatch::of(call, 2)),
    ("aclnnMoeDistributeDispatchV3", |call| Dispatch::of(call, 3)),
    ("aclnnMoeDistributeDispatchV4", |call| Dispatch::of(call, 4)),
];

/// i32 that the notes of one row take.
const NOTE: usize = 128;

/// How experts are spread over the ranks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spread {
    pub ranks: usize,
    pub experts: usize,
    /// Experts of each rank.
    pub own: usize,
}

impl Spread {
    /// Size and number of the rank, number of experts, and what serves other kinds of parallelism follow each other from `first`.
    pub fn of(call: &Call, group: usize, said: &str) -> Result<(Ranks, Spread), Refusal> {
        let first = group + 1;
        let natural = |index: usize| -> Result<usize, Refusal> {
            let value = call.int(index)?;
            usize::try_from(value)
                .map_err(|_| call.invalid(format!("parameter {index} is {value}")))
        };
        let (size, rank, experts) = (natural(first)?, natural(first + 1)?, natural(first + 2)?);
        if natural(first + 4)? > 1 || natural(first + 5)? != 0 {
            return Err(call.unsupported("a group of tensor parallelism has no kernel here"));
        }
        if natural(first + 6)? != 0 {
            return Err(call.invalid(format!("expertShardType is {}", call.int(first + 6)?)));
        }
        if natural(first + 8)? != 0 {
            return Err(call.unsupported("ranks of shared experts have no kernel here"));
        }
        if size == 0 || experts == 0 || !experts.is_multiple_of(size) || experts > 1024 {
            return Err(call.invalid(format!("{experts} experts on {size} ranks")));
        }
        let ranks = Ranks::of(
            call,
            group,
            None,
            DType::F32,
            format!("{experts} experts, {said}"),
        )?;
        if (size, rank) != (ranks.count(), ranks.communicator.rank) {
            return Err(call.invalid(format!(
                "epWorldSize {size} and epRankId {rank}, this is rank {} of {}",
                ranks.communicator.rank,
                ranks.count()
            )));
        }
        let own = experts / size;
        let spread = Spread {
            ranks: size,
            experts,
            own,
        };
        Ok((ranks, spread))
    }
}

/// The choices of all tokens: experts, and which of them take part.
pub(super) struct Choices {
    pub experts: Tensor,
    mask: Option<Tensor>,
    pub k: usize,
}

impl Choices {
    pub fn of(call: &Call, tokens: usize, mask: usize) -> Result<Choices, Refusal> {
        let experts = call.tensor(1)?;
        let &[rows, k] = experts.shape() else {
            return Err(call.invalid(format!("expertIds has shape {:?}", experts.shape())));
        };
        if rows != tokens || k == 0 || k > 16 {
            return Err(call.invalid(format!("expertIds {rows} by {k} for {tokens} tokens")));
        }
        let mask = call.optional_tensor(mask).filter(|mask| !mask.is_empty());
        if let Some(mask) = &mask
            && mask.shape() != [tokens]
        {
            call.expect_shape("xActiveMask", mask, &[tokens, k])?;
        }
        Ok(Choices { experts, mask, k })
    }

    /// Token, choice and expert of everything that is sent.
    pub fn list(&self, op: &str, spread: Spread) -> Result<Vec<(usize, usize, usize)>, Fault> {
        let mask = self.mask.as_ref().map(|mask| mask.load_vec::<bool>());
        let mut list = Vec::new();
        for (at, expert) in self.experts.load_vec::<i64>().into_iter().enumerate() {
            let (token, choice) = (at / self.k, at % self.k);
            let open = mask.as_ref().is_none_or(|mask| {
                let whole = mask.len() * self.k == self.experts.count();
                mask[if whole { token } else { at }]
            });
            if !open {
                continue;
            }
            let found = usize::try_from(expert).ok();
            let expert = found
                .filter(|&expert| expert < spread.experts)
                .ok_or_else(|| {
                    Fault::exception(format!("{op}: expert {expert} of {}", spread.experts))
                })?;
            list.push((token, choice, expert));
        }
        Ok(list)
    }
}

/// What later forms can ask for and this one has not: the first index of such tensors, of numbers of such experts.
pub(super) fn refuse_later(
    call: &Call,
    tensors: std::ops::Range<usize>,
    numbers: std::ops::Range<usize>,
) -> Result<(), Refusal> {
    if let Some(index) = tensors
        .into_iter()
        .find(|&index| call.optional_tensor(index).is_some())
    {
        return Err(call.unsupported(format!("parameter {index} has no kernel here")));
    }
    for index in numbers {
        if call.int(index)? != 0 {
            return Err(call.unsupported(format!(
                "experts that compute nothing (parameter {index}) have no kernel here"
            )));
        }
    }
    Ok(())
}

/// Whether rows become bytes, each by its largest value.
fn quantised(call: &Call, index: usize) -> Result<bool, Refusal> {
    match call.int(index)? {
        0 => Ok(false),
        2 => Ok(true),
        mode if call.family() == Family::A950 => {
            Err(call.unsupported(format!("quantMode {mode} has no kernel here")))
        }
        mode => Err(call.invalid(format!("quantMode is {mode}, wanted 0 or 2"))),
    }
}

/// Rows to the ranks of their experts.
struct Dispatch {
    x: Tensor,
    choices: Choices,
    /// Factors of each expert's inputs before quantisation.
    smooth: Option<Tensor>,
    weights: Option<Tensor>,
    quantised: bool,
    summed: bool,
    first_form: bool,
    out: Tensor,
    scales: Option<Tensor>,
    notes: Tensor,
    counts: Tensor,
    ends: Tensor,
    out_weights: Option<Tensor>,
    ranks: Ranks,
    spread: Spread,
}

impl Dispatch {
    fn of(call: &Call, form: usize) -> Result<Work, Refusal> {
        let more = form.saturating_sub(2);
        let group = 5 + more;
        let quant = group + 10;
        // The later forms have the algorithm, then from the third on numbers of experts that compute nothing.
        let outputs = quant + 3 + usize::from(form > 1) + 3 * usize::from(form > 2);
        if form > 2 {
            refuse_later(call, 5..group, outputs - 3..outputs)?;
        }
        let x = call.tensor(0)?;
        let &[tokens, width] = x.shape() else {
            return Err(call.invalid(format!("x has shape {:?}, wanted 2 dims", x.shape())));
        };
        if !matches!(x.dtype(), DType::F16 | DType::Bf16) || width == 0 {
            return Err(call.unsupported(format!("x of {} has no kernel here", x.dtype())));
        }
        let quantised = quantised(call, quant)?;
        let (ranks, spread) = Spread::of(call, group, &format!("{width} of {}", x.dtype()))?;
        let smooth = call.optional_tensor(2).filter(|smooth| !smooth.is_empty());
        let weights = call
            .optional_tensor(4)
            .filter(|weights| !weights.is_empty());
        let choices = Choices::of(call, tokens, 3)?;
        let out = call.tensor(outputs)?;
        let rows = out.shape().first().copied().unwrap_or(0);
        let (notes, counts, ends) = (
            call.tensor(outputs + 2)?,
            call.tensor(outputs + 3)?,
            call.tensor(outputs + 4)?,
        );
        let scales = match quantised {
            true => Some(call.tensor(outputs + 1)?),
            false => None,
        };
        let out_weights = call
            .optional_tensor(outputs + 6)
            .filter(|out| weights.is_some() && out.count() == rows);
        let summed = match call.int(quant + 2)? {
            0 => true,
            1 => false,
            kind => {
                return Err(call.invalid(format!("expertTokenNumsType is {kind}, wanted 0 or 1")));
            }
        };
        let dispatch = Dispatch {
            x,
            choices,
            smooth,
            weights,
            quantised,
            summed,
            first_form: form == 1,
            out,
            scales,
            notes,
            counts,
            ends,
            out_weights,
            ranks,
            spread,
        };
        dispatch.check(call)?;
        let op = call.name();
        Ok(Work::waiting(move || dispatch.run(op)))
    }

    fn check(&self, call: &Call) -> Result<(), Refusal> {
        let width = self.x.shape()[1];
        if let Some(smooth) = &self.smooth {
            if !self.quantised {
                return Err(call.invalid("scales without quantisation"));
            }
            call.expect_shape("scales", smooth, &[self.spread.experts, width])?;
        }
        if let Some(weights) = &self.weights {
            call.expect_shape("expertScales", weights, self.choices.experts.shape())?;
        }
        let wanted = match self.quantised {
            true => DType::I8,
            false => self.x.dtype(),
        };
        call.expect_dtype("expandX", &self.out, &[wanted])?;
        let &[rows, own] = self.out.shape() else {
            return Err(call.invalid(format!("expandX has shape {:?}", self.out.shape())));
        };
        if own != width {
            return Err(call.invalid(format!("expandX has {own} columns, x {width}")));
        }
        let notes = match self.first_form {
            true => self.choices.experts.count(),
            false => rows * NOTE,
        };
        for (what, tensor, length) in [
            ("the notes for the way back", &self.notes, notes),
            ("epRecvCounts", &self.ends, self.spread.experts),
        ] {
            if tensor.count() < length {
                return Err(call.invalid(format!(
                    "{what} have shape {:?}, wanted {length}",
                    tensor.shape()
                )));
            }
        }
        if let Some(scales) = &self.scales {
            call.expect_shape("dynamicScales", scales, &[rows])?;
        }
        call.expect_shape("expertTokenNums", &self.counts, &[self.spread.own])
    }

    /// What goes to each rank: number of the expert there, token, choice, weight, factor and values of each row.
    fn outgoing(&self, list: &[(usize, usize, usize)]) -> Vec<Vec<f32>> {
        let width = self.x.shape()[1];
        let x = self.x.load_vec::<f32>();
        let smooth = self.smooth.as_ref().map(|smooth| smooth.load_vec::<f32>());
        let weights = self
            .weights
            .as_ref()
            .map(|weights| weights.load_vec::<f32>());
        let mut parts = vec![Vec::new(); self.spread.ranks];
        for &(token, choice, expert) in list {
            let mut row = x[token * width..][..width].to_vec();
            let mut factor = 1.0;
            if self.quantised {
                if let Some(smooth) = &smooth {
                    let own = &smooth[expert * width..][..width];
                    row.iter_mut()
                        .zip(own)
                        .for_each(|(value, own)| *value *= own);
                }
                let highest = row.iter().fold(0f32, |most, value| most.max(value.abs()));
                factor = highest / 127.0;
                let back = if highest > 0.0 { 127.0 / highest } else { 0.0 };
                row.iter_mut()
                    .for_each(|value| *value = (*value * back).round_ties_even());
            }
            let weight = weights
                .as_ref()
                .map_or(1.0, |weights| weights[token * self.choices.k + choice]);
            let part = &mut parts[expert / self.spread.own];
            part.extend([
                (expert % self.spread.own) as f32,
                token as f32,
                choice as f32,
            ]);
            part.extend([weight, factor]);
            part.extend(row);
        }
        parts
    }

    fn run(&self, op: &str) -> Result<(), Fault> {
        let list = self.choices.list(op, self.spread)?;
        let parts: Vec<Vec<u8>> = self
            .outgoing(&list)
            .into_iter()
            .map(|part| self.ranks.bytes(part.into_iter()))
            .collect();
        let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
        let parts = self.ranks.turn(|turn| turn.swap(0, &parts))?;
        let parts: Vec<Vec<f32>> = parts.iter().map(|part| self.ranks.values(part)).collect();
        let (width, rows) = (self.x.shape()[1], self.out.shape()[0]);
        let mut out = self.out.load_vec::<f32>();
        let mut notes = self.notes.load_vec::<i64>();
        let (mut scales, mut weights) = (vec![0f32; rows], vec![0f32; rows]);
        let (mut ends, mut counts, mut row) = (self.ends.load_vec::<i64>(), Vec::new(), 0);
        for expert in 0..self.spread.own {
            let before = row;
            for (rank, part) in parts.iter().enumerate() {
                for line in part.chunks_exact(width + 5) {
                    if line[0] != expert as f32 {
                        continue;
                    }
                    if row >= rows {
                        return Err(Fault::exception(format!(
                            "{op}: more rows than {rows} arrive"
                        )));
                    }
                    out[row * width..][..width].copy_from_slice(&line[5..]);
                    (weights[row], scales[row]) = (line[3], line[4]);
                    if !self.first_form {
                        let note = [rank as i64, line[1] as i64, line[2] as i64];
                        notes[row * NOTE..][..3].copy_from_slice(&note);
                    }
                    row += 1;
                }
                ends[expert * self.spread.ranks + rank] = row as i64;
            }
            counts.push(if self.summed { row } else { row - before } as i64);
        }
        if self.first_form {
            let mut sent = vec![0i64; self.spread.experts];
            for &(token, choice, expert) in &list {
                notes[token * self.choices.k + choice] = sent[expert];
                sent[expert] += 1;
            }
        }
        self.out.store_slice(&out)?;
        self.notes.store_slice(&notes)?;
        self.ends.store_slice(&ends)?;
        self.counts.store_slice(&counts)?;
        for (target, values) in [(&self.scales, &scales), (&self.out_weights, &weights)] {
            if let Some(target) = target {
                target.store_slice(values)?;
            }
        }
        Ok(())
    }
}
