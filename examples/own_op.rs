//! An op of one's own, added from outside the crate: `softsquare(x) = x^2 / (1 + |x|)`.
//!
//! It has a host kernel, a composition of the crate's ops that runs on the NPU, and a gradient; both devices give the same.

use ascend_tensor::{
    Counts, DType, Device, Error, GradCx, Gradient, Grads, Host, HostMut, Meta, Op, Outputs, Plan,
    Result, Saves, Tensor, ascend, dispatch,
};

/// The op: its attributes would be fields.
#[derive(Debug, Clone, Copy)]
struct SoftSquare;

fn softsquare(x: &Tensor) -> Result<Tensor> {
    dispatch::run_one(&SoftSquare, &[x])
}

impl Op for SoftSquare {
    fn name(&self) -> &'static str {
        "softsquare"
    }

    /// One output like the input; floats only.
    fn infer(&self, inputs: &[Meta], plan: &mut Plan) -> Result<()> {
        let Some(x) = inputs.first().filter(|x| x.dtype.is_float()) else {
            return Err(Error::DType {
                op: self.name(),
                got: "an integer tensor".into(),
                want: "a float tensor".into(),
            });
        };
        plan.output(x.shape, x.dtype);
        Ok(())
    }

    /// The host kernel, for f32; other dtypes go through `compose`.
    fn cpu(&self, inputs: &[Host<'_>], outputs: &mut [HostMut<'_>]) -> Result<Counts> {
        let unsupported = |dtype| Error::Unsupported {
            op: self.name(),
            device: Device::Cpu,
            dtype,
            why: "the kernel is for f32".into(),
        };
        let ([x], [y]) = (inputs, outputs) else {
            return Err(unsupported(DType::F32));
        };
        if x.dtype() != DType::F32 {
            return Err(unsupported(x.dtype()));
        }
        let values = x.to_vec::<f32>();
        if let Some(y) = y.as_mut_slice::<f32>() {
            for (y, x) in y.iter_mut().zip(&values) {
                *y = x * x / (1.0 + x.abs());
            }
        }
        Ok(Counts::EXACT)
    }

    /// The meaning in the crate's ops: what runs where no kernel is, here on the NPU.
    fn compose(&self, inputs: &[Tensor]) -> Result<Outputs> {
        let Some(x) = inputs.first() else {
            return Ok(Outputs::new());
        };
        let below = x.abs()?.add(1.0)?;
        Ok(Outputs::from_iter([x.mul(x)?.div(&below)?]))
    }

    fn gradient(&self) -> Gradient {
        Gradient::Backward
    }

    fn saves(&self) -> Saves {
        Saves::INPUTS
    }

    /// d/dx x^2/(1+|x|) = (2x + x|x|) / (1+|x|)^2
    fn backward(&self, cx: &GradCx<'_>) -> Result<Grads> {
        let x = cx.input(0)?;
        let size = x.abs()?;
        let below = size.add(1.0)?;
        let slope = x.mul(&size.add(2.0)?)?.div(&below.mul(&below)?)?;
        Ok(Grads::from_iter([Some(cx.gradient()?.mul(&slope)?)]))
    }

    fn boxed(&self) -> Box<dyn Op> {
        Box::new(*self)
    }
}

fn main() -> Result<()> {
    ascend::install(ascend_sys::Api::from_resolver(
        "ascend-emulator",
        ascend_emulator::resolve,
    ))?;
    for device in [Device::Cpu, Device::ascend(0)] {
        let x = Tensor::new([-2.0f32, -0.5, 0.0, 1.0, 3.0])
            .to_device(device)?
            .requires_grad()?;
        let y = softsquare(&x)?;
        let gradients = y.sum(())?.backward()?;
        println!("{device}: {}", y.detach());
        match gradients.get(&x) {
            Some(gradient) => println!("  gradient {gradient}"),
            None => println!("  no gradient"),
        }
    }
    Ok(())
}
