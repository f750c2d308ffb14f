//! Pooling: maximum and mean over windows, plain and adaptive, of one to three spatial dims, and the gradients.
//!
//! Knows the kernel interface; it must not know streams, handles or device memory.

use super::common::volume;
use crate::failure::{Fault, Refusal};
use crate::kernel::{Call, Family, Prepare, Work};
use crate::tensor::Tensor;

/// This family's ops.
pub(crate) const KERNELS: &[(&str, Prepare)] = &[
    ("aclnnMaxPool", max_pool as Prepare),
    ("aclnnMaxPool2dWithIndices", |call| {
        max_with_indices(call, 2)
    }),
    ("aclnnMaxPool3dWithArgmax", |call| max_with_indices(call, 3)),
    ("aclnnMaxPool2dWithIndicesBackward", |call| {
        max_backward(call, 2)
    }),
    ("aclnnMaxPool3dWithArgmaxBackward", |call| {
        max_backward(call, 3)
    }),
    ("aclnnMaxPool2dWithMask", max_with_mask as Prepare),
    (
        "aclnnMaxPool2dWithMaskBackward",
        max_with_mask_backward as Prepare,
    ),
    ("aclnnAdaptiveMaxPool2d", |call| adaptive_max(call, 2)),
    ("aclnnAdaptiveMaxPool3d", |call| adaptive_max(call, 3)),
    ("aclnnAdaptiveMaxPool2dBackward", |call| {
        max_backward(call, 2)
    }),
    ("aclnnAdaptiveMaxPool3dBackward", |call| {
        max_backward(call, 3)
    }),
    ("aclnnAvgPool2d", |call| average(call, 2)),
    ("aclnnAvgPool3d", |call| average(call, 3)),
    ("aclnnAvgPool2dBackward", |call| average_backward(call, 2)),
    ("aclnnAvgPool3dBackward", |call| average_backward(call, 3)),
    ("aclnnAdaptiveAvgPool2d", |call| adaptive_average(call, 2)),
    ("aclnnAdaptiveAvgPool3d", |call| adaptive_average(call, 3)),
    ("aclnnAdaptiveAvgPool2dBackward", |call| {
        adaptive_average_backward(call, 2)
    }),
    ("aclnnAdaptiveAvgPool3dBackward", |call| {
        adaptive_average_backward(call, 3)
    }),
];

/// One window of one axis: its taps inside the input, and its length with the padding that counts.
#[derive(Debug, Clone)]
struct Window {
    /// Tap number and input position.
    taps: Vec<(usize, usize)>,
    padded: usize,
}

/// All windows of all axes of a pooling.
#[derive(Debug, Clone)]
struct Windows {
    input: Vec<usize>,
    kernel: Vec<usize>,
    axes: Vec<Vec<Window>>,
}

/// A window of all axes: flat tap numbers and flat positions.
struct Field {
    taps: Vec<(usize, usize)>,
    padded: usize,
}

impl Windows {
    fn output(&self) -> Vec<usize> {
        self.axes.iter().map(Vec::len).collect()
    }

    /// The windows of all axes, in row-major order of the output.
    fn fields(&self) -> Vec<Field> {
        let mut fields = vec![Field {
            taps: vec![(0, 0)],
            padded: 1,
        }];
        for (axis, (&size, &kernel)) in self.axes.iter().zip(self.input.iter().zip(&self.kernel)) {
            fields = fields
                .iter()
                .flat_map(|lead| {
                    axis.iter().map(move |window| Field {
                        taps: lead
                            .taps
                            .iter()
                            .flat_map(|&(tap, at)| {
                                window.taps.iter().map(move |&(own, position)| {
                                    (tap * kernel + own, at * size + position)
                                })
                            })
                            .collect(),
                        padded: lead.padded * window.padded,
                    })
                })
                .collect();
        }
        fields
    }

    /// Windows [floor(i n / o), ceil((i + 1) n / o)).
    fn adaptive(input: &[usize], output: &[usize]) -> Windows {
        let axes = input
            .iter()
            .zip(output)
            .map(|(&size, &count)| {
                (0..count)
                    .map(|index| {
                        let (start, end) =
                            (index * size / count, ((index + 1) * size).div_ceil(count));
                        Window {
                            taps: (start..end).enumerate().collect(),
                            padded: end - start,
                        }
                    })
                    .collect()
            })
            .collect();
        Windows {
            input: input.to_vec(),
            kernel: input.to_vec(),
            axes,
        }
    }
}

