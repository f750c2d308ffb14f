//! The forward pass of a few rows on AVX-512: each key and value is read once, straight from memory, sixteen keys at a time.
//!
//! Knows how lines of numbers are widened, and how the sums of sixteen keys fold into a register. Must not know what a gradient
//! needs. Lines are one, two or four times [`SPAN`] numbers wide; others go by blocks.

use std::arch::x86_64::*;
use std::ops::Range;

use super::avx512::SINGLES;
use super::forward::{FEW, Outputs};
use super::kernels::{KEYS, LANES, Line};
use super::{KEYS as SHORT, Mask, Operand, Problem};
use crate::cpu::simd::{Level, level};
use crate::dtype::DType;

/// Numbers of a line that are widened together: two registers.
const SPAN: usize = 2 * LANES;
/// The widest line.
const WIDEST: usize = 4 * SPAN;

/// Lines in memory, `step` bytes apart.
#[derive(Debug, Clone, Copy)]
struct Lines {
    start: *const u8,
    step: usize,
    count: usize,
}

/// A row's scores of lines of keys, in whole registers; those past the last key are of no use.
type Score = unsafe fn(query: *const f32, keys: Lines, scores: *mut f32);
/// A row's results, times a factor, and lines of values by weights added.
type Gather = unsafe fn(weights: *const f32, values: Lines, results: *mut f32, factor: f32);

/// How lines of a dtype and a width are taken.
#[derive(Debug, Clone, Copy)]
struct Taken {
    score: Score,
    gather: Gather,
    /// Whether even and odd numbers of a span come in registers of their own.
    split: bool,
}

/// How a few rows are computed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stream {
    keys: Taken,
    values: Taken,
}

impl Stream {
    /// None if this CPU has not the registers, or lines are of no fitting width.
    pub fn of(problem: &Problem<'_>, rows: usize) -> Option<Self> {
        if level() < Level::Avx512 || rows > FEW {
            return None;
        }
        Some(Stream {
            keys: taken(&problem.key, problem.sizes.width)?,
            values: taken(&problem.value, problem.sizes.value_width)?,
        })
    }

    /// The results of the rows of a long head.
    pub fn run(
        self,
        problem: &Problem<'_>,
        (head, rows): (usize, Range<usize>),
        outputs: &Outputs<'_>,
    ) {
        let (width, value_width) = (problem.sizes.width, problem.sizes.value_width);
        let mut queries = [[0.0; WIDEST]; FEW];
        let mut results = [[0.0; WIDEST]; FEW];
        let (mut tops, mut sums) = ([f32::NEG_INFINITY; FEW], [[0.0; LANES]; FEW]);
        let mut scores = [[0.0; KEYS]; FEW];
        let mut line = [0.0; WIDEST];
        for (query, row) in queries.iter_mut().zip(rows.clone()) {
            let (head, row) = problem.place(head, row);
            problem.query.read([head, row, 0], &mut line[..width]);
            for (column, x) in line[..width].iter().enumerate() {
                query[self.keys.column(column)] = x * problem.scale as f32;
            }
        }
        let (shared, _) = problem.place(head, rows.start);
        let visible = problem.visible(rows.clone());
        for first in (0..visible).step_by(KEYS) {
            let count = KEYS.min(visible - first);
            let lines = |operand: &Operand<'_>, from: usize, count: usize| {
                let (start, step) = operand.line(shared, first + from);
                Lines { start, step, count }
            };
            for key in (0..count).step_by(LANES) {
                let keys = lines(&problem.key, key, LANES.min(count - key));
                for (query, scores) in queries.iter().zip(&mut scores).take(rows.len()) {
                    let scores = scores[key..key + LANES].as_mut_ptr();
                    // SAFETY: the level says that there are the registers; the lines are those of the layout, of the width and
                    // dtype that the function is for.
                    unsafe { (self.keys.score)(query.as_ptr(), keys, scores) };
                }
            }
            let values = lines(&problem.value, 0, count);
            for (index, row) in rows.clone().enumerate() {
                let (head, row) = problem.place(head, row);
                let scores = &mut scores[index];
                let line = Line {
                    seen: seen(problem, [head, row, first], &mut scores[..count]),
                    scores: scores.as_mut_ptr(),
                    weights: scores.as_mut_ptr(),
                    until: count,
                    top: &mut tops[index],
                    sums: sums[index].as_mut_ptr(),
                };
                // SAFETY: as above; there is room for a block of keys.
                unsafe {
                    let factor = (SINGLES.weigh)(line);
                    let results = results[index].as_mut_ptr();
                    (self.values.gather)(scores.as_ptr(), values, results, factor);
                }
            }
        }
        for (index, row) in rows.enumerate() {
            for (column, x) in line[..value_width].iter_mut().enumerate() {
                *x = results[index][self.values.column(column)];
            }
            // SAFETY: the level says that there are the registers.
            let sum = unsafe { (SINGLES.total)(sums[index].as_ptr()) };
            outputs.write_sums(problem.place(head, row), &mut line, [tops[index], sum]);
        }
    }
}

