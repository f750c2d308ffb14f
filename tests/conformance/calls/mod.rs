//! The table from op names of the contract to the crate's public methods, and access to a case's inputs and attributes.
//!
//! Knows attribute names. Must not know values.

mod activation;
mod attention;
mod conv;
mod creation;
mod elementwise;
mod index;
mod linear;
mod loss;
mod moe;
mod norm;
mod pool;
mod quant;
mod recurrent;
mod reduce;
mod sort;
mod update;
mod view;

use ascend_tensor::{DType, Device, Error, Operand, Result, Scalar, Shape, Tensor};
use serde_json::{Map, Value};

/// Runs one op of the contract through the public API.
pub type Call = fn(&Args) -> Result<Vec<Tensor>>;

const FAMILIES: &[&[(&str, Call)]] = &[
    activation::CALLS,
    attention::CALLS,
    conv::CALLS,
    creation::CALLS,
    elementwise::CALLS,
    index::CALLS,
    linear::CALLS,
    loss::CALLS,
    moe::CALLS,
    norm::CALLS,
    quant::CALLS,
    recurrent::CALLS,
    pool::CALLS,
    reduce::CALLS,
    sort::CALLS,
    update::CALLS,
    view::CALLS,
];

/// The call of an op, if the op exists.
pub fn find(op: &str) -> Option<Call> {
    FAMILIES
        .iter()
        .flat_map(|family| family.iter())
        .find(|(name, _)| *name == op)
        .map(|(_, call)| *call)
}

/// One input slot.
pub enum Input {
    One(Option<Tensor>),
    List(Vec<Option<Tensor>>),
}

impl Input {
    /// The tensors, lists flattened.
    pub fn tensors(&self) -> impl Iterator<Item = Option<&Tensor>> {
        match self {
            Input::One(tensor) => std::slice::from_ref(tensor).iter().map(Option::as_ref),
            Input::List(list) => list.iter().map(Option::as_ref),
        }
    }
}

/// A case's inputs and attributes.
pub struct Args<'a> {
    inputs: &'a [Input],
    attrs: &'a Map<String, Value>,
    pub device: Device,
}

/// What the typed API cannot even be given (an unknown mode string, a negative size): a value error.
pub fn bad(name: &'static str, why: impl std::fmt::Display) -> Error {
    Error::Option {
        op: "conformance",
        name,
        why: why.to_string().into(),
    }
}

#[allow(dead_code, reason = "each family uses some of them")]
impl<'a> Args<'a> {
    pub fn new(inputs: &'a [Input], attrs: &'a Map<String, Value>, device: Device) -> Self {
        Args {
            inputs,
            attrs,
            device,
        }
    }

    /// A tensor slot that is given.
    pub fn tensor(&self, slot: usize) -> Result<&'a Tensor> {
        self.optional(slot)
            .ok_or_else(|| bad("inputs", format!("slot {slot} is missing")))
    }

    /// A tensor slot that may be missing.
    pub fn optional(&self, slot: usize) -> Option<&'a Tensor> {
        match self.inputs.get(slot) {
            Some(Input::One(tensor)) => tensor.as_ref(),
            _ => None,
        }
    }

    /// A list slot.
    pub fn list(&self, slot: usize) -> Vec<&'a Tensor> {
        self.optional_list(slot).into_iter().flatten().collect()
    }

    /// A list slot whose entries may be null.
    pub fn optional_list(&self, slot: usize) -> Vec<Option<&'a Tensor>> {
        match self.inputs.get(slot) {
            Some(Input::List(list)) => list.iter().map(Option::as_ref).collect(),
            _ => Vec::new(),
        }
    }

    /// A tensor slot, or where it is null the scalar attribute that stands for it.
    pub fn operand(&self, slot: usize, attr: &'static str) -> Result<Operand<'a>> {
        match self.optional(slot) {
            Some(tensor) => Ok(Operand::Tensor(tensor)),
            None => self
                .scalar(attr)
                .map(Operand::Scalar)
                .ok_or_else(|| bad(attr, "neither tensor nor scalar")),
        }
    }

    fn attr(&self, name: &str) -> Option<&'a Value> {
        self.attrs.get(name).filter(|value| !value.is_null())
    }

    /// An attribute as it stands in the file.
    pub fn raw(&self, name: &str) -> Option<&'a Value> {
        self.attr(name)
    }

    /// Whether the attribute is given (null counts as not given).
    pub fn has(&self, name: &str) -> bool {
        self.attr(name).is_some()
    }

    /// A scalar attribute with its kind.
    pub fn scalar(&self, name: &str) -> Option<Scalar> {
        scalar(self.attr(name)?)
    }

    pub fn int(&self, name: &str) -> Option<i64> {
        self.attr(name)?.as_i64()
    }

    /// An integer attribute that is required.
    pub fn need_int(&self, name: &'static str) -> Result<i64> {
        self.int(name)
            .ok_or_else(|| bad(name, "an integer is required"))
    }

    /// An integer that must not be negative.
    pub fn size(&self, name: &'static str) -> Result<Option<usize>> {
        self.int(name)
            .map(|value| usize::try_from(value).map_err(|_| bad(name, "negative")))
            .transpose()
    }

    /// A list of integers, or one integer as a list of one.
    pub fn ints(&self, name: &str) -> Option<Vec<i64>> {
        match self.attr(name)? {
            Value::Array(list) => Some(list.iter().filter_map(Value::as_i64).collect()),
            value => value.as_i64().map(|value| vec![value]),
        }
    }

    /// Sizes that must not be negative.
    pub fn shape(&self, name: &'static str) -> Result<Shape> {
        let sizes = self
            .ints(name)
            .ok_or_else(|| bad(name, "sizes are required"))?;
        let sizes: Option<Vec<usize>> = sizes
            .iter()
            .map(|size| usize::try_from(*size).ok())
            .collect();
        sizes.map(Shape::from).ok_or_else(|| bad(name, "negative"))
    }

    pub fn float(&self, name: &str) -> Option<f64> {
        self.scalar(name).map(Scalar::to_f64)
    }

    pub fn floats(&self, name: &str) -> Option<Vec<f64>> {
        self.attr(name)?
            .as_array()
            .map(|list| list.iter().filter_map(scalar).map(Scalar::to_f64).collect())
    }

    pub fn bool(&self, name: &str) -> bool {
        self.attr(name).and_then(Value::as_bool).unwrap_or(false)
    }

    pub fn bool_or(&self, name: &str, default: bool) -> bool {
        self.attr(name).and_then(Value::as_bool).unwrap_or(default)
    }

    pub fn text(&self, name: &str) -> Option<&'a str> {
        self.attr(name)?.as_str()
    }

    pub fn dtype(&self, name: &'static str) -> Result<Option<DType>> {
        self.text(name).map(str::parse).transpose()
    }
}

fn scalar(value: &Value) -> Option<Scalar> {
    match value {
        Value::Bool(value) => Some(Scalar::Bool(*value)),
        Value::Number(number) if number.is_i64() => number.as_i64().map(Scalar::Int),
        Value::Number(number) => number.as_f64().map(Scalar::Float),
        Value::String(text) => text.parse().ok().map(Scalar::Float),
        _ => None,
    }
}

/// One output as a list.
pub fn one(output: Result<Tensor>) -> Result<Vec<Tensor>> {
    output.map(|tensor| vec![tensor])
}
