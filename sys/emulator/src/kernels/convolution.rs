//! Convolution over one, two or three dims, plain and transposed, with groups, and its gradients.
//!
//! A window matrix times the weights, group by group. A transposed convolution is the input gradient of a plain one.
//! Knows the kernel interface; it must not know streams, handles or device memory.

use super::common::volume;
use super::matmul::Precision;
use super::norm::masked_output;
use crate::failure::{Fault, Refusal};
use crate::kernel::{Call, Family, Prepare, Work};
use crate::promote::promote;
use crate::tensor::Tensor;
use ndarray::{Array2, ArrayView2};

/// This family's ops.
pub(crate) const KERNELS: &[(&str, Prepare)] = &[
    ("aclnnConvolution", convolution as Prepare),
    ("aclnnConvDepthwise2d", depthwise as Prepare),
    ("aclnnConvolutionBackward", convolution_backward as Prepare),
];

/// No input element: the tap lies in the padding.
const OUTSIDE: usize = usize::MAX;

/// A plain convolution between two tensors of three spatial dims; missing dims are 1.
#[derive(Debug, Clone)]
struct Geometry {
    batch: usize,
    groups: usize,
    /// Channels of the wide side (what a plain convolution reads) and of the narrow side (what it writes), per group.
    wide: usize,
    narrow: usize,
    wide_volume: usize,
    narrow_volume: usize,
    /// For each tap and each narrow position, the wide position.
    taps: Vec<usize>,
    kernel: usize,
}

/// The attributes of a call.
#[derive(Debug, Clone)]
struct Attributes {
    stride: Vec<usize>,
    before: Vec<usize>,
    after: Vec<usize>,
    dilation: Vec<usize>,
    extra: Vec<usize>,
    transposed: bool,
    groups: usize,
}

/// `rank` values; one value stands for all.
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

impl Attributes {
    /// Reads stride, padding, dilation, transposed, outputPadding, groups from `index` on.
    fn new(
        call: &Call,
        index: usize,
        rank: usize,
        sided: std::ops::RangeInclusive<usize>,
    ) -> Result<Attributes, Refusal> {
        let transposed = call.bool(index + 3)?;
        let sided = if transposed { 2..=2 } else { sided };
        let (before, after) = padding_of(call, call.ints(index + 1)?, rank, sided)?;
        let groups = call.int(index + 5)?;
        Ok(Attributes {
            stride: repeated(call, "stride", call.ints(index)?, rank, 1)?,
            before,
            after,
            dilation: repeated(call, "dilation", call.ints(index + 2)?, rank, 1)?,
            extra: match call.optional_ints(index + 4) {
                Some(values) if transposed && !values.is_empty() => {
                    repeated(call, "outputPadding", values, rank, 0)?
                }
                _ => vec![0; rank],
            },
            transposed,
            groups: usize::try_from(groups)
                .ok()
                .filter(|&groups| groups > 0)
                .ok_or_else(|| call.invalid(format!("groups is {groups}")))?,
        })
    }
}

/// Which way a call goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pass {
    Forward,
    Backward,
}

impl Attributes {
    /// The ranges of the training chips' manuals: kernels up to 255, or 511 on three dims forward, padding and dilation up to
    /// 255, strides of three dims up to 63; in plain passes of one and two dims forward, only the padding is limited.
    fn expect_limits(&self, call: &Call, weight: &[usize], pass: Pass) -> Result<(), Refusal> {
        if !matches!(call.family(), Family::A2 | Family::A3) {
            return Ok(());
        }
        let rank = self.stride.len();
        // The first of three dims is free.
        let last = |values: &[usize]| values.iter().skip(rank.saturating_sub(2)).copied().max();
        let back = self.transposed || pass == Pass::Backward;
        let kernel = weight.get(2..).unwrap_or(&[]);
        let limits = [
            (
                "weight",
                kernel,
                if back { 255 } else { 511 },
                back || rank == 3,
            ),
            ("padding", &self.before[..], 255, true),
            ("padding", &self.after[..], 255, true),
            ("dilation", &self.dilation[..], 255, back || rank == 3),
            ("stride", &self.stride[..], 63, rank == 3),
        ];
        for (what, values, most, counts) in limits {
            if counts && last(values).is_some_and(|value| value > most) {
                return Err(call.invalid(format!("{what} is {values:?}, wanted at most {most}")));
            }
        }
        Ok(())
    }
}

/// Padding before and after each dim: one value per dim, or two (before and after) for the ranks `sided`.
fn padding_of(
    call: &Call,
    values: &[i64],
    rank: usize,
    sided: std::ops::RangeInclusive<usize>,
) -> Result<(Vec<usize>, Vec<usize>), Refusal> {
    if values.len() == 2 * rank && sided.contains(&rank) {
        let all = repeated(call, "padding", values, 2 * rank, 0)?;
        let side = |first: usize| all.iter().skip(first).step_by(2).copied().collect();
        return Ok((side(0), side(1)));
    }
    let all = repeated(call, "padding", values, rank, 0)?;
    Ok((all.clone(), all))
}

