//! `unfold`, `im2col` and `fold`: windows over dims, and the sum of windows back.

use super::place::window;
use super::{Rule, view_sample};
use crate::cpu::alloc::collected;
use crate::cpu::gather::{Paths, in_lanes, scatter};
use crate::ops::prelude::*;

/// The windows of [`Tensor::unfold`]. Made from a size, for a step of 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct UnfoldOptions {
    size: i64,
    step: i64,
}

impl UnfoldOptions {
    /// Windows of this size, one at each place.
    pub fn new(size: i64) -> Self {
        UnfoldOptions { size, step: 1 }
    }

    /// The distance between two windows.
    pub fn step(mut self, step: i64) -> Self {
        self.step = step;
        self
    }
}

impl From<i64> for UnfoldOptions {
    fn from(size: i64) -> Self {
        UnfoldOptions::new(size)
    }
}

/// The windows of [`Tensor::im2col`] and [`Tensor::fold`], for rows and columns. Made from a kernel size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct WindowOptions {
    kernel: [i64; 2],
    dilation: [i64; 2],
    padding: [i64; 2],
    stride: [i64; 2],
}

impl WindowOptions {
    /// Windows of this size, one at each place, without padding.
    pub fn new(kernel: [i64; 2]) -> Self {
        WindowOptions {
            kernel,
            dilation: [1, 1],
            padding: [0, 0],
            stride: [1, 1],
        }
    }

    /// The distance between two elements of a window.
    pub fn dilation(mut self, dilation: [i64; 2]) -> Self {
        self.dilation = dilation;
        self
    }

    /// Zeros added at each end.
    pub fn padding(mut self, padding: [i64; 2]) -> Self {
        self.padding = padding;
        self
    }

    /// The distance between two windows.
    pub fn stride(mut self, stride: [i64; 2]) -> Self {
        self.stride = stride;
        self
    }

    /// The numbers as unsigned ones, and the number of windows over an image of these sizes.
    fn checked(&self, op: &'static str, image: [usize; 2]) -> Result<Grid> {
        let least = |name, pair: [i64; 2], least: i64| match pair
            .iter()
            .all(|value| (least..=i64::from(i32::MAX)).contains(value))
        {
            true => Ok(pair.map(|value| value as usize)),
            false => Err(Error::option(
                op,
                name,
                format!("got {pair:?}, wanted at least {least}"),
            )),
        };
        let (kernel, dilation) = (
            least("kernel_size", self.kernel, 1)?,
            least("dilation", self.dilation, 1)?,
        );
        let (padding, stride) = (
            least("padding", self.padding, 0)?,
            least("stride", self.stride, 1)?,
        );
        let padded = [
            image[0].saturating_add(2 * padding[0]),
            image[1].saturating_add(2 * padding[1]),
        ];
        let mut windows = [0; 2];
        for dim in 0..2 {
            let reach = dilation[dim] * (kernel[dim] - 1) + 1;
            let room = padded[dim].checked_sub(reach);
            let room = room.ok_or_else(|| {
                Error::shape(
                    op,
                    format!("a window of {reach} in {}", padded[dim]),
                    "a window that fits",
                )
            })?;
            windows[dim] = room / stride[dim] + 1;
        }
        Ok(Grid {
            kernel,
            dilation,
            padding,
            stride,
            padded,
            windows,
        })
    }
}

impl From<[i64; 2]> for WindowOptions {
    fn from(kernel: [i64; 2]) -> Self {
        WindowOptions::new(kernel)
    }
}

impl From<i64> for WindowOptions {
    fn from(kernel: i64) -> Self {
        WindowOptions::new([kernel, kernel])
    }
}

/// Checked windows over an image.
#[derive(Debug, Clone, Copy)]
struct Grid {
    kernel: [usize; 2],
    dilation: [usize; 2],
    padding: [usize; 2],
    stride: [usize; 2],
    padded: [usize; 2],
    windows: [usize; 2],
}

impl Grid {
    /// Over a row-major padded `[n, c, h, w]`: the layout `[n, c, kernel rows, kernel columns, windows down, windows across]`.
    fn layout(&self, batch: usize, channels: usize) -> Layout {
        let image = Layout::contiguous([batch, channels, self.padded[0], self.padded[1]]);
        let strides = image.strides();
        let pairs = [
            (batch, strides[0]),
            (channels, strides[1]),
            (self.kernel[0], self.dilation[0].saturating_mul(strides[2])),
            (self.kernel[1], self.dilation[1].saturating_mul(strides[3])),
            (self.windows[0], self.stride[0].saturating_mul(strides[2])),
            (self.windows[1], self.stride[1].saturating_mul(strides[3])),
        ];
        Layout::from_pairs(pairs, 0)
    }

    fn pads(&self, sign: i64) -> [i64; 4] {
        let [rows, columns] = self.padding.map(|padding| padding as i64 * sign);
        [columns, columns, rows, rows]
    }
}

#[derive(Debug, Clone, Copy)]
struct Unfold {
    dim: i64,
    options: UnfoldOptions,
}

