//! Folders in Hugging Face's layout: `config.json` and `model.safetensors`, in one file or in shards with an index.
//!
//! Knows the files' names. Must not know how tensors are named.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::{Value, json};

use super::layout::{OP, Source, published};
use super::{Config, DeepSeek};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::io;
use crate::nn::{Module, Place, StateDict};
use crate::tensor::Tensor;

const WHOLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// How [`DeepSeek::save_pretrained`] writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct SaveOptions {
    shard: usize,
}

impl Default for SaveOptions {
    fn default() -> Self {
        SaveOptions { shard: usize::MAX }
    }
}

impl SaveOptions {
    /// All in one file.
    pub fn new() -> Self {
        SaveOptions::default()
    }

    /// Files of at most so many bytes (a larger tensor has a file of its own), with an index.
    pub fn shard_bytes(mut self, bytes: usize) -> Self {
        self.shard = bytes;
        self
    }
}

impl From<()> for SaveOptions {
    fn from((): ()) -> Self {
        SaveOptions::new()
    }
}

impl DeepSeek {
    /// Reads a folder with `config.json` and the weights, in one file or in shards. Weights are cast to the place's dtype;
    /// FP8 weights are multiplied with their scales. Layers that predict further tokens are there if their weights are.
    ///
    /// # Errors
    /// As [`Config::load`]; `Io` and `Format` of the files; [`Error::Entry`] that names a tensor that is missing, of another
    /// shape, not a number, or that the model does not have.
    pub fn load_pretrained(folder: impl AsRef<Path>, place: &Place) -> Result<DeepSeek> {
        let folder = folder.as_ref();
        let mut config = Config::load(folder.join("config.json"))?;
        let tensors = load_tensors(folder)?;
        config.num_nextn_predict_layers = (0..config.num_nextn_predict_layers)
            .take_while(|index| {
                let name = format!(
                    "model.layers.{}.eh_proj.weight",
                    config.num_hidden_layers + index
                );
                tensors.contains_key(&name)
            })
            .count();
        let mut blank = config.clone();
        blank.initializer_range = 0.0;
        let model = DeepSeek::new(&blank, place)?.described(config.clone());
        let mut source = Source {
            config: &config,
            tensors,
        };
        for (name, parameter) in model.state() {
            let own = parameter.tensor();
            let value = source.entry(&name, &own)?;
            let value = value.to_dtype(own.dtype())?;
            check_finite(&name, &value)?;
            parameter.set(&value.to_device(place.device())?.contiguous()?)?;
        }
        source.finish()?;
        Ok(model)
    }

    /// Writes `config.json` and the weights in the layout that [`DeepSeek::load_pretrained`] and `transformers` read. The
    /// folder is made if it is not there.
    ///
    /// # Errors
    /// `Io`, and device errors.
    pub fn save_pretrained(
        &self,
        folder: impl AsRef<Path>,
        options: impl Into<SaveOptions>,
    ) -> Result<()> {
        let (folder, op, options) = (folder.as_ref(), "save_pretrained", options.into());
        std::fs::create_dir_all(folder).map_err(|error| Error::io(op, folder, error))?;
        let mut state = StateDict::new();
        for (name, value) in self.state_dict() {
            state.insert(name, value.to_device(Device::Cpu)?);
        }
        let state = published(&state)?;
        let shards = cut(&state, options.shard);
        if let [all] = shards.as_slice() {
            save(&folder.join(WHOLE), all)?;
        } else {
            let (count, mut places) = (shards.len(), serde_json::Map::new());
            for (index, shard) in shards.iter().enumerate() {
                let file = format!("model-{:05}-of-{count:05}.safetensors", index + 1);
                save(&folder.join(&file), shard)?;
                for (name, _) in shard {
                    places.insert(name.to_string(), Value::String(file.clone()));
                }
            }
            let total: usize = state.values().map(bytes).sum();
            let index = json!({"metadata": {"total_size": total}, "weight_map": places});
            io::write_atomically(op, &folder.join(INDEX), format!("{index:#}\n").as_bytes())?;
        }
        let text = self.config().to_json();
        io::write_atomically(op, &folder.join("config.json"), text.as_bytes())
    }
}

type Shard<'a> = Vec<(&'a str, &'a Tensor)>;

fn bytes(tensor: &Tensor) -> usize {
    tensor.elements() * tensor.dtype().size()
}

/// The tensors in order, in parts of at most so many bytes.
fn cut(state: &StateDict, most: usize) -> Vec<Shard<'_>> {
    let mut shards: Vec<Shard<'_>> = vec![Vec::new()];
    let mut size = 0usize;
    for (name, tensor) in state {
        if size > 0 && size.saturating_add(bytes(tensor)) > most {
            shards.push(Vec::new());
            size = 0;
        }
        size += bytes(tensor);
        if let Some(last) = shards.last_mut() {
            last.push((name, tensor));
        }
    }
    shards
}

fn save(path: &Path, shard: &Shard<'_>) -> Result<()> {
    io::save_safetensors(path, shard.iter().copied())
}

/// All tensors of a folder: those of the one file, or of the shards that the index names.
fn load_tensors(folder: &Path) -> Result<BTreeMap<String, Tensor>> {
    let index = folder.join(INDEX);
    if folder.join(WHOLE).exists() || !index.exists() {
        return io::load_safetensors(folder.join(WHOLE));
    }
    let damaged = |what: String| Error::format(OP, format!("{}: {what}", index.display()));
    let text = std::fs::read_to_string(&index).map_err(|error| Error::io(OP, &index, error))?;
    let parsed: Value = serde_json::from_str(&text).map_err(|error| damaged(error.to_string()))?;
    let places = parsed.get("weight_map").and_then(Value::as_object);
    let places = places.ok_or_else(|| damaged("got no object weight_map, wanted one".into()))?;
    let mut files = BTreeSet::new();
    for (name, file) in places {
        let file = file.as_str().filter(|file| !file.contains(['/', '\\']));
        let wrong = || damaged(format!("{name}: got no name of a file in the folder"));
        files.insert(file.ok_or_else(wrong)?);
    }
    let mut tensors = BTreeMap::new();
    for file in files {
        tensors.extend(io::load_safetensors(folder.join(file))?);
    }
    match places.keys().find(|name| !tensors.contains_key(*name)) {
        Some(name) => Err(Error::entry(
            OP,
            name,
            "no shard has it, though the index says so",
        )),
        None => Ok(tensors),
    }
}

/// Refuses weights that are no numbers: every loss after them would be none.
fn check_finite(name: &str, value: &Tensor) -> Result<()> {
    if !value.dtype().is_float() || value.isfinite()?.all(())?.item::<bool>()? {
        return Ok(());
    }
    Err(Error::entry(
        OP,
        name,
        "got an element that is NaN or infinite, wanted finite numbers",
    ))
}
