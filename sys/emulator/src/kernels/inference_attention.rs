//! Attention for inference: grouped heads, masks, position shifts, real lengths of each sample; no gradient, no quantisation.
//!
//! Knows the kernel interface and ndarray's product; it must not know streams, handles or device memory.

use super::attention::Heads;
use super::common::broadcast_positions;
use crate::failure::Refusal;
use crate::kernel::{Call, Prepare, Work};
use crate::tensor::Tensor;

/// This family's ops.
pub(crate) const KERNELS: &[(&str, Prepare)] = &[
    ("aclnnFusedInferAttentionScore", |call| attend(call, 17, 28)),
    ("aclnnFusedInferAttentionScoreV2", |call| {
        attend(call, 24, 37)
    }),
];

/// Which keys a query may see besides the mask: a diagonal, and how far before and after it.
#[derive(Debug, Clone, Copy)]
struct Band {
    from_end: bool,
    before: i64,
    after: i64,
}

/// Everything that a run needs.
struct Setup {
    q: Heads,
    k: Heads,
    v: Heads,
    out: Heads,
    scale: f32,
    shift: Option<Tensor>,
    mask: Option<Tensor>,
    band: Option<Band>,
    /// How many rows of each sample are real; all where nothing is said.
    lengths: [Vec<usize>; 2],
}

impl Setup {
    /// `first` is the position of the number of heads, after which the attributes follow.
    fn new(call: &Call, first: usize, last: usize) -> Result<Setup, Refusal> {
        refuse_quantised(call, first)?;
        let (q, out) = (call.tensor(0)?, call.tensor(last)?);
        let (k, v) = (only(call, 1)?, only(call, 2)?);
        let heads = usize::try_from(call.int(first)?).unwrap_or(0);
        let groups = match usize::try_from(call.int(first + 5)?).unwrap_or(0) {
            0 => heads,
            groups => groups,
        };
        let layout = call.text(first + 4)?;
        let (inner, outer) = match layout {
            "BNSD_BSND" => ("BNSD", "BSND"),
            other => (other, other),
        };
        let q = Heads::new(call, q.shape(), inner, None, heads)?;
        let k = Heads::new(call, k.shape(), inner, Some(q.width), groups)?;
        let v_width = v.shape().get(2).filter(|_| inner == "BSH");
        let v_width = v_width.map(|joint| joint / groups.max(1));
        let v = Heads::new(call, v.shape(), inner, v_width, groups)?;
        let target = Heads::new(call, out.shape(), outer, Some(v.width), heads)?;
        let fits = (q.heads, k.heads, v.heads, target.heads) == (heads, groups, groups, heads)
            && groups > 0
            && heads.is_multiple_of(groups)
            && (k.batch, v.batch, target.batch) == (q.batch, q.batch, q.batch)
            && (k.rows, k.width, target.rows, target.width) == (v.rows, q.width, q.rows, v.width);
        if !fits {
            return Err(call.invalid(format!(
                "query {q:?}, key {k:?}, value {v:?} and output {target:?} do not fit"
            )));
        }
        let mode = call.int(first + 6)?;
        let given = call.optional_tensor(4).filter(|mask| !mask.is_empty());
        let mut setup = Setup {
            lengths: [
                lengths(call, 5, q.batch, q.rows)?,
                lengths(call, 6, q.batch, k.rows)?,
            ],
            q,
            k,
            v,
            out: target,
            scale: call.float(first + 1)? as f32,
            shift: call.optional_tensor(3).filter(|shift| !shift.is_empty()),
            mask: None,
            band: None,
        };
        let (before, after) = (call.int(first + 2)?, call.int(first + 3)?);
        setup.set_mask(call, given, mode, before, after)?;
        if let Some(shift) = &setup.shift {
            setup.check_spread(call, "pseShift", shift)?;
        }
        Ok(setup)
    }