impl Taken {
    /// Where a number of a line stands in registers.
    fn column(self, column: usize) -> usize {
        if self.split {
            column / SPAN * SPAN + column % 2 * LANES + column % SPAN / 2
        } else {
            column
        }
    }
}

/// How the lines of an operand are taken, if they lie in a row.
fn taken(operand: &Operand<'_>, width: usize) -> Option<Taken> {
    macro_rules! by_width {
        ($numbers:ty) => {
            match width / SPAN {
                1 => Taken::new::<$numbers, 1>(),
                2 => Taken::new::<$numbers, 2>(),
                _ => Taken::new::<$numbers, 4>(),
            }
        };
    }
    if operand.column != 1 || ![SPAN, 2 * SPAN, 4 * SPAN].contains(&width) {
        return None;
    }
    match operand.view.dtype() {
        DType::F32 => Some(by_width!(Singles)),
        DType::F16 => Some(by_width!(Halves)),
        DType::BF16 => Some(by_width!(Brains)),
        _ => None,
    }
}

/// How many keys from `first` on a row sees, once the others' scores are masked.
pub(super) fn seen(
    problem: &Problem<'_>,
    [head, row, first]: [usize; 3],
    scores: &mut [f32],
) -> usize {
    match problem.mask {
        Mask::None => scores.len(),
        Mask::Causal => (row + 1).saturating_sub(first).min(scores.len()),
        Mask::Seen(_) | Mask::Added(_) => {
            for (part, scores) in scores.chunks_mut(SHORT).enumerate() {
                problem.hide(head, row, first + part * SHORT, scores);
            }
            scores.len()
        }
    }
}

/// Numbers in memory.
trait Numbers {
    const SIZE: usize;
    const SPLIT: bool;
    /// A span of them in two registers.
    ///
    /// # Safety
    /// The CPU must have AVX-512, and the numbers must be readable.
    unsafe fn span(from: *const u8) -> [__m512; 2];
}

struct Singles;
struct Halves;
struct Brains;

impl Numbers for Singles {
    const SIZE: usize = 4;
    const SPLIT: bool = false;

    #[inline(always)]
    unsafe fn span(from: *const u8) -> [__m512; 2] {
        let high = from.wrapping_add(LANES * Self::SIZE);
        // SAFETY: promised by the caller.
        unsafe { [_mm512_loadu_ps(from.cast()), _mm512_loadu_ps(high.cast())] }
    }
}

impl Numbers for Halves {
    const SIZE: usize = 2;
    const SPLIT: bool = false;

    #[inline(always)]
    unsafe fn span(from: *const u8) -> [__m512; 2] {
        // SAFETY: promised by the caller.
        unsafe {
            let low = _mm256_loadu_si256(from.cast());
            let high = _mm256_loadu_si256(from.add(LANES * Self::SIZE).cast());
            [_mm512_cvtph_ps(low), _mm512_cvtph_ps(high)]
        }
    }
}

impl Numbers for Brains {
    const SIZE: usize = 2;
    const SPLIT: bool = true;

    #[inline(always)]
    unsafe fn span(from: *const u8) -> [__m512; 2] {
        // SAFETY: promised by the caller.
        unsafe {
            let pairs = _mm512_loadu_si512(from.cast());
            let odd = _mm512_and_si512(pairs, _mm512_set1_epi32(0xffff_0000_u32.cast_signed()));
            [
                _mm512_castsi512_ps(_mm512_slli_epi32::<16>(pairs)),
                _mm512_castsi512_ps(odd),
            ]
        }
    }
}

impl Taken {
    fn new<N: Numbers, const SPANS: usize>() -> Self {
        Taken {
            score: score::<N, SPANS>,
            gather: gather::<N, SPANS>,
            split: N::SPLIT,
        }
    }
}

