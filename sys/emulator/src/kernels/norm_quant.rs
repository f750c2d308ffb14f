//! Root-mean-square norm of a sum, quantised at once: by given scales, or by the largest value of each row; and the latter alone
//! with an offset (asymmetric).
//!
//! Knows the kernel interface; it must not know streams, handles or device memory.

use super::common::rounded_to;
use super::norm::{root_normalize, rows_of, sum_of};
use super::quant::{limits, small_shape, store_small};
use crate::failure::{Fault, Refusal};
use crate::kernel::{Call, Prepare, Work};
use crate::tensor::Tensor;

/// This family's ops.
pub(crate) const KERNELS: &[(&str, Prepare)] = &[
    ("aclnnAddRmsNormQuant", |call| by_scales(call, None)),
    ("aclnnAddRmsNormQuantV2", |call| by_scales(call, Some(7))),
    ("aclnnAddRmsNormDynamicQuant", |call| by_rows(call, None)),
    ("aclnnAddRmsNormDynamicQuantV2", |call| {
        by_rows(call, Some(5))
    }),
    ("aclnnDynamicQuantV2", dynamic),
    ("aclnnRmsNormQuant", plain),
];

/// The norm of `x1 + x2` and what it reads.
struct Norm {
    x1: Tensor,
    x2: Tensor,
    gamma: Tensor,
    beta: Option<Tensor>,
    eps: f32,
    sum_out: Tensor,
}

impl Norm {
    fn new(call: &Call, beta: Option<usize>, eps: usize, sum_out: usize) -> Result<Norm, Refusal> {
        let norm = Norm {
            x1: call.tensor(0)?,
            x2: call.tensor(1)?,
            gamma: call.tensor(2)?,
            beta: beta.and_then(|beta| call.optional_tensor(beta)),
            eps: call.float(eps)? as f32,
            sum_out: call.tensor(sum_out)?,
        };
        rows_of(call, "x1", &norm.x1, norm.gamma.shape())?;
        call.expect_shape("x2", &norm.x2, norm.x1.shape())?;
        call.expect_shape("xOut", &norm.sum_out, norm.x1.shape())?;
        if let Some(beta) = &norm.beta {
            call.expect_shape("beta", beta, norm.gamma.shape())?;
        }
        Ok(norm)
    }

    fn width(&self) -> usize {
        self.gamma.count()
    }

    /// Writes the sum and gives the norm.
    fn run(&self) -> Result<Vec<f32>, Fault> {
        let sum = sum_of(&self.x1, 1.0, &self.x2);
        self.sum_out.store_slice(&sum)?;
        let (mut y, _) = root_normalize(&sum, &self.gamma.load_vec(), self.eps, false);
        if let Some(beta) = &self.beta {
            let beta = beta.load_vec::<f32>();
            y.iter_mut()
                .zip(beta.iter().cycle())
                .for_each(|(value, beta)| *value += beta);
        }
        Ok(y)
    }
}

/// One quantised output with given scales and zero points, one value for all or one for each column.
struct Scaled {
    out: Tensor,
    scale: Tensor,
    zero: Option<Tensor>,
    range: (f32, f32),
}

impl Scaled {
    fn new(
        call: &Call,
        norm: &Norm,
        out: usize,
        scale: usize,
        zero: usize,
    ) -> Result<Option<Scaled>, Refusal> {
        let Some(scale) = call.optional_tensor(scale) else {
            return Ok(None);
        };
        let (out, zero) = (call.tensor(out)?, call.optional_tensor(zero));
        for tensor in [Some(&scale), zero.as_ref()].into_iter().flatten() {
            if tensor.count() != 1 {
                call.expect_shape("scales and zero points", tensor, norm.gamma.shape())?;
            }
        }
        if small_shape(&out) != norm.x1.shape() {
            return Err(call.invalid(format!("y has shape {:?}", out.shape())));
        }
        Ok(Some(Scaled {
            range: limits(call, out.dtype())?,
            out,
            scale,
            zero,
        }))
    }

    fn store(&self, y: &[f32], divide: bool) -> Result<(), Fault> {
        let scale = self.scale.load_vec::<f32>();
        let zero = self
            .zero
            .as_ref()
            .map_or_else(|| vec![0.0], Tensor::load_vec::<f32>);
        let factors = scale.iter().cycle().zip(zero.iter().cycle());
        let small: Vec<i64> = y
            .iter()
            .zip(factors)
            .map(|(value, (scale, zero))| {
                let scaled = if divide { value / scale } else { value * scale };
                (scaled + zero)
                    .round_ties_even()
                    .clamp(self.range.0, self.range.1) as i64
            })
            .collect();
        store_small(&self.out, &small)
    }
}

