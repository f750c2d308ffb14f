//! The backward pass in vector registers: the five products of a block of rows over a block of keys, by tiles of rows.
//!
//! Knows which rows see which keys of a block, and reads and writes rows where they lie if whole registers of `f32` can. Must not
//! know registers.

use std::ops::Range;

use super::backward::{Run, Wide};
use super::kernels::{
    Factor, Finish, Kernels, LANES, PANEL, Product, SLOPES, Slopes, TILE, singles,
};
use super::{KEYS, Operand, ROWS};

const _: () = assert!(KEYS <= SLOPES);

/// What earlier sums are multiplied by.
static WHOLE: [f32; TILE] = [1.0; TILE];

/// Rows of numbers: the first one, and the numbers from one to the next.
type Rows = (*const f32, usize);
type RowsMut = (*mut f32, usize);

/// What a block of keys is multiplied with and added to.
struct Keys {
    kernels: &'static Kernels,
    /// The first key, and how many there are.
    first: usize,
    count: usize,
    keys: Rows,
    dk: RowsMut,
    dv: RowsMut,
    /// Whether the sums of each tile of keys have begun.
    begun: [bool; KEYS.div_ceil(TILE)],
}

/// What a block of rows is multiplied with.
struct Block {
    kernels: &'static Kernels,
    rows: Range<usize>,
    /// The keys of the block of keys that any of the rows sees, and those that each sees.
    count: usize,
    seen: [usize; ROWS],
    queries: Rows,
    dy: Rows,
    dq: RowsMut,
}

impl Wide for f32 {
    fn whole(run: &mut Run<'_, f32>) -> bool {
        let Some(kernels) = singles() else {
            return false;
        };
        let (sizes, head) = (run.problem.sizes, run.head);
        let (width, value_width) = run.widths();
        let visible = run.problem.visible(0..run.rows);
        let alone = sizes.group == 1;
        let dq = run.sinks[0].lanes(head, 0).filter(|_| alone);
        for first in (0..sizes.keys).step_by(KEYS) {
            let count = KEYS.min(sizes.keys - first);
            let own = [
                run.sinks[1].lanes(head, first),
                run.sinks[2].lanes(head, first),
            ];
            let mut keys = Keys {
                kernels,
                first,
                count,
                keys: (std::ptr::null(), 0),
                dk: own[0].unwrap_or((run.space.dk.as_mut_ptr(), width)),
                dv: own[1].unwrap_or((run.space.dv.as_mut_ptr(), value_width)),
                begun: [false; KEYS.div_ceil(TILE)],
            };
            if first < visible {
                keys.keys = turn_keys(run, kernels, first, count);
                for start in (0..run.rows).step_by(ROWS) {
                    let rows = start..run.rows.min(start + ROWS);
                    let visible = run.problem.visible(rows.clone());
                    let count = count.min(visible.saturating_sub(first));
                    if count > 0 {
                        block(run, &mut keys, (rows, count), dq);
                    }
                }
            }
            // SAFETY: the rows of these gradients, direct ones or in the workspace, are this thread's.
            unsafe { keys.clear([sizes.width, sizes.value_width]) };
            let held = [&*run.space.dk, &*run.space.dv];
            for (index, step) in [width, value_width].into_iter().enumerate() {
                if own[index].is_none() {
                    run.sinks[1 + index].write_lines(
                        (head, first..first + count),
                        held[index],
                        step,
                    );
                }
            }
        }
        if sizes.keys == 0 {
            run.space.dq.fill(0.0);
        }
        if sizes.keys == 0 || dq.is_none() {
            for (index, line) in run.space.dq.chunks_exact(width).enumerate() {
                let (head, row) = run.problem.place(head, index);
                run.sinks[0].write(head, row, line);
            }
        }
        true
    }
}

impl Keys {
    /// Makes the sums that no row has begun zeros.
    ///
    /// # Safety
    /// Rows of so many numbers must be writable by this thread.
    unsafe fn clear(&self, widths: [usize; 2]) {
        for ((start, step), width) in [self.dk, self.dv].into_iter().zip(widths) {
            for key in (0..self.count).filter(|key| !self.begun[key / TILE]) {
                // SAFETY: promised by the caller; zero bits are zeros.
                unsafe { start.add(key * step).write_bytes(0, width) };
            }
        }
    }
}

