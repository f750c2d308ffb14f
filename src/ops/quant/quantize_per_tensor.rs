//! `quantize_per_tensor`: floats as integers on one grid.

use super::{nearest, quantised, range};
use crate::ops::prelude::*;

/// The grid of [`Tensor::quantize_per_tensor`]. Made from the scale alone, or built up.
#[derive(Debug, Clone, Copy)]
#[must_use]
pub struct QuantizeOptions {
    scale: f64,
    zero_point: i64,
    dtype: DType,
}

impl QuantizeOptions {
    /// Steps of this size, 0 at 0, to `i8`.
    pub fn new(scale: f64) -> Self {
        QuantizeOptions {
            scale,
            zero_point: 0,
            dtype: DType::I8,
        }
    }

    /// The integer that stands for 0.
    pub fn zero_point(mut self, zero_point: i64) -> Self {
        self.zero_point = zero_point;
        self
    }

    /// `i8`, `u8` or `i32`.
    pub fn dtype(mut self, dtype: DType) -> Self {
        self.dtype = dtype;
        self
    }
}

impl From<f64> for QuantizeOptions {
    fn from(scale: f64) -> Self {
        QuantizeOptions::new(scale)
    }
}

#[derive(Debug, Clone, Copy)]
struct QuantizePerTensor {
    options: QuantizeOptions,
}

const NAME: &str = "quantize_per_tensor";

impl Tensor {
    /// `clamp(round(x / scale) + zero_point)`, ties to even.
    ///
    /// Shapes: any. Dtypes: `f32` to `i8`, `u8` or `i32`. PyTorch: `torch.quantize_per_tensor(..).int_repr()`.
    /// NPU: `aclnnQuantize`.
    ///
    /// ```
    /// use ascend_tensor::{DType, Tensor, ops::quant::QuantizeOptions};
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([-1.0f32, 0.25, 0.75, 100.0]);
    /// assert_eq!(x.quantize_per_tensor(0.5)?.to_vec::<i8>()?, [-2, 0, 2, 127]);
    /// let grid = QuantizeOptions::new(0.5).zero_point(10).dtype(DType::U8);
    /// assert_eq!(x.quantize_per_tensor(grid)?.to_vec::<u8>()?, [8, 10, 12, 210]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `DType` for other dtypes, `Option` for a scale that is not positive or a zero point outside the dtype's range.
    pub fn quantize_per_tensor(&self, options: impl Into<QuantizeOptions>) -> Result<Tensor> {
        let options = options.into();
        run_one(&QuantizePerTensor { options }, &[self])
    }
}

impl Op for QuantizePerTensor {
    fn name(&self) -> &'static str {
        NAME
    }

    fn infer(&self, x: &[Meta], plan: &mut Plan) -> Result<()> {
        if x[0].dtype != DType::F32 {
            return Err(Error::dtype(NAME, x[0].dtype, "f32"));
        }
        let QuantizeOptions {
            scale,
            zero_point,
            dtype,
        } = self.options;
        let [low, high] = range(NAME, dtype)?;
        if !(scale > 0.0 && scale.is_finite()) {
            let why = format!("got {scale}, wanted a positive number");
            return Err(Error::option(NAME, "scale", why));
        }
        if !(low..=high).contains(&zero_point) {
            let why = format!("got {zero_point}, wanted {low} to {high} of {dtype}");
            return Err(Error::option(NAME, "zero_point", why));
        }
        plan.output(x[0].shape, dtype);
        Ok(())
    }

    fn cpu(&self, x: &[Host<'_>], y: &mut [HostMut<'_>]) -> Result<Counts> {
        let QuantizeOptions {
            scale,
            zero_point,
            dtype,
        } = self.options;
        let (limits, scale) = (range(NAME, dtype)?, scale as f32);
        let whole = |x: f32| nearest(x, scale, zero_point, limits);
        match dtype {
            DType::I8 => map::map1::<f32, i8>(&x[0], &mut y[0], |x| whole(x) as i8),
            DType::U8 => map::map1::<f32, u8>(&x[0], &mut y[0], |x| whole(x) as u8),
            _ => map::map1::<f32, i32>(&x[0], &mut y[0], |x| whole(x) as i32),
        }
        Ok(Counts::EXACT)
    }

    fn ascend(&self, cx: &Launch, x: &[Dev<'_>], y: &[Dev<'_>]) -> Result<Counts> {
        let QuantizeOptions {
            scale,
            zero_point,
            dtype,
        } = self.options;
        // The kernel adds before it rounds: an odd zero point would turn ties the other way, of which a power of 2 has many.
        let (bits, scale) = ((scale as f32).to_bits() & 0x007f_ffff, scale as f32);
        let one = x[0].shape().rank() == 0;
        if zero_point % 2 != 0 && bits == 0 {
            let why = "aclnnQuantize rounds ties of an odd zero point the other way";
            let device = Device::Ascend(cx.device());
            return Err(Error::unsupported(NAME, device, x[0].dtype(), why));
        }
        let (mut from, mut to) = (x[0], y[0]);
        if one {
            from = from.with_layout(from.layout().unsqueeze(0));
            to = to.with_layout(to.layout().unsqueeze(0));
        }
        let scales = cx.constant_f32(&[scale])?;
        let zeros = cx.constant(&(zero_point as i32).to_ne_bytes(), [1], DType::I32)?;
        aclnn::quantize(cx, &from, &scales.dev(), Some(&zeros.dev()), dtype, 0, &to)?;
        Ok(Counts::EXACT)
    }

    fn compose(&self, x: &[Tensor]) -> Result<Outputs> {
        let QuantizeOptions {
            scale,
            zero_point,
            dtype,
        } = self.options;
        Ok(smallvec![quantised(
            &x[0],
            scale.into(),
            zero_point.into(),
            dtype
        )?])
    }

    fn gradient(&self) -> Gradient {
        Gradient::Constant
    }

    fn boxed(&self) -> Box<dyn Op> {
        Box::new(*self)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: NAME,
    family: "quant",
    kernels: &["aclnnQuantize"],
    samples,
};

fn samples() -> Vec<Sample> {
    let sample = |dtype, zero_point| Sample {
        op: Box::new(QuantizePerTensor {
            options: QuantizeOptions::new(0.013)
                .zero_point(zero_point)
                .dtype(dtype),
        }),
        inputs: vec![SampleInput::new([3, 4], -2.0, 2.0)],
        dtypes: &[DType::F32],
    };
    vec![
        sample(DType::I8, 3),
        sample(DType::U8, 100),
        sample(DType::I32, -7),
    ]
}
