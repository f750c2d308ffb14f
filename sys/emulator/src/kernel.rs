//! The interface of emulated kernels: what phase 1 hands to a kernel (`Call`) and what it gets back (`Work`).
//!
//! Knows arguments by position; it must not know handles, streams, memory or how a call came in.
//!
//! A kernel is a function `Prepare`. It validates shapes and attributes, computes what only depends on them, and returns a
//! closure that reads its inputs when it runs. Dtypes, null handles of parameters that are not optional and views that leave
//! their storage are checked before it is called; that bytes are live device memory is checked before the closure runs.
//! An op is registered by one line in its family's `KERNELS` table (see `kernels/mod.rs`).
#![allow(dead_code)] // kernels use what they need of this interface

use crate::dtype::DType;
use crate::failure::{Fault, Refusal};
use crate::number::{Byte, Complex, Number, Pair};
use crate::tensor::Tensor;
use half::{bf16, f16};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Phase 1 of one op.
pub type Prepare = fn(&Call) -> Result<Work, Refusal>;

/// What the stream runs; called again for each run of a repeatable executor or a replayed graph.
pub type Run = Box<dyn FnMut() -> Result<(), Fault> + Send>;

/// The outcome of phase 1.
pub struct Work {
    /// Bytes of device memory that the caller must pass to phase 2.
    pub workspace: u64,
    /// Phase 2.
    pub run: Run,
    /// Whether it waits for other ranks: then only the stream's own thread may run it.
    pub waits: bool,
}

impl Work {
    /// Work without a workspace.
    pub fn new(run: impl FnMut() -> Result<(), Fault> + Send + 'static) -> Work {
        Work {
            workspace: 0,
            run: Box::new(run),
            waits: false,
        }
    }

    /// Work that waits for other ranks.
    pub fn waiting(run: impl FnMut() -> Result<(), Fault> + Send + 'static) -> Work {
        Work {
            waits: true,
            ..Work::new(run)
        }
    }

    /// Work that does nothing: what most ops give for empty tensors.
    pub fn nothing() -> Work {
        Work::new(|| Ok(()))
    }

    /// The same work, asking for a workspace.
    pub fn with_workspace(self, workspace: u64) -> Work {
        Work { workspace, ..self }
    }
}

impl std::fmt::Debug for Work {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Work")
            .field("workspace", &self.workspace)
            .finish_non_exhaustive()
    }
}

/// The product family of the selected chip.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    /// Atlas A2 (910B with a digit).
    A2,
    /// Atlas A3 (910_93).
    A3,
    /// Ascend 950.
    A950,
    /// Atlas inference series.
    P310,
    /// The first 910.
    A910,
    /// Atlas 200I/500 A2.
    B310,
}

/// A scalar argument: its own dtype and its bits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scalar {
    dtype: DType,
    bits: [u8; 16],
}

impl Scalar {
    pub(crate) fn new(dtype: DType, bits: [u8; 16]) -> Scalar {
        Scalar { dtype, bits }
    }

    /// The scalar's dtype, which takes part in promotion.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The value converted to `T`.
    pub fn get<T: Number>(&self) -> T {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = self.bits;
        let (two, four, eight) = ([a, b], [a, b, c, d], [a, b, c, d, e, f, g, h]);
        match self.dtype {
            DType::F32 => T::get(f32::from_ne_bytes(four)),
            DType::F16 => T::get(f16::from_ne_bytes(two)),
            DType::Bf16 => T::get(bf16::from_ne_bytes(two)),
            DType::F64 => T::get(f64::from_ne_bytes(eight)),
            DType::I8 => T::get(a as i8),
            DType::U8 => T::get(a),
            DType::I16 => T::get(i16::from_ne_bytes(two)),
            DType::U16 => T::get(u16::from_ne_bytes(two)),
            DType::I32 => T::get(i32::from_ne_bytes(four)),
            DType::U32 => T::get(u32::from_ne_bytes(four)),
            DType::I64 => T::get(i64::from_ne_bytes(eight)),
            DType::U64 => T::get(u64::from_ne_bytes(eight)),
            DType::Bool => T::get(Byte(a)),
            DType::C64 => T::get(Pair(
                f32::from_ne_bytes(four),
                f32::from_ne_bytes([e, f, g, h]),
            )),
            DType::C128 => T::get(Pair(
                f64::from_ne_bytes(eight),
                f64::from_ne_bytes([i, j, k, l, m, n, o, p]),
            )),
            _ => T::get(0u8),
        }
    }

