//! Quantisation: to and from eight- and four-bit integers, and products with quantised operands.
//!
//! Knows the kernel interface and ndarray's product; it must not know streams, handles or device memory.

use super::common::{expect_broadcast, load_broadcast, same_dtype, volume};
use super::weight_format::unblocked;
use crate::dtype::DType;
use crate::failure::{Fault, Refusal};
use crate::kernel::{Call, Prepare, Work};
use crate::tensor::Tensor;
use ndarray::{Array2, ArrayD, Axis, Ix2, IxDyn};

/// This family's ops.
pub(crate) const KERNELS: &[(&str, Prepare)] = &[
    ("aclnnQuantize", to_grid as Prepare),
    ("aclnnAscendQuant", quantise as Prepare),
    ("aclnnAscendQuantV3", quantise as Prepare),
    ("aclnnAscendAntiQuant", antiquantise as Prepare),
    ("aclnnDynamicQuant", dynamic as Prepare),
    ("aclnnTransQuantParamV2", |call| encode_scale(call, false)),
    ("aclnnTransQuantParamV3", |call| match call.int(2)? {
        0 => encode_scale(call, false),
        1 => encode_scale(call, true),
        mode => Err(call.invalid(format!("roundMode is {mode}, wanted 0 or 1"))),
    }),
    ("aclnnQuantMatmulV3", quantised_product as Prepare),
    ("aclnnQuantMatmulV4", quantised_product as Prepare),
    ("aclnnWeightQuantBatchMatmulV2", weight_product as Prepare),
    ("aclnnWeightQuantBatchMatmulV3", weight_product as Prepare),
];

/// Lowest and highest value of a quantised type.
pub(super) fn limits(call: &Call, dtype: DType) -> Result<(f32, f32), Refusal> {
    match dtype {
        DType::I8 => Ok((-128.0, 127.0)),
        DType::I4 | DType::I32 => Ok((-8.0, 7.0)),
        other => Err(call.invalid(format!(
            "{other} is no quantised type, wanted i8, i4 or i32"
        ))),
    }
}

/// The rounding of a mode; NaN becomes 0 when it is stored.
fn rounding(call: &Call, mode: &str) -> Result<fn(f32) -> f32, Refusal> {
    match mode {
        "round" => Ok(f32::round_ties_even),
        "floor" => Ok(f32::floor),
        "ceil" => Ok(f32::ceil),
        "trunc" => Ok(f32::trunc),
        other => Err(call.invalid(format!("roundMode is {other:?}"))),
    }
}

/// Stores four-bit values: plainly, or eight to an i32 with the first in the lowest bits.
pub(super) fn store_small(out: &Tensor, values: &[i64]) -> Result<(), Fault> {
    if out.dtype() != DType::I32 {
        return out.store_slice(values);
    }
    let packed: Vec<i64> = values
        .chunks(8)
        .map(|chunk| {
            let nibbles = chunk.iter().enumerate();
            let word = nibbles.fold(0u32, |word, (at, value)| {
                word | ((*value as u32 & 0xf) << (4 * at))
            });
            i64::from(word as i32)
        })
        .collect();
    out.store_slice(&packed)
}

/// Loads small integers; an i32 holds eight of them.
fn load_small(x: &Tensor) -> Vec<f32> {
    if x.dtype() != DType::I32 {
        return x.load_vec();
    }
    x.load_vec::<i64>()
        .into_iter()
        .flat_map(|word| (0..8).map(move |at| (((word as i32) << (28 - 4 * at)) >> 28) as f32))
        .collect()
}

/// The shape of the small integers that a tensor holds.
pub(super) fn small_shape(x: &Tensor) -> Vec<usize> {
    let mut shape = x.shape().to_vec();
    if let Some(last) = shape.last_mut().filter(|_| x.dtype() == DType::I32) {
        *last *= 8;
    }
    shape
}

