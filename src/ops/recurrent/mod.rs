//! Recurrent cells: one step of a sequence.
//!
//! Knows the weights that a cell has, and how the gates of a step are made from them. Must not know any single cell.

rooms! {
    gru_cell,
    lstm_cell,
}

mod lstm_gates;

use crate::ops::prelude::*;

/// The weights of a cell, as in PyTorch: a row of blocks for each gate.
#[derive(Debug, Clone, Copy)]
#[must_use]
pub struct CellWeights<'a> {
    input: &'a Tensor,
    hidden: &'a Tensor,
    input_bias: Option<&'a Tensor>,
    hidden_bias: Option<&'a Tensor>,
}

impl<'a> CellWeights<'a> {
    /// Weights of the input, `[gates * h, i]`, and of the state, `[gates * h, h]`; no biases.
    pub fn new(input: &'a Tensor, hidden: &'a Tensor) -> Self {
        CellWeights {
            input,
            hidden,
            input_bias: None,
            hidden_bias: None,
        }
    }

    /// The bias of the input's part, `[gates * h]`.
    pub fn input_bias(mut self, bias: &'a Tensor) -> Self {
        self.input_bias = Some(bias);
        self
    }

    /// The bias of the state's part, `[gates * h]`.
    pub fn hidden_bias(mut self, bias: &'a Tensor) -> Self {
        self.hidden_bias = Some(bias);
        self
    }

    /// The tensors that are given, and which biases are.
    fn inputs(&self) -> (Vec<&'a Tensor>, [bool; 2]) {
        let mut inputs = vec![self.input, self.hidden];
        inputs.extend(self.input_bias);
        inputs.extend(self.hidden_bias);
        (
            inputs,
            [self.input_bias.is_some(), self.hidden_bias.is_some()],
        )
    }
}

/// The shape rule of a cell: `x` holds the input, the states, then weights and biases. Gives the shape of a state.
fn plan(
    op: &'static str,
    gates: usize,
    states: usize,
    biases: [bool; 2],
    x: &[Meta],
) -> Result<Shape> {
    let dtype = x[0].dtype;
    if let Some(other) = x.iter().find(|x| !x.dtype.is_float() || x.dtype != dtype) {
        let got = format!("{dtype} and {}", other.dtype);
        return Err(Error::dtype(op, got, "equal float dtypes"));
    }
    let misfit = |what: &str, got: &Shape, want: String| {
        Err(Error::shape(op, format!("{what} of {got}"), want))
    };
    let ([batch, inputs], [own, hidden]) = (x[0].shape.dims(), x[1].shape.dims()) else {
        return misfit(
            "a state",
            &x[1].shape,
            "an input [b, i] and states [b, h]".into(),
        );
    };
    let state = Shape::from([*own, *hidden]);
    if batch != own {
        return misfit("a state", &state, format!("[{batch}, h]"));
    }
    for other in &x[1..=states] {
        if other.shape != state {
            return misfit("a state", &other.shape, state.to_string());
        }
    }
    let rows = gates * hidden;
    let weights = [
        ("weights of the input", *inputs),
        ("weights of the state", *hidden),
    ];
    for ((what, columns), own) in weights.into_iter().zip(&x[1 + states..]) {
        if own.shape != Shape::from([rows, columns]) {
            return misfit(what, &own.shape, format!("[{rows}, {columns}]"));
        }
    }
    let given = biases.into_iter().filter(|given| *given).count();
    for own in x.iter().skip(3 + states).take(given) {
        if own.shape != Shape::from([rows]) {
            return misfit("a bias", &own.shape, format!("[{rows}]"));
        }
    }
    Ok(state)
}

/// The gates' parts from the input and from the state, halves in f32: `[b, gates * h]` each.
fn parts(states: usize, biases: [bool; 2], x: &[Tensor]) -> Result<[Tensor; 2]> {
    let wide: Vec<Tensor> = x
        .iter()
        .map(|x| x.to_dtype(x.dtype().compute()))
        .collect::<Result<_>>()?;
    let (input, hidden) = (&wide[0], &wide[1]);
    let mut rest = wide[1 + states..].iter();
    let missing = || Error::NoGradient { op: "cell" };
    let first = rest.next().ok_or_else(missing)?;
    let second = rest.next().ok_or_else(missing)?;
    let input_bias = if biases[0] { rest.next() } else { None };
    let hidden_bias = if biases[1] { rest.next() } else { None };
    Ok([
        input.linear(first, input_bias)?,
        hidden.linear(second, hidden_bias)?,
    ])
}

/// Sample inputs of a cell with three inputs and states of four.
fn cell_samples(gates: usize, states: usize, biases: bool) -> Vec<SampleInput> {
    let mut inputs = vec![SampleInput::new([2, 3], -1.0, 1.0)];
    inputs.resize(1 + states, SampleInput::new([2, 4], -1.0, 1.0));
    inputs.push(SampleInput::new([gates * 4, 3], -1.0, 1.0));
    inputs.push(SampleInput::new([gates * 4, 4], -1.0, 1.0));
    if biases {
        inputs.resize(inputs.len() + 2, SampleInput::new([gates * 4], -1.0, 1.0));
    }
    inputs
}
