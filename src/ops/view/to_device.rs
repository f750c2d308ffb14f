//! `to_device`: the same values on another device.

use crate::ops::prelude::*;

/// The op behind [`Tensor::to_device`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct ToDevice {
    device: Device,
}

impl ToDevice {
    pub(crate) fn new(device: Device) -> Self {
        ToDevice { device }
    }
}

impl Op for ToDevice {
    fn name(&self) -> &'static str {
        "to_device"
    }

    /// The output is made by `compose`, since its memory is on the other device.
    fn infer(&self, _x: &[Meta], _plan: &mut Plan) -> Result<()> {
        Ok(())
    }

    fn compose(&self, x: &[Tensor]) -> Result<Outputs> {
        Ok(smallvec![x[0].moved(self.name(), self.device)?])
    }

    fn gradient(&self) -> Gradient {
        Gradient::Backward
    }

    fn saves(&self) -> Saves {
        Saves::NOTHING
    }

    fn backward(&self, cx: &GradCx<'_>) -> Result<Grads> {
        Ok(smallvec![Some(cx.gradient()?.to_device(cx.device())?)])
    }

    fn boxed(&self) -> Box<dyn Op> {
        Box::new(*self)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "to_device",
    family: "view",
    kernels: &[],
    samples,
};

fn samples() -> Vec<Sample> {
    let op = Box::new(ToDevice {
        device: Device::Cpu,
    });
    vec![Sample {
        op,
        inputs: vec![SampleInput::new([3, 4], -2.0, 2.0)],
        dtypes: DType::ALL,
    }]
}
