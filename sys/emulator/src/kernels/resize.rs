//! Resizing by nearest, linear and cubic interpolation, and the gradients.
//!
//! Each axis is a list of weighted taps per output index; the gradient uses the same taps the other way round.
//! Knows the kernel interface; it must not know streams, handles or device memory.

use super::common::volume;
use crate::dtype::DType;
use crate::failure::Refusal;
use crate::kernel::{Arg, Call, Prepare, Work};

/// This family's ops.
pub(crate) const KERNELS: &[(&str, Prepare)] = &[
    ("aclnnUpsampleNearest1d", |call| {
        forward(call, Mode::Nearest, 1)
    }),
    ("aclnnUpsampleNearest1dV2", |call| {
        forward(call, Mode::Nearest, 1)
    }),
    ("aclnnUpsampleNearest2d", |call| {
        forward(call, Mode::Nearest, 2)
    }),
    ("aclnnUpsampleNearest2dV2", |call| {
        forward(call, Mode::Nearest, 2)
    }),
    ("aclnnUpsampleNearest3d", |call| {
        forward(call, Mode::Nearest, 3)
    }),
    ("aclnnUpsampleNearestExact1d", |call| {
        forward(call, Mode::Exact, 1)
    }),
    ("aclnnUpsampleNearestExact2d", |call| {
        forward(call, Mode::Exact, 2)
    }),
    ("aclnnUpsampleNearestExact3d", |call| {
        forward(call, Mode::Exact, 3)
    }),
    ("aclnnUpsampleLinear1d", |call| {
        forward(call, Mode::Linear, 1)
    }),
    ("aclnnUpsampleBilinear2d", |call| {
        forward(call, Mode::Linear, 2)
    }),
    ("aclnnUpsampleTrilinear3d", |call| {
        forward(call, Mode::Linear, 3)
    }),
    ("aclnnUpsampleBicubic2d", |call| {
        forward(call, Mode::Cubic, 2)
    }),
    ("aclnnUpsampleBilinear2dAA", |call| {
        forward(call, Mode::SmoothLinear, 2)
    }),
    ("aclnnUpsampleBicubic2dAA", |call| {
        forward(call, Mode::SmoothCubic, 2)
    }),
    ("aclnnUpsampleBilinear2dAABackward", |call| {
        backward(call, Mode::SmoothLinear, 2)
    }),
    ("aclnnUpsampleBicubic2dAAGrad", |call| {
        backward(call, Mode::SmoothCubic, 2)
    }),
    ("aclnnUpsampleNearest1dBackward", |call| {
        backward(call, Mode::Nearest, 1)
    }),
    ("aclnnUpsampleNearest2dBackward", |call| {
        backward(call, Mode::Nearest, 2)
    }),
    ("aclnnUpsampleNearest3dBackward", |call| {
        backward(call, Mode::Nearest, 3)
    }),
    ("aclnnUpsampleNearestExact1dBackward", |call| {
        backward(call, Mode::Exact, 1)
    }),
    ("aclnnUpsampleNearestExact2dBackward", |call| {
        backward(call, Mode::Exact, 2)
    }),
    ("aclnnUpsampleNearestExact3dBackward", |call| {
        backward(call, Mode::Exact, 3)
    }),
    ("aclnnUpsampleLinear1dBackward", |call| {
        backward(call, Mode::Linear, 1)
    }),
    ("aclnnUpsampleBilinear2dBackward", |call| {
        backward(call, Mode::Linear, 2)
    }),
    ("aclnnUpsampleBilinear2dBackwardV2", |call| {
        backward(call, Mode::Linear, 2)
    }),
    ("aclnnUpsampleTrilinear3dBackward", |call| {
        backward(call, Mode::Linear, 3)
    }),
    ("aclnnUpsampleBicubic2dBackward", |call| {
        backward(call, Mode::Cubic, 2)
    }),
];

/// How a value between two elements is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Nearest,
    Exact,
    Linear,
    Cubic,
    /// The kernel is as wide as the shrinking asks for.
    SmoothLinear,
    SmoothCubic,
}

/// For each output index its taps: input index and weight.
type AxisTaps = Vec<Vec<(usize, f64)>>;

