//! Attention for inference: grouped heads, masks, position shifts, real lengths of each sample, packed samples, pages of keys and
//! values, rotary parts; no gradient, no quantisation.
//!
//! Knows the kernel interface and ndarray's product; it must not know streams, handles or device memory.

use super::common::broadcast_positions;
use super::rows::{Part, Side};
use crate::failure::Refusal;
use crate::kernel::{Arg, Call, Prepare, Work};
use crate::tensor::Tensor;
use ndarray::Array2;

/// This family's ops.
pub(crate) const KERNELS: &[(&str, Prepare)] = &[
    ("aclnnFusedInferAttentionScore", |call| {
        attend(call, &Form::fused(17, 11))
    }),
    ("aclnnFusedInferAttentionScoreV2", |call| {
        attend(call, &Form::fused(24, 13))
    }),
    ("aclnnFusedInferAttentionScoreV3", |call| {
        attend(call, &Form::fused(27, 13))
    }),
    ("aclnnFusedInferAttentionScoreV4", |call| {
        attend(call, &Form::fused(29, 14))
    }),
    ("aclnnPromptFlashAttention", |call| {
        attend(call, &Form::prompt(6, 6))
    }),
    ("aclnnPromptFlashAttentionV2", |call| {
        attend(call, &Form::prompt(12, 7))
    }),
    ("aclnnPromptFlashAttentionV3", |call| {
        attend(call, &Form::prompt(12, 8))
    }),
    ("aclnnIncreFlashAttention", |call| {
        attend(call, &Form::incremental(6, None))
    }),
    ("aclnnIncreFlashAttentionV2", |call| {
        attend(call, &Form::incremental(11, None))
    }),
    ("aclnnIncreFlashAttentionV3", |call| {
        attend(call, &Form::incremental(14, Some(13)))
    }),
    ("aclnnIncreFlashAttentionV4", |call| {
        attend(call, &Form::incremental(15, Some(13)))
    }),
];

/// Where a function's parameters stand; query, key, value, shift and mask are the first five in all of them.
#[derive(Debug, Clone, Copy)]
struct Form {
    query_lengths: Option<usize>,
    key_lengths: Option<usize>,
    /// Tensors that stand before the number of heads and have no emulated meaning, but for the next three.
    extras: usize,
    pages: Option<usize>,
    /// The query's rotary part; the key's follows.
    rope: Option<usize>,
    /// Number of heads; the scale follows.
    heads: usize,
    /// Keys before, then after the diagonal.
    band: Option<usize>,
    layout: usize,
    groups: usize,
    sparse: Option<usize>,
    page_size: Option<usize>,
    with_sums: Option<usize>,
    out: usize,
}

impl Form {
    fn fused(heads: usize, attributes: usize) -> Form {
        Form {
            query_lengths: Some(5),
            key_lengths: Some(6),
            extras: 7,
            pages: Some(14),
            rope: (heads > 24).then_some(24),
            heads,
            band: Some(heads + 2),
            layout: heads + 4,
            groups: heads + 5,
            sparse: Some(heads + 6),
            page_size: Some(heads + 8),
            with_sums: Some(heads + 10),
            out: heads + attributes,
        }
    }

    /// The first form gives one list of lengths for both sides.
    fn prompt(heads: usize, attributes: usize) -> Form {
        Form {
            query_lengths: Some(5),
            key_lengths: Some(if heads == 6 { 5 } else { 6 }),
            extras: if heads == 6 { 6 } else { 7 },
            pages: None,
            rope: None,
            heads,
            band: Some(heads + 2),
            layout: heads + 4,
            groups: heads + 5,
            sparse: (heads > 6).then_some(heads + 6),
            page_size: None,
            with_sums: None,
            out: heads + attributes,
        }
    }