/// y = round(x scale + offset), clipped; the scale is squared where `sqrtMode`.
fn quantise(call: &Call) -> Result<Work, Refusal> {
    let (x, scale, offset) = (call.tensor(0)?, call.tensor(1)?, call.optional_tensor(2));
    let (square, round) = (call.bool(3)?, rounding(call, call.text(4)?)?);
    let dtype = call.dtype(5)?;
    let out = call.tensor(call.count().saturating_sub(1))?;
    let (lowest, highest) = limits(call, dtype)?;
    call.expect_dtype("y", &out, &[dtype])?;
    if small_shape(&out) != x.shape() {
        return Err(call.invalid(format!("y has shape {:?}, x {:?}", out.shape(), x.shape())));
    }
    expect_broadcast(call, "scale", &scale, x.shape())?;
    if let Some(offset) = &offset {
        call.expect_shape("offset", offset, scale.shape())?;
        same_dtype(call, "offset", offset, &scale)?;
    }
    if out.is_empty() {
        return Ok(Work::nothing());
    }
    Ok(Work::new(move || {
        let scales = load_broadcast::<f32>(&scale, x.shape());
        let offsets = offset
            .as_ref()
            .map(|offset| load_broadcast::<f32>(offset, x.shape()));
        let values: Vec<i64> = x
            .load_vec::<f32>()
            .into_iter()
            .enumerate()
            .map(|(at, value)| {
                let factor = if square {
                    scales[at] * scales[at]
                } else {
                    scales[at]
                };
                let shift = offsets.as_ref().map_or(0.0, |offsets| offsets[at]);
                round(value * factor + shift).clamp(lowest, highest) as i64
            })
            .collect();
        store_small(&out, &values)
    }))
}

/// out = round(x / scales + zeroPoints), clipped; scales and zero points one for all or one for each index of the axis.
fn to_grid(call: &Call) -> Result<Work, Refusal> {
    let (x, scales, zeros) = (call.tensor(0)?, call.tensor(1)?, call.optional_tensor(2));
    let (dtype, axis, out) = (call.dtype(3)?, call.int(4)?, call.tensor(5)?);
    let (lowest, highest) = match dtype {
        DType::I8 => (-128.0, 127.0),
        DType::U8 => (0.0, 255.0),
        DType::I32 => (f64::from(i32::MIN), f64::from(i32::MAX)),
        other => return Err(call.invalid(format!("dtype is {other}, wanted i8, u8 or i32"))),
    };
    call.expect_dtype("out", &out, &[dtype])?;
    call.expect_shape("out", &out, x.shape())?;
    let rank = x.rank() as i64;
    let at = if axis < 0 { axis + rank } else { axis };
    if !(0..rank.max(1)).contains(&at) {
        return Err(call.invalid(format!("axis is {axis} of {rank} dims")));
    }
    let count = scales.count();
    let size = x.shape().get(at as usize).copied().unwrap_or(1);
    if scales.rank() != 1 || (count != 1 && count != size) {
        return Err(call.invalid(format!("scales {:?} along {size}", scales.shape())));
    }
    if x.dtype() != DType::F32 {
        same_dtype(call, "scales", &scales, &x)?;
    }
    if let Some(zeros) = &zeros {
        call.expect_shape("zeroPoints", zeros, scales.shape())?;
    }
    let inner = volume(&x.shape()[(at as usize + 1).min(x.rank())..]);
    Ok(Work::new(move || {
        let steps = scales.load_vec::<f32>();
        let shifts = zeros.as_ref().map(|zeros| zeros.load_vec::<f64>());
        let whole = |(at, value): (usize, f32)| {
            let own = if count == 1 {
                0
            } else {
                at / inner.max(1) % size
            };
            let shift = shifts.as_ref().map_or(0.0, |shifts| shifts[own]);
            let sum = f64::from(value / steps[own]) + shift;
            sum.round_ties_even().clamp(lowest, highest) as i64
        };
        let values = x.load_vec::<f32>().into_iter().enumerate().map(whole);
        out.store_slice(&values.collect::<Vec<_>>())
    }))
}

