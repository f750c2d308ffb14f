//! `dequantize`: integers on a grid back to floats.

use super::{along, range, spread};
use crate::ops::prelude::*;

/// The grid of [`Tensor::dequantize`]. Made from the scale alone, or built up.
#[derive(Debug, Clone, Copy)]
#[must_use]
pub struct DequantizeOptions<'a> {
    scale: f64,
    zero_point: i64,
    scales: Option<&'a Tensor>,
    zero_points: Option<&'a Tensor>,
    axis: i64,
    dtype: DType,
}

impl<'a> DequantizeOptions<'a> {
    /// Steps of this size, 0 at 0, to `f32`.
    pub fn new(scale: f64) -> Self {
        DequantizeOptions {
            scale,
            zero_point: 0,
            scales: None,
            zero_points: None,
            axis: 0,
            dtype: DType::F32,
        }
    }

    /// A scale for each index of the first dim: `f32 [c]`.
    pub fn per_channel(scales: &'a Tensor) -> Self {
        DequantizeOptions {
            scales: Some(scales),
            ..DequantizeOptions::new(1.0)
        }
    }

    /// The integer that stands for 0, where there is one scale.
    pub fn zero_point(mut self, zero_point: i64) -> Self {
        self.zero_point = zero_point;
        self
    }

    /// The integers that stand for 0, where there is a scale for each index: `i64 [c]`.
    pub fn zero_points(mut self, zero_points: &'a Tensor) -> Self {
        self.zero_points = Some(zero_points);
        self
    }

    /// The dim whose indices have scales of their own.
    pub fn axis(mut self, axis: i64) -> Self {
        self.axis = axis;
        self
    }

    /// The float dtype of the result.
    pub fn dtype(mut self, dtype: DType) -> Self {
        self.dtype = dtype;
        self
    }
}

impl From<f64> for DequantizeOptions<'_> {
    fn from(scale: f64) -> Self {
        DequantizeOptions::new(scale)
    }
}

/// Inputs: integers, then scales and zero points where there are some for each index.
#[derive(Debug, Clone, Copy)]
struct Dequantize {
    scale: f64,
    zero_point: i64,
    axis: i64,
    dtype: DType,
}

const NAME: &str = "dequantize";

impl Tensor {
    /// `(q - zero_point) * scale` in f32, then cast.
    ///
    /// Shapes: any. Dtypes: `i8`, `u8`, `i32` to floats. PyTorch: `Tensor.dequantize`. NPU: `aclnnAscendAntiQuant` from `i8` to
    /// halves, else elementwise kernels.
    ///
    /// ```
    /// use ascend_tensor::{Tensor, ops::quant::DequantizeOptions};
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let q = Tensor::new([-2i8, 0, 127]);
    /// assert_eq!(q.dequantize(0.5)?.to_vec::<f32>()?, [-1.0, 0.0, 63.5]);
    /// let grid = DequantizeOptions::new(0.5).zero_point(1);
    /// assert_eq!(q.dequantize(grid)?.to_vec::<f32>()?, [-1.5, -0.5, 63.0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `DType` for other dtypes, `Shape` for scales or zero points of another length, `Axis` for a dim out of range, `Option` for
    /// zero points without scales.
    pub fn dequantize<'a>(&self, options: impl Into<DequantizeOptions<'a>>) -> Result<Tensor> {
        let DequantizeOptions {
            scale,
            zero_point,
            scales,
            zero_points,
            axis,
            dtype,
        } = options.into();
        let op = Dequantize {
            scale,
            zero_point,
            axis,
            dtype,
        };
        match (scales, zero_points) {
            (Some(scales), Some(zeros)) => run_one(&op, &[self, scales, zeros]),
            (Some(scales), None) => run_one(&op, &[self, scales]),
            (None, None) => run_one(&op, &[self]),
            (None, Some(_)) => Err(Error::option(
                NAME,
                "zero_points",
                "got some without scales, wanted scales for each index too",
            )),
        }
    }
}

