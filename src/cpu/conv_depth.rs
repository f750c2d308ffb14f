//! Convolutions in `f32` of one channel by three by three taps each, on AVX-512: planes as they are, their edges by masks.
//!
//! Knows planes and the rows of sums that a row of the source is added to. Must not know batches or shape rules.

use std::arch::x86_64::*;

use super::conv::Geometry;
use super::dense::Start;
use super::par;
use super::simd::{Level, level};

/// Rows and columns of taps.
const TAPS: usize = 3;
/// Numbers of a register.
const LANES: usize = 16;
/// The most registers of a strip.
const LONG: usize = 4;
/// Narrower planes leave most of a register idle.
const NARROWEST: usize = 12;
/// Numbers of the target that are worth a task.
const GRAIN: usize = 16 * 1024;

/// Planes that are convolved each by nine numbers of their own.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Depthwise {
    /// Rows and columns of the planes that are read, and of those that are written.
    source: [usize; 2],
    target: [usize; 2],
    /// Rows and columns of zeros before a source.
    padding: [usize; 2],
    /// Kernels, and how many of them in a row read the same plane.
    kernels: usize,
    shared: usize,
    /// Whether the taps come in reverse.
    reverse: bool,
}

impl Depthwise {
    /// None if the geometry is another, or this CPU has not the registers.
    pub fn forward(of: &Geometry) -> Option<Self> {
        Depthwise::fitting(of)?;
        Depthwise {
            source: [of.input[1], of.input[2]],
            target: [of.output[1], of.output[2]],
            padding: [of.padding[1], of.padding[2]],
            kernels: of.groups * of.outputs,
            shared: of.outputs,
            reverse: false,
        }
        .wide()
    }

    /// The way back to the input.
    pub fn backward(of: &Geometry) -> Option<Self> {
        Depthwise::fitting(of).filter(|_| of.outputs == 1)?;
        Depthwise {
            source: [of.output[1], of.output[2]],
            target: [of.input[1], of.input[2]],
            padding: [TAPS - 1 - of.padding[1], TAPS - 1 - of.padding[2]],
            kernels: of.groups,
            shared: 1,
            reverse: true,
        }
        .wide()
    }

    fn fitting(of: &Geometry) -> Option<()> {
        (level() >= Level::Avx512
            && of.inputs == 1
            && of.outputs > 0
            && of.kernel == [1, TAPS, TAPS]
            && of.stride == [1; 3]
            && of.dilation == [1; 3]
            && of.padding[0] == 0
            && of.padding[1..].iter().all(|padding| *padding < TAPS)
            && of.input[0] == 1
            && of.output[0] == 1
            && [1, 2].iter().all(|axis: &usize| {
                of.output[*axis] + TAPS - 1 == of.input[*axis] + 2 * of.padding[*axis]
            }))
        .then_some(())
    }

    fn wide(self) -> Option<Self> {
        let planes = [self.source, self.target];
        let rows = planes.iter().all(|plane| plane[0] > 0);
        (rows && planes.iter().all(|plane| plane[1] >= NARROWEST)).then_some(self)
    }

    /// All planes of `y`.
    pub fn run(self, x: &[f32], w: &[f32], bias: Option<&[f32]>, y: &mut [f32]) {
        let (source, target) = (
            self.source.iter().product::<usize>(),
            self.target.iter().product::<usize>(),
        );
        let (planes, to) = (y.len() / target, Start::of(y));
        par::ranges(planes, GRAIN.div_ceil(target), |range| {
            for plane in range {
                let kernel = plane % self.kernels;
                let mut taps = [0.0; TAPS * TAPS];
                let own = &w[kernel * TAPS * TAPS..(kernel + 1) * TAPS * TAPS];
                taps.copy_from_slice(own);
                if self.reverse {
                    taps.reverse();
                }
                let from = &x[plane / self.shared * source..][..source];
                // SAFETY: the plane is this task's alone.
                let to = unsafe { to.range(plane * target, target) };
                let bias = bias.map_or(0.0, |bias| bias[kernel]);
                let registers = self.target[1].div_ceil(LANES);
                let strips = registers.div_ceil(LONG);
                for strip in 0..strips {
                    let (first, end) =
                        (registers * strip / strips, registers * (strip + 1) / strips);
                    let at = first * LANES;
                    // SAFETY: the level says that there are the registers; both planes have the sizes that they are taken for.
                    unsafe {
                        match end - first {
                            1 => self.strip::<1>(from, &taps, bias, to, at),
                            2 => self.strip::<2>(from, &taps, bias, to, at),
                            3 => self.strip::<3>(from, &taps, bias, to, at),
                            _ => self.strip::<LONG>(from, &taps, bias, to, at),
                        }
                    }
                }
            }
        });
    }

