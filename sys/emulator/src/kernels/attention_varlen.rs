//! Attention over samples of different lengths that lie one after another (layout TND), and its gradient.
//!
//! Knows the kernel interface and ndarray's product; it must not know streams, handles or device memory.
//!
//! The statistics are kept by head, then by row, then eight times; `same_as_input` asks for them by row, then by head. A
//! shape with the first two dims swapped is taken too, for the documents disagree about it and PyTorch's client passes it.

use super::attention::sink;
use super::attention_heads::{Packed, add_lines, lines};
use super::dropout::kept;
use crate::failure::{Fault, Refusal};
use crate::kernel::{Call, Prepare, Work};
use crate::tensor::Tensor;
use ndarray::Array2;

/// This family's ops.
pub(crate) const KERNELS: &[(&str, Prepare)] = &[
    ("aclnnFlashAttentionVarLenScore", forward),
    ("aclnnFlashAttentionVarLenScoreV2", forward),
    ("aclnnFlashAttentionVarLenScoreV3", forward),
    ("aclnnFlashAttentionVarLenScoreV4", forward),
    ("aclnnFlashAttentionVarLenScoreV5", forward),
    ("aclnnFlashAttentionUnpaddingScoreGrad", backward),
    ("aclnnFlashAttentionUnpaddingScoreGradV2", backward),
    ("aclnnFlashAttentionUnpaddingScoreGradV3", backward),
    ("aclnnFlashAttentionUnpaddingScoreGradV4", backward),
    ("aclnnFlashAttentionUnpaddingScoreGradV5", backward),
];

/// The score of a hidden key; a row of nothing else becomes a plain mean of the values.
const HIDDEN: f32 = -3.0e38;

/// Where the parameters stand; the forms differ by rotary parts, starts of parts and the layout of statistics.
struct Places {
    q: usize,
    q_rope: Option<usize>,
    k: usize,
    k_rope: Option<usize>,
    v: usize,
    /// Shift, drop mask, padding mask and mask follow each other from here.
    shift: usize,
    sink: Option<usize>,
    /// Lengths of queries, then of keys.
    lengths: usize,
    /// Scale, share that is kept, keys before and after, heads, layout, precision and sparse mode follow each other from here.
    scale: usize,
}

impl Places {
    fn new(call: &Call, gradient: bool) -> Places {
        let form = call.name().rsplit_once('V').map_or("", |(_, form)| form);
        let rope = usize::from(matches!(form, "3" | "5"));
        let starts = if matches!(form, "2" | "3" | "5") {
            2
        } else {
            0
        };
        let first = 3 + 2 * rope + usize::from(gradient);
        let sink = (form == "5").then_some(if gradient { first + 8 } else { first + 4 });
        let lengths = if gradient { first + 9 } else { first + 5 } + usize::from(sink.is_some());
        Places {
            q: 0,
            q_rope: (rope == 1).then_some(1),
            k: 1 + rope,
            k_rope: (rope == 1).then_some(3),
            v: 2 + 2 * rope,
            shift: first,
            sink,
            lengths,
            scale: lengths + 2 + starts,
        }
    }
}

/// Rows of one sample among all rows.
#[derive(Debug, Clone)]
struct Sample {
    q: std::ops::Range<usize>,
    k: std::ops::Range<usize>,
    /// Where its bits of the drop mask begin, in units of one head's scores of all samples before it.
    scores: usize,
}

/// Which keys a query sees.
#[derive(Debug, Clone, Copy)]
enum Band {
    All,
    /// Keys from `before` before to `after` after the diagonal, which goes through the first corner or through the last.
    Diagonal {
        from_end: bool,
        before: i64,
        after: i64,
    },
}

/// Everything that forward and backward must agree on.
struct Setup {
    q: Packed,
    k: Packed,
    v: Packed,
    samples: Vec<Sample>,
    band: Band,
    mask: Option<Tensor>,
    drop: Option<Tensor>,
    sink: Option<Tensor>,
    scale: f32,
    keep: f32,
    zero_rows: bool,
    /// Statistics by row, then by head.
    by_row: bool,
}

