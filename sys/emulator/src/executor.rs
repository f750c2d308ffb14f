//! The two-phase protocol: phase 1 makes an executor from arguments, phase 2 puts its work on a stream.
//!
//! Knows executors and addresses; it must not know what kernels compute or how C declares them.

pub(crate) use crate::arguments::Raw;
use crate::arguments::convert;
use crate::failure::{Failure, Refusal, code};
use crate::guard;
use crate::kernel::{Arg, Call, Prepare, Run};
use crate::ledger;
use crate::memory::{self, Block, Missing, Place};
use crate::meta;
use crate::registry::{Kind, Registry};
use crate::rules;
use crate::settings::Strictness;
use crate::shims::{OPS, Op};
use crate::state::{self, Context, world};
use crate::stream::{Body, Stream, Task};
use crate::tensor::Tensor;
use ascend_sys as sys;
use std::collections::HashMap;
use std::ffi::c_void;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// All executors.
pub(crate) static EXECUTORS: Registry<Executor> = Registry::new(Kind::Executor, code::ACLNN_INNER);

/// A tensor of an executor.
struct Bound {
    parameter: usize,
    element: usize,
    tensor: Tensor,
    output: bool,
    address: AtomicUsize,
}

/// What phase 1 made.
pub(crate) struct Executor {
    op: &'static Op,
    device: u32,
    tensors: Vec<Bound>,
    workspace: u64,
    run: Arc<Mutex<Run>>,
    waits: bool,
    pub repeatable: AtomicBool,
}

fn kernel(index: usize) -> Option<Prepare> {
    static KERNELS: OnceLock<Vec<Option<Prepare>>> = OnceLock::new();
    let kernels = KERNELS.get_or_init(|| {
        let table: HashMap<&str, Prepare> = crate::kernels::FAMILIES
            .iter()
            .flat_map(|family| family.iter().copied())
            .collect();
        OPS.iter().map(|op| table.get(op.name).copied()).collect()
    });
    kernels.get(index).copied().flatten()
}

/// The ops that have an emulated kernel, by name. The program `emulated-ops` prints them.
pub fn supported_ops() -> Vec<&'static str> {
    ops(true)
}

/// The ops that are exported but have no emulated kernel: their first phase answers 561003.
pub fn lacking_ops() -> Vec<&'static str> {
    ops(false)
}

fn ops(emulated: bool) -> Vec<&'static str> {
    OPS.iter()
        .enumerate()
        .filter(|(index, _)| kernel(*index).is_some() == emulated)
        .map(|(_, op)| op.name)
        .collect()
}

/// Phase 1 of op number `index`.
///
/// # Safety
/// Text arguments must be null or end in a zero byte; both results must be null or valid for a write.
pub(crate) unsafe fn phase1(
    index: usize,
    raws: &[Raw],
    workspace: *mut u64,
    executor: *mut *mut sys::aclOpExecutor,
) -> i32 {
    let Some(op) = OPS.get(index) else {
        return code::INTERNAL_ERROR;
    };
    guard::call(op.first, || {
        if workspace.is_null() || executor.is_null() {
            return Err(Refusal::null(format!(
                "{}: workspaceSize or executor is null, wanted two pointers",
                op.name
            )));
        }
        // SAFETY: the texts are valid by this function's contract.
        let made = unsafe { prepare(op, index, raws) }?;
        // SAFETY: not null, and valid for a write by this function's contract.
        unsafe {
            workspace.write(made.workspace);
            executor.write(EXECUTORS.insert(made).cast());
        }
        Ok(())
    })
}

