//! Scaled dot-product attention with masks, position shifts and dropout, and its gradient.
//!
//! Knows the kernel interface and ndarray's product; it must not know streams, handles or device memory.

use super::attention_heads::Heads;
use super::common::{broadcast_positions, volume};
use super::dropout::kept;
use crate::failure::{Fault, Refusal};
use crate::kernel::{Call, Prepare, Work};
use crate::tensor::Tensor;
use ndarray::Array2;

/// This family's ops.
pub(crate) const KERNELS: &[(&str, Prepare)] = &[
    ("aclnnFlashAttentionScore", |call| forward(call, 8)),
    ("aclnnFlashAttentionScoreV2", |call| forward(call, 10)),
    ("aclnnFlashAttentionScoreV3", |call| forward(call, 11)),
    ("aclnnFlashAttentionScoreGrad", |call| backward(call, 13)),
    ("aclnnFlashAttentionScoreGradV2", |call| backward(call, 15)),
    ("aclnnFlashAttentionScoreGradV3", |call| backward(call, 16)),
];

/// The score of a masked key; a row of nothing else becomes a plain mean of the values.
const HIDDEN: f32 = -3.0e38;

/// Which keys a query must not see.
#[derive(Debug, Clone)]
enum Mask {
    /// It sees all.
    None,
    /// 1 hides, together with a band counted from the upper left corner.
    Given(Tensor, i64, i64),
    /// A band: offset of the diagonal, keys before and after it.
    Band(i64, i64, i64),
    /// Keys after the diagonal (with an offset) that are not among the first of a batch.
    Prefix(i64, Vec<i64>),
}

/// Everything that forward and backward must agree on.
struct Setup {
    q: Heads,
    k: Heads,
    v: Heads,
    shift: Option<Tensor>,
    /// Whether the shift is added before the scaling.
    shift_first: bool,
    drop: Option<Tensor>,
    mask: Mask,
    /// A score of each head that takes its share and adds nothing.
    sink: Option<Tensor>,
    scale: f32,
    keep: f32,
    zero_rows: bool,
}

impl Setup {
    /// `first` is the position of the shift (dropMask, paddingMask, attenMask, prefix follow at `first + 1` to `first + 3` and
    /// `prefix`), `scale` that of the scale.
    fn new(call: &Call, first: usize, prefix: usize, scale: usize) -> Result<Setup, Refusal> {
        let (q, k, v) = (call.tensor(0)?, call.tensor(1)?, call.tensor(2)?);
        let heads = usize::try_from(call.int(scale + 4)?).unwrap_or(0);
        let layout = call.text(scale + 5)?;
        let q = Heads::new(call, q.shape(), layout, None, heads)?;
        let k = Heads::new(call, k.shape(), layout, Some(q.width), heads)?;
        let shared = matches!(layout, "BSH" | "SBH");
        let v_width = call
            .tensor(2)?
            .shape()
            .last()
            .map(|&joint| joint / k.heads.max(1));
        let v = Heads::new(call, v.shape(), layout, v_width.filter(|_| shared), heads)?;
        let fits = q.heads == heads
            && k.heads > 0
            && q.heads.is_multiple_of(k.heads)
            && (v.batch, v.heads, v.rows) == (k.batch, k.heads, k.rows)
            && (k.batch, k.width) == (q.batch, q.width)
            && v.width <= q.width
            && q.width <= 768
            && q.heads <= 256;
        if !fits || q.rows == 0 || k.rows == 0 {
            return Err(call.invalid(format!("query {q:?}, key {k:?} and value {v:?} do not fit")));
        }
        let keep = call.float(scale + 1)? as f32;
        let drop = call
            .optional_tensor(first + 1)
            .filter(|drop| !drop.is_empty());
        if !(keep > 0.0 && keep <= 1.0) || (keep < 1.0 && drop.is_none()) {
            return Err(call.invalid(format!(
                "keepProb is {keep}, dropMask given: {}",
                drop.is_some()
            )));
        }
        let third_form = call.name().ends_with("V3");
        let later_form = third_form || call.name().ends_with("V2");
        let shift_kind = if later_form { call.int(scale + 8)? } else { 1 };
        if !matches!(shift_kind, 0 | 1) {
            return Err(call.unsupported(format!("pseType is {shift_kind}, wanted 0 or 1")));
        }
        let mut setup = Setup {
            q,
            k,
            v,
            shift: call
                .optional_tensor(first)
                .filter(|shift| !shift.is_empty()),
            shift_first: shift_kind == 1,
            drop: drop.filter(|_| keep < 1.0),
            mask: Mask::None,
            sink: sink(call, prefix.checked_sub(1).filter(|_| third_form), heads)?,
            scale: call.float(scale)? as f32,
            keep,
            zero_rows: call.int(scale + 6)? == 2,
        };
        setup.check_bits(call)?;
        setup.mask = setup.mask_of(call, first + 3, prefix, scale)?;
        Ok(setup)
    }

