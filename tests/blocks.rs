//! Attention, convolutions, folds and products of sizes that fill blocks and leave edges, against their formulas.

use std::sync::{PoisonError, RwLock};

use ascend_tensor::ops::attention::AttentionOptions;
use ascend_tensor::{
    BackwardOptions, Conv2dOptions, CpuOptions, DType, Generator, RandomOptions, Result, SimdLevel,
    Tensor,
};

/// Written by the test that chooses instruction sets, read by those that must not see it change.
static CHOICE: RwLock<()> = RwLock::new(());

/// Runs a check with every instruction set that this CPU has.
fn with_each_set(check: impl Fn() -> Result<()>) -> Result<()> {
    let _alone = CHOICE.write().unwrap_or_else(PoisonError::into_inner);
    let levels = [
        SimdLevel::Off,
        SimdLevel::Neon,
        SimdLevel::Avx2,
        SimdLevel::Avx512,
    ];
    for level in levels.into_iter().filter(|level| level.is_available()) {
        CpuOptions::new().simd(level).apply()?;
        check()?;
    }
    CpuOptions::new().simd(SimdLevel::detect()).apply()
}

fn numbers(shape: &[usize], seed: u64, dtype: DType) -> Result<Tensor> {
    let generator = Generator::new(seed);
    Tensor::randn(shape, RandomOptions::new().generator(&generator))?.to_dtype(dtype)
}

fn values(x: &Tensor) -> Result<Vec<f64>> {
    x.to_dtype(DType::F64)?.to_vec()
}

/// Heads that share a key head, rows, keys, and widths of keys and values.
#[derive(Debug, Clone, Copy)]
struct Sizes {
    group: usize,
    rows: usize,
    keys: usize,
    width: usize,
    value_width: usize,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Mask {
    None,
    Causal,
    Seen,
}

const KEY_HEADS: usize = 2;

impl Sizes {
    fn sees(self, mask: Mask, row: usize, key: usize) -> bool {
        match mask {
            Mask::None => true,
            Mask::Causal => key <= row,
            Mask::Seen => !(row * 7 + key * 5).is_multiple_of(3) && row % 11 != 4,
        }
    }

    /// The formula: results, and gradients of their sum times `dy`.
    fn formula(self, mask: Mask, [q, k, v, dy]: [&[f64]; 4]) -> [Vec<f64>; 4] {
        let heads = KEY_HEADS * self.group;
        let (e, f) = (self.width, self.value_width);
        let scale = 1.0 / (e as f64).sqrt();
        let mut y = vec![0.0; heads * self.rows * f];
        let (mut dq, mut dk, mut dv) = (vec![0.0; q.len()], vec![0.0; k.len()], vec![0.0; v.len()]);
        for at in 0..heads * self.rows {
            let (head, row) = (at / self.rows, at % self.rows);
            let line = |key: usize| head / self.group * self.keys + key;
            let seen: Vec<usize> = (0..self.keys)
                .filter(|key| self.sees(mask, row, *key))
                .collect();
            let dot = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| x * y).sum::<f64>();
            let of = |x: &[f64], at: usize, width: usize| x[at * width..(at + 1) * width].to_vec();
            let (query, slope) = (of(q, at, e), of(dy, at, f));
            let scores: Vec<f64> = seen
                .iter()
                .map(|key| scale * dot(&query, &of(k, line(*key), e)))
                .collect();
            let top = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let whole: f64 = scores.iter().map(|score| (score - top).exp()).sum();
            let weights = scores.iter().map(|score| (score - top).exp() / whole);
            let weights: Vec<f64> = weights.collect();
            let slopes: Vec<f64> = seen
                .iter()
                .map(|key| dot(&slope, &of(v, line(*key), f)))
                .collect();
            let delta = dot(&weights, &slopes);
            for ((key, weight), own) in seen.iter().zip(&weights).zip(&slopes) {
                let key = line(*key);
                let ds = scale * weight * (own - delta);
                for column in 0..f {
                    y[at * f + column] += weight * v[key * f + column];
                    dv[key * f + column] += weight * dy[at * f + column];
                }
                for column in 0..e {
                    dq[at * e + column] += ds * k[key * e + column];
                    dk[key * e + column] += ds * q[at * e + column];
                }
            }
        }
        [y, dq, dk, dv]
    }