/// Kernel, stride, padding and dilation of a call.
struct Sliding {
    kernel: Vec<usize>,
    stride: Vec<usize>,
    padding: Vec<usize>,
    dilation: Vec<usize>,
    ceil: bool,
}

fn repeated(
    call: &Call,
    what: &str,
    values: &[i64],
    rank: usize,
    lowest: i64,
) -> Result<Vec<usize>, Refusal> {
    let refuse = || {
        call.invalid(format!(
            "{what} is {values:?}, wanted {rank} values from {lowest} on"
        ))
    };
    let all = match values {
        [one] => vec![*one; rank],
        _ if values.len() == rank => values.to_vec(),
        _ => return Err(refuse()),
    };
    all.into_iter()
        .map(|value| {
            usize::try_from(value)
                .ok()
                .filter(|_| value >= lowest)
                .ok_or_else(refuse)
        })
        .collect()
}

impl Sliding {
    /// Reads kernel, stride and padding from `index` on; an empty stride is the kernel.
    fn new(call: &Call, index: usize, rank: usize) -> Result<Sliding, Refusal> {
        let kernel = repeated(call, "kernelSize", call.ints(index)?, rank, 1)?;
        let stride = match call.optional_ints(index + 1).unwrap_or(&[]) {
            [] => kernel.clone(),
            values => repeated(call, "stride", values, rank, 1)?,
        };
        let sliding = Sliding {
            padding: repeated(call, "padding", call.ints(index + 2)?, rank, 0)?,
            dilation: vec![1; rank],
            kernel,
            stride,
            ceil: false,
        };
        if sliding
            .padding
            .iter()
            .zip(&sliding.kernel)
            .any(|(pad, kernel)| pad * 2 > *kernel)
        {
            return Err(call.invalid(format!(
                "padding {:?} is more than half the kernel {:?}",
                sliding.padding, sliding.kernel
            )));
        }
        Ok(sliding)
    }

    /// As torch: with `ceil` the last window may reach over the end, but must start inside the input or its left padding.
    fn windows(&self, call: &Call, input: &[usize]) -> Result<Windows, Refusal> {
        let mut axes = Vec::new();
        for (axis, &size) in input.iter().enumerate() {
            let (kernel, stride) = (self.kernel[axis], self.stride[axis]);
            let (padding, dilation) = (self.padding[axis], self.dilation[axis]);
            let span = dilation * (kernel - 1) + 1;
            let rounding = if self.ceil { stride - 1 } else { 0 };
            let mut count = (size + 2 * padding + rounding)
                .checked_sub(span)
                .map_or(0, |room| room / stride + 1);
            if self.ceil && count > 0 && (count - 1) * stride >= size + padding {
                count -= 1;
            }
            if count == 0 {
                return Err(call.invalid(format!(
                    "a kernel of {kernel} does not fit into {size} in dim {axis}"
                )));
            }
            let windows = (0..count)
                .map(|index| {
                    let start = index * stride;
                    Window {
                        taps: (0..kernel)
                            .filter_map(|tap| {
                                let at = (start + tap * dilation).checked_sub(padding)?;
                                (at < size).then_some((tap, at))
                            })
                            .collect(),
                        padded: (start + span).min(size + 2 * padding) - start,
                    }
                })
                .collect();
            axes.push(windows);
        }
        Ok(Windows {
            input: input.to_vec(),
            kernel: self.kernel.clone(),
            axes,
        })
    }
}

/// Splits a shape into planes and spatial dims; the plane dims may be one or two.
fn split<'a>(
    call: &Call,
    x: &'a Tensor,
    rank: usize,
) -> Result<(&'a [usize], &'a [usize]), Refusal> {
    let lead = x.rank().wrapping_sub(rank);
    if !(1..=2).contains(&lead) || matches!(x.format(), 1 | 27) {
        return Err(call.invalid(format!(
            "shape {:?} with format {}, wanted {} or {} dims with the channels first",
            x.shape(),
            x.format(),
            rank + 1,
            rank + 2
        )));
    }
    Ok(x.shape().split_at(lead))
}

/// The largest element of a window, the first of equals: its tap and its position. The manuals rule NaN out; here it is above
/// all, and the last one counts, as in PyTorch.
fn largest(plane: &[f64], field: &Field) -> Option<(usize, usize)> {
    let mut best: Option<(usize, usize)> = None;
    for &(tap, at) in &field.taps {
        let better = best.is_none_or(|(_, old)| plane[at] > plane[old] || plane[at].is_nan());
        if better {
            best = Some((tap, at));
        }
    }
    best
}