impl Op for Dequantize {
    fn name(&self) -> &'static str {
        NAME
    }

    fn infer(&self, x: &[Meta], plan: &mut Plan) -> Result<()> {
        range(NAME, x[0].dtype)?;
        if !self.dtype.is_float() {
            return Err(Error::dtype(NAME, self.dtype, "a float to give"));
        }
        let wanted = [DType::F32, DType::I64];
        for (own, want) in x.iter().skip(1).zip(wanted) {
            let dim = x[0].shape.axis(NAME, self.axis)?;
            if own.dtype != want {
                let want = "f32 scales and i64 zero points";
                return Err(Error::dtype(NAME, own.dtype, want));
            }
            along(NAME, "scales or zero points", &x[0], dim, own)?;
        }
        plan.output(x[0].shape, self.dtype);
        Ok(())
    }

    fn ascend(&self, cx: &Launch, x: &[Dev<'_>], y: &[Dev<'_>]) -> Result<Counts> {
        let last = x[0].shape().rank().checked_sub(1);
        let fits = x.len() == 1 || last == x[0].shape().axis(NAME, self.axis).ok();
        if x[0].dtype() != DType::I8 || !self.dtype.is_half() || last.is_none() || !fits {
            let why = "aclnnAscendAntiQuant takes i8 to halves, with scales along the last dim";
            let device = Device::Ascend(cx.device());
            return Err(Error::unsupported(NAME, device, x[0].dtype(), why));
        }
        let code = if self.dtype == DType::F16 { 1 } else { 27 };
        let given = match x.get(1) {
            Some(scales) => cx.contiguous(scales)?,
            None => crate::ascend::Ready::Made(cx.constant_f32(&[self.scale as f32])?),
        };
        let scales = given.dev();
        let zeros = match x.get(2) {
            Some(zeros) => {
                let shift = cx.temporary(*scales.shape(), DType::F32)?;
                let wide = cx.cast(zeros, DType::F32)?;
                aclnn::neg(cx, &wide.dev(), &shift.dev())?;
                shift
            }
            None if x.len() == 1 => cx.constant_f32(&[-(self.zero_point as f32)])?,
            None => {
                let zeros = cx.temporary(*scales.shape(), DType::F32)?;
                aclnn::inplace_zero(cx, &zeros.dev())?;
                zeros
            }
        };
        aclnn::ascend_anti_quant(cx, &x[0], &scales, Some(&zeros.dev()), code, false, &y[0])?;
        Ok(Counts::EXACT)
    }

    fn compose(&self, x: &[Tensor]) -> Result<Outputs> {
        let q = x[0].to_dtype(DType::F32)?;
        let Some(scales) = x.get(1) else {
            let y = q.sub(self.zero_point as f64)?.mul(self.scale)?;
            return Ok(smallvec![y.to_dtype(self.dtype)?]);
        };
        let dim = q.shape().axis(NAME, self.axis)?;
        let wide = spread(q.rank(), dim, q.shape().size(dim));
        let q = match x.get(2) {
            Some(zeros) => q.sub(&zeros.to_dtype(DType::F32)?.reshape(wide)?)?,
            None => q,
        };
        let y = q.mul(&scales.reshape(wide)?)?;
        Ok(smallvec![y.to_dtype(self.dtype)?])
    }

    fn is_composed(&self, _x: &[Meta], device: Device) -> bool {
        device.is_cpu()
    }

    fn gradient(&self) -> Gradient {
        Gradient::Compose
    }

    fn boxed(&self) -> Box<dyn Op> {
        Box::new(*self)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: NAME,
    family: "quant",
    kernels: &[
        "aclnnAscendAntiQuant",
        "aclnnCast",
        "aclnnSubs",
        "aclnnMuls",
    ],
    samples,
};

fn samples() -> Vec<Sample> {
    let sample = |dtype, channels: bool| {
        let mut inputs = vec![SampleInput::new([3, 4], -9.0, 9.0)];
        if channels {
            inputs.push(SampleInput::typed([4], DType::F32, 0.01, 0.05));
            inputs.push(SampleInput::typed([4], DType::I64, -9.0, 9.0));
        }
        Sample {
            op: Box::new(Dequantize {
                scale: 0.02,
                zero_point: 3,
                axis: -1,
                dtype,
            }),
            inputs,
            dtypes: &[DType::I8, DType::U8, DType::I32],
        }
    };
    vec![
        sample(DType::F32, false),
        sample(DType::F32, true),
        sample(DType::F16, true),
        sample(DType::BF16, false),
    ]
}
