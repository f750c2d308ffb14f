//! Threads: how a range of work is cut up and shared between the calling thread and rayon's.
//!
//! Knows ranges and thread counts. Must not know what the work is.
//!
//! Each thread has a span of the range and claims its pieces one by one; one that is through helps with the spans of the
//! others. So a thread reads on where it was, and finds the same part of memory when the op comes again (the same sums of
//! 64 MiB take a fifth less time than with pieces in turns where the caches keep some of it), but a thread that wakes late or
//! is slowed down by another process leaves its share to the rest, and the caller never waits for a thread that has not begun.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Work of fewer elements than this stays on the calling thread.
pub(crate) const GRAIN: usize = 32 * 1024;

/// Pieces per thread: more even out, fewer cost less.
#[cfg(feature = "rayon")]
const SHARE: usize = 8;

/// How many threads an op may use; 0 for rayon's number.
static THREADS: AtomicUsize = AtomicUsize::new(0);

/// Sets how many threads an op may use.
pub(crate) fn set_threads(threads: usize) {
    THREADS.store(threads.max(1), Ordering::Relaxed);
}

/// Runs `body` over `0..count`, cut into ranges of at least `grain`, on several threads if that is worth it.
pub(crate) fn ranges(count: usize, grain: usize, body: impl Fn(Range<usize>) + Sync) {
    let most = count / grain.max(1);
    if most <= 1 {
        return body(0..count);
    }
    let threads = threads();
    if threads <= 1 {
        return body(0..count);
    }
    pooled(count, most, threads, &body);
}

#[cfg(not(feature = "rayon"))]
fn pooled(count: usize, _most: usize, _threads: usize, body: &(dyn Fn(Range<usize>) + Sync)) {
    body(0..count);
}

/// The number of threads that work is cut over.
#[cfg(not(feature = "rayon"))]
pub(crate) fn threads() -> usize {
    1
}

/// The number of threads that work is cut over: as set, else rayon's; within one of rayon's pools not more than it has.
#[cfg(feature = "rayon")]
pub(crate) fn threads() -> usize {
    match THREADS.load(Ordering::Relaxed) {
        1 => 1,
        0 if has_pool() => rayon::current_num_threads(),
        0 => 1,
        threads if rayon::current_thread_index().is_some() => {
            threads.min(rayon::current_num_threads())
        }
        threads => threads,
    }
}

/// Whether there is a pool to hand work to: rayon's own start of one ends the program where the system has no threads to give.
#[cfg(feature = "rayon")]
fn has_pool() -> bool {
    use std::error::Error;
    static GLOBAL: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
    rayon::current_thread_index().is_some()
        || *GLOBAL.get_or_init(|| {
            // An error without a source says that the pool is there already.
            let built = rayon::ThreadPoolBuilder::new().build_global();
            built.map_or_else(|error| error.source().is_none(), |()| true)
        })
}

#[cfg(feature = "rayon")]
use shared::pooled;

#[cfg(feature = "rayon")]
mod shared {
    //! The work that threads share.

