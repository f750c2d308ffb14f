//! `hardtanh`: held between two limits.

use crate::ops::elementwise::unary::{Apply, Rule, Unary, sample};
use crate::ops::prelude::*;
use std::ops::RangeInclusive;

#[derive(Debug, Clone, Copy)]
struct Hardtanh {
    low: f64,
    high: f64,
}

impl Tensor {
    /// `min(max(x, start), end)` for limits `start..=end`; NaN stays. The gradient is 0 at the limits and beyond.
    ///
    /// Shapes: any. Dtypes: all but bool. PyTorch: `torch.nn.functional.hardtanh`.
    /// NPU: `aclnnHardtanh`, `aclnnHardtanhBackward`.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([-2.0f32, 0.5, 2.0]);
    /// assert_eq!(x.hardtanh(-1.0..=1.0)?.to_vec::<f32>()?, [-1.0, 0.5, 1.0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Option` for limits that cross, `DType` for bools; memory and device errors.
    pub fn hardtanh(&self, limits: RangeInclusive<f64>) -> Result<Tensor> {
        Apply(Hardtanh {
            low: *limits.start(),
            high: *limits.end(),
        })
        .run(self)
    }
}

impl Unary for Hardtanh {
    const NAME: &'static str = "hardtanh";
    const RULE: Rule = Rule::Numbers;
    const FUSED_SLOPE: bool = true;

    fn check(&self) -> Result<()> {
        if self.low > self.high {
            return Err(Error::option(
                "hardtanh",
                "limits",
                format!(
                    "got {}..={}, wanted a start not above the end",
                    self.low, self.high
                ),
            ));
        }
        Ok(())
    }

    fn cpu(&self, x: &Host<'_>, y: &mut HostMut<'_>) {
        with_lane!(x.dtype(), T => {
            let (low, high) = (T::from_scalar(self.low.into()), T::from_scalar(self.high.into()));
            map::map1::<T, T>(x, y, |x| x.larger(low).smaller(high));
        });
    }

    fn ascend(&self, cx: &Launch, x: &Dev<'_>, y: &Dev<'_>) -> Result<()> {
        aclnn::hardtanh(
            cx,
            x,
            AclScalar::of(self.low, y.dtype()),
            AclScalar::of(self.high, y.dtype()),
            y,
        )
    }

    fn compose(&self, x: &Tensor) -> Result<Tensor> {
        let (low, high) = match x.dtype().is_float() {
            true => (Scalar::Float(self.low), Scalar::Float(self.high)),
            false => (Scalar::Int(self.low as i64), Scalar::Int(self.high as i64)),
        };
        x.clamp(
            crate::ops::elementwise::ClampOptions::new()
                .min(low)
                .max(high),
        )
    }

    fn slope(&self, dy: &Tensor, x: &Tensor) -> Result<Tensor> {
        let inside = x.gt(self.low)?.logical_and(&x.lt(self.high)?)?;
        inside.where_cond(dy, 0i64)
    }

    fn ascend_slope(&self, cx: &Launch, dy: &Dev<'_>, x: &Dev<'_>, dx: &Dev<'_>) -> Result<()> {
        aclnn::hardtanh_backward(
            cx,
            dy,
            x,
            AclScalar::of(self.low, dx.dtype()),
            AclScalar::of(self.high, dx.dtype()),
            dx,
        )
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "hardtanh",
    family: "activation",
    kernels: &["aclnnHardtanh", "aclnnHardtanhBackward"],
    samples,
};

fn samples() -> Vec<Sample> {
    vec![sample(
        Hardtanh {
            low: -1.0,
            high: 2.0,
        },
        -4.0,
        4.0,
        NUMBERS,
    )]
}
