//! LSTM over whole sequences, layer by layer in one or two directions, and its gradient.
//!
//! Knows the kernel interface and ndarray's product; it must not know streams, handles or device memory.
//!
//! Gates lie in the order of PyTorch's weights: input, forget, candidate, output. Packed sequences (`batchSizes`) are refused.

use crate::failure::{Fault, Refusal};
use crate::kernel::{Arg, Call, Prepare, Work};
use crate::tensor::Tensor;
use ndarray::{Array2, Array3, ArrayView2, Axis, Ix3, concatenate, s};

/// This family's ops.
pub(crate) const KERNELS: &[(&str, Prepare)] =
    &[("aclnnLSTM", forward), ("aclnnLstmBackward", backward)];

/// What both passes read from their attributes and shapes.
#[derive(Debug, Clone, Copy)]
struct Shape {
    steps: usize,
    batch: usize,
    input: usize,
    hidden: usize,
    layers: usize,
    directions: usize,
    biased: bool,
    batch_first: bool,
}

impl Shape {
    /// `first` is the position of `hasBias`; numLayers, dropout, train, bidirectional and batchFirst follow.
    fn new(call: &Call, first: usize, params: &[Tensor]) -> Result<Shape, Refusal> {
        let x = call.tensor(0)?;
        let batch_first = call.bool(first + 5)?;
        let &[outer, inner, input] = x.shape() else {
            return Err(call.invalid(format!("input has shape {:?}, wanted 3 dims", x.shape())));
        };
        let (steps, batch) = if batch_first {
            (inner, outer)
        } else {
            (outer, inner)
        };
        if call.float(first + 2)? != 0.0 {
            return Err(call.unsupported("dropout between layers"));
        }
        let shape = Shape {
            steps,
            batch,
            input,
            hidden: params
                .get(1)
                .and_then(|weight| weight.shape().get(1).copied())
                .unwrap_or(0),
            layers: usize::try_from(call.int(first + 1)?).unwrap_or(0),
            directions: if call.bool(first + 4)? { 2 } else { 1 },
            biased: call.bool(first)?,
            batch_first,
        };
        if params.len() != shape.cells() * shape.per_cell() || shape.cells() == 0 {
            return Err(call.invalid(format!("{} parameters for {shape:?}", params.len())));
        }
        for (index, tensor) in params.iter().enumerate() {
            let wide = 4 * shape.hidden;
            let width = shape.width(index / shape.per_cell() / shape.directions);
            let wanted = match index % shape.per_cell() {
                0 => vec![wide, width],
                1 => vec![wide, shape.hidden],
                _ => vec![wide],
            };
            call.expect_shape(&format!("parameter {index}"), tensor, &wanted)?;
        }
        Ok(shape)
    }

    fn cells(&self) -> usize {
        self.layers * self.directions
    }

    fn per_cell(&self) -> usize {
        if self.biased { 4 } else { 2 }
    }

    /// How many features a layer reads.
    fn width(&self, layer: usize) -> usize {
        if layer == 0 {
            self.input
        } else {
            self.directions * self.hidden
        }
    }

    /// The steps in the order in which a direction goes through them.
    fn order(&self, direction: usize) -> Vec<usize> {
        if direction == 0 {
            (0..self.steps).collect()
        } else {
            (0..self.steps).rev().collect()
        }
    }

    fn state(&self) -> [usize; 3] {
        [self.cells(), self.batch, self.hidden]
    }

    fn sequence(&self, width: usize) -> [usize; 3] {
        if self.batch_first {
            [self.batch, self.steps, width]
        } else {
            [self.steps, self.batch, width]
        }
    }

    /// Steps first, whatever the layout.
    fn read(&self, tensor: &Tensor) -> Result<Array3<f32>, Fault> {
        let values = three(tensor)?;
        Ok(if self.batch_first {
            values
                .permuted_axes([1, 0, 2])
                .as_standard_layout()
                .to_owned()
        } else {
            values
        })
    }

    fn write(&self, tensor: &Tensor, values: &Array3<f32>) -> Result<(), Fault> {
        if self.batch_first {
            tensor.store(&values.view().permuted_axes([1, 0, 2]))
        } else {
            tensor.store(values)
        }
    }
}

