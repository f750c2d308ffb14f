//! Single operators: what the older interface asks for by an operator's type, tensors and attributes, as the kernels of the
//! aclnn functions know it.
//!
//! Knows requests and how attributes are read; it must not know handles, descriptions or how kernels compute.

mod composed;
mod recipes;
mod recurrent;

use crate::dtype::DType;
use crate::executor;
use crate::failure::{Failure, Refusal, code};
use crate::kernel::{Arg, Call, Prepare, Scalar};
use crate::shims::Op;
use crate::tensor::{Description, Tensor, TensorObject};
use ascend_sys as sys;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The value of an attribute.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Bool(bool),
    Int(i64),
    Float(f32),
    Text(String),
    DType(i32),
    Bools(Vec<bool>),
    Ints(Vec<i64>),
    Floats(Vec<f32>),
    Texts(Vec<String>),
    DTypes(Vec<i32>),
    IntLists(Vec<Vec<i64>>),
}

/// Attributes by name.
pub(crate) type Attributes = BTreeMap<String, Value>;

/// One input or output: what its description and its buffer say.
#[derive(Debug, Clone)]
pub(crate) struct Operand {
    pub description: Description,
    pub address: usize,
    /// The bytes of the buffer.
    pub size: usize,
    /// Bytes that the host knows when the operator is asked for: a constant, or an operand in host memory.
    pub constant: Option<Vec<u8>>,
}

/// An operator as a caller asks for it; inputs that are left out are `None`.
#[derive(Debug)]
pub(crate) struct Request {
    pub op: String,
    pub inputs: Vec<Option<Operand>>,
    pub outputs: Vec<Operand>,
    pub attributes: Attributes,
}

/// Which kernel runs, and with which arguments.
pub(crate) struct Recipe {
    op: &'static Op,
    prepare: Prepare,
    args: Vec<Arg>,
}

/// Whether the emulator has an operator of this type.
pub(crate) fn known(op: &str) -> bool {
    recipes::find(op).is_some()
}

fn lacking(op: &str) -> Failure {
    Failure::new(
        code::API_NOT_SUPPORT,
        format!("{op}: the emulator does not have this single operator"),
    )
}

/// Refuses an operator type that the emulator does not have.
pub(crate) fn expect_known(op: &str) -> Result<(), Failure> {
    if known(op) { Ok(()) } else { Err(lacking(op)) }
}

/// Puts an operator on a stream.
pub(crate) fn run(request: &Request, stream: sys::aclrtStream) -> Result<(), Failure> {
    let build = recipes::find(&request.op).ok_or_else(|| lacking(&request.op))?;
    let outcome = build(request)
        .and_then(|recipe| executor::run_single(recipe.op, recipe.prepare, &recipe.args, stream));
    outcome.map_err(|failure| match failure.code {
        // This interface has codes of its own for what the kernels refuse.
        code::ACLNN_PARAM_INVALID | code::ACLNN_PARAM_NULLPTR => Failure::new(
            code::INVALID_PARAM,
            format!("{}: {}", request.op, failure.text),
        ),
        code::ACLNN_INNER_FIND_KERNEL => Failure::new(
            code::API_NOT_SUPPORT,
            format!("{}: {}", request.op, failure.text),
        ),
        _ => failure,
    })
}

impl Request {
    fn invalid(&self, text: impl std::fmt::Display) -> Refusal {
        Refusal::invalid(text.to_string())
    }

    fn operand(&self, index: usize) -> Result<&Operand, Refusal> {
        self.inputs
            .get(index)
            .and_then(Option::as_ref)
            .ok_or_else(|| self.invalid(format!("input {index} is missing")))
    }

    /// An input that must be there.
    fn input(&self, index: usize) -> Result<Tensor, Refusal> {
        self.tensor(self.operand(index)?, "an input")
    }

    /// An input that may be left out.
    fn optional(&self, index: usize) -> Result<Option<Tensor>, Refusal> {
        match self.inputs.get(index).and_then(Option::as_ref) {
            Some(operand) => self.tensor(operand, "an input").map(Some),
            None => Ok(None),
        }
    }

    fn output(&self, index: usize) -> Result<Tensor, Refusal> {
        let operand = self
            .outputs
            .get(index)
            .ok_or_else(|| self.invalid(format!("output {index} is missing")))?;
        self.tensor(operand, "an output")
    }

    fn tensor(&self, operand: &Operand, what: &str) -> Result<Tensor, Refusal> {
        if !matches!(operand.description.format, -1..=2 | 16 | 27 | 30 | 35 | 47) {
            return Err(Refusal::unsupported(format!(
                "{what} has the private format {}",
                operand.description.format
            )));
        }
        let object = TensorObject::new(operand.description.clone(), operand.address);
        let tensor = Tensor::snapshot(&Arc::new(object), what)?;
        let bytes = tensor.dtype().bytes(tensor.count()).unwrap_or(usize::MAX);
        if bytes > operand.size {
            return Err(self.invalid(format!(
                "{what} of shape {:?} takes {bytes} bytes, its buffer has {}",
                tensor.shape(),
                operand.size
            )));
        }
        Ok(tensor)
    }

