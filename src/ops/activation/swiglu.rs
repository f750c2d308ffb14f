//! `swiglu`: one half times the `silu` of the other.

use super::gate::{Gate, Gated};
use crate::cpu::real::Real;
use crate::ops::prelude::*;

#[derive(Debug, Clone, Copy)]
struct SwiGlu;

impl Tensor {
    /// `silu(a) b` with `a` and `b` the first and second half along `dim`.
    ///
    /// Shapes: `[.., 2n, ..] -> [.., n, ..]`. Dtypes: floats; halves compute in f32. PyTorch: none. NPU: `aclnnSwiGlu`,
    /// `aclnnSwiGluGrad`.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([[0.0f32, 3.0]]);
    /// assert_eq!(x.swiglu(-1)?.to_vec::<f32>()?, [0.0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Shape` for an odd size, `Axis` for a dim out of range, `DType` for integers and bools.
    pub fn swiglu(&self, dim: i64) -> Result<Tensor> {
        run_one(&Gated::<SwiGlu>::along(dim), &[self])
    }
}

impl Gate for SwiGlu {
    const NAME: &'static str = "swiglu";
    const BACKWARD: &'static str = "swiglu_backward";

    #[inline(always)]
    fn at<T: Real>(a: T, b: T) -> T {
        a.times(a.sigmoid()).times(b)
    }

    #[inline(always)]
    fn slopes<T: Real>(a: T, b: T) -> (T, T) {
        let (s, rest) = a.sigmoids();
        let slope = s.times(T::ONE.plus(a.times(rest)));
        (slope.times(b), a.times(s))
    }

    fn ascend(cx: &Launch, x: &Dev<'_>, dim: i64, y: &Dev<'_>) -> Result<()> {
        // The kernels want their inputs without gaps.
        aclnn::swiglu(cx, &cx.contiguous(x)?.dev(), dim, y)
    }

    fn ascend_backward(
        cx: &Launch,
        dy: &Dev<'_>,
        x: &Dev<'_>,
        dim: i64,
        dx: &Dev<'_>,
    ) -> Result<()> {
        aclnn::swiglu_grad(
            cx,
            &cx.contiguous(dy)?.dev(),
            &cx.contiguous(x)?.dev(),
            dim,
            dx,
        )
    }

    fn compose(a: &Tensor, b: &Tensor) -> Result<Tensor> {
        a.silu()?.mul(b)
    }

    fn compose_slopes(a: &Tensor, b: &Tensor) -> Result<(Tensor, Tensor)> {
        let s = a.sigmoid()?;
        let slope = s.mul(&a.mul(&s.neg()?.add(1i64)?)?.add(1i64)?)?;
        Ok((slope.mul(b)?, a.mul(&s)?))
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "swiglu",
    family: "activation",
    kernels: &["aclnnSwiGlu", "aclnnSwiGluGrad"],
    samples,
};

fn samples() -> Vec<Sample> {
    let of = |dim| Sample {
        op: Box::new(Gated::<SwiGlu>::along(dim)),
        inputs: vec![SampleInput::new([4, 6], -2.0, 2.0)],
        dtypes: FLOATS,
    };
    vec![of(-1), of(0)]
}