unsafe fn prepare(op: &'static Op, index: usize, raws: &[Raw]) -> Result<Executor, Failure> {
    let context = state::context().map_err(|failure| match failure.code {
        code::RT_CONTEXT_NULL => Failure::new(361_001, format!("{}: {}", op.name, failure.text)),
        _ => failure,
    })?;
    let prepare = kernel(index).ok_or_else(|| {
        Refusal::unsupported(format!(
            "{}: the emulator has no kernel for this op",
            op.name
        ))
    })?;
    let mut args = Vec::with_capacity(raws.len());
    for (position, raw) in raws.iter().enumerate() {
        let name = op.parameters.get(position).copied().unwrap_or("?");
        // SAFETY: the texts are valid by this function's contract.
        let arg = unsafe { convert(*raw, name) }.map_err(|refusal| {
            Failure::new(refusal.code, format!("{}: {}", op.name, refusal.text))
        })?;
        args.push(arg);
    }
    assemble(op, prepare, &context, &args)
}

/// An executor from arguments that are converted already.
fn assemble(
    op: &'static Op,
    prepare: Prepare,
    context: &Context,
    args: &[Arg],
) -> Result<Executor, Failure> {
    let world = world()?;
    rules::check(op.name, world.family, args)?;
    let tensors = bind(op, args)?;
    let ordered = !world.settings.disorder || deterministic(context);
    let call = Call::new(op.name, world.family, ordered, args);
    let work = prepare(&call)?;
    let empty = tensors
        .iter()
        .all(|bound| !bound.output || bound.tensor.is_empty());
    let extra = if empty {
        0
    } else {
        usual_workspace(op.name, &tensors)
    };
    Ok(Executor {
        op,
        device: context.device.id,
        tensors,
        workspace: work.workspace.max(extra),
        run: Arc::new(Mutex::new(work.run)),
        waits: work.waits,
        repeatable: AtomicBool::new(false),
    })
}

/// The kernel of an aclnn function by name.
pub(crate) fn emulated(name: &str) -> Option<(&'static Op, Prepare)> {
    let index = OPS.binary_search_by(|op| op.name.cmp(name)).ok()?;
    Some((OPS.get(index)?, kernel(index)?))
}

/// Runs an op from its arguments at once: a single operator, whose workspace the runtime owns.
pub(crate) fn run_single(
    op: &'static Op,
    prepare: Prepare,
    args: &[Arg],
    stream: sys::aclrtStream,
) -> Result<(), Failure> {
    let context = state::context()?;
    let executor = assemble(op, prepare, &context, args)?;
    let stream = crate::exports::stream::resolve(&context, stream)?;
    launch(&executor, &context, &stream, None)
}

fn deterministic(context: &Context) -> bool {
    let own = context
        .options
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .get(&0)
        .copied();
    let shared = || {
        let world = world().ok()?;
        let options = world.options.lock().unwrap_or_else(PoisonError::into_inner);
        options.get(&0).copied()
    };
    own.or_else(shared).unwrap_or(0) != 0
}

/// Workspace that real kernels take: copies of inputs that are not contiguous, and buffers of cube and sorting kernels.
fn usual_workspace(op: &str, tensors: &[Bound]) -> u64 {
    const HUNGRY: [&str; 14] = [
        "Matmul",
        "MatMul",
        "aclnnMm",
        "mm",
        "Convolution",
        "Attention",
        "Sort",
        "Topk",
        "Unique",
        "Nonzero",
        "IndexPut",
        "EmbeddingDense",
        "NormGrad",
        "NormBackward",
    ];
    let copies: u64 = tensors
        .iter()
        .filter(|bound| !bound.output && !bound.tensor.is_contiguous())
        .filter_map(|bound| bound.tensor.dtype().bytes(bound.tensor.count()))
        .map(|bytes| bytes.next_multiple_of(512) as u64)
        .fold(0, u64::saturating_add);
    let fixed = if HUNGRY.iter().any(|part| op.contains(part)) {
        2 << 20
    } else {
        0
    };
    copies.saturating_add(fixed)
}