    /// One query row for each sample; the lengths are those of the keys.
    fn incremental(heads: usize, pages: Option<usize>) -> Form {
        Form {
            query_lengths: None,
            key_lengths: Some(5),
            extras: 6,
            pages,
            rope: None,
            heads,
            band: None,
            layout: heads + 2,
            groups: heads + 3,
            sparse: None,
            page_size: pages.map(|_| heads + 4),
            with_sums: None,
            out: if pages.is_some() {
                heads + 6
            } else {
                heads + 4
            },
        }
    }

    /// Quantised inputs, paddings on the left, shared prefixes and sinks have no emulated kernel.
    fn refuse_extras(&self, call: &Call) -> Result<(), Refusal> {
        for index in self.extras..self.heads {
            let rope = self
                .rope
                .is_some_and(|rope| index == rope || index == rope + 1);
            if self.pages == Some(index) || rope {
                continue;
            }
            if call
                .optional_tensor(index)
                .is_some_and(|tensor| !tensor.is_empty())
            {
                return Err(call.unsupported(format!(
                    "parameter {index} is given: quantisation, paddings, prefixes and sinks are not emulated"
                )));
            }
        }
        Ok(())
    }
}

/// Which keys a query may see besides the mask: a diagonal, and how far before and after it.
#[derive(Debug, Clone, Copy)]
struct Band {
    from_end: bool,
    before: i64,
    after: i64,
}

/// Everything that a run needs.
struct Setup {
    q: Side,
    k: Side,
    v: Side,
    out: Side,
    scale: f32,
    shift: Option<Tensor>,
    mask: Option<Tensor>,
    band: Option<Band>,
}

/// Queries, keys, values and the output.
type Sides = (Side, Side, Side, Side);

fn sides(call: &Call, form: &Form) -> Result<Sides, Refusal> {
    let heads = usize::try_from(call.int(form.heads)?).unwrap_or(0);
    let groups = match usize::try_from(call.int(form.groups)?).unwrap_or(0) {
        0 => heads,
        groups => groups,
    };
    let layout = call.text(form.layout)?;
    let (inner, outer) = layout.split_once('_').unwrap_or((layout, layout));
    let rope = |index: usize| {
        let given = form
            .rope
            .and_then(|rope| call.optional_tensor(rope + index));
        given
            .filter(|tensor| !tensor.is_empty())
            .map(|rope| vec![rope])
    };
    let lengths = |index: Option<usize>| {
        let given = index.and_then(|index| call.optional_ints(index));
        given.unwrap_or_default()
    };
    let (rows, columns) = (lengths(form.query_lengths), lengths(form.key_lengths));
    let query = parts([Some(vec![call.tensor(0)?]), rope(0)]);
    let q = Side::new(call, inner, heads, query, rows)?;
    let table = pages(call, form)?;
    let keyed = |parts: Vec<Part>| match &table {
        Some((table, size)) => Side::paged(call, groups, parts, table, *size, columns),
        None => Side::new(call, inner, groups, parts, columns),
    };
    let k = keyed(parts([Some(listed(call, 1)?), rope(1)]))?;
    let v = keyed(vec![listed(call, 2)?])?;
    let out = Side::new(call, outer, heads, vec![vec![call.tensor(form.out)?]], rows)?;
    let fits = groups > 0
        && heads.is_multiple_of(groups)
        && k.samples() == q.samples()
        && (v.lengths(), v.samples()) == (k.lengths(), k.samples())
        && (out.lengths(), out.width()) == (q.lengths(), v.width())
        && k.width() == q.width();
    if !fits {
        return Err(call.invalid(format!(
            "query {q:?}, key {k:?}, value {v:?} and output {out:?} do not fit"
        )));
    }
    Ok((q, k, v, out))
}