fn three(tensor: &Tensor) -> Result<Array3<f32>, Fault> {
    tensor
        .load::<f32>()
        .into_dimensionality::<Ix3>()
        .map_err(|error| Fault::exception(error.to_string()))
}

fn two(tensor: &Tensor) -> Result<Array2<f32>, Fault> {
    let rows = tensor.shape().first().copied().unwrap_or(0);
    let columns = tensor.count().checked_div(rows).unwrap_or(0);
    Array2::from_shape_vec((rows, columns), tensor.load_vec())
        .map_err(|error| Fault::exception(error.to_string()))
}

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

/// Initial hidden or cell states; zeros where none are given.
fn initial(states: &[Tensor], index: usize, shape: &Shape) -> Result<Array3<f32>, Fault> {
    match states.get(index) {
        Some(state) => three(state),
        None => Ok(Array3::zeros(shape.state())),
    }
}

/// The optional pair of initial states.
fn states(call: &Call, index: usize, shape: &Shape) -> Result<Vec<Tensor>, Refusal> {
    let given: Vec<Tensor> = call
        .optional_tensors(index)
        .unwrap_or_default()
        .into_iter()
        .flatten()
        .collect();
    if !matches!(given.len(), 0 | 2) {
        return Err(call.invalid(format!("hx holds {} tensors, wanted 2", given.len())));
    }
    for state in &given {
        call.expect_shape("a state", state, &shape.state())?;
    }
    Ok(given)
}

fn refuse_packed(call: &Call, index: usize) -> Result<(), Refusal> {
    match call.optional_tensor(index) {
        Some(_) => Err(call.unsupported("packed sequences (batchSizes)")),
        None => Ok(()),
    }
}

/// What one cell computes in each step: i, g, f, o, h, c, tanh c.
type Kept = [Array3<f32>; 7];

fn run_cell(
    shape: &Shape,
    direction: usize,
    params: &[Tensor],
    x: &Array3<f32>,
    start: (ArrayView2<f32>, ArrayView2<f32>),
) -> Result<Kept, Fault> {
    let (input_weight, hidden_weight) = (two(&params[0])?, two(&params[1])?);
    let mut bias = vec![0f32; 4 * shape.hidden];
    for tensor in params.iter().skip(2) {
        bias.iter_mut()
            .zip(tensor.load_vec::<f32>())
            .for_each(|(sum, value)| *sum += value);
    }
    let mut kept: Kept =
        std::array::from_fn(|_| Array3::zeros((shape.steps, shape.batch, shape.hidden)));
    let (mut h, mut c) = (start.0.to_owned(), start.1.to_owned());
    for step in shape.order(direction) {
        let gates = x.index_axis(Axis(0), step).dot(&input_weight.t()) + h.dot(&hidden_weight.t());
        for row in 0..shape.batch {
            for unit in 0..shape.hidden {
                let gate = |which: usize| {
                    let column = which * shape.hidden + unit;
                    gates[[row, column]] + bias[column]
                };
                let (i, f) = (sigmoid(gate(0)), sigmoid(gate(1)));
                let (g, o) = (gate(2).tanh(), sigmoid(gate(3)));
                let cell = f * c[[row, unit]] + i * g;
                let bent = cell.tanh();
                c[[row, unit]] = cell;
                for (target, value) in kept.iter_mut().zip([i, g, f, o, o * bent, cell, bent]) {
                    target[[step, row, unit]] = value;
                }
            }
        }
        h.assign(&kept[4].index_axis(Axis(0), step));
    }
    Ok(kept)
}

