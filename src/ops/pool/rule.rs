//! Which windows a pooling has: its shape rule, and the composition that gathers the windows.
//!
//! Knows kernels, strides and paddings. Must not know what becomes of a window.

use super::{AvgPoolOptions, MaxPoolOptions, OutputSize};
use crate::cpu::alloc::room;
use crate::cpu::pool::{Window, Windows};
use crate::ops::conv::PerDim;
use crate::ops::prelude::*;

/// The windows over the last one or two dims; of one dim, the other has a kernel of 1.
#[derive(Debug, Clone, Copy)]
pub(super) enum Rule {
    /// Windows of one size that slide over the input.
    Sliding(Sliding),
    /// As many windows as are wanted, which divide the input evenly. `None` keeps a size.
    Adaptive([Option<usize>; 2]),
}

/// Windows of one size.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sliding {
    pub kernel: [usize; 2],
    pub stride: [usize; 2],
    pub padding: [usize; 2],
    pub dilation: [usize; 2],
    pub ceil: bool,
}

/// A pooling's name, dims and windows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pooling {
    pub name: &'static str,
    /// One or two.
    pub dims: usize,
    pub rule: Rule,
}

/// The largest number that a window takes.
const MOST: usize = i32::MAX as usize;

/// The numbers as the last of two dims.
fn last_of_two<const N: usize>(numbers: PerDim<N>, rest: usize) -> [usize; 2] {
    let mut all = [rest; 2];
    for (to, from) in all.iter_mut().rev().zip(numbers.get().iter().rev()) {
        *to = *from;
    }
    all
}

impl Pooling {
    pub fn max<const N: usize>(name: &'static str, options: &MaxPoolOptions<N>) -> Self {
        let sliding = Sliding {
            kernel: last_of_two(options.kernel, 1),
            stride: last_of_two(options.stride.unwrap_or(options.kernel), 1),
            padding: last_of_two(options.padding, 0),
            dilation: last_of_two(options.dilation, 1),
            ceil: options.ceil,
        };
        Pooling {
            name,
            dims: N,
            rule: Rule::Sliding(sliding),
        }
    }

    pub fn mean<const N: usize>(name: &'static str, options: &AvgPoolOptions<N>) -> Self {
        let sliding = Sliding {
            kernel: last_of_two(options.kernel, 1),
            stride: last_of_two(options.stride.unwrap_or(options.kernel), 1),
            padding: last_of_two(options.padding, 0),
            dilation: [1; 2],
            ceil: options.ceil,
        };
        Pooling {
            name,
            dims: N,
            rule: Rule::Sliding(sliding),
        }
    }

    pub fn adaptive(name: &'static str, dims: usize, size: OutputSize) -> Self {
        Pooling {
            name,
            dims,
            rule: Rule::Adaptive(size.0),
        }
    }

    /// The sizes of a plane, after the checks of the shape.
    fn plane(&self, x: &Shape) -> Result<[usize; 2]> {
        let lead = x
            .rank()
            .checked_sub(self.dims)
            .filter(|lead| (1..=2).contains(lead));
        let Some(lead) = lead else {
            let want = format!("{} or {} dims", self.dims + 1, self.dims + 2);
            return Err(Error::shape(self.name, x, want));
        };
        if x.dims().iter().skip(1).any(|size| *size == 0) {
            return Err(Error::shape(
                self.name,
                x,
                "dims that are not empty, but for the first",
            ));
        }
        Ok(match x.dims()[lead..] {
            [rows, columns] => [rows, columns],
            [columns] => [1, columns],
            _ => [1, 1],
        })
    }

    /// The windows over an input of a shape.
    pub fn windows(&self, x: &Shape) -> Result<Windows> {
        let size = self.plane(x)?;
        let axis = |axis: usize| match self.rule {
            Rule::Sliding(sliding) => sliding.windows(self.name, axis, size[axis]),
            Rule::Adaptive(output) => {
                adaptive(self.name, size[axis], output[axis].unwrap_or(size[axis]))
            }
        };
        Ok(Windows {
            size,
            rows: axis(0)?,
            columns: axis(1)?,
        })
    }

    /// The shape of the result.
    pub fn result(&self, x: &Shape) -> Result<Shape> {
        let size = self.plane(x)?;
        let mut output = [1; 2];
        for axis in 0..2 {
            output[axis] = match self.rule {
                Rule::Sliding(sliding) => sliding.count(self.name, axis, size[axis])?,
                Rule::Adaptive(wanted) => wanted[axis].unwrap_or(size[axis]),
            };
        }
        let lead = x.dims().iter().take(x.rank() - self.dims).copied();
        Ok(lead.chain(output.into_iter().skip(2 - self.dims)).collect())
    }

