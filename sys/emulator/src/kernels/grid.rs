//! Images sampled at the points of a grid, and grids from affine maps.
//!
//! Knows the kernel interface; it must not know streams, handles or device memory.

use super::common::{same_dtype, volume};
use crate::failure::Refusal;
use crate::kernel::{Call, Prepare, Work};

/// This family's ops.
pub(crate) const KERNELS: &[(&str, Prepare)] = &[
    ("aclnnGridSampler2D", |call| sample(call, 2)),
    ("aclnnGridSampler3D", |call| sample(call, 3)),
    ("aclnnGridSampler2DBackward", |call| {
        sample_backward(call, 2)
    }),
    ("aclnnGridSampler3DBackward", |call| {
        sample_backward(call, 3)
    }),
    ("aclnnAffineGrid", affine as Prepare),
];

/// How a value between pixels is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Blend {
    Linear,
    Nearest,
    Cubic,
}

/// What lies outside of the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outside {
    Zeros,
    Border,
    Reflection,
}

#[derive(Debug, Clone, Copy)]
struct Rule {
    blend: Blend,
    outside: Outside,
    corners: bool,
}

impl Rule {
    fn new(call: &Call, index: usize, dims: usize) -> Result<Rule, Refusal> {
        let (mode, padding) = (call.int(index)?, call.int(index + 1)?);
        let blend = match mode {
            0 => Blend::Linear,
            1 => Blend::Nearest,
            2 if dims == 2 => Blend::Cubic,
            _ => return Err(call.invalid(format!("interpolationMode is {mode} in {dims} dims"))),
        };
        let outside = match padding {
            0 => Outside::Zeros,
            1 => Outside::Border,
            2 => Outside::Reflection,
            _ => return Err(call.invalid(format!("paddingMode is {padding}, wanted 0 to 2"))),
        };
        Ok(Rule {
            blend,
            outside,
            corners: call.bool(index + 2)?,
        })
    }

    /// From [-1, 1] to pixels.
    fn pixel(self, x: f32, size: usize) -> f32 {
        let size = size as f32;
        if self.corners {
            (x + 1.0) / 2.0 * (size - 1.0)
        } else {
            ((x + 1.0) * size - 1.0) / 2.0
        }
    }

    /// A coordinate moved into the image, and what a step of the grid moves it by.
    fn inside(self, x: f32, size: usize) -> (f32, f32) {
        let last = size as f32 - 1.0;
        match self.outside {
            Outside::Zeros => (x, 1.0),
            Outside::Border => clip(x, last),
            Outside::Reflection => {
                let (low, high) = if self.corners {
                    (0.0, last)
                } else {
                    (-0.5, last + 0.5)
                };
                let (reflected, turn) = reflect(x, low, high);
                let (clipped, step) = clip(reflected, last);
                (clipped, turn * step)
            }
        }
    }

    /// The pixels along one dim that a coordinate takes from: place, weight, slope of the weight.
    fn taps(self, grid: f32, size: usize) -> Vec<(i64, f32, f32)> {
        let raw = self.pixel(grid, size);
        let step = self.pixel(1.0, size) - self.pixel(0.0, size);
        if self.blend == Blend::Cubic {
            let (start, t) = (raw.floor(), raw - raw.floor());
            return (-1i64..3)
                .map(|tap| {
                    let (weight, slope) = cubic(t - tap as f32);
                    let place = self.inside(start + tap as f32, size).0;
                    (place as i64, weight, slope * step)
                })
                .collect();
        }
        let (x, turn) = self.inside(raw, size);
        if self.blend == Blend::Nearest {
            return vec![(x.round_ties_even() as i64, 1.0, 0.0)];
        }
        let (start, t) = (x.floor(), x - x.floor());
        let slope = turn * step;
        vec![
            (start as i64, 1.0 - t, -slope),
            (start as i64 + 1, t, slope),
        ]
    }
}

fn clip(x: f32, last: f32) -> (f32, f32) {
    if x <= 0.0 {
        (0.0, 0.0)
    } else if x >= last {
        (last, 0.0)
    } else {
        // NaN goes to the first pixel, as PyTorch clips it.
        (if x.is_nan() { 0.0 } else { x }, 1.0)
    }
}

/// Mirrors at both ends as often as needed.
fn reflect(x: f32, low: f32, high: f32) -> (f32, f32) {
    let span = high - low;
    if span <= 0.0 {
        return (0.0, 0.0);
    }
    let from_low = x - low;
    let (distance, sign) = (from_low.abs(), if from_low < 0.0 { -1.0 } else { 1.0 });
    let (turns, rest) = ((distance / span).floor(), distance % span);
    if turns % 2.0 == 0.0 {
        (low + rest, sign)
    } else {
        (high - rest, -sign)
    }
}

/// Keys' kernel with a = -0.75, and its slope.
fn cubic(t: f32) -> (f32, f32) {
    const A: f32 = -0.75;
    let (x, sign) = (t.abs(), if t < 0.0 { -1.0 } else { 1.0 });
    if x <= 1.0 {
        let weight = ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0;
        (weight, sign * (3.0 * (A + 2.0) * x - 2.0 * (A + 3.0)) * x)
    } else {
        let weight = ((A * x - 5.0 * A) * x + 8.0 * A) * x - 4.0 * A;
        (weight, sign * ((3.0 * A * x - 10.0 * A) * x + 8.0 * A))
    }
}