impl Geometry {
    /// From the shapes of input and weight; also gives the shape of the output.
    fn new(
        call: &Call,
        input: &[usize],
        weight: &[usize],
        attributes: &Attributes,
    ) -> Result<(Geometry, Vec<usize>), Refusal> {
        let refuse = || call.invalid(format!("input {input:?} and weight {weight:?} do not fit"));
        let (&[batch, channels, ref space @ ..], &[first, second, ref kernel @ ..]) =
            (input, weight)
        else {
            return Err(refuse());
        };
        let groups = attributes.groups;
        let reads = if attributes.transposed {
            first
        } else {
            second * groups
        };
        let writes = if attributes.transposed {
            second * groups
        } else {
            first
        };
        if space.len() != kernel.len() || channels != reads || !first.is_multiple_of(groups) {
            return Err(refuse());
        }
        let result = (0..space.len())
            .map(|axis| output_size(call, space[axis], kernel[axis], axis, attributes))
            .collect::<Result<Vec<_>, _>>()?;
        let (wide, narrow) = if attributes.transposed {
            (&result[..], space)
        } else {
            (space, &result[..])
        };
        let geometry = Geometry {
            batch,
            groups,
            wide: second,
            narrow: first / groups,
            wide_volume: volume(wide),
            narrow_volume: volume(narrow),
            taps: taps(wide, narrow, kernel, attributes),
            kernel: volume(kernel),
        };
        Ok((geometry, [&[batch, writes], &result[..]].concat()))
    }

    /// The window matrix of one group of one sample: a row for each channel and tap, a column for each narrow position.
    fn windows(&self, x: &[f32]) -> Array2<f32> {
        let mut columns = Vec::with_capacity(self.wide * self.taps.len());
        for channel in 0..self.wide {
            let plane = &x[channel * self.wide_volume..(channel + 1) * self.wide_volume];
            columns.extend(
                self.taps
                    .iter()
                    .map(|&at| plane.get(at).copied().unwrap_or(0.0)),
            );
        }
        matrix(self.wide * self.kernel, self.narrow_volume, columns)
    }

    /// Adds a window matrix back to the elements that it came from.
    fn unfold(&self, windows: &Array2<f32>, x: &mut [f32]) {
        let mut values = windows.iter();
        for channel in 0..self.wide {
            let plane = &mut x[channel * self.wide_volume..(channel + 1) * self.wide_volume];
            for (&at, &value) in self.taps.iter().zip(values.by_ref()) {
                if let Some(target) = plane.get_mut(at) {
                    *target += value;
                }
            }
        }
    }

    /// Visits each group of each sample: its group, and the starts of its wide and narrow channels.
    fn blocks(&self) -> impl Iterator<Item = (usize, usize, usize)> + '_ {
        let (wide, narrow) = (
            self.wide * self.wide_volume,
            self.narrow * self.narrow_volume,
        );
        (0..self.batch * self.groups)
            .map(move |block| (block % self.groups, block * wide, block * narrow))
    }

    fn group<'a>(&self, weight: &'a [f32], group: usize) -> Result<ArrayView2<'a, f32>, Fault> {
        let size = self.narrow * self.wide * self.kernel;
        view(
            self.narrow,
            self.wide * self.kernel,
            &weight[group * size..(group + 1) * size],
        )
    }

    fn narrow_view<'a>(&self, y: &'a [f32], start: usize) -> Result<ArrayView2<'a, f32>, Fault> {
        let size = self.narrow * self.narrow_volume;
        view(self.narrow, self.narrow_volume, &y[start..start + size])
    }

    /// What a plain convolution writes.
    fn forward(&self, x: &[f32], weight: &[f32]) -> Result<Vec<f32>, Fault> {
        let mut y = Vec::with_capacity(self.batch * self.groups * self.narrow * self.narrow_volume);
        for (group, wide, _) in self.blocks() {
            y.extend(
                self.group(weight, group)?
                    .dot(&self.windows(&x[wide..]))
                    .iter(),
            );
        }
        Ok(y)
    }

    /// The gradient to what it reads.
    fn to_input(&self, dy: &[f32], weight: &[f32]) -> Result<Vec<f32>, Fault> {
        let mut dx = vec![0f32; self.batch * self.groups * self.wide * self.wide_volume];
        for (group, wide, narrow) in self.blocks() {
            let windows = self
                .group(weight, group)?
                .t()
                .dot(&self.narrow_view(dy, narrow)?);
            let windows = windows.as_standard_layout().into_owned();
            self.unfold(&windows, &mut dx[wide..]);
        }
        Ok(dx)
    }

    /// The gradient to the weights.
    fn to_weight(&self, x: &[f32], dy: &[f32]) -> Result<Vec<f32>, Fault> {
        let rows = self.narrow;
        let columns = self.wide * self.kernel;
        let mut sums = vec![Array2::<f32>::zeros((rows, columns)); self.groups];
        for (group, wide, narrow) in self.blocks() {
            let product = self
                .narrow_view(dy, narrow)?
                .dot(&self.windows(&x[wide..]).t());
            if let Some(sum) = sums.get_mut(group) {
                *sum += &product;
            }
        }
        Ok(sums.iter().flat_map(|sum| sum.iter().copied()).collect())
    }
}

