//! Small fused operators around attention and experts: biases, scales, feed-forward blocks, pooling of whole images.
//!
//! Knows the kernel interface and ndarray's product; it must not know streams, handles or device memory.

use super::common::{checked_index, rounded_to, same_dtype, size_of, volume};
use super::functions::{gelu, silu};
use crate::dtype::DType;
use crate::failure::{Fault, Refusal};
use crate::kernel::{Call, Prepare, Work};
use crate::tensor::Tensor;
use ndarray::{Array2, Axis, Ix2, Ix3};

/// This family's ops.
pub(crate) const KERNELS: &[(&str, Prepare)] = &[
    ("aclnnFFN", |call| feed_forward(call, false)),
    ("aclnnFFNV2", |call| feed_forward(call, true)),
    ("aclnnFFNV3", |call| feed_forward(call, true)),
    ("aclnnTransformBiasRescaleQkv", split as Prepare),
    ("aclnnModulate", modulate as Prepare),
    ("aclnnGlobalAveragePool", |call| pool(call, true)),
    ("aclnnGlobalMaxPool", |call| pool(call, false)),
    ("aclnnGroupedBiasAddGrad", |call| bias_gradient(call, None)),
    ("aclnnGroupedBiasAddGradV2", |call| {
        bias_gradient(call, Some(2))
    }),
    ("aclnnInplaceScatterUpdate", update as Prepare),
];

/// Which rows belong to which expert.
enum Tokens {
    All,
    Host(Vec<i64>),
    Device(Tensor),
}

/// activation(x W1 + b1) W2 + b2, expert by expert.
struct FeedForward {
    x: Tensor,
    weights: [Tensor; 2],
    biases: [Option<Tensor>; 2],
    tokens: Tokens,
    /// The list holds ends of experts' rows, not their numbers.
    ends: bool,
    activation: fn(f64) -> f64,
    out: Tensor,
}

fn feed_forward(call: &Call, flagged: bool) -> Result<Work, Refusal> {
    let given = |index: usize| {
        call.optional_tensor(index)
            .filter(|tensor| !tensor.is_empty())
    };
    if let Some(index) = (6..14).find(|&index| given(index).is_some()) {
        return Err(call.unsupported(format!(
            "the quantised form (parameter {index}) has no kernel here"
        )));
    }
    let x = call.tensor(0)?;
    if !matches!(x.dtype(), DType::F16 | DType::Bf16 | DType::F32) {
        return Err(call.unsupported(format!("x of {} has no kernel here", x.dtype())));
    }
    let activation: fn(f64) -> f64 = match call.text(14)? {
        "relu" => |x| x.max(0.0),
        "silu" => silu,
        "gelu" => gelu,
        "fastgelu" => |x| x / (1.0 + (-1.702 * x).exp()),
        other @ ("geglu" | "swiglu" | "reglu") => {
            return Err(call.unsupported(format!("activation {other} has no kernel here")));
        }
        other => return Err(call.invalid(format!("activation is {other:?}"))),
    };
    let tokens = match call.arg(3) {
        Some(crate::kernel::Arg::Tensor(Some(tensor))) if !tensor.is_empty() => {
            Tokens::Device(tensor.clone())
        }
        _ => match call.optional_ints(3).filter(|list| !list.is_empty()) {
            Some(list) => Tokens::Host(list.to_vec()),
            None => Tokens::All,
        },
    };
    let block = FeedForward {
        weights: [call.tensor(1)?, call.tensor(2)?],
        biases: [given(4), given(5)],
        ends: flagged && call.bool(16)?,
        out: call.tensor(if flagged { 17 } else { 16 })?,
        x,
        tokens,
        activation,
    };
    block.check(call)?;
    let op = call.name();
    Ok(Work::new(move || block.run(op)))
}

impl FeedForward {
    fn experts(&self) -> Option<usize> {
        match &self.tokens {
            Tokens::All => None,
            Tokens::Host(list) => Some(list.len()),
            Tokens::Device(list) => Some(list.count()),
        }
    }

