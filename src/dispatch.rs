//! Dispatch: the only place where an op runs.
//!
//! Knows the order of things: modes, autocast, device, plan, casts, outputs, kernel or composition, comparison, tape. Must not
//! know any op.

mod quick;

use smallvec::SmallVec;

use self::quick::quick;
use crate::ascend::{Buffer, Dev, Launch};
use crate::autograd::tape;
use crate::cpu::alloc::{Block, told};
use crate::cpu::{self, Host, HostMut};
use crate::device::Device;
use crate::dry_run;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::layout::Layout;
use crate::mode::{self, Modes};
use crate::op::{CastRule, Counts, Gradient, Meta, Op, OutputPlan, Outputs, Plan};
use crate::shadow::Comparison;
use crate::shape::Shape;
use crate::storage::{Data, Locks};
use crate::tensor::Tensor;

/// The inputs of a call after the plan's casts.
pub(crate) type Inputs = SmallVec<[Tensor; 3]>;

/// Runs an op on tensors: the one road from a method to a kernel.
///
/// Ops that update inputs in place return, first, handles of the updated tensors.
///
/// # Errors
/// Those of the op.
pub fn run(op: &dyn Op, inputs: &[&Tensor]) -> Result<Outputs> {
    match quick(op, inputs)? {
        Some(output) => Ok(smallvec::smallvec![output]),
        None => run_long(op, inputs),
    }
}

fn run_long(op: &dyn Op, inputs: &[&Tensor]) -> Result<Outputs> {
    let modes = mode::current();
    if modes.has(Modes::TRACE) {
        return crate::trace::record(op, inputs, || run_in(op, inputs, modes));
    }
    run_in(op, inputs, modes)
}

fn run_in(op: &dyn Op, inputs: &[&Tensor], modes: Modes) -> Result<Outputs> {
    let device = same_device(op, inputs)?;
    if modes.has(Modes::AUTOCAST) && op.cast() != CastRule::Keep {
        let cast = autocast(op, inputs)?;
        let cast: SmallVec<[&Tensor; 4]> = cast.iter().collect();
        return noted(op, &cast, run_on(op, &cast, device, modes)?, modes);
    }
    let outputs = run_on(op, inputs, device, modes)?;
    noted(op, inputs, outputs, modes)
}

/// The outputs, once an observer has seen them.
fn noted(op: &dyn Op, inputs: &[&Tensor], outputs: Outputs, modes: Modes) -> Result<Outputs> {
    if modes.has(Modes::OBSERVE) {
        crate::observe::note(op.name(), inputs, &outputs)?;
    }
    Ok(outputs)
}

fn run_on(op: &dyn Op, inputs: &[&Tensor], device: Device, modes: Modes) -> Result<Outputs> {
    let name = op.name();
    let tracked = !modes.has(Modes::NO_GRAD) && inputs.iter().any(|input| input.is_tracked());
    if tracked {
        for input in inputs {
            tape::check_history(name, input)?;
        }
    }
    let gradient = if tracked {
        op.gradient()
    } else {
        Gradient::Constant
    };
    if gradient == Gradient::Missing {
        return Err(Error::NoGradient { op: name });
    }
    let taped = gradient != Gradient::Constant;
    if let [input] = inputs
        && let Some(layout) = op.view(input.layout())?
    {
        layout.shape().check(name)?;
        let outputs: Outputs = smallvec::smallvec![input.with_layout(layout)];
        return if taped {
            tape::record(op, inputs, outputs, 1)
        } else {
            Ok(outputs)
        };
    }
    let metas: SmallVec<[Meta; 4]> = inputs.iter().map(|input| input.meta()).collect();
    let mut plan = Plan {
        taped,
        on_ascend: device.is_ascend(),
        ..Plan::default()
    };
    op.infer(&metas, &mut plan)?;
    for output in &plan.outputs {
        output.meta.shape.check(name)?;
    }
    let inputs = cast_inputs(inputs, &plan)?;
    let kept = if taped {
        keep_written(op, &inputs)?
    } else {
        Inputs::new()
    };
    let (mut outputs, made) = execute(op, &inputs, &plan, device, modes, taped)?;
    note_changes(op, &inputs, taped);
    if taped && !(made == Made::Composed && outputs.iter().any(Tensor::is_tracked)) {
        let inputs: SmallVec<[&Tensor; 4]> = if kept.is_empty() {
            inputs.iter().collect()
        } else {
            kept.iter().collect()
        };
        let hidden = plan.outputs.iter().filter(|output| !output.visible).count();
        let visible = if made == Made::Composed {
            outputs.len()
        } else {
            outputs.len() - hidden
        };
        return tape::record(op, &inputs, outputs, visible);
    }
    if made == Made::Kernel {
        let hidden = plan.outputs.iter().filter(|output| !output.visible).count();
        outputs.truncate(outputs.len() - hidden);
    }
    Ok(outputs)
}