/// Collects the tensors of a call and checks what can be said about their addresses without looking at memory.
fn bind(op: &'static Op, args: &[Arg]) -> Result<Vec<Bound>, Refusal> {
    let mut all = Vec::new();
    for (parameter, arg) in args.iter().enumerate() {
        let list: &[Option<Tensor>] = match arg {
            Arg::Tensor(tensor) => std::slice::from_ref(tensor),
            Arg::Tensors(Some(list)) => list,
            _ => continue,
        };
        let output =
            rules::is_output(op.name, parameter).unwrap_or_else(|| op.outputs.contains(&parameter));
        for (element, tensor) in list.iter().enumerate() {
            let Some(tensor) = tensor else { continue };
            let bound = Bound {
                parameter,
                element,
                tensor: tensor.clone(),
                output,
                address: AtomicUsize::new(tensor.address()),
            };
            check_layout(op, &bound)?;
            all.push(bound);
        }
    }
    Ok(all)
}

/// Whether an address is a multiple of 32, or of the element where that is tolerated: the documents ask for 32, but views with
/// an offset lead kernels to any element, and llama.cpp's backend passes such addresses.
fn aligned(tensor: &Tensor, address: usize, text: impl FnOnce() -> String) -> bool {
    let element = tensor.dtype().bits().div_ceil(8);
    let levels = [Strictness::Report, Strictness::Lenient];
    address.is_multiple_of(32)
        || (address.is_multiple_of(element) && guard::tolerates(&levels, text))
}

fn check_layout(op: &'static Op, bound: &Bound) -> Result<(), Refusal> {
    let tensor = &bound.tensor;
    if tensor.is_empty() {
        return Ok(());
    }
    let unaligned = || {
        format!(
            "{}: {} has address {:#x}, wanted a multiple of 32",
            op.name,
            label(op, bound),
            tensor.address()
        )
    };
    if !aligned(tensor, tensor.address(), unaligned) {
        return Err(Refusal::invalid(unaligned()));
    }
    let folded = tensor
        .shape()
        .iter()
        .zip(tensor.strides())
        .any(|(&dim, &stride)| dim > 1 && stride == 0);
    if bound.output && folded {
        return Err(Refusal::invalid(format!(
            "{}: {} is written, but its strides {:?} for shape {:?} put elements on one address",
            op.name,
            label(op, bound),
            tensor.strides(),
            tensor.shape()
        )));
    }
    Ok(())
}

fn label(op: &Op, bound: &Bound) -> String {
    let name = op.parameters.get(bound.parameter).copied().unwrap_or("?");
    if bound.element == 0 {
        format!("parameter {} ({name})", bound.parameter)
    } else {
        format!(
            "parameter {} ({name}) element {}",
            bound.parameter, bound.element
        )
    }
}

/// Phase 2 of op number `index`.
pub(crate) fn phase2(
    index: usize,
    workspace: *mut c_void,
    size: u64,
    executor: *mut sys::aclOpExecutor,
    stream: sys::aclrtStream,
) -> i32 {
    let Some(op) = OPS.get(index) else {
        return code::INTERNAL_ERROR;
    };
    let status = guard::call(op.name, || {
        let found = EXECUTORS.get(executor)?;
        if !found.repeatable.load(Ordering::Acquire) || (found.workspace > 0 && workspace.is_null())
        {
            EXECUTORS.remove(executor)?;
        }
        if !std::ptr::eq(found.op, op) {
            return Err(guard::violation(
                code::ACLNN_PARAM_INVALID,
                format!(
                    "the executor was made by {}, not by {}",
                    found.op.first, op.first
                ),
            ));
        }
        let context = state::context()?;
        if context.device.id != found.device {
            return Err(guard::violation(
                code::ACLNN_PARAM_INVALID,
                format!(
                    "phase 1 ran on device {}, phase 2 runs on {}",
                    found.device, context.device.id
                ),
            ));
        }
        let stream = crate::exports::stream::resolve(&context, stream)?;
        let workspace = check_workspace(&found, workspace.addr(), size)?;
        launch(&found, &context, &stream, workspace)
    });
    let repeatable = |found: Arc<Executor>| found.repeatable.load(Ordering::Acquire);
    if status != code::SUCCESS && !EXECUTORS.peek(executor).is_some_and(repeatable) {
        // A second phase uses its executor up, also one that fails before it looks at it.
        let _ = EXECUTORS.take(executor);
    }
    status
}

