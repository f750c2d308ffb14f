//! Rows of heads in the layouts of attention: samples of one length, samples packed one after another, and pages.
//!
//! Knows shapes and offsets; it must not know scores, masks or ops.

use crate::failure::{Fault, Refusal};
use crate::kernel::Call;
use crate::tensor::Tensor;
use ndarray::Array2;

/// One part of the width (plain or rotary): a tensor for all samples, or one for each.
pub(super) type Part = Vec<Tensor>;

/// How rows lie.
#[derive(Debug, Clone)]
enum Place {
    /// Strides of sample, head and row by part.
    Strided(Vec<[usize; 3]>),
    /// First row of each sample; rows of all heads follow each other.
    Packed(Vec<usize>),
    /// Pages of rows: the table's tensor and width, the rows of a page, and whether heads stand before rows in a page.
    Paged {
        table: Tensor,
        size: usize,
        heads_first: bool,
    },
}

/// Queries, keys, values or results.
#[derive(Debug, Clone)]
pub(super) struct Side {
    parts: Vec<Part>,
    widths: Vec<usize>,
    heads: usize,
    lengths: Vec<usize>,
    /// Rows that a sample has room for.
    extent: usize,
    place: Place,
}

/// The values of a side as they are when the kernel runs.
pub(super) struct Values {
    parts: Vec<Vec<Vec<f32>>>,
    table: Vec<i64>,
}

impl Side {
    /// From a layout's name. Lengths are real rows of each sample, or ends of samples where they are packed.
    pub fn new(
        call: &Call,
        layout: &str,
        heads: usize,
        parts: Vec<Part>,
        lengths: &[i64],
    ) -> Result<Side, Refusal> {
        if layout == "TND" {
            return Side::packed(call, heads, parts, lengths);
        }
        let (mut widths, mut strides, mut samples, mut extent) = (vec![], vec![], 0, 0);
        for part in &parts {
            let Some(first) = part.first() else {
                return Err(call.invalid("a list holds no tensor"));
            };
            let (batch, rows, width) = extents(call, layout, first.shape(), heads)?;
            widths.push(width);
            strides.push(match layout {
                "BNSD" => [heads * rows * width, rows * width, width],
                _ => [rows * heads * width, width, heads * width],
            });
            samples = if part.len() > 1 { part.len() } else { batch };
            extent = rows;
            let alike = |tensor: &&Tensor| tensor.shape() == first.shape() && batch == 1;
            if part.len() > 1 && !part.iter().all(|tensor| alike(&tensor)) {
                return Err(call.unsupported("a list of tensors of different shapes"));
            }
        }
        Ok(Side {
            lengths: real_lengths(call, lengths, samples, extent)?,
            parts,
            widths,
            heads,
            extent,
            place: Place::Strided(strides),
        })
    }

    fn packed(call: &Call, heads: usize, parts: Vec<Part>, ends: &[i64]) -> Result<Side, Refusal> {
        let mut widths = Vec::new();
        let mut rows = 0;
        for part in &parts {
            match part.as_slice() {
                [tensor] if tensor.rank() == 3 && tensor.shape()[1] == heads => {
                    rows = tensor.shape()[0];
                    widths.push(tensor.shape()[2]);
                }
                _ => return Err(call.invalid(format!("{part:?} is not TND with {heads} heads"))),
            }
        }
        let mut starts = vec![0];
        for &end in ends {
            let last = starts.last().copied().unwrap_or(0);
            let end = usize::try_from(end)
                .ok()
                .filter(|&end| last <= end && end <= rows);
            starts.push(end.ok_or_else(|| {
                call.invalid(format!("ends {ends:?} do not rise to {rows} rows"))
            })?);
        }
        let lengths: Vec<usize> = starts.windows(2).map(|pair| pair[1] - pair[0]).collect();
        Ok(Side {
            parts,
            widths,
            heads,
            extent: lengths.iter().copied().max().unwrap_or(0),
            lengths,
            place: Place::Packed(starts),
        })
    }

    /// Pages of `[pages, rows, heads * width]` or `[pages, heads, rows, width]`; the table says each sample's pages in order.
    pub fn paged(
        call: &Call,
        heads: usize,
        parts: Vec<Part>,
        table: &Tensor,
        size: usize,
        lengths: &[i64],
    ) -> Result<Side, Refusal> {
        let (mut widths, mut heads_first) = (vec![], false);
        for part in &parts {
            let [tensor] = part.as_slice() else {
                return Err(call.invalid("pages lie in one tensor"));
            };
            match *tensor.shape() {
                [_, rows, joint] if rows == size && joint.is_multiple_of(heads.max(1)) => {
                    widths.push(joint / heads.max(1));
                }
                [_, own, rows, width] if own == heads && rows == size => {
                    heads_first = true;
                    widths.push(width);
                }
                ref shape => {
                    return Err(call.unsupported(format!("pages of shape {shape:?}")));
                }
            }
        }
        let &[samples, columns] = table.shape() else {
            return Err(call.invalid(format!("blockTable has shape {:?}", table.shape())));
        };
        if lengths.is_empty() {
            return Err(call.invalid("pages want lengths of the keys"));
        }
        Ok(Side {
            lengths: real_lengths(call, lengths, samples, columns * size)?,
            parts,
            widths,
            heads,
            extent: columns * size,
            place: Place::Paged {
                table: table.clone(),
                size,
                heads_first,
            },
        })
    }

    /// Real rows of each sample.
    pub fn lengths(&self) -> &[usize] {
        &self.lengths
    }

