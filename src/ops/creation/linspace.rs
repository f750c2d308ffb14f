//! `linspace`: evenly spaced numbers, both ends included.

use std::ops::RangeInclusive;

use crate::ops::prelude::*;

#[derive(Debug, Clone, Copy)]
struct Linspace {
    start: Scalar,
    end: Scalar,
    steps: i64,
    dtype: DType,
    device: Device,
}

impl Tensor {
    /// `steps` evenly spaced numbers from the range's start to its end, both included; one step gives the start.
    ///
    /// Shapes: `-> [steps]`. Dtypes: all. PyTorch: `torch.linspace`. NPU: `aclnnLinspace`.
    ///
    /// ```
    /// use ascend_tensor::{DType, Device, Tensor};
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::linspace(0.0..=1.0, 5, DType::F32, Device::Cpu)?;
    /// assert_eq!(x.to_vec::<f32>()?, [0.0, 0.25, 0.5, 0.75, 1.0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Option` for a negative number of steps; memory and device errors.
    pub fn linspace<T: Into<Scalar>>(
        range: RangeInclusive<T>,
        steps: i64,
        dtype: DType,
        device: Device,
    ) -> Result<Tensor> {
        let (start, end) = range.into_inner();
        run_one(
            &Linspace {
                start: start.into(),
                end: end.into(),
                steps,
                dtype,
                device,
            },
            &[],
        )
    }
}

impl Op for Linspace {
    fn name(&self) -> &'static str {
        "linspace"
    }

    fn infer(&self, _x: &[Meta], plan: &mut Plan) -> Result<()> {
        let refused = || {
            Error::option(
                "linspace",
                "steps",
                format!("got {}, wanted a count", self.steps),
            )
        };
        plan.output(
            Shape::from([usize::try_from(self.steps).map_err(|_| refused())?]),
            self.dtype,
        );
        Ok(())
    }

    /// From the nearer end, so that both ends are exact.
    fn cpu(&self, _x: &[Host<'_>], y: &mut [HostMut<'_>]) -> Result<Counts> {
        let count = y[0].elements();
        let (start, end) = (self.start.to_f64(), self.end.to_f64());
        let step = if count > 1 {
            (end - start) / (count - 1) as f64
        } else {
            0.0
        };
        let at = |index: usize| {
            if index < count.div_ceil(2) {
                start + step * index as f64
            } else {
                end - step * (count - 1 - index) as f64
            }
        };
        with_lane!(y[0].dtype(), T => map::generate(&mut y[0], |index| T::from_f64(at(index))));
        Ok(Counts::EXACT)
    }

    fn ascend(&self, cx: &Launch, _x: &[Dev<'_>], y: &[Dev<'_>]) -> Result<Counts> {
        let dtype = y[0].dtype();
        if !dtype.is_float() {
            return Err(Error::unsupported(
                "linspace",
                Device::Ascend(cx.device()),
                dtype,
                "the kernel makes floats",
            ));
        }
        aclnn::linspace(
            cx,
            AclScalar::of(self.start, dtype),
            AclScalar::of(self.end, dtype),
            self.steps,
            &y[0],
        )?;
        Ok(Counts::EXACT)
    }

    /// Made on the host and moved.
    fn compose(&self, _x: &[Tensor]) -> Result<Outputs> {
        Ok(smallvec![
            run_one(
                &Linspace {
                    device: Device::Cpu,
                    ..*self
                },
                &[]
            )?
            .to_device(self.device)?
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
    name: "linspace",
    family: "creation",
    kernels: &["aclnnLinspace"],
    samples,
};

fn samples() -> Vec<Sample> {
    let of = |steps, dtype| Sample {
        op: Box::new(Linspace {
            start: Scalar::Float(-1.0),
            end: Scalar::Float(2.0),
            steps,
            dtype,
            device: Device::Cpu,
        }),
        inputs: vec![],
        dtypes: &[DType::F32],
    };
    vec![of(7, DType::F32), of(1, DType::F16), of(0, DType::F32)]
}