    fn check(&self, call: &Call) -> Result<(), Refusal> {
        let lead: Vec<usize> = self.experts().into_iter().collect();
        let mut width = self.x.shape().last().copied().unwrap_or(0);
        for (number, (weight, bias)) in self.weights.iter().zip(&self.biases).enumerate() {
            let shape = weight.shape();
            let fits = shape.len() == lead.len() + 2
                && shape.starts_with(&lead)
                && shape[lead.len()] == width
                && width > 0;
            if !fits {
                return Err(call.invalid(format!(
                    "weight{} has shape {shape:?} for rows of {width} and {lead:?} experts",
                    number + 1
                )));
            }
            same_dtype(call, "a weight", weight, &self.x)?;
            width = shape[lead.len() + 1];
            if let Some(bias) = bias {
                call.expect_shape("a bias", bias, &[lead.as_slice(), &[width]].concat())?;
            }
        }
        let mut shape = self.x.shape().to_vec();
        if let Some(last) = shape.last_mut() {
            *last = width;
        }
        call.expect_shape("y", &self.out, &shape)
    }

    /// One layer of one expert.
    fn layer(
        &self,
        rows: &Array2<f32>,
        number: usize,
        expert: usize,
    ) -> Result<Array2<f32>, Fault> {
        let failed = |error: ndarray::ShapeError| Fault::exception(error.to_string());
        let weight = self.weights[number].load::<f32>();
        let weight = match weight.ndim() {
            3 => weight
                .into_dimensionality::<Ix3>()
                .map_err(failed)?
                .index_axis_move(Axis(0), expert),
            _ => weight.into_dimensionality::<Ix2>().map_err(failed)?,
        };
        let mut result = rows.dot(&weight);
        if let Some(bias) = &self.biases[number] {
            let width = weight.ncols();
            let bias = bias.load_vec::<f32>();
            result += &ndarray::ArrayView1::from(&bias[expert * width..][..width]);
        }
        Ok(result)
    }

    /// Rows of each expert; rows that none has stay as they are.
    fn run(&self, op: &str) -> Result<(), Fault> {
        let width = self.x.shape().last().copied().unwrap_or(1);
        let total = self.x.count() / width.max(1);
        let list = match &self.tokens {
            Tokens::All => vec![total as i64],
            Tokens::Host(list) => list.clone(),
            Tokens::Device(list) => list.load_vec(),
        };
        let (x, mut out) = (self.x.load_vec::<f32>(), self.out.load_vec::<f32>());
        let columns = self.out.shape().last().copied().unwrap_or(0);
        let mut start = 0;
        for (expert, &number) in list.iter().enumerate() {
            let end = if self.ends && self.experts().is_some() {
                number
            } else {
                start as i64 + number
            };
            let end = usize::try_from(end).unwrap_or(usize::MAX);
            if end < start || end > total {
                return Err(Fault::exception(format!(
                    "{op}: expert {expert} has rows {start} to {end} of {total}"
                )));
            }
            let rows = Array2::from_shape_vec(
                (end - start, width),
                x[start * width..end * width].to_vec(),
            )
            .map_err(|error| Fault::exception(error.to_string()))?;
            let hidden = self.layer(&rows, 0, expert)?;
            let hidden = hidden.mapv(|value| (self.activation)(f64::from(value)) as f32);
            let shape = hidden.dim();
            // The second product reads what the first wrote, in its dtype.
            let hidden = rounded_to(hidden.into_iter().collect(), self.x.dtype());
            let hidden = Array2::from_shape_vec(shape, hidden)
                .map_err(|error| Fault::exception(error.to_string()))?;
            let result = self.layer(&hidden, 1, expert)?;
            for (target, value) in out[start * columns..end * columns].iter_mut().zip(&result) {
                *target = *value;
            }
            start = end;
        }
        self.out.store_slice(&out)
    }
}

