//! Ops that are called from several threads at once: no more threads than the caller's pool has, and the same results.
#![cfg(feature = "rayon")]

use ascend_tensor::{Generator, RandomOptions, Result, Tensor};
use rayon::prelude::*;

/// What a few ops that share out their work give, as bits.
fn results() -> Result<Vec<u32>> {
    let generator = Generator::new(3);
    let draw = |shape: [usize; 2]| Tensor::randn(shape, RandomOptions::new().generator(&generator));
    let (x, y) = (draw([200, 300])?, draw([300, 250])?);
    let product = x.matmul(&y)?;
    let parts = [
        product.softmax(1)?.sum(0)?,
        product.sort(1)?.0.sum(0)?,
        product.exp()?.cumsum(0)?.max_dim(0)?.0,
    ];
    let mut bits = Vec::new();
    for part in parts {
        bits.extend(part.to_vec::<f32>()?.into_iter().map(f32::to_bits));
    }
    Ok(bits)
}

/// The threads of this process.
fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").map_or(0, |tasks| tasks.count())
}

#[test]
fn a_callers_pool_is_enough() -> Result<()> {
    let want = results()?;
    let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build();
    let pool = pool.expect("three threads");
    let before = threads();
    let all: Vec<Result<Vec<u32>>> =
        pool.install(|| (0..24).into_par_iter().map(|_| results()).collect());
    assert_eq!(threads(), before, "threads were started beside the pool's");
    for got in all {
        assert_eq!(got?, want);
    }
    // From plain threads as well, which share one pool.
    let handles: Vec<_> = (0..4).map(|_| std::thread::spawn(results)).collect();
    for handle in handles {
        assert_eq!(handle.join().expect("an end")?, want);
    }
    Ok(())
}