    fn check(self, mask: Mask, dtype: DType, gradients: bool) -> Result<()> {
        self.check_as(mask, dtype, gradients, Lie::Dense)
    }

    fn check_as(self, mask: Mask, dtype: DType, gradients: bool, lie: Lie) -> Result<()> {
        let heads = KEY_HEADS * self.group;
        let q = numbers(&[heads, self.rows, self.width], 1, dtype)?;
        let k = numbers(&[KEY_HEADS, self.keys, self.width], 2, dtype)?;
        let v = numbers(&[KEY_HEADS, self.keys, self.value_width], 3, dtype)?;
        let dy = numbers(&[heads, self.rows, self.value_width], 4, dtype)?;
        let seen: Vec<bool> = (0..self.rows * self.keys)
            .map(|at| self.sees(mask, at / self.keys, at % self.keys))
            .collect();
        let seen = Tensor::new(seen).reshape([self.rows, self.keys])?;
        let options = match mask {
            Mask::None => AttentionOptions::new(),
            Mask::Causal => AttentionOptions::new().causal(),
            Mask::Seen => AttentionOptions::new().mask(&seen),
        };
        let lists = [values(&q)?, values(&k)?, values(&v)?, values(&dy)?];
        let want = self.formula(mask, [&lists[0], &lists[1], &lists[2], &lists[3]]);
        let case = format!("{self:?} {mask:?} {dtype:?} {lie:?}");
        let (q, k, v, dy) = (lie.of(&q)?, lie.of(&k)?, lie.of(&v)?, lie.of(&dy)?);
        let y = q.scaled_dot_product_attention(&k, &v, options.grouped())?;
        near(&case, &y, &want[0])?;
        if !gradients {
            return Ok(());
        }
        let (q, k, v) = (q.requires_grad()?, k.requires_grad()?, v.requires_grad()?);
        let y = q.scaled_dot_product_attention(&k, &v, options.grouped())?;
        near(&case, &y, &want[0])?;
        let made = y.backward_with(BackwardOptions::new().gradient(&dy))?;
        for (leaf, want) in [&q, &k, &v].into_iter().zip(&want[1..]) {
            near(&case, made.get(leaf).expect("a gradient"), want)?;
        }
        Ok(())
    }
}

/// How the heads of operands lie.
#[derive(Debug, Clone, Copy)]
enum Lie {
    /// One after the other.
    Dense,
    /// Row by row, beside other numbers.
    Beside,
}

impl Lie {
    fn of(self, x: &Tensor) -> Result<Tensor> {
        match self {
            Lie::Dense => Ok(x.clone()),
            Lie::Beside => {
                let width = x.dims()[2] as i64;
                let rows = x.transpose(0, 1)?;
                let beside = Tensor::cat(&[&rows.neg()?, &rows, &rows], -1)?;
                beside.narrow(2, width, width)?.transpose(0, 1)
            }
        }
    }
}

/// Within a few roundings of the largest value.
fn near(case: &str, got: &Tensor, want: &[f64]) -> Result<()> {
    let rounding = match got.dtype() {
        DType::F32 => 2e-6,
        DType::F16 => 2e-3,
        _ => 1.6e-2,
    };
    let largest = want.iter().fold(0.0f64, |most, x| most.max(x.abs()));
    let got = values(got)?;
    assert_eq!(got.len(), want.len(), "{case}");
    for (index, (got, want)) in got.iter().zip(want).enumerate() {
        let error = (got - want).abs();
        assert!(
            error <= rounding * largest.max(1e-30),
            "{case}, {index}: got {got}, wanted {want}, largest {largest}"
        );
    }
    Ok(())
}

