//! Calls made from conformance cases by chance: other shapes, dtypes, layouts, values and attributes.
//!
//! Knows how to change a case. Must not know any op, nor what a call should answer.

use ascend_tensor::{DType, Device, Result, Shape, SliceOptions, Tensor};
use serde_json::{Map, Value, json};

use crate::calls::Input;
use crate::case::{Case, File};

/// Words that decide everything; past their end every choice is the first, so that a shrunk case is a plain one.
#[derive(Debug)]
pub struct Choices<'a> {
    words: std::slice::Iter<'a, u64>,
    state: u64,
}

impl<'a> Choices<'a> {
    pub fn new(words: &'a [u64]) -> Self {
        Choices {
            words: words.iter(),
            state: 1,
        }
    }

    /// A number below `count`.
    pub fn below(&mut self, count: usize) -> usize {
        let word = self.words.next().copied().unwrap_or(0);
        self.state = self.state.wrapping_mul(31).wrapping_add(word);
        (word % count.max(1) as u64) as usize
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }

    /// A number of the generator that only values come from: they are many, and need no shrinking.
    fn word(&mut self) -> u64 {
        self.state = self
            .state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        self.state >> 16
    }
}

pub const DTYPES: [DType; 10] = [
    DType::F32,
    DType::F64,
    DType::F16,
    DType::BF16,
    DType::I64,
    DType::I32,
    DType::I16,
    DType::I8,
    DType::U8,
    DType::Bool,
];

const SIZES: [usize; 7] = [2, 1, 3, 0, 5, 4, 17];
const FLOATS: [f64; 10] = [
    0.0,
    -1.0,
    0.5,
    2.0,
    1e-30,
    -3.5,
    1e300,
    f64::NAN,
    f64::INFINITY,
    f64::NEG_INFINITY,
];
/// Small numbers, and such that no size or product of sizes can hold. Nothing between: memory is shared with other tests.
const INTS: [i64; 16] = [
    0,
    1,
    2,
    -1,
    3,
    -2,
    5,
    8,
    -7,
    64,
    1 << 42,
    -(1 << 42),
    i64::MAX,
    i64::MIN,
    (1 << 62) + 1,
    i64::MAX - 1,
];
const WORDS: [&str; 16] = [
    "none",
    "mean",
    "sum",
    "tanh",
    "floor",
    "trunc",
    "constant",
    "reflect",
    "replicate",
    "circular",
    "amax",
    "prod",
    "F32",
    "I64",
    "nonsense",
    "",
];

/// A tensor by chance, often a view with gaps.
pub fn tensor(choices: &mut Choices<'_>, dtype: DType, device: Device) -> Result<Tensor> {
    let rank = choices.of(&[2, 1, 3, 0, 4, 5]);
    let shape: Shape = (0..rank).map(|_| choices.of(&SIZES)).collect();
    let x = filled(choices, shape, dtype)?.to_device(device)?;
    laid_out(choices, x)
}

fn filled(choices: &mut Choices<'_>, shape: Shape, dtype: DType) -> Result<Tensor> {
    let scale = choices.of(&[1.0, 3.0, 100.0]);
    let special = choices.below(4) == 3;
    let mut value = || {
        let word = choices.word();
        if special && word.is_multiple_of(7) {
            return FLOATS[(word / 7) as usize % FLOATS.len()];
        }
        let unit = (word % 20_001) as f64 / 10_000.0 - 1.0;
        if dtype.is_float() {
            unit * scale
        } else {
            (unit * scale * 3.0).trunc()
        }
    };
    let values: Vec<f64> = (0..shape.elements()).map(|_| value()).collect();
    Tensor::from_vec(values, shape)?.to_dtype(dtype)
}

/// The same tensor or a view of it.
fn laid_out(choices: &mut Choices<'_>, x: Tensor) -> Result<Tensor> {
    if x.rank() == 0 {
        return Ok(x);
    }
    let dim = choices.below(x.rank());
    let size = x.dims()[dim] as i64;
    match choices.below(6) {
        1 => x.transpose(dim as i64, 0),
        2 => x.slice(dim as i64, SliceOptions::new().step(2)),
        3 if size > 0 => x.narrow(dim as i64, size - 1, 1),
        4 => {
            let mut wide = x.dims().to_vec();
            wide.insert(0, 2);
            x.expand(wide)
        }
        _ => Ok(x),
    }
}

