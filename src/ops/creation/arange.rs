//! `arange`: numbers at equal steps up to an end.

use crate::ops::prelude::*;

/// The numbers of [`Tensor::arange`]: from a start to before an end. Ranges of numbers convert.
#[derive(Debug, Clone, Copy)]
#[must_use]
pub struct ArangeOptions {
    start: Scalar,
    end: Scalar,
    step: Scalar,
    dtype: Option<DType>,
}

impl ArangeOptions {
    /// From `start` to before `end` in steps of 1.
    pub fn new(start: impl Into<Scalar>, end: impl Into<Scalar>) -> Self {
        ArangeOptions {
            start: start.into(),
            end: end.into(),
            step: Scalar::Int(1),
            dtype: None,
        }
    }

    /// The distance of neighbours.
    pub fn step(mut self, step: impl Into<Scalar>) -> Self {
        self.step = step.into();
        self
    }

    /// The dtype; without one, `i64` if start, end and step are integers, else `f32`.
    pub fn dtype(mut self, dtype: DType) -> Self {
        self.dtype = Some(dtype);
        self
    }

    fn is_integer(&self) -> bool {
        [self.start, self.end, self.step]
            .iter()
            .all(|value| !value.dtype().is_float())
    }

    /// How many numbers there are.
    fn count(&self) -> Result<usize> {
        let refused = |name, why: String| Err(Error::option("arange", name, why));
        let (start, end, step) = (self.start.to_f64(), self.end.to_f64(), self.step.to_f64());
        if step == 0.0 || step.is_nan() {
            return refused(
                "step",
                format!("got {step}, wanted another number than zero"),
            );
        }
        if !(start.is_finite() && end.is_finite()) {
            return refused(
                "start, end",
                format!("got {start} and {end}, wanted finite numbers"),
            );
        }
        if (end - start) * step < 0.0 {
            return refused("step", format!("got {step}, which leads away from {end}"));
        }
        let count = if self.is_integer() {
            let (start, end, step) = (self.start.to_i64(), self.end.to_i64(), self.step.to_i64());
            let (way, step) = (i128::from(end) - i128::from(start), i128::from(step));
            usize::try_from((way + step - step.signum()) / step).ok()
        } else {
            let count = ((end - start) / step).ceil();
            (count < 9e15).then_some(count as usize)
        };
        match count {
            Some(count) if count < 1 << 53 => Ok(count),
            _ => refused(
                "end",
                format!("got {start} to {end} in steps of {step}: too many numbers"),
            ),
        }
    }
}

impl<T: Into<Scalar>> From<std::ops::Range<T>> for ArangeOptions {
    fn from(range: std::ops::Range<T>) -> Self {
        ArangeOptions::new(range.start, range.end)
    }
}

#[derive(Debug, Clone, Copy)]
struct Arange {
    options: ArangeOptions,
    device: Device,
}

impl Tensor {
    /// `start, start + step, ..` while before `end`: `ceil((end - start) / step)` numbers.
    ///
    /// Shapes: `-> [n]`. Dtypes: all. PyTorch: `torch.arange`. NPU: `aclnnArange`.
    ///
    /// ```
    /// use ascend_tensor::{Device, Tensor, ops::creation::ArangeOptions};
    /// # fn main() -> ascend_tensor::Result<()> {
    /// assert_eq!(Tensor::arange(0..3, Device::Cpu)?.to_vec::<i64>()?, [0, 1, 2]);
    /// let falling = ArangeOptions::new(1.0, 0.0).step(-0.5);
    /// assert_eq!(Tensor::arange(falling, Device::Cpu)?.to_vec::<f32>()?, [1.0, 0.5]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Option` for a step of zero or one that leads away from the end; memory and device errors.
    pub fn arange(options: impl Into<ArangeOptions>, device: Device) -> Result<Tensor> {
        run_one(
            &Arange {
                options: options.into(),
                device,
            },
            &[],
        )
    }
}

impl Op for Arange {
    fn name(&self) -> &'static str {
        "arange"
    }

    fn infer(&self, _x: &[Meta], plan: &mut Plan) -> Result<()> {
        let own = if self.options.is_integer() {
            DType::I64
        } else {
            DType::F32
        };
        plan.output(
            Shape::from([self.options.count()?]),
            self.options.dtype.unwrap_or(own),
        );
        Ok(())
    }

    fn cpu(&self, _x: &[Host<'_>], y: &mut [HostMut<'_>]) -> Result<Counts> {
        let ArangeOptions { start, step, .. } = self.options;
        let exact = self.options.is_integer() && !y[0].dtype().is_float();
        with_lane!(y[0].dtype(), T => {
            if exact {
                let (start, step) = (start.to_i64(), step.to_i64());
                map::generate(&mut y[0], |index| T::from_i64(start.wrapping_add(step.wrapping_mul(index as i64))));
            } else {
                let (start, step) = (start.to_f64(), step.to_f64());
                map::generate(&mut y[0], |index| T::from_f64(start + step * index as f64));
            }
        });
        Ok(Counts::EXACT)
    }

    fn ascend(&self, cx: &Launch, _x: &[Dev<'_>], y: &[Dev<'_>]) -> Result<Counts> {
        let ArangeOptions {
            start, end, step, ..
        } = self.options;
        let dtype = y[0].dtype();
        if !self.options.is_integer() && !dtype.is_float() {
            return Err(Error::unsupported(
                "arange",
                Device::Ascend(cx.device()),
                dtype,
                "the kernel steps in the output's dtype",
            ));
        }
        let number = |value: Scalar| AclScalar::of(value, dtype);
        aclnn::arange(cx, number(start), number(end), number(step), &y[0])?;
        Ok(Counts::EXACT)
    }

    /// Made on the host and moved.
    fn compose(&self, _x: &[Tensor]) -> Result<Outputs> {
        Ok(smallvec![
            Tensor::arange(self.options, Device::Cpu)?.to_device(self.device)?
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
    name: "arange",
    family: "creation",
    kernels: &["aclnnArange"],
    samples,
};

fn samples() -> Vec<Sample> {
    let of = |options| Sample {
        op: Box::new(Arange {
            options,
            device: Device::Cpu,
        }),
        inputs: vec![],
        dtypes: &[DType::F32],
    };
    vec![
        of((0..5).into()),
        of(ArangeOptions::new(1.0, -1.0).step(-0.25)),
        of(ArangeOptions::new(0, 9).step(2).dtype(DType::I32)),
    ]
}