fn launch(
    executor: &Executor,
    context: &Context,
    stream: &Arc<Stream>,
    workspace: Option<Arc<Block>>,
) -> Result<(), Failure> {
    let op = executor.op;
    let mut blocks = Vec::with_capacity(executor.tensors.len() + 1);
    blocks.extend(workspace);
    let mut addresses = Vec::with_capacity(executor.tensors.len());
    let mut spans = Vec::with_capacity(executor.tensors.len());
    for bound in &executor.tensors {
        let address = bound.address.load(Ordering::Acquire);
        if !bound.tensor.object().alive.load(Ordering::Acquire) {
            return Err(guard::violation(
                code::ACLNN_PARAM_INVALID,
                format!(
                    "{}: {} was destroyed between phase 1 and phase 2",
                    op.name,
                    label(op, bound)
                ),
            ));
        }
        if bound.tensor.is_empty() {
            continue;
        }
        let block = locate(op, bound, address)?;
        let start = address.wrapping_add(bound.tensor.lead());
        spans.push((bound, start, start.saturating_add(bound.tensor.span())));
        addresses.push((
            bound.tensor.clone(),
            address.wrapping_sub(block.start).wrapping_add(block.data),
        ));
        blocks.push(block);
    }
    check_overlaps(op, &spans)?;
    let (fault, death) = ledger::book_kernel(op.name);
    if let Some(code) = death {
        let failure = Failure::new(code, format!("device {} died", context.device.id));
        context.device.poison(failure.clone());
        return Err(failure);
    }
    let task = match fault {
        Some(fault) => Task::new(move || Err(fault.clone())),
        None => {
            let run: Body = Arc::clone(&executor.run);
            Task::new(move || {
                let mut run = run.lock().unwrap_or_else(PoisonError::into_inner);
                for (tensor, address) in &addresses {
                    tensor.set_address(*address);
                }
                run()
            })
        }
    };
    let mut task = task.holding(&blocks);
    task.steal = !executor.waits;
    stream.submit(task)
}

fn check_workspace(
    executor: &Executor,
    workspace: usize,
    size: u64,
) -> Result<Option<Arc<Block>>, Failure> {
    let (op, needed) = (executor.op, executor.workspace);
    if needed == 0 {
        return Ok(None);
    }
    if workspace == 0 {
        return Err(Refusal::null(format!(
            "{}: workspace is null, wanted {needed} bytes",
            op.name
        )));
    }
    if size < needed {
        return Err(guard::violation(
            code::ACLNN_PARAM_INVALID,
            format!("{}: workspace has {size} bytes, wanted {needed}", op.name),
        ));
    }
    let length = usize::try_from(needed).unwrap_or(usize::MAX);
    if !workspace.is_multiple_of(32) {
        return Err(Refusal::invalid(format!(
            "{}: workspace {workspace:#x} is not aligned to 32",
            op.name
        )));
    }
    match memory::find(workspace, length) {
        Ok(block) if matches!(block.place, Place::Device(_)) => Ok(Some(block)),
        Ok(_) | Err(Missing::Host) => Err(guard::violation(
            code::ACLNN_PARAM_INVALID,
            format!("{}: workspace {workspace:#x} is not device memory", op.name),
        )),
        Err(Missing::Stale(text) | Missing::Overrun(text)) => Err(guard::violation(
            code::ACLNN_PARAM_INVALID,
            format!("{}: workspace: {text}", op.name),
        )),
    }
}