/// Who made the outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Made {
    /// The op's kernel: all planned outputs are there, the auxiliary ones too.
    Kernel,
    /// A composition or the host: visible outputs only, with a history of their own where the tape records.
    Composed,
}

/// The op's meaning in simpler ops: its composition, of inputs cast as the op's plan asks.
///
/// # Errors
/// Those of the op's shape rule and of the composition; `Unsupported` for an op that is not composed of others.
pub fn compose(op: &dyn Op, inputs: &[&Tensor]) -> Result<Outputs> {
    let device = same_device(op, inputs)?;
    let metas: SmallVec<[Meta; 4]> = inputs.iter().map(|input| input.meta()).collect();
    let mut plan = Plan {
        on_ascend: device.is_ascend(),
        ..Plan::default()
    };
    op.infer(&metas, &mut plan)?;
    let inputs = cast_inputs(inputs, &plan)?;
    op.compose(&inputs)
}

/// Runs an op with one output.
///
/// # Errors
/// Those of the op.
pub fn run_one(op: &dyn Op, inputs: &[&Tensor]) -> Result<Tensor> {
    if let Some(output) = quick(op, inputs)? {
        return Ok(output);
    }
    let mut outputs = run_long(op, inputs)?;
    if outputs.is_empty() {
        return Err(Error::NoGradient { op: op.name() });
    }
    Ok(outputs.swap_remove(0))
}

fn same_device(op: &dyn Op, inputs: &[&Tensor]) -> Result<Device> {
    let Some((first, rest)) = inputs.split_first() else {
        return Ok(op.device());
    };
    let device = first.device();
    match rest
        .iter()
        .map(|input| input.device())
        .find(|other| *other != device)
    {
        Some(other) => Err(Error::Device {
            op: op.name(),
            lhs: device,
            rhs: other,
        }),
        None => Ok(device),
    }
}

fn autocast(op: &dyn Op, inputs: &[&Tensor]) -> Result<Inputs> {
    let floats = || {
        inputs
            .iter()
            .map(|input| input.dtype())
            .filter(|dtype| dtype.is_float())
    };
    let widest = floats().reduce(DType::promote);
    let target = |own: DType| match op.cast() {
        CastRule::Lower if own != DType::F64 => mode::autocast_dtype(),
        CastRule::Full if own.is_half() => DType::F32,
        CastRule::Widest => widest.unwrap_or(own),
        _ => own,
    };
    let one = |input: &&Tensor| {
        if input.dtype().is_float() {
            input.to_dtype(target(input.dtype()))
        } else {
            Ok((*input).clone())
        }
    };
    inputs.iter().map(one).collect()
}

fn cast_inputs(inputs: &[&Tensor], plan: &Plan) -> Result<Inputs> {
    let one = |(index, input): (usize, &&Tensor)| match plan.casts.get(index).copied().flatten() {
        Some(dtype) => input.to_dtype(dtype),
        None => Ok((*input).clone()),
    };
    inputs.iter().enumerate().map(one).collect()
}