    /// Number of samples.
    pub fn samples(&self) -> usize {
        self.lengths.len()
    }

    /// Number of heads.
    pub fn heads(&self) -> usize {
        self.heads
    }

    /// Rows that a sample has room for.
    pub fn extent(&self) -> usize {
        self.extent
    }

    /// Width of all parts together.
    pub fn width(&self) -> usize {
        self.widths.iter().sum()
    }

    /// Whether samples lie one after another.
    pub fn is_packed(&self) -> bool {
        matches!(self.place, Place::Packed(_))
    }

    /// First row of a packed sample.
    pub fn start(&self, sample: usize) -> usize {
        match &self.place {
            Place::Packed(starts) => starts[sample],
            _ => 0,
        }
    }

    /// Reads all parts.
    pub fn load(&self) -> Result<Values, Fault> {
        Ok(Values {
            parts: self
                .parts
                .iter()
                .map(|part| part.iter().map(Tensor::load_vec).collect())
                .collect(),
            table: match &self.place {
                Place::Paged { table, .. } => table.load_vec(),
                _ => Vec::new(),
            },
        })
    }

    /// Which tensor of a part holds a row, and where the row begins in it.
    fn offset(&self, table: &[i64], part: usize, at: [usize; 3]) -> Result<(usize, usize), Fault> {
        let ([sample, head, row], width) = (at, self.widths[part]);
        Ok(match &self.place {
            Place::Strided(strides) => {
                let [by_sample, by_head, by_row] = strides[part];
                let apart = self.parts[part].len() > 1;
                let (tensor, within) = if apart { (sample, 0) } else { (0, sample) };
                (tensor, within * by_sample + head * by_head + row * by_row)
            }
            Place::Packed(starts) => (0, ((starts[sample] + row) * self.heads + head) * width),
            Place::Paged {
                size, heads_first, ..
            } => {
                let columns = self.extent / size;
                let page = table[sample * columns + row / size];
                let pages = self.parts[part][0].shape()[0];
                let page = usize::try_from(page)
                    .ok()
                    .filter(|&page| page < pages)
                    .ok_or_else(|| Fault::exception(format!("page {page} of {pages}")))?;
                let line = row % size;
                let within = if *heads_first {
                    head * size + line
                } else {
                    line * self.heads + head
                };
                (0, (page * size * self.heads + within) * width)
            }
        })
    }

    /// Room for results.
    pub fn zeros(&self) -> Vec<f32> {
        vec![0.0; self.parts[0][0].count()]
    }

    /// Puts one sample's and head's result rows into their places.
    pub fn put(
        &self,
        target: &mut [f32],
        sample: usize,
        head: usize,
        rows: &Array2<f32>,
    ) -> Result<(), Fault> {
        for (row, line) in rows.outer_iter().enumerate() {
            let (_, start) = self.offset(&[], 0, [sample, head, row])?;
            for (target, &value) in target[start..start + self.widths[0]].iter_mut().zip(line) {
                *target = value;
            }
        }
        Ok(())
    }

    /// Writes results that [`put`](Self::put) has filled in.
    pub fn store(&self, values: &[f32]) -> Result<(), Fault> {
        self.parts[0][0].store_slice(values)
    }
}

impl Values {
    /// One sample's and head's real rows.
    pub fn gather(&self, side: &Side, sample: usize, head: usize) -> Result<Array2<f32>, Fault> {
        let rows = side.lengths[sample];
        let mut matrix = Array2::zeros((rows, side.width()));
        for row in 0..rows {
            let mut from = 0;
            for (part, &width) in side.widths.iter().enumerate() {
                let (tensor, start) = side.offset(&self.table, part, [sample, head, row])?;
                let values = &self.parts[part][tensor][start..start + width];
                for (at, &value) in values.iter().enumerate() {
                    matrix[[row, from + at]] = value;
                }
                from += width;
            }
        }
        Ok(matrix)
    }
}

/// Samples, rows and width of a head.
fn extents(
    call: &Call,
    layout: &str,
    shape: &[usize],
    heads: usize,
) -> Result<(usize, usize, usize), Refusal> {
    match (layout, shape) {
        ("BSH", &[batch, rows, joint]) if heads > 0 && joint.is_multiple_of(heads) => {
            Ok((batch, rows, joint / heads))
        }
        ("BSND", &[batch, rows, own, width]) if own == heads => Ok((batch, rows, width)),
        ("BNSD", &[batch, own, rows, width]) if own == heads => Ok((batch, rows, width)),
        ("BSH" | "BSND" | "BNSD", _) => Err(call.invalid(format!(
            "shape {shape:?} is not {layout} with {heads} heads"
        ))),
        _ => Err(call.unsupported(format!("layout {layout:?}"))),
    }
}

/// None for all rows, one for all samples, or one for each.
fn real_lengths(
    call: &Call,
    given: &[i64],
    samples: usize,
    rows: usize,
) -> Result<Vec<usize>, Refusal> {
    let natural = |length: i64| {
        usize::try_from(length)
            .ok()
            .filter(|&length| length <= rows)
    };
    let found: Option<Vec<usize>> = match given {
        [] => Some(vec![rows; samples]),
        [one] => natural(*one).map(|one| vec![one; samples]),
        many if many.len() >= samples => many
            .iter()
            .take(samples)
            .map(|&length| natural(length))
            .collect(),
        _ => None,
    };
    found.ok_or_else(|| {
        call.invalid(format!(
            "lengths {given:?} for {samples} samples of {rows} rows"
        ))
    })
}