fn forward(call: &Call) -> Result<Work, Refusal> {
    let x = call.tensor(0)?;
    let params = call.tensors(1)?;
    refuse_packed(call, 3)?;
    let shape = Shape::new(call, 4, &params)?;
    let hx = states(call, 2, &shape)?;
    let train = call.bool(7)?;
    let (out, hy, cy) = (call.tensor(10)?, call.tensor(11)?, call.tensor(12)?);
    let wide = shape.directions * shape.hidden;
    call.expect_shape("output", &out, &shape.sequence(wide))?;
    call.expect_shape("hy", &hy, &shape.state())?;
    call.expect_shape("cy", &cy, &shape.state())?;
    let mut saved = Vec::new();
    for index in (13..20).filter(|_| train) {
        let list = call.tensors(index)?;
        if list.len() != shape.cells() {
            return Err(call.invalid(format!("parameter {index} holds {} tensors", list.len())));
        }
        for tensor in &list {
            let wanted = [shape.steps, shape.batch, shape.hidden];
            call.expect_shape("a kept value", tensor, &wanted)?;
        }
        saved.push(list);
    }
    Ok(Work::new(move || {
        let (h0, c0) = (initial(&hx, 0, &shape)?, initial(&hx, 1, &shape)?);
        let (mut last_h, mut last_c) = (h0.clone(), c0.clone());
        let mut layer_input = shape.read(&x)?;
        for layer in 0..shape.layers {
            let mut outputs = Vec::new();
            for direction in 0..shape.directions {
                let cell = layer * shape.directions + direction;
                let own = &params[cell * shape.per_cell()..][..shape.per_cell()];
                let start = (h0.index_axis(Axis(0), cell), c0.index_axis(Axis(0), cell));
                let kept = run_cell(&shape, direction, own, &layer_input, start)?;
                if let Some(&step) = shape.order(direction).last() {
                    last_h
                        .slice_mut(s![cell, .., ..])
                        .assign(&kept[4].index_axis(Axis(0), step));
                    last_c
                        .slice_mut(s![cell, .., ..])
                        .assign(&kept[5].index_axis(Axis(0), step));
                }
                for (list, values) in saved.iter().zip(&kept) {
                    list[cell].store(values)?;
                }
                let [_, _, _, _, h, _, _] = kept;
                outputs.push(h);
            }
            let views: Vec<_> = outputs.iter().map(|one| one.view()).collect();
            layer_input = concatenate(Axis(2), &views)
                .map_err(|error| Fault::exception(error.to_string()))?;
        }
        shape.write(&out, &layer_input)?;
        hy.store(&last_h)?;
        cy.store(&last_c)
    }))
}

/// What the gradient of one cell gives.
struct CellGradient {
    dx: Array3<f32>,
    dh: Array2<f32>,
    dc: Array2<f32>,
    input_weight: Array2<f32>,
    hidden_weight: Array2<f32>,
    bias: Vec<f32>,
}

/// All that one cell's gradient reads.
struct CellInputs<'a> {
    direction: usize,
    params: &'a [Tensor],
    x: &'a Array3<f32>,
    /// Gradient of this cell's outputs.
    dy: Array3<f32>,
    start: (ArrayView2<'a, f32>, ArrayView2<'a, f32>),
    end: (Array2<f32>, Array2<f32>),
    kept: Kept,
}

