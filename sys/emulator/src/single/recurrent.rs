//! The gated recurrent unit of the older interface, and its gradient.
//!
//! Knows the gates and the kernel interface; it must not know streams, handles or device memory.

use super::recipes::Build;
use super::{Recipe, Request, Value, some};
use crate::dtype::DType;
use crate::failure::{Fault, Refusal};
use crate::kernel::{Arg, Call, Work};
use crate::shims::Op;
use crate::tensor::Tensor;
use ndarray::{Array2, ArrayView2, Axis, s};

pub(super) const RECIPES: &[(&str, Build)] =
    &[("DynamicGRUV2", forward), ("DynamicGRUV2Grad", backward)];

static FORWARD: Op = Op {
    name: "DynamicGRUV2",
    first: "DynamicGRUV2",
    parameters: &[
        "x",
        "weight_input",
        "weight_hidden",
        "bias_input",
        "bias_hidden",
        "init_h",
        "update_first",
        "y",
        "output_h",
        "update",
        "reset",
        "new",
        "hidden_new",
    ],
    outputs: &[7, 8, 9, 10, 11, 12],
};

static BACKWARD: Op = Op {
    name: "DynamicGRUV2Grad",
    first: "DynamicGRUV2Grad",
    parameters: &[
        "x",
        "weight_input",
        "weight_hidden",
        "y",
        "init_h",
        "h",
        "dy",
        "dh",
        "update",
        "reset",
        "new",
        "hidden_new",
        "update_first",
        "dw_input",
        "dw_hidden",
        "db_input",
        "db_hidden",
        "dx",
        "dh_prev",
    ],
    outputs: &[13, 14, 15, 16, 17, 18],
};

/// Attributes that the emulator has one value for; and whether the update gate's columns come first.
fn gate_order(request: &Request) -> Result<Arg, Refusal> {
    request.expect("direction", &Value::Text(String::from("UNIDIRECTIONAL")))?;
    request.expect("cell_depth", &Value::Int(1))?;
    request.expect("keep_prob", &Value::Float(1.0))?;
    request.expect("cell_clip", &Value::Float(-1.0))?;
    request.expect("num_proj", &Value::Int(0))?;
    request.expect("time_major", &Value::Bool(true))?;
    request.expect("activation", &Value::Text(String::from("tanh")))?;
    request.expect("reset_after", &Value::Bool(true))?;
    match request.text("gate_order", "zrh")?.as_str() {
        "zrh" => Ok(Arg::Bool(true)),
        "rzh" => Ok(Arg::Bool(false)),
        other => Err(request.invalid(format!("gate_order is {other}, wanted zrh or rzh"))),
    }
}

fn forward(request: &Request) -> Result<Recipe, Refusal> {
    if request.inputs.get(5).is_some_and(Option::is_some) {
        return Err(Refusal::unsupported("lengths of sequences"));
    }
    let mut args = vec![
        some(request.input(0)?),
        some(request.input(1)?),
        some(request.input(2)?),
        Arg::Tensor(request.optional(3)?),
        Arg::Tensor(request.optional(4)?),
        Arg::Tensor(request.optional(6)?),
        gate_order(request)?,
    ];
    for index in 0..6 {
        args.push(some(request.output(index)?));
    }
    Ok(Recipe {
        op: &FORWARD,
        prepare: unroll,
        args,
    })
}

fn backward(request: &Request) -> Result<Recipe, Refusal> {
    // PyTorch's client fills both places with a zero of no dims.
    let stand_in = |index: usize| match request.optional(index) {
        Ok(Some(tensor)) => {
            tensor.rank() == 0 || (tensor.count() == 1 && tensor.dtype() != DType::I32)
        }
        Ok(None) => true,
        Err(_) => false,
    };
    if !stand_in(12) || !stand_in(13) {
        return Err(Refusal::unsupported("lengths of sequences and masks"));
    }
    let mut args = Vec::new();
    for index in 0..12 {
        args.push(some(request.input(index)?));
    }
    args.push(gate_order(request)?);
    for index in 0..6 {
        args.push(some(request.output(index)?));
    }
    Ok(Recipe {
        op: &BACKWARD,
        prepare: unroll_back,
        args,
    })
}