/// Zeros of a shape with the input's elements added where `layout` names them; it may name places several times.
#[derive(Debug, Clone, Copy)]
struct WindowSum {
    shape: Shape,
    layout: Layout,
}

impl Tensor {
    /// A view of all windows along a dim: their number replaces the dim, their elements become the last dim.
    ///
    /// Shapes: `[.., n, ..] -> [.., (n - size) / step + 1, .., size]`. Dtypes: all. PyTorch: `Tensor.unfold`. NPU: no kernel.
    ///
    /// ```
    /// use ascend_tensor::{Tensor, ops::view::UnfoldOptions};
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([1i32, 2, 3, 4, 5]);
    /// assert_eq!(x.unfold(0, UnfoldOptions::new(3).step(2))?.to_vec::<i32>()?, [1, 2, 3, 3, 4, 5]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Axis` for a dim out of range, `Shape` for a window larger than the dim, `Option` for a step below 1 or a negative size.
    pub fn unfold(&self, dim: i64, options: impl Into<UnfoldOptions>) -> Result<Tensor> {
        self.viewed(Unfold {
            dim,
            options: options.into(),
        })
    }

    /// The windows over the last two dims as columns; rows in the order channel, row, column of the window.
    ///
    /// Shapes: `[n, c, h, w] -> [n, c * kh * kw, l]`, or without `n`. Dtypes: all. PyTorch: `torch.nn.functional.unfold`.
    /// NPU: `aclnnConstantPadNd`, `aclnnInplaceCopy`.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([[[1.0f32, 2.0, 3.0], [4.0, 5.0, 6.0]]]);
    /// assert_eq!(x.im2col(2)?.to_vec::<f32>()?, [1.0, 2.0, 2.0, 3.0, 4.0, 5.0, 5.0, 6.0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Shape` for a tensor of other than three or four dims, or a window that does not fit; `Option` for a number out of range.
    pub fn im2col(&self, options: impl Into<WindowOptions>) -> Result<Tensor> {
        let [channels, rows, columns] = match *self.dims() {
            [_, channels, rows, columns] | [channels, rows, columns] => [channels, rows, columns],
            _ => {
                return Err(Error::shape(
                    "im2col",
                    self.shape(),
                    "[n, c, h, w] or [c, h, w]",
                ));
            }
        };
        let batch = if self.rank() == 4 { self.dims()[0] } else { 1 };
        let grid = options.into().checked("im2col", [rows, columns])?;
        let image = self.reshape([batch, channels, rows, columns])?;
        let image = if grid.padding == [0, 0] {
            image.contiguous()?
        } else {
            image.pad(&grid.pads(1), ())?
        };
        let windows = window(&image, grid.layout(batch, channels))?;
        let sizes = [
            batch,
            channels
                .saturating_mul(grid.kernel[0])
                .saturating_mul(grid.kernel[1]),
            grid.windows[0].saturating_mul(grid.windows[1]),
        ];
        if self.rank() == 4 {
            windows.reshape(sizes)
        } else {
            windows.reshape([sizes[1], sizes[2]])
        }
    }

    /// The adjoint of [`Tensor::im2col`]: columns added up into images of a size.
    ///
    /// Shapes: `[n, c * kh * kw, l] -> [n, c, h, w]`, or without `n`. Dtypes: all. PyTorch: `torch.nn.functional.fold`.
    /// NPU: `aclnnIndexAdd`.
    ///
    /// ```
    /// use ascend_tensor::{DType, Device, Tensor};
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let columns = Tensor::ones([1, 4, 2], DType::F32, Device::Cpu)?;
    /// assert_eq!(columns.fold([2, 3], 2)?.to_vec::<f32>()?, [1.0, 2.0, 1.0, 1.0, 2.0, 1.0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Shape` if the columns are not those of such an image; `Option` for a number out of range.
    pub fn fold(&self, output: [usize; 2], options: impl Into<WindowOptions>) -> Result<Tensor> {
        let grid = options.into().checked("fold", output)?;
        let (rows, count) = match *self.dims() {
            [_, rows, count] | [rows, count] => (rows, count),
            _ => {
                return Err(Error::shape(
                    "fold",
                    self.shape(),
                    "[n, c * kh * kw, l] or [c * kh * kw, l]",
                ));
            }
        };
        let batch = if self.rank() == 3 { self.dims()[0] } else { 1 };
        let (size, windows) = (
            grid.kernel[0].saturating_mul(grid.kernel[1]),
            grid.windows[0].saturating_mul(grid.windows[1]),
        );
        if rows % size != 0 || rows == 0 || count != windows {
            let want = format!("a multiple of {size} rows, and {windows} columns");
            return Err(Error::shape("fold", self.shape(), want));
        }
        let layout = grid.layout(batch, rows / size);
        let shape = Shape::from([batch, rows / size, grid.padded[0], grid.padded[1]]);
        let images = run_one(
            &WindowSum { shape, layout },
            &[&self.reshape(*layout.shape())?],
        )?;
        let images = if grid.padding == [0, 0] {
            images
        } else {
            images.pad(&grid.pads(-1), ())?
        };
        if self.rank() == 3 {
            Ok(images)
        } else {
            images.squeeze(0)
        }
    }
}

