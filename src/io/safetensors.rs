//! Safetensors files.
//!
//! Knows the names and dtypes of the format. Must not know models.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::Path;

use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use super::float8::e4m3;
use super::mmap::Mapping;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::shape::{MAX_RANK, Shape};
use crate::tensor::Tensor;

/// The dtypes of the format beside ours; one row each.
const DTYPES: [(DType, Dtype); 10] = [
    (DType::F64, Dtype::F64),
    (DType::F32, Dtype::F32),
    (DType::F16, Dtype::F16),
    (DType::BF16, Dtype::BF16),
    (DType::I64, Dtype::I64),
    (DType::I32, Dtype::I32),
    (DType::I16, Dtype::I16),
    (DType::I8, Dtype::I8),
    (DType::U8, Dtype::U8),
    (DType::Bool, Dtype::BOOL),
];

/// Loads all tensors of a file by name, on the host. The file is mapped, so data is read when it is first used; do not
/// shorten the file while tensors of it live. Eight-bit floats (`F8_E4M3`) become `f32` with the same values.
///
/// # Errors
/// `Io` if the file cannot be opened, `Format` if it is damaged or holds a dtype or rank that tensors do not have.
pub fn load_safetensors(path: impl AsRef<Path>) -> Result<BTreeMap<String, Tensor>> {
    load(path.as_ref())
}

fn load(path: &Path) -> Result<BTreeMap<String, Tensor>> {
    let op = "load_safetensors";
    let mapping = Mapping::open(op, path)?;
    let damaged =
        |what: &dyn std::fmt::Display| Error::format(op, format!("{}: {what}", path.display()));
    let file = SafeTensors::deserialize(mapping.bytes()).map_err(|error| damaged(&error))?;
    let (mut found, mut wide) = (Vec::new(), BTreeMap::new());
    for (name, view) in file.iter() {
        if view.dtype() == Dtype::F8_E4M3 && view.shape().len() <= MAX_RANK {
            let values: Vec<f32> = view.data().iter().map(|byte| e4m3(*byte)).collect();
            wide.insert(name.to_string(), Tensor::from_vec(values, view.shape())?);
            continue;
        }
        let dtype = DTYPES
            .iter()
            .find(|(_, theirs)| *theirs == view.dtype())
            .map(|(own, _)| *own);
        let dtype = dtype.ok_or_else(|| {
            damaged(&format_args!(
                "tensor {name:?} has dtype {:?}, which has no counterpart here",
                view.dtype()
            ))
        })?;
        if view.shape().len() > MAX_RANK {
            return Err(damaged(&format_args!(
                "tensor {name:?} has {} dims, wanted at most {MAX_RANK}",
                view.shape().len()
            )));
        }
        let start = view.data().as_ptr() as usize - mapping.bytes().as_ptr() as usize;
        found.push((
            name.to_string(),
            dtype,
            Shape::from(view.shape()),
            start,
            view.data().len(),
        ));
    }
    let mut tensors = wide;
    for (name, dtype, shape, start, len) in found {
        let block = match mapping.block(start, len, dtype.size()) {
            Some(block) => block,
            None => mapping.copy(op, start, len)?,
        };
        tensors.insert(name, Tensor::from_block(op, block, shape, dtype)?);
    }
    Ok(tensors)
}

/// Saves tensors by name. The file is written beside the path, synced and renamed, so that a crash leaves the old file or
/// the whole new one.
///
/// # Errors
/// `Io` if the file cannot be written, device errors of reading the tensors.
pub fn save_safetensors<'a>(
    path: impl AsRef<Path>,
    tensors: impl IntoIterator<Item = (&'a str, &'a Tensor)>,
) -> Result<()> {
    let tensors: Vec<(&str, &Tensor)> = tensors.into_iter().collect();
    save(path.as_ref(), &tensors)
}

fn save(path: &Path, tensors: &[(&str, &Tensor)]) -> Result<()> {
    let op = "save_safetensors";
    let bytes: Vec<Vec<u8>> = tensors
        .iter()
        .map(|(_, tensor)| tensor.to_bytes(op))
        .collect::<Result<_>>()?;
    let mut views = Vec::with_capacity(tensors.len());
    for ((name, tensor), bytes) in tensors.iter().zip(&bytes) {
        let dtype = DTYPES
            .iter()
            .find(|(own, _)| *own == tensor.dtype())
            .map_or(Dtype::F32, |(_, theirs)| *theirs);
        let view = TensorView::new(dtype, tensor.dims().to_vec(), bytes)
            .map_err(|error| Error::format(op, error))?;
        views.push((name.to_string(), view));
    }
    let data = safetensors::serialize(views, None).map_err(|error| Error::format(op, error))?;
    write_atomically(op, path, &data)
}

/// Writes a file such that at every moment the path names either the old content or the new.
pub(crate) fn write_atomically(op: &'static str, path: &Path, data: &[u8]) -> Result<()> {
    let fail = |error| Error::io(op, path, error);
    let name = path
        .file_name()
        .ok_or_else(|| fail(std::io::Error::from(std::io::ErrorKind::InvalidInput)))?;
    let mut fresh = name.to_os_string();
    fresh.push(format!(".{}.part", std::process::id()));
    let fresh = path.with_file_name(fresh);
    let written = || -> std::io::Result<()> {
        let mut file = File::create(&fresh)?;
        file.write_all(data)?;
        file.sync_all()?;
        std::fs::rename(&fresh, path)?;
        match path
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty())
        {
            Some(parent) => File::open(parent)?.sync_all(),
            None => File::open(".")?.sync_all(),
        }
    };
    written().map_err(|error| {
        let _ = std::fs::remove_file(&fresh);
        fail(error)
    })
}
