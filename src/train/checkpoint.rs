//! Checkpoints: snapshots in files, such that a crash at any moment leaves a good one.
//!
//! Knows folders, files and their checksums. Must not know how a snapshot is made.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use serde_json::{Map, Value, json};

use super::{Position, ScalerState, Snapshot};
use crate::error::{Error, Result};
use crate::io::{self, write_atomically};
use crate::nn::StateDict;
use crate::ops::random::default_generator;

const OP: &str = "checkpoint";
const FORMAT: &str = "ascend-tensor checkpoint";
const MODEL: &str = "model.safetensors";
const OPTIMIZER: &str = "optimizer.safetensors";
const STATE: &str = "state.json";

/// A folder of checkpoints, one folder each: `step-0000000050` with `model.safetensors`, `optimizer.safetensors` and
/// `state.json` (which has the files' sizes and checksums).
///
/// A checkpoint is written to a hidden folder, synced, and renamed at the end: one that has its name is whole.
///
/// ```
/// use ascend_tensor::nn::{Linear, Module, Place};
/// use ascend_tensor::optim::{Adam, AdamOptions};
/// use ascend_tensor::train::{Checkpoints, Snapshot};
/// # fn main() -> ascend_tensor::Result<()> {
/// let (model, folder) = (Linear::new([2, 2], (), &Place::default())?, std::env::temp_dir().join("ascend-tensor-doc"));
/// let mut adamw = Adam::w(model.parameters(), AdamOptions::new());
/// let checkpoints = Checkpoints::new(&folder)?.keep(1);
/// checkpoints.save(&Snapshot::take(50, &model, &adamw)?)?;
/// let latest = checkpoints.latest()?;
/// assert_eq!(latest.as_ref().map(|own| own.step), Some(50));
/// if let Some(snapshot) = latest {
///     snapshot.restore(&model, &mut adamw)?;
/// }
/// # std::fs::remove_dir_all(folder).map_err(|_| ascend_tensor::Error::NoGradient { op: "doc" })?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Checkpoints {
    folder: PathBuf,
    keep: usize,
}

impl Checkpoints {
    /// A folder, which is made if it is not there, with the newest two checkpoints kept.
    ///
    /// # Errors
    /// `Io` if it cannot be made.
    pub fn new(folder: impl AsRef<Path>) -> Result<Self> {
        let folder = folder.as_ref().to_path_buf();
        fs::create_dir_all(&folder).map_err(|error| Error::io(OP, &folder, error))?;
        Ok(Checkpoints { folder, keep: 2 })
    }

    /// How many checkpoints are kept, at least one.
    #[must_use]
    pub fn keep(mut self, count: usize) -> Self {
        self.keep = count.max(1);
        self
    }