impl Rule for Unfold {
    const NAME: &'static str = "unfold";
    const ONCE: bool = false;

    fn layout(&self, x: &Layout) -> Result<Layout> {
        let dim = x.shape().axis(Self::NAME, self.dim)?;
        let (extent, stride) = (x.shape().size(dim), x.strides()[dim]);
        let UnfoldOptions { size, step } = self.options;
        let bad = |name, value, least| {
            Error::option(
                Self::NAME,
                name,
                format!("got {value}, wanted at least {least}"),
            )
        };
        let size = usize::try_from(size).map_err(|_| bad("size", size, 0))?;
        let step = usize::try_from(step)
            .ok()
            .filter(|step| *step > 0)
            .ok_or_else(|| bad("step", step, 1))?;
        let Some(room) = extent.checked_sub(size) else {
            return Err(Error::shape(
                Self::NAME,
                format!("windows of {size} in a dim of {extent}"),
                "windows that fit",
            ));
        };
        let pair = |(at, pair)| {
            if at == dim {
                (room / step + 1, stride.saturating_mul(step))
            } else {
                pair
            }
        };
        Ok(Layout::from_pairs(
            x.pairs().enumerate().map(pair).chain([(size, stride)]),
            x.offset(),
        ))
    }

    fn gradient(&self, dy: &Tensor, shape: &Shape) -> Result<Tensor> {
        let layout = self.layout(&Layout::contiguous(*shape))?;
        run_one(
            &WindowSum {
                shape: *shape,
                layout,
            },
            &[dy],
        )
    }
}

impl Op for WindowSum {
    fn name(&self) -> &'static str {
        "window_sum"
    }

    fn infer(&self, x: &[Meta], plan: &mut Plan) -> Result<()> {
        if *self.layout.shape() != x[0].shape || self.layout.end() > self.shape.elements() {
            return Err(Error::shape(self.name(), x[0].shape, self.layout.shape()));
        }
        plan.output(self.shape, x[0].dtype);
        Ok(())
    }

    fn cpu(&self, x: &[Host<'_>], y: &mut [HostMut<'_>]) -> Result<Counts> {
        // Dims that may name one place twice are tables, so that only the others are shared out among threads.
        let own = Layout::contiguous(self.shape);
        let apart = |dim: usize| {
            self.layout.strides().get(dim) == own.strides().get(dim)
                && self.layout.dims().get(dim) == own.dims().get(dim)
        };
        let mut paths = Paths::of(&self.layout);
        for dim in (0..self.layout.shape().rank()).filter(|dim| !apart(*dim)) {
            paths = paths.with_indices(self.name(), dim, 0..self.layout.shape().size(dim))?;
        }
        with_lane!(x[0].dtype(), T => {
            map::fill(&mut y[0], T::ZERO);
            in_lanes::<T>(self.name(), &mut y[0], |target| scatter(&x[0], &paths, target, |sum, x| sum.plus(x)))?;
        });
        Ok(Counts::EXACT)
    }

    fn compose(&self, x: &[Tensor]) -> Result<Outputs> {
        let (count, device) = (x[0].elements(), x[0].device());
        let index =
            (0..count).map(|position| crate::cpu::reduce::offset_at(&self.layout, position) as i64);
        let index = collected(self.name(), index)?;
        let zeros = Tensor::zeros([self.shape.elements()], x[0].dtype(), device)?;
        let sum = zeros.index_add(
            0,
            &Tensor::new(index).to_device(device)?,
            &x[0].reshape([count])?,
            (),
        )?;
        Ok(smallvec![sum.reshape(self.shape)?])
    }

    fn gradient(&self) -> Gradient {
        Gradient::Backward
    }

    fn saves(&self) -> Saves {
        Saves::NOTHING
    }

    fn backward(&self, cx: &GradCx<'_>) -> Result<Grads> {
        Ok(smallvec![Some(window(
            &cx.gradient()?.contiguous()?,
            self.layout
        )?)])
    }

    fn boxed(&self) -> Box<dyn Op> {
        Box::new(*self)
    }
}

/// The sum of windows, as the gradient of [`window`].
pub(super) fn window_sum(x: &Tensor, shape: Shape, layout: Layout) -> Result<Tensor> {
    run_one(&WindowSum { shape, layout }, &[x])
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "unfold",
    family: "view",
    kernels: &["aclnnIndexAdd"],
    samples,
};

fn samples() -> Vec<Sample> {
    let sum = WindowSum {
        shape: Shape::from([2, 7]),
        layout: Layout::from_pairs([(2, 7), (3, 2), (3, 1)], 0),
    };
    let op = Box::new(sum);
    vec![
        view_sample(
            Unfold {
                dim: 1,
                options: UnfoldOptions::new(3).step(2),
            },
            [2, 7, 2],
        ),
        Sample {
            op,
            inputs: vec![SampleInput::new([2, 3, 3], -2.0, 2.0)],
            dtypes: NUMBERS,
        },
    ]
}
