//! Every op of the catalog on the emulated NPU against the CPU, in a process of its own (a process has one CANN).

use ascend_tensor::{
    DType, Device, Error, Result, Sample, SampleInput, Tensor, Tolerance, ascend, catalog, dispatch,
};

fn tensor(state: &mut u64, input: &SampleInput, dtype: DType) -> Result<Tensor> {
    let dtype = input.dtype.unwrap_or(dtype);
    let low = if dtype == DType::U8 {
        input.low.max(0.0)
    } else {
        input.low
    };
    let mut next = || {
        *state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let value = low + (input.high - low) * ((*state >> 11) as f64 / (1u64 << 53) as f64);
        if dtype.is_float() {
            value
        } else {
            value.floor()
        }
    };
    let values: Vec<f64> = (0..input.shape.elements()).map(|_| next()).collect();
    Tensor::from_vec(values, input.shape)?.to_dtype(dtype)
}

/// The outputs on a device, brought to the host.
fn outputs(sample: &Sample, inputs: &[Tensor], device: Device) -> Result<Vec<Tensor>> {
    let inputs: Vec<Tensor> = inputs
        .iter()
        .map(|input| input.copy()?.to_device(device))
        .collect::<Result<_>>()?;
    let inputs: Vec<&Tensor> = inputs.iter().collect();
    dispatch::run(sample.op.as_ref(), &inputs)?
        .iter()
        .map(|output| output.to_device(Device::Cpu))
        .collect()
}

fn difference(got: &Tensor, want: &Tensor) -> Result<Option<String>> {
    if got.dtype() != want.dtype() || got.shape() != want.shape() {
        return Ok(Some(format!("{got:?} instead of {want:?}")));
    }
    let tolerance = Tolerance::of(want.dtype());
    for (position, (got, want)) in got
        .to_f64_vec()?
        .into_iter()
        .zip(want.to_f64_vec()?)
        .enumerate()
    {
        let fits = got == want
            || got.is_nan() && want.is_nan()
            || (got - want).abs() <= tolerance.atol + tolerance.rtol * want.abs();
        if !fits {
            return Ok(Some(format!(
                "element {position} is {got} instead of {want}"
            )));
        }
    }
    Ok(None)
}

#[test]
fn the_npu_computes_what_the_cpu_computes() -> Result<()> {
    ascend::install(ascend_sys::Api::from_resolver(
        "ascend-emulator",
        ascend_emulator::resolve,
    ))?;
    let (mut compared, mut unsupported, mut failures) = (0, 0, Vec::new());
    for op in catalog() {
        for sample in (op.samples)() {
            for dtype in sample.dtypes {
                let mut state = 42;
                let inputs: Vec<Tensor> = sample
                    .inputs
                    .iter()
                    .map(|input| tensor(&mut state, input, *dtype))
                    .collect::<Result<_>>()?;
                let want = outputs(&sample, &inputs, Device::Cpu)?;
                match outputs(&sample, &inputs, Device::ascend(0)) {
                    Err(Error::Unsupported { .. }) => unsupported += 1,
                    Err(error) => {
                        failures.push(format!("{} {:?} of {dtype}: {error}", op.name, sample.op))
                    }
                    Ok(got) => {
                        compared += 1;
                        for (got, want) in got.iter().zip(&want) {
                            if let Some(why) = difference(got, want)? {
                                failures
                                    .push(format!("{} {:?} of {dtype}: {why}", op.name, sample.op));
                            }
                        }
                    }
                }
            }
        }
    }
    assert!(compared > 100, "only {compared} calls were compared");
    assert!(
        failures.is_empty(),
        "{} failed ({compared} compared, {unsupported} without a kernel):\n{}",
        failures.len(),
        failures.join("\n")
    );
    Ok(())
}