    fn scores_shape(&self) -> [usize; 4] {
        [self.q.batch, self.q.heads, self.q.rows, self.k.rows]
    }

    fn check_bits(&self, call: &Call) -> Result<(), Refusal> {
        let shape = self.scores_shape();
        if let Some(shift) = &self.shift {
            let fits = shift.rank() == 4
                && shift
                    .shape()
                    .iter()
                    .zip(shape)
                    .enumerate()
                    .all(|(axis, (&dim, wanted))| {
                        dim == wanted || (dim == 1 && matches!(axis, 0 | 2))
                    });
            if !fits {
                return Err(call.invalid(format!(
                    "the shift has shape {:?}, wanted {shape:?}",
                    shift.shape()
                )));
            }
        }
        let bytes = volume(&shape).div_ceil(8);
        match &self.drop {
            Some(drop) if drop.count() < bytes => Err(call.invalid(format!(
                "dropMask holds {} bytes, wanted {bytes}",
                drop.count()
            ))),
            _ => Ok(()),
        }
    }

    fn mask_of(
        &self,
        call: &Call,
        index: usize,
        prefix: usize,
        scale: usize,
    ) -> Result<Mask, Refusal> {
        let Some(mask) = call.optional_tensor(index).filter(|mask| !mask.is_empty()) else {
            return Ok(Mask::None);
        };
        let (before, after, mode) = (
            call.int(scale + 2)?,
            call.int(scale + 3)?,
            call.int(scale + 7)?,
        );
        let corner = self.k.rows as i64 - self.q.rows as i64;
        let compressed = |wanted: [usize; 2]| {
            let shape = mask.shape();
            let square = shape.len() >= 2
                && shape[shape.len() - 2..] == wanted
                && volume(shape) == volume(&wanted);
            if square {
                return Ok(());
            }
            Err(call.invalid(format!(
                "sparseMode {mode} wants a mask of {wanted:?}, got {shape:?}"
            )))
        };
        let far = i64::MAX / 4;
        Ok(match mode {
            0 | 1 | 5 => {
                self.check_mask(call, &mask)?;
                let band = if mode == 0 {
                    (before, after)
                } else {
                    (far, far)
                };
                Mask::Given(mask, band.0.clamp(-far, far), band.1.clamp(-far, far))
            }
            2 => compressed([2048, 2048]).map(|()| Mask::Band(0, far, 0))?,
            3 => compressed([2048, 2048]).map(|()| Mask::Band(corner, far, 0))?,
            4 => compressed([2048, 2048])
                .map(|()| Mask::Band(corner, before.clamp(-far, far), after.clamp(-far, far)))?,
            6 => {
                compressed([3072, 2048])?;
                let lengths = call.ints(prefix)?.to_vec();
                if lengths.len() != self.q.batch {
                    return Err(call.invalid(format!(
                        "{} prefixes for {} samples",
                        lengths.len(),
                        self.q.batch
                    )));
                }
                Mask::Prefix(corner, lengths)
            }
            _ => return Err(call.invalid(format!("sparseMode is {mode}, wanted 0 to 6"))),
        })
    }

    fn check_mask(&self, call: &Call, mask: &Tensor) -> Result<(), Refusal> {
        let [batch, heads, rows, columns] = self.scores_shape();
        let fits = match mask.shape() {
            [m, n] => (*m, *n) == (rows, columns),
            [b, h, m, n] => {
                (*m, *n) == (rows, columns) && (*b == 1 || *b == batch) && (*h == 1 || *h == heads)
            }
            _ => false,
        };
        if fits {
            return Ok(());
        }
        Err(call.invalid(format!("attenMask has shape {:?}", mask.shape())))
    }

