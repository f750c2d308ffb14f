//! `dynamic_quant`: rows of floats as `i8`, each with a scale of its own.

use crate::ops::prelude::*;
use crate::ops::reduce::ReduceOptions;

/// What [`Tensor::dynamic_quant`] gives.
#[derive(Debug, Clone)]
pub struct DynamicallyQuantized {
    /// The integers, `i8`.
    pub values: Tensor,
    /// The scale of each row, `f32`, without the last dim.
    pub scales: Tensor,
}

#[derive(Debug, Clone, Copy)]
struct DynamicQuant;

const NAME: &str = "dynamic_quant";

impl Tensor {
    /// `round(x / scale)` with `scale = max|x| / 127` over the last dim, ties to even; a row of zeros has the scale 0.
    ///
    /// Shapes: `[.., k]` -> `[.., k]` and `[..]`. Dtypes: floats to `i8` and `f32`. PyTorch: none (per-token symmetric
    /// quantisation). NPU: `aclnnDynamicQuant` for halves, else elementwise kernels.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([[1.27f32, -0.5], [0.0, 0.0]]);
    /// let quantized = x.dynamic_quant()?;
    /// assert_eq!(quantized.values.to_vec::<i8>()?, [127, -50, 0, 0]);
    /// assert_eq!(quantized.scales.to_vec::<f32>()?, [0.01, 0.0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Shape` for a 0-d tensor, `DType` for integers and bools.
    pub fn dynamic_quant(&self) -> Result<DynamicallyQuantized> {
        let (values, scales) = crate::ops::reduce::run_two(&DynamicQuant, &[self])?;
        Ok(DynamicallyQuantized { values, scales })
    }
}

/// A tensor with a dim more in front.
fn as_row<'a>(x: &Dev<'a>) -> Dev<'a> {
    x.with_layout(x.layout().unsqueeze(0))
}

impl Op for DynamicQuant {
    fn name(&self) -> &'static str {
        NAME
    }

    fn infer(&self, x: &[Meta], plan: &mut Plan) -> Result<()> {
        crate::ops::norm::float_only(NAME, x[0].dtype)?;
        let Some(last) = x[0].shape.rank().checked_sub(1) else {
            return Err(Error::shape(NAME, x[0].shape, "at least one dim"));
        };
        plan.output(x[0].shape, DType::I8);
        plan.output(x[0].shape.without(last), DType::F32);
        Ok(())
    }

    fn ascend(&self, cx: &Launch, x: &[Dev<'_>], y: &[Dev<'_>]) -> Result<Counts> {
        if x[0].is_empty() {
            aclnn::inplace_zero(cx, &y[1])?;
            return Ok(Counts::EXACT);
        }
        // The kernel takes two dims or more.
        if x[0].shape().rank() == 1 {
            let [x, y, scale] = [&x[0], &y[0], &y[1]].map(as_row);
            aclnn::dynamic_quant(cx, &x, None, &y, &scale)?;
        } else {
            aclnn::dynamic_quant(cx, &x[0], None, &y[0], &y[1])?;
        }
        Ok(Counts::EXACT)
    }

    fn compose(&self, x: &[Tensor]) -> Result<Outputs> {
        let wide = x[0].to_dtype(DType::F32)?;
        let last = wide.rank() - 1;
        if wide.shape().size(last) == 0 {
            let scales = Tensor::zeros(wide.shape().without(last), DType::F32, wide.device())?;
            return Ok(smallvec![wide.to_dtype(DType::I8)?, scales]);
        }
        let top = wide.abs()?.amax(ReduceOptions::new().dim(-1).keepdim())?;
        let scales = top.div(127.0)?;
        let divisor = scales.eq(0.0)?.where_cond(1.0, &scales)?;
        let values = wide.div(&divisor)?.round()?.to_dtype(DType::I8)?;
        let shape = scales.shape().without(last);
        Ok(smallvec![values, scales.reshape(shape)?])
    }

    fn is_composed(&self, _x: &[Meta], _device: Device) -> bool {
        true
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
    kernels: &["aclnnDynamicQuant"],
    samples,
};

fn samples() -> Vec<Sample> {
    let sample = |shape: &[usize]| Sample {
        op: Box::new(DynamicQuant),
        inputs: vec![SampleInput::new(shape, -2.0, 2.0)],
        dtypes: FLOATS,
    };
    vec![sample(&[3, 5]), sample(&[2, 2, 7]), sample(&[6])]
}