/// Queries, keys and values of each head with their biases, queries divided by the root of a head's width.
fn split(call: &Call) -> Result<Work, Refusal> {
    let (qkv, bias) = (call.tensor(0)?, call.tensor(1)?);
    let heads = size_of(call, "numHeads", call.int(2)?, 1)?;
    let &[batch, rows, all] = qkv.shape() else {
        return Err(call.invalid(format!("qkv has shape {:?}, wanted 3 dims", qkv.shape())));
    };
    let width = all / (3 * heads);
    if width == 0 || width * 3 * heads != all {
        return Err(call.invalid(format!("{all} columns for {heads} heads")));
    }
    call.expect_shape("qkvBias", &bias, &[all])?;
    let outputs = [call.tensor(3)?, call.tensor(4)?, call.tensor(5)?];
    for tensor in outputs.iter().chain([&bias]) {
        same_dtype(call, "a tensor", tensor, &qkv)?;
    }
    for out in &outputs {
        call.expect_shape("an output", out, &[batch, heads, rows, width])?;
    }
    Ok(Work::new(move || {
        let (x, bias) = (qkv.load_vec::<f32>(), bias.load_vec::<f32>());
        for (part, out) in outputs.iter().enumerate() {
            let divisor = if part == 0 {
                (width as f32).sqrt()
            } else {
                1.0
            };
            let values: Vec<f32> = (0..out.count())
                .map(|at| {
                    let (line, column) = (at / width, at % width);
                    let (sample, head, row) =
                        (line / (heads * rows), line / rows % heads, line % rows);
                    let place = (part * heads + head) * width + column;
                    (x[(sample * rows + row) * all + place] + bias[place]) / divisor
                })
                .collect();
            out.store_slice(&values)?;
        }
        Ok(())
    }))
}

/// x (1 + scale) + shift, the same for all rows of a sample.
fn modulate(call: &Call) -> Result<Work, Refusal> {
    let (x, out) = (call.tensor(0)?, call.tensor(3)?);
    let &[batch, rows, width] = x.shape() else {
        return Err(call.invalid(format!("self has shape {:?}, wanted 3 dims", x.shape())));
    };
    let factors = [call.optional_tensor(1), call.optional_tensor(2)];
    for factor in factors.iter().flatten() {
        same_dtype(call, "a factor", factor, &x)?;
        if factor.shape() != [batch, width] {
            call.expect_shape("a factor", factor, &[batch, 1, width])?;
        }
    }
    call.expect_shape("out", &out, x.shape())?;
    same_dtype(call, "out", &out, &x)?;
    Ok(Work::new(move || {
        let [scale, shift] = [&factors[0], &factors[1]]
            .map(|factor| factor.as_ref().map(|factor| factor.load_vec::<f32>()));
        let mut values = x.load_vec::<f32>();
        for (at, value) in values.iter_mut().enumerate() {
            let place = at / (rows * width) * width + at % width;
            *value *= 1.0 + scale.as_ref().map_or(0.0, |scale| scale[place]);
            *value += shift.as_ref().map_or(0.0, |shift| shift[place]);
        }
        out.store_slice(&values)
    }))
}

/// Mean or largest value of each channel.
fn pool(call: &Call, mean: bool) -> Result<Work, Refusal> {
    let (x, out) = (call.tensor(0)?, call.tensor(1)?);
    if !(4..=8).contains(&x.rank()) {
        return Err(call.invalid(format!(
            "self has shape {:?}, wanted 4 to 8 dims",
            x.shape()
        )));
    }
    let mut shape = vec![1; x.rank()];
    shape[..2].copy_from_slice(&x.shape()[..2]);
    call.expect_shape("out", &out, &shape)?;
    same_dtype(call, "out", &out, &x)?;
    let size = volume(&x.shape()[2..]);
    if size == 0 {
        return Err(call.invalid(format!("self has shape {:?}", x.shape())));
    }
    Ok(Work::new(move || {
        let values: Vec<f64> = x
            .load_vec::<f64>()
            .chunks_exact(size)
            .map(|channel| match mean {
                true => channel.iter().sum::<f64>() / size as f64,
                // A NaN among the values is their largest.
                false => channel
                    .iter()
                    .copied()
                    .fold(f64::NEG_INFINITY, |most, value| {
                        if value > most || value.is_nan() {
                            value
                        } else {
                            most
                        }
                    }),
            })
            .collect();
        out.store_slice(&values)
    }))
}

