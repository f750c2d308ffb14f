//! Rows of a table reduced bag by bag.
//!
//! Knows the kernel interface; it must not know streams, handles or device memory.

use super::common::{checked_index, same_dtype, size_of};
use crate::failure::{Fault, Refusal};
use crate::kernel::{Call, Prepare, Work};
use crate::tensor::Tensor;

/// This family's ops.
pub(crate) const KERNELS: &[(&str, Prepare)] = &[("aclnnEmbeddingBag", embedding_bag as Prepare)];

/// How the rows of a bag become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Sum,
    Mean,
    Max,
}

/// What a call asks for.
struct Bags {
    table: Tensor,
    indices: Tensor,
    offsets: Tensor,
    weights: Option<Tensor>,
    mode: Mode,
    padding: Option<usize>,
    count: usize,
    rows: usize,
    width: usize,
}

/// What one run gives.
struct Reduced {
    values: Vec<f32>,
    bag_of: Vec<i64>,
    sizes: Vec<i64>,
    highest: Vec<i64>,
}

impl Bags {
    fn new(call: &Call) -> Result<Bags, Refusal> {
        let (table, indices, offsets) = (call.tensor(0)?, call.tensor(1)?, call.tensor(2)?);
        let &[rows, width] = table.shape() else {
            return Err(call.invalid(format!("weight has shape {:?}", table.shape())));
        };
        if indices.rank() != 1 || offsets.rank() != 1 {
            return Err(call.invalid(format!(
                "indices {:?} and offsets {:?} must be flat",
                indices.shape(),
                offsets.shape()
            )));
        }
        let mode = match call.int(4)? {
            0 => Mode::Sum,
            1 => Mode::Mean,
            2 => Mode::Max,
            other => return Err(call.invalid(format!("mode is {other}, wanted 0 to 2"))),
        };
        let weights = call
            .optional_tensor(6)
            .filter(|weights| !weights.is_empty());
        if let Some(weights) = &weights {
            call.expect_shape("perSampleWeights", weights, indices.shape())?;
            if mode != Mode::Sum {
                return Err(call.invalid("weights per sample are for sums only"));
            }
        }
        // The last offset may be the end of the last bag, not a bag of its own.
        let closing = usize::from(call.bool(7)?);
        let count = size_of(
            call,
            "the number of offsets",
            offsets.count() as i64,
            closing,
        )? - closing;
        Ok(Bags {
            padding: usize::try_from(call.int(8)?).ok(),
            table,
            indices,
            offsets,
            weights,
            mode,
            count,
            rows,
            width,
        })
    }

    fn reduce(&self, op: &str) -> Result<Reduced, Fault> {
        let table = self.table.load_vec::<f32>();
        let indices = self.indices.load_vec::<i64>();
        let offsets = self.offsets.load_vec::<i64>();
        let weights = self.weights.as_ref().map(Tensor::load_vec::<f32>);
        let mut result = Reduced {
            values: vec![0.0; self.count * self.width],
            bag_of: vec![0; indices.len()],
            sizes: vec![0; self.count],
            highest: vec![-1; self.count * self.width],
        };
        for bag in 0..self.count {
            let end = offsets
                .get(bag + 1)
                .map_or(indices.len(), |&end| end as usize);
            let start = offsets.get(bag).map_or(0, |&start| start as usize);
            if start > end || end > indices.len() {
                return Err(Fault::exception(format!(
                    "{op}: bag {bag} runs from {start} to {end} of {} indices",
                    indices.len()
                )));
            }
            for (at, &index) in indices[start..end].iter().enumerate() {
                result.bag_of[start + at] = bag as i64;
                let row = checked_index(op, index, self.rows)?;
                if self.padding == Some(row) {
                    continue;
                }
                let weight = weights.as_ref().map_or(1.0, |weights| weights[start + at]);
                let row_values = &table[row * self.width..][..self.width];
                self.take(&mut result, bag, row, row_values, weight);
                result.sizes[bag] += 1;
            }
            if self.mode == Mode::Mean && result.sizes[bag] > 0 {
                let size = result.sizes[bag] as f32;
                result.values[bag * self.width..][..self.width]
                    .iter_mut()
                    .for_each(|value| *value /= size);
            }
        }
        Ok(result)
    }

    /// Adds a row to its bag, or keeps what is larger; the first row of a bag is larger than nothing.
    fn take(&self, result: &mut Reduced, bag: usize, row: usize, values: &[f32], weight: f32) {
        let start = bag * self.width;
        for (column, &value) in values.iter().enumerate() {
            let slot = &mut result.values[start + column];
            if self.mode != Mode::Max {
                *slot += weight * value;
            } else if result.highest[start + column] < 0 || value > *slot {
                *slot = value;
                result.highest[start + column] = row as i64;
            }
        }
    }
}

fn embedding_bag(call: &Call) -> Result<Work, Refusal> {
    let bags = Bags::new(call)?;
    let (out, bag_of) = (call.tensor(9)?, call.tensor(10)?);
    let (sizes, highest) = (call.tensor(11)?, call.tensor(12)?);
    same_dtype(call, "output", &out, &bags.table)?;
    call.expect_shape("output", &out, &[bags.count, bags.width])?;
    let op = call.name();
    Ok(Work::new(move || {
        let reduced = bags.reduce(op)?;
        out.store_slice(&reduced.values)?;
        // Sums need no places for their gradient: programs pass what they like for them then.
        for (tensor, values) in [
            (&bag_of, &reduced.bag_of),
            (&sizes, &reduced.sizes),
            (&highest, &reduced.highest),
        ] {
            if tensor.count() == values.len() {
                tensor.store_slice(values)?;
            }
        }
        Ok(())
    }))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{arg, assert_close, floats, longs, null, run};
    use crate::kernel::Arg;

    #[test]
    fn bags_are_reduced() {
        let table = floats(&[3, 2], &[1., 2., 3., 4., 5., -6.]);
        let (indices, offsets) = (longs(&[3], &[0, 2, 1]), longs(&[2], &[0, 2]));
        let out = floats(&[2, 2], &[0.; 4]);
        let (bag_of, sizes) = (longs(&[3], &[9; 3]), longs(&[2], &[9; 2]));
        let highest = longs(&[2, 2], &[9; 4]);
        for (mode, wanted) in [
            (0, [6., -4., 3., 4.]),
            (1, [3., -2., 3., 4.]),
            (2, [5., 2., 3., 4.]),
        ] {
            let call = [
                arg(&table),
                arg(&indices),
                arg(&offsets),
                Arg::Bool(false),
                Arg::Int(mode),
                Arg::Bool(false),
                null(),
                Arg::Bool(false),
                Arg::Int(-1),
                arg(&out),
                arg(&bag_of),
                arg(&sizes),
                arg(&highest),
            ];
            run("aclnnEmbeddingBag", &call).expect("bags");
            assert_close(&out, &wanted, 0.);
        }
        assert_eq!(bag_of.load_vec::<i64>(), [0, 0, 1]);
        assert_eq!(sizes.load_vec::<i64>(), [2, 1]);
        assert_eq!(highest.load_vec::<i64>(), [2, 0, 1, 1]);
    }
}
