//! `rotary_embedding`: pairs of elements turned by angles that depend on the position.

use crate::cpu::lines::{LineFormula, lines};
use crate::cpu::rows;
use crate::ops::elementwise::unary::may_fuse;
use crate::ops::prelude::*;

/// Which elements of the last dim turn with each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RotaryMode {
    /// Element `i` with element `i + d / 2` (GPT-NeoX, Llama).
    #[default]
    Half,
    /// Element `2 i` with element `2 i + 1` (GPT-J, RoFormer).
    Interleave,
}

impl From<()> for RotaryMode {
    fn from((): ()) -> Self {
        RotaryMode::Half
    }
}

impl RotaryMode {
    /// CANN's number.
    fn code(self) -> i64 {
        match self {
            RotaryMode::Half => 0,
            RotaryMode::Interleave => 1,
        }
    }
}

const NAME: &str = "rotary_embedding";

#[derive(Debug, Clone, Copy)]
struct Rotary {
    mode: RotaryMode,
}

/// The gradient of the first input: the turn the other way round.
#[derive(Debug, Clone, Copy)]
struct RotaryBackward {
    mode: RotaryMode,
}

impl Tensor {
    /// `x cos + turned(x) sin`, where `turned` is `[-b, a]` for the halves `[a, b]` of the last dim, or for each pair of
    /// neighbours (`mode`); halves compute in f32.
    ///
    /// Shapes: `[.., d]` with an even `d`; `cos` and `sin` have `d` columns too and broadcast to the input; for halves they may
    /// have `d / 2` columns, which then serve both halves. Dtypes: floats, equal ones. PyTorch: none (Su et al. 2021; Hugging Face's `apply_rotary_pos_emb`). NPU: `aclnnRotaryPositionEmbedding`,
    /// `aclnnRotaryPositionEmbeddingGrad`.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([[1.0f32, 2.0, 3.0, 4.0]]);
    /// let (cos, sin) = (Tensor::new([0.0f32; 4]), Tensor::new([1.0f32; 4]));
    /// assert_eq!(x.rotary_embedding(&cos, &sin, ())?.to_vec::<f32>()?, [-3.0, -4.0, 1.0, 2.0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Shape` for an odd last dim or tables that do not broadcast, `DType` for unequal or other dtypes.
    pub fn rotary_embedding(
        &self,
        cos: &Tensor,
        sin: &Tensor,
        mode: impl Into<RotaryMode>,
    ) -> Result<Tensor> {
        run_one(&Rotary { mode: mode.into() }, &[self, cos, sin])
    }
}

/// `turned(x)`.
fn turned(x: &Tensor, mode: RotaryMode) -> Result<Tensor> {
    let width = x.dims().last().copied().unwrap_or(0) as i64;
    match mode {
        RotaryMode::Half => {
            let (a, b) = (
                x.narrow(-1, 0, width / 2)?,
                x.narrow(-1, width / 2, width / 2)?,
            );
            Tensor::cat(&[&b.neg()?, &a], -1)
        }
        RotaryMode::Interleave => {
            let pairs = x.reshape_infer(&pair_sizes(x.shape()))?;
            let (a, b) = (pairs.narrow(-1, 0, 1)?, pairs.narrow(-1, 1, 1)?);
            Tensor::cat(&[&b.neg()?, &a], -1)?.reshape(*x.shape())
        }
    }
}

/// The last dim as pairs; leading dims are merged, for they may be as many as there can be.
fn pair_sizes(shape: &Shape) -> [i64; 3] {
    let width = shape.dims().last().copied().unwrap_or(0).max(1);
    let rows = shape.elements() / width;
    [rows as i64, width as i64 / 2, 2]
}

/// The transpose of `turned`: `[b, -a]`.
fn turned_back(x: &Tensor, mode: RotaryMode) -> Result<Tensor> {
    turned(x, mode)?.neg()
}

/// `y = x cos + turned(x) sin` for a line; or for `back`, `x cos + turned_back(x sin)`.
struct Turn {
    mode: RotaryMode,
    back: bool,
}

