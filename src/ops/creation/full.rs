//! `full`, `zeros`, `ones` and their `_like` forms: every element the same; `fill_` and `zero_`: the same in place.

use crate::ops::prelude::*;

#[derive(Debug, Clone, Copy)]
struct Full {
    shape: Shape,
    dtype: DType,
    device: Device,
    value: Scalar,
}

#[derive(Debug, Clone, Copy)]
struct Fill {
    value: Scalar,
}

impl Tensor {
    /// A tensor with every element `value`, of the value's dtype: `bool`, `i64` or `f32`.
    ///
    /// PyTorch: `torch.full`. NPU: `aclnnInplaceFillScalar`.
    ///
    /// ```
    /// use ascend_tensor::{Device, Tensor};
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::full([2, 2], 0.5, Device::Cpu)?;
    /// assert_eq!(x.to_vec::<f32>()?, [0.5; 4]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Shape` for more than eight dims, and memory and device errors.
    pub fn full(
        shape: impl Into<Shape>,
        value: impl Into<Scalar>,
        device: Device,
    ) -> Result<Tensor> {
        let value = value.into();
        Tensor::full_of(shape, value, value.dtype(), device)
    }

    /// A tensor of a dtype with every element `value`.
    ///
    /// # Errors
    /// As [`Tensor::full`].
    pub fn full_of(
        shape: impl Into<Shape>,
        value: impl Into<Scalar>,
        dtype: DType,
        device: Device,
    ) -> Result<Tensor> {
        run_one(
            &Full {
                shape: shape.into(),
                dtype,
                device,
                value: value.into(),
            },
            &[],
        )
    }

    /// A tensor of zeros. PyTorch: `torch.zeros`. NPU: `aclnnInplaceZero`.
    ///
    /// # Errors
    /// As [`Tensor::full`].
    pub fn zeros(shape: impl Into<Shape>, dtype: DType, device: Device) -> Result<Tensor> {
        Tensor::full_of(shape, 0i64, dtype, device)
    }

    /// A tensor of ones. PyTorch: `torch.ones`. NPU: `aclnnInplaceOne`.
    ///
    /// # Errors
    /// As [`Tensor::full`].
    pub fn ones(shape: impl Into<Shape>, dtype: DType, device: Device) -> Result<Tensor> {
        Tensor::full_of(shape, 1i64, dtype, device)
    }

    /// A tensor with this one's shape, dtype and device and every element `value`. PyTorch: `torch.full_like`.
    ///
    /// # Errors
    /// As [`Tensor::full`].
    pub fn full_like(&self, value: impl Into<Scalar>) -> Result<Tensor> {
        Tensor::full_of(*self.shape(), value, self.dtype(), self.device())
    }

    /// Zeros with this tensor's shape, dtype and device. PyTorch: `torch.zeros_like`.
    ///
    /// # Errors
    /// As [`Tensor::full`].
    pub fn zeros_like(&self) -> Result<Tensor> {
        self.full_like(0i64)
    }

    /// Ones with this tensor's shape, dtype and device. PyTorch: `torch.ones_like`.
    ///
    /// # Errors
    /// As [`Tensor::full`].
    pub fn ones_like(&self) -> Result<Tensor> {
        self.full_like(1i64)
    }

    /// Sets every element to `value` in place. PyTorch: `Tensor.fill_`. NPU: `aclnnInplaceFillScalar`.
    ///
    /// # Errors
    /// `Overlap` if this tensor overlaps itself, and device errors.
    pub fn fill_(&mut self, value: impl Into<Scalar>) -> Result<()> {
        *self = run_one(
            &Fill {
                value: value.into(),
            },
            &[self],
        )?;
        Ok(())
    }

    /// Sets every element to zero in place. PyTorch: `Tensor.zero_`. NPU: `aclnnInplaceZero`.
    ///
    /// # Errors
    /// As [`Tensor::fill_`].
    pub fn zero_(&mut self) -> Result<()> {
        self.fill_(0i64)
    }
}

fn fill_host(y: &mut HostMut<'_>, value: Scalar) {
    with_lane!(y.dtype(), T => map::fill(y, T::from_scalar(value)));
}

fn fill_ascend(cx: &Launch, y: &Dev<'_>, value: Scalar) -> Result<Counts> {
    if value.is_zero() {
        aclnn::inplace_zero(cx, y)?;
    } else if value.is_one() {
        aclnn::inplace_one(cx, y)?;
    } else {
        aclnn::inplace_fill_scalar(cx, y, AclScalar::of(value, y.dtype()))?;
    }
    Ok(Counts::EXACT)
}

impl Op for Full {
    fn name(&self) -> &'static str {
        "full"
    }

    fn infer(&self, _x: &[Meta], plan: &mut Plan) -> Result<()> {
        plan.output(self.shape, self.dtype);
        Ok(())
    }

    fn cpu(&self, _x: &[Host<'_>], y: &mut [HostMut<'_>]) -> Result<Counts> {
        fill_host(&mut y[0], self.value);
        Ok(Counts::EXACT)
    }

    fn ascend(&self, cx: &Launch, _x: &[Dev<'_>], y: &[Dev<'_>]) -> Result<Counts> {
        fill_ascend(cx, &y[0], self.value)
    }

    fn gradient(&self) -> Gradient {
        Gradient::Constant
    }

    fn device(&self) -> Device {
        self.device
    }

    fn boxed(&self) -> Box<dyn Op> {
        Box::new(*self)
    }
}

impl Op for Fill {
    fn name(&self) -> &'static str {
        "fill_"
    }

    fn infer(&self, _x: &[Meta], _plan: &mut Plan) -> Result<()> {
        Ok(())
    }

    fn cpu(&self, _x: &[Host<'_>], y: &mut [HostMut<'_>]) -> Result<Counts> {
        fill_host(&mut y[0], self.value);
        Ok(Counts::EXACT)
    }

    fn ascend(&self, cx: &Launch, _x: &[Dev<'_>], y: &[Dev<'_>]) -> Result<Counts> {
        fill_ascend(cx, &y[0], self.value)
    }

    fn gradient(&self) -> Gradient {
        Gradient::Backward
    }

    fn saves(&self) -> Saves {
        Saves::NOTHING
    }

    fn backward(&self, cx: &GradCx<'_>) -> Result<Grads> {
        Ok(smallvec![Some(cx.gradient()?.zeros_like()?)])
    }

    fn writes(&self) -> Writes {
        Writes::FIRST
    }

    fn boxed(&self) -> Box<dyn Op> {
        Box::new(*self)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "full",
    family: "creation",
    kernels: &[
        "aclnnInplaceZero",
        "aclnnInplaceOne",
        "aclnnInplaceFillScalar",
    ],
    samples,
};

fn samples() -> Vec<Sample> {
    let full = |dtype: &DType| Sample {
        op: Box::new(Full {
            shape: Shape::from([2, 3]),
            dtype: *dtype,
            device: Device::Cpu,
            value: Scalar::Int(3),
        }),
        inputs: vec![],
        dtypes: &[DType::F32],
    };
    let fill = Sample {
        op: Box::new(Fill {
            value: Scalar::Int(2),
        }),
        inputs: vec![SampleInput::new([2, 3], -2.0, 2.0)],
        dtypes: DType::ALL,
    };
    DType::ALL.iter().map(full).chain([fill]).collect()
}