    /// As f64.
    pub fn f64(&self) -> f64 {
        self.get()
    }

    /// As f32.
    pub fn f32(&self) -> f32 {
        self.get()
    }

    /// As i64.
    pub fn i64(&self) -> i64 {
        self.get()
    }

    /// As a complex number.
    pub fn complex(&self) -> Complex {
        self.get()
    }

    /// The value after a detour through another dtype: what a tensor of that dtype would hold.
    pub fn rounded_to<T: Number>(&self, dtype: DType) -> T {
        match dtype {
            DType::F16 => T::get(self.get::<f64>().put::<f16>(false)),
            DType::Bf16 => T::get(self.get::<f64>().put::<bf16>(false)),
            DType::F32 => T::get(self.get::<f64>().put::<f32>(false)),
            DType::I8 => T::get(self.get::<i64>().put::<i8>(false)),
            DType::I16 => T::get(self.get::<i64>().put::<i16>(false)),
            DType::I32 => T::get(self.get::<i64>().put::<i32>(false)),
            DType::U8 => T::get(self.get::<i64>().put::<u8>(false)),
            DType::I64 => T::get(self.get::<i64>()),
            DType::Bool => T::get(Byte(u8::from(self.get::<bool>()))),
            _ => self.get(),
        }
    }
}

/// One argument of phase 1, in the C signature's order (workspace size and executor left out).
#[derive(Debug, Clone)]
pub enum Arg {
    /// `aclTensor *`; `None` for a null handle.
    Tensor(Option<Tensor>),
    /// `aclTensorList *`; null elements are `None`.
    Tensors(Option<Vec<Option<Tensor>>>),
    /// `aclScalar *`.
    Scalar(Option<Scalar>),
    /// `aclScalarList *`.
    Scalars(Option<Vec<Scalar>>),
    /// `aclIntArray *`.
    Ints(Option<Vec<i64>>),
    /// `aclFloatArray *`.
    Floats(Option<Vec<f32>>),
    /// `aclBoolArray *`.
    Bools(Option<Vec<bool>>),
    /// Any integer by value, `aclDataType` included.
    Int(i64),
    /// `float` or `double` by value.
    Float(f64),
    /// `bool` by value.
    Bool(bool),
    /// `char *`; `None` for null.
    Text(Option<String>),
}

/// The order of a sum: from the first number on, or from another one in each run, as atomic additions of many cores would.
#[derive(Debug, Clone, Copy)]
pub struct Order {
    free: bool,
}

impl Order {
    /// The numbers below `count` in this order.
    pub fn of(self, count: usize) -> impl Iterator<Item = usize> {
        static TURN: AtomicUsize = AtomicUsize::new(1);
        let start = match self.free {
            true => TURN.fetch_add(1, Ordering::Relaxed) % count.max(1),
            false => 0,
        };
        (0..count).map(move |number| (start + number) % count)
    }
}

/// A call of phase 1, as a kernel sees it. Parameters are counted from 0 in the order of the C signature.
#[derive(Debug)]
pub struct Call<'a> {
    name: &'static str,
    family: Family,
    deterministic: bool,
    args: &'a [Arg],
}