impl<T: Float> LineFormula<T> for Turn {
    #[inline(always)]
    fn line(&self, [x, cos, sin]: [&[T]; 3], y: &mut [T]) {
        let half = x.len() / 2;
        match self.mode {
            RotaryMode::Half => {
                // Tables of half the width serve both halves.
                let (a, b) = x.split_at(half);
                let (c1, s1) = (&cos[cos.len() - half..], &sin[sin.len() - half..]);
                let tables = [&cos[..half], &sin[..half], c1, s1];
                let (y0, y1) = y.split_at_mut(half);
                if self.back {
                    turn_halves::<T, true>([a, b], tables, [y0, y1]);
                } else {
                    turn_halves::<T, false>([a, b], tables, [y0, y1]);
                }
            }
            RotaryMode::Interleave => {
                let pairs = x.as_chunks::<2>().0.iter();
                let tables = cos.as_chunks::<2>().0.iter().zip(sin.as_chunks::<2>().0);
                let outs = y.as_chunks_mut::<2>().0.iter_mut();
                for (([a, b], ([c0, c1], [s0, s1])), [y0, y1]) in pairs.zip(tables).zip(outs) {
                    let (x, t) = ([*a, *b], [*c0, *s0, *c1, *s1]);
                    (*y0, *y1) = if self.back {
                        (first::<T, true>(x, t), second::<T, true>(x, t))
                    } else {
                        (first::<T, false>(x, t), second::<T, false>(x, t))
                    };
                }
            }
        }
    }
}

impl RotaryMode {
    fn on_host(self, back: bool, x: &[Host<'_>], y: &mut HostMut<'_>) {
        let shape = *x[0].shape();
        let (cos, sin) = (spread(&x[1], &shape), spread(&x[2], &shape));
        let mask = rows::last(shape.rank(), 1);
        let simd = Simd::best();
        with_float!(x[0].dtype(), T => {
            let inputs = [&x[0], &cos, &sin];
            let turn = Turn { mode: self, back };
            if !lines::<T>(inputs, y, &turn) {
                rows::rows::<T, 3, 1>(inputs, [y], &mask, |_, inputs, [y]| {
                    vectorised!(simd, turn.line(inputs, y));
                });
            }
        });
    }
}

/// A table over all rows of the input.
fn spread<'a>(table: &Host<'a>, shape: &Shape) -> Host<'a> {
    let last = shape.rank().saturating_sub(1);
    table.broadcast(&shape.with(last, table.shape().dims().last().copied().unwrap_or(1)))
}

/// The first element of a pair turned, or turned `BACK`.
#[inline(always)]
fn first<T: Float, const BACK: bool>([a, b]: [T; 2], [c0, s0, _, s1]: [T; 4]) -> T {
    if BACK {
        a.times(c0).plus(b.times(s1))
    } else {
        a.times(c0).minus(b.times(s0))
    }
}

/// The second element.
#[inline(always)]
fn second<T: Float, const BACK: bool>([a, b]: [T; 2], [_, s0, c1, s1]: [T; 4]) -> T {
    if BACK {
        b.times(c1).minus(a.times(s0))
    } else {
        b.times(c1).plus(a.times(s1))
    }
}

/// Both halves of a line, in vectors of sixteen, or of eight where they are shorter.
#[inline(always)]
fn turn_halves<T: Float, const BACK: bool>(x: [&[T]; 2], t: [&[T]; 4], y: [&mut [T]; 2]) {
    if x[0].len() < 16 {
        turn_vectors::<T, BACK, 8>(x, t, y);
    } else {
        turn_vectors::<T, BACK, 16>(x, t, y);
    }
}

/// Vector by vector, and all reads of one before its writes, so that the compiler need not know that the lines do not overlap;
/// what is left one by one.
#[inline(always)]
fn turn_vectors<T: Float, const BACK: bool, const N: usize>(
    x: [&[T]; 2],
    t: [&[T]; 4],
    [y0, y1]: [&mut [T]; 2],
) {
    let (length, count) = (x[0].len(), x[0].len() / N);
    let [a, b] = x.map(|x| &x.as_chunks::<N>().0[..count]);
    let [c0, s0, c1, s1] = t.map(|t| &t.as_chunks::<N>().0[..count]);
    let [z0, z1] = [&mut *y0, &mut *y1].map(|y| &mut y.as_chunks_mut::<N>().0[..count]);
    for i in 0..count {
        let (a, b, c0, s0, c1, s1) = (a[i], b[i], c0[i], s0[i], c1[i], s1[i]);
        let tables = |lane: usize| [c0[lane], s0[lane], c1[lane], s1[lane]];
        let (mut low, mut high) = ([T::ZERO; N], [T::ZERO; N]);
        for lane in 0..N {
            low[lane] = first::<T, BACK>([a[lane], b[lane]], tables(lane));
        }
        for lane in 0..N {
            high[lane] = second::<T, BACK>([a[lane], b[lane]], tables(lane));
        }
        (z0[i], z1[i]) = (low, high);
    }
    for at in count * N..length {
        let (x, t) = (x.map(|x| x[at]), t.map(|t| t[at]));
        (y0[at], y1[at]) = (first::<T, BACK>(x, t), second::<T, BACK>(x, t));
    }
}