/// Stores maxima, and where `indices` is given their positions in the plane.
fn store_maxima(
    x: &Tensor,
    windows: &Windows,
    out: &Tensor,
    indices: Option<&Tensor>,
) -> Result<(), Fault> {
    let fields = windows.fields();
    let (mut maxima, mut places) = (Vec::new(), Vec::new());
    for plane in x
        .load_vec::<f64>()
        .chunks_exact(volume(&windows.input).max(1))
    {
        for field in &fields {
            let best = largest(plane, field);
            maxima.push(best.map_or(f64::NEG_INFINITY, |(_, at)| plane[at]));
            places.push(best.map_or(0, |(_, at)| at as i64));
        }
    }
    out.store_slice(&maxima)?;
    indices.map_or(Ok(()), |indices| indices.store_slice(&places))
}

/// `self, kernel, strides, autoPad, pads, dilations, ceilMode, out`; here an empty stride is 1.
fn max_pool(call: &Call) -> Result<Work, Refusal> {
    let (x, out) = (call.tensor(0)?, call.tensor(7)?);
    let (lead, input) = split(call, &x, 2)?;
    if call.int(3)? != 0 {
        return Err(call.invalid("autoPad must be 0"));
    }
    let or_one = |index: usize| match call.optional_ints(index).unwrap_or(&[]) {
        [] => &[1][..],
        values => values,
    };
    let pads = match call.optional_ints(4).unwrap_or(&[]) {
        [] => &[0][..],
        [top, left, bottom, right] if top == bottom && left == right => &[*top, *left][..],
        values => values,
    };
    let sliding = Sliding {
        kernel: repeated(call, "kernelShape", call.ints(1)?, 2, 1)?,
        stride: repeated(call, "strides", or_one(2), 2, 1)?,
        padding: repeated(call, "pads", pads, 2, 0)?,
        dilation: repeated(call, "dilations", or_one(5), 2, 1)?,
        ceil: call.int(6)? != 0,
    };
    let windows = sliding.windows(call, input)?;
    call.expect_shape("out", &out, &[lead, &windows.output()].concat())?;
    if out.is_empty() {
        return Ok(Work::nothing());
    }
    Ok(Work::new(move || store_maxima(&x, &windows, &out, None)))
}

/// The windows of the maximum ops: kernel, stride, padding, dilation, ceilMode from `index` on.
fn max_windows(call: &Call, x: &Tensor, index: usize, rank: usize) -> Result<Windows, Refusal> {
    let (_, input) = split(call, x, rank)?;
    let mut sliding = Sliding::new(call, index, rank)?;
    sliding.dilation = repeated(call, "dilation", call.ints(index + 3)?, rank, 1)?;
    sliding.ceil = call.bool(index + 4)?;
    if rank == 2 && call.family() != Family::A950 && sliding.dilation.iter().any(|&step| step != 1)
    {
        return Err(call.invalid(format!("dilation is {:?}, wanted 1", sliding.dilation)));
    }
    sliding.windows(call, input)
}

fn max_with_indices(call: &Call, rank: usize) -> Result<Work, Refusal> {
    let (x, out, indices) = (call.tensor(0)?, call.tensor(6)?, call.tensor(7)?);
    let windows = max_windows(call, &x, 1, rank)?;
    maxima(call, x, windows, out, indices, rank)
}

fn adaptive_max(call: &Call, rank: usize) -> Result<Work, Refusal> {
    let (x, out, indices) = (call.tensor(0)?, call.tensor(2)?, call.tensor(3)?);
    let output = repeated(call, "outputSize", call.ints(1)?, rank, 1)?;
    let (_, input) = split(call, &x, rank)?;
    let windows = Windows::adaptive(input, &output);
    maxima(call, x, windows, out, indices, rank)
}

fn maxima(
    call: &Call,
    x: Tensor,
    windows: Windows,
    out: Tensor,
    indices: Tensor,
    rank: usize,
) -> Result<Work, Refusal> {
    let (lead, _) = split(call, &x, rank)?;
    let shape = [lead, &windows.output()].concat();
    call.expect_shape("out", &out, &shape)?;
    call.expect_shape("indices", &indices, &shape)?;
    if out.is_empty() {
        return Ok(Work::nothing());
    }
    Ok(Work::new(move || {
        store_maxima(&x, &windows, &out, Some(&indices))
    }))
}

