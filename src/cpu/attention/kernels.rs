//! What attention asks of vector registers: the functions for one kind of words, and which this CPU has.
//!
//! Knows how blocks are laid out in panels. Must not know instructions, heads, masks or where blocks come from. A *word* is what one
//! multiplication takes from a factor: an `f32`, or two neighbours of `bf16` along the inner size, whose products are added up in
//! `f32`.

use super::{avx2, avx512};
use crate::cpu::simd::{Level, level};

/// Rows of a tile of sums.
pub(super) const TILE: usize = 12;
/// Columns of a panel.
pub(super) const PANEL: usize = 32;
/// Keys of a block.
pub(super) const KEYS: usize = 256;
/// Numbers that are taken together: one register of AVX-512, two of AVX2.
pub(super) const LANES: usize = 16;

/// `to = finish(left right)`, with a product's words where the factors say.
#[derive(Debug, Clone, Copy)]
pub(super) struct Product {
    /// At most [`TILE`].
    pub rows: usize,
    pub depth: usize,
    /// Columns in [`LANES`]: whole panels, and one half where they are odd.
    pub registers: usize,
    pub left: Factor,
    pub right: Factor,
    pub to: *mut f32,
    pub to_step: usize,
    pub finish: Finish,
}

/// Words of a factor: the steps from row to row of a left one, or panel to panel of a right one, and from one inner index to the
/// next.
#[derive(Debug, Clone, Copy)]
pub(super) struct Factor {
    pub start: *const f32,
    pub step: usize,
    pub inner: usize,
}

/// What becomes of the sums of a product.
#[derive(Debug, Clone, Copy)]
pub(super) enum Finish {
    /// They replace the target, times a factor.
    Scaled(f32),
    /// They replace the target, times a factor for each row.
    Rows(*const f32),
    /// They are added to the target times a factor for each row.
    Onto(*const f32),
}

impl Finish {
    /// What the sums of a row are multiplied by, or the target that they are added to.
    ///
    /// # Safety
    /// There must be a factor for the row.
    #[inline(always)]
    pub unsafe fn factor(self, row: usize) -> f32 {
        match self {
            Finish::Scaled(factor) => factor,
            // SAFETY: promised by the caller.
            Finish::Rows(factors) | Finish::Onto(factors) => unsafe { *factors.add(row) },
        }
    }

    /// Whether the sums are added to the target.
    #[inline(always)]
    pub fn adds(self) -> bool {
        matches!(self, Finish::Onto(_))
    }
}

/// A row of scores that become weights.
#[derive(Debug)]
pub(super) struct Line<'a> {
    pub scores: *mut f32,
    /// Where the weights go as words, which may be the place of the scores.
    pub weights: *mut f32,
    /// The keys that the row sees, and those that it has weights for: 0 from the former on.
    pub seen: usize,
    pub until: usize,
    /// The running maximum, and the running sum in [`LANES`] parts.
    pub top: &'a mut f32,
    pub sums: *mut f32,
}

/// A row of scores and of the gradients of its weights, which become weights and gradients of scores.
#[derive(Debug)]
pub(super) struct Slopes {
    pub scores: *mut f32,
    pub slopes: *mut f32,
    /// The keys that the row sees, and those of the block: all 0 from the former on.
    pub seen: usize,
    pub keys: usize,
    /// The logarithm of the row's sum.
    pub log: f32,
    /// What gradients of scores are multiplied by.
    pub scale: f32,
    /// The sum of all weights times their gradients; none where these keys are all that the row sees.
    pub delta: Option<f32>,
}

/// Keys of a block of [`Slopes`] at most.
pub(super) const SLOPES: usize = 128;

/// The functions for one kind of words.
///
/// # Safety
/// Of all of them: the CPU must have the kernels' instructions, what is read must be readable and what is written writable, in
/// whole [`LANES`].
#[derive(Debug)]
pub(super) struct Kernels {
    pub product: unsafe fn(&Product),
    /// Exponentials of the scores relative to the row's maximum so far; what earlier results of the row shrink by. There must be
    /// room for [`KEYS`] scores and weights.
    pub weigh: unsafe fn(Line<'_>) -> f32,
    /// `p = exp(score - log)`, `ds = scale p (dp - delta)`, for at most [`SLOPES`] keys. Where the row sees no other keys, the
    /// weights are divided by their sum, for logarithms of large scores are coarse, and `delta` is the sum of the very products
    /// that it is subtracted from.
    pub slope: unsafe fn(Slopes),
    /// The sum of [`LANES`] numbers.
    pub total: unsafe fn(from: *const f32) -> f32,
    /// Writes [`LANES`] lines of as many words, which lie `step` bytes apart, turned: word `p` of all lines in a row, rows
    /// [`PANEL`] words apart.
    pub turn: unsafe fn(from: *const u8, step: usize, to: *mut f32),
    /// A panel's row of words from a line of them.
    pub copy: unsafe fn(from: *const u8, to: *mut f32),
}

/// The functions for `f32`; none if this CPU has not the registers.
pub(super) fn singles() -> Option<&'static Kernels> {
    match level() {
        Level::Avx512 => Some(&avx512::SINGLES),
        Level::Avx2 => Some(&avx2::SINGLES),
        _ => None,
    }
}

/// The functions for pairs of `bf16`; none if this CPU has not the instruction.
pub(super) fn pairs() -> Option<&'static Kernels> {
    let has = level() >= Level::Avx512 && std::is_x86_feature_detected!("avx512bf16");
    has.then_some(&avx512::PAIRS)
}
