//! Workloads: what a line of the list asks for, and tensors to run it on.
//!
//! Knows the list's format and its random inputs. Must not know ops.

use std::error::Error;

use ascend_tensor::{DType, Result, Tensor};
use serde_json::Value;

/// An op with shapes, dtypes and attributes.
pub struct Workload {
    pub id: String,
    pub group: String,
    pub op: String,
    /// Whether the call is forward and backward.
    pub grad: bool,
    inputs: Vec<Value>,
    attributes: Value,
}

/// Reads the list.
pub fn read(path: &str) -> std::result::Result<Vec<Workload>, Box<dyn Error>> {
    let list: Vec<Value> = serde_json::from_str(&std::fs::read_to_string(path)?)?;
    Ok(parse(&list))
}

/// The workloads of the list's entries.
pub fn parse(list: &[Value]) -> Vec<Workload> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
    let one = |value: &Value| Workload {
        id: text(&value["id"]),
        group: text(&value["group"]),
        op: text(&value["op"]),
        grad: value["grad"].as_bool().unwrap_or(false),
        inputs: value["inputs"].as_array().cloned().unwrap_or_default(),
        attributes: value["attrs"].clone(),
    };
    list.iter().map(one).collect()
}

fn integers(value: &Value) -> Vec<i64> {
    let list = value.as_array().map(Vec::as_slice).unwrap_or_default();
    list.iter().filter_map(Value::as_i64).collect()
}

impl Workload {
    pub fn int(&self, name: &str) -> Option<i64> {
        self.attributes[name].as_i64()
    }

    pub fn size(&self, name: &str) -> usize {
        self.int(name).unwrap_or(0) as usize
    }

    pub fn float(&self, name: &str) -> f64 {
        self.attributes[name].as_f64().unwrap_or(0.0)
    }

    pub fn flag(&self, name: &str) -> bool {
        self.attributes[name].as_bool().unwrap_or(false)
    }

    pub fn ints(&self, name: &str) -> Vec<i64> {
        integers(&self.attributes[name])
    }

    pub fn text(&self, name: &str) -> &str {
        self.attributes[name].as_str().unwrap_or_default()
    }

    pub fn shape(&self, input: usize) -> Vec<usize> {
        integers(&self.inputs[input]["shape"])
            .iter()
            .map(|size| *size as usize)
            .collect()
    }

    /// One more than the largest index of an input of indices.
    pub fn high(&self, input: usize) -> u64 {
        self.inputs[input]["high"].as_u64().unwrap_or(1)
    }

    /// The inputs, as transposed views where the list asks for it, as leaves if the call goes backward.
    pub fn tensors(&self) -> Result<Vec<Tensor>> {
        let transposed = self.ints("transpose");
        let one = |input: usize| {
            let mut x = self.tensor(input)?;
            if transposed.contains(&(input as i64)) {
                x = x.transpose(-1, -2)?;
            }
            if self.grad { x.requires_grad() } else { Ok(x) }
        };
        (0..self.inputs.len()).map(one).collect()
    }

    /// Floats uniform in [-1, 1], indices uniform in [0, high), fair bools.
    fn tensor(&self, input: usize) -> Result<Tensor> {
        let shape = self.shape(input);
        let count = shape.iter().product();
        let mut random = SplitMix(0x9E37_79B9 + input as u64);
        match self.inputs[input]["dtype"].as_str() {
            Some("i64") => {
                let high = self.high(input);
                let values: Vec<i64> = (0..count).map(|_| (random.next() % high) as i64).collect();
                Tensor::from_vec(values, shape)
            }
            Some("bool") => {
                let values: Vec<bool> = (0..count).map(|_| random.next() & 1 == 1).collect();
                Tensor::from_vec(values, shape)
            }
            dtype => {
                let values: Vec<f32> = (0..count).map(|_| random.unit() * 2.0 - 1.0).collect();
                // A copy lies in the library's own memory, as the result of any op does.
                let own = Tensor::from_vec(values, shape)?.copy()?;
                own.to_dtype(dtype_of(dtype.unwrap_or_default()))
            }
        }
    }
}

/// The dtype of a name of the list.
pub fn dtype_of(name: &str) -> DType {
    match name {
        "bf16" => DType::BF16,
        "f16" => DType::F16,
        _ => DType::F32,
    }
}

/// The SplitMix64 generator, less its lowest bit.
pub struct SplitMix(pub u64);

impl SplitMix {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) >> 1
    }

    /// Uniform in [0, 1).
    pub fn unit(&mut self) -> f32 {
        (self.next() >> 39) as f32 / (1u64 << 24) as f32
    }
}
