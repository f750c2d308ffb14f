//! Attention over few keys: which keys matter most for each query, and the attention over those.
//!
//! Knows the kernel interface; it must not know streams, handles or device memory.

use super::common::{checked_index, same_dtype, size_of};
use crate::failure::{Fault, Refusal};
use crate::kernel::{Call, Prepare, Work};
use crate::tensor::Tensor;

/// This family's ops.
pub(crate) const KERNELS: &[(&str, Prepare)] = &[
    ("aclnnLightningIndexer", indexer as Prepare),
    ("aclnnSparseFlashAttention", attention as Prepare),
];

/// How the rows of samples lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layout {
    /// As many rows for each sample, of which the first count.
    Even,
    /// One sample's rows after the other's.
    Packed,
    /// In pages that a table names.
    Paged,
}

/// Queries and keys of all samples.
struct Samples {
    layouts: [Layout; 2],
    /// Rows of each sample: of queries, of keys or of a page.
    rows: [usize; 2],
    batch: usize,
    lengths: [Option<Tensor>; 2],
    table: Option<Tensor>,
    causal: bool,
    heads: usize,
    /// Rows of queries over all samples.
    queries: usize,
}

/// One query and the keys that it may see.
struct Query {
    /// Its row over all samples.
    row: usize,
    sample: usize,
    keys: usize,
}

/// Where the parameters stand that both operators have.
struct Places {
    lengths: usize,
    table: usize,
    layouts: usize,
    mode: usize,
}

impl Samples {
    fn of(call: &Call, places: &Places) -> Result<Samples, Refusal> {
        let (query, key) = (call.tensor(0)?, call.tensor(1)?);
        let told = |index: usize| call.text(index).ok().filter(|text| !text.is_empty());
        let read = |index: usize, paged: bool| match told(index).unwrap_or("BSND") {
            "BSND" => Ok(Layout::Even),
            "TND" => Ok(Layout::Packed),
            "PA_BSND" if paged => Ok(Layout::Paged),
            other => Err(call.invalid(format!("a layout is {other:?}"))),
        };
        let layouts = [
            read(places.layouts, false)?,
            read(places.layouts + 1, true)?,
        ];
        let lengths = [
            call.optional_tensor(places.lengths),
            call.optional_tensor(places.lengths + 1),
        ];
        let mixed = layouts[0] == Layout::Even && layouts[1] == Layout::Packed;
        let mixed = mixed || layouts == [Layout::Packed, Layout::Even];
        let missing = |at: usize| layouts[at] != Layout::Even && lengths[at].is_none();
        if mixed || missing(0) || missing(1) {
            return Err(call.invalid(format!("layouts {layouts:?}, or their lengths are missing")));
        }
        let shaped = |layout: Layout, tensor: &Tensor| match (layout, tensor.shape()) {
            (Layout::Packed, &[rows, heads, _]) => Ok((1, rows, heads)),
            (Layout::Even | Layout::Paged, &[count, rows, heads, _]) => Ok((count, rows, heads)),
            (_, shape) => Err(call.invalid(format!("{layout:?} with shape {shape:?}"))),
        };
        let (count, rows, heads) = shaped(layouts[0], &query)?;
        let (key_count, key_rows, key_heads) = shaped(layouts[1], &key)?;
        let batch = match (layouts[0], &lengths[0]) {
            (Layout::Packed, Some(lengths)) => lengths.count(),
            _ => count,
        };
        for lengths in lengths.iter().flatten() {
            call.expect_shape("lengths", lengths, &[batch])?;
        }
        if key_heads != 1
            || heads == 0
            || key_rows == 0
            || query.shape().last() != key.shape().last()
        {
            return Err(call.invalid(format!(
                "query {:?} and key {:?}, wanted one head of keys as wide",
                query.shape(),
                key.shape()
            )));
        }
        if layouts[1] == Layout::Even && key_count != batch {
            return Err(call.invalid(format!("{batch} samples of queries, {key_count} of keys")));
        }
        let table = call.optional_tensor(places.table);
        if layouts[1] == Layout::Paged {
            let fits = table
                .as_ref()
                .is_some_and(|table| table.rank() == 2 && table.shape()[0] == batch);
            if !fits {
                return Err(call.invalid("pages of keys want a table of pages for each sample"));
            }
        }
        let causal = match call.int(places.mode)? {
            0 => false,
            3 => true,
            mode => return Err(call.invalid(format!("sparseMode is {mode}, wanted 0 or 3"))),
        };
        if call.int(places.mode + 1)? != i64::MAX || call.int(places.mode + 2)? != i64::MAX {
            return Err(call.invalid("preTokens and nextTokens other than 2^63 - 1"));
        }
        Ok(Samples {
            layouts,
            rows: [rows, key_rows],
            batch,
            lengths,
            table,
            causal,
            heads,
            queries: count * rows,
        })
    }