    fn load(&self) -> Loaded {
        let shape = self.scores_shape();
        let given = match &self.mask {
            Mask::Given(tensor, ..) => Some((
                tensor.load_vec::<bool>(),
                broadcast_positions(tensor.shape(), &shape),
            )),
            _ => None,
        };
        Loaded {
            given,
            shift: self.shift.as_ref().map(|tensor| {
                (
                    tensor.load_vec::<f32>(),
                    broadcast_positions(tensor.shape(), &shape),
                )
            }),
            drop: self.drop.as_ref().map(|tensor| tensor.load_vec::<u8>()),
        }
    }

    /// Whether query `row` must not see key `column`; `at` is the element in [B, N, Sq, Skv] order.
    fn hidden(&self, loaded: &Loaded, batch: usize, row: usize, column: usize, at: usize) -> bool {
        let (row, column) = (row as i64, column as i64);
        let outside = |corner: i64, before: i64, after: i64| {
            column < row + corner - before || column > row + corner + after
        };
        match &self.mask {
            Mask::None => false,
            Mask::Given(_, before, after) => {
                let given = loaded.given.as_ref();
                given.is_some_and(|(mask, positions)| mask[positions[at]])
                    || outside(0, *before, *after)
            }
            Mask::Band(corner, before, after) => outside(*corner, *before, *after),
            Mask::Prefix(corner, lengths) => {
                column > row + corner && lengths.get(batch).is_none_or(|&length| column >= length)
            }
        }
    }

    /// The scores of one head, masked; and whether any key of each row is seen.
    fn scores(
        &self,
        loaded: &Loaded,
        q: &Array2<f32>,
        k: &Array2<f32>,
        block: usize,
    ) -> (Array2<f32>, Vec<bool>) {
        let mut scores = q.dot(&k.t());
        let batch = block / self.q.heads;
        let mut seen = vec![false; self.q.rows];
        for ((row, column), score) in scores.indexed_iter_mut() {
            let at = (block * self.q.rows + row) * self.k.rows + column;
            let shift = loaded
                .shift
                .as_ref()
                .map_or(0.0, |(values, positions)| values[positions[at]]);
            *score = if self.shift_first {
                (*score + shift) * self.scale
            } else {
                *score * self.scale + shift
            };
            if self.hidden(loaded, batch, row, column, at) {
                *score = HIDDEN;
            } else {
                seen[row] = true;
            }
        }
        (scores, seen)
    }

    /// What dropout multiplies an element with.
    fn factor(&self, loaded: &Loaded, at: usize) -> f32 {
        match &loaded.drop {
            Some(bits) if kept(bits, at) => 1.0 / self.keep,
            Some(_) => 0.0,
            None => 1.0,
        }
    }
}

/// Masks and shifts as they are when the kernel runs.
struct Loaded {
    given: Option<(Vec<bool>, Vec<usize>)>,
    shift: Option<(Vec<f32>, Vec<usize>)>,
    drop: Option<Vec<u8>>,
}