fn matrix(rows: usize, columns: usize, values: Vec<f32>) -> Array2<f32> {
    Array2::from_shape_vec((rows, columns), values)
        .unwrap_or_else(|_| Array2::zeros((rows, columns)))
}

fn view(rows: usize, columns: usize, values: &[f32]) -> Result<ArrayView2<'_, f32>, Fault> {
    ArrayView2::from_shape((rows, columns), values)
        .map_err(|_| Fault::exception("operands of a convolution do not fit"))
}

fn output_size(
    call: &Call,
    size: usize,
    kernel: usize,
    axis: usize,
    attributes: &Attributes,
) -> Result<usize, Refusal> {
    let pick = |values: &[usize]| values.get(axis).copied().unwrap_or(1);
    let (stride, dilation) = (pick(&attributes.stride), pick(&attributes.dilation));
    let padding = pick(&attributes.before) + pick(&attributes.after);
    let span = dilation * kernel.saturating_sub(1) + 1;
    let result = if attributes.transposed {
        let extra = pick(&attributes.extra);
        if extra >= stride.max(dilation) {
            return Err(call.invalid(format!(
                "outputPadding {extra} is not below the stride or dilation"
            )));
        }
        (size.max(1) - 1) * stride + span + extra
    } else {
        size + padding
    };
    let lowest = if attributes.transposed {
        padding + 1
    } else {
        span
    };
    if result < lowest || kernel == 0 {
        return Err(call.invalid(format!(
            "a kernel of {kernel} does not fit into {size} in dim {axis}"
        )));
    }
    Ok(if attributes.transposed {
        result - padding
    } else {
        (result - span) / stride + 1
    })
}

/// For each tap and each narrow position the wide position, or [`OUTSIDE`].
fn taps(wide: &[usize], narrow: &[usize], kernel: &[usize], attributes: &Attributes) -> Vec<usize> {
    let mut taps = vec![0usize];
    let (mut kernel_count, mut narrow_count) = (1, 1);
    for (axis, (&wide, (&narrow, &kernel))) in
        wide.iter().zip(narrow.iter().zip(kernel)).enumerate()
    {
        let mut next = vec![OUTSIDE; taps.len() * kernel * narrow];
        for (at, &start) in taps.iter().enumerate() {
            let (old_tap, old_place) = (at / narrow_count, at % narrow_count);
            for tap in 0..kernel {
                for place in 0..narrow {
                    let padded = place * attributes.stride[axis] + tap * attributes.dilation[axis];
                    let inside = padded
                        .checked_sub(attributes.before[axis])
                        .filter(|&at| at < wide);
                    let slot =
                        ((old_tap * kernel + tap) * narrow_count + old_place) * narrow + place;
                    if let (Some(inside), true) = (inside, start != OUTSIDE) {
                        next[slot] = start * wide + inside;
                    }
                }
            }
        }
        taps = next;
        kernel_count *= kernel;
        narrow_count *= narrow;
    }
    debug_assert_eq!(taps.len(), kernel_count * narrow_count);
    taps
}

fn load(tensor: &Tensor, precision: Precision) -> Vec<f32> {
    if precision == Precision::Exact {
        return tensor.load_vec();
    }
    let mut values = tensor.load::<f32>();
    precision.round(&mut values);
    values.into_iter().collect()
}

fn convolution(call: &Call) -> Result<Work, Refusal> {
    let (x, weight) = (call.tensor(0)?, call.tensor(1)?);
    let attributes = Attributes::new(call, 3, spatial_rank(call, &x)?, 1..=2)?;
    attributes.expect_limits(call, weight.shape(), Pass::Forward)?;
    convolve(call, x, weight, call.optional_tensor(2), &attributes, 9)
}

