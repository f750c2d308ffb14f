//! `bernoulli`: ones with given probabilities, else zeros.

use super::generator::Reserved;
use super::rand::{RandomOptions, unit, wide_unit};
use crate::cpu::alloc::workspace;
use crate::cpu::random::{counters, fill, fill_wide};
use crate::ops::prelude::*;

#[derive(Debug, Clone, Copy)]
struct Bernoulli {
    source: Reserved,
}

impl Tensor {
    /// For each probability, a one with that probability, else a zero. Device and dtype are this tensor's.
    ///
    /// Shapes: any. Dtypes: floats. PyTorch: `torch.bernoulli` (other numbers). NPU: random numbers made on the host or by
    /// `aclnnInplaceUniform`, and `aclnnLtTensor`. The gradient is zero.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// assert_eq!(Tensor::new([0.0f32, 1.0]).bernoulli(())?.to_vec::<f32>()?, [0.0, 1.0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `DType` for probabilities that are no floats; `Option` for one outside `[0, 1]` (on the CPU only).
    pub fn bernoulli(&self, options: impl Into<RandomOptions>) -> Result<Tensor> {
        let source = options
            .into()
            .reserve(counters(self.elements().saturating_mul(2)));
        run_one(&Bernoulli { source }, &[self])
    }
}

impl Op for Bernoulli {
    fn name(&self) -> &'static str {
        "bernoulli"
    }

    fn infer(&self, x: &[Meta], plan: &mut Plan) -> Result<()> {
        if !x[0].dtype.is_float() {
            return Err(Error::dtype(self.name(), x[0].dtype, "a float"));
        }
        plan.output(x[0].shape, x[0].dtype);
        Ok(())
    }

    fn cpu(&self, x: &[Host<'_>], y: &mut [HostMut<'_>]) -> Result<Counts> {
        let shape = *x[0].shape();
        let mut drawn = workspace(self.name(), 0.0f64, shape.elements())?;
        let Some(mut to) = HostMut::from_slice(&mut drawn, &shape) else {
            return Ok(Counts::EXACT);
        };
        let Reserved { seed, offset, .. } = self.source;
        if x[0].dtype() == DType::F64 {
            fill_wide::<f64>(&mut to, seed, offset, wide_unit);
        } else {
            fill::<f64>(&mut to, seed, offset, |_, word| {
                f64::from(unit(word, DType::F32))
            });
        }
        let Some(drawn) = Host::from_slice(&drawn, &shape) else {
            return Ok(Counts::EXACT);
        };
        with_float!(x[0].dtype(), T => {
            let wrong = std::sync::atomic::AtomicBool::new(false);
            map::map2::<T, f64, T>(&x[0], &drawn, &mut y[0], |p, drawn| {
                let p = p.to_f64();
                if !(0.0..=1.0).contains(&p) {
                    wrong.store(true, std::sync::atomic::Ordering::Relaxed);
                }
                if drawn < p { T::ONE } else { T::ZERO }
            });
            if wrong.into_inner() {
                return Err(Error::option(self.name(), "input", "got a probability out of range, wanted all in [0, 1]"));
            }
        });
        Ok(Counts::EXACT)
    }

    /// A comparison with uniform numbers, which are the same as on the host if the generator is portable.
    fn compose(&self, x: &[Tensor]) -> Result<Outputs> {
        let (dtype, device) = (x[0].dtype().compute(), x[0].device());
        if device.is_cpu() {
            return Err(Error::unsupported(
                self.name(),
                device,
                dtype,
                "the op is not composed of others",
            ));
        }
        let drawn = super::rand::uniform(*x[0].shape(), dtype, device, self.source)?;
        Ok(smallvec![
            drawn.lt(&x[0].to_dtype(dtype)?)?.to_dtype(x[0].dtype())?
        ])
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

    fn boxed(&self) -> Box<dyn Op> {
        Box::new(*self)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "bernoulli",
    family: "random",
    kernels: &["aclnnInplaceUniform", "aclnnLtTensor"],
    samples,
};

fn samples() -> Vec<Sample> {
    let op = Box::new(Bernoulli {
        source: Reserved {
            seed: 5,
            offset: 0,
            native: false,
        },
    });
    // No f64: its gradient is zero by convention, which differences of a step function do not show.
    vec![Sample {
        op,
        inputs: vec![SampleInput::new([3, 4], 0.0, 1.0)],
        dtypes: &[DType::F32, DType::F16, DType::BF16],
    }]
}
