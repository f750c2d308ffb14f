//! Gated units that quantise their result at once, some after undoing a product's own quantisation.
//!
//! Knows the kernel interface; it must not know streams, handles or device memory.

use super::functions::silu;
use super::quant::{limits, small_shape, store_small};
use crate::dtype::DType;
use crate::failure::{Fault, Refusal};
use crate::kernel::{Call, Prepare, Work};
use crate::tensor::Tensor;

/// This family's ops.
pub(crate) const KERNELS: &[(&str, Prepare)] = &[
    ("aclnnSwiGluQuant", swiglu as Prepare),
    ("aclnnSwiGluQuantV2", swiglu as Prepare),
    ("aclnnDequantSwigluQuant", dequantised as Prepare),
    ("aclnnDequantBias", dequantise as Prepare),
];

/// How the result is quantised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// By given factors and offsets.
    Static,
    /// By the largest value of each row.
    Dynamic,
}

fn mode(call: &Call, index: usize, otherwise: Mode) -> Result<Mode, Refusal> {
    match call.text(index) {
        Ok("static") => Ok(Mode::Static),
        Ok("dynamic") => Ok(Mode::Dynamic),
        Ok(other) => Err(call.unsupported(format!("quantMode {other:?}"))),
        Err(_) => Ok(otherwise),
    }
}

/// The shape of a row's results: the last dim is halved.
fn halved(call: &Call, x: &Tensor) -> Result<(Vec<usize>, usize, usize), Refusal> {
    let Some((&width, lead)) = x
        .shape()
        .split_last()
        .filter(|(width, lead)| **width > 0 && width.is_multiple_of(2) && !lead.is_empty())
    else {
        return Err(call.invalid(format!(
            "x has shape {:?}, wanted an even last dim of several",
            x.shape()
        )));
    };
    let half = width / 2;
    Ok(([lead, &[half]].concat(), lead.iter().product(), half))
}

/// The group of each row: given by where groups end, or by how long they are; rows beyond the last group have none.
fn groups_of(ends: Option<&Tensor>, counts: bool, rows: usize) -> Vec<Option<usize>> {
    let Some(ends) = ends else {
        return vec![Some(0); rows];
    };
    let mut groups = vec![None; rows];
    let mut start = 0usize;
    for (group, value) in ends.load_vec::<i64>().into_iter().enumerate() {
        let value = usize::try_from(value).unwrap_or(0);
        let end = if counts { start + value } else { value }.min(rows);
        for slot in groups.iter_mut().take(end).skip(start) {
            *slot = Some(group);
        }
        start = end.max(start);
    }
    groups
}

/// A value of a group's factors: one for each column, or one for all.
fn factor(values: &[f32], group: usize, column: usize, per_column: bool, width: usize) -> f32 {
    let at = if per_column {
        group * width + column
    } else {
        group
    };
    values.get(at).copied().unwrap_or(1.0)
}

/// Factors are one for each group, or one for each group and column.
fn expect_factors(
    call: &Call,
    factors: [&Option<Tensor>; 2],
    groups: usize,
    width: usize,
) -> Result<(), Refusal> {
    for tensor in factors.into_iter().flatten() {
        if tensor.count() != groups && tensor.count() != groups * width {
            return Err(call.invalid(format!(
                "smoothScales have shape {:?}, wanted [{groups}] or [{groups}, {width}]",
                tensor.shape()
            )));
        }
    }
    Ok(())
}

/// SwiGLU, times smoothing factors of the row's group, quantised. The scale that is given back is the one that was multiplied by
/// (127 over the largest value), other than that of the other operators.
fn swiglu(call: &Call) -> Result<Work, Refusal> {
    let second = call.name().ends_with("V2");
    let (x, smooth, offsets) = (
        call.tensor(0)?,
        call.optional_tensor(1),
        call.optional_tensor(2),
    );
    let ends = call.optional_tensor(3);
    let (left, mode) = (call.bool(4)?, mode(call, 5, Mode::Dynamic)?);
    let counts = second && call.int(6)? == 1;
    let first = if second { 8 } else { 6 };
    let (out, scale_out) = (call.tensor(first)?, call.tensor(first + 1)?);
    let (shape, rows, width) = halved(call, &x)?;
    let (lowest, highest) = limits(call, out.dtype())?;
    if small_shape(&out) != shape {
        return Err(call.invalid(format!(
            "yOut has shape {:?}, wanted {shape:?}",
            out.shape()
        )));
    }
    call.expect_shape("scaleOut", &scale_out, &shape[..shape.len() - 1])?;
    if !second && ends.is_none() {
        return Err(call.invalid("groupIndex is null"));
    }
    let groups = ends.as_ref().map_or(1, Tensor::count);
    expect_factors(call, [&smooth, &offsets], groups, width)?;
    if mode == Mode::Static && smooth.is_none() {
        return Err(call.invalid("smoothScales is null"));
    }
    Ok(Work::new(move || {
        let values = x.load_vec::<f32>();
        let groups = groups_of(ends.as_ref(), counts, rows);
        let load = |tensor: &Option<Tensor>| {
            tensor
                .as_ref()
                .map(|tensor| (tensor.load_vec::<f32>(), tensor.rank() == 2))
        };
        let (smooth, offsets) = (load(&smooth), load(&offsets));
        let (mut small, mut scales) = (vec![0i64; rows * width], vec![0f32; rows]);
        for (row, line) in values.chunks_exact(2 * width).enumerate() {
            let Some(group) = groups[row] else { continue };
            let mut result = gate(line, width, left);
            for (column, value) in result.iter_mut().enumerate() {
                if let Some((factors, per_column)) = &smooth {
                    *value *= factor(factors, group, column, *per_column, width);
                }
                if let Some((offsets, per_column)) =
                    offsets.as_ref().filter(|_| mode == Mode::Static)
                {
                    *value += factor(offsets, group, column, *per_column, width);
                }
            }
            let scale = match mode {
                Mode::Static => 1.0,
                Mode::Dynamic => {
                    highest
                        / result
                            .iter()
                            .fold(0f32, |most, value| most.max(value.abs()))
                }
            };
            scales[row] = scale;
            for (slot, value) in small[row * width..].iter_mut().zip(&result) {
                *slot = (value * scale).round_ties_even().clamp(lowest, highest) as i64;
            }
        }
        store_small(&out, &small)?;
        if mode == Mode::Dynamic {
            scale_out.store_slice(&scales)
        } else {
            Ok(())
        }
    }))
}

