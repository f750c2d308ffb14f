//! Einstein's sum over two operands (or one): labels that are missing in the output are summed over.
//!
//! Knows the kernel interface; it must not know streams, handles or device memory.

use super::common::volume;
use crate::failure::Refusal;
use crate::kernel::{Call, Prepare, Work};
use crate::tensor::{Tensor, natural_strides};
use std::collections::BTreeMap;

/// This family's ops.
pub(crate) const KERNELS: &[(&str, Prepare)] = &[("aclnnEinsum", einsum)];

/// For each label of `order`, how far one step goes in a contiguous tensor whose dims carry `labels`.
fn steps(order: &[char], labels: &[char], shape: &[usize]) -> Vec<usize> {
    let strides = natural_strides(shape);
    let step = |label: &char| {
        let own = labels.iter().zip(&strides).filter(|(own, _)| *own == label);
        own.map(|(_, stride)| stride).sum()
    };
    order.iter().map(step).collect()
}

fn einsum(call: &Call) -> Result<Work, Refusal> {
    let (inputs, out) = (call.tensors(0)?, call.tensor(2)?);
    let equation: String = call
        .text(1)?
        .chars()
        .filter(|c| !c.is_whitespace())
        .collect();
    let refuse = || {
        call.invalid(format!(
            "equation {equation:?} for {} tensors",
            inputs.len()
        ))
    };
    let (left, right) = equation.split_once("->").ok_or_else(refuse)?;
    let terms: Vec<Vec<char>> = left.split(',').map(|term| term.chars().collect()).collect();
    let result: Vec<char> = right.chars().collect();
    if terms.len() != inputs.len() || inputs.len() > 2 || equation.contains('.') {
        return Err(refuse());
    }
    let mut extents = BTreeMap::new();
    let mut named = |labels: &[char], tensor: &Tensor| {
        labels.len() == tensor.rank()
            && labels.iter().zip(tensor.shape()).all(|(&label, &dim)| {
                label.is_ascii_alphabetic() && *extents.entry(label).or_insert(dim) == dim
            })
    };
    if !terms
        .iter()
        .zip(&inputs)
        .all(|(labels, tensor)| named(labels, tensor))
    {
        return Err(refuse());
    }
    let known = extents.len();
    let mut named = |labels: &[char], tensor: &Tensor| {
        labels.len() == tensor.rank()
            && labels
                .iter()
                .zip(tensor.shape())
                .all(|(&label, &dim)| *extents.entry(label).or_insert(dim) == dim)
    };
    if !named(&result, &out) || extents.len() != known {
        return Err(refuse());
    }
    let summed: Vec<char> = extents
        .keys()
        .copied()
        .filter(|l| !result.contains(l))
        .collect();
    let order: Vec<char> = result.iter().chain(&summed).copied().collect();
    let dims: Vec<usize> = order
        .iter()
        .filter_map(|label| extents.get(label).copied())
        .collect();
    let steps: Vec<Vec<usize>> = terms
        .iter()
        .zip(&inputs)
        .map(|(labels, tensor)| steps(&order, labels, tensor.shape()))
        .collect();
    let inner = volume(&dims[result.len()..]);
    Ok(Work::new(move || {
        let values: Vec<Vec<f32>> = inputs.iter().map(Tensor::load_vec).collect();
        let strides = natural_strides(&dims);
        let sums: Vec<f32> = (0..out.count())
            .map(|at| {
                (0..inner)
                    .map(|part| {
                        let flat = at * inner + part;
                        let index = |axis: usize| flat / strides[axis] % dims[axis];
                        let place = |steps: &[usize]| -> usize {
                            steps
                                .iter()
                                .enumerate()
                                .map(|(axis, step)| index(axis) * step)
                                .sum()
                        };
                        let factors = values.iter().zip(&steps);
                        factors
                            .map(|(values, steps)| values[place(steps)])
                            .product::<f32>()
                    })
                    .sum()
            })
            .collect();
        out.store_slice(&sums)
    }))
}
