//! `round`: rounded to the nearest integer.

use super::unary::{Apply, Rule, Unary, sample};
use crate::cpu::real::Real;
use crate::ops::prelude::*;

#[derive(Debug, Clone, Copy)]
struct Round {
    decimals: i64,
}

impl Tensor {
    /// The nearest integer, the even one at a tie; integers stay.
    ///
    /// Shapes: any. Dtypes: all but bool. PyTorch: `torch.round`. NPU: `aclnnRound`, `aclnnRoundDecimals`.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([0.5f32, 1.5, -1.2]);
    /// assert_eq!(x.round()?.to_vec::<f32>()?, [0.0, 2.0, -1.0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `DType` for bools; memory and device errors.
    pub fn round(&self) -> Result<Tensor> {
        Apply(Round { decimals: 0 }).run(self)
    }

    /// Rounded to a number of decimals: `round(x 10^d) / 10^d`, and for a negative one `round(x / 10^-d) 10^-d`.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// assert_eq!(Tensor::new([0.26f32, 1.0]).round_to(1)?.to_vec::<f32>()?, [0.3, 1.0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Tensor::round`].
    pub fn round_to(&self, decimals: i64) -> Result<Tensor> {
        Apply(Round { decimals }).run(self)
    }
}

impl Unary for Round {
    const NAME: &'static str = "round";
    const RULE: Rule = Rule::Numbers;
    const SAVES: Saves = Saves::NOTHING;

    fn cpu(&self, x: &Host<'_>, y: &mut HostMut<'_>) {
        if !x.dtype().is_float() {
            return map::copy(x, y);
        }
        let factor = 10f64.powi(i32::try_from(self.decimals.unsigned_abs()).unwrap_or(i32::MAX));
        with_float!(x.dtype(), T => {
            let factor = T::from_f64(factor);
            match self.decimals {
                0 => map::map1::<T, T>(x, y, Real::round_even),
                1.. => map::map1::<T, T>(x, y, |x| Real::round_even(x * factor) / factor),
                _ => map::map1::<T, T>(x, y, |x| Real::round_even(x / factor) * factor),
            }
        });
    }

    fn ascend(&self, cx: &Launch, x: &Dev<'_>, y: &Dev<'_>) -> Result<()> {
        match (x.dtype().is_float(), self.decimals) {
            (false, _) => aclnn::inplace_copy(cx, y, x),
            (true, 0) => aclnn::round(cx, x, y),
            (true, decimals) => aclnn::round_decimals(cx, x, decimals, y),
        }
    }

    fn backward(&self, _cx: &GradCx<'_>, dy: &Tensor) -> Result<Tensor> {
        dy.zeros_like()
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "round",
    family: "elementwise",
    kernels: &["aclnnRound", "aclnnRoundDecimals"],
    samples,
};

fn samples() -> Vec<Sample> {
    vec![
        sample(Round { decimals: 0 }, -4.0, 4.0, NUMBERS),
        sample(Round { decimals: 1 }, -4.0, 4.0, FLOATS),
    ]
}