/// The sizes of a call: samples, channels, image and grid.
struct Sizes {
    batch: usize,
    channels: usize,
    image: Vec<usize>,
    points: usize,
}

fn sizes(
    call: &Call,
    image: &[usize],
    grid: &[usize],
    dims: usize,
) -> Result<(Sizes, Vec<usize>), Refusal> {
    let fits = image.len() == dims + 2
        && grid.len() == dims + 2
        && grid[0] == image[0]
        && grid[dims + 1] == dims
        && image[2..].iter().all(|&dim| dim > 0);
    if !fits {
        return Err(call.invalid(format!("input {image:?} and grid {grid:?} do not fit")));
    }
    let mut out = vec![image[0], image[1]];
    out.extend(&grid[1..=dims]);
    Ok((
        Sizes {
            batch: image[0],
            channels: image[1],
            image: image[2..].to_vec(),
            points: volume(&grid[1..=dims]),
        },
        out,
    ))
}

/// A pixel that a point takes from: where, its weight, and how the weight changes with each coordinate of the grid.
struct Tap {
    at: usize,
    weight: f32,
    slopes: Vec<f32>,
}

/// All pixels that one point of the grid takes from; the grid's last coordinate belongs to the first dim of the image.
fn taps(rule: Rule, image: &[usize], point: &[f32]) -> Vec<Tap> {
    let dims = image.len();
    let mut all = vec![Tap {
        at: 0,
        weight: 1.0,
        slopes: vec![1.0; dims],
    }];
    for (axis, &size) in image.iter().enumerate() {
        let own = dims - 1 - axis;
        let along = rule.taps(point[own], size);
        all = all
            .iter()
            .flat_map(|tap| {
                along.iter().filter_map(move |&(place, weight, slope)| {
                    let place = usize::try_from(place).ok().filter(|&place| place < size)?;
                    let factor = |axis: usize| if axis == own { slope } else { weight };
                    let slopes = tap.slopes.iter().enumerate();
                    Some(Tap {
                        at: tap.at * size + place,
                        weight: tap.weight * weight,
                        slopes: slopes.map(|(axis, before)| before * factor(axis)).collect(),
                    })
                })
            })
            .collect();
    }
    all
}

/// `out[n, c, p] = Σ weight input[n, c, tap]` over the taps of grid point p.
fn sample(call: &Call, dims: usize) -> Result<Work, Refusal> {
    let (x, grid, out) = (call.tensor(0)?, call.tensor(1)?, call.tensor(5)?);
    let rule = Rule::new(call, 2, dims)?;
    let (sizes, shape) = sizes(call, x.shape(), grid.shape(), dims)?;
    same_dtype(call, "grid", &grid, &x)?;
    call.expect_shape("out", &out, &shape)?;
    Ok(Work::new(move || {
        let (values, points) = (x.load_vec::<f32>(), grid.load_vec::<f32>());
        let plane = volume(&sizes.image);
        let mut result = vec![0f32; out.count()];
        for batch in 0..sizes.batch {
            for at in 0..sizes.points {
                let point = &points[(batch * sizes.points + at) * dims..][..dims];
                let taps = taps(rule, &sizes.image, point);
                for channel in 0..sizes.channels {
                    let lead = batch * sizes.channels + channel;
                    result[lead * sizes.points + at] = taps
                        .iter()
                        .map(|tap| tap.weight * values[lead * plane + tap.at])
                        .sum();
                }
            }
        }
        out.store_slice(&result)
    }))
}

fn sample_backward(call: &Call, dims: usize) -> Result<Work, Refusal> {
    let (dy, x, grid) = (call.tensor(0)?, call.tensor(1)?, call.tensor(2)?);
    let rule = Rule::new(call, 3, dims)?;
    let mask = call.bools(6)?.to_vec();
    let (dx, dgrid) = (call.optional_tensor(7), call.optional_tensor(8));
    let (sizes, shape) = sizes(call, x.shape(), grid.shape(), dims)?;
    call.expect_shape("gradOutput", &dy, &shape)?;
    let wanted = |index: usize| mask.get(index).copied().unwrap_or(true);
    for (index, what, tensor, like) in [(0, "inputGrad", &dx, &x), (1, "gridGrad", &dgrid, &grid)] {
        if let Some(tensor) = tensor.as_ref().filter(|_| wanted(index)) {
            call.expect_shape(what, tensor, like.shape())?;
        }
    }
    let (dx, dgrid) = (dx.filter(|_| wanted(0)), dgrid.filter(|_| wanted(1)));
    Ok(Work::new(move || {
        let (values, points) = (x.load_vec::<f32>(), grid.load_vec::<f32>());
        let grads = dy.load_vec::<f32>();
        let plane = volume(&sizes.image);
        let (mut image, mut moved) = (vec![0f32; x.count()], vec![0f32; grid.count()]);
        for batch in 0..sizes.batch {
            for at in 0..sizes.points {
                let start = (batch * sizes.points + at) * dims;
                for tap in taps(rule, &sizes.image, &points[start..start + dims]) {
                    for channel in 0..sizes.channels {
                        let lead = batch * sizes.channels + channel;
                        let grad = grads[lead * sizes.points + at];
                        let pixel = lead * plane + tap.at;
                        image[pixel] += tap.weight * grad;
                        for (axis, slope) in tap.slopes.iter().enumerate() {
                            moved[start + axis] += slope * values[pixel] * grad;
                        }
                    }
                }
            }
        }
        if let Some(dx) = &dx {
            dx.store_slice(&image)?;
        }
        match &dgrid {
            Some(dgrid) => dgrid.store_slice(&moved),
            None => Ok(()),
        }
    }))
}