    /// The shape of what belongs to each query.
    fn shape(&self, rest: &[usize]) -> Vec<usize> {
        match self.layouts[0] {
            Layout::Packed => [&[self.queries], rest].concat(),
            _ => [&[self.batch, self.rows[0]], rest].concat(),
        }
    }

    /// Start and length of each sample.
    fn spans(&self, op: &str, side: usize) -> Result<Vec<(usize, usize)>, Fault> {
        let told = self.lengths[side]
            .as_ref()
            .map(|lengths| lengths.load_vec::<i64>());
        let mut end = 0;
        (0..self.batch)
            .map(|sample| {
                let own = told.as_ref().map(|told| told[sample]);
                let own = own.map(|own| usize::try_from(own).unwrap_or(usize::MAX));
                let (start, length, limit) = match self.layouts[side] {
                    Layout::Packed => {
                        let next = own.unwrap_or(0);
                        let span = (
                            end,
                            next.wrapping_sub(end),
                            self.rows[side].wrapping_sub(end),
                        );
                        end = next;
                        span
                    }
                    Layout::Even => {
                        let rows = self.rows[side];
                        (sample * rows, own.unwrap_or(rows), rows)
                    }
                    Layout::Paged => (0, own.unwrap_or(0), usize::MAX - 1),
                };
                if length > limit {
                    return Err(Fault::exception(format!(
                        "{op}: lengths {told:?} do not fit {} rows",
                        self.rows[side]
                    )));
                }
                Ok((start, length))
            })
            .collect()
    }

    /// All queries that count.
    fn list(&self, op: &str) -> Result<Vec<Query>, Fault> {
        let (queries, keys) = (self.spans(op, 0)?, self.spans(op, 1)?);
        let mut list = Vec::new();
        for (sample, (&(start, count), &(_, keys))) in queries.iter().zip(&keys).enumerate() {
            for at in 0..count {
                // Counted from the last query, which sees all keys.
                let seen = if self.causal {
                    (keys + at + 1).saturating_sub(count)
                } else {
                    keys
                };
                list.push(Query {
                    row: start + at,
                    sample,
                    keys: seen.min(keys),
                });
            }
        }
        Ok(list)
    }

    /// The row of a sample's key among all rows of keys.
    fn key(
        &self,
        op: &str,
        spans: &[(usize, usize)],
        table: &[i64],
        sample: usize,
        at: usize,
    ) -> Result<usize, Fault> {
        if self.layouts[1] != Layout::Paged {
            return Ok(spans[sample].0 + at);
        }
        let columns = table.len() / self.batch.max(1);
        let page = checked_index(op, (at / self.rows[1]) as i64, columns)?;
        let page = table[sample * columns + page];
        let page = usize::try_from(page)
            .map_err(|_| Fault::exception(format!("{op}: page {page} of a sample's keys")))?;
        Ok(page * self.rows[1] + at % self.rows[1])
    }

    fn pages(&self) -> Vec<i64> {
        self.table.as_ref().map_or(Vec::new(), Tensor::load_vec)
    }
}

