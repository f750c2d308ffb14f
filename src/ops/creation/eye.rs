//! `eye`: ones on the diagonal.

use crate::ops::prelude::*;

#[derive(Debug, Clone, Copy)]
struct Eye {
    shape: [usize; 2],
    dtype: DType,
    device: Device,
}

impl Tensor {
    /// A matrix of `[rows, columns]` with ones on the main diagonal and zeros elsewhere.
    ///
    /// Shapes: `-> [rows, columns]`. Dtypes: all. PyTorch: `torch.eye`. NPU: `aclnnEye`.
    ///
    /// ```
    /// use ascend_tensor::{DType, Device, Tensor};
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::eye([2, 3], DType::F32, Device::Cpu)?;
    /// assert_eq!(x.to_vec::<f32>()?, [1.0, 0.0, 0.0, 0.0, 1.0, 0.0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Memory and device errors only.
    pub fn eye(shape: [usize; 2], dtype: DType, device: Device) -> Result<Tensor> {
        run_one(
            &Eye {
                shape,
                dtype,
                device,
            },
            &[],
        )
    }
}

impl Op for Eye {
    fn name(&self) -> &'static str {
        "eye"
    }

    fn infer(&self, _x: &[Meta], plan: &mut Plan) -> Result<()> {
        plan.output(Shape::from(self.shape), self.dtype);
        Ok(())
    }

    fn cpu(&self, _x: &[Host<'_>], y: &mut [HostMut<'_>]) -> Result<Counts> {
        let columns = self.shape[1].max(1);
        with_lane!(y[0].dtype(), T => {
            map::generate(&mut y[0], |index| if index / columns == index % columns { T::ONE } else { T::ZERO });
        });
        Ok(Counts::EXACT)
    }

    fn ascend(&self, cx: &Launch, _x: &[Dev<'_>], y: &[Dev<'_>]) -> Result<Counts> {
        let [rows, columns] = self
            .shape
            .map(|size| i64::try_from(size).unwrap_or(i64::MAX));
        aclnn::eye(cx, rows, columns, &y[0])?;
        Ok(Counts::EXACT)
    }

    /// In a dtype that the kernel has, then cast.
    fn compose(&self, _x: &[Tensor]) -> Result<Outputs> {
        let wide = match self.dtype {
            DType::F32 => {
                return Err(Error::unsupported(
                    "eye",
                    self.device,
                    self.dtype,
                    "no kernel there takes this dtype",
                ));
            }
            _ => DType::F32,
        };
        Ok(smallvec![
            Tensor::eye(self.shape, wide, self.device)?.to_dtype(self.dtype)?
        ])
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

pub(super) const INFO: OpInfo = OpInfo {
    name: "eye",
    family: "creation",
    kernels: &["aclnnEye"],
    samples,
};

fn samples() -> Vec<Sample> {
    let of = |shape, dtype| Sample {
        op: Box::new(Eye {
            shape,
            dtype,
            device: Device::Cpu,
        }),
        inputs: vec![],
        dtypes: &[DType::F32],
    };
    vec![
        of([3, 3], DType::F32),
        of([2, 4], DType::I64),
        of([3, 0], DType::Bool),
    ]
}