/// Sums of the rows of each group: of groups that a list ends or counts, or of equal ones.
fn bias_gradient(call: &Call, kind: Option<usize>) -> Result<Work, Refusal> {
    let (dy, list) = (call.tensor(0)?, call.optional_tensor(1));
    let counts = match kind.map_or(Ok(0), |index| call.int(index))? {
        0 => false,
        1 => true,
        other => return Err(call.invalid(format!("groupIdxType is {other}, wanted 0 or 1"))),
    };
    let out = call.tensor(2 + usize::from(kind.is_some()))?;
    let (groups, rows, width) = match (dy.shape(), &list) {
        (&[rows, width], Some(list)) => (list.count(), rows, width),
        (&[groups, rows, width], None) => (groups, groups * rows, width),
        (shape, _) => {
            return Err(call.invalid(format!(
                "gradY has shape {shape:?}, groupIdx given: {}",
                list.is_some()
            )));
        }
    };
    call.expect_shape("out", &out, &[groups, width])?;
    same_dtype(call, "out", &out, &dy)?;
    let op = call.name();
    Ok(Work::new(move || {
        let values = dy.load_vec::<f64>();
        let ends: Vec<i64> = match &list {
            Some(list) if counts => list
                .load_vec::<i64>()
                .iter()
                .scan(0, |sum, count| {
                    *sum += count;
                    Some(*sum)
                })
                .collect(),
            Some(list) => list.load_vec(),
            None => (1..=groups)
                .map(|group| (group * rows / groups) as i64)
                .collect(),
        };
        let mut sums = vec![0f64; groups * width];
        let mut start = 0;
        for (group, &end) in ends.iter().enumerate() {
            let end = usize::try_from(end).unwrap_or(usize::MAX);
            if end < start || end > rows {
                return Err(Fault::exception(format!(
                    "{op}: group {group} has rows {start} to {end} of {rows}"
                )));
            }
            for at in start * width..end * width {
                sums[group * width + at % width] += values[at];
            }
            start = end;
        }
        out.store_slice(&sums)
    }))
}

/// Updates of each sample put at its own offset of an axis.
fn update(call: &Call) -> Result<Work, Refusal> {
    let (data, indices, updates) = (call.tensor(0)?, call.tensor(1)?, call.tensor(2)?);
    let axis = call.axis(call.int(3)?, data.rank())?;
    if indices.rank() > 1 {
        return Err(call.unsupported("indices of 2 dims have no kernel here"));
    }
    let (whole, part) = (data.shape(), updates.shape());
    let fits = axis > 0
        && part.len() == whole.len()
        && indices.count() == part[0]
        && part[0] <= whole[0]
        && part[axis] <= whole[axis]
        && (1..whole.len()).all(|dim| dim == axis || whole[dim] == part[dim]);
    if !fits || updates.is_empty() {
        return Err(call.invalid(format!(
            "data {whole:?}, updates {part:?} along {axis}, indices {:?}",
            indices.shape()
        )));
    }
    same_dtype(call, "updates", &updates, &data)?;
    let op = call.name();
    Ok(Work::new(move || {
        let (whole, part) = (data.shape(), updates.shape());
        let inner = volume(&part[axis + 1..]);
        let middle = volume(&part[1..axis]);
        let starts = indices.load_vec::<i64>();
        let mut values = data.load_vec::<f64>();
        for (at, value) in updates.load_vec::<f64>().into_iter().enumerate() {
            let (row, column) = (at / inner, at % inner);
            let (line, along) = (row / part[axis], row % part[axis]);
            let start = starts[line / middle];
            let along = checked_index(op, start.saturating_add(along as i64), whole[axis])?;
            values[(line * whole[axis] + along) * inner + column] = value;
        }
        data.store_slice(&values)
    }))
}
