//! Products against sums in double precision, for every instruction set, layout and way that a product can go.

use std::sync::{Mutex, PoisonError};

use half::{bf16, f16};

use super::*;
use crate::cpu::number::Number;
use crate::cpu::simd::{Simd, SimdLevel};
use crate::dtype::Element;

const LEVELS: [SimdLevel; 4] = [
    SimdLevel::Off,
    SimdLevel::Neon,
    SimdLevel::Avx2,
    SimdLevel::Avx512,
];

/// Held by tests that choose instruction sets, and by those whose bits depend on the set.
static CHOICE: Mutex<()> = Mutex::new(());

/// Whole numbers in -4..=4, whose products and sums are exact in every dtype here but for the last rounding.
fn numbers<E: Element>(count: usize, seed: usize, make: impl Fn(f64) -> E) -> Vec<E> {
    (0..count)
        .map(|index| make((((index + seed) * 7919 + index / 13) % 9) as f64 - 4.0))
        .collect()
}

fn host<E: Element>(values: &[E], layout: Layout) -> Option<Host<'_>> {
    let all = Host::from_slice(values, &Shape::from([values.len()]))?;
    Some(all.with_layout(layout))
}

/// `2 (x y) + 3 start` for a batch of matrices that lie as the flags say.
fn check<E: Element, F: Sums>(
    [rows, inner, columns]: [usize; 3],
    flip: [bool; 2],
    make: impl Fn(f64) -> E,
    read: impl Fn(E) -> f64,
) {
    const BATCH: usize = 2;
    let matrix = |rows: usize, columns: usize, flip: bool| {
        if flip {
            Layout::contiguous([BATCH, columns, rows]).transpose(1, 2)
        } else {
            Layout::contiguous([BATCH, rows, columns])
        }
    };
    let (a, b) = (
        matrix(rows, inner, flip[0]),
        matrix(inner, columns, flip[1]),
    );
    let x = numbers(a.elements(), 1, &make);
    let y = numbers(b.elements(), 5, &make);
    let shape = Shape::from([BATCH, rows, columns]);
    let start = numbers(shape.elements(), 3, &make);
    let mut z = vec![make(99.0); shape.elements()];
    let (Some(left), Some(right), Some(more)) =
        (host(&x, a), host(&y, b), Host::from_slice(&start, &shape))
    else {
        panic!("too few values");
    };
    let mut out = HostMut::from_slice(&mut z, &shape).expect("enough room");
    let factors = (F::from_f64(2.0), Some((&more, F::from_f64(3.0))));
    products::<F>("test", &left, &right, &mut out, factors.0, factors.1).expect("memory");
    for (index, got) in z.iter().enumerate() {
        let (batch, row, column) = (
            index / (rows * columns),
            index / columns % rows,
            index % columns,
        );
        let at = |layout: &Layout, row: usize, column: usize| {
            let strides = layout.strides();
            batch * strides[0] + row * strides[1] + column * strides[2]
        };
        let sum: f64 = (0..inner)
            .map(|depth| read(x[at(&a, row, depth)]) * read(y[at(&b, depth, column)]))
            .sum();
        let wanted = make(2.0 * sum + 3.0 * read(start[index]));
        assert_eq!(
            read(*got),
            read(wanted),
            "{rows}x{inner}x{columns} {flip:?}"
        );
    }
}

#[test]
fn products_are_exact_where_numbers_are() {
    let _alone = CHOICE.lock().unwrap_or_else(PoisonError::into_inner);
    let sizes = [
        [1, 1, 1],
        [3, 5, 7],
        [1, 700, 70],
        [70, 37, 1],
        [15, 64, 47],
        [33, 129, 96],
        [30, 600, 33],
        [16, 1100, 70],
        [16, 1100, 64],
        [5, 0, 4],
    ];
    for level in LEVELS {
        if Simd::choose(level).is_none() {
            continue;
        }
        for size in sizes {
            for flip in [[false, false], [true, false], [false, true], [true, true]] {
                check::<f32, f32>(size, flip, |x| x as f32, f64::from);
                check::<f64, f64>(size, flip, |x| x, |x| x);
                check::<bf16, f32>(size, flip, bf16::from_f64, bf16::to_f64);
                check::<f16, f32>(size, flip, f16::from_f64, f16::to_f64);
            }
        }
    }
    Simd::choose(SimdLevel::detect());
}

/// All bytes, the least and the greatest among them, from a generator of its own.
fn byte_values(count: usize, mut seed: u32) -> Vec<i8> {
    let mut next = || {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        match seed >> 28 {
            0..3 => i8::MIN,
            3..6 => i8::MAX,
            _ => (seed >> 20) as u8 as i8,
        }
    };
    (0..count).map(|_| next()).collect()
}

