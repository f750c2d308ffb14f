//! Convolutions over up to three dims: what a plain one writes, and what its transposes give to its input and its weight.
//!
//! Knows geometry and row-major slices; a transposed convolution is the way back to the input. Must not know shape rules.

use super::conv_fast;
use super::dense::{as_f32, as_f32_mut, chunks};
use super::lane::Lane;
use super::simd::{Simd, vectorised};
use crate::error::Result;

/// A plain convolution: `y[o] = sum over c, t of w[o, c, t] x[c, t]`, group by group. Dims that are not there have size 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Geometry {
    pub batch: usize,
    pub groups: usize,
    /// Channels of a group that are read and written.
    pub inputs: usize,
    pub outputs: usize,
    /// Sizes of what is read and what is written.
    pub input: [usize; 3],
    pub output: [usize; 3],
    pub kernel: [usize; 3],
    pub stride: [usize; 3],
    pub padding: [usize; 3],
    pub dilation: [usize; 3],
}

/// A run of positions that one tap joins: output position `output + i` and input position `input + i * stride`.
struct Run {
    tap: usize,
    output: usize,
    input: usize,
    count: usize,
}

/// Multiplications that are worth a thread.
const GRAIN: usize = 64 * 1024;

impl Geometry {
    pub fn input_plane(&self) -> usize {
        self.input.iter().product()
    }

    pub fn output_plane(&self) -> usize {
        self.output.iter().product()
    }

    pub fn taps(&self) -> usize {
        self.kernel.iter().product()
    }

    /// How many planes of this many multiplications make up a thread's share.
    fn grain(work: usize) -> usize {
        (GRAIN / work.max(1)).max(1)
    }

    /// The output positions whose partner for a tap lies inside the input.
    fn inside(&self, axis: usize, tap: usize) -> std::ops::Range<usize> {
        let (stride, padding) = (self.stride[axis], self.padding[axis]);
        let reach = tap * self.dilation[axis];
        let low = padding.saturating_sub(reach).div_ceil(stride);
        let high = (self.input[axis] + padding)
            .saturating_sub(reach)
            .div_ceil(stride);
        low..high.min(self.output[axis]).max(low)
    }

    /// Where the partner of an output position inside lies.
    fn partner(&self, axis: usize, tap: usize, position: usize) -> usize {
        position * self.stride[axis] + tap * self.dilation[axis] - self.padding[axis]
    }

    /// Visits all runs of an output plane and an input plane.
    #[inline(always)]
    fn runs(&self, mut body: impl FnMut(Run)) {
        let [_, rows, columns] = self.output;
        for depth in 0..self.kernel[0] {
            for row in 0..self.kernel[1] {
                for column in 0..self.kernel[2] {
                    let tap = (depth * self.kernel[1] + row) * self.kernel[2] + column;
                    let across = self.inside(2, column);
                    if across.is_empty() {
                        continue;
                    }
                    let first = self.partner(2, column, across.start);
                    for z in self.inside(0, depth) {
                        for y in self.inside(1, row) {
                            let line =
                                self.partner(0, depth, z) * self.input[1] + self.partner(1, row, y);
                            body(Run {
                                tap,
                                output: (z * rows + y) * columns + across.start,
                                input: line * self.input[2] + first,
                                count: across.len(),
                            });
                        }
                    }
                }
            }
        }
    }

