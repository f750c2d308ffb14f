//! `interpolate`: resizing by the nearest element, lines or cubics.

use super::taps::Axis;
use crate::cpu::alloc::collected;
use crate::cpu::dense::{dense, into_dense};
use crate::cpu::lane::Lane;
use crate::cpu::pool_resize::{Taps, resize, resize_gradient};
use crate::ops::prelude::*;
use crate::ops::reduce::widened;

pub use super::taps::InterpolateMode;

/// The size or the factors, and the mode, of [`Tensor::interpolate`].
#[derive(Debug, Clone, Copy, Default)]
#[must_use]
pub struct InterpolateOptions {
    size: Option<Shape>,
    factors: Option<[f64; 2]>,
    /// How many factors were given; one may stand for all dims.
    count: usize,
    mode: InterpolateMode,
    align: bool,
}

impl InterpolateOptions {
    /// By the nearest element; a size or factors are needed too.
    pub fn new() -> Self {
        InterpolateOptions::default()
    }

    /// The result's sizes of the last dims; one number stands for all.
    pub fn size(mut self, size: impl Into<Shape>) -> Self {
        self.size = Some(size.into());
        self
    }

    /// How many times the last dims grow: `floor(n * factor)`.
    pub fn scale_factor(self, factor: f64) -> Self {
        self.scale_factors(&[factor])
    }

    /// The factor of each of the last dims.
    pub fn scale_factors(mut self, factors: &[f64]) -> Self {
        let first = factors.first().copied().unwrap_or(f64::NAN);
        self.factors = Some([first, factors.get(1).copied().unwrap_or(first)]);
        self.count = factors.len();
        self
    }

    /// How a value between elements is found.
    pub fn mode(mut self, mode: InterpolateMode) -> Self {
        self.mode = mode;
        self
    }

    /// The corner elements keep their places: coordinates are `i (n - 1) / (o - 1)`. Not for the nearest modes.
    pub fn align_corners(mut self) -> Self {
        self.align = true;
        self
    }
}

#[derive(Debug, Clone, Copy)]
struct Interpolate {
    options: InterpolateOptions,
}

/// The input's gradient; the shape is the input's.
#[derive(Debug, Clone, Copy)]
struct InterpolateGradient {
    forward: Interpolate,
    shape: Shape,
}

/// A dim, and the index and weight tensors of each of its taps.
type IndexedDim = (i64, Vec<(Tensor, Tensor)>);

const NAME: &str = "interpolate";

impl Tensor {
    /// Resizes the last one or two dims. Output `i` stands at `(i + 0.5) s - 0.5` in the input, where `s` is `n / o` or, if
    /// factors are given, `1 / factor`; linear modes begin at 0, and taps beyond the edge repeat the edge. Halves compute in f32.
    ///
    /// Shapes: `[n, c, l]` or `[n, c, h, w]`, with the last sizes replaced. Dtypes: floats, for the nearest modes also `u8`.
    /// PyTorch: `torch.nn.functional.interpolate`. NPU: `aclnnUpsampleNearest2d`, `aclnnUpsampleNearest2dV2`,
    /// `aclnnUpsampleNearestExact2d`, `aclnnUpsampleLinear1d`, `aclnnUpsampleBilinear2d`, `aclnnUpsampleBicubic2d`, and their
    /// forms of one dim and gradients.
    ///
    /// ```
    /// use ascend_tensor::{Tensor, ops::pool::{InterpolateMode, InterpolateOptions}};
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([[[0.0f32, 4.0]]]);
    /// let y = x.interpolate(InterpolateOptions::new().size(4))?;
    /// assert_eq!(y.to_vec::<f32>()?, [0.0, 0.0, 4.0, 4.0]);
    /// let y = x.interpolate(InterpolateOptions::new().scale_factor(2.0).mode(InterpolateMode::Linear))?;
    /// assert_eq!(y.to_vec::<f32>()?, [0.0, 1.0, 3.0, 4.0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Shape` for a number of dims that the mode does not take, sizes or factors of another number of dims, or an empty plane;
    /// `Option` for both or neither of size and factors, a size of 0, a factor that is not positive, and aligned corners with
    /// a nearest mode; `DType` for other dtypes.
    pub fn interpolate(&self, options: InterpolateOptions) -> Result<Tensor> {
        run_one(&Interpolate { options }, &[self])
    }
}