    /// The checkpoints there are, oldest first.
    ///
    /// # Errors
    /// `Io` if the folder cannot be read.
    pub fn list(&self) -> Result<Vec<PathBuf>> {
        let fail = |error| Error::io(OP, &self.folder, error);
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.folder).map_err(fail)? {
            let path = entry.map_err(fail)?.path();
            if let Some(key) = key(&path) {
                found.push((key, path));
            }
        }
        found.sort();
        Ok(found.into_iter().map(|(_, path)| path).collect())
    }

    /// Writes a snapshot; the answer is its folder. Older checkpoints beyond those to keep are removed afterwards.
    ///
    /// # Errors
    /// `Io` if it cannot be written; then the checkpoints are as before.
    pub fn save(&self, snapshot: &Snapshot) -> Result<PathBuf> {
        let fail = |path: &Path| {
            let path = path.to_path_buf();
            move |error| Error::io(OP, path, error)
        };
        let part = self
            .folder
            .join(format!(".{}.{}.part", snapshot.step, std::process::id()));
        let _ = fs::remove_dir_all(&part);
        fs::create_dir(&part).map_err(fail(&part))?;
        let written = write(&part, snapshot).and_then(|()| {
            let path = self.free(snapshot.step);
            fs::rename(&part, &path).map_err(fail(&path))?;
            let folder = fs::File::open(&self.folder).map_err(fail(&self.folder))?;
            folder.sync_all().map_err(fail(&self.folder))?;
            Ok(path)
        });
        if written.is_err() {
            let _ = fs::remove_dir_all(&part);
        } else {
            self.prune();
        }
        written
    }

    /// A name that no checkpoint has: a step that is saved again does not replace the one before it.
    fn free(&self, step: u64) -> PathBuf {
        let usual = self.folder.join(format!("step-{step:010}"));
        let again = |number: u32| self.folder.join(format!("step-{step:010}.{number}"));
        let taken = |path: &PathBuf| path.exists();
        if taken(&usual) {
            (1..).map(again).find(|path| !taken(path)).unwrap_or(usual)
        } else {
            usual
        }
    }

    /// Removes what is not to be kept: first out of sight, so that half a checkpoint never has a checkpoint's name. Then what
    /// writers left behind that are no more.
    fn prune(&self) {
        let all = self.list().unwrap_or_default();
        for old in &all[..all.len().saturating_sub(self.keep)] {
            let name = old.file_name().unwrap_or_default().to_string_lossy();
            let hidden = self
                .folder
                .join(format!(".{name}.{}.old", std::process::id()));
            if fs::rename(old, &hidden).is_ok() {
                let _ = fs::remove_dir_all(&hidden);
            }
        }
        let entries = fs::read_dir(&self.folder).into_iter().flatten();
        for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
            if writer(&path).is_some_and(|process| !is_running(process)) {
                let _ = fs::remove_dir_all(&path);
            }
        }
    }

    /// The newest checkpoint; `None` if there is none.
    ///
    /// # Errors
    /// As [`Checkpoints::load`].
    pub fn latest(&self) -> Result<Option<Snapshot>> {
        let newest = self.list()?.pop();
        newest.map(Checkpoints::load).transpose()
    }

    /// Reads a checkpoint's folder.
    ///
    /// # Errors
    /// `Io` for a missing file; `Format`, which names the file, for one that is damaged, of another size, or no checkpoint's.
    pub fn load(folder: impl AsRef<Path>) -> Result<Snapshot> {
        read(folder.as_ref())
    }
}

/// The step and repetition in a checkpoint's name.
fn key(path: &Path) -> Option<(u64, u32)> {
    let name = path.file_name()?.to_str()?.strip_prefix("step-")?;
    let (step, again) = name.split_once('.').unwrap_or((name, "0"));
    Some((step.parse().ok()?, again.parse().ok()?))
}

/// The process that writes or removes a hidden folder of this name: `.<step>.<process>.part` or `.old`.
fn writer(path: &Path) -> Option<u32> {
    let name = path.file_name()?.to_str()?.strip_prefix('.')?;
    let name = name.strip_suffix(".part").or(name.strip_suffix(".old"))?;
    name.rsplit('.').next()?.parse().ok()
}

/// Whether a process is there, as far as the system tells.
fn is_running(process: u32) -> bool {
    let all = Path::new("/proc");
    !all.join("self").exists() || all.join(process.to_string()).exists()
}

/// FNV-1a, 64 bits: finds damage, not forgery.
fn checksum(bytes: &[u8]) -> String {
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{hash:016x}")
}

fn write(folder: &Path, snapshot: &Snapshot) -> Result<()> {
    let mut files = Map::new();
    for (name, state) in [(MODEL, &snapshot.model), (OPTIMIZER, &snapshot.optimizer)] {
        let path = folder.join(name);
        io::save_safetensors(&path, state.iter().map(|(name, own)| (name.as_str(), own)))?;
        let bytes = fs::read(&path).map_err(|error| Error::io(OP, &path, error))?;
        let about = json!({"bytes": bytes.len(), "fnv1a64": checksum(&bytes)});
        files.insert(name.to_string(), about);
    }
    let state = json!({
        "format": FORMAT,
        "version": 1,
        "step": snapshot.step,
        "generator": {"seed": snapshot.generator.seed, "offset": snapshot.generator.offset},
        "scaler": snapshot.scaler.map(|own| json!({"scale": own.scale, "steady": own.steady})),
        "data": snapshot.data.map(|own| json!({"epoch": own.epoch, "batch": own.batch})),
        "notes": snapshot.notes,
        "files": files,
    });
    write_atomically(OP, &folder.join(STATE), format!("{state:#}\n").as_bytes())
}