/// The rows of an operand from `row` on, if they lie as whole registers of `f32`; else copied to lines of `step` numbers.
fn rows_of(
    operand: &Operand<'_>,
    places: impl ExactSizeIterator<Item = (usize, usize)> + Clone,
    (width, straight): (usize, bool),
    (to, step): (&mut [f32], usize),
) -> Rows {
    let first = places.clone().next().filter(|_| straight);
    if let Some(rows) = first.and_then(|(head, row)| operand.lanes([head, row], width)) {
        return rows;
    }
    for ((head, row), line) in places.zip(to.chunks_exact_mut(step)) {
        operand.read([head, row, 0], &mut line[..width]);
    }
    (to.as_ptr(), step)
}

/// Turns a block of keys and values, as scores read them, and answers where the keys lie in rows.
fn turn_keys(run: &mut Run<'_, f32>, kernels: &Kernels, first: usize, count: usize) -> Rows {
    let (problem, (width, value_width)) = (run.problem, run.widths());
    let (sizes, (head, _)) = (problem.sizes, problem.place(run.head, 0));
    let places = (first..first + count).map(|key| (head, key));
    // Registers of keys that are not there are read too.
    let whole = count.is_multiple_of(LANES);
    let space = &mut run.space;
    let keys = (&mut *space.keys, width);
    let keys = rows_of(&problem.key, places.clone(), (sizes.width, whole), keys);
    let values = (&mut *space.values, value_width);
    let values = rows_of(&problem.value, places, (sizes.value_width, whole), values);
    turn_lines(
        kernels,
        keys,
        [width, sizes.width],
        space.keys_turned,
        count,
    );
    let widths = [value_width, sizes.value_width];
    turn_lines(kernels, values, widths, space.values_turned, count);
    keys
}

/// The first `columns` numbers of rows, turned: panels of `[width][PANEL]`.
fn turn_lines(
    kernels: &Kernels,
    (from, step): Rows,
    [width, columns]: [usize; 2],
    to: &mut [f32],
    count: usize,
) {
    for key in (0..count).step_by(LANES) {
        for column in (0..columns).step_by(LANES) {
            let from = from.wrapping_add(key * step + column);
            let at = key / PANEL * PANEL * width + column * PANEL + key % PANEL;
            let to = to[at..at + (LANES - 1) * PANEL + LANES].as_mut_ptr();
            // SAFETY: the kernels are those of this CPU; so many rows and columns can be read, where they lie or in
            // the workspace, and the panel's rows are in the slice.
            unsafe { (kernels.turn)(from.cast(), step * size_of::<f32>(), to) };
        }
    }
}

/// A block of rows over a block of keys.
fn block(
    run: &mut Run<'_, f32>,
    keys: &mut Keys,
    (rows, count): (Range<usize>, usize),
    dq: Option<RowsMut>,
) {
    let (problem, given, head) = (run.problem, run.given, run.head);
    let (sizes, (width, value_width)) = (problem.sizes, run.widths());
    let places = rows.clone().map(|row| problem.place(head, row));
    let alone = sizes.group == 1;
    let mut seen = [0; ROWS];
    for (seen, row) in seen.iter_mut().zip(rows.clone()) {
        let visible = problem.visible(row..row + 1);
        *seen = visible.saturating_sub(keys.first).min(count);
    }
    let space = &mut run.space;
    let queries = (&mut *space.queries, width);
    let dys = (&mut *space.dy, value_width);
    let (to, step) = dq.unwrap_or((space.dq.as_mut_ptr(), width));
    let block = Block {
        kernels: keys.kernels,
        count,
        seen,
        queries: rows_of(
            &problem.query,
            places.clone(),
            (sizes.width, alone),
            queries,
        ),
        dy: rows_of(&given.dy, places, (sizes.value_width, alone), dys),
        dq: (to.wrapping_add(rows.start * step), step),
        rows,
    };
    for tile in (0..block.rows.len()).step_by(TILE) {
        let own = tile..block.rows.len().min(tile + TILE);
        let most = seen[own.clone()].iter().copied().max().unwrap_or(0);
        scores(run, &block, own.clone(), most);
        for line in own.clone() {
            weigh(run, &block, line, keys.first);
        }
        query_gradients(run, &block, (own, most), keys);
    }
    key_gradients(run, &block, keys);
}