    /// Modes 0 and 1 take the mask as it is, 0 with a band; 2 to 4 are diagonals whose mask is the pattern of a triangle.
    fn set_mask(
        &mut self,
        call: &Call,
        given: Option<Tensor>,
        mode: i64,
        before: i64,
        after: i64,
    ) -> Result<(), Refusal> {
        const FAR: i64 = i64::MAX / 4;
        let band = |from_end, before: i64, after: i64| Band {
            from_end,
            before: before.clamp(-FAR, FAR),
            after: after.clamp(-FAR, FAR),
        };
        match (mode, given) {
            (0 | 1, None) => {}
            (0 | 1, Some(mask)) => {
                self.check_spread(call, "attenMask", &mask)?;
                self.mask = Some(mask);
                self.band = (mode == 0).then(|| band(false, before, after));
            }
            (2, Some(_)) => self.band = Some(band(false, FAR, 0)),
            (3, Some(_)) => self.band = Some(band(true, FAR, 0)),
            (4, Some(_)) => self.band = Some(band(true, before, after)),
            _ => {
                return Err(call.invalid(format!(
                    "sparseMode is {mode}: wanted 0 to 4, and from 2 on with attenMask"
                )));
            }
        }
        Ok(())
    }

    /// A mask or shift has the scores' shape, with 1 allowed for samples and heads; a mask may leave out heads or both.
    fn check_spread(&self, call: &Call, what: &str, tensor: &Tensor) -> Result<(), Refusal> {
        let [batch, heads, rows, columns] = self.spread(tensor);
        let fits = (batch == 1 || batch == self.q.batch)
            && (heads == 1 || heads == self.q.heads)
            && (rows, columns) == (self.q.rows, self.k.rows);
        if fits {
            return Ok(());
        }
        Err(call.invalid(format!(
            "{what} has shape {:?} for {} queries and {} keys",
            tensor.shape(),
            self.q.rows,
            self.k.rows
        )))
    }

    fn spread(&self, tensor: &Tensor) -> [usize; 4] {
        match *tensor.shape() {
            [rows, columns] => [1, 1, rows, columns],
            [batch, rows, columns] => [batch, 1, rows, columns],
            [batch, heads, rows, columns] => [batch, heads, rows, columns],
            _ => [0; 4],
        }
    }

    /// A tensor's values, and for each score in [B, N, Sq, Skv] order where its value lies.
    fn spread_values(&self, tensor: &Tensor) -> (Vec<f32>, Vec<usize>) {
        let scores = [self.q.batch, self.q.heads, self.q.rows, self.k.rows];
        (
            tensor.load_vec(),
            broadcast_positions(&self.spread(tensor), &scores),
        )
    }

    /// Whether the band hides a key; diagonals from the end count the real rows of the sample.
    fn outside(&self, batch: usize, row: usize, column: usize) -> bool {
        let Some(band) = self.band else { return false };
        let real = |side: usize| self.lengths[side][batch] as i64;
        let corner = if band.from_end { real(1) - real(0) } else { 0 };
        let distance = column as i64 - (row as i64 + corner);
        distance < -band.before || distance > band.after
    }
}

/// The only tensor of a list: keys and values of samples of their own in a list each are not emulated.
fn only(call: &Call, index: usize) -> Result<Tensor, Refusal> {
    match call.tensors(index)?.as_slice() {
        [tensor] => Ok(tensor.clone()),
        list => Err(call.unsupported(format!(
            "parameter {index} lists {} tensors, emulated is one",
            list.len()
        ))),
    }
}

/// Quantised inputs, pages, paddings on the left and shared prefixes have no emulated kernel.
fn refuse_quantised(call: &Call, first: usize) -> Result<(), Refusal> {
    for index in 7..first {
        if call
            .optional_tensor(index)
            .is_some_and(|tensor| !tensor.is_empty())
        {
            return Err(call.unsupported(format!(
                "parameter {index} is given: quantisation, pages, paddings and prefixes are not emulated"
            )));
        }
    }
    Ok(())
}

fn lengths(call: &Call, index: usize, batch: usize, rows: usize) -> Result<Vec<usize>, Refusal> {
    let given = call.optional_ints(index).unwrap_or_default();
    let all: Vec<usize> = match given {
        [] => vec![rows; batch],
        [one] => vec![usize::try_from(*one).unwrap_or(usize::MAX); batch],
        list => list
            .iter()
            .map(|&length| usize::try_from(length).unwrap_or(usize::MAX))
            .collect(),
    };
    if all.len() < batch || all.iter().take(batch).any(|&length| length > rows) {
        return Err(call.invalid(format!(
            "parameter {index} says lengths {given:?} for {batch} samples of {rows} rows"
        )));
    }
    Ok(all)
}

