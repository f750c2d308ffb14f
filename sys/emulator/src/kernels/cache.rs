//! Keys and values into caches of pages and out of them.
//!
//! Knows the kernel interface; it must not know streams, handles or device memory.

use super::common::{checked_index, same_dtype};
use crate::failure::{Fault, Refusal};
use crate::kernel::{Call, Prepare, Work};
use crate::tensor::Tensor;

/// This family's ops.
pub(crate) const KERNELS: &[(&str, Prepare)] = &[
    ("aclnnScatterPaKvCache", scatter as Prepare),
    ("aclnnGatherPaKvCache", gather as Prepare),
];

/// How the rows of a page lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    /// Row after row.
    Rows,
    /// In blocks of so many columns: all rows of the first block, then those of the next.
    Blocks(usize),
    /// Head after head, each with all its rows; so many columns a head.
    Heads(usize),
}

/// A cache: pages of so many rows of so many columns.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pages {
    count: usize,
    pub rows: usize,
    pub columns: usize,
    order: Order,
}

impl Pages {
    /// Pages whose rows lie one after another.
    pub fn plain(count: usize, rows: usize, columns: usize) -> Pages {
        let order = Order::Rows;
        Pages {
            count,
            rows,
            columns,
            order,
        }
    }

    /// The same pages in blocks of `width` columns.
    pub fn blocked(self, width: usize) -> Pages {
        let order = Order::Blocks(width);
        Pages { order, ..self }
    }

    /// How many rows all pages hold.
    pub fn slots(self) -> usize {
        self.count * self.rows
    }

    /// Where a column of a row lies.
    pub fn place(self, slot: usize, column: usize) -> usize {
        let (page, row) = (slot / self.rows, slot % self.rows);
        let start = page * self.rows * self.columns;
        start
            + match self.order {
                Order::Rows => row * self.columns + column,
                Order::Blocks(width) | Order::Heads(width) => {
                    (column / width * self.rows + row) * width + column % width
                }
            }
    }
}

/// Columns of a block of 32 bytes.
pub(super) fn block_width(tensor: &Tensor) -> usize {
    256 / tensor.dtype().bits().max(1)
}

/// The pages of a cache for rows of `heads` of `width`.
fn pages(
    call: &Call,
    cache: &Tensor,
    mode: &str,
    heads: usize,
    width: usize,
) -> Result<Pages, Refusal> {
    let columns = heads * width;
    let block = block_width(cache);
    let found = match (mode, cache.shape()) {
        ("Norm", &[count, rows, own, wide]) if (own, wide) == (heads, width) => {
            Some(Pages::plain(count, rows, columns))
        }
        ("NHSD", &[count, own, rows, wide]) if (own, wide) == (heads, width) => {
            let order = Order::Heads(width);
            Some(Pages {
                order,
                ..Pages::plain(count, rows, columns)
            })
        }
        ("PA_NZ", &[count, blocks, rows, wide])
            if wide == block && blocks * wide == columns && width.is_multiple_of(block) =>
        {
            Some(Pages::plain(count, rows, columns).blocked(block))
        }
        ("PA_NZ", &[count, own, blocks, rows, wide])
            if wide == block && own == heads && blocks * wide == width =>
        {
            Some(Pages::plain(count, rows, columns).blocked(block))
        }
        _ => None,
    };
    found.filter(|pages| pages.rows > 0).ok_or_else(|| {
        call.invalid(format!(
            "a cache has shape {:?} for {heads} heads of {width} in mode {mode}",
            cache.shape()
        ))
    })
}

/// What a text parameter says; null stands for `otherwise`.
fn told<'a>(call: &Call<'a>, index: usize, otherwise: &'a str) -> &'a str {
    call.text(index)
        .ok()
        .filter(|text| !text.is_empty())
        .unwrap_or(otherwise)
}