/// y = (x + offset) scale.
fn antiquantise(call: &Call) -> Result<Work, Refusal> {
    let (x, scale, offset) = (call.tensor(0)?, call.tensor(1)?, call.optional_tensor(2));
    let (dtype, square, out) = (call.dtype(3)?, call.bool(4)?, call.tensor(5)?);
    if !matches!(dtype, DType::F16 | DType::Bf16) {
        return Err(call.invalid(format!("dstType is {dtype}, wanted f16 or bf16")));
    }
    call.expect_dtype("y", &out, &[dtype])?;
    let shape = small_shape(&x);
    call.expect_shape("y", &out, &shape)?;
    expect_broadcast(call, "scale", &scale, &shape)?;
    if let Some(offset) = &offset {
        call.expect_shape("offset", offset, scale.shape())?;
    }
    if out.is_empty() {
        return Ok(Work::nothing());
    }
    Ok(Work::new(move || {
        let scales = load_broadcast::<f32>(&scale, &shape);
        let offsets = offset
            .as_ref()
            .map(|offset| load_broadcast::<f32>(offset, &shape));
        let mut values = load_small(&x);
        for (at, value) in values.iter_mut().enumerate() {
            let factor = if square {
                scales[at] * scales[at]
            } else {
                scales[at]
            };
            *value = (*value + offsets.as_ref().map_or(0.0, |offsets| offsets[at])) * factor;
        }
        out.store_slice(&values)
    }))
}

/// Per row of the last dim: q = round(x · (127 / max |x|)), scale = 1 / (127 / max |x|); a row of zeros gives zeros.
fn dynamic(call: &Call) -> Result<Work, Refusal> {
    let (x, smooth) = (call.tensor(0)?, call.optional_tensor(1));
    let (out, scale) = (call.tensor(2)?, call.tensor(3)?);
    let (lowest, highest) = limits(call, out.dtype())?;
    let Some((&width, lead)) = x.shape().split_last().filter(|split| !split.1.is_empty()) else {
        return Err(call.invalid(format!("x has shape {:?}, wanted 2 to 8 dims", x.shape())));
    };
    if small_shape(&out) != x.shape() {
        return Err(call.invalid(format!("y has shape {:?}, x {:?}", out.shape(), x.shape())));
    }
    call.expect_shape("scale", &scale, lead)?;
    if let Some(smooth) = &smooth {
        call.expect_shape("smoothScales", smooth, &[width])?;
        same_dtype(call, "smoothScales", smooth, &x)?;
    }
    if x.is_empty() {
        return Ok(Work::nothing());
    }
    Ok(Work::new(move || {
        let mut values = x.load_vec::<f32>();
        if let Some(smooth) = &smooth {
            let smooth = smooth.load_vec::<f32>();
            values
                .iter_mut()
                .zip(smooth.iter().cycle())
                .for_each(|(value, s)| *value *= s);
        }
        let (mut small, mut scales) = (Vec::with_capacity(values.len()), Vec::new());
        for row in values.chunks_exact(width) {
            let largest = row
                .iter()
                .fold(0f32, |largest, value| largest.max(value.abs()));
            let factor = highest / largest;
            scales.push(1.0 / factor);
            small.extend(
                row.iter()
                    .map(|value| (value * factor).round_ties_even().clamp(lowest, highest) as i64),
            );
        }
        store_small(&out, &small)?;
        scale.store_slice(&scales)
    }))
}

/// The top 19 bits of an f32 scale in the low word, bit 46 set, and an offset of nine bits from bit 37 on.
fn encode_scale(call: &Call, rounds: bool) -> Result<Work, Refusal> {
    let (scale, offset) = (call.tensor(0)?, call.optional_tensor(1));
    let out = call.tensor(call.count().saturating_sub(1))?;
    if let Some(offset) = &offset
        && offset.count() != 1
        && offset.count() != scale.count()
    {
        return Err(call.invalid(format!(
            "offset {:?} for scale {:?}",
            offset.shape(),
            scale.shape()
        )));
    }
    if out.count() != scale.count() {
        return Err(call.invalid(format!(
            "out {:?} for scale {:?}",
            out.shape(),
            scale.shape()
        )));
    }
    Ok(Work::new(move || {
        let offsets = offset.as_ref().map(|offset| offset.load_vec::<f32>());
        let values: Vec<i64> = scale
            .load_vec::<f32>()
            .into_iter()
            .enumerate()
            .map(|(at, scale)| {
                let bits = scale.to_bits();
                // To the nearest of 19 bits, ties to even.
                let tail = if rounds && scale.is_finite() {
                    0xfff + (bits >> 13 & 1)
                } else {
                    0
                };
                let mut word = u64::from((bits + tail) & 0xffff_e000) | (1 << 46);
                if let Some(offset) = offsets.as_ref().and_then(|all| all.get(at).or(all.first())) {
                    let offset = offset.round_ties_even().clamp(-256.0, 255.0) as i64;
                    word |= ((offset & 0x1ff) as u64) << 37;
                }
                word as i64
            })
            .collect();
        out.store_slice(&values)
    }))
}