/// Taps of one axis.
fn axis_taps(mode: Mode, input: usize, output: usize, align: bool, scale: Option<f32>) -> AxisTaps {
    let last = input.saturating_sub(1);
    let ratio = match scale {
        _ if align && output > 1 => last as f32 / (output - 1) as f32,
        _ if align => 0.0,
        Some(scale) => 1.0 / scale,
        None => input as f32 / output as f32,
    };
    (0..output)
        .map(|index| {
            let index = index as f32;
            let center = if align {
                index * ratio
            } else {
                (index + 0.5) * ratio - 0.5
            };
            match mode {
                Mode::Nearest => vec![(((index * ratio).floor() as usize).min(last), 1.0)],
                Mode::Exact => vec![((((index + 0.5) * ratio).floor() as usize).min(last), 1.0)],
                Mode::Linear => {
                    let center = center.max(0.0);
                    let low = (center.floor() as usize).min(last);
                    let part = (center - low as f32).clamp(0.0, 1.0);
                    vec![
                        (low, f64::from(1.0 - part)),
                        ((low + 1).min(last), f64::from(part)),
                    ]
                }
                Mode::Cubic => cubic_taps(center, last),
                Mode::SmoothLinear => smooth_taps((index + 0.5) * ratio, ratio, input, 1.0, |x| {
                    (1.0 - x).max(0.0)
                }),
                Mode::SmoothCubic => {
                    smooth_taps((index + 0.5) * ratio, ratio, input, 2.0, |x| cubic(x, -0.5))
                }
            }
        })
        .collect()
}

/// The cubic kernel at a distance.
fn cubic(distance: f64, a: f64) -> f64 {
    if distance <= 1.0 {
        ((a + 2.0) * distance - (a + 3.0)) * distance * distance + 1.0
    } else if distance < 2.0 {
        ((a * distance - 5.0 * a) * distance + 8.0 * a) * distance - 4.0 * a
    } else {
        0.0
    }
}

/// Four taps of the cubic kernel with a = −3/4; taps beyond the edge repeat the edge.
fn cubic_taps(center: f32, last: usize) -> Vec<(usize, f64)> {
    let base = center.floor();
    let part = f64::from(center - base);
    (-1i64..=2)
        .map(|step| {
            let at = (base as i64 + step).clamp(0, last as i64);
            (at as usize, cubic((part - step as f64).abs(), -0.75))
        })
        .collect()
}

/// Taps of a kernel of `reach` to each side, stretched by the ratio where the axis shrinks, with weights that sum to 1.
fn smooth_taps(
    center: f32,
    ratio: f32,
    input: usize,
    reach: f32,
    kernel: impl Fn(f64) -> f64,
) -> Vec<(usize, f64)> {
    let stretch = ratio.max(1.0);
    let from = (center - reach * stretch + 0.5).max(0.0) as usize;
    let to = ((center + reach * stretch + 0.5).max(0.0) as usize).min(input);
    let weight = |at: usize| kernel(f64::from(((at as f32 - center + 0.5) / stretch).abs()));
    let total: f64 = (from..to).map(&weight).sum();
    (from..to).map(|at| (at, weight(at) / total)).collect()
}

/// Taps of all axes of a resize from `input` to `output`, each as the flat offset and the product of the weights.
fn all_taps(axes: &[AxisTaps], input: &[usize]) -> AxisTaps {
    let mut all = vec![vec![(0usize, 1f64)]];
    for (taps, &size) in axes.iter().zip(input) {
        all = all
            .iter()
            .flat_map(|lead| {
                taps.iter().map(move |own| {
                    lead.iter()
                        .flat_map(|&(at, weight)| {
                            own.iter()
                                .map(move |&(next, more)| (at * size + next, weight * more))
                        })
                        .collect()
                })
            })
            .collect();
    }
    all
}

/// The sizes and taps of a call.
struct Plan {
    planes: usize,
    input: usize,
    taps: AxisTaps,
}