/// The inputs of a case, most of them as they are, some changed.
pub fn inputs(
    choices: &mut Choices<'_>,
    file: &File,
    case: &Case,
    device: Device,
) -> std::result::Result<Vec<Input>, String> {
    let mut one = |entry: &Value| -> std::result::Result<Option<Tensor>, String> {
        let told = |error: ascend_tensor::Error| error.to_string();
        let dtype = choices.of(&DTYPES);
        let given = if entry.is_null() {
            None
        } else {
            Some(file.input(entry, device)?)
        };
        let found = match (choices.below(12), given) {
            (5, Some(x)) => Some(x.to_dtype(dtype).map_err(told)?),
            (6, Some(x)) => Some(laid_out(choices, x).map_err(told)?),
            (7 | 8, Some(x)) => Some(tensor(choices, x.dtype(), device).map_err(told)?),
            (9, _) => Some(tensor(choices, dtype, device).map_err(told)?),
            (10, _) => None,
            (_, given) => given,
        };
        let leaf = choices.below(3) == 1;
        Ok(found.map(|x| {
            if leaf && x.dtype().is_float() {
                x.requires_grad().unwrap_or(x)
            } else {
                x
            }
        }))
    };
    let mut inputs: Vec<Input> = Vec::new();
    for entry in &case.inputs {
        inputs.push(match entry.get("list").and_then(Value::as_array) {
            Some(list) => Input::List(
                list.iter()
                    .map(&mut one)
                    .collect::<std::result::Result<_, _>>()?,
            ),
            None => Input::One(one(entry)?),
        });
    }
    // Now and then one tensor stands for two.
    let first = match inputs.first() {
        Some(Input::One(first)) => first.clone(),
        _ => None,
    };
    if let (11, Some(Input::One(last))) = (choices.below(12), inputs.last_mut()) {
        *last = first;
    }
    Ok(inputs)
}

/// The attributes of a case, most of them as they are, some changed, some taken from another case of the op.
pub fn attributes(choices: &mut Choices<'_>, file: &File, case: &Case) -> Map<String, Value> {
    let mut given = case.attrs.clone();
    if choices.below(3) == 2 {
        let other = choices.below(file.cases.len());
        let others = file.cases.get(other).map(|other| &other.attrs);
        for (key, value) in others.into_iter().flatten() {
            if choices.below(2) == 1 {
                given.insert(key.clone(), value.clone());
            }
        }
    }
    let changed = |(key, value): (&String, &Value)| {
        let value = match choices.below(10) {
            5 => json!(choices.of(&INTS)),
            6 => any(choices),
            7 => match value {
                Value::Array(list) => elements(choices, list),
                Value::Number(number) if number.is_f64() => float(choices),
                Value::String(_) => json!(choices.of(&WORDS)),
                Value::Bool(own) => json!(!own),
                _ => json!(choices.of(&INTS)),
            },
            _ => value.clone(),
        };
        (key.clone(), value)
    };
    given.iter().map(changed).collect()
}

fn float(choices: &mut Choices<'_>) -> Value {
    let value = choices.of(&FLOATS);
    // JSON has no number for these; the cases write them as text.
    if value.is_finite() {
        json!(value)
    } else {
        json!(value.to_string())
    }
}

/// A list with an element changed, dropped or added.
fn elements(choices: &mut Choices<'_>, list: &[Value]) -> Value {
    let mut list = list.to_vec();
    let at = choices.below(list.len());
    let fresh = json!(choices.of(&INTS));
    match choices.below(3) {
        0 if !list.is_empty() => list[at] = fresh,
        1 if !list.is_empty() => {
            list.remove(at);
        }
        _ => list.push(fresh),
    }
    Value::Array(list)
}

fn any(choices: &mut Choices<'_>) -> Value {
    match choices.below(6) {
        0 => Value::Null,
        1 => json!(choices.of(&INTS)),
        2 => float(choices),
        3 => json!(choices.below(2) == 1),
        4 => json!(choices.of(&WORDS)),
        _ => {
            let count = choices.below(5);
            Value::Array((0..count).map(|_| json!(choices.of(&INTS))).collect())
        }
    }
}
