//! Case files: what `<op>.json` and `<op>.safetensors` say.
//!
//! Knows the file format only.

use std::path::{Path, PathBuf};

use ascend_tensor::{DType, Device, Shape, Tensor};
use safetensors::SafeTensors;
use serde_json::{Map, Value};

/// One op's cases with their tensors.
pub struct File {
    pub op: String,
    pub cases: Vec<Case>,
    bytes: Vec<u8>,
}

/// One case.
pub struct Case {
    pub name: String,
    pub inputs: Vec<Value>,
    pub attrs: Map<String, Value>,
    pub outputs: Vec<String>,
    pub grad_outputs: Vec<Option<String>>,
    pub grad_inputs: Vec<Option<String>>,
    pub rtol: f64,
    pub atol: f64,
    pub error: Option<String>,
}

/// The case files of a folder, in order.
pub fn files(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "json")
        })
        .collect();
    files.sort();
    Ok(files)
}

fn keys(value: Option<&Value>) -> Vec<Option<String>> {
    let list = value.and_then(Value::as_array).cloned().unwrap_or_default();
    list.iter()
        .map(|key| key.as_str().map(str::to_string))
        .collect()
}

impl File {
    pub fn read(path: &Path) -> Result<File, String> {
        let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
        let json: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
        let tensors = path.with_extension("safetensors");
        let bytes = if tensors.exists() {
            std::fs::read(tensors).map_err(|error| error.to_string())?
        } else {
            Vec::new()
        };
        let op = json["op"].as_str().ok_or("no op name")?.to_string();
        let cases = json["cases"]
            .as_array()
            .ok_or("no cases")?
            .iter()
            .map(Case::read)
            .collect::<Result<_, _>>()?;
        Ok(File { op, cases, bytes })
    }

    /// A tensor of the file, on the host.
    pub fn tensor(&self, key: &str) -> Result<Tensor, String> {
        let file = SafeTensors::deserialize(&self.bytes).map_err(|error| error.to_string())?;
        let view = file
            .tensor(key)
            .map_err(|error| format!("{key}: {error}"))?;
        let dtype: DType = format!("{:?}", view.dtype())
            .parse()
            .map_err(|error| format!("{key}: {error}"))?;
        from_bytes(view.data(), Shape::from(view.shape()), dtype)
            .map_err(|error| format!("{key}: {error}"))
    }

    /// A tensor of the file on a device with the view steps of an input entry, taken there as views without a copy.
    pub fn input(&self, entry: &Value, device: Device) -> Result<Tensor, String> {
        let stored = self.tensor(entry["t"].as_str().ok_or("an input without a key")?)?;
        let mut tensor = stored
            .to_device(device)
            .map_err(|error| error.to_string())?;
        let base = tensor.clone();
        for step in entry["view"].as_array().into_iter().flatten() {
            tensor = view(&tensor, step).map_err(|error| error.to_string())?;
        }
        if !tensor.shares_storage(&base) {
            return Err("a view was taken with a copy".to_string());
        }
        Ok(tensor)
    }
}

fn from_bytes(bytes: &[u8], shape: Shape, dtype: DType) -> ascend_tensor::Result<Tensor> {
    macro_rules! read {
        ($type:ty) => {
            bytes
                .chunks_exact(size_of::<$type>())
                .map(|chunk| <$type>::from_le_bytes(chunk.try_into().unwrap_or_default()))
                .collect::<Vec<_>>()
        };
    }
    match dtype {
        DType::F64 => Tensor::from_vec(read!(f64), shape),
        DType::F32 => Tensor::from_vec(read!(f32), shape),
        DType::F16 => Tensor::from_vec(read!(half::f16), shape),
        DType::BF16 => Tensor::from_vec(read!(half::bf16), shape),
        DType::I64 => Tensor::from_vec(read!(i64), shape),
        DType::I32 => Tensor::from_vec(read!(i32), shape),
        DType::I16 => Tensor::from_vec(read!(i16), shape),
        DType::I8 => Tensor::from_vec(read!(i8), shape),
        DType::U8 => Tensor::from_vec(bytes.to_vec(), shape),
        DType::Bool => Tensor::from_vec(
            bytes.iter().map(|byte| *byte != 0).collect::<Vec<bool>>(),
            shape,
        ),
    }
}

/// A view step, by the crate's own view ops.
fn view(x: &Tensor, step: &Value) -> ascend_tensor::Result<Tensor> {
    let number = |index: usize| step[index].as_i64().unwrap_or(0);
    let list = || -> Vec<i64> {
        step[1]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_i64)
            .collect()
    };
    match step[0].as_str() {
        Some("permute") => x.permute(list()),
        Some("narrow") => x.narrow(number(1), number(2), number(3)),
        Some("step") => x.slice(
            number(1),
            ascend_tensor::ops::view::SliceOptions::new().step(number(2)),
        ),
        _ => x.expand(Shape::from(
            list().iter().map(|size| *size as usize).collect::<Vec<_>>(),
        )),
    }
}

impl Case {
    fn read(json: &Value) -> Result<Case, String> {
        let name = json["name"]
            .as_str()
            .ok_or("a case without a name")?
            .to_string();
        Ok(Case {
            name,
            inputs: json["inputs"].as_array().cloned().unwrap_or_default(),
            attrs: json["attrs"].as_object().cloned().unwrap_or_default(),
            outputs: keys(json.get("outputs")).into_iter().flatten().collect(),
            grad_outputs: keys(json["grad"].get("grad_outputs")),
            grad_inputs: keys(json["grad"].get("grad_inputs")),
            rtol: json["rtol"].as_f64().unwrap_or(0.0),
            atol: json["atol"].as_f64().unwrap_or(0.0),
            error: json["error"].as_str().map(str::to_string),
        })
    }
}
