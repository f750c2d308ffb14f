//! What an op is: the trait that each op room implements, and its small companions.
//!
//! Knows the contract between an op and `dispatch` (plan, kernels, composition, gradient). Must not know any op, storage or CANN.

use std::fmt::Debug;

use smallvec::SmallVec;

use crate::ascend::{Dev, Launch};
use crate::cpu::{Host, HostMut};
use crate::device::Device;
use crate::dtype::{DType, Scalar};
use crate::error::{Error, Result};
use crate::layout::Layout;
use crate::shape::Shape;
use crate::tensor::Tensor;

/// The tensors that an op returns.
pub type Outputs = SmallVec<[Tensor; 2]>;

/// One gradient per input of an op; `None` where the input has none or none was asked for.
pub type Grads = SmallVec<[Option<Tensor>; 4]>;

/// A tensor without its data: what shape rules may look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meta {
    /// The shape.
    pub shape: Shape,
    /// The dtype.
    pub dtype: DType,
}

/// An op: a struct with the op's attributes, the rule for its outputs, its kernels and its gradient.
///
/// [`dispatch::run`](crate::dispatch::run) is the only place that calls these methods. An op may be defined outside this
/// crate; `examples/own_op.rs` shows one.
pub trait Op: Debug + Send + Sync + 'static {
    /// The op's name, as in its public method.
    fn name(&self) -> &'static str;

    /// Fills the plan: the dtype each input is cast to, and the shapes and dtypes of the outputs. Looks at no data.
    ///
    /// # Errors
    /// The op's shape, dtype, axis and option errors.
    fn infer(&self, inputs: &[Meta], plan: &mut Plan) -> Result<()>;

    /// For elementwise ops: the dtype of the result where all inputs have one shape and this dtype and none is cast, so that a
    /// small call can do without a plan; it has one output of that shape. None where only `infer` can tell.
    fn alike(&self, _dtype: DType) -> Option<DType> {
        None
    }

    /// For ops that only look at their input differently: the layout of the result. No kernel runs then.
    ///
    /// # Errors
    /// The same as `infer`.
    fn view(&self, _input: &Layout) -> Result<Option<Layout>> {
        Ok(None)
    }

    /// Runs on the host.
    ///
    /// # Errors
    /// What only data can tell: indices, divisors. [`Error::Unsupported`] when the op has no host kernel.
    fn cpu(&self, inputs: &[Host<'_>], _outputs: &mut [HostMut<'_>]) -> Result<Counts> {
        Err(no_kernel(
            self.name(),
            Device::Cpu,
            inputs.first().map(Host::dtype),
        ))
    }

    /// Queues the op's kernels on the NPU.
    ///
    /// # Errors
    /// [`Error::Unsupported`] or [`Error::Symbol`] where CANN has no kernel: then `compose` is tried.
    fn ascend(&self, launch: &Launch, inputs: &[Dev<'_>], _outputs: &[Dev<'_>]) -> Result<Counts> {
        Err(no_kernel(
            self.name(),
            Device::Ascend(launch.device()),
            inputs.first().map(Dev::dtype),
        ))
    }

    /// The op's meaning in simpler ops. Inputs are already cast as the plan asked.
    ///
    /// # Errors
    /// [`Error::Unsupported`] when the op is not composed of others; else the errors of those.
    fn compose(&self, inputs: &[Tensor]) -> Result<Outputs> {
        let device = inputs.first().map_or(Device::Cpu, Tensor::device);
        Err(no_kernel(
            self.name(),
            device,
            inputs.first().map(Tensor::dtype),
        ))
    }

    /// Whether the op is made of others for such inputs on such a device: a dry run cannot ask the kernel.
    fn is_composed(&self, _inputs: &[Meta], _device: Device) -> bool {
        false
    }

    /// How the op is differentiated, answered without running it.
    fn gradient(&self) -> Gradient;

    /// The gradients of the inputs from those of the outputs.
    ///
    /// # Errors
    /// Those of the ops that it uses.
    fn backward(&self, cx: &GradCx<'_>) -> Result<Grads> {
        Err(Error::NoGradient { op: cx.op })
    }

    /// Which inputs and outputs `backward` reads.
    fn saves(&self) -> Saves {
        Saves::INPUTS
    }

    /// The inputs that the op updates in place.
    fn writes(&self) -> Writes {
        Writes::NOTHING
    }

    /// How autocast treats the op's float inputs.
    fn cast(&self) -> CastRule {
        CastRule::Keep
    }

    /// The device of an op without inputs.
    fn device(&self) -> Device {
        Device::Cpu
    }

    /// A copy of the op for the tape; called only when recording.
    fn boxed(&self) -> Box<dyn Op>;
}