/// `self, weight, kernelSize, bias, stride, padding, dilation, out`: one group for each input channel.
fn depthwise(call: &Call) -> Result<Work, Refusal> {
    let (x, weight) = (call.tensor(0)?, call.tensor(1)?);
    let rank = spatial_rank(call, &x)?;
    let (before, after) = padding_of(call, call.ints(5)?, rank, 2..=2)?;
    let attributes = Attributes {
        stride: repeated(call, "stride", call.ints(4)?, rank, 1)?,
        before,
        after,
        dilation: repeated(call, "dilation", call.ints(6)?, rank, 1)?,
        extra: vec![0; rank],
        transposed: false,
        groups: x.shape().get(1).copied().unwrap_or(1).max(1),
    };
    convolve(call, x, weight, call.optional_tensor(3), &attributes, 7)
}

fn spatial_rank(call: &Call, x: &Tensor) -> Result<usize, Refusal> {
    if (3..=5).contains(&x.rank()) {
        return Ok(x.rank() - 2);
    }
    Err(call.invalid(format!(
        "input has shape {:?}, wanted 3 to 5 dims",
        x.shape()
    )))
}

fn precision_of(call: &Call, index: usize, x: &Tensor, y: &Tensor) -> Result<Precision, Refusal> {
    let dtype = promote(x.dtype(), y.dtype())
        .ok_or_else(|| call.invalid(format!("{} and {} do not promote", x.dtype(), y.dtype())))?;
    Precision::of(call, index, dtype)
}

/// `output` is the parameter of the output; cubeMathType follows it.
fn convolve(
    call: &Call,
    x: Tensor,
    weight: Tensor,
    bias: Option<Tensor>,
    attributes: &Attributes,
    output: usize,
) -> Result<Work, Refusal> {
    let (geometry, shape) = Geometry::new(call, x.shape(), weight.shape(), attributes)?;
    let out = call.tensor(output)?;
    let precision = precision_of(call, output + 1, &x, &weight)?;
    call.expect_shape("output", &out, &shape)?;
    if let Some(bias) = &bias {
        let channels = shape.get(1).copied().unwrap_or(0);
        if bias.count() != channels {
            return Err(call.invalid(format!(
                "bias has shape {:?}, wanted [{channels}]",
                bias.shape()
            )));
        }
    }
    if out.is_empty() {
        return Ok(Work::nothing());
    }
    let transposed = attributes.transposed;
    Ok(Work::new(move || {
        let (x, weight) = (load(&x, precision), load(&weight, precision));
        let mut y = if transposed {
            geometry.to_input(&x, &weight)?
        } else {
            geometry.forward(&x, &weight)?
        };
        if let Some(bias) = &bias {
            let bias = bias.load_vec::<f32>();
            let inner = volume(out.shape().get(2..).unwrap_or(&[]));
            for (plane, b) in y.chunks_exact_mut(inner).zip(bias.iter().cycle()) {
                plane.iter_mut().for_each(|value| *value += b);
            }
        }
        out.store_slice(&y)
    }))
}

fn convolution_backward(call: &Call) -> Result<Work, Refusal> {
    let (dy, x, weight) = (call.tensor(0)?, call.tensor(1)?, call.tensor(2)?);
    let attributes = Attributes::new(call, 4, spatial_rank(call, &x)?, 2..=2)?;
    attributes.expect_limits(call, weight.shape(), Pass::Backward)?;
    let (geometry, shape) = Geometry::new(call, x.shape(), weight.shape(), &attributes)?;
    call.expect_shape("gradOutput", &dy, &shape)?;
    let mask = call.bools(10)?;
    let precision = precision_of(call, 11, &x, &weight)?;
    let channels = shape.get(1).copied().unwrap_or(0);
    let dx = masked_output(call, mask, 0, 12, x.shape())?;
    let dw = masked_output(call, mask, 1, 13, weight.shape())?;
    let db = masked_output(call, mask, 2, 14, &[channels])?;
    let transposed = attributes.transposed;
    Ok(Work::new(move || {
        let (dy, weight) = (load(&dy, precision), load(&weight, precision));
        if let Some(dx) = &dx {
            let values = if transposed {
                geometry.forward(&dy, &weight)?
            } else {
                geometry.to_input(&dy, &weight)?
            };
            dx.store_slice(&values)?;
        }
        if let Some(dw) = &dw {
            let x = load(&x, precision);
            let values = if transposed {
                geometry.to_weight(&dy, &x)?
            } else {
                geometry.to_weight(&x, &dy)?
            };
            dw.store_slice(&values)?;
        }
        if let Some(db) = &db {
            let inner = volume(shape.get(2..).unwrap_or(&[])).max(1);
            let mut sums = vec![0f64; channels];
            for (plane, values) in dy.chunks_exact(inner).enumerate() {
                sums[plane % channels] += values.iter().map(|&value| f64::from(value)).sum::<f64>();
            }
            db.store_slice(&sums)?;
        }
        Ok(())
    }))
}