impl Interpolate {
    fn is_nearest(&self) -> bool {
        matches!(
            self.options.mode,
            InterpolateMode::Nearest | InterpolateMode::NearestExact
        )
    }

    /// The resized dims of an input, after the checks of shape and options.
    fn axes(&self, x: &Shape) -> Result<smallvec::SmallVec<[Axis; 2]>> {
        let InterpolateOptions {
            size,
            factors,
            count,
            mode,
            align,
        } = self.options;
        let wanted = match mode {
            InterpolateMode::Nearest | InterpolateMode::NearestExact => 3..=4,
            InterpolateMode::Linear => 3..=3,
            InterpolateMode::Bilinear | InterpolateMode::Bicubic => 4..=4,
        };
        if !wanted.contains(&x.rank()) {
            let want = format!("{} to {} dims for {mode:?}", wanted.start(), wanted.end());
            return Err(Error::shape(NAME, x, want));
        }
        if size.is_some() == factors.is_some() {
            return Err(Error::option(
                NAME,
                "size",
                "got both or neither of size and factors, wanted one of them",
            ));
        }
        if align && self.is_nearest() {
            return Err(Error::option(
                NAME,
                "align_corners",
                format!("got it with {mode:?}, wanted a mode that is not nearest"),
            ));
        }
        let dims = x.rank() - 2;
        let given = size.map_or(count, |size| size.rank());
        if given != 1 && given != dims {
            return Err(Error::shape(
                NAME,
                format!("{given} sizes or factors"),
                format!("1 or {dims}"),
            ));
        }
        let axis = |index: usize| {
            let input = x.size(2 + index);
            let factor = factors.map(|factors| factors[index]);
            let output = match (factor, size) {
                (Some(factor), _) if factor > 0.0 && factor.is_finite() => {
                    (input as f64 * factor).floor() as usize
                }
                (None, Some(size)) => size.size(if given == 1 { 0 } else { index }),
                _ => 0,
            };
            if input == 0 || x.size(1) == 0 {
                return Err(Error::shape(
                    NAME,
                    x,
                    "channels and a plane that are not empty",
                ));
            }
            if output == 0 {
                let why = format!("got {output} from {input}, wanted at least 1");
                return Err(Error::option(
                    NAME,
                    if factor.is_some() {
                        "scale_factor"
                    } else {
                        "size"
                    },
                    why,
                ));
            }
            Ok(Axis {
                input,
                output,
                factor,
            })
        };
        (0..dims).map(axis).collect()
    }

    fn result(&self, x: &Shape) -> Result<Shape> {
        let axes = self.axes(x)?;
        Ok(x.dims()
            .iter()
            .copied()
            .take(2)
            .chain(axes.iter().map(|axis| axis.output))
            .collect())
    }

    /// The taps of the rows and the columns; of one dim, the rows are one row.
    fn taps<T: Lane>(&self, x: &Shape) -> Result<[Taps<T>; 2]> {
        let axes = self.axes(x)?;
        let taps = |axis: Option<&Axis>| match axis {
            Some(axis) => axis.taps(NAME, self.options.mode, self.options.align),
            None => Ok(Taps {
                size: 1,
                each: 1,
                places: vec![0],
                weights: vec![T::ONE],
            }),
        };
        Ok(match axes.as_slice() {
            [columns] => [taps(None)?, taps(Some(columns))?],
            axes => [taps(axes.first())?, taps(axes.get(1))?],
        })
    }

    /// The factors as CANN takes them: 0 where none counts.
    fn scales(&self, axes: &[Axis]) -> [f64; 2] {
        let scale = |axis: Option<&Axis>| {
            axis.and_then(|axis| axis.factor)
                .filter(|_| !self.options.align)
                .unwrap_or(0.0)
        };
        [scale(axes.first()), scale(axes.get(1))]
    }