fn no_kernel(op: &'static str, device: Device, dtype: Option<DType>) -> Error {
    Error::unsupported(
        op,
        device,
        dtype.unwrap_or(DType::F32),
        "the op has no kernel there",
    )
}

/// How an op is differentiated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gradient {
    /// By the op's `backward`.
    Backward,
    /// By running `compose` again under the tape; a kernel that `backward` starts goes before, where it takes the call and
    /// nobody differentiates again.
    Compose,
    /// The outputs do not depend on the inputs in a differentiable way (comparisons, indices, rounding to integers).
    Constant,
    /// There should be one, but it is missing: using the op under the tape is an error.
    Missing,
}

/// A set of positions, at most 64.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Positions(u64);

impl Positions {
    const fn one(position: usize) -> Self {
        Positions(if position < 64 { 1 << position } else { 0 })
    }

    const fn has(self, position: usize) -> bool {
        position >= 64 && self.0 == u64::MAX || position < 64 && self.0 & (1 << position) != 0
    }
}

/// What the tape keeps for `backward`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Saves {
    inputs: Positions,
    outputs: Positions,
}

impl Saves {
    /// Nothing but shapes and dtypes.
    pub const NOTHING: Saves = Saves {
        inputs: Positions(0),
        outputs: Positions(0),
    };
    /// All inputs.
    pub const INPUTS: Saves = Saves {
        inputs: Positions(u64::MAX),
        outputs: Positions(0),
    };
    /// All outputs, auxiliary ones too.
    pub const OUTPUTS: Saves = Saves {
        inputs: Positions(0),
        outputs: Positions(u64::MAX),
    };

    /// One input as well.
    pub const fn and_input(self, position: usize) -> Self {
        Saves {
            inputs: Positions(self.inputs.0 | Positions::one(position).0),
            outputs: self.outputs,
        }
    }

    /// One output as well.
    pub const fn and_output(self, position: usize) -> Self {
        Saves {
            inputs: self.inputs,
            outputs: Positions(self.outputs.0 | Positions::one(position).0),
        }
    }

    pub(crate) const fn input(self, position: usize) -> bool {
        self.inputs.has(position)
    }

    pub(crate) const fn output(self, position: usize) -> bool {
        self.outputs.has(position)
    }
}

/// The inputs that an op updates in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Writes(Positions);

impl Writes {
    /// None: the usual op.
    pub const NOTHING: Writes = Writes(Positions(0));
    /// The first input.
    pub const FIRST: Writes = Writes(Positions(1));

    /// One input as well.
    pub const fn and(self, position: usize) -> Self {
        Writes(Positions(self.0.0 | Positions::one(position).0))
    }

    /// Whether nothing is written.
    pub const fn is_nothing(self) -> bool {
        self.0.0 == 0
    }

    pub(crate) const fn has(self, position: usize) -> bool {
        self.0.has(position)
    }
}

/// How autocast treats an op.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CastRule {
    /// Inputs keep their dtype.
    Keep,
    /// Float inputs are cast to the autocast dtype: matrix products and convolutions.
    Lower,
    /// Half inputs are cast to f32: sums of many terms, exponentials, losses.
    Full,
    /// Float inputs of several dtypes are cast to the widest of them.
    Widest,
}

/// How many elements a kernel with a data-dependent output really made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts(pub(crate) Option<usize>);

impl Counts {
    /// The outputs have exactly the planned shapes.
    pub const EXACT: Counts = Counts(None);

    /// The outputs that were planned with `output_at_most` have this extent.
    pub const fn of(count: usize) -> Self {
        Counts(Some(count))
    }
}

/// One planned output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OutputPlan {
    pub meta: Meta,
    /// The dim whose extent the kernel will tell.
    pub at_most: Option<usize>,
    pub visible: bool,
}

/// What `infer` decides: casts of the inputs and the outputs to make.
#[derive(Debug, Default)]
pub struct Plan {
    pub(crate) casts: SmallVec<[Option<DType>; 4]>,
    pub(crate) outputs: SmallVec<[OutputPlan; 2]>,
    pub(crate) taped: bool,
    pub(crate) on_ascend: bool,
}

impl Plan {
    /// Casts an input to a dtype before the kernel.
    pub fn cast(&mut self, input: usize, dtype: DType) {
        if self.casts.len() <= input {
            self.casts.resize(input + 1, None);
        }
        self.casts[input] = Some(dtype);
    }