fn read(folder: &Path) -> Result<Snapshot> {
    let path = folder.join(STATE);
    let damaged = |what: &str| Error::format(OP, format!("{}: {what}", path.display()));
    let text = fs::read_to_string(&path).map_err(|error| Error::io(OP, &path, error))?;
    let state: Value =
        serde_json::from_str(&text).map_err(|error| damaged(&format!("no JSON: {error}")))?;
    if state["format"] != FORMAT {
        return Err(damaged("this is no checkpoint's state"));
    }
    if state["version"] != 1 {
        return Err(damaged(&format!(
            "got version {}, wanted 1",
            state["version"]
        )));
    }
    let number = |value: &Value, name: &str| {
        let number = value[name].as_u64();
        number.ok_or_else(|| damaged(&format!("{name}: got {}, wanted a number", value[name])))
    };
    let mut generator = default_generator().state();
    generator.seed = number(&state["generator"], "seed")?;
    generator.offset = number(&state["generator"], "offset")?;
    let scaler = match &state["scaler"] {
        Value::Null => None,
        own => Some(ScalerState {
            scale: own["scale"]
                .as_f64()
                .ok_or_else(|| damaged("scale: wanted a number"))?,
            steady: number(own, "steady")?,
        }),
    };
    let data = match &state["data"] {
        Value::Null => None,
        own => Some(Position {
            epoch: number(own, "epoch")?,
            batch: number(own, "batch")?,
        }),
    };
    Ok(Snapshot {
        step: number(&state, "step")?,
        model: tensors(folder, MODEL, &state["files"])?,
        optimizer: tensors(folder, OPTIMIZER, &state["files"])?,
        scaler,
        generator,
        data,
        notes: state["notes"].as_object().cloned().unwrap_or_default(),
    })
}

/// The tensors of one file, once its size and checksum are right.
fn tensors(folder: &Path, name: &str, files: &Value) -> Result<StateDict> {
    let path = folder.join(name);
    let bytes = fs::read(&path).map_err(|error| Error::io(OP, &path, error))?;
    let about = &files[name];
    let damaged = |what: String| Error::format(OP, format!("{}: damaged: {what}", path.display()));
    if about["bytes"] != bytes.len() {
        let what = format!("got {} bytes, wanted {}", bytes.len(), about["bytes"]);
        return Err(damaged(what));
    }
    if about["fnv1a64"] != checksum(&bytes) {
        return Err(damaged(
            "its checksum is another than when it was written".into(),
        ));
    }
    io::load_safetensors(&path)
}

/// Writes checkpoints on a thread of its own, so that steps go on meanwhile. The snapshot is taken before; only one waits.
#[derive(Debug)]
pub struct Saver {
    send: Option<SyncSender<Snapshot>>,
    done: Receiver<Result<PathBuf>>,
    thread: Option<JoinHandle<()>>,
    waiting: usize,
}

impl Saver {
    /// A saver into a folder of checkpoints.
    ///
    /// # Errors
    /// `Io` if no thread can be started.
    pub fn new(checkpoints: Checkpoints) -> Result<Self> {
        let (send, receive) = sync_channel::<Snapshot>(1);
        let (tell, done) = sync_channel(64);
        let work = move || {
            for snapshot in receive {
                if tell.send(checkpoints.save(&snapshot)).is_err() {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name("checkpoints".into());
        let thread = thread.spawn(work);
        let thread = thread.map_err(|error| Error::io(OP, "thread", error))?;
        Ok(Saver {
            send: Some(send),
            done,
            thread: Some(thread),
            waiting: 0,
        })
    }

    /// Hands a snapshot over. Waits only while an earlier one is still to be begun.
    ///
    /// # Errors
    /// The failure of an earlier save.
    pub fn save(&mut self, snapshot: Snapshot) -> Result<()> {
        while let Ok(outcome) = self.done.try_recv() {
            self.waiting -= 1;
            outcome?;
        }
        if let Some(send) = &self.send {
            let gone = |_| Error::io(OP, "thread", std::io::ErrorKind::BrokenPipe.into());
            send.send(snapshot).map_err(gone)?;
            self.waiting += 1;
        }
        Ok(())
    }

    /// Waits until all is written.
    ///
    /// # Errors
    /// The first failure of a save.
    pub fn finish(mut self) -> Result<()> {
        self.send = None;
        let mut outcome = Ok(());
        for _ in 0..std::mem::take(&mut self.waiting) {
            let saved = self.done.recv();
            let gone = |_| Error::io(OP, "thread", std::io::ErrorKind::BrokenPipe.into());
            outcome = outcome.and(saved.map_err(gone).and_then(|saved| saved.map(|_| ())));
        }
        outcome
    }
}

impl Drop for Saver {
    /// Waits for the file that is being written: a run that ends leaves its last checkpoint.
    fn drop(&mut self) {
        self.send = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