/// One half of a line through SiLU, times the other.
fn gate(line: &[f32], width: usize, left: bool) -> Vec<f32> {
    let (a, b) = line.split_at(width);
    let (gate, other) = if left { (a, b) } else { (b, a) };
    let pairs = gate.iter().zip(other);
    pairs
        .map(|(&g, &o)| silu(f64::from(g)) as f32 * o)
        .collect()
}

/// Factors of a group, a column, both or neither.
struct Factors {
    values: Vec<f32>,
    groups: usize,
    wide: usize,
}

impl Factors {
    fn load(tensor: &Option<Tensor>, groups: usize, wide: usize) -> Option<Factors> {
        let values = tensor.as_ref()?.load_vec::<f32>();
        Some(Factors {
            values,
            groups,
            wide,
        })
    }

    fn at(&self, group: usize, column: usize) -> f32 {
        let at = match self.values.len() {
            1 => 0,
            count if count == self.wide => column,
            count if count == self.groups => group,
            _ => group * self.wide + column,
        };
        self.values[at]
    }
}

/// The factor, or another number where there is none.
fn or(factors: &Option<Factors>, group: usize, column: usize, otherwise: f32) -> f32 {
    let own = factors.as_ref();
    own.map_or(otherwise, |factors| factors.at(group, column))
}

/// The operands of a gated unit over a product's result.
struct Dequantised {
    x: Tensor,
    weight_scale: Option<Tensor>,
    row_scale: Option<Tensor>,
    bias: Option<Tensor>,
    quant_scale: Option<Tensor>,
    quant_offset: Option<Tensor>,
    ends: Option<Tensor>,
    left: bool,
    mode: Mode,
    out: Tensor,
    scale_out: Tensor,
    rows: usize,
    width: usize,
}

/// A product's i32 result times its scales (or floats as they are), SwiGLU, and quantised again.
fn dequantised(call: &Call) -> Result<Work, Refusal> {
    let x = call.tensor(0)?;
    let (shape, rows, width) = halved(call, &x)?;
    let unit = Dequantised {
        weight_scale: call.optional_tensor(1),
        row_scale: call.optional_tensor(2),
        bias: call.optional_tensor(3),
        quant_scale: call.optional_tensor(4),
        quant_offset: call.optional_tensor(5),
        ends: call.optional_tensor(6),
        left: call.bool(7)?,
        mode: mode(call, 8, Mode::Static)?,
        out: call.tensor(9)?,
        scale_out: call.tensor(10)?,
        x,
        rows,
        width,
    };
    unit.check(call, &shape)?;
    Ok(Work::new(move || unit.run()))
}

impl Dequantised {
    fn groups(&self) -> usize {
        self.ends.as_ref().map_or(1, Tensor::count)
    }