/// `out[n, y, x, :] = theta[n] (x', y', 1)` with x' and y' from -1 to 1: at the corners, or at the pixels' middles.
fn affine(call: &Call) -> Result<Work, Refusal> {
    let (theta, out) = (call.tensor(0)?, call.tensor(3)?);
    let (size, corners) = (call.ints(1)?, call.bool(2)?);
    let image: Vec<usize> = size.iter().skip(2).map(|&dim| dim as usize).collect();
    let (dims, batch) = (image.len(), size.first().map_or(0, |&dim| dim as usize));
    if !matches!(dims, 2 | 3) {
        return Err(call.invalid(format!("size is {size:?}, wanted 4 or 5 numbers")));
    }
    call.expect_shape("theta", &theta, &[batch, dims, dims + 1])?;
    let mut shape = vec![batch];
    shape.extend(&image);
    shape.push(dims);
    call.expect_shape("out", &out, &shape)?;
    Ok(Work::new(move || {
        let theta = theta.load_vec::<f32>();
        let along = |index: usize, size: usize| match (corners, size) {
            (_, 0 | 1) => 0.0,
            (true, _) => 2.0 * index as f32 / (size as f32 - 1.0) - 1.0,
            (false, _) => (2.0 * index as f32 + 1.0) / size as f32 - 1.0,
        };
        let mut grid = Vec::with_capacity(out.count());
        for batch in 0..batch {
            for place in 0..volume(&image) {
                let (mut rest, mut point) = (place, vec![1f32; dims + 1]);
                for (axis, &size) in image.iter().enumerate().rev() {
                    point[dims - 1 - axis] = along(rest % size, size);
                    rest /= size;
                }
                for row in 0..dims {
                    let map = &theta[(batch * dims + row) * (dims + 1)..][..=dims];
                    grid.push(map.iter().zip(&point).map(|(a, b)| a * b).sum::<f32>());
                }
            }
        }
        out.store_slice(&grid)
    }))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{arg, assert_close, floats, ints, run};
    use crate::kernel::Arg;

    #[test]
    fn points_between_pixels() {
        let x = floats(&[1, 1, 2, 2], &[0., 1., 2., 3.]);
        let grid = floats(&[1, 1, 2, 2], &[0., 0., 1., 1.]);
        let out = floats(&[1, 1, 1, 2], &[0.; 2]);
        let mut call = vec![
            arg(&x),
            arg(&grid),
            Arg::Int(0),
            Arg::Int(0),
            Arg::Bool(true),
            arg(&out),
        ];
        run("aclnnGridSampler2D", &call).expect("a sample");
        assert_close(&out, &[1.5, 3.0], 0.);
        // Without corners the point (1, 1) lies half a pixel outside in both dims.
        call[4] = Arg::Bool(false);
        run("aclnnGridSampler2D", &call).expect("a sample");
        assert_close(&out, &[1.5, 0.75], 0.);
        let (dx, dgrid) = (
            floats(&[1, 1, 2, 2], &[0.; 4]),
            floats(&[1, 1, 2, 2], &[0.; 4]),
        );
        let dy = floats(&[1, 1, 1, 2], &[1., 0.]);
        let call = [
            arg(&dy),
            arg(&x),
            arg(&grid),
            Arg::Int(0),
            Arg::Int(0),
            Arg::Bool(true),
            Arg::Bools(Some(vec![true, true])),
            arg(&dx),
            arg(&dgrid),
        ];
        run("aclnnGridSampler2DBackward", &call).expect("the gradients");
        assert_close(&dx, &[0.25; 4], 0.);
        assert_close(&dgrid, &[0.5, 1., 0., 0.], 1e-6);
    }

    #[test]
    fn the_identity_gives_the_corners() {
        let theta = floats(&[1, 2, 3], &[1., 0., 0., 0., 1., 0.]);
        let out = floats(&[1, 2, 2, 2], &[0.; 8]);
        let call = [arg(&theta), ints(&[1, 1, 2, 2]), Arg::Bool(true), arg(&out)];
        run("aclnnAffineGrid", &call).expect("a grid");
        assert_close(&out, &[-1., -1., 1., -1., -1., 1., 1., 1.], 0.);
    }
}
