//! One step of a recurrent cell after its matrix products, and its gradient.
//!
//! Knows the kernel interface and the gates' order; it must not know streams, handles or device memory.

use crate::dtype::DType;
use crate::failure::Refusal;
use crate::kernel::{Call, Prepare, Work};
use crate::tensor::Tensor;

/// This family's ops.
pub(crate) const KERNELS: &[(&str, Prepare)] = &[
    ("aclnnThnnFusedLstmCell", lstm_cell as Prepare),
    (
        "aclnnThnnFusedLstmCellBackward",
        lstm_cell_backward as Prepare,
    ),
];

/// Batch and hidden size, after the checks of shape: `gates` have four blocks of `state`'s columns.
fn sizes(
    call: &Call,
    states: &[(&str, &Tensor)],
    gates: &[(&str, &Tensor)],
) -> Result<[usize; 2], Refusal> {
    let shape = states.first().map_or(&[][..], |(_, first)| first.shape());
    let &[batch, hidden] = shape else {
        return Err(call.invalid(format!("a state of shape {shape:?}, wanted two dims")));
    };
    if batch == 0 || hidden == 0 {
        return Err(call.invalid("an empty state"));
    }
    let dtype = states
        .first()
        .map_or(DType::F32, |(_, first)| first.dtype());
    for (name, state) in states {
        call.expect_shape(name, state, shape)?;
        call.expect_dtype(name, state, &[dtype])?;
    }
    for (name, own) in gates {
        call.expect_shape(name, own, &[batch, 4 * hidden])?;
        call.expect_dtype(name, own, &[dtype])?;
    }
    Ok([batch, hidden])
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// The manual lists the gates as i, g, f, o; PyTorch's client passes PyTorch's own, i, f, g, o, and CANN's test of the kernel
/// reads them so.
fn lstm_cell(call: &Call) -> Result<Work, Refusal> {
    let (own, from_state, cell) = (call.tensor(0)?, call.tensor(1)?, call.tensor(2)?);
    let biases = [call.optional_tensor(3), call.optional_tensor(4)];
    let (hidden_out, cell_out, storage) = (call.tensor(5)?, call.tensor(6)?, call.tensor(7)?);
    let [batch, hidden] = sizes(
        call,
        &[("cx", &cell), ("hyOut", &hidden_out), ("cyOut", &cell_out)],
        &[
            ("inputGates", &own),
            ("hiddenGates", &from_state),
            ("storageOut", &storage),
        ],
    )?;
    if biases[0].is_some() != biases[1].is_some() {
        return Err(call.invalid("one bias, wanted both or none"));
    }
    for bias in biases.iter().flatten() {
        call.expect_shape("bias", bias, &[4 * hidden])?;
    }
    Ok(Work::new(move || {
        let mut gates = own.load_vec::<f64>();
        for (gate, more) in gates.iter_mut().zip(from_state.load_vec::<f64>()) {
            *gate += more;
        }
        for bias in biases.iter().flatten() {
            let bias = bias.load_vec::<f64>();
            for line in gates.chunks_exact_mut(4 * hidden) {
                line.iter_mut()
                    .zip(&bias)
                    .for_each(|(gate, own)| *gate += own);
            }
        }
        let before = cell.load_vec::<f64>();
        let (mut shown, mut kept) = (Vec::new(), Vec::new());
        for row in 0..batch {
            let line = &mut gates[row * 4 * hidden..][..4 * hidden];
            for (at, gate) in line.iter_mut().enumerate() {
                *gate = if at / hidden == 2 {
                    gate.tanh()
                } else {
                    sigmoid(*gate)
                };
            }
            for at in 0..hidden {
                let [i, f, g, o] = [0, 1, 2, 3].map(|block| line[block * hidden + at]);
                let next = f * before[row * hidden + at] + i * g;
                shown.push(o * next.tanh());
                kept.push(next);
            }
        }
        hidden_out.store_slice(&shown)?;
        cell_out.store_slice(&kept)?;
        storage.store_slice(&gates)
    }))
}

fn lstm_cell_backward(call: &Call) -> Result<Work, Refusal> {
    let gradients = [call.optional_tensor(0), call.optional_tensor(1)];
    let (cell, next, storage) = (call.tensor(2)?, call.tensor(3)?, call.tensor(4)?);
    let biased = call.bool(5)?;
    let (gates_out, cell_out) = (call.tensor(6)?, call.tensor(7)?);
    let bias_out = call.optional_tensor(8);
    let mut states = vec![("cx", &cell), ("cy", &next), ("gradCxOut", &cell_out)];
    states.extend(
        gradients
            .iter()
            .flatten()
            .map(|own| ("gradHy or gradC", own)),
    );
    let gates = [("storage", &storage), ("gradGatesOut", &gates_out)];
    let [batch, hidden] = sizes(call, &states, &gates)?;
    if biased && bias_out.is_none() {
        return Err(call.invalid("no gradBiasOut, wanted one with hasBias"));
    }
    Ok(Work::new(move || {
        let load = |own: &Option<Tensor>| match own {
            Some(own) => own.load_vec::<f64>(),
            None => vec![0.0; batch * hidden],
        };
        let (dh, dc) = (load(&gradients[0]), load(&gradients[1]));
        let (before, after) = (cell.load_vec::<f64>(), next.load_vec::<f64>());
        let saved = storage.load_vec::<f64>();
        let mut gates = vec![0.0; saved.len()];
        let mut back = vec![0.0; before.len()];
        for at in 0..batch * hidden {
            let start = at / hidden * 4 * hidden + at % hidden;
            let [i, f, g, o] = [0, 1, 2, 3].map(|block| saved[start + block * hidden]);
            let shown = after[at].tanh();
            let total = dh[at] * o * (1.0 - shown * shown) + dc[at];
            back[at] = total * f;
            let slopes = [
                total * g * i * (1.0 - i),
                total * before[at] * f * (1.0 - f),
                total * i * (1.0 - g * g),
                dh[at] * shown * o * (1.0 - o),
            ];
            for (block, slope) in slopes.into_iter().enumerate() {
                gates[start + block * hidden] = slope;
            }
        }
        if let Some(out) = bias_out.as_ref().filter(|_| biased) {
            let mut sums = vec![0.0; 4 * hidden];
            for line in gates.chunks_exact(4 * hidden) {
                sums.iter_mut().zip(line).for_each(|(sum, own)| *sum += own);
            }
            out.store_slice(&sums)?;
        }
        gates_out.store_slice(&gates)?;
        cell_out.store_slice(&back)
    }))
}
