//! `glu`: one half times the logistic function of the other.

use super::gate::{Gate, Gated};
use crate::cpu::real::Real;
use crate::ops::prelude::*;

#[derive(Debug, Clone, Copy)]
struct Glu;

impl Tensor {
    /// `a sigmoid(b)` with `a` and `b` the first and second half along `dim`.
    ///
    /// Shapes: `[.., 2n, ..] -> [.., n, ..]`. Dtypes: floats; halves compute in f32. PyTorch: `torch.nn.functional.glu`. NPU: `aclnnGlu`,
    /// `aclnnGluBackward`.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([[3.0f32, 0.0]]);
    /// assert_eq!(x.glu(-1)?.to_vec::<f32>()?, [1.5]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Shape` for an odd size, `Axis` for a dim out of range, `DType` for integers and bools.
    pub fn glu(&self, dim: i64) -> Result<Tensor> {
        run_one(&Gated::<Glu>::along(dim), &[self])
    }
}

impl Gate for Glu {
    const NAME: &'static str = "glu";
    const BACKWARD: &'static str = "glu_backward";

    #[inline(always)]
    fn at<T: Real>(a: T, b: T) -> T {
        a.times(b.sigmoid())
    }

    #[inline(always)]
    fn slopes<T: Real>(a: T, b: T) -> (T, T) {
        let (s, rest) = b.sigmoids();
        (s, a.times(s).times(rest))
    }

    fn ascend(cx: &Launch, x: &Dev<'_>, dim: i64, y: &Dev<'_>) -> Result<()> {
        aclnn::glu(cx, x, dim, y)
    }

    fn ascend_backward(
        cx: &Launch,
        dy: &Dev<'_>,
        x: &Dev<'_>,
        dim: i64,
        dx: &Dev<'_>,
    ) -> Result<()> {
        aclnn::glu_backward(cx, dy, x, dim, dx)
    }

    fn compose(a: &Tensor, b: &Tensor) -> Result<Tensor> {
        a.mul(&b.sigmoid()?)
    }

    fn compose_slopes(a: &Tensor, b: &Tensor) -> Result<(Tensor, Tensor)> {
        let s = b.sigmoid()?;
        let db = a.mul(&s)?.mul(&s.neg()?.add(1i64)?)?;
        Ok((s, db))
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "glu",
    family: "activation",
    kernels: &["aclnnGlu", "aclnnGluBackward"],
    samples,
};

fn samples() -> Vec<Sample> {
    let of = |dim| Sample {
        op: Box::new(Gated::<Glu>::along(dim)),
        inputs: vec![SampleInput::new([4, 6], -2.0, 2.0)],
        dtypes: FLOATS,
    };
    vec![of(-1), of(0)]
}