    /// CANN resizes doubles by lines only where the channels come last.
    fn demand_kernel(&self, cx: &Launch, dtype: DType) -> Result<()> {
        if dtype == DType::F64 && self.options.mode == InterpolateMode::Bilinear {
            let why = "the kernel takes f64 with the channels last only";
            return Err(Error::unsupported(
                NAME,
                Device::Ascend(cx.device()),
                dtype,
                why,
            ));
        }
        Ok(())
    }

    /// Each dim's taps as index tensors and weights that broadcast along the dim.
    fn indexed(&self, x: &Tensor) -> Result<Vec<IndexedDim>> {
        let axes = self.axes(x.shape())?;
        let mut dims = Vec::new();
        for (position, axis) in axes.iter().enumerate() {
            let (places, weights) = with_float!(x.dtype(), T => {
                let taps = axis.taps::<T>(NAME, self.options.mode, self.options.align)?;
                let weights = collected(NAME, taps.weights.iter().map(|weight| weight.to_f64()))?;
                (taps.places, weights)
            });
            let each = places.len() / axis.output.max(1);
            let behind = axes.len() - 1 - position;
            let column: Shape = [axis.output]
                .into_iter()
                .chain([1; 2].into_iter().take(behind))
                .collect();
            let tap = |tap: usize| {
                let index = places.iter().skip(tap).step_by(each);
                let index = collected(NAME, index.map(|place| *place as i64))?;
                let weight = weights.iter().skip(tap).step_by(each).copied();
                let weight = collected(NAME, weight)?;
                let weight = Tensor::from_vec(weight, column)?.to_dtype(x.dtype())?;
                Ok((
                    Tensor::new(index).to_device(x.device())?,
                    weight.to_device(x.device())?,
                ))
            };
            dims.push((
                2 + position as i64,
                (0..each).map(tap).collect::<Result<_>>()?,
            ));
        }
        Ok(dims)
    }
}

impl Op for Interpolate {
    fn name(&self) -> &'static str {
        NAME
    }

    fn infer(&self, x: &[Meta], plan: &mut Plan) -> Result<()> {
        let shape = self.result(&x[0].shape)?;
        let byte = x[0].dtype == DType::U8 && self.is_nearest();
        if !x[0].dtype.is_float() && !byte {
            return Err(Error::dtype(
                NAME,
                x[0].dtype,
                "a float dtype, or u8 with a nearest mode",
            ));
        }
        plan.output(shape, x[0].dtype);
        Ok(())
    }

    fn cpu(&self, x: &[Host<'_>], y: &mut [HostMut<'_>]) -> Result<Counts> {
        with_lane!(x[0].dtype(), T => {
            let [rows, columns] = self.taps::<T>(x[0].shape())?;
            let mut held = Vec::new();
            let x = dense::<T>(NAME, &x[0], &mut held)?;
            into_dense(NAME, &mut y[0], |y| {
                resize(&rows, &columns, x, y);
                Ok(())
            })?;
        });
        Ok(Counts::EXACT)
    }

    fn ascend(&self, cx: &Launch, x: &[Dev<'_>], y: &[Dev<'_>]) -> Result<Counts> {
        let (x, y) = (&x[0], &y[0]);
        self.demand_kernel(cx, x.dtype())?;
        let axes = self.axes(x.shape())?;
        let size: smallvec::SmallVec<[i64; 2]> =
            axes.iter().map(|axis| axis.output as i64).collect();
        let ([h, w], align) = (self.scales(&axes), self.options.align);
        match (self.options.mode, axes.len()) {
            (InterpolateMode::Nearest, 1) if h > 0.0 => {
                aclnn::upsample_nearest1d_v2(cx, x, &size, h as f32, y)?
            }
            (InterpolateMode::Nearest, 1) => aclnn::upsample_nearest1d(cx, x, &size, y)?,
            (InterpolateMode::Nearest, _) if h > 0.0 => {
                aclnn::upsample_nearest2d_v2(cx, x, &size, h as f32, w as f32, y)?
            }
            (InterpolateMode::Nearest, _) => aclnn::upsample_nearest2d(cx, x, &size, y)?,
            (InterpolateMode::NearestExact, 1) => {
                aclnn::upsample_nearest_exact1d(cx, x, &size, h, y)?
            }
            (InterpolateMode::NearestExact, _) => {
                aclnn::upsample_nearest_exact2d(cx, x, &size, h, w, y)?
            }
            (InterpolateMode::Linear, _) => aclnn::upsample_linear1d(cx, x, &size, align, h, y)?,
            (InterpolateMode::Bilinear, _) => {
                aclnn::upsample_bilinear2d(cx, x, &size, align, h, w, y)?
            }
            (InterpolateMode::Bicubic, _) => {
                aclnn::upsample_bicubic2d(cx, x, &size, align, h, w, y)?
            }
        }
        Ok(Counts::EXACT)
    }

    fn compose(&self, x: &[Tensor]) -> Result<Outputs> {
        let nearest = self.is_nearest();
        let mut y = if nearest {
            x[0].clone()
        } else {
            x[0].to_dtype(widened(x[0].dtype()))?
        };
        for (dim, taps) in self.indexed(&y)? {
            let mut sum: Option<Tensor> = None;
            for (index, weight) in &taps {
                let tap = y.index_select(dim, index)?;
                let tap = if nearest { tap } else { tap.mul(weight)? };
                sum = Some(match sum {
                    Some(sum) => sum.add(&tap)?,
                    None => tap,
                });
            }
            y = sum.unwrap_or(y);
        }
        Ok(smallvec![y.to_dtype(x[0].dtype())?])
    }

    fn gradient(&self) -> Gradient {
        Gradient::Backward
    }

    fn saves(&self) -> Saves {
        Saves::NOTHING
    }

    fn backward(&self, cx: &GradCx<'_>) -> Result<Grads> {
        let op = InterpolateGradient {
            forward: *self,
            shape: cx.meta(0)?.shape,
        };
        Ok(smallvec![Some(run_one(&op, &[cx.gradient()?])?)])
    }

    fn boxed(&self) -> Box<dyn Op> {
        Box::new(*self)
    }
}