/// Scales of a product: floats, or the words that [`encode_scale`] makes.
fn load_scales(scale: &Tensor) -> Vec<f32> {
    if matches!(scale.dtype(), DType::U64 | DType::I64) {
        let words = scale.load_vec::<i64>();
        return words
            .into_iter()
            .map(|word| f32::from_bits(word as u32 & 0xffff_e000))
            .collect();
    }
    scale.load_vec()
}

/// The operands of a product of small integers.
pub(super) struct Quantised {
    pub x: Tensor,
    pub y: Tensor,
    /// The second operand lies in blocks.
    pub blocked: bool,
    pub scale: Tensor,
    pub offset: Option<Tensor>,
    pub per_token: Option<Tensor>,
    pub bias: Option<Tensor>,
    pub flips: (bool, bool),
    pub out: Tensor,
}

/// V3: x1, x2, scale, offset?, bias?, transposeX1, transposeX2, out. V4 has a scale per token before the bias.
fn quantised_product(call: &Call) -> Result<Work, Refusal> {
    let later = usize::from(call.name() == "aclnnQuantMatmulV4");
    let product = Quantised {
        x: call.tensor(0)?,
        y: call.tensor(1)?,
        blocked: false,
        scale: call.tensor(2)?,
        offset: call.optional_tensor(3),
        per_token: if later == 1 {
            call.optional_tensor(4)
        } else {
            None
        },
        bias: call.optional_tensor(4 + later),
        flips: (call.bool(5 + later)?, call.bool(6 + later)?),
        out: call.tensor(7 + later)?,
    };
    product.work(call)
}

impl Quantised {
    pub fn work(self, call: &Call) -> Result<Work, Refusal> {
        self.check(call)?;
        if self.out.is_empty() {
            return Ok(Work::nothing());
        }
        Ok(Work::new(move || self.run()))
    }

    /// Rows, inner dim and columns.
    fn sizes(&self, call: &Call) -> Result<(usize, usize, usize), Refusal> {
        let (&[.., a, b], &[.., c, d]) = (self.x.shape(), self.y.shape()) else {
            return Err(call.invalid("x1 and x2 must have 2 to 6 dims"));
        };
        let (rows, k) = if self.flips.0 { (b, a) } else { (a, b) };
        let (inner, columns) = if self.flips.1 { (d, c) } else { (c, d) };
        if k != inner {
            return Err(call.invalid(format!("{:?} times {:?}", self.x.shape(), self.y.shape())));
        }
        Ok((rows, k, columns))
    }

