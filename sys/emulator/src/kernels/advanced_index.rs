//! Indexing by a list of index tensors, as `x[i, :, mask]` does: `aclnnIndex` and `aclnnIndexPutImpl`.
//!
//! Knows the kernel interface; it must not know streams, handles or device memory.

use super::common::{
    Arithmetic, broadcast_positions, by_class, cartesian, expect_broadcast, load_broadcast,
    same_dtype, volume, wrapped_index,
};
use crate::dtype::DType;
use crate::failure::{Fault, Refusal};
use crate::kernel::{Call, Prepare, Work};
use crate::tensor::{Tensor, natural_strides};

/// This family's ops.
pub(crate) const KERNELS: &[(&str, Prepare)] = &[
    ("aclnnIndex", index as Prepare),
    ("aclnnIndexPutImpl", index_put as Prepare),
];

/// One entry of the list, with the dims of the indexed tensor that it stands for.
#[derive(Debug, Clone)]
enum Entry {
    /// The dim is kept whole.
    Whole(usize),
    /// Integers pick along one dim.
    Integers(usize, Tensor),
    /// A mask picks along as many dims as it has, from this one on.
    Mask(usize, Tensor),
}

/// The parsed list for a tensor of one shape.
#[derive(Debug, Clone)]
struct Selection {
    op: &'static str,
    shape: Vec<usize>,
    entries: Vec<Entry>,
    /// How many dims of the result stand before the picked ones.
    lead: usize,
}

/// What a selection names: the shape of the result and the position of each element.
struct Picked {
    shape: Vec<usize>,
    positions: Vec<usize>,
}

impl Selection {
    /// Reads the list: an absent entry keeps its dim whole, a mask covers as many dims as it has. A flat empty tensor of the
    /// dtype of `x` stands for an absent one, as PyTorch's client writes it; an empty one of integers picks nothing.
    fn new(call: &Call, x: &Tensor, index: usize) -> Result<Selection, Refusal> {
        let list = call.optional_tensors(index).unwrap_or_default();
        let shape = x.shape().to_vec();
        let mut entries = Vec::new();
        let mut axis = 0;
        for entry in list {
            let stands_for_all = |tensor: &Tensor| {
                let index = matches!(tensor.dtype(), DType::I32 | DType::I64 | DType::Bool);
                tensor.is_empty() && tensor.rank() <= 1 && (!index || tensor.dtype() == x.dtype())
            };
            let Some(tensor) = entry.filter(|tensor| !stands_for_all(tensor)) else {
                entries.push(Entry::Whole(axis));
                axis += 1;
                continue;
            };
            let mask = matches!(tensor.dtype(), DType::Bool | DType::U8);
            if !mask && !matches!(tensor.dtype(), DType::I32 | DType::I64) {
                return Err(call.invalid(format!("an index has dtype {}", tensor.dtype())));
            }
            if mask {
                let end = axis + tensor.rank();
                if tensor.rank() == 0 || shape.get(axis..end) != Some(tensor.shape()) {
                    return Err(call.invalid(format!(
                        "a mask of shape {:?} does not fit {shape:?} from dim {axis} on",
                        tensor.shape()
                    )));
                }
                entries.push(Entry::Mask(axis, tensor));
                axis = end;
            } else {
                entries.push(Entry::Integers(axis, tensor));
                axis += 1;
            }
        }
        if axis > shape.len() {
            return Err(call.invalid(format!("{axis} indices for a shape of {shape:?}")));
        }
        entries.extend((axis..shape.len()).map(Entry::Whole));
        let lead = lead(&entries);
        Ok(Selection {
            op: call.name(),
            shape,
            entries,
            lead,
        })
    }

    fn has_mask(&self) -> bool {
        self.entries
            .iter()
            .any(|entry| matches!(entry, Entry::Mask(..)))
    }

    /// The shape of the result where no mask is in the list.
    fn static_shape(&self, call: &Call) -> Result<Vec<usize>, Refusal> {
        let picks: Vec<&[usize]> = self
            .entries
            .iter()
            .filter_map(|entry| match entry {
                Entry::Integers(_, tensor) => Some(tensor.shape()),
                _ => None,
            })
            .collect();
        let common = call.broadcast(&picks)?;
        Ok(self.result_shape(&common))
    }

    fn result_shape(&self, common: &[usize]) -> Vec<usize> {
        let mut kept: Vec<usize> = self
            .entries
            .iter()
            .filter_map(|entry| match entry {
                Entry::Whole(axis) => self.shape.get(*axis).copied(),
                _ => None,
            })
            .collect();
        let picked = self.entries.len() > kept.len();
        if picked {
            kept.splice(self.lead..self.lead, common.iter().copied());
        }
        kept
    }

