//! The forward pass of many rows in vector registers: keys and values packed in panels, tiles of rows over them.
//!
//! Knows how a head is packed, and when pairs of `bf16` can be multiplied: where all operands are `bf16`. Weights are then rounded
//! to `bf16` before they meet the values. Must not know registers.

use std::ops::Range;

use super::avx512::pair;
use super::forward::{Outputs, inverse};
use super::kernels::{
    Factor, Finish, KEYS, Kernels, LANES, Line, PANEL, Product, TILE, pairs, singles,
};
use super::stream::seen;
use super::{Operand, Problem, carve};
use crate::cpu::simd::{Simd, vectorised};
use crate::dtype::DType;

/// How the rows of a problem are computed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wide {
    kernels: &'static Kernels,
    /// Numbers of a word.
    each: usize,
    /// The dtype of lines as they are packed.
    dtype: DType,
    /// Words of a row of queries and keys, in whole registers; numbers of a row of values, in whole panels.
    words: usize,
    columns: usize,
}

impl Wide {
    /// By numbers in `f32`; none if this CPU has not the registers.
    pub fn singles(problem: &Problem<'_>) -> Option<Self> {
        singles().map(|kernels| Self::new(problem, kernels, 1, DType::F32))
    }

    /// By pairs of `bf16`; none if the operands are others, or if this CPU has not the instruction.
    pub fn pairs(problem: &Problem<'_>) -> Option<Self> {
        let operands = [&problem.query, &problem.key, &problem.value];
        let paired = operands.iter().all(|x| x.view.dtype() == DType::BF16);
        let kernels = pairs().filter(|_| paired)?;
        Some(Self::new(problem, kernels, 2, DType::BF16))
    }

    fn new(problem: &Problem<'_>, kernels: &'static Kernels, each: usize, dtype: DType) -> Self {
        let sizes = problem.sizes;
        Wide {
            kernels,
            each,
            dtype,
            words: sizes.width.max(1).div_ceil(each).next_multiple_of(LANES),
            columns: sizes.value_width.max(1).next_multiple_of(PANEL),
        }
    }

    /// Words of the blocks of a task, in order.
    fn lengths(self, stripe: usize) -> [usize; 10] {
        let [words, columns] = [self.words, self.columns];
        let line = columns.div_ceil(self.each);
        [
            stripe * words,
            stripe * columns,
            stripe,
            stripe * LANES,
            words * KEYS,
            KEYS / self.each * columns,
            TILE * KEYS,
            TILE * KEYS / self.each,
            LANES * words,
            2 * line,
        ]
    }

    /// Whether words are pairs of `bf16`.
    fn paired(self) -> bool {
        self.each == 2
    }

    pub fn size(self, stripe: usize) -> usize {
        self.lengths(stripe).iter().sum()
    }

    /// The results of some rows of a long head.
    pub fn run(
        self,
        problem: &Problem<'_>,
        (head, rows): (usize, Range<usize>),
        stripe: usize,
        room: &mut [f32],
        outputs: &Outputs<'_>,
    ) {
        let mut rest = room;
        let [
            queries,
            results,
            tops,
            sums,
            keys,
            values,
            scores,
            weights,
            lines,
            pairs,
        ] = self.lengths(stripe).map(|length| carve(&mut rest, length));
        let mut task = Task {
            wide: self,
            problem,
            head,
            rows,
            queries,
            results,
            tops,
            sums,
            keys,
            values,
            scores,
            weights,
            lines,
            pairs,
            once: false,
            to: outputs.rows(head).filter(|_| problem.sizes.group == 1),
        };
        task.whole();
        vectorised!(Simd::best(), light task.store(outputs));
    }
}

/// The rows of one task and its blocks.
struct Task<'a> {
    wide: Wide,
    problem: &'a Problem<'a>,
    head: usize,
    rows: Range<usize>,
    /// Queries in words, their results, and their running maxima and sums.
    queries: &'a mut [f32],
    results: &'a mut [f32],
    tops: &'a mut [f32],
    sums: &'a mut [f32],
    /// A block of keys in panels, of values in panels.
    keys: &'a mut [f32],
    values: &'a mut [f32],
    /// A tile's scores, and its weights in pairs.
    scores: &'a mut [f32],
    weights: &'a mut [f32],
    /// Keys and values that do not lie as they are packed; zeros past their ends.
    lines: &'a mut [f32],
    pairs: &'a mut [f32],
    /// Whether one block has all keys that the rows see: then results need no second pass.
    once: bool,
    /// The rows of the results, if they can be written where they belong.
    to: Option<(*mut f32, usize)>,
}