    /// What the convolution writes: `y[batch, groups * outputs, ..]` from `x[batch, groups * inputs, ..]`, plus the bias.
    pub fn forward<T: Lane>(
        &self,
        op: &'static str,
        x: &[T],
        w: &[T],
        bias: Option<&[T]>,
        y: &mut [T],
    ) -> Result<()> {
        if let (Some(x), Some(w), Some(y)) = (as_f32(x), as_f32(w), as_f32_mut(y))
            && (self.padding == [0; 3] || all_finite(w))
            && conv_fast::forward(op, self, x, w, bias.and_then(as_f32), y)?
        {
            return Ok(());
        }
        let (size, taps, step) = (self.input_plane(), self.taps(), self.stride[2]);
        let (channels, plane, simd) = (
            self.groups * self.outputs,
            self.output_plane(),
            Simd::best(),
        );
        let grain = Self::grain(self.inputs * taps * plane);
        chunks(y, plane, grain, |index, y| {
            let (sample, channel) = (index / channels, index % channels);
            y.fill(bias.map_or(T::ZERO, |bias| bias[channel]));
            let first = (sample * self.groups + channel / self.outputs) * self.inputs;
            vectorised!(simd, {
                for input in 0..self.inputs {
                    let x = &x[(first + input) * size..][..size];
                    let w = &w[(channel * self.inputs + input) * taps..][..taps];
                    self.runs(|run| {
                        let (factor, y) = (w[run.tap], &mut y[run.output..][..run.count]);
                        if step == 1 {
                            for (y, x) in y.iter_mut().zip(&x[run.input..]) {
                                *y = y.plus(factor.times(*x));
                            }
                        } else {
                            for (y, x) in y.iter_mut().zip(x[run.input..].iter().step_by(step)) {
                                *y = y.plus(factor.times(*x));
                            }
                        }
                    });
                }
            });
        });
        Ok(())
    }

    /// What the output gives back to the input: the gradient, or what a transposed convolution writes, plus its bias.
    pub fn input_gradient<T: Lane>(
        &self,
        op: &'static str,
        dy: &[T],
        w: &[T],
        bias: Option<&[T]>,
        dx: &mut [T],
    ) -> Result<()> {
        if let (Some(dy), Some(w), Some(dx)) = (as_f32(dy), as_f32(w), as_f32_mut(dx))
            && (self.taps() == 1 || all_finite(w))
            && conv_fast::input_gradient(op, self, dy, w, bias.and_then(as_f32), dx)?
        {
            return Ok(());
        }
        let (size, taps, step) = (self.output_plane(), self.taps(), self.stride[2]);
        let (channels, plane, simd) = (self.groups * self.inputs, self.input_plane(), Simd::best());
        let grain = Self::grain(self.outputs * taps * size);
        chunks(dx, plane, grain, |index, dx| {
            let (sample, channel) = (index / channels, index % channels);
            dx.fill(bias.map_or(T::ZERO, |bias| bias[channel]));
            let (group, input) = (channel / self.inputs, channel % self.inputs);
            vectorised!(simd, {
                for output in 0..self.outputs {
                    let output = group * self.outputs + output;
                    let dy = &dy[(sample * self.groups * self.outputs + output) * size..][..size];
                    let w = &w[(output * self.inputs + input) * taps..][..taps];
                    self.runs(|run| {
                        let (factor, dy) = (w[run.tap], &dy[run.output..][..run.count]);
                        if step == 1 {
                            for (dx, dy) in dx[run.input..].iter_mut().zip(dy) {
                                *dx = dx.plus(factor.times(*dy));
                            }
                        } else {
                            for (dx, dy) in dx[run.input..].iter_mut().step_by(step).zip(dy) {
                                *dx = dx.plus(factor.times(*dy));
                            }
                        }
                    });
                }
            });
        });
        Ok(())
    }

    /// What input and output give to the weight: `dw[groups * outputs, inputs, ..]`.
    pub fn weight_gradient<T: Lane>(
        &self,
        op: &'static str,
        x: &[T],
        dy: &[T],
        dw: &mut [T],
    ) -> Result<()> {
        if let (Some(x), Some(dy), Some(dw)) = (as_f32(x), as_f32(dy), as_f32_mut(dw))
            && conv_fast::weight_gradient(op, self, x, dy, dw)?
        {
            return Ok(());
        }
        let (size, plane) = (self.input_plane(), self.output_plane());
        let (taps, step, simd) = (self.taps(), self.stride[2], Simd::best());
        let grain = Self::grain(self.batch * taps * plane);
        chunks(dw, taps, grain, |index, dw| {
            let (channel, input) = (index / self.inputs, index % self.inputs);
            dw.fill(T::ZERO);
            let group = channel / self.outputs;
            vectorised!(simd, {
                for sample in 0..self.batch {
                    let from = (sample * self.groups + group) * self.inputs + input;
                    let to = sample * self.groups * self.outputs + channel;
                    let (x, dy) = (&x[from * size..][..size], &dy[to * plane..][..plane]);
                    self.runs(|run| {
                        let dy = &dy[run.output..][..run.count];
                        let sum = if step == 1 {
                            product(dy, &x[run.input..][..run.count])
                        } else {
                            let pairs = dy.iter().zip(x[run.input..].iter().step_by(step));
                            pairs.fold(T::ZERO, |sum, (dy, x)| sum.plus(dy.times(*x)))
                        };
                        dw[run.tap] = dw[run.tap].plus(sum);
                    });
                }
            });
        });
        Ok(())
    }