    /// A tensor as planes of two dims, as CANN takes them.
    pub fn planes<'a>(&self, x: &Dev<'a>) -> Dev<'a> {
        if self.dims == 1 {
            x.with_layout(x.layout().unsqueeze(x.shape().rank() - 1))
        } else {
            *x
        }
    }

    /// The elements of each window in a last dim of its own, `fill` where a window has fewer than the longest; and for each
    /// output of a plane and each place of that dim the position in the plane.
    pub fn gathered(&self, x: &Tensor, fill: Scalar) -> Result<(Tensor, Tensor)> {
        let windows = self.windows(x.shape())?;
        let ([down, rows], [across, columns]) = (places(&windows.rows), places(&windows.columns));
        let (out, each) = (
            [windows.rows.len(), windows.columns.len()],
            [longest(&windows.rows), longest(&windows.columns)],
        );
        let device = x.device();
        let lead: usize = x.dims().iter().take(x.rank() - self.dims).product();
        let on = |values: Vec<i64>| Tensor::new(values).to_device(device);
        let gathered = x
            .reshape([lead, windows.size[0], windows.size[1]])?
            .index_select(1, &on(down.clone())?)?
            .index_select(2, &on(across.clone())?)?
            .reshape([lead, out[0], each[0], out[1], each[1]])?
            .permute([0, 1, 3, 2, 4])?
            .reshape([lead, out[0], out[1], each[0] * each[1]])?;
        let (mut inside, mut position) = (Vec::new(), Vec::new());
        for row in 0..out[0] {
            for column in 0..out[1] {
                for i in row * each[0]..(row + 1) * each[0] {
                    for j in column * each[1]..(column + 1) * each[1] {
                        inside.push(rows[i] * columns[j] != 0);
                        position.push(down[i] * windows.size[1] as i64 + across[j]);
                    }
                }
            }
        }
        let shape = [out[0], out[1], each[0] * each[1]];
        let inside = Tensor::from_vec(inside, shape)?.to_device(device)?;
        let position = Tensor::from_vec(position, shape)?.to_device(device)?;
        Ok((inside.where_cond(&gathered, fill)?, position))
    }
}

/// The longest window of a dim.
fn longest(windows: &[Window]) -> usize {
    windows.iter().map(|window| window.len()).max().unwrap_or(0)
}

/// The positions of each window, as many as the longest has, and 1 for those that are really there.
fn places(windows: &[Window]) -> [Vec<i64>; 2] {
    let each = longest(windows);
    let mut found = [Vec::new(), Vec::new()];
    for window in windows {
        for index in 0..each {
            let there = index < window.len();
            let at = window.start + if there { index * window.step } else { 0 };
            found[0].push(if there { at as i64 } else { 0 });
            found[1].push(i64::from(there));
        }
    }
    found
}

/// Windows `[floor(i n / o), ceil((i + 1) n / o))`.
fn adaptive(op: &'static str, size: usize, count: usize) -> Result<Vec<Window>> {
    let window = |index: usize| {
        let start = (index as u128 * size as u128 / count as u128) as usize;
        let end = ((index as u128 + 1) * size as u128).div_ceil(count as u128) as usize;
        Window {
            start,
            end,
            step: 1,
            padded: end - start,
        }
    };
    let mut windows = room(op, count)?;
    windows.extend((0..count).map(window));
    Ok(windows)
}

impl Sliding {
    fn check(&self, op: &'static str) -> Result<()> {
        let numbers = [
            ("kernel_size", self.kernel, 1),
            ("stride", self.stride, 1),
            ("padding", self.padding, 0),
            ("dilation", self.dilation, 1),
        ];
        for (name, values, least) in numbers {
            if let Some(bad) = values.iter().find(|value| !(least..=MOST).contains(*value)) {
                return Err(Error::option(
                    op,
                    name,
                    format!("got {bad}, wanted {least} to {MOST}"),
                ));
            }
        }
        match (0..2).find(|axis| self.padding[*axis] > self.kernel[*axis] / 2) {
            Some(axis) => Err(Error::option(
                op,
                "padding",
                format!(
                    "got {}, wanted at most half the kernel of {}",
                    self.padding[axis], self.kernel[axis]
                ),
            )),
            None => Ok(()),
        }
    }

    /// The number of windows along a dim. With `ceil`, the last may reach over the end if it starts inside or before.
    fn count(&self, op: &'static str, axis: usize, size: usize) -> Result<usize> {
        self.check(op)?;
        let (stride, padding) = (self.stride[axis] as i128, self.padding[axis] as i128);
        let span = self.dilation[axis] as i128 * (self.kernel[axis] as i128 - 1) + 1;
        let room = size as i128 + 2 * padding - span + if self.ceil { stride - 1 } else { 0 };
        let mut count = room.div_euclid(stride) + 1;
        if self.ceil && (count - 1) * stride >= size as i128 + padding {
            count -= 1;
        }
        usize::try_from(count)
            .ok()
            .filter(|count| *count > 0)
            .ok_or_else(|| {
                Error::shape(
                    op,
                    format!("a window of {span} over {size} padded by {padding}"),
                    "a window that fits",
                )
            })
    }

    fn windows(&self, op: &'static str, axis: usize, size: usize) -> Result<Vec<Window>> {
        let count = self.count(op, axis, size)?;
        let [kernel, stride, padding, step] = [
            self.kernel[axis],
            self.stride[axis],
            self.padding[axis],
            self.dilation[axis],
        ];
        let window = |index: usize| {
            let first = index * stride;
            let skipped = padding.saturating_sub(first).div_ceil(step);
            let end = (first + step * (kernel - 1) + 1)
                .saturating_sub(padding)
                .min(size);
            Window {
                start: (first + skipped * step - padding).min(size),
                end,
                step,
                padded: (first + kernel).min(size + 2 * padding) - first,
            }
        };
        let mut windows = room(op, count)?;
        windows.extend((0..count).map(window));
        Ok(windows)
    }
}