impl Setup {
    fn new(call: &Call, gradient: bool) -> Result<Setup, Refusal> {
        let places = Places::new(call, gradient);
        let layout = call.text(places.scale + 5)?;
        if layout != "TND" {
            return Err(call.invalid(format!("inputLayout is {layout:?}, wanted TND")));
        }
        let q = Packed::new(call, places.q, places.q_rope)?;
        let k = Packed::new(call, places.k, places.k_rope)?;
        let v = Packed::new(call, places.v, None)?;
        let heads = usize::try_from(call.int(places.scale + 4)?).unwrap_or(0);
        let fits = q.heads == heads
            && k.heads > 0
            && heads.is_multiple_of(k.heads)
            && (v.heads, v.rows()) == (k.heads, k.rows())
            && q.width == k.width
            && v.width <= q.width
            && q.width <= 768;
        if !fits {
            return Err(call.invalid(format!("query {q:?}, key {k:?} and value {v:?} do not fit")));
        }
        if call
            .optional_tensor(places.shift)
            .is_some_and(|shift| !shift.is_empty())
        {
            return Err(call.unsupported("a position shift"));
        }
        let samples = samples(call, places.lengths, q.rows(), k.rows())?;
        let keep = call.float(places.scale + 1)? as f32;
        let drop = call
            .optional_tensor(places.shift + 1)
            .filter(|drop| !drop.is_empty());
        let bits = samples
            .last()
            .map_or(0, |last| last.scores + last.q.len() * last.k.len())
            * heads;
        let enough = drop.as_ref().is_some_and(|drop| drop.count() * 8 >= bits);
        if !(keep > 0.0 && keep <= 1.0) || (keep < 1.0 && !enough) {
            return Err(call.invalid(format!(
                "keepProb is {keep}, and dropMask must hold {bits} bits"
            )));
        }
        let place = match (call.name().rsplit_once('V'), gradient) {
            (Some((_, "4")), true) => Some(call.count() - 1),
            (Some((_, "4")), false) => Some(places.scale + 8),
            (Some((_, "5")), _) => Some(places.scale + 9),
            _ => None,
        };
        let layout_of_statistics = place.and_then(|place| call.text(place).ok());
        let mut setup = Setup {
            q,
            k,
            v,
            samples,
            band: Band::All,
            mask: None,
            drop: drop.filter(|_| keep < 1.0),
            sink: sink(call, places.sink, heads)?,
            scale: call.float(places.scale)? as f32,
            keep,
            zero_rows: call.int(places.scale + 6)? == 2,
            by_row: layout_of_statistics == Some("same_as_input"),
        };
        setup.set_mask(call, &places)?;
        Ok(setup)
    }

    fn set_mask(&mut self, call: &Call, places: &Places) -> Result<(), Refusal> {
        let given = call
            .optional_tensor(places.shift + 3)
            .filter(|mask| !mask.is_empty());
        let Some(mask) = given else { return Ok(()) };
        let far = i64::MAX / 4;
        let at = places.scale;
        let before = call.int(at + 2)?.clamp(-far, far);
        let after = call.int(at + 3)?.clamp(-far, far);
        let diagonal = |from_end, before, after| Band::Diagonal {
            from_end,
            before,
            after,
        };
        let mode = call.int(at + 7)?;
        self.band = match mode {
            0 => diagonal(false, before, after),
            1 => Band::All,
            2 => diagonal(false, far, 0),
            3 => diagonal(true, far, 0),
            4 => diagonal(true, before, after),
            5..=8 => return Err(call.unsupported(format!("sparseMode {mode}"))),
            _ => return Err(call.invalid(format!("sparseMode is {mode}, wanted 0 to 8"))),
        };
        let shape = mask.shape();
        let rows = self
            .samples
            .iter()
            .map(|one| one.q.len())
            .max()
            .unwrap_or(0);
        let columns = self
            .samples
            .iter()
            .map(|one| one.k.len())
            .max()
            .unwrap_or(0);
        let fits = match (mode, shape) {
            (0 | 1, [m, n] | [1, 1, m, n]) => *m >= rows && *n >= columns,
            (_, [2048, 2048]) => true,
            _ => false,
        };
        if !fits {
            return Err(call.invalid(format!("sparseMode {mode} with a mask of {shape:?}")));
        }
        self.mask = (mode < 2).then_some(mask);
        Ok(())
    }