fn execute(
    op: &dyn Op,
    inputs: &Inputs,
    plan: &Plan,
    device: Device,
    modes: Modes,
    taped: bool,
) -> Result<(Outputs, Made)> {
    let compared = if modes.has(Modes::SHADOW) && device.is_ascend() {
        Comparison::begin(op, inputs)?
    } else {
        None
    };
    let made = if modes.has(Modes::DRY) {
        let lacking = || dry_run::no_values(op.name(), device, DType::F32);
        dry_run::outputs(op, inputs, plan, device).ok_or_else(lacking)
    } else if !op.writes().is_nothing() {
        write(op, inputs, plan, device)
    } else {
        match device {
            Device::Cpu => on_host(op, inputs, plan),
            Device::Ascend(number) => on_ascend(op, inputs, plan, number),
        }
    };
    let (outputs, made) = match made {
        Err(lacking @ (Error::Unsupported { .. } | Error::Symbol { .. }))
            if op.writes().is_nothing() =>
        {
            let composed = instead(op, inputs, device, modes, lacking, taped)?;
            (composed, Made::Composed)
        }
        other => (other?, Made::Kernel),
    };
    if let Some(comparison) = compared {
        comparison.end(op, &outputs)?;
    }
    Ok((outputs, made))
}

/// What runs where no kernel is: the composition, then (where allowed) the host.
fn instead(
    op: &dyn Op,
    inputs: &Inputs,
    device: Device,
    modes: Modes,
    lacking: Error,
    taped: bool,
) -> Result<Outputs> {
    match mode::inner(taped, || op.compose(inputs)) {
        Err(Error::Unsupported { op: other, .. }) if other == op.name() => {}
        Err(Error::Unsupported { .. }) if modes.has(Modes::FALLBACK) => {}
        composed => return composed,
    }
    if !modes.has(Modes::FALLBACK) || device.is_cpu() {
        return Err(lacking);
    }
    mode::count_fallback();
    let host: Inputs = inputs
        .iter()
        .map(|input| input.to_device(Device::Cpu))
        .collect::<Result<_>>()?;
    let host: SmallVec<[&Tensor; 4]> = host.iter().collect();
    let outputs = run_on(op, &host, Device::Cpu, modes)?;
    outputs
        .iter()
        .map(|output| output.to_device(device))
        .collect()
}

/// For an in-place op under the tape: the inputs, those that are written and saved as copies of what they were.
fn keep_written(op: &dyn Op, inputs: &Inputs) -> Result<Inputs> {
    if op.writes().is_nothing() {
        return Ok(Inputs::new());
    }
    tape::check_destinations(op, inputs)?;
    let keep = |(index, input): (usize, &Tensor)| match input.node() {
        node if op.writes().has(index) && op.saves().input(index) => {
            let copy = mode::no_grad(|| input.copy())?;
            Ok(node
                .cloned()
                .map_or(copy.clone(), |node| copy.with_node(node)))
        }
        _ => Ok(input.clone()),
    };
    inputs.iter().enumerate().map(keep).collect()
}

/// Raises the versions of the storages that an in-place op changed.
fn note_changes(op: &dyn Op, inputs: &Inputs, taped: bool) {
    let writes = op.writes();
    for (_, input) in inputs
        .iter()
        .enumerate()
        .filter(|(index, _)| writes.has(*index))
    {
        input.storage().changed(taped);
    }
}

/// A fresh output on the host.
fn host_output(op: &'static str, meta: &Meta) -> Result<Tensor> {
    host_memory(op, &Layout::contiguous(meta.shape), meta.dtype)
}