/// `scale` is the position of the scale; the four outputs come last.
fn forward(call: &Call, scale: usize) -> Result<Work, Refusal> {
    let setup = Setup::new(call, 3, 7 + usize::from(scale == 11), scale)?;
    let last = call.count().saturating_sub(4);
    let (highest, sums, out) = (
        call.tensor(last)?,
        call.tensor(last + 1)?,
        call.tensor(last + 3)?,
    );
    let (q, k, v) = (call.tensor(0)?, call.tensor(1)?, call.tensor(2)?);
    let statistics = [setup.q.batch, setup.q.heads, setup.q.rows, 8];
    call.expect_shape("softmaxMaxOut", &highest, &statistics)?;
    call.expect_shape("softmaxSumOut", &sums, &statistics)?;
    let layout = call.text(scale + 5)?;
    let target = Heads::new(
        call,
        out.shape(),
        layout,
        Some(setup.v.width),
        setup.q.heads,
    )?;
    if (target.batch, target.heads, target.rows, target.width)
        != (setup.q.batch, setup.q.heads, setup.q.rows, setup.v.width)
    {
        return Err(call.invalid(format!("attentionOut has shape {:?}", out.shape())));
    }
    Ok(Work::new(move || {
        let loaded = setup.load();
        let (q, k, v) = (
            q.load_vec::<f32>(),
            k.load_vec::<f32>(),
            v.load_vec::<f32>(),
        );
        let mut result = vec![0f32; out.count()];
        let (mut maxima, mut totals) = (Vec::new(), Vec::new());
        let sinks = setup.sink.as_ref().map(|sink| sink.load_vec::<f32>());
        let group = setup.q.heads / setup.k.heads;
        for block in 0..setup.q.batch * setup.q.heads {
            let (batch, head) = (block / setup.q.heads, block % setup.q.heads);
            let keys = setup.k.gather(&k, batch, head / group);
            let (mut scores, seen) =
                setup.scores(&loaded, &setup.q.gather(&q, batch, head), &keys, block);
            let sink = sinks.as_ref().map(|sinks| sinks[head]);
            for (row, mut line) in scores.outer_iter_mut().enumerate() {
                let lowest = sink.unwrap_or(f32::NEG_INFINITY);
                let highest = line
                    .iter()
                    .copied()
                    .fold(lowest, |a, b| if b > a { b } else { a });
                line.mapv_inplace(|score| (score - highest).exp());
                let sum: f32 = line.sum() + sink.map_or(0.0, |sink| (sink - highest).exp());
                let empty = setup.zero_rows && !seen[row];
                for (column, value) in line.iter_mut().enumerate() {
                    let at = (block * setup.q.rows + row) * setup.k.rows + column;
                    *value = if empty {
                        0.0
                    } else {
                        *value / sum * setup.factor(&loaded, at)
                    };
                }
                maxima.extend([highest; 8]);
                totals.extend([sum; 8]);
            }
            let values = setup.v.gather(&v, batch, head / group);
            target.add(&mut result, batch, head, &scores.dot(&values));
        }
        highest.store_slice(&maxima)?;
        sums.store_slice(&totals)?;
        out.store_slice(&result)
    }))
}

/// The gradients of one run.
struct Gradients {
    dq: Vec<f32>,
    dk: Vec<f32>,
    dv: Vec<f32>,
    shift: Vec<f32>,
    sink: Vec<f32>,
}

/// The scores that take a share of each head.
pub(super) fn sink(
    call: &Call,
    index: Option<usize>,
    heads: usize,
) -> Result<Option<Tensor>, Refusal> {
    let sink = index
        .and_then(|index| call.optional_tensor(index))
        .filter(|sink| !sink.is_empty());
    if let Some(sink) = &sink {
        call.expect_shape("sink", sink, &[heads])?;
    }
    Ok(sink)
}

fn backward(call: &Call, scale: usize) -> Result<Work, Refusal> {
    let third_form = usize::from(scale == 16);
    let setup = Setup::new(call, 4, 12 + third_form, scale)?;
    let inputs = [0, 1, 2, 3, 8, 9, 11]
        .into_iter()
        .map(|index| call.tensor(index))
        .collect::<Result<Vec<_>, _>>()?;
    let [q, k, v, dy, highest, sums, y] = inputs.as_slice() else {
        return Err(call.invalid("an input is missing"));
    };
    let statistics = [setup.q.batch, setup.q.heads, setup.q.rows, 8];
    call.expect_shape("softmaxMax", highest, &statistics)?;
    call.expect_shape("softmaxSum", sums, &statistics)?;
    call.expect_shape("dy", dy, y.shape())?;
    let layout = call.text(scale + 5)?;
    let target = Heads::new(call, y.shape(), layout, Some(setup.v.width), setup.q.heads)?;
    let last = call.count().saturating_sub(4 + third_form);
    let (dq, dk, dv) = (
        call.tensor(last)?,
        call.tensor(last + 1)?,
        call.tensor(last + 2)?,
    );
    let shift_out = call.optional_tensor(last + 3).filter(|out| !out.is_empty());
    for (what, out, like) in [("dq", &dq, q), ("dk", &dk, k), ("dv", &dv, v)] {
        call.expect_shape(what, out, like.shape())?;
    }
    let sink_out = match &setup.sink {
        Some(sink) => {
            let out = call.tensor(last + 4)?;
            call.expect_shape("dsink", &out, sink.shape())?;
            Some(out)
        }
        None => None,
    };
    if let (Some(out), Some(shift)) = (&shift_out, &setup.shift) {
        call.expect_shape("dpse", out, shift.shape())?;
    }
    Ok(Work::new(move || {
        let gradients = setup.gradients(&inputs, target)?;
        dq.store_slice(&gradients.dq)?;
        dk.store_slice(&gradients.dk)?;
        dv.store_slice(&gradients.dv)?;
        if let Some(out) = &sink_out {
            out.store_slice(&gradients.sink)?;
        }
        match &shift_out {
            Some(out) if setup.shift.is_some() => out.store_slice(&gradients.shift),
            _ => Ok(()),
        }
    }))
}