impl<'a> Call<'a> {
    pub(crate) fn new(
        name: &'static str,
        family: Family,
        deterministic: bool,
        args: &'a [Arg],
    ) -> Call<'a> {
        Call {
            name,
            family,
            deterministic,
            args,
        }
    }

    /// The op's name, `aclnnAdd`: one kernel may serve several ops.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The selected product family.
    pub fn family(&self) -> Family {
        self.family
    }

    /// The order in which a kernel that CANN calls non-deterministic adds up.
    pub fn order(&self) -> Order {
        Order {
            free: !self.deterministic,
        }
    }

    /// Number of parameters.
    pub fn count(&self) -> usize {
        self.args.len()
    }

    /// The argument itself.
    pub fn arg(&self, index: usize) -> Option<&'a Arg> {
        self.args.get(index)
    }

    /// A required tensor.
    pub fn tensor(&self, index: usize) -> Result<Tensor, Refusal> {
        match self.args.get(index) {
            Some(Arg::Tensor(Some(tensor))) => Ok(tensor.clone()),
            Some(Arg::Tensor(None)) => Err(self.missing(index, "a tensor")),
            other => Err(self.wrong(index, "a tensor", other)),
        }
    }

    /// A tensor that may be null.
    pub fn optional_tensor(&self, index: usize) -> Option<Tensor> {
        match self.args.get(index) {
            Some(Arg::Tensor(tensor)) => tensor.clone(),
            _ => None,
        }
    }

    /// A required list without null elements.
    pub fn tensors(&self, index: usize) -> Result<Vec<Tensor>, Refusal> {
        match self.args.get(index) {
            Some(Arg::Tensors(Some(list))) => list
                .iter()
                .map(|tensor| {
                    tensor
                        .clone()
                        .ok_or_else(|| self.missing(index, "a tensor in the list"))
                })
                .collect(),
            Some(Arg::Tensors(None)) => Err(self.missing(index, "a tensor list")),
            other => Err(self.wrong(index, "a tensor list", other)),
        }
    }

    /// A required list whose elements may be null.
    pub fn optional_tensors(&self, index: usize) -> Option<Vec<Option<Tensor>>> {
        match self.args.get(index) {
            Some(Arg::Tensors(list)) => list.clone(),
            _ => None,
        }
    }

    /// A required scalar.
    pub fn scalar(&self, index: usize) -> Result<Scalar, Refusal> {
        match self.args.get(index) {
            Some(Arg::Scalar(Some(scalar))) => Ok(*scalar),
            Some(Arg::Scalar(None)) => Err(self.missing(index, "a scalar")),
            other => Err(self.wrong(index, "a scalar", other)),
        }
    }

    /// A scalar that may be null.
    pub fn optional_scalar(&self, index: usize) -> Option<Scalar> {
        match self.args.get(index) {
            Some(Arg::Scalar(scalar)) => *scalar,
            _ => None,
        }
    }

    /// A required scalar list.
    pub fn scalars(&self, index: usize) -> Result<&'a [Scalar], Refusal> {
        match self.args.get(index) {
            Some(Arg::Scalars(Some(list))) => Ok(list),
            Some(Arg::Scalars(None)) => Err(self.missing(index, "a scalar list")),
            other => Err(self.wrong(index, "a scalar list", other)),
        }
    }

    /// A required integer array.
    pub fn ints(&self, index: usize) -> Result<&'a [i64], Refusal> {
        self.optional_ints(index)
            .ok_or_else(|| self.missing(index, "an integer array"))
    }

    /// An integer array that may be null.
    pub fn optional_ints(&self, index: usize) -> Option<&'a [i64]> {
        match self.args.get(index) {
            Some(Arg::Ints(Some(values))) => Some(values),
            _ => None,
        }
    }

    /// A required float array.
    pub fn floats(&self, index: usize) -> Result<&'a [f32], Refusal> {
        match self.args.get(index) {
            Some(Arg::Floats(Some(values))) => Ok(values),
            _ => Err(self.missing(index, "a float array")),
        }
    }

    /// A required bool array (output masks).
    pub fn bools(&self, index: usize) -> Result<&'a [bool], Refusal> {
        match self.args.get(index) {
            Some(Arg::Bools(Some(values))) => Ok(values),
            _ => Err(self.missing(index, "a bool array")),
        }
    }

    /// An integer by value.
    pub fn int(&self, index: usize) -> Result<i64, Refusal> {
        match self.args.get(index) {
            Some(Arg::Int(value)) => Ok(*value),
            other => Err(self.wrong(index, "an integer", other)),
        }
    }

    /// A floating-point number by value.
    pub fn float(&self, index: usize) -> Result<f64, Refusal> {
        match self.args.get(index) {
            Some(Arg::Float(value)) => Ok(*value),
            other => Err(self.wrong(index, "a float", other)),
        }
    }

    /// A bool by value.
    pub fn bool(&self, index: usize) -> Result<bool, Refusal> {
        match self.args.get(index) {
            Some(Arg::Bool(value)) => Ok(*value),
            other => Err(self.wrong(index, "a bool", other)),
        }
    }

    /// A required string.
    pub fn text(&self, index: usize) -> Result<&'a str, Refusal> {
        match self.args.get(index) {
            Some(Arg::Text(Some(text))) => Ok(text),
            Some(Arg::Text(None)) => Err(self.missing(index, "a string")),
            other => Err(self.wrong(index, "a string", other)),
        }
    }

    /// An integer parameter that is an `aclDataType`.
    pub fn dtype(&self, index: usize) -> Result<DType, Refusal> {
        let code = self.int(index)?;
        i32::try_from(code)
            .ok()
            .and_then(DType::from_code)
            .ok_or_else(|| self.invalid(format!("parameter {index}: data type {code} is unknown")))
    }

    /// A refusal with 161002 that names the op.
    pub fn invalid(&self, text: impl std::fmt::Display) -> Refusal {
        Refusal::invalid(format!("{}: {text}", self.name))
    }

    /// A refusal with 561003 that names the op.
    pub fn unsupported(&self, text: impl std::fmt::Display) -> Refusal {
        Refusal::unsupported(format!("{}: {text}", self.name))
    }

    /// Refuses a tensor whose shape is not the wanted one.
    pub fn expect_shape(
        &self,
        what: &str,
        tensor: &Tensor,
        wanted: &[usize],
    ) -> Result<(), Refusal> {
        if tensor.shape() == wanted {
            return Ok(());
        }
        Err(self.invalid(format!(
            "{what} has shape {:?}, wanted {wanted:?}",
            tensor.shape()
        )))
    }

    /// As [`expect_shape`](Self::expect_shape), but two shapes of one element agree: the copy with which most ops of CANN end
    /// asks no more of the caller's output (`ViewCopy`, `CheckShapeAndScalarSame` in its open sources).
    pub fn expect_shape_or_one_element(
        &self,
        what: &str,
        tensor: &Tensor,
        wanted: &[usize],
    ) -> Result<(), Refusal> {
        if tensor.count() == 1 && wanted.iter().all(|&dim| dim == 1) {
            return Ok(());
        }
        self.expect_shape(what, tensor, wanted)
    }

    /// Refuses a tensor whose dtype is not one of the wanted ones.
    pub fn expect_dtype(
        &self,
        what: &str,
        tensor: &Tensor,
        wanted: &[DType],
    ) -> Result<(), Refusal> {
        if wanted.contains(&tensor.dtype()) {
            return Ok(());
        }
        Err(self.invalid(format!(
            "{what} has dtype {}, wanted one of {wanted:?}",
            tensor.dtype()
        )))
    }

    /// An axis counted from the end where negative; a rank of 0 counts as 1.
    pub fn axis(&self, axis: i64, rank: usize) -> Result<usize, Refusal> {
        let limit = rank.max(1) as i64;
        let from_start = if axis < 0 { axis + limit } else { axis };
        if (0..limit).contains(&from_start) {
            return Ok(from_start as usize);
        }
        Err(self.invalid(format!("dim {axis} is outside [{}, {})", -limit, limit)))
    }

    /// The common shape of several operands.
    pub fn broadcast(&self, shapes: &[&[usize]]) -> Result<Vec<usize>, Refusal> {
        let rank = shapes.iter().map(|shape| shape.len()).max().unwrap_or(0);
        let mut common = vec![1usize; rank];
        for shape in shapes {
            for (target, &dim) in common.iter_mut().rev().zip(shape.iter().rev()) {
                match (*target, dim) {
                    (1, _) => *target = dim,
                    (_, 1) => {}
                    (a, b) if a == b => {}
                    _ => return Err(self.invalid(format!("shapes {shapes:?} do not broadcast"))),
                }
            }
        }
        Ok(common)
    }

    fn missing(&self, index: usize, wanted: &str) -> Refusal {
        Refusal::null(format!(
            "{}: parameter {index} is null, wanted {wanted}",
            self.name
        ))
    }

    fn wrong(&self, index: usize, wanted: &str, got: Option<&Arg>) -> Refusal {
        let got = match got {
            None => "nothing",
            Some(Arg::Tensor(_)) => "a tensor",
            Some(Arg::Tensors(_)) => "a tensor list",
            Some(Arg::Scalar(_)) => "a scalar",
            Some(Arg::Scalars(_)) => "a scalar list",
            Some(Arg::Ints(_)) => "an integer array",
            Some(Arg::Floats(_)) => "a float array",
            Some(Arg::Bools(_)) => "a bool array",
            Some(Arg::Int(_)) => "an integer",
            Some(Arg::Float(_)) => "a float",
            Some(Arg::Bool(_)) => "a bool",
            Some(Arg::Text(_)) => "a string",
        };
        Refusal::new(
            crate::failure::code::INTERNAL_ERROR,
            format!(
                "{}: emulated kernel asks for {wanted} as parameter {index}, which is {got}",
                self.name
            ),
        )
    }
}
