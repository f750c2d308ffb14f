//! Products of small integers, with scales for columns and rows.
//!
//! Knows the kernel interface and ndarray's product; it must not know streams, handles or device memory.

use super::common::volume;
use super::quant::load_scales;
use super::weight_format::{is_blocked, unblocked};
use crate::dtype::DType;
use crate::failure::{Fault, Refusal};
use crate::kernel::{Call, Prepare, Work};
use crate::tensor::Tensor;
use ndarray::{ArrayD, Axis, Ix2, IxDyn};

/// This family's ops.
pub(crate) const KERNELS: &[(&str, Prepare)] = &[
    ("aclnnQuantMatmulV3", quantised_product as Prepare),
    ("aclnnQuantMatmulV4", quantised_product as Prepare),
    ("aclnnQuantMatmulV5", named_scales_product as Prepare),
    ("aclnnQuantMatmulWeightNz", named_scales_product as Prepare),
];

/// The operands of a product of small integers.
struct Quantised {
    x: Tensor,
    y: Tensor,
    scale: Tensor,
    offset: Option<Tensor>,
    per_token: Option<Tensor>,
    bias: Option<Tensor>,
    flips: (bool, bool),
    out: Tensor,
    /// The second operand lies in blocks.
    blocked: bool,
}

/// V3: x1, x2, scale, offset?, bias?, transposeX1, transposeX2, out. V4 has a scale per token before the bias.
fn quantised_product(call: &Call) -> Result<Work, Refusal> {
    let later = usize::from(call.name() == "aclnnQuantMatmulV4");
    let product = Quantised {
        x: call.tensor(0)?,
        y: call.tensor(1)?,
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
        blocked: false,
    };
    product.prepared(call)
}

/// x1, x2, x1Scale, x2Scale, yScale, x1Offset, x2Offset, yOffset, bias, transposeX1, transposeX2, groupSize, out: what V4 does,
/// by other names. Scales of groups and of the output belong to other chips.
fn named_scales_product(call: &Call) -> Result<Work, Refusal> {
    for (index, what) in [(4, "yScale"), (5, "x1Offset"), (7, "yOffset")] {
        if call
            .optional_tensor(index)
            .is_some_and(|tensor| !tensor.is_empty())
        {
            return Err(call.unsupported(format!("{what} has no kernel here")));
        }
    }
    if call.int(11)? != 0 {
        return Err(call.unsupported("groups have no kernel here"));
    }
    let y = call.tensor(1)?;
    let product = Quantised {
        blocked: is_blocked(call, &y)?,
        x: call.tensor(0)?,
        y,
        scale: call.tensor(3)?,
        offset: call.optional_tensor(6),
        per_token: call.optional_tensor(2),
        bias: call.optional_tensor(8),
        flips: (call.bool(9)?, call.bool(10)?),
        out: call.tensor(12)?,
    };
    product.prepared(call)
}

impl Quantised {
    fn prepared(self, call: &Call) -> Result<Work, Refusal> {
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
            let blocked = self.blocked && what == "x2";
            if tensor.dtype() == DType::I32 || (tensor.format() == 29 && !blocked) {
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
        let flip = |tensor: &Tensor, flip: bool, blocked: bool| {
            let mut values: ArrayD<f64> = match blocked {
                true => unblocked(tensor).mapv(f64::from),
                false => tensor.load(),
            };
            let rank = values.ndim();
            if flip && rank >= 2 {
                values.swap_axes(rank - 1, rank - 2);
            }
            values
        };
        let sums = batched(
            &flip(&self.x, self.flips.0, false),
            &flip(&self.y, self.flips.1, self.blocked),
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