impl Setup {
    /// dV = Pᵀ dY, dP = dY Vᵀ, dS = P (dP − Σ dY Y), dQ = scale dS K, dK = scale dSᵀ Q, with P rebuilt from the statistics.
    fn gradients(&self, inputs: &[Tensor], target: Heads) -> Result<Gradients, Fault> {
        let loaded = self.load();
        let values: Vec<Vec<f32>> = inputs.iter().map(Tensor::load_vec).collect();
        let [q, k, v, dy, highest, sums, y] = values.as_slice() else {
            return Err(Fault::exception(
                "an input of attention's gradient is missing",
            ));
        };
        let mut result = Gradients {
            dq: vec![0.0; q.len()],
            dk: vec![0.0; k.len()],
            dv: vec![0.0; v.len()],
            shift: vec![0.0; loaded.shift.as_ref().map_or(0, |shift| shift.0.len())],
            sink: vec![0.0; self.q.heads],
        };
        let sinks = self.sink.as_ref().map(|sink| sink.load_vec::<f32>());
        let group = self.q.heads / self.k.heads;
        for block in 0..self.q.batch * self.q.heads {
            let (batch, head) = (block / self.q.heads, block % self.q.heads);
            let queries = self.q.gather(q, batch, head);
            let keys = self.k.gather(k, batch, head / group);
            let (dys, ys) = (
                target.gather(dy, batch, head),
                target.gather(y, batch, head),
            );
            let (mut shares, seen) = self.scores(&loaded, &queries, &keys, block);
            let mut dropped = shares.clone();
            let mut ds = dys.dot(&self.v.gather(v, batch, head / group).t());
            for (row, &seen) in seen.iter().enumerate() {
                let line = block * self.q.rows + row;
                let inner: f32 = dys
                    .row(row)
                    .iter()
                    .zip(ys.row(row))
                    .map(|(a, b)| a * b)
                    .sum();
                if let Some(sinks) = &sinks {
                    let share = (sinks[head] - highest[line * 8]).exp() / sums[line * 8];
                    result.sink[head] -= share * inner;
                }
                for column in 0..self.k.rows {
                    let at = line * self.k.rows + column;
                    let cell = [row, column];
                    let empty = self.zero_rows && !seen;
                    let share = if empty {
                        0.0
                    } else {
                        (shares[cell] - highest[line * 8]).exp() / sums[line * 8]
                    };
                    let factor = self.factor(&loaded, at);
                    shares[cell] = share;
                    dropped[cell] = share * factor;
                    let hidden = self.hidden(&loaded, batch, row, column, at);
                    ds[cell] = if hidden {
                        0.0
                    } else {
                        share * (ds[cell] * factor - inner)
                    };
                    if let Some((_, positions)) = &loaded.shift {
                        let scale = if self.shift_first { self.scale } else { 1.0 };
                        result.shift[positions[at]] += ds[cell] * scale;
                    }
                }
            }
            self.v
                .add(&mut result.dv, batch, head / group, &dropped.t().dot(&dys));
            ds.mapv_inplace(|value| value * self.scale);
            self.q.add(&mut result.dq, batch, head, &ds.dot(&keys));
            self.k
                .add(&mut result.dk, batch, head / group, &ds.t().dot(&queries));
        }
        Ok(result)
    }
}