/// Each gradient goes to the element that its index names.
fn max_backward(call: &Call, rank: usize) -> Result<Work, Refusal> {
    let (dy, x, indices) = (call.tensor(0)?, call.tensor(1)?, call.tensor(2)?);
    let out = call.tensor(call.count().saturating_sub(1))?;
    let (lead, input) = split(call, &x, rank)?;
    call.expect_shape("indices", &indices, dy.shape())?;
    call.expect_shape("gradInput", &out, x.shape())?;
    let (planes, size) = (volume(lead), volume(input));
    if out.is_empty() || !dy.count().is_multiple_of(planes) {
        return Ok(Work::nothing());
    }
    let (op, per_plane) = (call.name(), dy.count() / planes);
    Ok(Work::new(move || {
        let (grads, places) = (dy.load_vec::<f64>(), indices.load_vec::<i64>());
        let mut dx = vec![0f64; out.count()];
        for (number, (&g, &place)) in grads.iter().zip(&places).enumerate() {
            let at = super::common::checked_index(op, place, size)?;
            dx[number / per_plane * size + at] += g;
        }
        out.store_slice(&dx)
    }))
}

/// Bytes of one row of the opaque mask: one bit per window, padded as the kernel asks for.
fn mask_row(windows: usize) -> usize {
    (windows.div_ceil(16) + 1) * 32
}

fn expect_mask(
    call: &Call,
    mask: &Tensor,
    lead: &[usize],
    windows: &Windows,
) -> Result<(), Refusal> {
    let tail = [volume(&windows.kernel), mask_row(volume(&windows.output()))];
    call.expect_shape("indices", mask, &[lead, &tail].concat())
}

/// The maximum; the mask has a row of bits for each tap, one bit per window, set where the tap holds the maximum.
fn max_with_mask(call: &Call) -> Result<Work, Refusal> {
    let (x, out, mask) = (call.tensor(0)?, call.tensor(6)?, call.tensor(7)?);
    let windows = max_windows(call, &x, 1, 2)?;
    let (lead, _) = split(call, &x, 2)?;
    call.expect_shape("out", &out, &[lead, &windows.output()].concat())?;
    expect_mask(call, &mask, lead, &windows)?;
    if out.is_empty() {
        return Ok(Work::nothing());
    }
    Ok(Work::new(move || {
        let fields = windows.fields();
        let row = mask_row(fields.len());
        let block = row * volume(&windows.kernel);
        let mut bits = vec![0u8; mask.count()];
        let mut maxima = Vec::with_capacity(out.count());
        let values = x.load_vec::<f64>();
        let planes = values.chunks_exact(volume(&windows.input));
        for (plane, bits) in planes.zip(bits.chunks_exact_mut(block)) {
            for (number, field) in fields.iter().enumerate() {
                let (tap, at) = largest(plane, field).unwrap_or((0, 0));
                maxima.push(plane[at]);
                bits[tap * row + number / 8] |= 1 << (number % 8);
            }
        }
        out.store_slice(&maxima)?;
        let bits: Vec<i64> = bits.into_iter().map(i64::from).collect();
        mask.store_slice(&bits)
    }))
}

fn max_with_mask_backward(call: &Call) -> Result<Work, Refusal> {
    let (dy, x, mask, out) = (
        call.tensor(0)?,
        call.tensor(1)?,
        call.tensor(2)?,
        call.tensor(8)?,
    );
    let windows = max_windows(call, &x, 3, 2)?;
    let (lead, _) = split(call, &x, 2)?;
    call.expect_shape("gradOutput", &dy, &[lead, &windows.output()].concat())?;
    call.expect_shape("gradInput", &out, x.shape())?;
    expect_mask(call, &mask, lead, &windows)?;
    if out.is_empty() {
        return Ok(Work::nothing());
    }
    Ok(Work::new(move || {
        let fields = windows.fields();
        let row = mask_row(fields.len());
        let block = row * volume(&windows.kernel);
        let bits = mask.load_vec::<u8>();
        let grads = dy.load_vec::<f64>();
        let mut dx = vec![0f64; out.count()];
        let planes = dx
            .chunks_exact_mut(volume(&windows.input))
            .zip(bits.chunks_exact(block));
        for ((plane, bits), grads) in planes.zip(grads.chunks_exact(fields.len().max(1))) {
            for (number, (field, &g)) in fields.iter().zip(grads).enumerate() {
                for &(tap, at) in &field.taps {
                    if bits[tap * row + number / 8] >> (number % 8) & 1 == 1 {
                        plane[at] += g;
                    }
                }
            }
        }
        out.store_slice(&dx)
    }))
}

/// Windows and divisors of the mean ops.
struct Mean {
    fields: Vec<Field>,
    input: usize,
    include_padding: bool,
    divisor: Option<f64>,
}