/// Scores of a tile of rows, and the gradients of their weights.
fn scores(run: &mut Run<'_, f32>, block: &Block, own: Range<usize>, keys: usize) {
    let (width, value_width) = run.widths();
    let (sizes, scale) = (run.problem.sizes, run.problem.scale as f32);
    let space = &mut run.space;
    let pairs = [
        (
            (block.queries, sizes.width),
            (&*space.keys_turned, width),
            (&mut *space.weights, scale),
        ),
        (
            (block.dy, sizes.value_width),
            (&*space.values_turned, value_width),
            (&mut *space.slopes, 1.0),
        ),
    ];
    for (((left, step), depth), (right, width), (to, scale)) in pairs {
        let product = Product {
            rows: own.len(),
            depth,
            registers: keys.div_ceil(LANES),
            left: Factor {
                start: left.wrapping_add(own.start * step),
                step,
                inner: 1,
            },
            right: Factor {
                start: right.as_ptr(),
                step: width * PANEL,
                inner: PANEL,
            },
            to: to[own.start * KEYS..].as_mut_ptr(),
            to_step: KEYS,
            finish: Finish::Scaled(scale),
        };
        // SAFETY: the kernels are those of this CPU; a block has room for a tile's rows and whole panels of keys.
        unsafe { (block.kernels.product)(&product) };
    }
}

/// Scores of a row become weights, and gradients of weights those of scores.
fn weigh(run: &mut Run<'_, f32>, block: &Block, line: usize, first: usize) {
    let (problem, index) = (run.problem, block.rows.start + line);
    let (head, row) = problem.place(run.head, index);
    let space = &mut run.space;
    let scores = &mut space.weights[line * KEYS..(line + 1) * KEYS];
    let (count, mut seen) = (block.count, block.seen[line]);
    if !problem.is_causal() {
        problem.hide(head, row, first, &mut scores[..count]);
        seen = count;
    }
    let all = first == 0 && problem.visible(index..index + 1) <= count;
    let line = Slopes {
        scores: scores.as_mut_ptr(),
        slopes: space.slopes[line * KEYS..(line + 1) * KEYS].as_mut_ptr(),
        seen,
        // Tiles of keys are whole where there are more keys.
        keys: count.next_multiple_of(TILE).min(KEYS),
        log: space.logs[index],
        scale: problem.scale as f32,
        delta: (!all).then(|| space.deltas[index]),
    };
    // SAFETY: the kernels are those of this CPU; a line has room for a block of keys.
    unsafe { (block.kernels.slope)(line) };
}

/// Sums that replace those of before, or are added to them.
fn onto(begun: bool) -> Finish {
    if begun {
        Finish::Onto(WHOLE.as_ptr())
    } else {
        Finish::Scaled(1.0)
    }
}

/// `dq += ds k` of a tile of rows.
fn query_gradients(
    run: &mut Run<'_, f32>,
    block: &Block,
    (own, most): (Range<usize>, usize),
    keys: &Keys,
) {
    let (to, step) = block.dq;
    let product = Product {
        rows: own.len(),
        depth: most,
        registers: run.problem.sizes.width.div_ceil(LANES),
        left: Factor {
            start: run.space.slopes[own.start * KEYS..].as_ptr(),
            step: KEYS,
            inner: 1,
        },
        right: Factor {
            start: keys.keys.0,
            step: PANEL,
            inner: keys.keys.1,
        },
        to: to.wrapping_add(own.start * step),
        to_step: step,
        finish: onto(keys.first > 0),
    };
    // SAFETY: the kernels are those of this CPU; rows of keys and of gradients are whole registers.
    unsafe { (block.kernels.product)(&product) };
}

/// `dv += p^T dy` and `dk += ds^T q`, by tiles of keys over the rows from the first one on that sees one of them.
fn key_gradients(run: &mut Run<'_, f32>, block: &Block, keys: &mut Keys) {
    let (sizes, space) = (run.problem.sizes, &mut run.space);
    let pairs = [
        (&*space.weights, block.dy, keys.dv, sizes.value_width),
        (&*space.slopes, block.queries, keys.dk, sizes.width),
    ];
    let seen = &block.seen[..block.rows.len()];
    for key in (0..block.count).step_by(TILE) {
        let Some(row) = seen.iter().position(|seen| *seen > key) else {
            continue;
        };
        let begun = std::mem::replace(&mut keys.begun[key / TILE], true);
        for (left, (right, step), (to, to_step), columns) in pairs {
            let product = Product {
                rows: TILE.min(keys.count - key),
                depth: seen.len() - row,
                registers: columns.div_ceil(LANES),
                left: Factor {
                    start: left[row * KEYS + key..].as_ptr(),
                    step: 1,
                    inner: KEYS,
                },
                right: Factor {
                    start: right.wrapping_add(row * step),
                    step: PANEL,
                    inner: step,
                },
                to: to.wrapping_add(key * to_step),
                to_step,
                finish: onto(begun),
            };
            // SAFETY: as above, with a line of weights for each row.
            unsafe { (block.kernels.product)(&product) };
        }
    }
}