/// `softmax(scale q kᵀ + shift) v` over the visible keys; a query that sees none gives 0.
fn attend(call: &Call, first: usize, last: usize) -> Result<Work, Refusal> {
    let setup = Setup::new(call, first, last)?;
    let (q, k, v) = (call.tensor(0)?, only(call, 1)?, only(call, 2)?);
    let out = call.tensor(last)?;
    let with_sums = call.bool(first + 10)?;
    let sums = call.optional_tensor(last + 1).filter(|_| with_sums);
    if let Some(sums) = &sums {
        let shape = [setup.q.batch, setup.q.heads, setup.q.rows, 1];
        call.expect_shape("softmaxLse", sums, &shape)?;
    }
    Ok(Work::new(move || {
        let (q, k, v) = (
            q.load_vec::<f32>(),
            k.load_vec::<f32>(),
            v.load_vec::<f32>(),
        );
        let shift = setup.shift.as_ref().map(|shift| setup.spread_values(shift));
        let mask = setup.mask.as_ref().map(|mask| setup.spread_values(mask));
        let mut result = vec![0f32; out.count()];
        let mut logs = Vec::new();
        let group = setup.q.heads / setup.k.heads;
        for block in 0..setup.q.batch * setup.q.heads {
            let (batch, head) = (block / setup.q.heads, block % setup.q.heads);
            let keys = setup.k.gather(&k, batch, head / group);
            let mut scores = setup.q.gather(&q, batch, head).dot(&keys.t());
            for (row, mut line) in scores.outer_iter_mut().enumerate() {
                for (column, score) in line.iter_mut().enumerate() {
                    let at = (block * setup.q.rows + row) * setup.k.rows + column;
                    let masked = |(values, places): &(Vec<f32>, Vec<usize>)| values[places[at]];
                    let hidden = column >= setup.lengths[1][batch]
                        || row >= setup.lengths[0][batch]
                        || setup.outside(batch, row, column)
                        || mask.as_ref().is_some_and(|mask| masked(mask) != 0.0);
                    *score = if hidden {
                        f32::NEG_INFINITY
                    } else {
                        *score * setup.scale + shift.as_ref().map_or(0.0, masked)
                    };
                }
                let highest = line.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                if highest == f32::NEG_INFINITY {
                    line.fill(0.0);
                    logs.push(f32::INFINITY);
                    continue;
                }
                line.mapv_inplace(|score| (score - highest).exp());
                let sum = line.sum();
                line.mapv_inplace(|share| share / sum);
                logs.push(highest + sum.ln());
            }
            let values = setup.v.gather(&v, batch, head / group);
            setup
                .out
                .add(&mut result, batch, head, &scores.dot(&values));
        }
        if let Some(sums) = &sums {
            sums.store_slice(&logs)?;
        }
        out.store_slice(&result)
    }))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{arg, assert_close, floats, list, null, run, tensor, text};
    use crate::dtype::DType;
    use crate::kernel::Arg;

    #[test]
    fn grouped_heads_under_a_mask() {
        // Two query heads share one key head; the second query sees both keys, the first only the first.
        let q = floats(&[1, 2, 2, 1], &[0.; 4]);
        let k = floats(&[1, 1, 2, 1], &[1., 1.]);
        let v = floats(&[1, 1, 2, 1], &[2., 4.]);
        let mask = tensor(DType::Bool, &[2, 2], &[false, true, false, false]);
        let (out, sums) = (
            floats(&[1, 2, 2, 1], &[9.; 4]),
            floats(&[1, 2, 2, 1], &[9.; 4]),
        );
        let mut call = vec![arg(&q), list(&[&k]), list(&[&v]), null(), arg(&mask)];
        call.extend([Arg::Ints(None), Arg::Ints(None)]);
        call.extend((0..10).map(|_| null()));
        call.extend([Arg::Int(2), Arg::Float(1.0), Arg::Int(100), Arg::Int(100)]);
        call.extend([text("BNSD"), Arg::Int(1), Arg::Int(0), Arg::Int(0)]);
        call.extend([Arg::Int(0), Arg::Int(0), Arg::Bool(true)]);
        call.extend([arg(&out), arg(&sums)]);
        run("aclnnFusedInferAttentionScore", &call).expect("attention");
        assert_close(&out, &[2., 3., 2., 3.], 1e-6);
        let two = 2f64.ln();
        assert_close(&sums, &[0., two, 0., two], 1e-6);
    }
}