impl Mean {
    /// Reads kernel, stride, padding, ceilMode, countIncludePad, divisorOverride from `index` on.
    fn new(call: &Call, input: &[usize], index: usize) -> Result<(Mean, Vec<usize>), Refusal> {
        let mut sliding = Sliding::new(call, index, input.len())?;
        sliding.ceil = call.bool(index + 3)?;
        let windows = sliding.windows(call, input)?;
        let divisor = call.int(index + 5)?;
        let mean = Mean {
            fields: windows.fields(),
            input: volume(input),
            include_padding: call.bool(index + 4)?,
            divisor: (divisor != 0).then_some(divisor as f64),
        };
        Ok((mean, windows.output()))
    }

    fn adaptive(input: &[usize], output: &[usize]) -> Mean {
        Mean {
            fields: Windows::adaptive(input, output).fields(),
            input: volume(input),
            include_padding: false,
            divisor: None,
        }
    }

    fn divisor(&self, field: &Field) -> f64 {
        self.divisor.unwrap_or(if self.include_padding {
            field.padded as f64
        } else {
            field.taps.len() as f64
        })
    }

    fn forward(&self, x: &Tensor, out: &Tensor) -> Result<(), Fault> {
        let mut means = Vec::with_capacity(out.count());
        for plane in x.load_vec::<f64>().chunks_exact(self.input.max(1)) {
            means.extend(self.fields.iter().map(|field| {
                let sum: f64 = field.taps.iter().map(|&(_, at)| plane[at]).sum();
                sum / self.divisor(field)
            }));
        }
        out.store_slice(&means)
    }

    fn backward(&self, dy: &Tensor, out: &Tensor) -> Result<(), Fault> {
        let grads = dy.load_vec::<f64>();
        let mut dx = vec![0f64; out.count()];
        let planes = dx.chunks_exact_mut(self.input.max(1));
        for (plane, grads) in planes.zip(grads.chunks_exact(self.fields.len().max(1))) {
            for (field, &g) in self.fields.iter().zip(grads) {
                let share = g / self.divisor(field);
                field.taps.iter().for_each(|&(_, at)| plane[at] += share);
            }
        }
        out.store_slice(&dx)
    }
}

fn average(call: &Call, rank: usize) -> Result<Work, Refusal> {
    let (x, out) = (
        call.tensor(0)?,
        call.tensor(call.count().saturating_sub(1))?,
    );
    let (lead, input) = split(call, &x, rank)?;
    let (mean, output) = Mean::new(call, input, 1)?;
    call.expect_shape("out", &out, &[lead, &output].concat())?;
    if out.is_empty() {
        return Err(call.invalid(format!("shape {:?} is empty", x.shape())));
    }
    Ok(Work::new(move || mean.forward(&x, &out)))
}

fn average_backward(call: &Call, rank: usize) -> Result<Work, Refusal> {
    let (dy, x) = (call.tensor(0)?, call.tensor(1)?);
    let out = call.tensor(call.count().saturating_sub(1))?;
    let (lead, input) = split(call, &x, rank)?;
    let (mean, output) = Mean::new(call, input, 2)?;
    call.expect_shape("gradOutput", &dy, &[lead, &output].concat())?;
    call.expect_shape("gradInput", &out, x.shape())?;
    Ok(Work::new(move || mean.backward(&dy, &out)))
}

fn adaptive_average(call: &Call, rank: usize) -> Result<Work, Refusal> {
    let (x, out) = (call.tensor(0)?, call.tensor(2)?);
    let (lead, input) = split(call, &x, rank)?;
    let output = repeated(call, "outputSize", call.ints(1)?, rank, 1)?;
    call.expect_shape("out", &out, &[lead, &output].concat())?;
    let mean = Mean::adaptive(input, &output);
    if out.is_empty() {
        return Ok(Work::nothing());
    }
    Ok(Work::new(move || mean.forward(&x, &out)))
}

fn adaptive_average_backward(call: &Call, rank: usize) -> Result<Work, Refusal> {
    let (dy, x, out) = (call.tensor(0)?, call.tensor(1)?, call.tensor(2)?);
    let (lead, input) = split(call, &x, rank)?;
    let (grad_lead, output) = split(call, &dy, rank)?;
    call.expect_shape("out", &out, x.shape())?;
    if lead != grad_lead {
        return Err(call.invalid(format!("gradients {:?} of {:?}", dy.shape(), x.shape())));
    }
    let mean = Mean::adaptive(input, output);
    if out.is_empty() || dy.is_empty() {
        return Ok(Work::nothing());
    }
    Ok(Work::new(move || mean.backward(&dy, &out)))
}