/// A line of a matrix with lines of `width`.
fn line<'a>(op: &str, values: &'a [f32], row: usize, width: usize) -> Result<&'a [f32], Fault> {
    values
        .get(row * width..(row + 1) * width)
        .ok_or_else(|| Fault::exception(format!("{op}: row {row} is outside the keys")))
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// The keys with the largest sums over heads of weight times what is positive of query times key; -1 where there are fewer.
fn indexer(call: &Call) -> Result<Work, Refusal> {
    let places = Places {
        lengths: 3,
        table: 5,
        layouts: 6,
        mode: 9,
    };
    let samples = Samples::of(call, &places)?;
    let (query, key, weights) = (call.tensor(0)?, call.tensor(1)?, call.tensor(2)?);
    same_dtype(call, "key", &key, &query)?;
    let (heads, width) = (samples.heads, query.shape().last().copied().unwrap_or(0));
    if width != 128 || heads > 64 {
        return Err(call.invalid(format!("{heads} heads of {width}, wanted up to 64 of 128")));
    }
    call.expect_shape("weights", &weights, &samples.shape(&[heads]))?;
    let count = size_of(call, "sparseCount", call.int(8)?, 1)?;
    if count > 8192 || (count > 2048 && count % 1024 != 0) {
        return Err(call.invalid(format!("sparseCount is {count}")));
    }
    let out = call.tensor(13)?;
    call.expect_shape("sparseIndicesOut", &out, &samples.shape(&[1, count]))?;
    let scores = match call.bool(12)? {
        true if samples.layouts[1] == Layout::Paged => {
            return Err(call.invalid("returnValues with pages of keys"));
        }
        true => {
            let scores = call.tensor(14)?;
            call.expect_shape("sparseValuesOut", &scores, out.shape())?;
            Some(scores)
        }
        false => None,
    };
    let op = call.name();
    Ok(Work::new(move || {
        let (q, k) = (query.load_vec::<f32>(), key.load_vec::<f32>());
        let (w, table) = (weights.load_vec::<f32>(), samples.pages());
        let spans = samples.spans(op, 1)?;
        let mut indices = vec![-1i64; out.count()];
        let mut values = vec![f32::NEG_INFINITY; out.count()];
        for one in samples.list(op)? {
            let mut ranked = Vec::new();
            for at in 0..one.keys {
                let row = samples.key(op, &spans, &table, one.sample, at)?;
                let own = line(op, &k, row, width)?;
                let score: f32 = (0..heads)
                    .map(|head| {
                        let number = one.row * heads + head;
                        w[number] * dot(&q[number * width..][..width], own).max(0.0)
                    })
                    .sum();
                ranked.push((score, at));
            }
            ranked.sort_by(|a, b| b.0.total_cmp(&a.0));
            for (place, &(score, at)) in ranked.iter().take(count).enumerate() {
                indices[one.row * count + place] = at as i64;
                values[one.row * count + place] = score;
            }
        }
        out.store_slice(&indices)?;
        scores
            .as_ref()
            .map_or(Ok(()), |scores| scores.store_slice(&values))
    }))
}

/// Attention of each query over the blocks of keys that its list names, up to the first -1.
fn attention(call: &Call) -> Result<Work, Refusal> {
    let places = Places {
        lengths: 5,
        table: 4,
        layouts: 11,
        mode: 13,
    };
    let samples = Samples::of(call, &places)?;
    let (query, key, value, list) = (
        call.tensor(0)?,
        call.tensor(1)?,
        call.tensor(2)?,
        call.tensor(3)?,
    );
    let parts = [call.optional_tensor(7), call.optional_tensor(8)];
    let width = query.shape().last().copied().unwrap_or(0);
    let block = size_of(call, "sparseBlockSize", call.int(10)?, 1)?;
    if call.int(16)? != 2 {
        return Err(call.invalid(format!("attentionMode is {}, wanted 2", call.int(16)?)));
    }
    if block > 128 || !block.is_power_of_two() || samples.heads > 128 {
        return Err(call.invalid(format!("sparseBlockSize {block}, {} heads", samples.heads)));
    }
    call.expect_shape("value", &value, key.shape())?;
    let heads = samples.heads;
    let [Some(query_part), Some(key_part)] = parts else {
        return Err(call.invalid("queryRope or keyRope is missing"));
    };
    let turned = query_part.shape().last().copied().unwrap_or(0);
    call.expect_shape("queryRope", &query_part, &samples.shape(&[heads, turned]))?;
    if key_part.count() * width != key.count() * turned {
        return Err(call.invalid(format!("keyRope has shape {:?}", key_part.shape())));
    }
    let Some(&chosen) = list.shape().last() else {
        return Err(call.invalid("sparseIndices has no dims"));
    };
    call.expect_shape("sparseIndices", &list, &samples.shape(&[1, chosen]))?;
    let out = call.tensor(18)?;
    call.expect_shape("attentionOut", &out, query.shape())?;
    let statistics = match call.bool(17)? {
        true => {
            let pair = [call.tensor(19)?, call.tensor(20)?];
            for tensor in &pair {
                if tensor.count() != samples.queries * heads {
                    return Err(call.invalid(format!("a statistic has shape {:?}", tensor.shape())));
                }
            }
            Some(pair)
        }
        false => None,
    };
    let sparse = Sparse {
        samples,
        query,
        key,
        value,
        list,
        query_part,
        key_part,
        block,
        scale: call.float(9)? as f32,
        out,
        statistics,
    };
    let op = call.name();
    Ok(Work::new(move || sparse.run(op)))
}