    fn expect_statistics(&self, call: &Call, what: &str, tensor: &Tensor) -> Result<(), Refusal> {
        let (rows, heads) = (self.q.rows(), self.q.heads);
        match tensor.shape() {
            [a, b, 8] if (*a, *b) == (rows, heads) || (*a, *b) == (heads, rows) => Ok(()),
            shape => Err(call.invalid(format!("{what} has shape {shape:?}"))),
        }
    }

    /// Where a row's first statistic lies.
    fn statistic(&self, row: usize, head: usize) -> usize {
        8 * if self.by_row {
            row * self.q.heads + head
        } else {
            head * self.q.rows() + row
        }
    }

    /// One head's scores within a sample, and which of them are hidden.
    fn scores(&self, loaded: &Loaded, sample: &Sample, head: usize) -> (Array2<f32>, Array2<bool>) {
        let group = self.q.heads / self.k.heads;
        let queries = lines(&loaded.q, &sample.q, self.q.heads, head);
        let keys = lines(&loaded.k, &sample.k, self.k.heads, head / group);
        let mut scores = queries.dot(&keys.t()) * self.scale;
        let corner = sample.k.len() as i64 - sample.q.len() as i64;
        let hidden = Array2::from_shape_fn(scores.dim(), |(row, column)| {
            let outside = match self.band {
                Band::All => false,
                Band::Diagonal {
                    from_end,
                    before,
                    after,
                } => {
                    let middle = row as i64 + if from_end { corner } else { 0 };
                    (column as i64) < middle - before || column as i64 > middle + after
                }
            };
            let masked = loaded
                .mask
                .as_ref()
                .is_some_and(|(mask, width)| mask[row * width + column]);
            outside || masked
        });
        scores.zip_mut_with(&hidden, |score, &hidden| {
            if hidden {
                *score = HIDDEN;
            }
        });
        (scores, hidden)
    }

    /// What dropout multiplies an element with.
    fn factor(&self, loaded: &Loaded, sample: &Sample, head: usize, at: [usize; 2]) -> f32 {
        let (rows, columns) = (sample.q.len(), sample.k.len());
        let bit = sample.scores * self.q.heads + (head * rows + at[0]) * columns + at[1];
        match &loaded.drop {
            Some(bits) if kept(bits, bit) => 1.0 / self.keep,
            Some(_) => 0.0,
            None => 1.0,
        }
    }

    fn load(&self) -> Result<Loaded, Fault> {
        Ok(Loaded {
            q: self.q.load()?,
            k: self.k.load()?,
            v: self.v.load()?,
            sinks: self.sink.as_ref().map(Tensor::load_vec),
            mask: self.mask.as_ref().map(|mask| {
                let width = mask.shape().last().copied().unwrap_or(0);
                (mask.load_vec(), width)
            }),
            drop: self.drop.as_ref().map(Tensor::load_vec),
        })
    }

    /// Each pair of a sample and a head.
    fn blocks(&self) -> impl Iterator<Item = (&Sample, usize)> {
        self.samples
            .iter()
            .flat_map(|sample| (0..self.q.heads).map(move |head| (sample, head)))
    }
}

/// Inputs as they are when the kernel runs.
struct Loaded {
    q: Array2<f32>,
    k: Array2<f32>,
    v: Array2<f32>,
    sinks: Option<Vec<f32>>,
    mask: Option<(Vec<bool>, usize)>,
    drop: Option<Vec<u8>>,
}

/// Ends of samples, rising, the last one at the number of rows.
fn samples(call: &Call, index: usize, rows: usize, keys: usize) -> Result<Vec<Sample>, Refusal> {
    let read = |index, total: usize| -> Result<Vec<usize>, Refusal> {
        let ends = call.ints(index)?;
        let natural: Vec<usize> = ends
            .iter()
            .filter_map(|&end| usize::try_from(end).ok())
            .collect();
        let rises = natural.is_sorted() && natural.len() == ends.len();
        if !rises || natural.last() != Some(&total) {
            return Err(call.invalid(format!("lengths must rise to {total} rows, got {ends:?}")));
        }
        Ok(natural)
    };
    let (queries, keys) = (read(index, rows)?, read(index + 1, keys)?);
    if queries.len() != keys.len() {
        return Err(call.invalid(format!(
            "{} lengths of queries, {} of keys",
            queries.len(),
            keys.len()
        )));
    }
    let (mut from, mut samples) = ((0, 0, 0), Vec::new());
    for (&q, &k) in queries.iter().zip(&keys) {
        samples.push(Sample {
            q: from.0..q,
            k: from.1..k,
            scores: from.2,
        });
        from = (q, k, from.2 + (q - from.0) * (k - from.1));
    }
    Ok(samples)
}

