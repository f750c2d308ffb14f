//! Rotary position embedding and its gradient.
//!
//! Knows the kernel interface; it must not know streams, handles or device memory.

use super::common::{broadcast_positions, checked_index, expect_broadcast, same_dtype, size_of};
use crate::failure::{Fault, Refusal};
use crate::kernel::{Call, Family, Prepare, Work};
use crate::tensor::Tensor;

/// This family's ops.
pub(crate) const KERNELS: &[(&str, Prepare)] = &[
    ("aclnnRotaryPositionEmbedding", |call| rotary(call, 4)),
    ("aclnnRotaryPositionEmbeddingGrad", rotary_grad as Prepare),
    ("aclnnApplyRotaryPosEmb", apply as Prepare),
    ("aclnnApplyRotaryPosEmbV2", apply as Prepare),
    ("aclnnRotaryPositionEmbeddingV2", rotary_v2 as Prepare),
    ("aclnnRopeWithSinCosCache", |call| by_cache(call, None)),
    ("aclnnRopeWithSinCosCacheV2", |call| by_cache(call, Some(7))),
];

/// Which elements of the last dim turn with each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Element i with element i + D/2.
    Half,
    /// Element 2i with element 2i + 1.
    Interleaved,
}

impl Mode {
    fn of(call: &Call, index: usize) -> Result<Mode, Refusal> {
        match (call.int(index)?, call.family()) {
            (0, _) => Ok(Mode::Half),
            (1, _) => Ok(Mode::Interleaved),
            (mode, Family::A950) => {
                Err(call.unsupported(format!("mode {mode} has no kernel here")))
            }
            (mode, _) => Err(call.invalid(format!("mode is {mode}, wanted 0 or 1"))),
        }
    }

    /// The partner of an element within a row of `width`, and the sign with which it comes.
    fn partner(self, at: usize, width: usize) -> (usize, f32) {
        let half = width / 2;
        match self {
            Mode::Half if at < half => (at + half, -1.0),
            Mode::Half => (at - half, 1.0),
            Mode::Interleaved if at.is_multiple_of(2) => (at + 1, -1.0),
            Mode::Interleaved => (at - 1, 1.0),
        }
    }
}

/// x cos + rot(x) sin; turned the other way round, the gradient to x.
fn turn(
    x: &[f32],
    cos: &[f32],
    sin: &[f32],
    positions: &[usize],
    width: usize,
    mode: Mode,
) -> Vec<f32> {
    (0..x.len())
        .map(|at| {
            let (start, own) = (at - at % width, at % width);
            let (partner, sign) = mode.partner(own, width);
            x[at] * cos[positions[at]] + sign * x[start + partner] * sin[positions[at]]
        })
        .collect()
}