    fn check(&self, call: &Call) -> Result<(), Refusal> {
        for (what, tensor) in [("x1", &self.x), ("x2", &self.y)] {
            if tensor.dtype() == DType::I32 || (tensor.format() == 29 && !self.blocked) {
                return Err(
                    call.unsupported(format!("{what}: packed i32 and NZ have no kernel here"))
                );
            }
        }
        let (rows, _, columns) = self.sizes(call)?;
        let lead = |tensor: &Tensor| tensor.shape()[..tensor.rank() - 2].to_vec();
        let mut shape = call.broadcast(&[&lead(&self.x), &lead(&self.y)])?;
        shape.extend([rows, columns]);
        call.expect_shape("out", &self.out, &shape)?;
        let scales = self.scale.count();
        if scales != 1 && scales != columns {
            return Err(call.invalid(format!("scale has shape {:?}", self.scale.shape())));
        }
        let words = matches!(self.scale.dtype(), DType::U64 | DType::I64);
        let plain_half = self.out.dtype() == DType::F16 && self.per_token.is_none();
        if plain_half && !words {
            return Err(call.invalid(format!(
                "an f16 product wants a u64 scale, got {}",
                self.scale.dtype()
            )));
        }
        if self.out.dtype() == DType::Bf16 && words {
            return Err(call.invalid("a bf16 product wants an f32 or bf16 scale"));
        }
        if self.offset.is_some() && self.out.dtype() != DType::I8 {
            return Err(call.invalid(format!("an offset with an output of {}", self.out.dtype())));
        }
        if let Some(tokens) = &self.per_token {
            call.expect_shape("pertokenScale", tokens, &[rows])?;
        }
        match &self.bias {
            Some(bias) if bias.shape().last() != Some(&columns) || bias.count() != columns => {
                Err(call.invalid(format!(
                    "bias has shape {:?}, wanted [{columns}]",
                    bias.shape()
                )))
            }
            _ => Ok(()),
        }
    }

    /// (x1 x2 + integer bias) · scale · scale per token + float bias (or offset); the sums are exact in f64.
    fn run(&self) -> Result<(), Fault> {
        let flip = |tensor: &Tensor, flip: bool| {
            let mut values: ArrayD<f64> = if self.blocked && std::ptr::eq(tensor, &self.y) {
                unblocked(tensor).mapv(f64::from)
            } else {
                tensor.load()
            };
            let rank = values.ndim();
            if flip && rank >= 2 {
                values.swap_axes(rank - 1, rank - 2);
            }
            values
        };
        let sums = batched(
            &flip(&self.x, self.flips.0),
            &flip(&self.y, self.flips.1),
            self.out.shape(),
        )?;
        let scales = load_scales(&self.scale);
        let bias = self.bias.as_ref().map(|bias| bias.load_vec::<f64>());
        let whole_bias = self
            .bias
            .as_ref()
            .is_some_and(|bias| bias.dtype() == DType::I32);
        let tokens = self
            .per_token
            .as_ref()
            .map(|tokens| tokens.load_vec::<f32>());
        let offsets = self.offset.as_ref().map(|offset| offset.load_vec::<f32>());
        let &[.., rows, columns] = self.out.shape() else {
            return Ok(());
        };
        if self.out.dtype() == DType::I32 {
            let shift = |column: usize| bias.as_ref().map_or(0.0, |bias| bias[column]);
            let values = sums
                .iter()
                .enumerate()
                .map(|(at, sum)| (sum + shift(at % columns)) as i64);
            return self.out.store_slice(&values.collect::<Vec<_>>());
        }
        let pick = |list: &[f32], at: usize| list.get(at).or(list.first()).copied().unwrap_or(0.0);
        let values: Vec<f32> = sums
            .into_iter()
            .enumerate()
            .map(|(at, sum)| {
                let (row, column) = (at / columns % rows, at % columns);
                let shift = bias.as_ref().map_or(0.0, |bias| bias[column]);
                let before = if whole_bias { sum + shift } else { sum };
                let token = tokens.as_ref().map_or(1.0, |tokens| tokens[row]);
                let after = if whole_bias { 0.0 } else { shift as f32 };
                let offset = offsets
                    .as_ref()
                    .map_or(0.0, |offsets| pick(offsets, column));
                before as f32 * pick(&scales, column) * token + after + offset
            })
            .collect();
        if self.out.dtype() == DType::I8 {
            let small = values
                .iter()
                .map(|value| value.round_ties_even().clamp(-128.0, 127.0) as i64);
            return self.out.store_slice(&small.collect::<Vec<_>>());
        }
        self.out.store_slice(&values)
    }
}