/// Whether a table of half the input's width serves both halves of a row.
fn serves_both(mode: RotaryMode, x: &Shape, table: &Shape) -> bool {
    let width = |shape: &Shape| shape.dims().last().copied().unwrap_or(1);
    mode == RotaryMode::Half && width(table) * 2 == width(x)
}

/// A table for both halves of a row.
fn whole(mode: RotaryMode, x: &Shape, table: &Tensor) -> Result<Tensor> {
    if serves_both(mode, x, table.shape()) {
        Tensor::cat(&[table, table], -1)
    } else {
        Ok(table.clone())
    }
}

/// The gradient of a table from that of the whole one.
fn folded(mode: RotaryMode, table: &Shape, whole: Tensor) -> Result<Tensor> {
    if !serves_both(mode, whole.shape(), table) {
        return Ok(whole);
    }
    let half = table.dims().last().copied().unwrap_or(0) as i64;
    whole
        .narrow(-1, 0, half)?
        .add(&whole.narrow(-1, half, half)?)
}

/// Checks the input against its tables.
fn check(mode: RotaryMode, x: &[Meta]) -> Result<()> {
    let own = x[0];
    for other in &x[..3] {
        if !own.dtype.is_float() || other.dtype != own.dtype {
            return Err(Error::dtype(
                NAME,
                format!("{} and {}", own.dtype, other.dtype),
                "equal float dtypes",
            ));
        }
    }
    let width = own.shape.dims().last().copied().unwrap_or(1);
    if width % 2 != 0 {
        return Err(Error::shape(NAME, own.shape, "an even last dim"));
    }
    for table in &x[1..3] {
        let columns = table.shape.dims().last().copied();
        let whole = columns == Some(width) || serves_both(mode, &own.shape, &table.shape);
        let rows = own
            .shape
            .with(own.shape.rank().max(1) - 1, columns.unwrap_or(1));
        let fits = whole && Layout::contiguous(table.shape).expand(NAME, &rows).is_ok();
        if !fits {
            return Err(Error::shape(
                NAME,
                format!("a table of {} for an input of {}", table.shape, own.shape),
                format!("{width} columns (or, for halves, half of them), and rows that broadcast"),
            ));
        }
    }
    Ok(())
}

/// The kernels take fewer columns, batches and heads than these.
const COLUMNS: usize = 896;
const BATCHES: usize = 1000;

/// The four dims in which the kernels take the input, and those of its tables: rows in the third dim (`[b, n, s, d]`), the
/// second (`[b, s, n, d]`) or the first (`[s, b, n, d]`), and tables that differ along rows alone; for halves they may differ
/// along batches too, or everywhere.
fn four(mode: RotaryMode, dtype: DType, x: &Shape, tables: [&Shape; 2]) -> Option<[Shape; 2]> {
    if tables[0] != tables[1] || x.rank() > 4 || x.is_empty() {
        return None;
    }
    let (mut x, table) = (filled(x)?, filled(tables[0])?);
    let d = x[3];
    if table[..3] == [1, 1, 1] {
        x = [1, x[0], x[1] * x[2], d];
    }
    let only = |dim: usize| (0..3).all(|own| table[own] == if own == dim { x[dim] } else { 1 });
    let rows = [0, 1, 2].into_iter().find(|dim| only(*dim));
    let taken = match (mode, rows) {
        (RotaryMode::Half, None) => x == table || (table[0], table[1], table[2]) == (x[0], 1, x[2]),
        (RotaryMode::Interleave, None) => false,
        (RotaryMode::Interleave, Some(rows)) => x[0] * x[1] * x[2] / x[rows] < BATCHES,
        (RotaryMode::Half, Some(2)) => {
            // Rows must outweigh the heads, unless the halves fill blocks of 32 bytes or are long.
            let heads = x[0] * x[1];
            let whole = (d / 2 * dtype.size()).is_multiple_of(32);
            (whole && heads <= x[2] * 8) || (!whole && (d >= 80 || heads * 2 * CORES <= x[2]))
        }
        (RotaryMode::Half, Some(_)) => true,
    };
    let rows = rows.unwrap_or(2);
    let small = (0..3).all(|dim| dim == rows || x[dim] < BATCHES);
    (taken && small && d < COLUMNS).then(|| [Shape::from(x), Shape::from(table)])
}

