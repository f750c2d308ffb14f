//! `masked_fill`: one value where a mask is true.

use crate::ops::prelude::*;

#[derive(Debug, Clone, Copy)]
struct MaskedFill {
    value: Option<Scalar>,
}

impl Tensor {
    /// This tensor with `value` where `mask` is true; the dtype stays, the value is cast to it.
    ///
    /// Shapes: tensor and mask broadcast; a tensor as value has no dims. Dtypes: all. PyTorch: `torch.masked_fill`. NPU:
    /// `aclnnInplaceMaskedFillScalar`, `aclnnInplaceMaskedFillTensor` on a copy.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([1.0f32, 2.0]);
    /// assert_eq!(x.masked_fill(&Tensor::new([false, true]), -1.0)?.to_vec::<f32>()?, [1.0, -1.0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `DType` if the mask is not bool, `Shape` if the value has dims, `Broadcast` if the shapes do not fit, `Device` if the
    /// tensors are on two devices.
    pub fn masked_fill<'a>(&self, mask: &Tensor, value: impl Into<Operand<'a>>) -> Result<Tensor> {
        match value.into() {
            Operand::Tensor(value) => run_one(&MaskedFill { value: None }, &[self, mask, value]),
            Operand::Scalar(value) => run_one(&MaskedFill { value: Some(value) }, &[self, mask]),
        }
    }
}

impl Op for MaskedFill {
    fn name(&self) -> &'static str {
        "masked_fill"
    }

    fn infer(&self, x: &[Meta], plan: &mut Plan) -> Result<()> {
        if x[1].dtype != DType::Bool {
            return Err(Error::dtype("masked_fill", x[1].dtype, "a bool mask"));
        }
        if let Some(value) = x.get(2) {
            if value.shape.rank() != 0 {
                return Err(Error::shape(
                    "masked_fill",
                    format!("a value of shape {}", value.shape),
                    "a value without dims",
                ));
            }
            plan.cast(2, x[0].dtype);
        }
        plan.output(broadcast("masked_fill", &x[..2])?, x[0].dtype);
        Ok(())
    }

    fn cpu(&self, x: &[Host<'_>], y: &mut [HostMut<'_>]) -> Result<Counts> {
        let shape = *y[0].shape();
        with_lane!(y[0].dtype(), T => {
            let scalar = T::from_scalar(self.value.unwrap_or(Scalar::Int(0)));
            let value = x.get(2).map_or_else(|| Host::splat(&scalar, &shape), |value| value.broadcast(&shape));
            let choose = |x: T, mask: bool, value: T| if mask { value } else { x };
            map::map3::<T, bool, T, T>(&x[0].broadcast(&shape), &x[1].broadcast(&shape), &value, &mut y[0], choose);
        });
        Ok(Counts::EXACT)
    }

    fn ascend(&self, cx: &Launch, x: &[Dev<'_>], y: &[Dev<'_>]) -> Result<Counts> {
        aclnn::inplace_copy(cx, &y[0], &x[0])?;
        match self.value {
            Some(value) => aclnn::inplace_masked_fill_scalar(
                cx,
                &y[0],
                &x[1],
                AclScalar::of(value, y[0].dtype()),
            )?,
            None => aclnn::inplace_masked_fill_tensor(cx, &y[0], &x[1], &x[2])?,
        }
        Ok(Counts::EXACT)
    }

    fn compose(&self, x: &[Tensor]) -> Result<Outputs> {
        let value = match self.value {
            Some(value) => Tensor::full_of((), value, x[0].dtype(), x[0].device())?,
            None => x[2].clone(),
        };
        Ok(smallvec![x[1].where_cond(&value, &x[0])?])
    }

    fn gradient(&self) -> Gradient {
        Gradient::Backward
    }

    fn saves(&self) -> Saves {
        Saves::NOTHING.and_input(1)
    }

    fn backward(&self, cx: &GradCx<'_>) -> Result<Grads> {
        let (dy, mask) = (cx.gradient()?, cx.input(1)?);
        let mut grads: Grads = smallvec![cx.want(0, || dy.masked_fill(mask, 0i64))?, None];
        if self.value.is_none() {
            grads.push(cx.want(2, || mask.where_cond(dy, 0i64))?);
        }
        Ok(grads)
    }

    fn boxed(&self) -> Box<dyn Op> {
        Box::new(*self)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "masked_fill",
    family: "elementwise",
    kernels: &[
        "aclnnInplaceMaskedFillScalar",
        "aclnnInplaceMaskedFillTensor",
    ],
    samples,
};

fn samples() -> Vec<Sample> {
    let inputs = || {
        vec![
            SampleInput::new([3, 4], -2.0, 2.0),
            SampleInput::typed([4], DType::Bool, 0.0, 1.0),
        ]
    };
    let with_tensor = || {
        inputs()
            .into_iter()
            .chain([SampleInput::new((), -2.0, 2.0)])
            .collect()
    };
    vec![
        Sample {
            op: Box::new(MaskedFill {
                value: Some(Scalar::Int(1)),
            }),
            inputs: inputs(),
            dtypes: DType::ALL,
        },
        Sample {
            op: Box::new(MaskedFill { value: None }),
            inputs: with_tensor(),
            dtypes: DType::ALL,
        },
    ]
}