    /// Numbers of an input that the host knows.
    fn constant(&self, index: usize) -> Result<Vec<f64>, Refusal> {
        let operand = self.operand(index)?;
        let bytes = operand.constant.as_ref().ok_or_else(|| {
            self.invalid(format!(
                "input {index} must be a constant or lie in host memory"
            ))
        })?;
        let dtype = DType::from_code(operand.description.dtype).unwrap_or(DType::Undefined);
        let width = dtype.bits() / 8;
        if width == 0 || width > 8 {
            return Err(self.invalid(format!("input {index} is a constant of {dtype}")));
        }
        let count: i64 = operand.description.shape.iter().product();
        Ok(bytes
            .chunks_exact(width)
            .take(usize::try_from(count).unwrap_or(0))
            .map(|chunk| {
                let mut bits = [0u8; 16];
                bits[..width].copy_from_slice(chunk);
                Scalar::new(dtype, bits).f64()
            })
            .collect())
    }

    /// The whole numbers of an attribute, or of a constant input where the attribute is not there.
    fn numbers(&self, name: &str, index: usize) -> Result<Vec<i64>, Refusal> {
        match self.attributes.get(name) {
            Some(Value::Ints(values)) => Ok(values.clone()),
            Some(Value::Int(value)) => Ok(vec![*value]),
            Some(other) => Err(self.invalid(format!("attribute {name} is {other:?}"))),
            None => Ok(self
                .constant(index)?
                .into_iter()
                .map(|value| value as i64)
                .collect()),
        }
    }

    fn list(&self, name: &str, otherwise: &[i64]) -> Result<Vec<i64>, Refusal> {
        match self.attributes.get(name) {
            Some(Value::Ints(values)) => Ok(values.clone()),
            Some(Value::Int(value)) => Ok(vec![*value]),
            None => Ok(otherwise.to_vec()),
            Some(other) => Err(self.invalid(format!("attribute {name} is {other:?}"))),
        }
    }

    fn int(&self, name: &str, otherwise: i64) -> Result<i64, Refusal> {
        match self.attributes.get(name) {
            Some(Value::Int(value)) => Ok(*value),
            None => Ok(otherwise),
            Some(other) => Err(self.invalid(format!("attribute {name} is {other:?}"))),
        }
    }

    fn float(&self, name: &str, otherwise: f32) -> Result<f32, Refusal> {
        match self.attributes.get(name) {
            Some(Value::Float(value)) => Ok(*value),
            Some(Value::Int(value)) => Ok(*value as f32),
            None => Ok(otherwise),
            Some(other) => Err(self.invalid(format!("attribute {name} is {other:?}"))),
        }
    }

    fn flag(&self, name: &str, otherwise: bool) -> Result<bool, Refusal> {
        match self.attributes.get(name) {
            Some(Value::Bool(value)) => Ok(*value),
            None => Ok(otherwise),
            Some(other) => Err(self.invalid(format!("attribute {name} is {other:?}"))),
        }
    }

    fn text(&self, name: &str, otherwise: &str) -> Result<String, Refusal> {
        match self.attributes.get(name) {
            Some(Value::Text(value)) => Ok(value.clone()),
            None => Ok(String::from(otherwise)),
            Some(other) => Err(self.invalid(format!("attribute {name} is {other:?}"))),
        }
    }

    /// Refuses an attribute that is not what the emulator computes with.
    fn expect(&self, name: &str, wanted: &Value) -> Result<(), Refusal> {
        match self.attributes.get(name) {
            Some(value) if value != wanted => Err(Refusal::unsupported(format!(
                "attribute {name} is {value:?}, the emulator has {wanted:?} only"
            ))),
            _ => Ok(()),
        }
    }
}

/// Refuses what the kernels of this interface do not compute with: complex numbers, and types of less than a byte.
fn expect_real(call: &Call, tensors: &[&Tensor]) -> Result<(), Refusal> {
    let other = tensors.iter().map(|tensor| tensor.dtype());
    match other
        .into_iter()
        .find(|dtype| dtype.is_complex() || dtype.bits() < 8)
    {
        Some(dtype) => Err(call.unsupported(format!("operands of type {dtype}"))),
        None => Ok(()),
    }
}

/// The same tensor with its last two dims swapped.
fn transposed(tensor: &Tensor) -> Result<Tensor, Refusal> {
    let mut said = tensor.object().describe();
    let rank = said.shape.len();
    if rank < 2 {
        return Err(Refusal::invalid(format!(
            "shape {:?} has no matrix to transpose",
            said.shape
        )));
    }
    said.shape.swap(rank - 1, rank - 2);
    said.strides.swap(rank - 1, rank - 2);
    let object = TensorObject::new(said, tensor.address());
    Tensor::snapshot(&Arc::new(object), "a transposed input")
}

fn some(tensor: Tensor) -> Arg {
    Arg::Tensor(Some(tensor))
}

fn scalar(value: f32) -> Arg {
    let mut bits = [0u8; 16];
    bits[..4].copy_from_slice(&value.to_ne_bytes());
    Arg::Scalar(Some(Scalar::new(DType::F32, bits)))
}

fn whole(value: i64) -> Arg {
    let mut bits = [0u8; 16];
    bits[..8].copy_from_slice(&value.to_ne_bytes());
    Arg::Scalar(Some(Scalar::new(DType::I64, bits)))
}

/// The kernel of an aclnn function with these arguments.
fn function(name: &str, args: Vec<Arg>) -> Result<Recipe, Refusal> {
    let (op, prepare) = executor::emulated(name).ok_or_else(|| {
        Refusal::new(
            code::INTERNAL_ERROR,
            format!("a single operator asks for {name}, which the emulator lacks"),
        )
    })?;
    Ok(Recipe { op, prepare, args })
}
