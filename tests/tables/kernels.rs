//! The table of kernels: what each op's samples start on the emulated NPU, forward and for the gradient.
//!
//! Knows samples and trace mode. Must not know any op.

use std::collections::BTreeSet;
use std::fmt::Write;

use ascend_tensor::{
    BackwardOptions, DType, Device, Error, OpInfo, Result, Sample, SampleInput, Tensor, Trace,
    catalog, dispatch, trace,
};

/// What the samples of an op started.
#[derive(Default)]
struct Seen {
    forward: BTreeSet<&'static str>,
    least: usize,
    most: usize,
    gradient: BTreeSet<&'static str>,
}

fn input(sample: &SampleInput, dtype: DType) -> Result<Tensor> {
    let dtype = sample.dtype.unwrap_or(dtype);
    let count = sample.shape.elements();
    let step = |at: usize| (at * 7 % 11) as f64 / 11.0;
    let low = if dtype == DType::U8 {
        sample.low.max(0.0)
    } else {
        sample.low
    };
    let values = (0..count).map(|at| low + (sample.high - low) * step(at));
    let values: Vec<f64> = if dtype.is_float() {
        values.collect()
    } else {
        values.map(f64::floor).collect()
    };
    Tensor::from_vec(values, sample.shape)?
        .to_dtype(dtype)?
        .to_device(Device::ascend(0))
}

fn kernels(trace: &Trace) -> impl Iterator<Item = &'static str> {
    trace.called().flat_map(|op| op.kernels.iter().copied())
}

fn look(sample: &Sample, seen: &mut Seen) -> Result<()> {
    let dtype = if sample.dtypes.contains(&DType::F32) {
        DType::F32
    } else {
        sample.dtypes.first().copied().unwrap_or(DType::F32)
    };
    let plain: Vec<Tensor> = sample
        .inputs
        .iter()
        .map(|own| input(own, dtype))
        .collect::<Result<_>>()?;
    let (outputs, forward) =
        trace(|| dispatch::run(sample.op.as_ref(), &plain.iter().collect::<Vec<_>>()));
    match outputs {
        // No kernel and no composition for this dtype: nothing to tell.
        Err(Error::Unsupported { .. }) => return Ok(()),
        outputs => outputs?,
    };
    seen.least = seen.least.min(forward.launches());
    seen.most = seen.most.max(forward.launches());
    seen.forward.extend(kernels(&forward));
    if !sample.op.writes().is_nothing() {
        return Ok(());
    }
    let leaves: Vec<Tensor> = plain
        .into_iter()
        .map(|x| {
            if x.dtype().is_float() {
                x.requires_grad()
            } else {
                Ok(x)
            }
        })
        .collect::<Result<_>>()?;
    let taped = dispatch::run(sample.op.as_ref(), &leaves.iter().collect::<Vec<_>>());
    let outputs = match taped {
        Err(Error::NoGradient { .. }) => return Ok(()),
        taped => taped?,
    };
    for output in outputs.iter().filter(|output| output.is_tracked()) {
        let seed = output.detach().ones_like()?;
        let (gradients, backward) =
            trace(|| output.backward_with(BackwardOptions::new().gradient(&seed)));
        if gradients.is_ok() {
            seen.gradient.extend(kernels(&backward));
        }
    }
    Ok(())
}

fn row(op: &OpInfo) -> Result<String> {
    let mut seen = Seen {
        least: usize::MAX,
        ..Seen::default()
    };
    for sample in (op.samples)() {
        look(&sample, &mut seen)?;
    }
    let list = |names: &BTreeSet<&str>| -> String {
        let names = names
            .iter()
            .map(|name| format!("`{}`", name.trim_start_matches("aclnn")));
        names.collect::<Vec<_>>().join(" ")
    };
    let Seen { least, most, .. } = seen;
    let count = match (least, most) {
        (usize::MAX, _) => String::from("-"),
        (least, most) if least == most => most.to_string(),
        (least, most) => format!("{least} to {most}"),
    };
    let (forward, gradient) = (list(&seen.forward), list(&seen.gradient));
    Ok(format!(
        "| `{}` | {} | {forward} | {count} | {gradient} |",
        op.name, op.family
    ))
}

/// The table of the chapter; names without the `aclnn` before them.
pub fn table() -> String {
    crate::emulator();
    let mut text = String::from(
        "Names are without `aclnn`. The samples of the tests have dtype f32 where the op takes it; an op without a kernel of its own is\n\
         composed of others, whose kernels are named. A view starts none.\n\n\
         | op | family | kernels | launches | kernels of the gradient |\n|---|---|---|---|---|\n",
    );
    for op in catalog() {
        let row = row(op).unwrap_or_else(|error| panic!("{}: {error}", op.name));
        let _ = writeln!(text, "{row}");
    }
    text
}