/// Fresh memory on the host for a row-major layout.
#[inline(always)]
fn host_memory(op: &'static str, layout: &Layout, dtype: DType) -> Result<Tensor> {
    let block = Block::allocate(op, layout.elements() * dtype.size())?;
    Ok(Tensor::fresh(Data::Cpu(block), layout, dtype))
}

/// A fresh output on an NPU.
fn ascend_output(op: &'static str, number: u32, meta: &Meta) -> Result<Tensor> {
    let buffer = Buffer::allocate(op, number, meta.shape.elements() * meta.dtype.size())?;
    Ok(Tensor::fresh(
        Data::Ascend(buffer),
        &Layout::contiguous(meta.shape),
        meta.dtype,
    ))
}

/// A fresh tensor with unspecified content, which the caller fills before anybody reads it.
pub(crate) fn allocate(op: &'static str, device: Device, meta: &Meta) -> Result<Tensor> {
    match device {
        Device::Cpu => host_output(op, meta),
        Device::Ascend(number) => ascend_output(op, number, meta),
    }
}

fn on_host(op: &dyn Op, inputs: &Inputs, plan: &Plan) -> Result<Outputs> {
    cpu::ready(op.name())?;
    let outputs: Outputs = plan
        .outputs
        .iter()
        .map(|output| host_output(op.name(), &output.meta))
        .collect::<Result<_>>()?;
    let counts = {
        let _locks = Locks::take(inputs.iter().map(|input| (input.storage(), false)));
        let views: SmallVec<[Host<'_>; 4]> = inputs.iter().filter_map(Tensor::host).collect();
        let mut targets: SmallVec<[HostMut<'_>; 2]> =
            outputs.iter().filter_map(Tensor::host_mut).collect();
        dry_run::all_there(op, inputs, views.len())?;
        told(op.name(), op.cpu(&views, &mut targets))?
    };
    Ok(narrowed(outputs, &plan.outputs, counts, false))
}

fn on_ascend(op: &dyn Op, inputs: &Inputs, plan: &Plan, number: u32) -> Result<Outputs> {
    let outputs: Outputs = plan
        .outputs
        .iter()
        .map(|output| ascend_output(op.name(), number, &output.meta))
        .collect::<Result<_>>()?;
    if !outputs.is_empty()
        && outputs.iter().all(|output| output.elements() == 0)
        && plan.outputs.iter().all(|o| o.at_most.is_none())
    {
        return Ok(outputs);
    }
    let counts = {
        let launch = Launch::new(op.name(), number)?;
        let views: SmallVec<[Dev<'_>; 4]> = inputs.iter().filter_map(Tensor::dev).collect();
        let targets: SmallVec<[Dev<'_>; 2]> = outputs.iter().filter_map(Tensor::dev).collect();
        dry_run::all_there(op, inputs, views.len())?;
        op.ascend(&launch, &views, &targets)?
    };
    Ok(narrowed(outputs, &plan.outputs, counts, true))
}

/// Cuts data-dependent outputs to the extent that the kernel told. CANN's kernels write such an output row-major in its true
/// shape; host kernels write into the planned one.
fn narrowed(outputs: Outputs, plans: &[OutputPlan], counts: Counts, packed: bool) -> Outputs {
    let Some(count) = counts.0 else {
        return outputs;
    };
    let cut = |(output, plan): (Tensor, &OutputPlan)| match plan.at_most {
        Some(dim) => {
            let extent = count.min(output.shape().size(dim));
            let cut = output.layout().slice(dim, 0, extent, 1);
            output.with_layout(if packed {
                Layout::contiguous(*cut.shape())
            } else {
                cut
            })
        }
        None => output,
    };
    outputs.into_iter().zip(plans).map(cut).collect()
}

/// Runs an op that updates inputs in place; the answer begins with the updated tensors' handles.
fn write(op: &dyn Op, inputs: &Inputs, plan: &Plan, device: Device) -> Result<Outputs> {
    let name = op.name();
    let writes = op.writes();
    let inputs = &apart(op, inputs)?;
    let written = || {
        inputs
            .iter()
            .enumerate()
            .filter(|(index, _)| writes.has(*index))
            .map(|(_, input)| input)
    };
    let fresh: Outputs = plan
        .outputs
        .iter()
        .map(|output| allocate(name, device, &output.meta))
        .collect::<Result<_>>()?;
    let result = match device {
        Device::Cpu => {
            cpu::ready(name)?;
            let _locks = Locks::take(
                inputs
                    .iter()
                    .enumerate()
                    .map(|(index, input)| (input.storage(), writes.has(index))),
            );
            let views: SmallVec<[Host<'_>; 4]> = inputs.iter().filter_map(Tensor::host).collect();
            let mut targets: SmallVec<[HostMut<'_>; 2]> = written()
                .chain(&fresh)
                .filter_map(Tensor::host_mut)
                .collect();
            dry_run::all_there(op, inputs, views.len())?;
            told(name, op.cpu(&views, &mut targets))
        }
        Device::Ascend(number) => {
            let launch = Launch::new(name, number)?;
            let views: SmallVec<[Dev<'_>; 4]> = inputs.iter().filter_map(Tensor::dev).collect();
            let targets: SmallVec<[Dev<'_>; 2]> =
                written().chain(&fresh).filter_map(Tensor::dev).collect();
            dry_run::all_there(op, inputs, views.len())?;
            if targets.iter().all(|target| target.elements() == 0) {
                Ok(Counts::EXACT)
            } else {
                op.ascend(&launch, &views, &targets)
            }
        }
    };
    match result {
        Ok(_) => {}
        Err(lacking @ (Error::Unsupported { .. } | Error::Symbol { .. })) => {
            write_composed(op, inputs, lacking)?
        }
        Err(error) => return Err(error),
    }
    Ok(written().cloned().chain(fresh.iter().cloned()).collect())
}

/// The inputs with those copied that share elements with a written one, so that reads see the values before the call.
fn apart(op: &dyn Op, inputs: &Inputs) -> Result<Inputs> {
    let writes = op.writes();
    let mut inputs = inputs.clone();
    for index in 0..inputs.len() {
        if writes.has(index) && inputs[index].layout().overlaps_itself() {
            return Err(Error::Overlap {
                op: op.name(),
                with: "itself",
            });
        }
        let shared = |other: usize| {
            other != index && writes.has(other) && inputs[other].overlaps(&inputs[index])
        };
        if (0..inputs.len()).any(shared) {
            if writes.has(index) {
                return Err(Error::Overlap {
                    op: op.name(),
                    with: "another destination",
                });
            }
            inputs[index] = mode::no_grad(|| inputs[index].copy())?;
        }
    }
    Ok(inputs)
}

/// An in-place op without a kernel: its composition's results are copied over the written inputs.
fn write_composed(op: &dyn Op, inputs: &Inputs, lacking: Error) -> Result<()> {
    let composed = match mode::inner(false, || op.compose(inputs)) {
        Err(Error::Unsupported { op: other, .. }) if other == op.name() => return Err(lacking),
        composed => composed?,
    };
    let writes = op.writes();
    let targets = inputs
        .iter()
        .enumerate()
        .filter(|(index, _)| writes.has(*index))
        .map(|(_, input)| input);
    for (target, value) in targets.zip(&composed) {
        mode::no_grad(|| target.detached_handle().copy_(value))?;
    }
    Ok(())
}

/// The shape that a kernel's output has after NumPy's broadcasting of all inputs.
pub(crate) fn broadcast(op: &'static str, inputs: &[Meta]) -> Result<Shape> {
    if let [first, rest @ ..] = inputs
        && rest.iter().all(|input| input.shape == first.shape)
    {
        return Ok(first.shape);
    }
    inputs.iter().try_fold(Shape::SCALAR, |shape, input| {
        shape.broadcast(op, &input.shape)
    })
}