    /// Resolves masks and indices.
    fn resolve(&self) -> Result<Picked, Fault> {
        let strides = natural_strides(&self.shape);
        let mut offsets: Vec<(Vec<usize>, Vec<usize>)> = Vec::new();
        for entry in &self.entries {
            match entry {
                Entry::Whole(_) => {}
                Entry::Integers(axis, tensor) => {
                    let values = tensor
                        .load_vec::<i64>()
                        .into_iter()
                        .map(|index| {
                            Ok(wrapped_index(self.op, index, self.shape[*axis])? * strides[*axis])
                        })
                        .collect::<Result<Vec<_>, Fault>>()?;
                    offsets.push((tensor.shape().to_vec(), values));
                }
                Entry::Mask(axis, tensor) => {
                    let step = strides[axis + tensor.rank() - 1];
                    let values: Vec<usize> = tensor
                        .load_vec::<bool>()
                        .into_iter()
                        .enumerate()
                        .filter_map(|(position, chosen)| chosen.then_some(position * step))
                        .collect();
                    offsets.push((vec![values.len()], values));
                }
            }
        }
        let (common, picks) = self.join(&offsets)?;
        let mut parts: Vec<Vec<usize>> = self
            .entries
            .iter()
            .filter_map(|entry| match entry {
                Entry::Whole(axis) => {
                    let stride = strides[*axis];
                    Some((0..self.shape[*axis]).map(|at| at * stride).collect())
                }
                _ => None,
            })
            .collect();
        if !offsets.is_empty() {
            parts.insert(self.lead, picks);
        }
        Ok(Picked {
            shape: self.result_shape(&common),
            positions: cartesian(&parts),
        })
    }

    /// Broadcasts the picked offsets against each other and adds them.
    fn join(
        &self,
        offsets: &[(Vec<usize>, Vec<usize>)],
    ) -> Result<(Vec<usize>, Vec<usize>), Fault> {
        let rank = offsets.iter().map(|entry| entry.0.len()).max().unwrap_or(0);
        let mut common = vec![1usize; rank];
        for (shape, _) in offsets {
            for (target, &dim) in common.iter_mut().rev().zip(shape.iter().rev()) {
                if *target != dim && *target != 1 && dim != 1 {
                    return Err(Fault::exception(format!(
                        "{}: index shapes {shape:?} and {common:?} do not broadcast",
                        self.op
                    )));
                }
                if dim != 1 {
                    *target = dim;
                }
            }
        }
        let mut sums = vec![0usize; volume(&common)];
        for (shape, values) in offsets {
            let positions = broadcast_positions(shape, &common);
            for (sum, position) in sums.iter_mut().zip(positions) {
                *sum += values[position];
            }
        }
        Ok((common, sums))
    }
}

/// Where the picked dims go in the result: in the place of the first where they stand side by side, else in front.
fn lead(entries: &[Entry]) -> usize {
    let whole = |entry: &Entry| matches!(entry, Entry::Whole(_));
    let before = entries.iter().take_while(|entry| whole(entry)).count();
    let after = entries
        .iter()
        .rev()
        .take_while(|entry| whole(entry))
        .count();
    let middle = entries.len().saturating_sub(before + after);
    let apart = entries.iter().skip(before).take(middle).any(whole);
    if apart || before == entries.len() {
        0
    } else {
        before
    }
}

/// `out = self[indices]`.
fn index(call: &Call) -> Result<Work, Refusal> {
    let (x, out) = (call.tensor(0)?, call.tensor(2)?);
    let selection = Selection::new(call, &x, 1)?;
    same_dtype(call, "out", &out, &x)?;
    if !selection.has_mask() {
        call.expect_shape("out", &out, &selection.static_shape(call)?)?;
    }
    if out.is_empty() {
        return Ok(Work::nothing());
    }
    by_class!(x.dtype(), T => Ok(Work::new(move || {
        let picked = selection.resolve()?;
        if picked.shape != out.shape() {
            return Err(Fault::exception(format!(
                "{}: the indices name shape {:?}, out has {:?}",
                selection.op, picked.shape, out.shape()
            )));
        }
        let values = x.load_vec::<T>();
        let result: Vec<T> = picked.positions.iter().map(|&at| values[at]).collect();
        out.store_slice(&result)
    })), Err(call.unsupported(format!("no kernel for {}", x.dtype()))))
}

/// `self[indices] = values`, or `+= values` where `accumulate`; values broadcast to what the indices name.
fn index_put(call: &Call) -> Result<Work, Refusal> {
    let (x, values) = (call.tensor(0)?, call.tensor(2)?);
    let accumulate = call.bool(3)?;
    let selection = Selection::new(call, &x, 1)?;
    same_dtype(call, "values", &values, &x)?;
    if !selection.has_mask() {
        expect_broadcast(call, "values", &values, &selection.static_shape(call)?)?;
    }
    if x.is_empty() || values.is_empty() {
        return Ok(Work::nothing());
    }
    let order = call.order();
    by_class!(x.dtype(), T => Ok(Work::new(move || {
        let picked = selection.resolve()?;
        let fits = values.rank() <= picked.shape.len()
            && values.shape().iter().rev().zip(picked.shape.iter().rev())
                .all(|(&dim, &target)| dim == 1 || dim == target);
        if !fits {
            return Err(Fault::exception(format!(
                "{}: values of shape {:?} for a selection of {:?}",
                selection.op, values.shape(), picked.shape
            )));
        }
        let new = load_broadcast::<T>(&values, &picked.shape);
        let mut all = x.load_vec::<T>();
        for number in order.of(picked.positions.len()) {
            let (at, value) = (picked.positions[number], new[number]);
            all[at] = if accumulate { all[at].plus(value) } else { value };
        }
        x.store_slice(&all)
    })), Err(call.unsupported(format!("no kernel for {}", x.dtype()))))
}