/// Back through time by the chain rule of the cell's formula.
fn cell_backward(shape: &Shape, inputs: CellInputs) -> Result<CellGradient, Fault> {
    let (input_weight, hidden_weight) = (two(&inputs.params[0])?, two(&inputs.params[1])?);
    let [i, g, f, o, h, c, bent] = &inputs.kept;
    let (mut dh, mut dc) = inputs.end;
    let mut result = CellGradient {
        dx: Array3::zeros(inputs.x.dim()),
        dh: Array2::zeros((0, 0)),
        dc: Array2::zeros((0, 0)),
        input_weight: Array2::zeros(input_weight.dim()),
        hidden_weight: Array2::zeros(hidden_weight.dim()),
        bias: vec![0.0; 4 * shape.hidden],
    };
    let order = shape.order(inputs.direction);
    for (place, &step) in order.iter().enumerate().rev() {
        let before = place.checked_sub(1).map(|place| order[place]);
        let previous = |all: &Array3<f32>, start: ArrayView2<f32>| match before {
            Some(before) => all.index_axis(Axis(0), before).to_owned(),
            None => start.to_owned(),
        };
        let (old_h, old_c) = (previous(h, inputs.start.0), previous(c, inputs.start.1));
        let mut gates = Array2::<f32>::zeros((shape.batch, 4 * shape.hidden));
        for row in 0..shape.batch {
            for unit in 0..shape.hidden {
                let at = [step, row, unit];
                let slope = dh[[row, unit]] + inputs.dy[at];
                let inner = dc[[row, unit]] + slope * o[at] * (1.0 - bent[at] * bent[at]);
                let parts = [
                    inner * g[at] * i[at] * (1.0 - i[at]),
                    inner * old_c[[row, unit]] * f[at] * (1.0 - f[at]),
                    inner * i[at] * (1.0 - g[at] * g[at]),
                    slope * bent[at] * o[at] * (1.0 - o[at]),
                ];
                for (which, part) in parts.into_iter().enumerate() {
                    gates[[row, which * shape.hidden + unit]] = part;
                    result.bias[which * shape.hidden + unit] += part;
                }
                dc[[row, unit]] = inner * f[at];
            }
        }
        let x = inputs.x.index_axis(Axis(0), step);
        result
            .dx
            .index_axis_mut(Axis(0), step)
            .assign(&gates.dot(&input_weight));
        dh = gates.dot(&hidden_weight);
        result.input_weight += &gates.t().dot(&x);
        result.hidden_weight += &gates.t().dot(&old_h);
    }
    (result.dh, result.dc) = (dh, dc);
    Ok(result)
}

/// Where the gradients go.
struct Targets {
    dx: Option<Tensor>,
    dh: Option<Tensor>,
    dc: Option<Tensor>,
    params: Option<Vec<Tensor>>,
}

impl Targets {
    /// The mask says which of dx, (dh, dc) and dparams are wanted; a mask of four names dh and dc apart.
    fn new(call: &Call, shape: &Shape, params: &[Tensor]) -> Result<Targets, Refusal> {
        // PyTorch's client passes no mask: everything is wanted.
        let wanted = match call.arg(20) {
            Some(Arg::Bools(None)) => [true; 4],
            _ => match call.bools(20)? {
                [dx, state, params] => [*dx, *state, *state, *params],
                [dx, dh, dc, params] => [*dx, *dh, *dc, *params],
                mask => {
                    return Err(call.invalid(format!("outputMask has {} entries", mask.len())));
                }
            },
        };
        let take = |index: usize, wanted: bool, like: &[usize]| match wanted {
            true => {
                let tensor = call.tensor(21 + index)?;
                call.expect_shape("a gradient", &tensor, like)?;
                Ok(Some(tensor))
            }
            false => Ok(None),
        };
        let params = match wanted[3] {
            true => {
                let list = call.tensors(24)?;
                if list.len() != params.len() {
                    return Err(call.invalid(format!("dparams holds {} tensors", list.len())));
                }
                for (target, like) in list.iter().zip(params) {
                    call.expect_shape("a parameter's gradient", target, like.shape())?;
                }
                Some(list)
            }
            false => None,
        };
        Ok(Targets {
            dx: take(0, wanted[0], &shape.sequence(shape.input))?,
            dh: take(1, wanted[1], &shape.state())?,
            dc: take(2, wanted[2], &shape.state())?,
            params,
        })
    }
}

fn backward(call: &Call) -> Result<Work, Refusal> {
    let x = call.tensor(0)?;
    let params = call.tensors(2)?;
    refuse_packed(call, 13)?;
    let shape = Shape::new(call, 14, &params)?;
    let hx = states(call, 1, &shape)?;
    let dy = call.optional_tensor(3);
    if let Some(dy) = &dy {
        let wide = shape.directions * shape.hidden;
        call.expect_shape("dy", dy, &shape.sequence(wide))?;
    }
    let ends = [call.optional_tensor(4), call.optional_tensor(5)];
    for end in ends.iter().flatten() {
        call.expect_shape("the gradient of a last state", end, &shape.state())?;
    }
    let kept: Vec<Vec<Tensor>> = (6..13)
        .map(|index| call.tensors(index))
        .collect::<Result<_, _>>()?;
    let wanted = [shape.steps, shape.batch, shape.hidden];
    for list in &kept {
        if list.len() != shape.cells() {
            return Err(call.invalid(format!("a list of {} kept values", list.len())));
        }
        for tensor in list {
            call.expect_shape("a kept value", tensor, &wanted)?;
        }
    }
    let targets = Targets::new(call, &shape, &params)?;
    Ok(Work::new(move || {
        let gradient = Gradient {
            shape,
            params: &params,
            kept: &kept,
            x: shape.read(&x)?,
            starts: (initial(&hx, 0, &shape)?, initial(&hx, 1, &shape)?),
            ends: [
                ends[0]
                    .as_ref()
                    .map_or_else(|| Ok(Array3::zeros(shape.state())), three)?,
                ends[1]
                    .as_ref()
                    .map_or_else(|| Ok(Array3::zeros(shape.state())), three)?,
            ],
        };
        let dy = match &dy {
            Some(dy) => shape.read(dy)?,
            None => Array3::zeros((shape.steps, shape.batch, shape.directions * shape.hidden)),
        };
        gradient.run(dy, &targets)
    }))
}

