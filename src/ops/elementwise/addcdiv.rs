//! `addcdiv`: an operand plus a scaled quotient.

use crate::ops::prelude::*;

#[derive(Debug, Clone, Copy)]
struct Addcdiv {
    value: Scalar,
}

impl Tensor {
    /// `self + value * tensor1 / tensor2`, elementwise with broadcasting and type promotion.
    ///
    /// Shapes: all that broadcast. Dtypes: all, with a float in the quotient. PyTorch: `torch.addcdiv`. NPU: `aclnnAddcdiv`.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let (x, y, z) = (Tensor::new([1.0f32]), Tensor::new([6.0f32]), Tensor::new([2.0f32]));
    /// assert_eq!(x.addcdiv(&y, &z, 0.5)?.to_vec::<f32>()?, [2.5]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `DType` if both of the quotient are integers, `Broadcast` if the shapes do not fit, `Device` if the tensors are on two devices.
    pub fn addcdiv(
        &self,
        tensor1: &Tensor,
        tensor2: &Tensor,
        value: impl Into<Scalar>,
    ) -> Result<Tensor> {
        run_one(
            &Addcdiv {
                value: value.into(),
            },
            &[self, tensor1, tensor2],
        )
    }
}

impl Op for Addcdiv {
    fn name(&self) -> &'static str {
        "addcdiv"
    }

    fn infer(&self, x: &[Meta], plan: &mut Plan) -> Result<()> {
        if !x[1].dtype.is_float() && !x[2].dtype.is_float() {
            return Err(Error::dtype(
                "addcdiv",
                format!("{} divided by {}", x[1].dtype, x[2].dtype),
                "a float among the two",
            ));
        }
        let dtype = result_type(x, &[]).to_float();
        super::plan_as("addcdiv", x, dtype, dtype, plan)
    }

    fn cpu(&self, x: &[Host<'_>], y: &mut [HostMut<'_>]) -> Result<Counts> {
        let shape = *y[0].shape();
        let [x, a, b] = [0, 1, 2].map(|index: usize| x[index].broadcast(&shape));
        with_float!(y[0].dtype(), T => {
            let value = T::from_scalar(self.value);
            map::map3::<T, T, T, T>(&x, &a, &b, &mut y[0], |x, a, b| x + value * a / b);
        });
        Ok(Counts::EXACT)
    }

    fn ascend(&self, cx: &Launch, x: &[Dev<'_>], y: &[Dev<'_>]) -> Result<Counts> {
        aclnn::addcdiv(
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
            x.add(&a.div(&b)?.mul(self.value)?)?.to_dtype(dtype)?
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
            cx.want(1, || dy.mul(self.value)?.div(b))?,
            cx.want(2, || dy.neg()?.mul(&a.mul(self.value)?.div(b)?.div(b)?))?
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
    name: "addcdiv",
    family: "elementwise",
    kernels: &["aclnnAddcdiv"],
    samples,
};

fn samples() -> Vec<Sample> {
    let inputs = vec![
        SampleInput::new([3, 4], 1.0, 3.0),
        SampleInput::new([3, 1], 1.0, 3.0),
        SampleInput::new([4], 1.0, 3.0),
    ];
    vec![Sample {
        op: Box::new(Addcdiv {
            value: Scalar::Int(2),
        }),
        inputs,
        dtypes: FLOATS,
    }]
}