impl Op for InterpolateGradient {
    fn name(&self) -> &'static str {
        "interpolate_backward"
    }

    fn infer(&self, x: &[Meta], plan: &mut Plan) -> Result<()> {
        plan.output(self.shape, x[0].dtype);
        Ok(())
    }

    fn cpu(&self, x: &[Host<'_>], y: &mut [HostMut<'_>]) -> Result<Counts> {
        let op = self.name();
        with_float!(x[0].dtype(), T => {
            let [rows, columns] = self.forward.taps::<T>(&self.shape)?;
            let mut held = Vec::new();
            let dy = dense::<T>(op, &x[0], &mut held)?;
            into_dense(op, &mut y[0], |dx| {
                resize_gradient(&rows, &columns, dy, dx);
                Ok(())
            })?;
        });
        Ok(Counts::EXACT)
    }

    fn ascend(&self, cx: &Launch, x: &[Dev<'_>], y: &[Dev<'_>]) -> Result<Counts> {
        let (dy, dx, forward) = (&x[0], &y[0], &self.forward);
        forward.demand_kernel(cx, dy.dtype())?;
        let axes = forward.axes(&self.shape)?;
        let size: smallvec::SmallVec<[i64; 2]> =
            axes.iter().map(|axis| axis.output as i64).collect();
        let input: smallvec::SmallVec<[i64; 4]> =
            self.shape.dims().iter().map(|size| *size as i64).collect();
        let ([h, w], align) = (forward.scales(&axes), forward.options.align);
        match (forward.options.mode, axes.len()) {
            (InterpolateMode::Nearest, 1) => {
                aclnn::upsample_nearest1d_backward(cx, dy, &size, &input, h, dx)?
            }
            (InterpolateMode::Nearest, _) => {
                aclnn::upsample_nearest2d_backward(cx, dy, &size, &input, h, w, dx)?
            }
            (InterpolateMode::NearestExact, 1) => {
                aclnn::upsample_nearest_exact1d_backward(cx, dy, &size, &input, h, dx)?
            }
            (InterpolateMode::NearestExact, _) => {
                aclnn::upsample_nearest_exact2d_backward(cx, dy, &size, &input, h, w, dx)?
            }
            (InterpolateMode::Linear, _) => {
                aclnn::upsample_linear1d_backward(cx, dy, &size, &input, align, h, dx)?
            }
            (InterpolateMode::Bilinear, _) => {
                aclnn::upsample_bilinear2d_backward(cx, dy, &size, &input, align, h, w, dx)?
            }
            (InterpolateMode::Bicubic, _) => {
                aclnn::upsample_bicubic2d_backward(cx, dy, &size, &input, align, h, w, dx)?
            }
        }
        Ok(Counts::EXACT)
    }

    /// The dims in reverse order, each tap's share added to where it came from.
    fn compose(&self, x: &[Tensor]) -> Result<Outputs> {
        let wide = widened(x[0].dtype());
        let like = Tensor::zeros(self.shape, wide, x[0].device())?;
        let mut dx = x[0].to_dtype(wide)?;
        for (dim, taps) in self.forward.indexed(&like)?.into_iter().rev() {
            let axis = dim as usize;
            let shape = dx.shape().with(axis, self.shape.size(axis));
            let mut sum = Tensor::zeros(shape, wide, x[0].device())?;
            for (index, weight) in &taps {
                sum = sum.index_add(dim, index, &dx.mul(weight)?, ())?;
            }
            dx = sum;
        }
        Ok(smallvec![dx.to_dtype(x[0].dtype())?])
    }

    fn gradient(&self) -> Gradient {
        Gradient::Backward
    }

    fn saves(&self) -> Saves {
        Saves::NOTHING
    }

    /// The resize again: the gradient is linear in `dy`.
    fn backward(&self, cx: &GradCx<'_>) -> Result<Grads> {
        Ok(smallvec![Some(run_one(&self.forward, &[cx.gradient()?])?)])
    }

    fn boxed(&self) -> Box<dyn Op> {
        Box::new(*self)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: NAME,
    family: "pool",
    kernels: &[
        "aclnnUpsampleNearest1d",
        "aclnnUpsampleNearest1dV2",
        "aclnnUpsampleNearest1dBackward",
        "aclnnUpsampleNearest2d",
        "aclnnUpsampleNearest2dV2",
        "aclnnUpsampleNearest2dBackward",
        "aclnnUpsampleNearestExact1d",
        "aclnnUpsampleNearestExact1dBackward",
        "aclnnUpsampleNearestExact2d",
        "aclnnUpsampleNearestExact2dBackward",
        "aclnnUpsampleLinear1d",
        "aclnnUpsampleLinear1dBackward",
        "aclnnUpsampleBilinear2d",
        "aclnnUpsampleBilinear2dBackwardV2",
        "aclnnUpsampleBicubic2d",
        "aclnnUpsampleBicubic2dBackward",
    ],
    samples,
};

fn samples() -> Vec<Sample> {
    let sample = |shape: &[usize], options: InterpolateOptions| Sample {
        op: Box::new(Interpolate { options }),
        inputs: vec![SampleInput::new(shape, -2.0, 2.0)],
        dtypes: FLOATS,
    };
    let by = |mode| InterpolateOptions::new().mode(mode);
    vec![
        sample(&[2, 1, 4], by(InterpolateMode::Nearest).size(7)),
        sample(
            &[2, 3, 4, 3],
            by(InterpolateMode::Nearest).scale_factors(&[1.5, 2.0]),
        ),
        sample(
            &[1, 2, 4, 3],
            by(InterpolateMode::NearestExact).size([7, 2]),
        ),
        sample(&[2, 2, 5], by(InterpolateMode::Linear).scale_factor(1.7)),
        sample(&[2, 1, 4, 3], by(InterpolateMode::Bilinear).size([7, 5])),
        sample(
            &[2, 1, 4, 3],
            by(InterpolateMode::Bilinear).size([2, 6]).align_corners(),
        ),
        sample(&[1, 2, 4, 3], by(InterpolateMode::Bicubic).size([7, 5])),
    ]
}
