//! Generators: a seed and a counter, shared by clones and between threads.
//!
//! Knows how counters are handed out. Must not know distributions.

use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use crate::cpu::random::philox;

/// Where random numbers come from: a seed, and a counter that each draw moves on.
///
/// A generator from [`Generator::new`] is portable: the numbers are the crate's own (Philox 4x32-10), the same for a seed on
/// every device; for an NPU they are made on the host and copied there. One from [`Generator::device`] lets an NPU make its
/// own numbers, which is fast and promises no equality with any other device (on the CPU it is portable). Clones share the
/// counter; a generator may be used from several threads.
///
/// ```
/// use ascend_tensor::{Tensor, ops::random::{Generator, RandomOptions}};
/// # fn main() -> ascend_tensor::Result<()> {
/// let draw = |seed| Tensor::rand([3], RandomOptions::new().generator(&Generator::new(seed)))?.to_vec::<f32>();
/// assert_eq!(draw(7)?, draw(7)?);
/// assert_ne!(draw(7)?, draw(8)?);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Generator {
    state: Arc<Mutex<GeneratorState>>,
    native: bool,
}

/// The state of a [`Generator`]: to be kept with a checkpoint, and set again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct GeneratorState {
    /// The seed.
    pub seed: u64,
    /// The counter of the next draw.
    pub offset: u64,
}

/// Numbers reserved for one draw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reserved {
    pub seed: u64,
    pub offset: u64,
    /// Whether an NPU makes its own numbers.
    pub native: bool,
}

impl Reserved {
    /// The 64 random bits of an index, for draws that need few.
    pub fn bits(&self, index: u64) -> u64 {
        let words = philox(self.seed, self.offset.wrapping_add(index / 2));
        let at = if index.is_multiple_of(2) {
            [words[0], words[1]]
        } else {
            [words[2], words[3]]
        };
        u64::from(at[1]) << 32 | u64::from(at[0])
    }
}

impl Generator {
    /// A portable generator.
    pub fn new(seed: u64) -> Self {
        Generator {
            state: Arc::new(Mutex::new(GeneratorState { seed, offset: 0 })),
            native: false,
        }
    }

    /// A generator with which an NPU makes its own numbers.
    pub fn device(seed: u64) -> Self {
        Generator {
            native: true,
            ..Generator::new(seed)
        }
    }

    /// The seed and the counter.
    pub fn state(&self) -> GeneratorState {
        *self.lock()
    }

    /// Goes on from a state.
    pub fn set_state(&self, state: GeneratorState) {
        *self.lock() = state;
    }

    /// Starts again with a seed.
    pub fn seed(&self, seed: u64) {
        self.set_state(GeneratorState { seed, offset: 0 });
    }

    /// Hands out so many counters.
    pub(crate) fn reserve(&self, counters: u64) -> Reserved {
        let mut state = self.lock();
        let offset = state.offset;
        state.offset = offset.wrapping_add(counters.next_multiple_of(4));
        Reserved {
            seed: state.seed,
            offset,
            native: self.native,
        }
    }

    fn lock(&self) -> MutexGuard<'_, GeneratorState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

static DEFAULT: LazyLock<Generator> = LazyLock::new(|| Generator::new(0));

/// The generator that is used where none is given: portable, shared by all threads, with seed 0 at the start.
pub fn default_generator() -> Generator {
    DEFAULT.clone()
}

/// Starts the default generator again with a seed. PyTorch: `torch.manual_seed`.
pub fn manual_seed(seed: u64) {
    DEFAULT.seed(seed);
}