    fn check(&self, call: &Call, shape: &[usize]) -> Result<(), Refusal> {
        call.expect_shape("yOut", &self.out, shape)?;
        let (groups, width) = (self.groups(), self.width);
        if (self.x.dtype() == DType::I32) != self.weight_scale.is_some() {
            return Err(call.invalid("weightScale goes with integers, and only with them"));
        }
        let operands = [
            (&self.weight_scale, 2 * width),
            (&self.bias, 2 * width),
            (&self.quant_scale, width),
            (&self.quant_offset, width),
        ];
        for (tensor, wide) in operands {
            let fits =
                |tensor: &&Tensor| ![1, wide, groups, groups * wide].contains(&tensor.count());
            if let Some(tensor) = tensor.as_ref().filter(fits) {
                return Err(call.invalid(format!(
                    "a scale or bias has shape {:?} for x {:?}",
                    tensor.shape(),
                    self.x.shape()
                )));
            }
        }
        if self
            .row_scale
            .as_ref()
            .is_some_and(|scale| scale.count() != self.rows)
        {
            return Err(call.invalid(format!("activationScale has not {} elements", self.rows)));
        }
        match self.mode {
            Mode::Static if self.quant_scale.is_none() => Err(call.invalid("quantScale is null")),
            Mode::Static => Ok(()),
            Mode::Dynamic => {
                call.expect_shape("scaleOut", &self.scale_out, &shape[..shape.len() - 1])
            }
        }
    }

    fn run(&self) -> Result<(), Fault> {
        let (rows, width, groups) = (self.rows, self.width, self.groups());
        let load = |tensor: &Option<Tensor>, wide: usize| Factors::load(tensor, groups, wide);
        let (weights, biases) = (
            load(&self.weight_scale, 2 * width),
            load(&self.bias, 2 * width),
        );
        let (factors, offsets) = (
            load(&self.quant_scale, width),
            load(&self.quant_offset, width),
        );
        let before = self
            .bias
            .as_ref()
            .is_some_and(|bias| bias.dtype() == DType::I32);
        let row_scales = self.row_scale.as_ref().map(|scale| scale.load_vec::<f32>());
        let groups = groups_of(self.ends.as_ref(), true, rows);
        let (mut small, mut scales) = (vec![0i64; rows * width], vec![0f32; rows]);
        for (row, line) in self
            .x
            .load_vec::<f32>()
            .chunks_exact_mut(2 * width)
            .enumerate()
        {
            let Some(group) = groups[row] else { continue };
            let own_row = row_scales.as_ref().map_or(1.0, |scales| scales[row]);
            for (column, value) in line.iter_mut().enumerate() {
                let own = or(&biases, group, column, 0.0);
                let scale = or(&weights, group, column, 1.0) * own_row;
                *value = if before {
                    (*value + own) * scale
                } else {
                    *value * scale + own
                };
            }
            let mut result = gate(line, width, self.left);
            for (column, value) in result.iter_mut().enumerate() {
                let own = or(&factors, group, column, 1.0);
                *value = match self.mode {
                    Mode::Static => *value / own + or(&offsets, group, column, 0.0),
                    Mode::Dynamic => *value * own,
                };
            }
            let scale = match self.mode {
                Mode::Static => 1.0,
                Mode::Dynamic => {
                    result
                        .iter()
                        .fold(0f32, |most, value| most.max(value.abs()))
                        / 127.0
                }
            };
            scales[row] = scale;
            for (slot, value) in small[row * width..].iter_mut().zip(&result) {
                *slot = (value / scale).round_ties_even().clamp(-128.0, 127.0) as i64;
            }
        }
        self.out.store_slice(&small)?;
        match self.mode {
            Mode::Static => Ok(()),
            Mode::Dynamic => self.scale_out.store_slice(&scales),
        }
    }
}

/// A product's i32 result times its columns' and rows' scales; an integer bias before, another one after.
fn dequantise(call: &Call) -> Result<Work, Refusal> {
    let (x, columns, rows, bias) = (
        call.tensor(0)?,
        call.tensor(1)?,
        call.optional_tensor(2),
        call.optional_tensor(3),
    );
    let out = call.tensor(5)?;
    let &[height, width] = x.shape() else {
        return Err(call.invalid(format!("x has shape {:?}, wanted 2 dims", x.shape())));
    };
    call.expect_shape("weightScale", &columns, &[width])?;
    if let Some(rows) = &rows {
        call.expect_shape("activateScale", rows, &[height])?;
    }
    if let Some(bias) = &bias {
        call.expect_shape("bias", bias, &[width])?;
    }
    call.expect_shape("out", &out, x.shape())?;
    let dtype = call.dtype(4)?;
    call.expect_dtype("out", &out, &[dtype])?;
    Ok(Work::new(move || -> Result<(), Fault> {
        let (columns, bias_values) = (
            columns.load_vec::<f32>(),
            bias.as_ref().map(|bias| bias.load_vec::<f32>()),
        );
        let rows = rows.as_ref().map(|rows| rows.load_vec::<f32>());
        let before = bias.as_ref().is_some_and(|bias| bias.dtype() == DType::I32);
        let mut values = x.load_vec::<f32>();
        for (row, line) in values.chunks_exact_mut(width.max(1)).enumerate() {
            for (column, value) in line.iter_mut().enumerate() {
                let own = bias_values.as_ref().map_or(0.0, |bias| bias[column]);
                let scale = columns[column] * rows.as_ref().map_or(1.0, |rows| rows[row]);
                *value = if before {
                    (*value + own) * scale
                } else {
                    *value * scale + own
                };
            }
        }
        out.store_slice(&values)
    }))
}