impl Setup {
    fn new(call: &Call, form: &Form) -> Result<Setup, Refusal> {
        form.refuse_extras(call)?;
        let (q, k, v, out) = sides(call, form)?;
        let mode = form.sparse.map_or(Ok(0), |sparse| call.int(sparse))?;
        let given = call.optional_tensor(4).filter(|mask| !mask.is_empty());
        let mut setup = Setup {
            q,
            k,
            v,
            out,
            scale: call.float(form.heads + 1)? as f32,
            shift: call.optional_tensor(3).filter(|shift| !shift.is_empty()),
            mask: None,
            band: None,
        };
        let band = match form.band {
            Some(band) => Some((call.int(band)?, call.int(band + 1)?)),
            None => None,
        };
        setup.set_mask(call, given, mode, band)?;
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
        tokens: Option<(i64, i64)>,
    ) -> Result<(), Refusal> {
        const FAR: i64 = i64::MAX / 4;
        let band = |from_end, before: i64, after: i64| Band {
            from_end,
            before: before.clamp(-FAR, FAR),
            after: after.clamp(-FAR, FAR),
        };
        let (before, after) = tokens.unwrap_or((FAR, FAR));
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

    /// The largest extents of a sample's scores.
    fn extents(&self) -> [usize; 4] {
        [
            self.q.samples(),
            self.q.heads(),
            self.q.extent(),
            self.k.extent(),
        ]
    }

    /// A mask or shift has the scores' shape, with 1 allowed for samples and heads; a mask may leave out heads or both. It may
    /// be larger than the scores.
    fn check_spread(&self, call: &Call, what: &str, tensor: &Tensor) -> Result<(), Refusal> {
        let [batch, heads, rows, columns] = self.spread(tensor);
        let wanted = self.extents();
        let fits = (batch == 1 || batch == wanted[0])
            && (heads == 1 || heads == wanted[1])
            && (rows == 1 || rows >= wanted[2])
            && columns >= wanted[3];
        if fits {
            return Ok(());
        }
        Err(call.invalid(format!(
            "{what} has shape {:?}, wanted {wanted:?}",
            tensor.shape()
        )))
    }

    /// A mask of two dims counts rows and columns; where a query has one row, samples and columns.
    fn spread(&self, tensor: &Tensor) -> [usize; 4] {
        let single = self.q.extent() == 1 && tensor.shape().first() == Some(&self.q.samples());
        match *tensor.shape() {
            [batch, columns] if single => [batch, 1, 1, columns],
            [rows, columns] => [1, 1, rows, columns],
            [batch, rows, columns] => [batch, 1, rows, columns],
            [batch, heads, rows, columns] => [batch, heads, rows, columns],
            _ => [0; 4],
        }
    }

    /// A tensor's values, and for each score in [B, N, Sq, Skv] order of the tensor's own extents where its value lies.
    fn spread_values(&self, tensor: &Tensor) -> Spread {
        let own = self.spread(tensor);
        let [samples, heads, rows, _] = self.extents();
        let whole = [samples, heads, own[2].max(rows), own[3]];
        Spread {
            values: tensor.load_vec(),
            places: broadcast_positions(&own, &whole),
            whole,
        }
    }

    /// Whether the band hides a key; diagonals from the end count the real rows of the sample.
    fn outside(&self, sample: usize, row: usize, column: usize) -> bool {
        let Some(band) = self.band else { return false };
        let real = |side: &Side| side.lengths()[sample] as i64;
        let corner = if band.from_end {
            real(&self.k) - real(&self.q)
        } else {
            0
        };
        let distance = column as i64 - (row as i64 + corner);
        distance < -band.before || distance > band.after
    }
}

/// A mask's or shift's values for each score.
struct Spread {
    values: Vec<f32>,
    places: Vec<usize>,
    whole: [usize; 4],
}

impl Spread {
    fn at(&self, [sample, head, row, column]: [usize; 4]) -> f32 {
        let [_, heads, rows, columns] = self.whole;
        self.values[self.places[((sample * heads + head) * rows + row) * columns + column]]
    }
}

/// Plain and rotary parts that are given.
fn parts(given: [Option<Part>; 2]) -> Vec<Part> {
    given.into_iter().flatten().collect()
}

/// A tensor, or a list with one for all samples or one for each.
fn listed(call: &Call, index: usize) -> Result<Part, Refusal> {
    match call.arg(index) {
        Some(Arg::Tensor(_)) => Ok(vec![call.tensor(index)?]),
        _ => call.tensors(index),
    }
}

/// The table of pages and the rows of a page.
fn pages(call: &Call, form: &Form) -> Result<Option<(Tensor, usize)>, Refusal> {
    let table = form
        .pages
        .and_then(|pages| call.optional_tensor(pages))
        .filter(|table| !table.is_empty());
    match (table, form.page_size) {
        (Some(table), Some(size)) => {
            let size = call.int(size)?;
            let size = usize::try_from(size)
                .ok()
                .filter(|&size| size > 0)
                .ok_or_else(|| call.invalid(format!("blockSize is {size} with pages")))?;
            Ok(Some((table, size)))
        }
        _ => Ok(None),
    }
}

/// `softmax(scale q kᵀ + shift) v` over the visible keys; a query that sees none gives 0.
fn attend(call: &Call, form: &Form) -> Result<Work, Refusal> {
    let setup = Setup::new(call, form)?;
    let with_sums = match form.with_sums {
        Some(index) => call.bool(index)?,
        None => false,
    };
    let sums = match with_sums {
        true => Some(call.tensor(form.out + 1)?),
        false => None,
    };
    let packed = setup.q.is_packed();
    if let Some(sums) = &sums {
        let (rows, heads) = (setup.q.extent(), setup.q.heads());
        let shape = match packed {
            true => vec![setup.q.lengths().iter().sum(), heads, 1],
            false => vec![setup.q.samples(), heads, rows, 1],
        };
        call.expect_shape("softmaxLse", sums, &shape)?;
    }
    Ok(Work::new(move || {
        let (q, k, v) = (setup.q.load()?, setup.k.load()?, setup.v.load()?);
        let shift = setup.shift.as_ref().map(|shift| setup.spread_values(shift));
        let mask = setup.mask.as_ref().map(|mask| setup.spread_values(mask));
        let mut result = setup.out.zeros();
        let mut logs = vec![f32::INFINITY; sums.as_ref().map_or(0, Tensor::count)];
        let (heads, group) = (setup.q.heads(), setup.q.heads() / setup.k.heads());
        for (sample, head) in (0..setup.q.samples()).flat_map(|s| (0..heads).map(move |h| (s, h))) {
            let keys = k.gather(&setup.k, sample, head / group)?;
            let mut scores = q.gather(&setup.q, sample, head)?.dot(&keys.t());
            for ((row, column), score) in scores.indexed_iter_mut() {
                let at = [sample, head, row, column];
                let hidden = setup.outside(sample, row, column)
                    || mask.as_ref().is_some_and(|mask| mask.at(at) != 0.0);
                *score = if hidden {
                    f32::NEG_INFINITY
                } else {
                    *score * setup.scale + shift.as_ref().map_or(0.0, |shift| shift.at(at))
                };
            }
            for (row, log) in softmax(&mut scores).into_iter().enumerate() {
                let place = match packed {
                    true => (setup.q.start(sample) + row) * heads + head,
                    false => (sample * heads + head) * setup.q.extent() + row,
                };
                if let Some(target) = logs.get_mut(place) {
                    *target = log;
                }
            }
            let values = v.gather(&setup.v, sample, head / group)?;
            setup
                .out
                .put(&mut result, sample, head, &scores.dot(&values))?;
        }
        if let Some(sums) = &sums {
            sums.store_slice(&logs)?;
        }
        setup.out.store(&result)
    }))
}

/// Turns each row into shares and gives the logarithms of the sums; a row that sees nothing becomes zeros.
fn softmax(scores: &mut Array2<f32>) -> Vec<f32> {
    scores
        .outer_iter_mut()
        .map(|mut line| {
            let highest = line.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            if highest == f32::NEG_INFINITY {
                line.fill(0.0);
                return f32::INFINITY;
            }
            line.mapv_inplace(|score| (score - highest).exp());
            let sum = line.sum();
            line.mapv_inplace(|share| share / sum);
            highest + sum.ln()
        })
        .collect()
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
