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
    /// Shapes: any. Dtypes: all but bool. PyTorch: `torch.nn.functional.threshold`. NPU: `aclnnThreshold`.
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
            threshold: threshold.into(),
            value: value.into(),
        })
        .run(self)
    }
}

impl Unary for Threshold {
    const NAME: &'static str = "threshold";
    const RULE: Rule = Rule::Numbers;

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

    fn backward(&self, cx: &GradCx<'_>, dy: &Tensor) -> Result<Tensor> {
        dy.masked_fill(&cx.input(0)?.le(self.threshold)?, 0i64)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "threshold",
    family: "activation",
    kernels: &["aclnnThreshold"],
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