impl Plan {
    /// `wide` is the shape before the resize, `index` the first parameter after the sizes.
    fn new(
        call: &Call,
        mode: Mode,
        shapes: (&[usize], &[usize]),
        index: usize,
    ) -> Result<Plan, Refusal> {
        let (before, after) = shapes;
        let (lead, input) = before.split_at(2);
        let output = &after[2..];
        if lead != &after[..2] || input.contains(&0) || output.contains(&0) {
            return Err(call.invalid(format!("cannot resize {before:?} to {after:?}")));
        }
        let align = matches!(call.arg(index), Some(Arg::Bool(true)));
        let scales: Vec<f32> = (index..call.count())
            .filter_map(|index| match call.arg(index) {
                Some(Arg::Float(scale)) => Some(*scale as f32),
                _ => None,
            })
            .collect();
        let axes: Vec<AxisTaps> = input
            .iter()
            .zip(output)
            .enumerate()
            .map(|(axis, (&from, &to))| {
                let scale = scales.get(axis).copied().filter(|&scale| scale > 0.0);
                axis_taps(mode, from, to, align, scale)
            })
            .collect();
        Ok(Plan {
            planes: volume(lead),
            input: volume(input),
            taps: all_taps(&axes, input),
        })
    }
}

fn expect_planes(call: &Call, shape: &[usize], format: i32, rank: usize) -> Result<(), Refusal> {
    if shape.len() == rank + 2 && !matches!(format, 1 | 27) {
        return Ok(());
    }
    Err(call.invalid(format!(
        "shape {shape:?} with format {format}, wanted {} dims with the channels second",
        rank + 2
    )))
}

fn expect_sizes(call: &Call, index: usize, wanted: &[usize]) -> Result<(), Refusal> {
    let sizes = call.ints(index)?;
    let same = sizes.len() == wanted.len()
        && sizes
            .iter()
            .zip(wanted)
            .all(|(&size, &own)| usize::try_from(size) == Ok(own));
    if same {
        return Ok(());
    }
    Err(call.invalid(format!("sizes {sizes:?} do not fit the shape {wanted:?}")))
}

fn forward(call: &Call, mode: Mode, rank: usize) -> Result<Work, Refusal> {
    let (x, out) = (
        call.tensor(0)?,
        call.tensor(call.count().saturating_sub(1))?,
    );
    expect_planes(call, x.shape(), x.format(), rank)?;
    expect_planes(call, out.shape(), out.format(), rank)?;
    expect_sizes(call, 1, &out.shape()[2..])?;
    if mode == Mode::Linear && rank == 2 && x.dtype() == DType::F64 {
        return Err(call.invalid("doubles are taken with the channels last only"));
    }
    let plan = Plan::new(call, mode, (x.shape(), out.shape()), 2)?;
    Ok(Work::new(move || {
        let values = x.load_vec::<f64>();
        let mut result = Vec::with_capacity(out.count());
        for plane in values.chunks_exact(plan.input).take(plan.planes) {
            result.extend(plan.taps.iter().map(|taps| match taps.as_slice() {
                [(at, _)] => plane[*at],
                taps => taps.iter().map(|&(at, weight)| plane[at] * weight).sum(),
            }));
        }
        out.store_slice(&result)
    }))
}

fn backward(call: &Call, mode: Mode, rank: usize) -> Result<Work, Refusal> {
    let (dy, out) = (
        call.tensor(0)?,
        call.tensor(call.count().saturating_sub(1))?,
    );
    expect_planes(call, dy.shape(), dy.format(), rank)?;
    expect_planes(call, out.shape(), out.format(), rank)?;
    expect_sizes(call, 1, &dy.shape()[2..])?;
    expect_sizes(call, 2, out.shape())?;
    let plan = Plan::new(call, mode, (out.shape(), dy.shape()), 3)?;
    Ok(Work::new(move || {
        let grads = dy.load_vec::<f64>();
        let mut result = vec![0f64; out.count()];
        let planes = result.chunks_exact_mut(plan.input);
        for (plane, grads) in planes.zip(grads.chunks_exact(plan.taps.len())) {
            for (taps, &g) in plan.taps.iter().zip(grads) {
                for &(at, weight) in taps {
                    plane[at] += g * weight;
                }
            }
        }
        out.store_slice(&result)
    }))
}
