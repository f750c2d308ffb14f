//! Data: token files and batches from them, in an order that a seed fixes.
//!
//! Knows tokens, windows and positions. Must not know text or models.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;

use crate::cpu::random::philox;
use crate::error::{Error, Result};
use crate::io::Mapping;
use crate::tensor::Tensor;

const OP: &str = "batch_loader";

/// The size of a token in a file, little-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TokenWidth {
    /// One byte: bytes of text.
    U8,
    /// Two bytes.
    U16,
    /// Four bytes.
    U32,
}

impl TokenWidth {
    fn bytes(self) -> usize {
        match self {
            TokenWidth::U8 => 1,
            TokenWidth::U16 => 2,
            TokenWidth::U32 => 4,
        }
    }
}

#[derive(Debug, Clone)]
enum Source {
    Memory(Arc<[i64]>),
    File(Mapping, TokenWidth),
}

/// A sequence of tokens, in memory or in a mapped file of which only what is used is read.
#[derive(Debug, Clone)]
pub struct Tokens(Source);

impl Tokens {
    /// Tokens in memory.
    pub fn new(tokens: Vec<i64>) -> Self {
        Tokens(Source::Memory(tokens.into()))
    }

    /// A file of tokens one after the other, without a header. Do not shorten it while it is used: a read that notices it
    /// is an error, one that is under way ends the process.
    ///
    /// # Errors
    /// `Io` if it cannot be opened; `Format` if its size is no multiple of a token's.
    pub fn open(path: impl AsRef<Path>, width: TokenWidth) -> Result<Self> {
        let path = path.as_ref();
        let mapping = Mapping::open("tokens", path)?;
        let bytes = mapping.bytes().len();
        if !bytes.is_multiple_of(width.bytes()) {
            let what = format!(
                "{}: got {bytes} bytes, wanted a multiple of {}",
                path.display(),
                width.bytes()
            );
            return Err(Error::format("tokens", what));
        }
        Ok(Tokens(Source::File(mapping, width)))
    }

    /// The number of tokens.
    pub fn len(&self) -> usize {
        match &self.0 {
            Source::Memory(tokens) => tokens.len(),
            Source::File(mapping, width) => mapping.bytes().len() / width.bytes(),
        }
    }

    /// Whether there are no tokens.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Tokens from a place on, at most so many.
    ///
    /// # Errors
    /// `Io` if the file was cut short since it was opened.
    pub fn read(&self, start: usize, count: usize) -> Result<Vec<i64>> {
        let start = start.min(self.len());
        let end = start.saturating_add(count).min(self.len());
        match &self.0 {
            Source::Memory(tokens) => Ok(tokens[start..end].to_vec()),
            Source::File(mapping, width) => {
                mapping.check("tokens")?;
                let size = width.bytes();
                let bytes = &mapping.bytes()[start * size..end * size];
                let token = |bytes: &[u8]| {
                    let mut all = [0; 8];
                    all[..size].copy_from_slice(bytes);
                    i64::from_le_bytes(all)
                };
                Ok(bytes.chunks_exact(size).map(token).collect())
            }
        }
    }
}

/// The settings of a [`BatchLoader`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct LoaderOptions {
    batch: usize,
    length: usize,
    seed: Option<u64>,
    ahead: usize,
}

impl LoaderOptions {
    /// Batches of one sequence of so many tokens (and the one that follows), shuffled with seed 0, four made ahead.
    pub fn new(length: usize) -> Self {
        LoaderOptions {
            batch: 1,
            length,
            seed: Some(0),
            ahead: 4,
        }
    }

    /// The number of sequences.
    pub fn batch(mut self, batch: usize) -> Self {
        self.batch = batch;
        self
    }

    /// The seed of the order.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// In the order of the file.
    pub fn in_order(mut self) -> Self {
        self.seed = None;
        self
    }

    /// How many batches a thread makes ahead, at most 1024; with 0 there is no thread.
    pub fn ahead(mut self, batches: usize) -> Self {
        self.ahead = batches.min(1024);
        self
    }
}

/// The place of the next batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Position {
    /// How often all data was used.
    pub epoch: u64,
    /// The number of the batch within the epoch.
    pub batch: u64,
}

/// Batches `[batch, length + 1]` of consecutive windows of a token sequence, in an order that depends on seed and epoch only.
///
/// Each window ends with the token that the next begins with. Windows that do not fill a batch are left out of the epoch.
///
/// ```
/// use ascend_tensor::train::{BatchLoader, LoaderOptions, Tokens};
/// # fn main() -> ascend_tensor::Result<()> {
/// let tokens = Tokens::new((0..100).collect());
/// let mut loader = BatchLoader::new(tokens, LoaderOptions::new(4).batch(3).seed(7))?;
/// let first = loader.next()?.to_vec::<i64>()?;
/// let place = loader.position();
/// let second = loader.next()?.to_vec::<i64>()?;
/// loader.seek(place);
/// assert_eq!(loader.next()?.to_vec::<i64>()?, second);
/// assert_ne!(first, second);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct BatchLoader {
    windows: Windows,
    position: Position,
    ahead: usize,
    worker: Option<Worker>,
}