/// The live device block in which a tensor lies.
fn locate(op: &'static Op, bound: &Bound, address: usize) -> Result<Arc<Block>, Failure> {
    let refuse = |why: String| {
        guard::violation(
            code::ACLNN_PARAM_INVALID,
            format!("{}: {}: {why}", op.name, label(op, bound)),
        )
    };
    if address == 0 {
        return Err(refuse(String::from("the address is null")));
    }
    let unaligned = || format!("address {address:#x} is not a multiple of 32");
    if !aligned(&bound.tensor, address, unaligned) {
        return Err(refuse(unaligned()));
    }
    match memory::find(
        address,
        bound.tensor.lead().saturating_add(bound.tensor.span()),
    ) {
        Ok(block) if block.is_for_kernels() => Ok(block),
        Ok(_) => Err(refuse(format!(
            "{address:#x} is pinned host memory, wanted device memory"
        ))),
        Err(Missing::Host) => Err(refuse(format!(
            "{address:#x} is host memory, wanted device memory"
        ))),
        Err(Missing::Stale(text) | Missing::Overrun(text)) => Err(refuse(text)),
    }
}

/// Refuses an output that lies partly on another contiguous tensor: full aliasing is allowed, partial overlap is undefined.
fn check_overlaps(op: &'static Op, spans: &[(&Bound, usize, usize)]) -> Result<(), Failure> {
    for (output, start, end) in spans.iter().filter(|(bound, ..)| bound.output) {
        for (other, other_start, other_end) in spans {
            let same = std::ptr::eq(*output, *other) || (start == other_start && end == other_end);
            let whole = output.tensor.is_contiguous() && other.tensor.is_contiguous();
            let overlap = || {
                format!(
                    "{}: {} at {start:#x}..{end:#x} partly overlaps {} at {other_start:#x}..{other_end:#x}",
                    op.name,
                    label(op, output),
                    label(op, other)
                )
            };
            // A single element is read before it is written (PyTorch's client makes a complex number of a real one in its place).
            let single = output.tensor.count() == 1 && other.tensor.count() == 1;
            let apart = same || single || !whole || start >= other_end || other_start >= end;
            // Nothing that is read gets lost where two results overlap (ggml's backend does not look at a norm's statistics).
            let passing: &[Strictness] = match other.output {
                true => &[Strictness::Report, Strictness::Lenient],
                false => &[Strictness::Lenient],
            };
            if !apart && !guard::tolerates(passing, overlap) {
                return Err(guard::violation(code::ACLNN_PARAM_INVALID, overlap()));
            }
        }
    }
    Ok(())
}

/// Changes a tensor's address for the next runs of an executor.
pub(crate) fn set_address(
    executor: *const sys::aclOpExecutor,
    index: usize,
    tensor: Option<*const c_void>,
    element: Option<usize>,
    address: usize,
) -> Result<(), Failure> {
    let null = |what: &str| Failure::new(code::ACLNN_INNER_NULLPTR, format!("{what} is null"));
    if executor.is_null() {
        return Err(null("executor"));
    }
    let executor = EXECUTORS.get(executor)?;
    let matches = |bound: &&Bound| match tensor {
        None => false,
        Some(handle) => meta::TENSORS
            .get(handle)
            .is_ok_and(|object| Arc::ptr_eq(&object, bound.tensor.object())),
    };
    let in_list = |bound: &&Bound| element == Some(bound.element) && bound.parameter == index;
    if tensor.is_some_and(|handle| handle.is_null()) {
        return Err(null("tensor"));
    }
    if index >= executor.op.parameters.len() {
        return Err(Refusal::invalid(format!(
            "index is {index}, but {} has {} parameters",
            executor.op.name,
            executor.op.parameters.len()
        )));
    }
    let mut found = false;
    for bound in executor
        .tensors
        .iter()
        .filter(|bound| matches(bound) || in_list(bound))
    {
        bound.address.store(address, Ordering::Release);
        found = true;
    }
    if found {
        return Ok(());
    }
    Err(Refusal::invalid(format!(
        "the tensor is none of those that {} was prepared with",
        executor.op.name
    )))
}

/// Lets an executor run more than once.
pub(crate) fn make_repeatable(executor: *const sys::aclOpExecutor) -> Result<(), Failure> {
    if executor.is_null() {
        return Err(Failure::new(code::ACLNN_INNER_NULLPTR, "executor is null"));
    }
    EXECUTORS
        .get(executor)?
        .repeatable
        .store(true, Ordering::Release);
    Ok(())
}