impl Task<'_> {
    fn whole(&mut self) {
        let count = self.rows.len();
        let visible = self.problem.visible(self.rows.clone());
        self.once = (1..=KEYS).contains(&visible);
        if !self.once {
            self.results.fill(0.0);
        }
        self.tops[..count].fill(f32::NEG_INFINITY);
        self.sums.fill(0.0);
        self.lines.fill(0.0);
        self.pairs.fill(0.0);
        if self.own_queries().is_none() {
            self.load_queries();
        }
        for first in (0..visible).step_by(KEYS) {
            let keys = KEYS.min(visible - first);
            self.pack_keys(first, keys);
            if self.own_values(first).is_none() {
                self.pack_values(first, keys);
            }
            for start in (0..count).step_by(TILE) {
                self.tile(start..count.min(start + TILE), [first, keys]);
            }
        }
    }

    fn load_queries(&mut self) {
        let problem = self.problem;
        let width = problem.sizes.width;
        let paired = self.wide.paired();
        let lines = self.queries.chunks_exact_mut(self.wide.words);
        for (line, row) in lines.zip(self.rows.clone()) {
            let (head, row) = problem.place(self.head, row);
            if paired {
                problem.query.copy([head, row], width, line);
            } else {
                problem.query.read([head, row, 0], &mut line[..width]);
            }
        }
    }

    /// The queries where they lie, as products read them.
    fn own_queries(&self) -> Option<Factor> {
        let (problem, width) = (self.problem, self.problem.sizes.width);
        let (head, row) = problem.place(self.head, self.rows.start);
        let alone = problem.sizes.group == 1 && !self.wide.paired();
        let (start, step) = problem.query.lanes([head, row], width).filter(|_| alone)?;
        Some(Factor {
            start,
            step,
            inner: 1,
        })
    }

    /// The values from a key on where they lie, as products read them.
    fn own_values(&self, first: usize) -> Option<Factor> {
        let (problem, width) = (self.problem, self.problem.sizes.value_width);
        let (head, _) = problem.place(self.head, self.rows.start);
        let (start, inner) = problem
            .value
            .lanes([head, first], width)
            .filter(|_| !self.wide.paired())?;
        Some(Factor {
            start,
            step: PANEL,
            inner,
        })
    }

    /// Whether an operand's lines can be packed from where they are: whole registers of the packed dtype.
    fn lies(&self, operand: &Operand<'_>, width: usize, whole: usize) -> bool {
        operand.view.dtype() == self.wide.dtype && operand.column == 1 && width == whole
    }

    /// Keys turned: panels of `[words][PANEL]`.
    fn pack_keys(&mut self, first: usize, keys: usize) {
        let problem = self.problem;
        let (width, words) = (problem.sizes.width, self.wide.words);
        let (head, _) = problem.place(self.head, self.rows.start);
        let lies = self.lies(&problem.key, width, words * self.wide.each);
        for key in (0..keys).step_by(LANES) {
            let count = LANES.min(keys - key);
            let (from, step) = if lies && count == LANES {
                problem.key.line(head, first + key)
            } else {
                for (index, line) in self.lines.chunks_exact_mut(words).take(count).enumerate() {
                    let place = [head, first + key + index];
                    if self.wide.paired() {
                        problem.key.copy(place, width, line);
                    } else {
                        problem
                            .key
                            .read([place[0], place[1], 0], &mut line[..width]);
                    }
                }
                (self.lines.as_ptr().cast(), words * size_of::<f32>())
            };
            let panel = &mut self.keys[key / PANEL * PANEL * words + key % PANEL..];
            for word in (0..words).step_by(LANES) {
                // SAFETY: the kernels are those of this CPU; all lines have so many words, and the panels as many rows.
                unsafe {
                    let from = from.wrapping_add(word * size_of::<f32>());
                    (self.wide.kernels.turn)(from, step, panel.as_mut_ptr().add(word * PANEL));
                }
            }
        }
    }

    /// Values as they are or in pairs: panels of `[KEYS / each][PANEL]`.
    fn pack_values(&mut self, first: usize, keys: usize) {
        let problem = self.problem;
        let (width, columns, each) = (problem.sizes.value_width, self.wide.columns, self.wide.each);
        let (head, _) = problem.place(self.head, self.rows.start);
        let lies = self.lies(&problem.value, width, columns);
        let line_size = columns.div_ceil(each);
        for key in (0..keys).step_by(each) {
            let mut from = [std::ptr::null::<u8>(); 2];
            let lines = self.pairs.chunks_exact_mut(line_size);
            for ((index, line), from) in lines.enumerate().zip(&mut from).take(each) {
                let row = first + key + index;
                if key + index >= keys {
                    line.fill(0.0);
                } else if lies {
                    *from = problem.value.line(head, row).0;
                    continue;
                } else if self.wide.paired() {
                    problem.value.copy([head, row], width, line);
                } else {
                    problem.value.read([head, row, 0], &mut line[..width]);
                }
                *from = line.as_ptr().cast();
            }
            for column in (0..columns).step_by(PANEL) {
                let at = column * (KEYS / each) + key / each * PANEL;
                let to = &mut self.values[at..at + PANEL];
                let skip = column * size_of::<f32>() / each;
                let [even, odd] = from.map(|line| line.wrapping_add(skip));
                // SAFETY: the lines have so many columns, in whole panels; the kernels are those of this CPU.
                unsafe {
                    if self.wide.paired() {
                        pair(even, odd, to.as_mut_ptr());
                    } else {
                        (self.wide.kernels.copy)(even, to.as_mut_ptr());
                    }
                }
            }
        }
    }

    /// A tile of rows over a block of keys.
    fn tile(&mut self, rows: Range<usize>, [first, keys]: [usize; 2]) {
        let problem = self.problem;
        let own = self.rows.start + rows.start..self.rows.start + rows.end;
        let keys = keys.min(problem.visible(own.clone()).saturating_sub(first));
        if keys == 0 {
            return;
        }
        let (words, columns, each) = (self.wide.words, self.wide.columns, self.wide.each);
        let queries = self.own_queries().unwrap_or(Factor {
            start: self.queries.as_ptr(),
            step: words,
            inner: 1,
        });
        let product = Product {
            rows: rows.len(),
            depth: problem.sizes.width.div_ceil(each),
            registers: keys.div_ceil(LANES),
            left: Factor {
                start: queries.start.wrapping_add(rows.start * queries.step),
                ..queries
            },
            right: Factor {
                start: self.keys.as_ptr(),
                step: words * PANEL,
                inner: PANEL,
            },
            to: self.scores.as_mut_ptr(),
            to_step: KEYS,
            finish: Finish::Scaled(problem.scale as f32),
        };
        // SAFETY: the kernels are those of this CPU; queries and panels have so many words, and a tile's scores have their room.
        unsafe { (self.wide.kernels.product)(&product) };
        let mut factors = [1.0; TILE];
        for ((index, row), factor) in own.clone().enumerate().zip(&mut factors) {
            *factor = self.weigh([index, rows.start + index], row, [first, keys]);
            if self.once {
                *factor = inverse(self.sum(rows.start + index));
            }
        }
        let weights = if self.wide.paired() {
            self.weights.as_ptr()
        } else {
            self.scores.as_ptr()
        };
        let (start, step, begin) = match self.to.filter(|_| self.once) {
            Some((start, step)) => (start, step, own.start),
            None => (self.results.as_mut_ptr(), columns, rows.start),
        };
        let product = Product {
            rows: rows.len(),
            depth: keys.div_ceil(each),
            registers: problem.sizes.value_width.div_ceil(LANES),
            left: Factor {
                start: weights,
                step: KEYS / each,
                inner: 1,
            },
            right: self.own_values(first).unwrap_or(Factor {
                start: self.values.as_ptr(),
                step: KEYS / each * PANEL,
                inner: PANEL,
            }),
            to: start.wrapping_add(begin * step),
            to_step: step,
            finish: if self.once {
                Finish::Rows(factors.as_ptr())
            } else {
                Finish::Onto(factors.as_ptr())
            },
        };
        // SAFETY: as above; results are whole panels, or rows of whole registers that are this task's.
        unsafe { (self.wide.kernels.product)(&product) };
    }

    /// A row of scores becomes weights: what its earlier results shrink by.
    fn weigh(&mut self, [line, index]: [usize; 2], row: usize, [first, keys]: [usize; 2]) -> f32 {
        let problem = self.problem;
        let (head, row) = problem.place(self.head, row);
        let scores = &mut self.scores[line * KEYS..(line + 1) * KEYS];
        let seen = seen(problem, [head, row, first], &mut scores[..keys]);
        let weights = if self.wide.paired() {
            &mut self.weights[line * KEYS / 2..(line + 1) * KEYS / 2]
        } else {
            &mut *scores
        };
        let weights = weights.as_mut_ptr();
        let line = Line {
            scores: scores.as_mut_ptr(),
            weights,
            seen,
            until: keys,
            top: &mut self.tops[index],
            sums: self.sums[index * LANES..(index + 1) * LANES].as_mut_ptr(),
        };
        // SAFETY: the kernels are those of this CPU; a line has room for a block of keys.
        unsafe { (self.wide.kernels.weigh)(line) }
    }

    /// The sum of a row's exponentials.
    fn sum(&self, index: usize) -> f32 {
        let sums = self.sums[index * LANES..(index + 1) * LANES].as_ptr();
        // SAFETY: the kernels are those of this CPU.
        unsafe { (self.wide.kernels.total)(sums) }
    }

    /// Results over sums, unless that has been done, and the logarithms.
    #[inline(always)]
    fn store(&mut self, outputs: &Outputs<'_>) {
        let columns = self.wide.columns;
        for (index, row) in self.rows.clone().enumerate() {
            let (place, sum) = (self.problem.place(self.head, row), self.sum(index));
            let line = &mut self.results[index * columns..(index + 1) * columns];
            let sums = [self.tops[index], sum];
            if !self.once {
                outputs.write_sums(place, line, sums);
                continue;
            }
            if self.to.is_none() {
                outputs.write(place, line);
            }
            outputs.write_log(place, sums);
        }
    }
}