/// The four outputs come last.
fn forward(call: &Call) -> Result<Work, Refusal> {
    let setup = Setup::new(call, false)?;
    let last = call.count().saturating_sub(4);
    let (highest, sums) = (call.tensor(last)?, call.tensor(last + 1)?);
    let out = call.tensor(last + 3)?;
    setup.expect_statistics(call, "softmaxMaxOut", &highest)?;
    setup.expect_statistics(call, "softmaxSumOut", &sums)?;
    let wanted = [setup.q.rows(), setup.q.heads, setup.v.width];
    call.expect_shape("attentionOut", &out, &wanted)?;
    Ok(Work::new(move || {
        let loaded = setup.load()?;
        let group = setup.q.heads / setup.k.heads;
        let mut result = Array2::zeros((wanted[0] * wanted[1], wanted[2]));
        let (mut maxima, mut totals) = (vec![0f32; highest.count()], vec![0f32; sums.count()]);
        for (sample, head) in setup.blocks() {
            let (mut scores, hidden) = setup.scores(&loaded, sample, head);
            let sink = loaded.sinks.as_ref().map(|sinks| sinks[head]);
            for (row, mut line) in scores.outer_iter_mut().enumerate() {
                let lowest = sink.unwrap_or(f32::NEG_INFINITY);
                let top = line.iter().copied().fold(lowest, f32::max);
                line.mapv_inplace(|score| (score - top).exp());
                let sum = line.sum() + sink.map_or(0.0, |sink| (sink - top).exp());
                let empty = setup.zero_rows && hidden.row(row).iter().all(|&hidden| hidden);
                for (column, value) in line.iter_mut().enumerate() {
                    let factor = setup.factor(&loaded, sample, head, [row, column]);
                    *value = if empty { 0.0 } else { *value / sum * factor };
                }
                let at = setup.statistic(sample.q.start + row, head);
                maxima[at..at + 8].fill(top);
                totals[at..at + 8].fill(sum);
            }
            let values = lines(&loaded.v, &sample.k, setup.v.heads, head / group);
            add_lines(
                &mut result,
                &sample.q,
                setup.q.heads,
                head,
                &scores.dot(&values),
            );
        }
        highest.store_slice(&maxima)?;
        sums.store_slice(&totals)?;
        out.store(&result)
    }))
}

/// dV = Pᵀ dY, dP = dY Vᵀ, dS = P (dP − Σ dY Y), dQ = scale dS K, dK = scale dSᵀ Q, with P rebuilt from the statistics.
fn backward(call: &Call) -> Result<Work, Refusal> {
    let setup = Setup::new(call, true)?;
    let first = Places::new(call, true).shift;
    let (dy, y) = (call.tensor(first - 1)?, call.tensor(first + 7)?);
    let (highest, sums) = (call.tensor(first + 4)?, call.tensor(first + 5)?);
    setup.expect_statistics(call, "softmaxMax", &highest)?;
    setup.expect_statistics(call, "softmaxSum", &sums)?;
    let shape = [setup.q.rows(), setup.q.heads, setup.v.width];
    call.expect_shape("dy", &dy, &shape)?;
    call.expect_shape("attentionIn", &y, &shape)?;
    let form = call.name().rsplit_once('V').map_or("", |(_, form)| form);
    let rope = matches!(form, "3" | "5");
    let later = usize::from(matches!(form, "4" | "5"));
    let last = call.count() - later - if rope { 6 } else { 4 };
    let targets = |from: usize, parts: &Packed| -> Result<Vec<Tensor>, Refusal> {
        let mut found = Vec::new();
        for (index, part) in parts.parts.iter().enumerate() {
            let target = call.tensor(from + index)?;
            call.expect_shape("a gradient", &target, part.shape())?;
            found.push(target);
        }
        Ok(found)
    };
    let step = if rope { 2 } else { 1 };
    let dq = targets(last, &setup.q)?;
    let dk = targets(last + step, &setup.k)?;
    let dv = targets(last + 2 * step, &setup.v)?;
    let dsink = match &setup.sink {
        Some(_) => sink(call, Some(call.count() - 1), setup.q.heads)?,
        None => None,
    };
    Ok(Work::new(move || {
        let loaded = setup.load()?;
        let flat = |tensor: &Tensor| {
            Array2::from_shape_vec((shape[0] * shape[1], shape[2]), tensor.load_vec::<f32>())
                .map_err(|error| Fault::exception(error.to_string()))
        };
        let (dy, y) = (flat(&dy)?, flat(&y)?);
        let statistics = (highest.load_vec::<f32>(), sums.load_vec::<f32>());
        let statistics = (statistics.0.as_slice(), statistics.1.as_slice());
        let gradients = setup.gradients(&loaded, &dy, &y, statistics);
        if let (Some(out), Some(sinks)) = (&dsink, &loaded.sinks) {
            out.store_slice(&setup.sink_gradient(sinks, &dy, &y, statistics))?;
        }
        setup.q.store(&dq, &gradients[0])?;
        setup.k.store(&dk, &gradients[1])?;
        setup.v.store(&dv, &gradients[2])
    }))
}

