//! `addcmul`: an operand plus a scaled product.

use super::unary::wide;
use crate::ops::prelude::*;

#[derive(Debug, Clone, Copy)]
struct Addcmul {
    value: Scalar,
}

impl Tensor {
    /// `self + value * tensor1 * tensor2`, elementwise with broadcasting and type promotion.
    ///
    /// Shapes: all that broadcast. Dtypes: all. PyTorch: `torch.addcmul`. NPU: `aclnnAddcmul`.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let (x, y, z) = (Tensor::new([1.0f32]), Tensor::new([6.0f32]), Tensor::new([2.0f32]));
    /// assert_eq!(x.addcmul(&y, &z, 0.5)?.to_vec::<f32>()?, [7.0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Broadcast` if the shapes do not fit, `Device` if the tensors are on two devices.
    pub fn addcmul(
        &self,
        tensor1: &Tensor,
        tensor2: &Tensor,
        value: impl Into<Scalar>,
    ) -> Result<Tensor> {
        run_one(
            &Addcmul {
                value: value.into(),
            },
            &[self, tensor1, tensor2],
        )
    }
}

impl Op for Addcmul {
    fn name(&self) -> &'static str {
        "addcmul"
    }

    fn infer(&self, x: &[Meta], plan: &mut Plan) -> Result<()> {
        super::plan_promoted("addcmul", x, &[], plan).map(|_| ())
    }

    fn cpu(&self, x: &[Host<'_>], y: &mut [HostMut<'_>]) -> Result<Counts> {
        let shape = *y[0].shape();
        let [x, a, b] = [0, 1, 2].map(|index: usize| x[index].broadcast(&shape));
        with_lane!(y[0].dtype(), T => {
            let value = T::from_scalar(self.value);
            map::map3::<T, T, T, T>(&x, &a, &b, &mut y[0], |x, a, b| x.plus(value.times(a).times(b)));
        });
        Ok(Counts::EXACT)
    }

    fn ascend(&self, cx: &Launch, x: &[Dev<'_>], y: &[Dev<'_>]) -> Result<Counts> {
        aclnn::addcmul(
            cx,
            &x[0],
            &x[1],
            &x[2],
            AclScalar::of(self.value, y[0].dtype()),
            &y[0],
        )?;
        Ok(Counts::EXACT)
    }

    fn compose(&self, x: &[Tensor]) -> Result<Outputs> {
        let (dtype, wide) = (x[0].dtype(), x[0].dtype().compute());
        let [x, a, b] = [
            x[0].to_dtype(wide)?,
            x[1].to_dtype(wide)?,
            x[2].to_dtype(wide)?,
        ];
        Ok(smallvec![
            x.add(&a.mul(&b)?.mul(if wide.is_float() {
                self.value
            } else {
                Scalar::Int(self.value.to_i64())
            })?)?
            .to_dtype(dtype)?
        ])
    }

    fn gradient(&self) -> Gradient {
        Gradient::Backward
    }

    fn saves(&self) -> Saves {
        Saves::NOTHING.and_input(1).and_input(2)
    }

    fn backward(&self, cx: &GradCx<'_>) -> Result<Grads> {
        let (dy, a, b) = (cx.gradient()?, cx.input(1)?, cx.input(2)?);
        Ok(smallvec![
            cx.want(0, || Ok(dy.clone()))?,
            cx.want(1, || wide(dy)?.mul(&wide(b)?.mul(self.value)?))?,
            cx.want(2, || wide(dy)?.mul(&wide(a)?.mul(self.value)?))?
        ])
    }

    fn cast(&self) -> CastRule {
        CastRule::Widest
    }

    fn boxed(&self) -> Box<dyn Op> {
        Box::new(*self)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "addcmul",
    family: "elementwise",
    kernels: &["aclnnAddcmul"],
    samples,
};

fn samples() -> Vec<Sample> {
    let inputs = vec![
        SampleInput::new([3, 4], -3.0, 3.0),
        SampleInput::new([3, 1], -3.0, 3.0),
        SampleInput::new([4], -3.0, 3.0),
    ];
    vec![Sample {
        op: Box::new(Addcmul {
            value: Scalar::Int(2),
        }),
        inputs,
        dtypes: NUMBERS,
    }]
}