fn sizes(group: usize, [rows, keys]: [usize; 2], [width, value_width]: [usize; 2]) -> Sizes {
    Sizes {
        group,
        rows,
        keys,
        width,
        value_width,
    }
}

#[test]
fn attention_of_many_rows_is_its_formula() -> Result<()> {
    with_each_set(|| {
        for size in [
            sizes(1, [70, 300], [64, 64]),
            sizes(3, [17, 531], [32, 64]),
            sizes(1, [5, 1], [7, 40]),
            sizes(2, [29, 259], [40, 7]),
            sizes(1, [25, 17], [33, 96]),
        ] {
            for mask in [Mask::None, Mask::Causal, Mask::Seen] {
                for dtype in [DType::F32, DType::BF16, DType::F16] {
                    size.check(mask, dtype, true)?;
                }
            }
        }
        Ok(())
    })
}

#[test]
fn attention_of_few_rows_is_its_formula() -> Result<()> {
    with_each_set(|| {
        for size in [
            sizes(1, [1, 700], [64, 64]),
            sizes(4, [1, 257], [128, 32]),
            sizes(1, [3, 5], [32, 128]),
            sizes(2, [2, 33], [64, 48]),
            sizes(1, [1, 1], [32, 32]),
        ] {
            for mask in [Mask::None, Mask::Causal, Mask::Seen] {
                for dtype in [DType::F32, DType::BF16, DType::F16] {
                    size.check(mask, dtype, size.keys < 50)?;
                }
            }
        }
        Ok(())
    })
}

#[test]
fn attention_of_rows_that_lie_in_registers_is_its_formula() -> Result<()> {
    with_each_set(|| {
        for size in [
            sizes(1, [128, 128], [48, 32]),
            sizes(1, [100, 144], [32, 48]),
            sizes(1, [130, 64], [16, 80]),
            sizes(2, [40, 272], [48, 32]),
            sizes(3, [61, 61], [64, 16]),
        ] {
            for mask in [Mask::None, Mask::Causal, Mask::Seen] {
                for lie in [Lie::Dense, Lie::Beside] {
                    size.check_as(mask, DType::F32, true, lie)?;
                }
            }
        }
        Ok(())
    })
}

/// A convolution of planes and the gradient of its input, from `[n, c, h, w]` by `[o, c / groups, k, k]`.
fn convolution(
    [channels, high, wide]: [usize; 3],
    [outputs, taps, groups]: [usize; 3],
    [stride, padding]: [usize; 2],
) -> Result<()> {
    let case = format!("{channels} {high} {wide}, {outputs} {taps} {groups}, {stride} {padding}");
    let inputs = channels / groups;
    let x = numbers(&[2, channels, high, wide], 1, DType::F32)?.requires_grad()?;
    let w = numbers(&[outputs, inputs, taps, taps], 2, DType::F32)?;
    let b = numbers(&[outputs], 3, DType::F32)?;
    let options = Conv2dOptions::new()
        .stride(stride)
        .padding(padding)
        .groups(groups)
        .bias(&b);
    let y = x.conv2d(&w, options)?;
    let dy = numbers(y.shape().dims(), 4, DType::F32)?;
    let made = y.mul(&dy)?.sum(())?.backward()?;
    let [xs, ws, bs, dys] = [values(&x.detach())?, values(&w)?, values(&b)?, values(&dy)?];
    let (rows, columns) = (
        (high + 2 * padding - taps) / stride + 1,
        (wide + 2 * padding - taps) / stride + 1,
    );
    let (mut want, mut dx) = (vec![0.0; dys.len()], vec![0.0; xs.len()]);
    for at in 0..dys.len() {
        let (plane, row, column) = (at / (rows * columns), at / columns % rows, at % columns);
        let (sample, output) = (plane / outputs, plane % outputs);
        want[at] = bs[output];
        for tap in 0..inputs * taps * taps {
            let (input, i, j) = (tap / (taps * taps), tap / taps % taps, tap % taps);
            let (i, j) = (row * stride + i, column * stride + j);
            if i < padding || j < padding || i >= high + padding || j >= wide + padding {
                continue;
            }
            let channel = output / (outputs / groups) * inputs + input;
            let place = ((sample * channels + channel) * high + i - padding) * wide + j - padding;
            let factor = ws[output * inputs * taps * taps + tap];
            want[at] += factor * xs[place];
            dx[place] += factor * dys[at];
        }
    }
    near(&case, &y.detach(), &want)?;
    near(&case, made.get(&x).expect("a gradient"), &dx)
}