/// Steps, batch, and the widths of inputs and states.
#[derive(Debug, Clone, Copy)]
struct Sizes {
    steps: usize,
    batch: usize,
    width: usize,
    hidden: usize,
}

fn sizes(call: &Call) -> Result<Sizes, Refusal> {
    let (x, own, state) = (call.tensor(0)?, call.tensor(1)?, call.tensor(2)?);
    call.expect_dtype("x", &x, &[DType::F32, DType::F16, DType::Bf16])?;
    let (&[steps, batch, width], &[hidden, gates]) = (x.shape(), state.shape()) else {
        return Err(call.invalid(format!(
            "x has shape {:?}, weight_hidden {:?}, wanted 3 and 2 dims",
            x.shape(),
            state.shape()
        )));
    };
    if gates != 3 * hidden {
        return Err(call.invalid(format!("weight_hidden has shape {:?}", state.shape())));
    }
    call.expect_shape("weight_input", &own, &[width, gates])?;
    Ok(Sizes {
        steps,
        batch,
        width,
        hidden,
    })
}

fn matrix(tensor: &Tensor, rows: usize, columns: usize) -> Result<Array2<f64>, Fault> {
    Array2::from_shape_vec((rows, columns), tensor.load_vec::<f64>())
        .map_err(|error| Fault::exception(error.to_string()))
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// Where the columns of update, reset and new stand.
fn columns(update_first: bool) -> [usize; 3] {
    if update_first { [0, 1, 2] } else { [1, 0, 2] }
}

fn block(gates: ArrayView2<'_, f64>, at: usize, hidden: usize) -> Array2<f64> {
    gates
        .slice_move(s![.., at * hidden..(at + 1) * hidden])
        .to_owned()
}

/// z and r = sigmoid(x W + h U + b + c), s = h U_n + c_n, n = tanh(x W_n + b_n + r s), h' = (1 - z) n + z h.
fn unroll(call: &Call) -> Result<Work, Refusal> {
    let sizes = sizes(call)?;
    let (x, own, state) = (call.tensor(0)?, call.tensor(1)?, call.tensor(2)?);
    let biases = [call.optional_tensor(3), call.optional_tensor(4)];
    let (init, order) = (call.optional_tensor(5), columns(call.bool(6)?));
    for bias in biases.iter().flatten() {
        call.expect_shape("a bias", bias, &[3 * sizes.hidden])?;
    }
    let outputs = (7..13)
        .map(|index| call.tensor(index))
        .collect::<Result<Vec<_>, _>>()?;
    let lines = sizes.steps * sizes.batch;
    for output in &outputs {
        call.expect_shape(
            "an output",
            output,
            &[sizes.steps, sizes.batch, sizes.hidden],
        )?;
    }
    if let Some(init) = &init
        && init.count() != sizes.batch * sizes.hidden
    {
        return Err(call.invalid(format!("init_h has shape {:?}", init.shape())));
    }
    Ok(Work::new(move || {
        let Sizes { batch, hidden, .. } = sizes;
        let bias = |index: usize| match &biases[index] {
            Some(bias) => matrix(bias, 1, 3 * hidden),
            None => Ok(Array2::zeros((1, 3 * hidden))),
        };
        let inputs =
            matrix(&x, lines, sizes.width)?.dot(&matrix(&own, sizes.width, 3 * hidden)?) + bias(0)?;
        let (state, bias) = (matrix(&state, hidden, 3 * hidden)?, bias(1)?);
        let mut h = match &init {
            Some(init) => matrix(init, batch, hidden)?,
            None => Array2::zeros((batch, hidden)),
        };
        let mut kept: [Vec<f64>; 5] = Default::default();
        for step in 0..sizes.steps {
            let from_input = inputs.slice(s![step * batch..(step + 1) * batch, ..]);
            let from_state = h.dot(&state) + &bias;
            let [update, reset, new] = order.map(|at| {
                (
                    block(from_input, at, hidden),
                    block(from_state.view(), at, hidden),
                )
            });
            let z = (update.0 + update.1).mapv(sigmoid);
            let r = (reset.0 + reset.1).mapv(sigmoid);
            let n = (new.0 + &r * &new.1).mapv(f64::tanh);
            h = (1.0 - &z) * &n + &z * &h;
            for (list, values) in kept.iter_mut().zip([&h, &z, &r, &n, &new.1]) {
                list.extend(values.iter());
            }
        }
        outputs[0].store_slice(&kept[0])?;
        outputs[1..]
            .iter()
            .zip(&kept)
            .try_for_each(|(output, values)| output.store_slice(values))
    }))
}

fn unroll_back(call: &Call) -> Result<Work, Refusal> {
    let sizes = sizes(call)?;
    let tensors = (0..12)
        .map(|index| call.tensor(index))
        .collect::<Result<Vec<_>, _>>()?;
    let order = columns(call.bool(12)?);
    let outputs = (13..19)
        .map(|index| call.tensor(index))
        .collect::<Result<Vec<_>, _>>()?;
    let line = [sizes.steps, sizes.batch, sizes.hidden];
    for (name, index) in [
        ("h", 5),
        ("dy", 6),
        ("update", 8),
        ("reset", 9),
        ("new", 10),
        ("hidden_new", 11),
    ] {
        call.expect_shape(name, &tensors[index], &line)?;
    }
    for (name, index) in [("init_h", 4), ("dh", 7)] {
        if tensors[index].count() != sizes.batch * sizes.hidden {
            return Err(call.invalid(format!("{name} has shape {:?}", tensors[index].shape())));
        }
    }
    Ok(Work::new(move || {
        back_through(sizes, &tensors, order, &outputs)
    }))
}

/// The chain rule from the last step to the first.
fn back_through(
    sizes: Sizes,
    tensors: &[Tensor],
    order: [usize; 3],
    outputs: &[Tensor],
) -> Result<(), Fault> {
    let Sizes {
        steps,
        batch,
        width,
        hidden,
    } = sizes;
    let lines = steps * batch;
    let all = |index: usize| matrix(&tensors[index], lines, hidden);
    let (h, dy) = (all(5)?, all(6)?);
    let (update, reset, new, inner) = (all(8)?, all(9)?, all(10)?, all(11)?);
    let (x, own) = (
        matrix(&tensors[0], lines, width)?,
        matrix(&tensors[1], width, 3 * hidden)?,
    );
    let state = matrix(&tensors[2], hidden, 3 * hidden)?;
    let (init, mut dh) = (
        matrix(&tensors[4], batch, hidden)?,
        matrix(&tensors[7], batch, hidden)?,
    );
    let (mut for_input, mut for_state) = (
        Array2::zeros((lines, 3 * hidden)),
        Array2::zeros((lines, 3 * hidden)),
    );
    let mut before = Array2::zeros((lines, hidden));
    for step in (0..steps).rev() {
        let rows = s![step * batch..(step + 1) * batch, ..];
        let (z, r, n) = (update.slice(rows), reset.slice(rows), new.slice(rows));
        let last = match step {
            0 => init.view(),
            _ => h.slice(s![(step - 1) * batch..step * batch, ..]),
        };
        let total = &dh + &dy.slice(rows);
        let dn = &total * &(1.0 - &z) * &(1.0 - &n * &n);
        let dz = &total * &(&last - &n) * &(&z * &(1.0 - &z));
        let dr = &dn * &inner.slice(rows) * &(&r * &(1.0 - &r));
        let parts = [&dz, &dr, &dn];
        let inner_parts = [dz.clone(), dr.clone(), &dn * &r];
        for ((part, own), at) in parts.iter().zip(&inner_parts).zip(order) {
            let place = s![
                step * batch..(step + 1) * batch,
                at * hidden..(at + 1) * hidden
            ];
            for_input.slice_mut(place).assign(part);
            for_state.slice_mut(place).assign(own);
        }
        before.slice_mut(rows).assign(&last);
        dh = &total * &z + for_state.slice(rows).dot(&state.t());
    }
    let results = [
        x.t().dot(&for_input),
        before.t().dot(&for_state),
        for_input.sum_axis(Axis(0)).insert_axis(Axis(0)),
        for_state.sum_axis(Axis(0)).insert_axis(Axis(0)),
        for_input.dot(&own.t()),
        dh,
    ];
    outputs
        .iter()
        .zip(&results)
        .try_for_each(|(output, values)| output.store(values))
}