fn check(call: &Call, x: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<usize, Refusal> {
    let width = x.shape().last().copied().unwrap_or(0);
    if x.rank() != 4 || width == 0 || width % 2 != 0 || width >= 896 {
        return Err(call.invalid(format!(
            "x has shape {:?}, wanted 4 dims, the last even and below 896",
            x.shape()
        )));
    }
    expect_broadcast(call, "cos", cos, x.shape())?;
    call.expect_shape("sin", sin, cos.shape())?;
    if cos.rank() != 4 || cos.shape().last() != Some(&width) {
        return Err(call.invalid(format!(
            "cos has shape {:?}, x {:?}",
            cos.shape(),
            x.shape()
        )));
    }
    same_dtype(call, "cos", cos, x)?;
    same_dtype(call, "sin", sin, x)?;
    Ok(width)
}

/// The tables that the manual lists: 11SD, 1S1D or S11D; in half mode also B1SD, BS1D, SB1D and the shape of x.
fn check_forms(call: &Call, x: &Tensor, cos: &Tensor, mode: Mode) -> Result<(), Refusal> {
    let refuse = || {
        call.invalid(format!(
            "no such form: {mode:?} with x {:?} and cos {:?}",
            x.shape(),
            cos.shape()
        ))
    };
    let (&[first, second, third, width], &[a, b, c, _]) = (x.shape(), cos.shape()) else {
        return Err(refuse());
    };
    let bnsd = (a, b, c) == (1, 1, third);
    let bsnd = (a, b, c) == (1, second, 1);
    let sbnd = (a, b, c) == (first, 1, 1);
    if mode == Mode::Interleaved {
        let heads = [
            (bnsd, first * second),
            (bsnd, first * third),
            (sbnd, second * third),
        ];
        return if heads.iter().any(|(form, heads)| *form && *heads < 1000) {
            Ok(())
        } else {
            Err(refuse())
        };
    }
    let by_batch = (a, b, c) == (first, 1, third) || (a, b, c) == (first, second, 1);
    let limits = [
        (bsnd, [first, third]),
        (sbnd, [second, third]),
        (
            bnsd || by_batch || x.shape() == cos.shape(),
            [first, second],
        ),
    ];
    let Some((_, others)) = limits.into_iter().find(|(form, _)| *form) else {
        return Err(refuse());
    };
    let heads = first * second;
    let whole = (width / 2 * x.dtype().bits()).is_multiple_of(256);
    let balanced = if whole {
        heads <= third * 8
    } else {
        heads * 2 <= third.div_ceil(CORES) || width >= 80
    };
    if others.iter().any(|dim| *dim >= 1000) || (bnsd && !bsnd && !sbnd && !balanced) {
        return Err(refuse());
    }
    Ok(())
}

/// The vector cores that the emulated chip has.
const CORES: usize = 40;

/// As the first form, or with a matrix that gives each element its partner; tokens may come as [T, N, D].
fn rotary_v2(call: &Call) -> Result<Work, Refusal> {
    let (x, cos, sin) = (call.tensor(0)?, call.tensor(1)?, call.tensor(2)?);
    let (rotate, out) = (call.optional_tensor(4), call.tensor(5)?);
    if rotate.is_none() && x.rank() == 4 {
        return rotary(call, 5);
    }
    let mode = Mode::of(call, 3)?;
    let width = x.shape().last().copied().unwrap_or(0);
    if !matches!(x.rank(), 3 | 4) || width == 0 || width % 2 != 0 || width >= 896 {
        return Err(call.invalid(format!(
            "x has shape {:?}, wanted 3 or 4 dims, the last even and below 896",
            x.shape()
        )));
    }
    call.expect_shape("out", &out, x.shape())?;
    call.expect_shape("sin", &sin, cos.shape())?;
    expect_broadcast(call, "cos", &cos, x.shape())?;
    for (what, tensor) in [("cos", &cos), ("sin", &sin), ("out", &out)] {
        same_dtype(call, what, tensor, &x)?;
    }
    if let Some(rotate) = &rotate {
        call.expect_shape("rotate", rotate, &[width, width])?;
        same_dtype(call, "rotate", rotate, &x)?;
    }
    Ok(Work::new(move || {
        let positions = broadcast_positions(cos.shape(), x.shape());
        let (c, s) = (cos.load_vec::<f32>(), sin.load_vec::<f32>());
        let values = x.load_vec::<f32>();
        let Some(rotate) = &rotate else {
            return out.store_slice(&turn(&values, &c, &s, &positions, width, mode));
        };
        let matrix = rotate.load_vec::<f32>();
        let result: Vec<f32> = (0..values.len())
            .map(|at| {
                let line = &values[at - at % width..][..width];
                let column = matrix[at % width..].iter().step_by(width);
                let partner: f32 = line.iter().zip(column).map(|(a, b)| a * b).sum();
                values[at] * c[positions[at]] + partner * s[positions[at]]
            })
            .collect();
        out.store_slice(&result)
    }))
}

fn rotary(call: &Call, out: usize) -> Result<Work, Refusal> {
    let (x, cos, sin, out) = (
        call.tensor(0)?,
        call.tensor(1)?,
        call.tensor(2)?,
        call.tensor(out)?,
    );
    let mode = Mode::of(call, 3)?;
    let width = check(call, &x, &cos, &sin)?;
    check_forms(call, &x, &cos, mode)?;
    call.expect_shape("out", &out, x.shape())?;
    Ok(Work::new(move || {
        let positions = broadcast_positions(cos.shape(), x.shape());
        let (c, s) = (cos.load_vec::<f32>(), sin.load_vec::<f32>());
        out.store_slice(&turn(&x.load_vec::<f32>(), &c, &s, &positions, width, mode))
    }))
}

/// dx = dy cos + rotᵀ(dy sin); dcos = Σ dy x; dsin = Σ dy rot(x), summed over the broadcast dims.
fn rotary_grad(call: &Call) -> Result<Work, Refusal> {
    let (dy, cos, sin) = (call.tensor(0)?, call.tensor(1)?, call.tensor(2)?);
    let x = call.optional_tensor(3);
    let mode = Mode::of(call, 4)?;
    let dx = call.tensor(5)?;
    let width = check(call, &dy, &cos, &sin)?;
    check_forms(call, &dy, &cos, mode)?;
    call.expect_shape("dx", &dx, dy.shape())?;
    let tables = match &x {
        Some(x) => {
            call.expect_shape("x", x, dy.shape())?;
            let tables = (call.tensor(6)?, call.tensor(7)?);
            call.expect_shape("dcos", &tables.0, cos.shape())?;
            call.expect_shape("dsin", &tables.1, cos.shape())?;
            Some(tables)
        }
        None => None,
    };
    Ok(Work::new(move || {
        let positions = broadcast_positions(cos.shape(), dy.shape());
        let (c, s) = (cos.load_vec::<f32>(), sin.load_vec::<f32>());
        let grads = dy.load_vec::<f32>();
        let mut values: Vec<f32> = (0..grads.len())
            .map(|at| grads[at] * c[positions[at]])
            .collect();
        for (at, &g) in grads.iter().enumerate() {
            let (partner, sign) = mode.partner(at % width, width);
            values[at - at % width + partner] += sign * g * s[positions[at]];
        }
        dx.store_slice(&values)?;
        let (Some(x), Some((dcos, dsin))) = (&x, &tables) else {
            return Ok(());
        };
        let x = x.load_vec::<f32>();
        let (mut cosines, mut sines) = (vec![0f64; c.len()], vec![0f64; c.len()]);
        for (at, &g) in grads.iter().enumerate() {
            let (partner, sign) = mode.partner(at % width, width);
            cosines[positions[at]] += f64::from(g * x[at]);
            sines[positions[at]] += f64::from(g * sign * x[at - at % width + partner]);
        }
        dcos.store_slice(&cosines)?;
        dsin.store_slice(&sines)
    }))
}

/// Turns queries and keys of [B, S, N, 128] in place.
fn apply(call: &Call) -> Result<Work, Refusal> {
    let (query, key, cos, sin) = (
        call.tensor(0)?,
        call.tensor(1)?,
        call.tensor(2)?,
        call.tensor(3)?,
    );
    let layout = call.int(4)?;
    if layout != 1 {
        return Err(call.invalid(format!("layout is {layout}, wanted 1")));
    }
    let mode = match call.name() {
        "aclnnApplyRotaryPosEmbV2" => match call.text(5)? {
            "half" => Mode::Half,
            "interleave" => Mode::Interleaved,
            other => return Err(call.invalid(format!("rotaryMode is {other:?}"))),
        },
        _ => Mode::Half,
    };
    let width = check(call, &query, &cos, &sin)?;
    check(call, &key, &cos, &sin)?;
    if query.is_empty() || key.is_empty() || width != 128 {
        return Err(call.invalid(format!(
            "query {:?} and key {:?}, wanted a last dim of 128 and no empty tensor",
            query.shape(),
            key.shape()
        )));
    }
    Ok(Work::new(move || {
        let (c, s) = (cos.load_vec::<f32>(), sin.load_vec::<f32>());
        [&query, &key]
            .into_iter()
            .try_for_each(|x| -> Result<(), Fault> {
                let positions = broadcast_positions(cos.shape(), x.shape());
                x.store_slice(&turn(&x.load_vec::<f32>(), &c, &s, &positions, width, mode))
            })
    }))
}

/// Where the angles of one operator lie: a table with a line of cosines and sines for each position.
struct Cache {
    positions: Tensor,
    table: Tensor,
    /// How many angles come from each of the lines of positions.
    sections: Vec<usize>,
    /// Angles of the lines take turns, and what is left comes from the first.
    mixed: bool,
    tokens: usize,
    half: usize,
}

impl Cache {
    /// From which line of positions an angle comes.
    fn part(&self, at: usize) -> usize {
        if self.mixed {
            let limit = self.sections.get(1).map_or(0, |length| 3 * length);
            return if at < limit { at % 3 } else { 0 };
        }
        let mut end = 0;
        let part = self.sections.iter().position(|length| {
            end += length;
            at < end
        });
        part.unwrap_or(0)
    }

    /// Cosines and sines of each token.
    fn angles(&self, op: &str) -> Result<(Vec<f32>, Vec<f32>), Fault> {
        let (positions, table) = (
            self.positions.load_vec::<i64>(),
            self.table.load_vec::<f32>(),
        );
        let lines = table.len() / (2 * self.half);
        let (mut cos, mut sin) = (Vec::new(), Vec::new());
        for token in 0..self.tokens {
            for at in 0..self.half {
                let line = self.part(at) * self.tokens + token;
                let line = checked_index(op, positions[line], lines)? * 2 * self.half;
                cos.push(table[line + at]);
                sin.push(table[line + self.half + at]);
            }
        }
        Ok((cos, sin))
    }
}

/// Queries and keys with their outputs: rows of heads for each token.
fn pairs(
    call: &Call,
    tokens: usize,
    size: usize,
    later: usize,
) -> Result<Vec<(Tensor, Tensor)>, Refusal> {
    let mut pairs = Vec::new();
    for (input, output) in [(1, 7), (2, 8)] {
        let (x, out) = (call.tensor(input)?, call.tensor(output + later)?);
        let fits = matches!(x.shape(), &[rows, columns] if rows == tokens && columns % size == 0);
        if !fits {
            return Err(call.invalid(format!("queries or keys have shape {:?}", x.shape())));
        }
        call.expect_shape("an output", &out, x.shape())?;
        same_dtype(call, "an output", &out, &x)?;
        pairs.push((x, out));
    }
    Ok(pairs)
}

/// Queries and keys turned by angles from a table; what is beyond the table's width stays.
fn by_cache(call: &Call, mode_of_cache: Option<usize>) -> Result<Work, Refusal> {
    let mixed = match mode_of_cache.map_or(Ok(0), |index| call.int(index))? {
        0 => false,
        1 => true,
        mode => return Err(call.invalid(format!("cacheMode is {mode}, wanted 0 or 1"))),
    };
    let later = usize::from(mode_of_cache.is_some());
    let (positions, table) = (call.tensor(0)?, call.tensor(3)?);
    let size = size_of(call, "headSize", call.int(5)?, 1)?;
    let mode = if call.bool(6)? {
        Mode::Half
    } else {
        Mode::Interleaved
    };
    let sections: Vec<usize> = call
        .optional_ints(4)
        .unwrap_or(&[])
        .iter()
        .map(|&length| usize::try_from(length).unwrap_or(0))
        .collect();
    let &[_, width] = table.shape() else {
        return Err(call.invalid(format!(
            "cosSinCache has shape {:?}, wanted 2 dims",
            table.shape()
        )));
    };
    let (tokens, by_section) = match positions.shape() {
        &[tokens] => (tokens, false),
        &[3, tokens] => (tokens, true),
        &[4, tokens] if later == 1 && !mixed => (tokens, true),
        other => return Err(call.invalid(format!("positions have shape {other:?}"))),
    };
    let half = width / 2;
    if width == 0 || width % 2 != 0 || width > size {
        return Err(call.invalid(format!("the table has {width} columns, heads have {size}")));
    }
    let told = sections.iter().any(|&length| length > 0);
    if by_section != told
        || (told
            && (positions.shape()[0] != sections.len() || sections.iter().sum::<usize>() != half))
    {
        return Err(call.invalid(format!("mropeSection is {sections:?} for {half} angles")));
    }
    let pairs = pairs(call, tokens, size, later)?;
    let op = call.name();
    let sections = if told { sections } else { Vec::new() };
    let cache = Cache {
        positions,
        table,
        mixed: mixed && told,
        sections,
        tokens,
        half,
    };
    Ok(Work::new(move || {
        let (cos, sin) = cache.angles(op)?;
        for (x, out) in &pairs {
            let mut values = x.load_vec::<f32>();
            let heads = x.shape().last().copied().unwrap_or(0) / size;
            for (number, head) in values.chunks_exact_mut(size).enumerate() {
                let token = number / heads.max(1);
                for at in 0..half {
                    let (a, b) = match mode {
                        Mode::Half => (at, at + half),
                        Mode::Interleaved => (2 * at, 2 * at + 1),
                    };
                    let (c, s) = (cos[token * half + at], sin[token * half + at]);
                    let (one, two) = (head[a], head[b]);
                    head[a] = one * c - two * s;
                    head[b] = two * c + one * s;
                }
            }
            out.store_slice(&values)?;
        }
        Ok(())
    }))
}
