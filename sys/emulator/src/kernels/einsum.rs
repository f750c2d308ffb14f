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

/// Labels with their extents; false where a label stands for two of them.
fn name(extents: &mut BTreeMap<char, usize>, labels: &[char], tensor: &Tensor) -> bool {
    labels.len() == tensor.rank()
        && labels.iter().zip(tensor.shape()).all(|(&label, &dim)| {
            label.is_ascii_alphabetic() && *extents.entry(label).or_insert(dim) == dim
        })
}

/// What a run goes through: the dims of the output, then those that are summed, and each operand's steps along them.
struct Plan {
    dims: Vec<usize>,
    inner: usize,
    steps: Vec<Vec<usize>>,
}

impl Plan {
    fn new(call: &Call, inputs: &[Tensor], out: &Tensor) -> Result<Plan, Refusal> {
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
        let mut extents = BTreeMap::new();
        let fits = terms.len() == inputs.len()
            && inputs.len() <= 2
            && terms
                .iter()
                .zip(inputs)
                .all(|(labels, tensor)| name(&mut extents, labels, tensor));
        let known = extents.len();
        if !fits || !name(&mut extents, &result, out) || extents.len() != known {
            return Err(refuse());
        }
        let summed = extents.keys().filter(|label| !result.contains(label));
        let order: Vec<char> = result.iter().chain(summed).copied().collect();
        let dims: Vec<usize> = order.iter().map(|label| extents[label]).collect();
        let operands = terms.iter().zip(inputs);
        Ok(Plan {
            inner: volume(&dims[result.len()..]),
            steps: operands
                .map(|(labels, tensor)| steps(&order, labels, tensor.shape()))
                .collect(),
            dims,
        })
    }
}

fn einsum(call: &Call) -> Result<Work, Refusal> {
    let (inputs, out) = (call.tensors(0)?, call.tensor(2)?);
    let plan = Plan::new(call, &inputs, &out)?;
    Ok(Work::new(move || {
        let values: Vec<Vec<f32>> = inputs.iter().map(Tensor::load_vec).collect();
        let strides = natural_strides(&plan.dims);
        let term = |flat: usize| -> f32 {
            let place = |steps: &[usize]| -> usize {
                let axes = steps.iter().zip(strides.iter().zip(&plan.dims));
                axes.map(|(step, (stride, dim))| flat / stride % dim * step)
                    .sum()
            };
            let factors = values.iter().zip(&plan.steps);
            factors
                .map(|(values, steps)| values[place(steps)])
                .product()
        };
        let sums: Vec<f32> = (0..out.count())
            .map(|at| {
                (0..plan.inner)
                    .map(|part| term(at * plan.inner + part))
                    .sum()
            })
            .collect();
        out.store_slice(&sums)
    }))
}