    /// Adds an output.
    pub fn output(&mut self, shape: Shape, dtype: DType) {
        self.outputs.push(OutputPlan {
            meta: Meta { shape, dtype },
            at_most: None,
            visible: true,
        });
    }

    /// Adds an output whose extent at `dim` the kernel will tell; `shape` has the largest possible one.
    pub fn output_at_most(&mut self, shape: Shape, dtype: DType, dim: usize) {
        self.outputs.push(OutputPlan {
            meta: Meta { shape, dtype },
            at_most: Some(dim),
            visible: true,
        });
    }

    /// Adds an output that only `backward` sees. Auxiliary outputs come after the visible ones.
    pub fn auxiliary(&mut self, shape: Shape, dtype: DType) {
        self.outputs.push(OutputPlan {
            meta: Meta { shape, dtype },
            at_most: None,
            visible: false,
        });
    }

    /// Whether the tape records this call, so that auxiliary outputs will be needed.
    pub fn is_taped(&self) -> bool {
        self.taped
    }

    /// Whether the call runs on an NPU, whose kernels may want auxiliary outputs.
    pub fn is_on_ascend(&self) -> bool {
        self.on_ascend
    }
}

/// What `backward` may look at.
#[derive(Debug)]
pub struct GradCx<'a> {
    pub(crate) op: &'static str,
    pub(crate) inputs: &'a [Option<Tensor>],
    pub(crate) outputs: &'a [Option<Tensor>],
    pub(crate) metas: &'a [Meta],
    pub(crate) device: Device,
    pub(crate) gradients: &'a [Option<Tensor>],
    pub(crate) needs: &'a [bool],
    pub(crate) before: Before<'a>,
}

/// Takes what has arrived of an input's gradient from its other uses.
#[derive(Clone, Copy)]
pub(crate) struct Before<'a>(pub Option<&'a dyn Fn(usize) -> Option<Tensor>>);

impl Debug for Before<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Before").field(&self.0.is_some()).finish()
    }
}

impl GradCx<'_> {
    /// The number of inputs.
    pub fn len(&self) -> usize {
        self.metas.len()
    }

    /// Whether the op has no inputs.
    pub fn is_empty(&self) -> bool {
        self.metas.is_empty()
    }

    /// A saved input.
    ///
    /// # Errors
    /// If `saves` did not name it.
    pub fn input(&self, position: usize) -> Result<&Tensor> {
        self.inputs
            .get(position)
            .and_then(Option::as_ref)
            .ok_or(Error::NoGradient { op: self.op })
    }

    /// A saved output, auxiliary ones counted after the visible ones.
    ///
    /// # Errors
    /// If `saves` did not name it.
    pub fn output(&self, position: usize) -> Result<&Tensor> {
        self.outputs
            .get(position)
            .and_then(Option::as_ref)
            .ok_or(Error::NoGradient { op: self.op })
    }

    /// The shape and dtype that an input had after the plan's casts.
    ///
    /// # Errors
    /// If there is no such input.
    pub fn meta(&self, position: usize) -> Result<Meta> {
        self.metas
            .get(position)
            .copied()
            .ok_or(Error::NoGradient { op: self.op })
    }

    /// The device of the inputs.
    pub fn device(&self) -> Device {
        self.device
    }

    /// The gradient of the first output.
    ///
    /// # Errors
    /// If it has none.
    pub fn gradient(&self) -> Result<&Tensor> {
        self.gradient_of(0).ok_or(Error::NoGradient { op: self.op })
    }

    /// The gradient of an output, if one arrived.
    pub fn gradient_of(&self, output: usize) -> Option<&Tensor> {
        self.gradients.get(output).and_then(Option::as_ref)
    }

    /// Takes the sum of the gradients that have arrived at an input from its other uses, in the input's shape and dtype, for an op
    /// that adds its own to it while it computes it: what the op then returns for this input is the sum. `None` if nothing has
    /// arrived, for tensors on an NPU, and in a pass that is itself recorded.
    pub(crate) fn before(&self, position: usize) -> Option<Tensor> {
        self.before.0.and_then(|take| take(position))
    }

    /// Whether the gradient of an input is wanted.
    pub fn needs(&self, position: usize) -> bool {
        self.needs.get(position).copied().unwrap_or(false)
    }

    /// Computes the gradient of an input if it is wanted.
    ///
    /// # Errors
    /// Those of `make`.
    pub fn want(
        &self,
        position: usize,
        make: impl FnOnce() -> Result<Tensor>,
    ) -> Result<Option<Tensor>> {
        if self.needs(position) {
            make().map(Some)
        } else {
            Ok(None)
        }
    }
}