impl Setup {
    /// A sink takes a share of dY Y from each row.
    fn sink_gradient(
        &self,
        sinks: &[f32],
        dy: &Array2<f32>,
        y: &Array2<f32>,
        statistics: (&[f32], &[f32]),
    ) -> Vec<f32> {
        let heads = self.q.heads;
        let mut result = vec![0f32; heads];
        for (number, (dy, y)) in dy.outer_iter().zip(y.outer_iter()).enumerate() {
            let (row, head) = (number / heads, number % heads);
            let at = self.statistic(row, head);
            result[head] -= (sinks[head] - statistics.0[at]).exp() / statistics.1[at] * dy.dot(&y);
        }
        result
    }

    fn gradients(
        &self,
        loaded: &Loaded,
        dy: &Array2<f32>,
        y: &Array2<f32>,
        statistics: (&[f32], &[f32]),
    ) -> [Array2<f32>; 3] {
        let mut result = [&loaded.q, &loaded.k, &loaded.v].map(|like| Array2::zeros(like.dim()));
        let (heads, group) = (self.q.heads, self.q.heads / self.k.heads);
        for (sample, head) in self.blocks() {
            let (dys, ys) = (
                lines(dy, &sample.q, heads, head),
                lines(y, &sample.q, heads, head),
            );
            let values = lines(&loaded.v, &sample.k, self.v.heads, head / group);
            let (mut shares, hidden) = self.scores(loaded, sample, head);
            let mut dropped = shares.clone();
            let mut ds = dys.dot(&values.t());
            for row in 0..sample.q.len() {
                let at = self.statistic(sample.q.start + row, head);
                let empty = self.zero_rows && hidden.row(row).iter().all(|&hidden| hidden);
                let inner = dys.row(row).dot(&ys.row(row));
                for column in 0..sample.k.len() {
                    let cell = [row, column];
                    let share = (shares[cell] - statistics.0[at]).exp() / statistics.1[at];
                    let share = if empty { 0.0 } else { share };
                    let factor = self.factor(loaded, sample, head, cell);
                    shares[cell] = share;
                    dropped[cell] = share * factor;
                    ds[cell] = if hidden[cell] {
                        0.0
                    } else {
                        share * (ds[cell] * factor - inner) * self.scale
                    };
                }
            }
            let queries = lines(&loaded.q, &sample.q, heads, head);
            let keys = lines(&loaded.k, &sample.k, self.k.heads, head / group);
            let [dq, dk, dv] = &mut result;
            add_lines(dq, &sample.q, heads, head, &ds.dot(&keys));
            add_lines(
                dk,
                &sample.k,
                self.k.heads,
                head / group,
                &ds.t().dot(&queries),
            );
            let part = dropped.t().dot(&dys);
            add_lines(dv, &sample.k, self.v.heads, head / group, &part);
        }
        result
    }
}