    use std::any::Any;
    use std::ops::Range;
    use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Arc, Mutex, PoisonError};
    use std::thread::Thread;

    use super::{SHARE, THREADS};
    use crate::cpu::alloc::{note_lack, take_lack};

    /// Elements that large pieces are a multiple of.
    const UNIT: usize = 64;

    /// A body with its lifetime forgotten.
    struct Body(*const (dyn Fn(Range<usize>) + Sync));

    // SAFETY: the body may be shared between threads; `Work::help` says why it is alive when it is called.
    unsafe impl Send for Body {}
    // SAFETY: as above.
    unsafe impl Sync for Body {}

    /// More threads than this share spans.
    const SPANS: usize = 16;

    /// A range whose pieces threads claim.
    struct Work {
        count: usize,
        pieces: usize,
        /// In how many spans the pieces lie, and how many of each are claimed.
        spans: usize,
        claimed: [AtomicUsize; SPANS],
        helpers: AtomicUsize,
        done: AtomicUsize,
        /// The most memory that a piece did not get.
        lack: AtomicUsize,
        body: Body,
        caller: Thread,
        panic: Mutex<Option<Box<dyn Any + Send>>>,
    }

    impl Work {
        fn piece(&self, piece: usize) -> Range<usize> {
            // Large pieces begin at multiples of what a cache line holds, whatever its elements are.
            let unit = if self.count / self.pieces >= 64 * UNIT {
                UNIT
            } else {
                1
            };
            let units = self.count / unit;
            let cut = |piece: usize| {
                unit * (units / self.pieces * piece + (units % self.pieces).min(piece))
            };
            let end = if piece + 1 == self.pieces {
                self.count
            } else {
                cut(piece + 1)
            };
            cut(piece)..end
        }

        /// The pieces of a span.
        fn span(&self, span: usize) -> Range<usize> {
            self.pieces * span / self.spans..self.pieces * (span + 1) / self.spans
        }

        /// As a thread that came by itself: does the pieces of the next span, then helps.
        fn join(&self) {
            self.help(1 + self.helpers.fetch_add(1, Ordering::Relaxed));
        }

        /// Claims and does pieces until none is left, those of an own span first.
        fn help(&self, own: usize) {
            for span in own..own + self.spans {
                self.help_with(span % self.spans);
            }
        }

        fn help_with(&self, span: usize) {
            let Range { start, end } = self.span(span);
            loop {
                let piece = start + self.claimed[span].fetch_add(1, Ordering::Relaxed);
                if piece >= end {
                    return;
                }
                // SAFETY: the caller of `pooled`, whose body this is, waits until every claimed piece is done, and this one
                // is not.
                let body = unsafe { &*self.body.0 };
                if let Err(panic) = catch_unwind(AssertUnwindSafe(|| body(self.piece(piece)))) {
                    *self.panic.lock().unwrap_or_else(PoisonError::into_inner) = Some(panic);
                }
                let lack = take_lack();
                if lack > 0 {
                    self.lack.fetch_max(lack, Ordering::Relaxed);
                }
                if self.done.fetch_add(1, Ordering::AcqRel) + 1 == self.pieces {
                    self.caller.unpark();
                }
            }
        }

        /// Waits until all pieces are done: a while awake, for the last ones are on their way.
        fn wait(&self) {
            let mut turns = 0u32;
            while self.done.load(Ordering::Acquire) < self.pieces {
                if turns < 4000 {
                    turns += 1;
                    std::hint::spin_loop();
                } else {
                    std::thread::park();
                }
            }
        }
    }

    pub(super) fn pooled(
        count: usize,
        most: usize,
        threads: usize,
        body: &(dyn Fn(Range<usize>) + Sync),
    ) {
        // SAFETY: only the lifetime changes; see `Work::help`.
        let body: *const (dyn Fn(Range<usize>) + Sync) = unsafe { std::mem::transmute(body) };
        // As many for each thread, for the others would wait for the last one.
        let pieces = most.min(threads * SHARE);
        let even = pieces - pieces % threads;
        let work = Arc::new(Work {
            count,
            pieces: if even > 0 { even } else { pieces },
            spans: threads.min(most).min(SPANS),
            claimed: Default::default(),
            helpers: AtomicUsize::new(0),
            done: AtomicUsize::new(0),
            lack: AtomicUsize::new(0),
            body: Body(body),
            caller: std::thread::current(),
            panic: Mutex::new(None),
        });
        let before = take_lack();
        let helpers = threads.min(work.pieces) - 1;
        for _ in 0..helpers {
            let work = Arc::clone(&work);
            spawn(threads - 1, move || work.join());
        }
        work.help(0);
        work.wait();
        note_lack(before.max(work.lack.load(Ordering::Relaxed)));
        let panic = work
            .panic
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }

    /// Hands a job to the caller's own pool, or to rayon's global one, or, where a number of threads is set, to a pool of
    /// that size. If no thread can be had, the job is dropped: the caller does it all.
    fn spawn(helpers: usize, job: impl FnOnce() + Send + 'static) {
        if THREADS.load(Ordering::Relaxed) == 0 || rayon::current_thread_index().is_some() {
            return rayon::spawn(job);
        }
        static POOL: Mutex<Option<(usize, Arc<rayon::ThreadPool>)>> = Mutex::new(None);
        let mut pool = POOL.lock().unwrap_or_else(PoisonError::into_inner);
        if pool.as_ref().is_none_or(|(size, _)| *size != helpers) {
            let built = rayon::ThreadPoolBuilder::new()
                .num_threads(helpers)
                .thread_name(|index| format!("ascend-tensor-{index}"))
                .build();
            *pool = built.ok().map(|built| (helpers, Arc::new(built)));
        }
        if let Some((_, pool)) = pool.as_ref() {
            pool.spawn(job);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::ranges;

    #[test]
    fn every_index_is_visited_once() {
        let seen: Vec<AtomicUsize> = (0..100_007).map(|_| AtomicUsize::new(0)).collect();
        for grain in [1, 7, 1000, 5_000, 20_000] {
            seen.iter().for_each(|one| one.store(0, Ordering::Relaxed));
            ranges(seen.len(), grain, |range| {
                for one in &seen[range] {
                    one.fetch_add(1, Ordering::Relaxed);
                }
            });
            assert!(seen.iter().all(|one| one.load(Ordering::Relaxed) == 1));
        }
    }

    #[test]
    fn nested_work_and_panics_come_back() {
        let total = AtomicUsize::new(0);
        ranges(64, 1, |outer| {
            for _ in outer {
                ranges(100, 1, |inner| {
                    total.fetch_add(inner.len(), Ordering::Relaxed);
                });
            }
        });
        assert_eq!(total.into_inner(), 6400);
        let result = std::panic::catch_unwind(|| {
            ranges(64, 1, |range| assert!(!range.contains(&40), "here"));
        });
        assert!(result.is_err());
    }
}