#[test]
fn convolutions_are_their_formulas() -> Result<()> {
    let _same = CHOICE.read().unwrap_or_else(PoisonError::into_inner);
    for padding in 0..3 {
        // Planes of their own.
        for plane in [[5, 17, 20], [3, 9, 56], [4, 4, 131], [2, 1, 16]] {
            if plane[1] + 2 * padding >= 3 {
                convolution(plane, [plane[0], 3, plane[0]], [1, padding])?;
                convolution(plane, [2 * plane[0], 3, plane[0]], [1, padding])?;
            }
        }
    }
    Ok(())
}

#[test]
fn convolutions_of_lines_are_their_formulas() -> Result<()> {
    with_each_set(|| {
        // Lines of whole registers, of a little less, and of other widths.
        for wide in [32, 31, 64, 78, 111] {
            convolution([3, 10, wide], [37, 7, 1], [2, 3])?;
            convolution([4, 6, wide], [12, 5, 2], [1, 2])?;
        }
        // Every number of channels that the last panel of a line may have.
        for outputs in 4..=33 {
            convolution([1, 4, 47], [outputs, 3, 1], [2, 1])?;
        }
        Ok(())
    })
}

/// Whole numbers from 0 to 10 in rows, and the greatest, 50, somewhere in each.
fn whole(rows: usize, columns: usize) -> Vec<f32> {
    let place = |row: usize| row * 37 % columns;
    let at = |index: usize| (index / columns, index % columns);
    let number = |(row, column)| {
        if column == place(row) {
            50
        } else {
            (row * 7 + column * 3) % 11
        }
    };
    (0..rows * columns)
        .map(|index| number(at(index)) as f32)
        .collect()
}

/// Sums and greatest numbers of whole numbers, which are exact, of rows and of all, where they lie and beside other numbers.
#[test]
fn folds_are_their_formulas() -> Result<()> {
    with_each_set(|| {
        for (rows, columns) in [
            (1, 1),
            (3, 70),
            (67, 256),
            (70, 1031),
            (515, 300),
            (4, 40_000),
        ] {
            let x = whole(rows, columns);
            let sum = |x: &[f32]| x.iter().map(|x| *x as i64).sum::<i64>() as f64;
            let want: Vec<f64> = x.chunks(columns).map(sum).collect();
            let dense = Tensor::new(x.clone()).reshape([rows, columns])?;
            let beside = Tensor::cat(&[&dense.neg()?, &dense, &dense], -1)?;
            let beside = beside.narrow(1, columns as i64, columns as i64)?;
            for (lie, x) in [(Lie::Dense, &dense), (Lie::Beside, &beside)] {
                for dtype in [DType::F32, DType::F64, DType::BF16] {
                    let case = format!("{rows} by {columns}, {dtype}, {lie:?}");
                    let x = x.to_dtype(dtype)?;
                    let largest = values(&x.amax(1)?)?;
                    assert_eq!(largest, vec![50.0; rows], "{case}");
                    // Sums in a half would be rounded.
                    if dtype != DType::BF16 {
                        assert_eq!(values(&x.sum(1)?)?, want, "{case}");
                        assert_eq!(values(&x.sum(())?)?, [want.iter().sum::<f64>()], "{case}");
                    }
                }
            }
        }
        Ok(())
    })
}