#[derive(Debug)]
struct Worker {
    batches: Option<Receiver<Result<Tensor>>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Worker {
    /// Waits for the batch under way: nothing is read once the loader is gone.
    fn drop(&mut self) {
        drop(self.batches.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[derive(Debug, Clone)]
struct Windows {
    tokens: Tokens,
    options: LoaderOptions,
    count: u64,
}

impl BatchLoader {
    /// A loader at the beginning.
    ///
    /// # Errors
    /// `Option` for a batch or length of 0, or fewer tokens than one batch needs.
    pub fn new(tokens: Tokens, options: LoaderOptions) -> Result<Self> {
        let LoaderOptions { batch, length, .. } = options;
        for (name, value) in [("batch", batch), ("length", length)] {
            if value == 0 {
                return Err(Error::option(OP, name, "got 0, wanted 1 or more"));
            }
        }
        let needed = batch.saturating_mul(length).saturating_add(1);
        if tokens.len() < needed {
            let why = format!("got {} tokens, wanted {needed} or more", tokens.len());
            return Err(Error::option(OP, "tokens", why));
        }
        let count = ((tokens.len() - 1) / length) as u64;
        Ok(BatchLoader {
            windows: Windows {
                tokens,
                options,
                count,
            },
            position: Position::default(),
            ahead: options.ahead,
            worker: None,
        })
    }

    /// The number of batches of an epoch.
    pub fn batches(&self) -> u64 {
        self.windows.batches()
    }

    /// The place of the next batch.
    pub fn position(&self) -> Position {
        self.position
    }

    /// Goes on from a place.
    pub fn seek(&mut self, position: Position) {
        self.worker = None;
        self.position = position;
    }

    /// The next batch, on the host. There is always one: after the last of an epoch comes the first of the next.
    ///
    /// # Errors
    /// Memory errors; `Io` if no thread can be started or the file of the tokens was cut short.
    #[expect(clippy::should_implement_trait, reason = "it never ends and may fail")]
    pub fn next(&mut self) -> Result<Tensor> {
        let batch = if self.ahead == 0 {
            self.windows.batch(self.position)
        } else {
            if self.worker.is_none() {
                self.worker = Some(self.start()?);
            }
            let batches = self.worker.as_ref().and_then(|it| it.batches.as_ref());
            match batches.map(Receiver::recv) {
                Some(Ok(batch)) => batch,
                _ => self.windows.batch(self.position),
            }
        }?;
        self.position = self.windows.after(self.position);
        Ok(batch)
    }

    fn start(&self) -> Result<Worker> {
        let (send, batches) = sync_channel(self.ahead);
        let (windows, mut position) = (self.windows.clone(), self.position);
        let work = move || {
            while send.send(windows.batch(position)).is_ok() {
                position = windows.after(position);
            }
        };
        let thread = std::thread::Builder::new().name("batch-loader".into());
        let thread = thread.spawn(work);
        let thread = thread.map_err(|error| Error::io(OP, "thread", error))?;
        Ok(Worker {
            batches: Some(batches),
            thread: Some(thread),
        })
    }
}

impl Windows {
    fn batches(&self) -> u64 {
        self.count / self.options.batch as u64
    }

    fn after(&self, position: Position) -> Position {
        if position.batch + 1 < self.batches() {
            Position {
                batch: position.batch + 1,
                ..position
            }
        } else {
            Position {
                epoch: position.epoch + 1,
                batch: 0,
            }
        }
    }

    fn batch(&self, position: Position) -> Result<Tensor> {
        let LoaderOptions { batch, length, .. } = self.options;
        let mut all = Vec::with_capacity(batch * (length + 1));
        for index in 0..batch as u64 {
            let place = (position.batch * batch as u64 + index) % self.count;
            let window = match self.options.seed {
                Some(seed) => shuffled(place, self.count, [seed, position.epoch]),
                None => place,
            };
            all.extend(self.tokens.read(window as usize * length, length + 1)?);
        }
        Tensor::from_vec(all, [batch, length + 1])
    }
}

/// The place of `index` in a random order of `count` things: a Feistel network over the next even power of two, walked until
/// the answer is in range. No table is kept, so the order of a billion windows costs nothing.
fn shuffled(index: u64, count: u64, [seed, epoch]: [u64; 2]) -> u64 {
    let bits = (64 - count.saturating_sub(1).leading_zeros())
        .div_ceil(2)
        .max(1);
    let mask = (1u64 << bits) - 1;
    let mut value = index;
    loop {
        let (mut left, mut right) = (value >> bits, value & mask);
        for round in 0..4 {
            let words = philox(seed ^ epoch.rotate_left(32), right << 2 | round);
            let mixed = u64::from(words[0]) << 32 | u64::from(words[1]);
            (left, right) = (right, left ^ mixed & mask);
        }
        value = left << bits | right;
        if value < count {
            return value;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::shuffled;

    #[test]
    fn an_order_has_each_place_once() {
        for count in [1, 2, 3, 17, 64, 1000] {
            let mut seen: Vec<u64> = (0..count).map(|i| shuffled(i, count, [5, 1])).collect();
            seen.sort_unstable();
            assert_eq!(seen, (0..count).collect::<Vec<_>>());
        }
        let order = |epoch| -> Vec<u64> { (0..50).map(|i| shuffled(i, 50, [5, epoch])).collect() };
        assert_ne!(order(0), order(1));
    }
}