/// No NPU has more vector cores.
const CORES: usize = 64;

/// A shape of at most four dims as four.
fn filled(shape: &Shape) -> Option<[usize; 4]> {
    let missing = 4usize.checked_sub(shape.rank())?;
    let mut four = [1; 4];
    four[missing..].copy_from_slice(shape.dims());
    Some(four)
}

fn refused(cx: &Launch, dtype: DType) -> Error {
    let why = "aclnnRotaryPositionEmbedding takes no such shapes";
    Error::unsupported(NAME, Device::Ascend(cx.device()), dtype, why)
}

/// The input and its tables in the kernel's four dims.
fn lay<'a>(cx: &Launch, mode: RotaryMode, x: &[Dev<'a>]) -> Result<([Dev<'a>; 3], [Shape; 2])> {
    let refuse = || refused(cx, x[0].dtype());
    let narrow = x[1..3]
        .iter()
        .any(|table| serves_both(mode, x[0].shape(), table.shape()));
    if x[0].dtype() == DType::F64 || narrow {
        return Err(refuse());
    }
    let tables = [x[1].shape(), x[2].shape()];
    let shapes = four(mode, x[0].dtype(), x[0].shape(), tables).ok_or_else(refuse)?;
    let to = |x: &Dev<'a>, shape: &Shape| -> Result<Dev<'a>> {
        let layout = x.layout().reshape(shape).ok_or_else(refuse)?;
        Ok(x.with_layout(layout))
    };
    let laid = [
        to(&x[0], &shapes[0])?,
        to(&x[1], &shapes[1])?,
        to(&x[2], &shapes[1])?,
    ];
    Ok((laid, shapes))
}

impl Op for Rotary {
    fn name(&self) -> &'static str {
        NAME
    }

    fn infer(&self, x: &[Meta], plan: &mut Plan) -> Result<()> {
        check(self.mode, x)?;
        plan.output(x[0].shape, x[0].dtype);
        Ok(())
    }

    fn cpu(&self, x: &[Host<'_>], y: &mut [HostMut<'_>]) -> Result<Counts> {
        self.mode.on_host(false, x, &mut y[0]);
        Ok(Counts::EXACT)
    }

    fn ascend(&self, cx: &Launch, x: &[Dev<'_>], y: &[Dev<'_>]) -> Result<Counts> {
        let ([x, cos, sin], [full, _]) = lay(cx, self.mode, x)?;
        let y = y[0].with_layout(Layout::contiguous(full));
        aclnn::rotary_position_embedding(cx, &x, &cos, &sin, self.mode.code(), &y)?;
        Ok(Counts::EXACT)
    }

    fn compose(&self, x: &[Tensor]) -> Result<Outputs> {
        let (shape, mode) = (x[0].shape(), self.mode);
        if x[1..3]
            .iter()
            .any(|table| serves_both(mode, shape, table.shape()))
        {
            let (cos, sin) = (whole(mode, shape, &x[1])?, whole(mode, shape, &x[2])?);
            return Ok(smallvec![run_one(self, &[&x[0], &cos, &sin])?]);
        }
        let wide = |x: &Tensor| x.to_dtype(x.dtype().compute());
        let (own, cos, sin) = (wide(&x[0])?, wide(&x[1])?, wide(&x[2])?);
        let y = own.mul(&cos)?.add(&turned(&own, self.mode)?.mul(&sin)?)?;
        Ok(smallvec![y.to_dtype(x[0].dtype())?])
    }

    fn gradient(&self) -> Gradient {
        Gradient::Backward
    }

    fn backward(&self, cx: &GradCx<'_>) -> Result<Grads> {
        let (x, cos, sin, dy) = (cx.input(0)?, cx.input(1)?, cx.input(2)?, cx.gradient()?);
        let op = RotaryBackward { mode: self.mode };
        let dx = cx.want(0, || {
            if may_fuse() {
                run_one(&op, &[dy, cos, sin])
            } else {
                op.formula(dy, cos, sin)
            }
        })?;
        // Summed over the rows that share a table: halves round once, after the sum.
        let wide = |x: &Tensor| x.to_dtype(x.dtype().compute());
        let dcos = cx.want(1, || {
            folded(self.mode, cos.shape(), wide(dy)?.mul(&wide(x)?)?)
        })?;
        let dsin = cx.want(2, || {
            let whole = wide(dy)?.mul(&turned(&wide(x)?, self.mode)?)?;
            folded(self.mode, sin.shape(), whole)
        })?;
        Ok(smallvec![dx, dcos, dsin])
    }

    fn boxed(&self) -> Box<dyn Op> {
        Box::new(*self)
    }
}