struct Gradient<'a> {
    shape: Shape,
    params: &'a [Tensor],
    kept: &'a [Vec<Tensor>],
    x: Array3<f32>,
    starts: (Array3<f32>, Array3<f32>),
    ends: [Array3<f32>; 2],
}

impl Gradient<'_> {
    fn run(&self, mut dy: Array3<f32>, targets: &Targets) -> Result<(), Fault> {
        let shape = &self.shape;
        let (mut dh, mut dc) = (Array3::zeros(shape.state()), Array3::zeros(shape.state()));
        for layer in (0..shape.layers).rev() {
            let input = self.layer_input(layer)?;
            let mut below = Array3::zeros(input.dim());
            for direction in 0..shape.directions {
                let cell = layer * shape.directions + direction;
                let from = direction * shape.hidden;
                let mut kept = Vec::new();
                for list in self.kept {
                    kept.push(three(&list[cell])?);
                }
                let kept: Kept = kept
                    .try_into()
                    .map_err(|_| Fault::exception("seven values are kept"))?;
                let gradient = cell_backward(
                    shape,
                    CellInputs {
                        direction,
                        params: &self.params[cell * shape.per_cell()..][..shape.per_cell()],
                        x: &input,
                        dy: dy.slice(s![.., .., from..from + shape.hidden]).to_owned(),
                        start: (
                            self.starts.0.index_axis(Axis(0), cell),
                            self.starts.1.index_axis(Axis(0), cell),
                        ),
                        end: (
                            self.ends[0].index_axis(Axis(0), cell).to_owned(),
                            self.ends[1].index_axis(Axis(0), cell).to_owned(),
                        ),
                        kept,
                    },
                )?;
                below += &gradient.dx;
                dh.slice_mut(s![cell, .., ..]).assign(&gradient.dh);
                dc.slice_mut(s![cell, .., ..]).assign(&gradient.dc);
                if let Some(params) = &targets.params {
                    let own = &params[cell * shape.per_cell()..][..shape.per_cell()];
                    own[0].store(&gradient.input_weight)?;
                    own[1].store(&gradient.hidden_weight)?;
                    for bias in &own[2..] {
                        bias.store_slice(&gradient.bias)?;
                    }
                }
            }
            dy = below;
        }
        if let Some(target) = &targets.dx {
            shape.write(target, &dy)?;
        }
        for (target, values) in [(&targets.dh, &dh), (&targets.dc, &dc)] {
            if let Some(target) = target {
                target.store(values)?;
            }
        }
        Ok(())
    }

    /// What a layer read: the sequence, or the outputs of the layer below.
    fn layer_input(&self, layer: usize) -> Result<Array3<f32>, Fault> {
        let Some(below) = layer.checked_sub(1) else {
            return Ok(self.x.clone());
        };
        let outputs: Vec<Array3<f32>> = (0..self.shape.directions)
            .map(|direction| three(&self.kept[4][below * self.shape.directions + direction]))
            .collect::<Result<_, _>>()?;
        let views: Vec<_> = outputs.iter().map(|one| one.view()).collect();
        concatenate(Axis(2), &views).map_err(|error| Fault::exception(error.to_string()))
    }
}