/// How close a kernel must come to the composition or to another device.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tolerance {
    /// Relative part.
    pub rtol: f64,
    /// Absolute part.
    pub atol: f64,
}

impl Tolerance {
    /// The usual tolerance of a dtype: exact for integers, 1e-5 for f32, 1e-9 for f64, 2e-3 and 1e-2 for halves.
    pub const fn of(dtype: DType) -> Self {
        match dtype {
            DType::F64 => Tolerance {
                rtol: 1e-9,
                atol: 1e-12,
            },
            DType::F32 => Tolerance {
                rtol: 1e-5,
                atol: 1e-6,
            },
            DType::F16 => Tolerance {
                rtol: 2e-3,
                atol: 2e-3,
            },
            DType::BF16 => Tolerance {
                rtol: 1e-2,
                atol: 1e-2,
            },
            _ => Tolerance {
                rtol: 0.0,
                atol: 0.0,
            },
        }
    }
}

/// The dtype that tensors and scalars promote to: dims before 0-d before scalars, a lower kind counts only for its category.
pub(crate) fn result_type(inputs: &[Meta], scalars: &[Scalar]) -> DType {
    if let ([first, rest @ ..], []) = (inputs, scalars)
        && rest.iter().all(|input| input.dtype == first.dtype)
    {
        return first.dtype;
    }
    let mut kinds: [Option<DType>; 3] = [None; 3];
    let operands = inputs
        .iter()
        .map(|meta| (usize::from(meta.shape.rank() == 0), meta.dtype));
    for (kind, dtype) in operands.chain(scalars.iter().map(|scalar| (2, scalar.dtype()))) {
        kinds[kind] = Some(kinds[kind].map_or(dtype, |own: DType| own.promote(dtype)));
    }
    let lower = |high: Option<DType>, low: Option<DType>| match (high, low) {
        (Some(high), Some(low)) if low.category() <= high.category() => Some(high),
        (high, None) => high,
        (_, low) => low,
    };
    lower(lower(kinds[0], kinds[1]), kinds[2]).unwrap_or(DType::F32)
}

/// What the catalog knows of an op: enough for a test to run it without knowing it.
#[derive(Clone, Copy)]
pub struct OpInfo {
    /// The op's name.
    pub name: &'static str,
    /// The family's name.
    pub family: &'static str,
    /// The aclnn kernels that the NPU path starts; empty for views and compositions.
    pub kernels: &'static [&'static str],
    /// Ready calls with fixed inputs, for tests over the catalog.
    pub samples: fn() -> Vec<Sample>,
}

impl Debug for OpInfo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpInfo")
            .field("name", &self.name)
            .field("family", &self.family)
            .finish_non_exhaustive()
    }
}

/// A ready call of an op.
#[derive(Debug)]
pub struct Sample {
    /// The op with its attributes.
    pub op: Box<dyn Op>,
    /// The shapes, and the range of values, of the inputs.
    pub inputs: Vec<SampleInput>,
    /// The dtypes to try for the inputs that have none of their own.
    pub dtypes: &'static [DType],
}

/// One input of a [`Sample`].
#[derive(Debug, Clone)]
pub struct SampleInput {
    /// The shape.
    pub shape: Shape,
    /// A dtype of its own (indices, masks), or the sample's.
    pub dtype: Option<DType>,
    /// The smallest value.
    pub low: f64,
    /// The largest value.
    pub high: f64,
}

impl SampleInput {
    /// An input of the sample's dtype with values in a range.
    pub fn new(shape: impl Into<Shape>, low: f64, high: f64) -> Self {
        SampleInput {
            shape: shape.into(),
            dtype: None,
            low,
            high,
        }
    }

    /// An input of a dtype of its own.
    pub fn typed(shape: impl Into<Shape>, dtype: DType, low: f64, high: f64) -> Self {
        SampleInput {
            shape: shape.into(),
            dtype: Some(dtype),
            low,
            high,
        }
    }
}

/// The float dtypes, for samples.
pub const FLOATS: &[DType] = &[DType::F64, DType::F32, DType::F16, DType::BF16];
/// All dtypes but bool, for samples.
pub const NUMBERS: &[DType] = &[
    DType::F64,
    DType::F32,
    DType::F16,
    DType::BF16,
    DType::I64,
    DType::I32,
    DType::I16,
    DType::I8,
    DType::U8,
];