/// Rows of keys and values to the slots that a list names.
fn scatter(call: &Call) -> Result<Work, Refusal> {
    let (key, slots, value) = (call.tensor(0)?, call.tensor(2)?, call.tensor(3)?);
    let (mode, kind) = (told(call, 8, "Norm"), told(call, 9, "None"));
    let form = match (mode, kind) {
        ("Norm", "None") => "Norm",
        ("Norm", "NHSD") => "NHSD",
        ("PA_NZ", "None") => "PA_NZ",
        ("Norm" | "PA_NZ", "Alibi" | "Rope" | "Omni" | "Nct") => {
            return Err(call.unsupported(format!("scatterMode {kind} has no kernel here")));
        }
        _ => return Err(call.invalid(format!("cacheMode {mode:?} with scatterMode {kind:?}"))),
    };
    if let Some(index) = (5..8).find(|&index| call.optional_tensor(index).is_some()) {
        return Err(call.invalid(format!(
            "parameter {index} (of compressed keys) with scatterMode {kind}"
        )));
    }
    let mut moves = Vec::new();
    for (source, cache) in [(key, 1), (value, 4)] {
        // Without values only the keys move.
        if cache == 4 && source.is_empty() {
            continue;
        }
        let cache = call.tensor(cache)?;
        let &[rows, heads, width] = source.shape() else {
            return Err(call.invalid(format!(
                "key or value has shape {:?}, wanted 3 dims",
                source.shape()
            )));
        };
        call.expect_shape("slotMapping", &slots, &[rows])?;
        same_dtype(call, "a cache", &cache, &source)?;
        let pages = pages(call, &cache, form, heads, width)?;
        moves.push((source, cache, pages));
    }
    let op = call.name();
    Ok(Work::new(move || {
        let slots = slots.load_vec::<i64>();
        for (source, cache, pages) in &moves {
            let (values, mut kept) = (source.load_vec::<f32>(), cache.load_vec::<f32>());
            for (row, &slot) in values.chunks_exact(pages.columns.max(1)).zip(&slots) {
                let slot = checked_index(op, slot, pages.slots())?;
                for (column, &value) in row.iter().enumerate() {
                    kept[pages.place(slot, column)] = value;
                }
            }
            cache.store_slice(&kept)?;
        }
        Ok(())
    }))
}

/// Each sample's rows out of the pages that a table names, one sample after another.
fn gather(call: &Call) -> Result<Work, Refusal> {
    let (table, lengths) = (call.tensor(2)?, call.tensor(3)?);
    let offsets = call.optional_tensor(6);
    let (mode, summed) = (told(call, 7, "Norm"), call.bool(8)?);
    if !matches!(mode, "Norm" | "PA_NZ") {
        return Err(call.invalid(format!("cacheMode is {mode:?}, wanted Norm or PA_NZ")));
    }
    let &[batch, columns] = table.shape() else {
        return Err(call.invalid(format!(
            "blockTables has shape {:?}, wanted 2 dims",
            table.shape()
        )));
    };
    call.expect_shape("seqLens", &lengths, &[batch + usize::from(summed)])?;
    if let Some(offsets) = &offsets {
        call.expect_shape("seqOffset", offsets, &[batch])?;
    }
    let mut moves = Vec::new();
    for (cache, out) in [(0, 4), (1, 5)] {
        let (cache, out) = (call.tensor(cache)?, call.tensor(out)?);
        same_dtype(call, "an output", &out, &cache)?;
        let (heads, width) = match (mode, out.shape()) {
            ("Norm", &[_, heads, width]) => (heads, width),
            ("PA_NZ", &[_, joint]) => (1, joint),
            (_, shape) => {
                return Err(call.invalid(format!("an output has shape {shape:?} in mode {mode}")));
            }
        };
        let pages = pages(call, &cache, mode, heads, width)?;
        moves.push((cache, out, pages));
    }
    let op = call.name();
    Ok(Work::new(move || {
        let table = table.load_vec::<i64>();
        let mut lengths = lengths.load_vec::<i64>();
        if summed {
            lengths = lengths.windows(2).map(|pair| pair[1] - pair[0]).collect();
        }
        let offsets = offsets.as_ref().map(|offsets| offsets.load_vec::<i64>());
        for (cache, out, pages) in &moves {
            let (kept, mut values) = (cache.load_vec::<f32>(), out.load_vec::<f32>());
            let mut targets = values.chunks_exact_mut(pages.columns.max(1));
            for (sample, &length) in lengths.iter().enumerate() {
                let offset = offsets.as_ref().map_or(0, |offsets| offsets[sample]);
                let first = usize::try_from(offset).unwrap_or(0) / pages.rows;
                for row in 0..usize::try_from(length).unwrap_or(0) {
                    let at = first + row / pages.rows;
                    if at >= columns {
                        return Err(Fault::exception(format!(
                            "{op}: sample {sample} needs {} pages of {columns}",
                            at + 1
                        )));
                    }
                    let page = checked_index(op, table[sample * columns + at], pages.count)?;
                    let slot = page * pages.rows + row % pages.rows;
                    let target = targets.next().ok_or_else(|| {
                        Fault::exception(format!("{op}: more rows than the output has"))
                    })?;
                    for (column, value) in target.iter_mut().enumerate() {
                        *value = kept[pages.place(slot, column)];
                    }
                }
            }
            out.store_slice(&values)?;
        }
        Ok(())
    }))
}