/// Attention over lists of blocks of keys.
struct Sparse {
    samples: Samples,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    list: Tensor,
    query_part: Tensor,
    key_part: Tensor,
    block: usize,
    scale: f32,
    out: Tensor,
    statistics: Option<[Tensor; 2]>,
}

impl Sparse {
    fn run(&self, op: &str) -> Result<(), Fault> {
        let load = |tensor: &Tensor| tensor.load_vec::<f32>();
        let (q, k, v) = (load(&self.query), load(&self.key), load(&self.value));
        let (q_part, k_part) = (load(&self.query_part), load(&self.key_part));
        let (list, table) = (self.list.load_vec::<i64>(), self.samples.pages());
        let spans = self.samples.spans(op, 1)?;
        let (heads, chosen) = (
            self.samples.heads,
            self.list.shape().last().copied().unwrap_or(0),
        );
        let width = self.query.shape().last().copied().unwrap_or(0);
        let turned = self.query_part.shape().last().copied().unwrap_or(0);
        let (block, scale) = (self.block, self.scale);
        let mut result = vec![0f32; q.len()];
        let (mut maxima, mut sums) = (
            vec![0f32; self.samples.queries * heads],
            vec![0f32; self.samples.queries * heads],
        );
        for one in self.samples.list(op)? {
            let own = list[one.row * chosen..][..chosen]
                .iter()
                .take_while(|&&at| at >= 0);
            let mut rows = Vec::new();
            for at in own.flat_map(|&at| at as usize * block..(at as usize + 1) * block) {
                if at < one.keys {
                    rows.push(self.samples.key(op, &spans, &table, one.sample, at)?);
                }
            }
            for head in 0..heads {
                let number = one.row * heads + head;
                let (queries, turns) = (
                    &q[number * width..][..width],
                    &q_part[number * turned..][..turned],
                );
                let mut scores = Vec::new();
                for &row in &rows {
                    let plain = dot(queries, line(op, &k, row, width)?);
                    scores.push((plain + dot(turns, line(op, &k_part, row, turned)?)) * scale);
                }
                let highest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                let sum: f32 = scores.iter().map(|score| (score - highest).exp()).sum();
                for (&row, score) in rows.iter().zip(&scores) {
                    let share = (score - highest).exp() / sum;
                    let target = &mut result[number * width..][..width];
                    let values = line(op, &v, row, width)?;
                    target
                        .iter_mut()
                        .zip(values)
                        .for_each(|(sum, value)| *sum += share * value);
                }
                // Statistics are by sample, then by query, then by head: there is one head of keys.
                (maxima[number], sums[number]) = (highest, sum);
            }
        }
        self.out.store_slice(&result)?;
        if let Some([first, second]) = &self.statistics {
            first.store_slice(&maxima)?;
            second.store_slice(&sums)?;
        }
        Ok(())
    }
}
