//! A block of the backward pass on AVX-512: the five products of a block of rows over a block of keys, by tiles of rows.
//!
//! Knows which rows see which keys of a block. Must not know registers, nor how blocks follow each other.

use std::ops::Range;

use super::KEYS;
use super::backward::{Run, Wide};
use super::x86::{
    Factor, Finish, LANES, PANEL, Product, SINGLES, SLOPES, Slopes, TILE, slope, turn,
};
use crate::cpu::simd::{Level, level};

const _: () = assert!(KEYS <= SLOPES);

/// What earlier sums are multiplied by.
static WHOLE: [f32; TILE] = [1.0; TILE];

impl Wide for f32 {
    fn is_wide() -> bool {
        level() >= Level::Avx512
    }

    fn turn_keys(run: &mut Run<'_, f32>, count: usize) {
        let (width, value_width) = run.widths();
        let sizes = run.problem.sizes;
        let space = &mut run.space;
        let (keys, values) = ([width, sizes.width], [value_width, sizes.value_width]);
        turn_lines(space.keys, keys, space.keys_turned, count);
        turn_lines(space.values, values, space.values_turned, count);
    }

    fn block(run: &mut Run<'_, f32>, rows: Range<usize>, [first, count]: [usize; 2]) {
        run.load_block(rows.clone());
        let problem = run.problem;
        let seen: Vec<usize> = rows
            .clone()
            .map(|row| {
                problem
                    .visible(row..row + 1)
                    .saturating_sub(first)
                    .min(count)
            })
            .collect();
        for tile in (0..rows.len()).step_by(TILE) {
            let own = tile..rows.len().min(tile + TILE);
            let keys = seen[own.clone()].iter().copied().max().unwrap_or(0);
            scores(run, own.clone(), keys);
            for line in own.clone() {
                let index = rows.start + line;
                weigh(run, [line, index, first], [seen[line], count]);
            }
            query_gradients(run, own, rows.start, keys);
        }
        key_gradients(run, &seen, count);
    }
}

/// The first `columns` of lines of `width` numbers, turned: panels of `[width][PANEL]`.
fn turn_lines(lines: &[f32], [width, columns]: [usize; 2], to: &mut [f32], count: usize) {
    for key in (0..count).step_by(LANES) {
        for column in (0..columns).step_by(LANES) {
            let from = lines[key * width + column..(key + LANES) * width].as_ptr();
            let at = key / PANEL * PANEL * width + column * PANEL + key % PANEL;
            let to = to[at..at + (LANES - 1) * PANEL + LANES].as_mut_ptr();
            // SAFETY: the level says that there are the registers; the lines and the panel's rows are in the slices.
            unsafe { turn(from.cast(), width * size_of::<f32>(), to) };
        }
    }
}

/// Scores of a tile of rows, and the gradients of their weights.
fn scores(run: &mut Run<'_, f32>, own: Range<usize>, keys: usize) {
    let (width, value_width) = run.widths();
    let sizes = run.problem.sizes;
    let space = &mut run.space;
    let pairs = [
        (
            &*space.queries,
            &*space.keys_turned,
            &mut *space.weights,
            [width, sizes.width],
        ),
        (
            &*space.dy,
            &*space.values_turned,
            &mut *space.slopes,
            [value_width, sizes.value_width],
        ),
    ];
    for (left, right, to, [width, depth]) in pairs {
        let product = Product {
            rows: own.len(),
            depth,
            registers: keys.div_ceil(LANES),
            left: Factor {
                start: left[own.start * width..].as_ptr(),
                step: width,
                inner: 1,
            },
            right: Factor {
                start: right.as_ptr(),
                step: width * PANEL,
                inner: PANEL,
            },
            to: to[own.start * KEYS..].as_mut_ptr(),
            to_step: KEYS,
            finish: Finish::Scaled(1.0),
        };
        // SAFETY: the level says that there are the registers; a block has room for a tile's rows and whole panels of keys.
        unsafe { (SINGLES.product)(&product) };
    }
}

/// Scores of a row become weights, and gradients of weights those of scores.
fn weigh(run: &mut Run<'_, f32>, [line, index, first]: [usize; 3], [mut seen, count]: [usize; 2]) {
    let problem = run.problem;
    let (head, row) = problem.place(run.head, index);
    let space = &mut run.space;
    let scores = &mut space.weights[line * KEYS..(line + 1) * KEYS];
    if !problem.is_causal() {
        problem.hide(head, row, first, &mut scores[..count]);
        seen = count;
    }
    let all = first == 0 && problem.visible(index..index + 1) <= count;
    let line = Slopes {
        scores: scores.as_mut_ptr(),
        slopes: space.slopes[line * KEYS..(line + 1) * KEYS].as_mut_ptr(),
        seen,
        keys: count,
        log: space.logs[index],
        delta: (!all).then(|| space.deltas[index]),
    };
    // SAFETY: the level says that there are the registers; a line has room for a block of keys.
    unsafe { slope(line) };
}

/// `dq += ds k` of a tile of rows.
fn query_gradients(run: &mut Run<'_, f32>, own: Range<usize>, start: usize, keys: usize) {
    let (width, _) = run.widths();
    let registers = run.problem.sizes.width.div_ceil(LANES);
    let space = &mut run.space;
    let product = Product {
        rows: own.len(),
        depth: keys,
        registers,
        left: Factor {
            start: space.slopes[own.start * KEYS..].as_ptr(),
            step: KEYS,
            inner: 1,
        },
        right: Factor {
            start: space.keys.as_ptr(),
            step: PANEL,
            inner: width,
        },
        to: space.dq[(start + own.start) * width..].as_mut_ptr(),
        to_step: width,
        finish: Finish::Onto(WHOLE.as_ptr()),
    };
    // SAFETY: the level says that there are the registers; lines of keys and sums are whole panels.
    unsafe { (SINGLES.product)(&product) };
}

/// `dv += p^T dy` and `dk += ds^T q`, by tiles of keys over the rows from the first one on that sees one of them.
fn key_gradients(run: &mut Run<'_, f32>, seen: &[usize], count: usize) {
    let (width, value_width) = run.widths();
    let sizes = run.problem.sizes;
    let space = &mut run.space;
    let pairs = [
        (
            &*space.weights,
            &*space.dy,
            &mut *space.dv,
            [value_width, sizes.value_width],
        ),
        (
            &*space.slopes,
            &*space.queries,
            &mut *space.dk,
            [width, sizes.width],
        ),
    ];
    for (left, right, to, [width, columns]) in pairs {
        for key in (0..count).step_by(TILE) {
            let rows = seen.iter().position(|seen| *seen > key);
            let row = rows.unwrap_or(seen.len());
            let product = Product {
                rows: TILE.min(count - key),
                depth: seen.len() - row,
                registers: columns.div_ceil(LANES),
                left: Factor {
                    start: left[row * KEYS + key..].as_ptr(),
                    step: 1,
                    inner: KEYS,
                },
                right: Factor {
                    start: right[row * width..].as_ptr(),
                    step: PANEL,
                    inner: width,
                },
                to: to[key * width..].as_mut_ptr(),
                to_step: width,
                finish: Finish::Onto(WHOLE.as_ptr()),
            };
            if product.depth > 0 {
                // SAFETY: as above, with a line of weights for each row.
                unsafe { (SINGLES.product)(&product) };
            }
        }
    }
}