/// Scales stand at 3 and 4, zero points at 5 and 6; axis, epsilon, divMode and the outputs follow.
fn by_scales(call: &Call, beta: Option<usize>) -> Result<Work, Refusal> {
    let first = if beta.is_some() { 8 } else { 7 };
    let norm = Norm::new(call, beta, first + 1, first + 5)?;
    let axis = call.int(first)?;
    if axis != -1 && axis != norm.x1.rank() as i64 - 1 {
        return Err(call.invalid(format!("axis is {axis}, wanted -1")));
    }
    let divide = call.bool(first + 2)?;
    let one = Scaled::new(call, &norm, first + 3, 3, 5)?;
    let Some(one) = one else {
        return Err(call.invalid("scales1 is null"));
    };
    let two = Scaled::new(call, &norm, first + 4, 4, 6)?;
    let plain = match beta {
        Some(_) => call
            .optional_tensor(first + 6)
            .filter(|out| !out.is_empty()),
        None => None,
    };
    if let Some(plain) = &plain {
        call.expect_shape("rmsNormOut", plain, norm.x1.shape())?;
    }
    Ok(Work::new(move || {
        let y = norm.run()?;
        one.store(&y, divide)?;
        if let Some(two) = &two {
            two.store(&y, divide)?;
        }
        match &plain {
            Some(plain) => plain.store_slice(&rounded_to(y, plain.dtype())),
            None => Ok(()),
        }
    }))
}

/// One output quantised by rows.
struct ByRows {
    out: Tensor,
    scale: Tensor,
    smooth: Option<Tensor>,
    range: (f32, f32),
}

impl ByRows {
    fn store(&self, y: &[f32], width: usize) -> Result<(), Fault> {
        let mut values = y.to_vec();
        if let Some(smooth) = &self.smooth {
            let smooth = smooth.load_vec::<f32>();
            values
                .iter_mut()
                .zip(smooth.iter().cycle())
                .for_each(|(value, smooth)| *value *= smooth);
        }
        let (mut small, mut scales) = (Vec::with_capacity(values.len()), Vec::new());
        for row in values.chunks_exact(width.max(1)) {
            let largest = row
                .iter()
                .fold(0f32, |largest, value| largest.max(value.abs()));
            let factor = self.range.1 / largest;
            scales.push(1.0 / factor);
            small.extend(row.iter().map(|value| {
                (value * factor)
                    .round_ties_even()
                    .clamp(self.range.0, self.range.1) as i64
            }));
        }
        store_small(&self.out, &small)?;
        self.scale.store_slice(&scales)
    }
}

/// Smoothing factors stand at 3 and 4; the second form has beta and a mask of outputs.
fn by_rows(call: &Call, beta: Option<usize>) -> Result<Work, Refusal> {
    let (eps, first) = if beta.is_some() { (6, 8) } else { (5, 6) };
    let norm = Norm::new(call, beta, eps, first + 2)?;
    let smooth = [call.optional_tensor(3), call.optional_tensor(4)];
    let both = smooth.iter().all(Option::is_some);
    let wanted = match beta.map(|_| call.bools(7)) {
        Some(Ok([one, two])) => [*one, *two],
        Some(Ok(mask)) if !mask.is_empty() => {
            return Err(call.invalid(format!("outputMask has {} entries, wanted 2", mask.len())));
        }
        _ => [true, both],
    };
    let lead = &norm.x1.shape()[..norm.x1.rank() - norm.gamma.rank()];
    let mut outputs = Vec::new();
    for (index, smooth) in smooth
        .into_iter()
        .enumerate()
        .filter(|(index, _)| wanted[*index])
    {
        let (out, scale) = (call.tensor(first + index)?, call.tensor(first + 3 + index)?);
        if small_shape(&out) != norm.x1.shape() {
            return Err(call.invalid(format!("y has shape {:?}", out.shape())));
        }
        call.expect_shape("scale", &scale, lead)?;
        if let Some(smooth) = &smooth {
            call.expect_shape("smoothScale", smooth, norm.gamma.shape())?;
        }
        outputs.push(ByRows {
            range: limits(call, out.dtype())?,
            out,
            scale,
            smooth,
        });
    }
    Ok(Work::new(move || {
        let y = norm.run()?;
        outputs
            .iter()
            .try_for_each(|output| output.store(&y, norm.width()))
    }))
}