/// A row by a matrix that lies row by row, of whole numbers.
#[test]
fn rows_by_matrices_are_their_formulas() -> Result<()> {
    with_each_set(|| {
        for (inner, columns) in [(1, 40), (7, 33), (70, 1), (131, 70), (1000, 301)] {
            let (x, y) = (whole(1, inner), whole(inner, columns));
            let term = |column: usize, depth: usize| x[depth] * y[depth * columns + column];
            let sum = |column| (0..inner).map(|depth| f64::from(term(column, depth))).sum();
            let want: Vec<f64> = (0..columns).map(sum).collect();
            let row = Tensor::new(x.clone()).reshape([1, inner])?;
            let matrix = Tensor::new(y.clone()).reshape([inner, columns])?;
            for dtype in [DType::F32, DType::F64] {
                let made = row.to_dtype(dtype)?.matmul(&matrix.to_dtype(dtype)?)?;
                assert_eq!(values(&made)?, want, "{inner} by {columns}, {dtype}");
            }
        }
        Ok(())
    })
}

/// Bits of attention of many rows and of few, of its gradients, and of convolutions.
fn results() -> Result<Vec<Vec<u32>>> {
    let [q, k, v] = [1, 2, 3].map(|seed| numbers(&[6, 70, 64], seed, DType::F32));
    let (q, k, v) = (
        q?.requires_grad()?,
        k?.requires_grad()?,
        v?.requires_grad()?,
    );
    let y = q.scaled_dot_product_attention(&k, &v, AttentionOptions::new().causal())?;
    let made = y.square()?.sum(())?.backward()?;
    let few = q.detach().narrow(1, 0, 1)?;
    let few = few.scaled_dot_product_attention(&k.detach(), &v.detach(), ())?;
    let x = numbers(&[2, 40, 33, 48], 4, DType::F32)?;
    let own = x.conv2d(
        &numbers(&[40, 1, 3, 3], 5, DType::F32)?,
        Conv2dOptions::new().padding(1).groups(40),
    )?;
    let all = x.conv2d(
        &numbers(&[20, 40, 5, 5], 6, DType::F32)?,
        Conv2dOptions::new().stride(2).padding(2),
    )?;
    let leaves = [&q, &k, &v].map(|leaf| made.get(leaf).expect("a gradient"));
    let bits = |x: &Tensor| -> Result<Vec<u32>> {
        let values = x.detach().to_vec::<f32>()?;
        Ok(values.into_iter().map(f32::to_bits).collect())
    };
    [&y, &few, &own, &all]
        .into_iter()
        .chain(leaves)
        .map(bits)
        .collect()
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() -> Result<()> {
    let _same = CHOICE.read().unwrap_or_else(PoisonError::into_inner);
    CpuOptions::new().threads(1).apply()?;
    let alone = results()?;
    for threads in [2, 3, 7] {
        CpuOptions::new().threads(threads).apply()?;
        assert_eq!(results()?, alone, "{threads} threads");
    }
    Ok(())
}

#[test]
fn results_are_the_same_with_a_gradient_and_without() -> Result<()> {
    let _same = CHOICE.read().unwrap_or_else(PoisonError::into_inner);
    for dtype in [DType::F32, DType::F16, DType::BF16] {
        for (rows, keys) in [(70, 70), (130, 300), (2, 40), (1, 1)] {
            let part = |rows, seed| numbers(&[4, rows, 64], seed, dtype);
            let (q, k, v) = (part(rows, 1)?, part(keys, 2)?, part(keys, 3)?);
            let bits = |y: Tensor| -> Result<Vec<u32>> {
                let values = y.detach().to_dtype(DType::F32)?.to_vec::<f32>()?;
                Ok(values.into_iter().map(f32::to_bits).collect())
            };
            let without = bits(q.scaled_dot_product_attention(&k, &v, ())?)?;
            let leaf = q.requires_grad()?;
            let with = bits(leaf.scaled_dot_product_attention(&k, &v, ())?)?;
            assert_eq!(with, without, "{dtype}, {rows} rows, {keys} keys");
        }
    }
    Ok(())
}
