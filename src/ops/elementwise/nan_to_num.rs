//! `nan_to_num`: numbers in place of NaN and infinities.

use super::unary::{Apply, Rule, Unary, sample};
use crate::ops::prelude::*;

/// What [`Tensor::nan_to_num`] puts in place of NaN and infinities; `()` means 0 and the dtype's largest and lowest numbers.
#[derive(Debug, Clone, Copy, Default)]
#[must_use]
pub struct NanToNumOptions {
    nan: f64,
    posinf: Option<f64>,
    neginf: Option<f64>,
}

impl NanToNumOptions {
    /// 0 for NaN, the dtype's largest number for infinity and its lowest for minus infinity.
    pub fn new() -> Self {
        NanToNumOptions::default()
    }

    /// In place of NaN.
    pub fn nan(mut self, value: f64) -> Self {
        self.nan = value;
        self
    }

    /// In place of infinity.
    pub fn posinf(mut self, value: f64) -> Self {
        self.posinf = Some(value);
        self
    }

    /// In place of minus infinity.
    pub fn neginf(mut self, value: f64) -> Self {
        self.neginf = Some(value);
        self
    }
}

impl From<()> for NanToNumOptions {
    fn from((): ()) -> Self {
        NanToNumOptions::new()
    }
}

#[derive(Debug, Clone, Copy)]
struct NanToNum {
    options: NanToNumOptions,
}

impl Tensor {
    /// The elements with NaN, infinity and minus infinity replaced; integers and bools stay.
    ///
    /// Shapes: any. Dtypes: all. PyTorch: `torch.nan_to_num`. NPU: composed of simpler ops.
    ///
    /// ```
    /// use ascend_tensor::{Tensor, ops::elementwise::NanToNumOptions};
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([1.0f32, f32::NAN, f32::INFINITY]);
    /// assert_eq!(x.nan_to_num(())?.to_vec::<f32>()?, [1.0, 0.0, f32::MAX]);
    /// assert_eq!(x.nan_to_num(NanToNumOptions::new().posinf(9.0))?.to_vec::<f32>()?, [1.0, 0.0, 9.0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Memory and device errors only.
    pub fn nan_to_num(&self, options: impl Into<NanToNumOptions>) -> Result<Tensor> {
        Apply(NanToNum {
            options: options.into(),
        })
        .run(self)
    }
}

impl NanToNum {
    /// What stands for NaN, infinity and minus infinity in a dtype.
    fn values(&self, dtype: DType) -> [f64; 3] {
        let largest = dtype.largest();
        [
            self.options.nan,
            self.options.posinf.unwrap_or(largest),
            self.options.neginf.unwrap_or(-largest),
        ]
    }
}

impl Unary for NanToNum {
    const NAME: &'static str = "nan_to_num";
    const RULE: Rule = Rule::Any;

    fn cpu(&self, x: &Host<'_>, y: &mut HostMut<'_>) {
        if !x.dtype().is_float() {
            return map::copy(x, y);
        }
        let values = self.values(x.dtype());
        with_float!(x.dtype(), T => {
            let [nan, posinf, neginf] = values.map(T::from_f64);
            map::map1::<T, T>(x, y, |x| {
                let finite = if x == T::INFINITY { posinf } else if x == T::NEG_INFINITY { neginf } else { x };
                if x.is_nan() { nan } else { finite }
            });
        });
    }

    fn compose(&self, x: &Tensor) -> Result<Tensor> {
        if !x.dtype().is_float() {
            return x.copy();
        }
        let [nan, posinf, neginf] = self.values(x.dtype());
        let (above, below) = (x.eq(f64::INFINITY)?, x.eq(f64::NEG_INFINITY)?);
        x.masked_fill(&x.isnan()?, nan)?
            .masked_fill(&above, posinf)?
            .masked_fill(&below, neginf)
    }

    fn backward(&self, cx: &GradCx<'_>, dy: &Tensor) -> Result<Tensor> {
        cx.input(0)?.isfinite()?.where_cond(dy, 0i64)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "nan_to_num",
    family: "elementwise",
    kernels: &[],
    samples,
};

fn samples() -> Vec<Sample> {
    vec![sample(
        NanToNum {
            options: NanToNumOptions::new(),
        },
        -2.0,
        2.0,
        DType::ALL,
    )]
}