    /// The sum of each written channel: the gradient of a bias of `channels` over `plane` positions each.
    pub fn bias_gradient<T: Lane>(dy: &[T], channels: usize, plane: usize, db: &mut [T]) {
        db.fill(T::ZERO);
        if channels * plane == 0 {
            return;
        }
        for sample in dy.chunks_exact(channels * plane) {
            for (db, dy) in db.iter_mut().zip(sample.chunks_exact(plane)) {
                let sum = dy.iter().fold(T::ZERO, |sum, dy| sum.plus(*dy));
                *db = db.plus(sum);
            }
        }
    }
}

/// Whether no weight is infinite or NaN: the fast passes multiply zeros of the padding too, which such a weight would make NaN.
fn all_finite(w: &[f32]) -> bool {
    w.chunks(256)
        .all(|part| part.iter().fold(true, |all, w| all & w.is_finite()))
}

/// The sum of products, in several sums at once, which the compiler makes vectors of.
#[inline(always)]
fn product<T: Lane>(x: &[T], y: &[T]) -> T {
    const SUMS: usize = 16;
    let mut sums = [T::ZERO; SUMS];
    let (xs, ys) = (x.chunks_exact(SUMS), y.chunks_exact(SUMS));
    let rest = xs.remainder().iter().zip(ys.remainder());
    for (x, y) in xs.zip(ys) {
        for ((sum, x), y) in sums.iter_mut().zip(x).zip(y) {
            *sum = sum.plus(x.times(*y));
        }
    }
    let rest = rest.fold(T::ZERO, |sum, (x, y)| sum.plus(x.times(*y)));
    sums.into_iter().fold(rest, T::plus)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_strided_padded_row() {
        let row = Geometry {
            batch: 1,
            groups: 1,
            inputs: 1,
            outputs: 1,
            input: [1, 1, 4],
            output: [1, 1, 3],
            kernel: [1, 1, 2],
            stride: [1, 1, 2],
            padding: [0, 0, 1],
            dilation: [1, 1, 1],
        };
        let (x, w, dy) = ([1.0f64, 2.0, 3.0, 4.0], [10.0, 1.0], [1.0, 2.0, 3.0]);
        let mut y = [0.0; 3];
        row.forward("test", &x, &w, Some(&[100.0]), &mut y)
            .expect("a row");
        assert_eq!(y, [101.0, 123.0, 140.0]);
        let mut dx = [0.0; 4];
        row.input_gradient("test", &dy, &w, None, &mut dx)
            .expect("a row");
        assert_eq!(dx, [1.0, 20.0, 2.0, 30.0]);
        let mut dw = [0.0; 2];
        row.weight_gradient("test", &x, &dy, &mut dw)
            .expect("a row");
        assert_eq!(dw, [16.0, 7.0]);
    }

    /// Numbers in -1 to 1 that look like chance.
    fn numbers(count: usize, seed: u64) -> Vec<f32> {
        let mut state = seed;
        let mut next = || {
            state = state
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        };
        (0..count).map(|_| next()).collect()
    }

    /// Compares what `f32` kernels give with the plain loops in `f64`; infinities and NaN must be where they are there.
    fn agrees(of: &Geometry, x: &[f32], w: &[f32]) {
        let wide = |values: &[f32]| values.iter().map(|x| f64::from(*x)).collect::<Vec<_>>();
        let dy = numbers(of.batch * of.groups * of.outputs * of.output_plane(), 3);
        let bias = numbers(of.groups * of.outputs, 4);
        let (mut y, mut y_wide) = (vec![f32::NAN; dy.len()], vec![0.0f64; dy.len()]);
        let (mut dx, mut dx_wide) = (vec![f32::NAN; x.len()], vec![0.0f64; x.len()]);
        let (mut dw, mut dw_wide) = (vec![f32::NAN; w.len()], vec![0.0f64; w.len()]);
        of.forward("test", x, w, Some(&bias), &mut y)
            .expect("a result");
        of.input_gradient("test", &dy, w, None, &mut dx)
            .expect("a result");
        of.weight_gradient("test", x, &dy, &mut dw)
            .expect("a result");
        let (x, w, dy) = (wide(x), wide(w), wide(&dy));
        of.forward("test", &x, &w, Some(&wide(&bias)), &mut y_wide)
            .expect("a result");
        of.input_gradient("test", &dy, &w, None, &mut dx_wide)
            .expect("a result");
        of.weight_gradient("test", &x, &dy, &mut dw_wide)
            .expect("a result");
        for (got, wanted) in [(y, y_wide), (dx, dx_wide), (dw, dw_wide)] {
            let finite = wanted.iter().filter(|x| x.is_finite());
            let scale = finite.fold(0.0f64, |most, x| most.max(x.abs()));
            for (got, wanted) in got.iter().zip(wanted) {
                let near = (f64::from(*got) - wanted).abs() <= 2e-6 * scale;
                let same = f64::from(*got) == wanted || got.is_nan() && wanted.is_nan();
                assert!(near || same, "{of:?}: got {got}, wanted {wanted}");
            }
        }
    }

    fn square(
        sizes: [usize; 4],
        [rows, columns]: [usize; 2],
        kernel: usize,
        padding: usize,
    ) -> Geometry {
        let [batch, groups, inputs, outputs] = sizes;
        let output = |size: usize| size + 2 * padding + 1 - kernel;
        Geometry {
            batch,
            groups,
            inputs,
            outputs,
            input: [1, rows, columns],
            output: [1, output(rows), output(columns)],
            kernel: [1, kernel, kernel],
            stride: [1; 3],
            padding: [0, padding, padding],
            dilation: [1; 3],
        }
    }

    #[test]
    fn kernels_of_vectors_and_plain_loops_agree() {
        let list = [
            square([1, 1, 24, 33], [17, 18], 3, 1),
            square([3, 2, 25, 24], [9, 14], 3, 0),
            square([1, 1, 40, 26], [5, 70], 3, 2),
            square([10, 1, 24, 24], [23, 20], 3, 1),
            square([2, 1, 32, 24], [20, 3], 3, 1),
            square([2, 2, 20, 17], [9, 8], 1, 0),
            square([2, 5, 1, 1], [9, 37], 3, 1),
            square([1, 3, 1, 2], [20, 7], 5, 2),
        ];
        for of in list {
            let x = numbers(of.batch * of.groups * of.inputs * of.input_plane(), 1);
            let w = numbers(of.groups * of.outputs * of.inputs * of.taps(), 2);
            agrees(&of, &x, &w);
        }
    }

    #[test]
    fn what_is_not_finite_stays_in_its_windows() {
        let of = square([1, 1, 24, 24], [20, 21], 3, 1);
        let w = numbers(24 * 24 * 9, 2);
        let mut x = numbers(24 * 420, 1);
        x[3 * 420 + 5 * 21 + 6] = f32::INFINITY;
        x[7 * 420 + 11 * 21] = f32::NAN;
        agrees(&of, &x, &w);
        // Sums of sources that overflow, where no window does.
        let x: Vec<f32> = numbers(24 * 420, 1).iter().map(|x| x * 3e38).collect();
        let w: Vec<f32> = w.iter().map(|w| w * 1e-4).collect();
        let mut y = vec![0.0f32; 24 * 420];
        of.forward("test", &x, &w, None, &mut y).expect("a result");
        assert!(y.iter().all(|y| y.is_finite()));
    }
}