/// # Safety
/// The CPU must have AVX-512; lines, query and scores must be there, at most [`LANES`] of the former.
#[target_feature(enable = "avx512f,avx512dq")]
unsafe fn score<N: Numbers, const SPANS: usize>(query: *const f32, keys: Lines, to: *mut f32) {
    // SAFETY: promised by the caller.
    unsafe {
        let mut factors = [[_mm512_setzero_ps(); 2]; SPANS];
        for (span, factors) in factors.iter_mut().enumerate() {
            *factors = Singles::span(query.add(span * SPAN).cast());
        }
        let mut sums = [_mm512_setzero_ps(); LANES];
        for (index, sum) in sums.iter_mut().enumerate() {
            // The last line once more where there are fewer.
            let line = index.min(keys.count - 1) * keys.step;
            let line = keys.start.wrapping_add(line);
            let mut parts = [_mm512_setzero_ps(); 2];
            for (span, factors) in factors.iter().enumerate() {
                let [low, high] = N::span(line.wrapping_add(span * SPAN * N::SIZE));
                parts[0] = _mm512_fmadd_ps(low, factors[0], parts[0]);
                parts[1] = _mm512_fmadd_ps(high, factors[1], parts[1]);
            }
            *sum = _mm512_add_ps(parts[0], parts[1]);
        }
        _mm512_storeu_ps(to, folded(sums));
    }
}

/// The sums of the lanes of sixteen registers, in order: halves of two registers meet, then quarters, pairs and single lanes.
#[inline]
#[target_feature(enable = "avx512f")]
fn folded(sums: [__m512; LANES]) -> __m512 {
    let mut eight = [_mm512_setzero_ps(); 8];
    for (index, to) in eight.iter_mut().enumerate() {
        let (a, b) = (sums[index], sums[index + 8]);
        *to = _mm512_add_ps(
            _mm512_shuffle_f32x4::<0x44>(a, b),
            _mm512_shuffle_f32x4::<0xee>(a, b),
        );
    }
    let mut four = [_mm512_setzero_ps(); 4];
    for (index, to) in four.iter_mut().enumerate() {
        let (a, b) = (eight[index], eight[index + 4]);
        *to = _mm512_add_ps(
            _mm512_shuffle_f32x4::<0x88>(a, b),
            _mm512_shuffle_f32x4::<0xdd>(a, b),
        );
    }
    let mut two = [_mm512_setzero_ps(); 2];
    for (index, to) in two.iter_mut().enumerate() {
        let (a, b) = (four[index], four[index + 2]);
        *to = _mm512_add_ps(
            _mm512_shuffle_ps::<0x44>(a, b),
            _mm512_shuffle_ps::<0xee>(a, b),
        );
    }
    let one = _mm512_add_ps(
        _mm512_shuffle_ps::<0x88>(two[0], two[1]),
        _mm512_shuffle_ps::<0xdd>(two[0], two[1]),
    );
    let order = _mm512_setr_epi32(0, 2, 1, 3, 8, 10, 9, 11, 4, 6, 5, 7, 12, 14, 13, 15);
    _mm512_permutexvar_ps(order, one)
}

/// # Safety
/// The CPU must have AVX-512; lines, weights and results must be there.
#[target_feature(enable = "avx512f,avx512dq")]
unsafe fn gather<N: Numbers, const SPANS: usize>(
    weights: *const f32,
    values: Lines,
    results: *mut f32,
    factor: f32,
) {
    // SAFETY: promised by the caller.
    unsafe {
        // Even and odd lines have sums of their own, for each addition waits for the last one.
        let mut sums = [[[_mm512_setzero_ps(); 2]; SPANS]; 2];
        let factor = _mm512_set1_ps(factor);
        for (span, sums) in sums[0].iter_mut().enumerate() {
            let [low, high] = Singles::span(results.add(span * SPAN).cast());
            *sums = [_mm512_mul_ps(low, factor), _mm512_mul_ps(high, factor)];
        }
        let add = |index: usize, sums: &mut [[__m512; 2]; SPANS]| {
            let weight = _mm512_set1_ps(*weights.add(index));
            let line = values.start.wrapping_add(index * values.step);
            for (span, sums) in sums.iter_mut().enumerate() {
                let [low, high] = N::span(line.wrapping_add(span * SPAN * N::SIZE));
                sums[0] = _mm512_fmadd_ps(weight, low, sums[0]);
                sums[1] = _mm512_fmadd_ps(weight, high, sums[1]);
            }
        };
        for two in 0..values.count / 2 {
            add(2 * two, &mut sums[0]);
            add(2 * two + 1, &mut sums[1]);
        }
        if values.count % 2 == 1 {
            add(values.count - 1, &mut sums[0]);
        }
        let [even, odd] = sums;
        for (span, (even, odd)) in even.iter().zip(&odd).enumerate() {
            for (half, (even, odd)) in even.iter().zip(odd).enumerate() {
                let to = results.add(span * SPAN + half * LANES);
                _mm512_storeu_ps(to, _mm512_add_ps(*even, *odd));
            }
        }
    }
}