    /// The lanes of a register whose columns, `before` less than those from `first` on, are among `columns`.
    fn lanes(first: usize, before: usize, columns: usize) -> __mmask16 {
        let up_to = |column: usize| (1u32 << column.saturating_sub(first).min(LANES)) - 1;
        (up_to(before + columns) & !up_to(before)) as __mmask16
    }

    /// The columns from `first` on, `C` registers of them: each row of the source is added to the three rows that it is part of.
    ///
    /// # Safety
    /// The CPU must have AVX-512, and the planes their sizes.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    #[allow(
        clippy::needless_range_loop,
        reason = "indices of several arrays at once, which must unroll"
    )]
    unsafe fn strip<const C: usize>(
        self,
        x: &[f32],
        taps: &[f32; TAPS * TAPS],
        bias: f32,
        y: &mut [f32],
        first: usize,
    ) {
        let ([high, wide], [rows, columns]) = (self.source, self.target);
        let [above, before] = self.padding;
        let mut factors = [_mm512_setzero_ps(); TAPS * TAPS];
        for (factor, tap) in factors.iter_mut().zip(taps) {
            *factor = _mm512_set1_ps(*tap);
        }
        let (mut read, mut written) = ([[0; TAPS]; C], [0; C]);
        for c in 0..C {
            let at = first + c * LANES;
            written[c] = Self::lanes(at, 0, columns);
            for tap in 0..TAPS {
                read[c][tap] = Self::lanes(at + tap, before, wide);
            }
        }
        let bias = _mm512_set1_ps(bias);
        // The sums of the rows that the source's row is the last, the middle and the first part of.
        let mut last = [bias; C];
        let mut middle = [bias; C];
        let (source, target) = (x.as_ptr(), y.as_mut_ptr());
        let store = |row: usize, sums: &[__m512; C]| {
            // What is above the first row, or below the last.
            let Some(row) = (row + above)
                .checked_sub(TAPS - 1)
                .filter(|row| *row < rows)
            else {
                return;
            };
            for c in 0..C {
                let to = target.wrapping_add(row * columns + first + c * LANES);
                // SAFETY: the row is there, and the mask's lanes are its columns.
                unsafe { _mm512_mask_storeu_ps(to, written[c], sums[c]) };
            }
        };
        for row in 0..high {
            let line = source.wrapping_add(row * wide + first).wrapping_sub(before);
            let mut fresh = [bias; C];
            for c in 0..C {
                for tap in 0..TAPS {
                    let from = line.wrapping_add(c * LANES + tap);
                    // SAFETY: the mask's lanes are columns of the row.
                    let x = unsafe { _mm512_maskz_loadu_ps(read[c][tap], from) };
                    last[c] = _mm512_fmadd_ps(factors[2 * TAPS + tap], x, last[c]);
                    middle[c] = _mm512_fmadd_ps(factors[TAPS + tap], x, middle[c]);
                    fresh[c] = _mm512_fmadd_ps(factors[tap], x, fresh[c]);
                }
            }
            store(row, &last);
            (last, middle) = (middle, fresh);
        }
        store(high, &last);
        store(high + 1, &middle);
    }
}