impl RotaryBackward {
    fn formula(&self, dy: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
        let wide = |x: &Tensor| x.to_dtype(x.dtype().compute());
        let (cos, sin) = (
            whole(self.mode, dy.shape(), cos)?,
            whole(self.mode, dy.shape(), sin)?,
        );
        let (wide_dy, cos, sin) = (wide(dy)?, wide(&cos)?, wide(&sin)?);
        let back = turned_back(&wide_dy.mul(&sin)?, self.mode)?;
        wide_dy.mul(&cos)?.add(&back)?.to_dtype(dy.dtype())
    }
}

impl Op for RotaryBackward {
    fn name(&self) -> &'static str {
        "rotary_embedding_backward"
    }

    fn infer(&self, x: &[Meta], plan: &mut Plan) -> Result<()> {
        check(self.mode, x)?;
        plan.output(x[0].shape, x[0].dtype);
        Ok(())
    }

    fn cpu(&self, x: &[Host<'_>], y: &mut [HostMut<'_>]) -> Result<Counts> {
        self.mode.on_host(true, x, &mut y[0]);
        Ok(Counts::EXACT)
    }

    fn ascend(&self, cx: &Launch, x: &[Dev<'_>], y: &[Dev<'_>]) -> Result<Counts> {
        let ([dy, cos, sin], [full, _]) = lay(cx, self.mode, x)?;
        let dx = y[0].with_layout(Layout::contiguous(full));
        let mode = self.mode.code();
        aclnn::rotary_position_embedding_grad(cx, &dy, &cos, &sin, None, mode, &dx, None, None)?;
        Ok(Counts::EXACT)
    }

    fn compose(&self, x: &[Tensor]) -> Result<Outputs> {
        Ok(smallvec![self.formula(&x[0], &x[1], &x[2])?])
    }

    fn gradient(&self) -> Gradient {
        Gradient::Compose
    }

    fn boxed(&self) -> Box<dyn Op> {
        Box::new(*self)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: NAME,
    family: "attention",
    kernels: &[
        "aclnnRotaryPositionEmbedding",
        "aclnnRotaryPositionEmbeddingGrad",
    ],
    samples,
};

fn samples() -> Vec<Sample> {
    let sample = |mode, x: &[usize], table: &[usize]| Sample {
        op: Box::new(Rotary { mode }),
        inputs: vec![
            SampleInput::new(x, -2.0, 2.0),
            SampleInput::new(table, -1.0, 1.0),
            SampleInput::new(table, -1.0, 1.0),
        ],
        dtypes: FLOATS,
    };
    vec![
        sample(RotaryMode::Half, &[2, 3, 5, 4], &[5, 4]),
        sample(RotaryMode::Half, &[3, 6], &[3, 6]),
        sample(RotaryMode::Half, &[2, 3, 5, 4], &[5, 2]),
        sample(RotaryMode::Interleave, &[2, 3, 4], &[1, 3, 4]),
        sample(RotaryMode::Interleave, &[2, 2, 3, 4], &[2, 1, 1, 4]),
    ]
}