/// A batched product in f64, broadcast to the shape of the output.
fn batched(x: &ArrayD<f64>, y: &ArrayD<f64>, shape: &[usize]) -> Result<Vec<f64>, Fault> {
    let bad = || Fault::exception("operands of a quantised product do not fit");
    let (&[.., m, k], &[.., n]) = (x.shape(), y.shape()) else {
        return Err(bad());
    };
    let batch = &shape[..shape.len().saturating_sub(2)];
    let x = x
        .broadcast(IxDyn(&[batch, &[m, k]].concat()))
        .ok_or_else(bad)?;
    let y = y
        .broadcast(IxDyn(&[batch, &[k, n]].concat()))
        .ok_or_else(bad)?;
    let mut all = Vec::with_capacity(volume(shape));
    for number in 0..volume(batch) {
        let (mut left, mut right, mut rest) = (x.view(), y.view(), number);
        for axis in (0..batch.len()).rev() {
            let at = rest % batch[axis];
            rest /= batch[axis];
            left = left.index_axis_move(Axis(axis), at);
            right = right.index_axis_move(Axis(axis), at);
        }
        let left = left.into_dimensionality::<Ix2>().map_err(|_| bad())?;
        let right = right.into_dimensionality::<Ix2>().map_err(|_| bad())?;
        all.extend(left.dot(&right).iter());
    }
    Ok(all)
}

/// y = x ((weight + offset) · scale) + bias, scale and offset per tensor, per column, or per group of rows and column.
fn weight_product(call: &Call) -> Result<Work, Refusal> {
    let (x, weight, scale) = (call.tensor(0)?, call.tensor(1)?, call.tensor(2)?);
    let (offset, bias, out) = (
        call.optional_tensor(3),
        call.optional_tensor(6),
        call.tensor(call.count().saturating_sub(1))?,
    );
    if call.optional_tensor(4).is_some() || call.optional_tensor(5).is_some() {
        return Err(call.unsupported("a quantised output has no kernel here"));
    }
    let (&[rows, k], &[inner, columns]) = (x.shape(), small_shape(&weight).as_slice()) else {
        return Err(call.invalid("x and weight must have 2 dims"));
    };
    if k != inner {
        return Err(call.invalid(format!("{:?} times {:?}", x.shape(), weight.shape())));
    }
    call.expect_shape("y", &out, &[rows, columns])?;
    same_dtype(call, "antiquantScale", &scale, &x)?;
    let group = call.int(7)?;
    let group = match usize::try_from(group) {
        Ok(0) => k.max(1),
        Ok(size) if size.is_multiple_of(32) && size < k => size,
        _ => return Err(call.invalid(format!("antiquantGroupSize is {group} of {k}"))),
    };
    let groups = k.div_ceil(group);
    if scale.count() != groups * columns && scale.count() != 1 {
        return Err(call.invalid(format!(
            "scale has shape {:?}, wanted [{groups}, {columns}]",
            scale.shape()
        )));
    }
    if let Some(offset) = &offset {
        call.expect_shape("antiquantOffset", offset, scale.shape())?;
    }
    if let Some(bias) = &bias {
        let wanted = if x.dtype() == DType::Bf16 {
            DType::F32
        } else {
            x.dtype()
        };
        call.expect_dtype("bias", bias, &[wanted])?;
        expect_broadcast(call, "bias", bias, &[rows.max(1), columns])?;
    }
    Ok(Work::new(move || {
        let (scales, mut values) = (scale.load_vec::<f32>(), load_small(&weight));
        let offsets = offset.as_ref().map(|offset| offset.load_vec::<f32>());
        for (at, value) in values.iter_mut().enumerate() {
            let cell = if scales.len() == 1 {
                0
            } else {
                at / columns / group * columns + at % columns
            };
            *value =
                (*value + offsets.as_ref().map_or(0.0, |offsets| offsets[cell])) * scales[cell];
        }
        let weight = Array2::from_shape_vec((k, columns), values)
            .map_err(|_| Fault::exception("a quantised weight does not fit"))?;
        let left = x.load::<f32>();
        let left = left
            .into_dimensionality::<Ix2>()
            .map_err(|_| Fault::exception("x does not fit"))?;
        let mut product: Vec<f32> = left.dot(&weight).iter().copied().collect();
        if let Some(bias) = &bias {
            let bias = load_broadcast::<f32>(bias, out.shape());
            product
                .iter_mut()
                .zip(bias)
                .for_each(|(value, b)| *value += b);
        }
        out.store_slice(&product)
    }))
}
