//! `quantize_per_channel`: floats as integers, each index of a dim on a grid of its own.

use super::{along, nearest, quantised, range, spread};
use crate::ops::prelude::*;

/// Settings of [`Tensor::quantize_per_channel`]. Made from `()`, from the dim, or built up.
#[derive(Debug, Clone, Copy)]
#[must_use]
pub struct QuantizeChannelsOptions {
    axis: i64,
    dtype: DType,
}

impl Default for QuantizeChannelsOptions {
    fn default() -> Self {
        QuantizeChannelsOptions {
            axis: 0,
            dtype: DType::I8,
        }
    }
}

impl QuantizeChannelsOptions {
    /// Along the first dim, to `i8`.
    pub fn new() -> Self {
        QuantizeChannelsOptions::default()
    }

    /// The dim whose indices have grids of their own.
    pub fn axis(mut self, axis: i64) -> Self {
        self.axis = axis;
        self
    }

    /// `i8`, `u8` or `i32`.
    pub fn dtype(mut self, dtype: DType) -> Self {
        self.dtype = dtype;
        self
    }
}

impl From<()> for QuantizeChannelsOptions {
    fn from((): ()) -> Self {
        QuantizeChannelsOptions::new()
    }
}

impl From<i64> for QuantizeChannelsOptions {
    fn from(axis: i64) -> Self {
        QuantizeChannelsOptions::new().axis(axis)
    }
}

#[derive(Debug, Clone, Copy)]
struct QuantizePerChannel {
    options: QuantizeChannelsOptions,
}

const NAME: &str = "quantize_per_channel";

impl Tensor {
    /// `clamp(round(x / scales[i]) + zero_points[i])` for each index `i` of a dim, ties to even.
    ///
    /// Shapes: any with a dim; scales `f32 [c]` and zero points `i64 [c]` for a dim of size `c`. Dtypes: `f32` to `i8`, `u8` or
    /// `i32`. PyTorch: `torch.quantize_per_channel(..).int_repr()`. NPU: `aclnnQuantize`, which adds the zero point before it
    /// rounds.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([[1.0f32, 2.0], [1.0, 2.0]]);
    /// let (scales, zeros) = (Tensor::new([0.5f32, 0.1]), Tensor::new([0i64, 1]));
    /// let y = x.quantize_per_channel(&scales, &zeros, 0)?;
    /// assert_eq!(y.to_vec::<i8>()?, [2, 4, 11, 21]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Axis` for a dim out of range, `Shape` for scales or zero points of another length, `DType` for other dtypes.
    pub fn quantize_per_channel(
        &self,
        scales: &Tensor,
        zero_points: &Tensor,
        options: impl Into<QuantizeChannelsOptions>,
    ) -> Result<Tensor> {
        let options = options.into();
        run_one(
            &QuantizePerChannel { options },
            &[self, scales, zero_points],
        )
    }
}

impl Op for QuantizePerChannel {
    fn name(&self) -> &'static str {
        NAME
    }

    fn infer(&self, x: &[Meta], plan: &mut Plan) -> Result<()> {
        let wanted = [DType::F32, DType::F32, DType::I64];
        for (own, want) in x.iter().zip(wanted) {
            if own.dtype != want {
                let want = "an f32 tensor, f32 scales and i64 zero points";
                return Err(Error::dtype(NAME, own.dtype, want));
            }
        }
        range(NAME, self.options.dtype)?;
        let dim = x[0].shape.axis(NAME, self.options.axis)?;
        along(NAME, "scales", &x[0], dim, &x[1])?;
        along(NAME, "zero points", &x[0], dim, &x[2])?;
        plan.output(x[0].shape, self.options.dtype);
        Ok(())
    }

    fn cpu(&self, x: &[Host<'_>], y: &mut [HostMut<'_>]) -> Result<Counts> {
        let shape = *x[0].shape();
        let dim = shape.axis(NAME, self.options.axis)?;
        let limits = range(NAME, self.options.dtype)?;
        let wide = spread(shape.rank(), dim, shape.size(dim));
        let laid = |x: &Host<'_>| -> Result<Layout> {
            let own = x.layout().reshape(&wide).unwrap_or(*x.layout());
            own.expand(NAME, &shape)
        };
        let scales = x[1].with_layout(laid(&x[1])?);
        let zeros = x[2].with_layout(laid(&x[2])?);
        let whole = |x, scale, zero| nearest(x, scale, zero, limits);
        let (x, y) = (&x[0], &mut y[0]);
        match self.options.dtype {
            DType::I8 => map::map3::<f32, f32, i64, i8>(x, &scales, &zeros, y, |x, s, z| {
                whole(x, s, z) as i8
            }),
            DType::U8 => map::map3::<f32, f32, i64, u8>(x, &scales, &zeros, y, |x, s, z| {
                whole(x, s, z) as u8
            }),
            _ => map::map3::<f32, f32, i64, i32>(x, &scales, &zeros, y, |x, s, z| {
                whole(x, s, z) as i32
            }),
        }
        Ok(Counts::EXACT)
    }

    fn ascend(&self, cx: &Launch, x: &[Dev<'_>], y: &[Dev<'_>]) -> Result<Counts> {
        let dim = x[0].shape().axis(NAME, self.options.axis)?;
        let zeros = cx.cast(&x[2], DType::I32)?;
        let zeros = zeros.dev();
        let dtype = self.options.dtype;
        aclnn::quantize(cx, &x[0], &x[1], Some(&zeros), dtype, dim as i32, &y[0])?;
        Ok(Counts::EXACT)
    }

    fn compose(&self, x: &[Tensor]) -> Result<Outputs> {
        let dim = x[0].shape().axis(NAME, self.options.axis)?;
        let wide = spread(x[0].rank(), dim, x[0].shape().size(dim));
        let (scales, zeros) = (x[1].reshape(wide)?, x[2].reshape(wide)?);
        let made = quantised(&x[0], (&scales).into(), (&zeros).into(), self.options.dtype);
        Ok(smallvec![made?])
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
    let sample = |axis: i64, count: usize| Sample {
        op: Box::new(QuantizePerChannel {
            options: axis.into(),
        }),
        inputs: vec![
            SampleInput::new([3, 4], -2.0, 2.0),
            SampleInput::typed([count], DType::F32, 0.01, 0.05),
            SampleInput::typed([count], DType::I64, -9.0, 9.0),
        ],
        dtypes: &[DType::F32],
    };
    vec![sample(0, 3), sample(-1, 4)]
}