/// Per row: scale = (max − min) / (largest − smallest code), offset = largest code − max / scale; symmetric where no offset is asked
/// for. Smoothing factors may differ by groups of rows, whose ends a tensor tells.
fn dynamic(call: &Call) -> Result<Work, Refusal> {
    let (x, smooth, groups) = (
        call.tensor(0)?,
        call.optional_tensor(1),
        call.optional_tensor(2),
    );
    let (out, scale, offset) = (call.tensor(4)?, call.tensor(5)?, call.optional_tensor(6));
    let range = limits(call, out.dtype())?;
    let Some((&width, lead)) = x.shape().split_last().filter(|split| !split.1.is_empty()) else {
        return Err(call.invalid(format!("x has shape {:?}, wanted 2 to 8 dims", x.shape())));
    };
    if small_shape(&out) != x.shape() {
        return Err(call.invalid(format!("y has shape {:?}, x {:?}", out.shape(), x.shape())));
    }
    call.expect_shape("scale", &scale, lead)?;
    if let Some(offset) = &offset {
        call.expect_shape("offset", offset, lead)?;
    }
    let wanted = match &groups {
        Some(groups) => vec![groups.count(), width],
        None => vec![width],
    };
    match &smooth {
        Some(smooth) => call.expect_shape("smoothScales", smooth, &wanted)?,
        None if groups.is_some() => return Err(call.invalid("groupIndex without smoothScales")),
        None => {}
    }
    if x.is_empty() {
        return Ok(Work::nothing());
    }
    Ok(Work::new(move || {
        let ends = groups.as_ref().map(Tensor::load_vec::<i64>);
        let factors = smooth.as_ref().map(Tensor::load_vec::<f32>);
        let (mut small, mut scales, mut offsets) = (Vec::new(), Vec::new(), Vec::new());
        for (row, values) in x.load_vec::<f32>().chunks_exact(width).enumerate() {
            let group = ends.as_ref().map_or(0, |ends| {
                ends.iter().filter(|&&end| end <= row as i64).count()
            });
            let values: Vec<f32> = match &factors {
                Some(factors) => {
                    let Some(own) = factors.get(group * width..(group + 1) * width) else {
                        return Err(Fault::exception(format!("row {row} is in no group")));
                    };
                    values
                        .iter()
                        .zip(own)
                        .map(|(value, own)| value * own)
                        .collect()
                }
                None => values.to_vec(),
            };
            let (scale, shift) = codes(&values, range, offset.is_some());
            small.extend(values.iter().map(|value| {
                (value / scale + shift)
                    .round_ties_even()
                    .clamp(range.0, range.1) as i64
            }));
            scales.push(scale);
            offsets.push(shift);
        }
        store_small(&out, &small)?;
        scale.store_slice(&scales)?;
        match &offset {
            Some(offset) => offset.store_slice(&offsets),
            None => Ok(()),
        }
    }))
}

/// Scale and offset of a row.
fn codes(values: &[f32], range: (f32, f32), asymmetric: bool) -> (f32, f32) {
    if !asymmetric {
        let largest = values
            .iter()
            .fold(0f32, |largest, value| largest.max(value.abs()));
        return (1.0 / (range.1 / largest), 0.0);
    }
    let highest = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let lowest = values.iter().copied().fold(f32::INFINITY, f32::min);
    let scale = (highest - lowest) / (range.1 - range.0);
    (scale, range.1 - highest / scale)
}

/// The norm of one tensor, divided by a scale and shifted.
fn plain(call: &Call) -> Result<Work, Refusal> {
    let (x, gamma, beta) = (call.tensor(0)?, call.tensor(1)?, call.tensor(2)?);
    let (scale, offset, eps) = (
        call.tensor(3)?,
        call.optional_tensor(4),
        call.float(5)? as f32,
    );
    let out = call.tensor(6)?;
    let width = x.shape().last().copied().unwrap_or(0);
    for (what, tensor) in [("gamma", &gamma), ("beta", &beta)] {
        if width == 0 || !(tensor.shape() == [width] || tensor.shape() == [1, width]) {
            return Err(call.invalid(format!(
                "{what} has shape {:?}, wanted [{width}]",
                tensor.shape()
            )));
        }
    }
    for tensor in [Some(&scale), offset.as_ref()].into_iter().flatten() {
        if tensor.count() != 1 {
            return Err(call.invalid(format!(
                "a scale has shape {:?}, wanted [1]",
                tensor.shape()
            )));
        }
    }
    let (lowest, highest) = limits(call, out.dtype())?;
    if small_shape(&out) != x.shape() {
        return Err(call.invalid(format!("y has shape {:?}, x {:?}", out.shape(), x.shape())));
    }
    Ok(Work::new(move || {
        let (y, _) = root_normalize(&x.load_vec::<f32>(), &gamma.load_vec(), eps, false);
        let (beta, scale) = (beta.load_vec::<f32>(), scale.load_one::<f32>());
        let shift = offset
            .as_ref()
            .map_or(0.0, |offset| offset.load_one::<f32>());
        let values: Vec<i64> = y
            .iter()
            .zip(beta.iter().cycle())
            .map(|(y, beta)| ((y + beta) / scale + shift).round_ties_even())
            .map(|value| value.clamp(lowest, highest) as i64)
            .collect();
        store_small(&out, &values)
    }))
}
