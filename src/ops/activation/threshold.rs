//! `threshold`: replaced up to a threshold.

use crate::ops::elementwise::unary::{Apply, Rule, Unary, sample};
use crate::ops::prelude::*;

#[derive(Debug, Clone, Copy)]
struct Threshold {
    threshold: Scalar,
    value: Scalar,
}

impl Tensor {
    /// `value` where `x <= threshold`, else `x`; NaN stays.
    ///
    /// Shapes: any. Dtypes: all but bool. PyTorch: `torch.nn.functional.threshold`.
    /// NPU: `aclnnThreshold`, `aclnnThresholdBackward`.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([0.5f32, 2.0]);
    /// assert_eq!(x.threshold(1.0, -1.0)?.to_vec::<f32>()?, [-1.0, 2.0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `DType` for bools; memory and device errors.
    pub fn threshold(
        &self,
        threshold: impl Into<Scalar>,
        value: impl Into<Scalar>,
    ) -> Result<Tensor> {
        Apply(Threshold {
            threshold: lowered(threshold.into(), self.dtype()),
            value: value.into(),
        })
        .run(self)
    }
}

/// The largest half up to a threshold, which all halves compare with as with the threshold itself: kernels round it.
fn lowered(threshold: Scalar, dtype: DType) -> Scalar {
    let exact = f64::from(threshold.to_f64() as f32);
    let (near, bits): (f64, u16) = match dtype {
        DType::F16 => {
            let half = half::f16::from_f64(exact);
            (half.to_f64(), half.to_bits())
        }
        DType::BF16 => {
            let half = half::bf16::from_f64(exact);
            (half.to_f64(), half.to_bits())
        }
        _ => return threshold,
    };
    if near <= exact || exact.is_nan() {
        return Scalar::Float(near);
    }
    let below = match near {
        near if near > 0.0 => bits - 1,
        near if near < 0.0 => bits + 1,
        _ => 0x8001,
    };
    Scalar::Float(match dtype {
        DType::F16 => half::f16::from_bits(below).to_f64(),
        _ => half::bf16::from_bits(below).to_f64(),
    })
}

impl Unary for Threshold {
    const NAME: &'static str = "threshold";
    const RULE: Rule = Rule::Numbers;
    const FUSED_SLOPE: bool = true;

    fn cpu(&self, x: &Host<'_>, y: &mut HostMut<'_>) {
        with_lane!(x.dtype(), T => {
            let (threshold, value) = (T::from_scalar(self.threshold), T::from_scalar(self.value));
            map::map1::<T, T>(x, y, |x| if x <= threshold { value } else { x });
        });
    }

    fn ascend(&self, cx: &Launch, x: &Dev<'_>, y: &Dev<'_>) -> Result<()> {
        aclnn::threshold(
            cx,
            x,
            AclScalar::of(self.threshold, y.dtype()),
            AclScalar::of(self.value, y.dtype()),
            y,
        )
    }

    fn compose(&self, x: &Tensor) -> Result<Tensor> {
        let threshold = if x.dtype().is_float() {
            self.threshold
        } else {
            Scalar::Int(self.threshold.to_i64())
        };
        x.masked_fill(&x.le(threshold)?, self.value)
    }

    fn slope(&self, dy: &Tensor, x: &Tensor) -> Result<Tensor> {
        dy.masked_fill(&x.le(self.threshold)?, 0i64)
    }

    fn ascend_slope(&self, cx: &Launch, dy: &Dev<'_>, x: &Dev<'_>, dx: &Dev<'_>) -> Result<()> {
        aclnn::threshold_backward(cx, dy, x, AclScalar::of(self.threshold, dx.dtype()), dx)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "threshold",
    family: "activation",
    kernels: &["aclnnThreshold", "aclnnThresholdBackward"],
    samples,
};

fn samples() -> Vec<Sample> {
    vec![sample(
        Threshold {
            threshold: Scalar::Int(1),
            value: Scalar::Int(2),
        },
        -4.0,
        4.0,
        NUMBERS,
    )]
}
