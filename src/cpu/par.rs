//! Threads: how a range of work is cut over rayon's pool.
//!
//! Knows ranges and thread counts. Must not know what the work is.

use std::ops::Range;

/// Work of fewer elements than this stays on the calling thread.
pub(crate) const GRAIN: usize = 32 * 1024;

/// Runs `body` over `0..count`, cut into ranges of at least `grain`, on the pool if that is worth it.
pub(crate) fn ranges(count: usize, grain: usize, body: impl Fn(Range<usize>) + Sync) {
    let threads = threads();
    let pieces = (count / grain.max(1)).clamp(1, threads);
    if pieces <= 1 {
        return body(0..count);
    }
    pooled(count, pieces, &body);
}

#[cfg(feature = "rayon")]
fn pooled(count: usize, pieces: usize, body: &(impl Fn(Range<usize>) + Sync)) {
    rayon::scope(|scope| {
        let cut = |piece: usize| count / pieces * piece + (count % pieces).min(piece);
        for piece in 1..pieces {
            scope.spawn(move |_| body(cut(piece)..cut(piece + 1)));
        }
        body(0..cut(1));
    });
}

#[cfg(not(feature = "rayon"))]
fn pooled(count: usize, _pieces: usize, body: &(impl Fn(Range<usize>) + Sync)) {
    body(0..count);
}

/// The number of threads that work is cut over.
#[cfg(feature = "rayon")]
pub(crate) fn threads() -> usize {
    rayon::current_num_threads()
}

/// The number of threads that work is cut over.
#[cfg(not(feature = "rayon"))]
pub(crate) fn threads() -> usize {
    1
}