#[test]
fn products_of_bytes_are_exact_with_every_instruction_set() {
    let _alone = CHOICE.lock().unwrap_or_else(PoisonError::into_inner);
    let sizes = [
        [1, 1, 1],
        [3, 5, 7],
        [1, 700, 70],
        [70, 37, 1],
        [15, 64, 47],
        [33, 131, 96],
        [14, 3003, 9],
        [140, 8, 34],
        [5, 0, 4],
    ];
    let mut seen = 0;
    for level in LEVELS {
        if Simd::choose(level).is_none() {
            continue;
        }
        seen += 1;
        for [rows, inner, columns] in sizes {
            for (flip, batch) in [(0, 1), (1, 2), (2, 3), (3, 1)] {
                let matrix = |rows: usize, columns: usize, flip: bool| {
                    if flip {
                        Layout::contiguous([batch, columns, rows]).transpose(1, 2)
                    } else {
                        Layout::contiguous([batch, rows, columns])
                    }
                };
                let a = matrix(rows, inner, flip & 1 == 1);
                let b = matrix(inner, columns, flip & 2 == 2);
                let x = byte_values(a.elements(), 1);
                let y = byte_values(b.elements(), 2);
                let (Some(left), Some(right)) = (host(&x, a), host(&y, b)) else {
                    panic!("too few values");
                };
                let shape = Shape::from([batch, rows, columns]);
                let mut z = vec![7i32; shape.elements()];
                let mut out = HostMut::from_slice(&mut z, &shape).expect("enough room");
                bytes::products("test", &left, &right, &mut out).expect("memory");
                for (index, got) in z.iter().enumerate() {
                    let place = (
                        index / (rows * columns),
                        index / columns % rows,
                        index % columns,
                    );
                    let at = |layout: &Layout, row: usize, column: usize| {
                        let strides = layout.strides();
                        place.0 * strides[0] + row * strides[1] + column * strides[2]
                    };
                    let pair = |depth| {
                        let (x, y) = (x[at(&a, place.1, depth)], y[at(&b, depth, place.2)]);
                        i32::from(x) * i32::from(y)
                    };
                    let want: i32 = (0..inner).map(pair).sum();
                    assert_eq!(
                        *got, want,
                        "{level} {rows}x{inner}x{columns} {flip} {place:?}"
                    );
                }
            }
        }
    }
    assert!(seen > 0);
    Simd::choose(SimdLevel::detect());
}

#[test]
fn every_number_of_threads_gives_the_same_bits() {
    let _alone = CHOICE.lock().unwrap_or_else(PoisonError::into_inner);
    same_bits([70, 1500, 130], false);
    // As many rows as make threads share the turned right factor; and none left over for the last of them.
    same_bits([700, 1100, 70], true);
    same_bits([449, 600, 33], true);
    // Rows 4096 bytes apart, which have to be packed.
    same_bits([700, 1024, 70], true);
}

/// One product on one to four threads, whose right factor may lie turned.
fn same_bits([rows, inner, columns]: [usize; 3], turned: bool) {
    let x: Vec<f32> = (0..rows * inner).map(|i| (i as f32 * 0.37).sin()).collect();
    let y: Vec<f32> = (0..inner * columns)
        .map(|i| (i as f32 * 0.53).cos())
        .collect();
    let sizes = Sizes {
        rows,
        inner,
        columns,
    };
    let shapes = [Shape::from([rows, inner]), Shape::from([inner, columns])];
    let (Some(left), Some(right)) = (
        Host::from_slice(&x, &shapes[0]),
        Host::from_slice(&y, &shapes[1]),
    ) else {
        panic!("too few values");
    };
    let product = |threads: usize| {
        let mut z = vec![0f32; rows * columns];
        let target = Target {
            to: z.as_mut_ptr().cast(),
            dtype: DType::F32,
            row: columns,
            column: 1,
            scale: f32::ONE,
            from: std::ptr::null(),
            from_row: 0,
            from_column: 1,
        };
        let left = Matrix::new(&left, 0, (inner, 1), inner);
        let steps = if turned { (inner, 1) } else { (1, columns) };
        let right = Matrix::new(&right, 0, steps, inner);
        // SAFETY: the matrices and the target have these sizes.
        unsafe { multiply("test", sizes, left, right, target, threads) }.expect("memory");
        z.into_iter().map(f32::to_bits).collect::<Vec<u32>>()
    };
    let one = product(1);
    assert!((2..5).all(|threads| product(threads) == one));
}
