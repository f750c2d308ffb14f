//! `rotary_embedding`: pairs of elements turned by angles that depend on the position.

use std::ops::Range;

use super::rotary_lines::{Part, Turn};
use crate::cpu::lane::Lane;
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

impl RotaryMode {
    /// CANN's number.
    fn code(self) -> i64 {
        match self {
            RotaryMode::Half => 0,
            RotaryMode::Interleave => 1,
        }
    }
}

/// Settings of [`Tensor::rotary_embedding`]. Made from `()`, from a [`RotaryMode`], or built up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[must_use]
pub struct RotaryEmbeddingOptions {
    mode: RotaryMode,
    /// The first column that turns, and the one after the last.
    columns: Option<[usize; 2]>,
}

impl RotaryEmbeddingOptions {
    /// All of the last dim, in halves.
    pub fn new() -> Self {
        RotaryEmbeddingOptions::default()
    }

    /// Which elements turn with each other.
    pub fn mode(mut self, mode: RotaryMode) -> Self {
        self.mode = mode;
        self
    }

    /// The part of the last dim that turns; the rest stays as it is.
    pub fn columns(mut self, columns: Range<usize>) -> Self {
        self.columns = Some([columns.start, columns.end]);
        self
    }
}

impl From<()> for RotaryEmbeddingOptions {
    fn from((): ()) -> Self {
        RotaryEmbeddingOptions::new()
    }
}

impl From<RotaryMode> for RotaryEmbeddingOptions {
    fn from(mode: RotaryMode) -> Self {
        RotaryEmbeddingOptions::new().mode(mode)
    }
}

const NAME: &str = "rotary_embedding";

#[derive(Debug, Clone, Copy)]
struct Rotary {
    options: RotaryEmbeddingOptions,
}

/// The gradient of the first input: the turn the other way round.
#[derive(Debug, Clone, Copy)]
struct RotaryBackward {
    options: RotaryEmbeddingOptions,
}

impl Tensor {
    /// `x cos + turned(x) sin`, where `turned` is `[-b, a]` for the halves `[a, b]` of the last dim, or for each pair of
    /// neighbours (`mode`); halves compute in f32.
    ///
    /// Shapes: `[.., d]` with an even `d`; `cos` and `sin` have `d` columns too and broadcast to the input; for halves they may
    /// have `d / 2` columns, which then serve both halves. Where only some columns turn
    /// ([`RotaryEmbeddingOptions::columns`]), `d` is their number. Dtypes: floats, equal ones. PyTorch: none (Su et al. 2021; Hugging Face's `apply_rotary_pos_emb`). NPU: `aclnnRotaryPositionEmbedding`,
    /// `aclnnRotaryPositionEmbeddingGrad`.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([[1.0f32, 2.0, 3.0, 4.0]]);
    /// let (cos, sin) = (Tensor::new([0.0f32; 4]), Tensor::new([1.0f32; 4]));
    /// assert_eq!(x.rotary_embedding(&cos, &sin, ())?.to_vec::<f32>()?, [-3.0, -4.0, 1.0, 2.0]);
    ///
    /// use ascend_tensor::ops::attention::RotaryEmbeddingOptions;
    /// let (cos, sin) = (cos.narrow(0, 0, 2)?, sin.narrow(0, 0, 2)?);
    /// let last = RotaryEmbeddingOptions::new().columns(2..4);
    /// assert_eq!(x.rotary_embedding(&cos, &sin, last)?.to_vec::<f32>()?, [1.0, 2.0, -4.0, 3.0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Shape` for an odd number of columns that turn or tables that do not broadcast, `Option` for columns that are not there,
    /// `DType` for unequal or other dtypes.
    pub fn rotary_embedding(
        &self,
        cos: &Tensor,
        sin: &Tensor,
        options: impl Into<RotaryEmbeddingOptions>,
    ) -> Result<Tensor> {
        let options = options.into();
        run_one(&Rotary { options }, &[self, cos, sin])
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

impl RotaryEmbeddingOptions {
    /// The columns of the last dim that turn.
    fn range(&self, shape: &Shape) -> Result<Range<usize>> {
        let width = shape.dims().last().copied().unwrap_or(1);
        match self.columns {
            None => Ok(0..width),
            Some([start, end]) if start <= end && end <= width && shape.rank() > 0 => {
                Ok(start..end)
            }
            Some([start, end]) => Err(Error::option(
                NAME,
                "columns",
                format!("got {start}..{end}, wanted a part of {width}"),
            )),
        }
    }

    /// Whether some columns stay as they are.
    fn is_partial(&self, shape: &Shape) -> Result<bool> {
        Ok(self.range(shape)?.len() < shape.dims().last().copied().unwrap_or(1))
    }

    /// The columns that turn, as a view.
    fn part(&self, x: &Tensor) -> Result<Tensor> {
        let range = self.range(x.shape())?;
        x.narrow(-1, range.start as i64, range.len() as i64)
    }

    /// The tensor with the columns that turn replaced by what becomes of them alone.
    fn replaced(&self, x: &Tensor, turn: impl FnOnce(&Tensor) -> Result<Tensor>) -> Result<Tensor> {
        let Range { start, end } = self.range(x.shape())?;
        let rest = (x.dims().last().copied().unwrap_or(1) - end) as i64;
        let before = x.narrow(-1, 0, start as i64)?;
        let after = x.narrow(-1, end as i64, rest)?;
        Tensor::cat(&[&before, &turn(&self.part(x)?)?, &after], -1)
    }

    fn on_host(&self, back: bool, x: &[Host<'_>], y: &mut HostMut<'_>) -> Result<()> {
        let (mode, columns) = (self.mode, self.range(x[0].shape())?);
        let turn = Turn { mode, back };
        with_float!(x[0].dtype(), T => if self.is_partial(x[0].shape())? {
            on_lines::<T>(&Part { turn, columns }, x, y);
        } else {
            on_lines::<T>(&turn, x, y);
        });
        Ok(())
    }
}

/// Calls a formula with each line of the input and the tables.
fn on_lines<T: Lane + Float>(formula: &impl LineFormula<T>, x: &[Host<'_>], y: &mut HostMut<'_>) {
    let shape = *x[0].shape();
    let (cos, sin) = (spread(&x[1], &shape), spread(&x[2], &shape));
    let (inputs, simd) = ([&x[0], &cos, &sin], Simd::best());
    if !lines::<T>(inputs, y, formula) {
        let mask = rows::last(shape.rank(), 1);
        rows::rows::<T, 3, 1>(inputs, [y], &mask, |_, inputs, [y]| {
            vectorised!(simd, formula.line(inputs, y));
        });
    }
}

/// A table over all rows of the input.
fn spread<'a>(table: &Host<'a>, shape: &Shape) -> Host<'a> {
    let last = shape.rank().saturating_sub(1);
    table.broadcast(&shape.with(last, table.shape().dims().last().copied().unwrap_or(1)))
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
fn check(options: &RotaryEmbeddingOptions, x: &[Meta]) -> Result<()> {
    let (mut own, mode) = (x[0], options.mode);
    let columns = options.range(&own.shape)?.len();
    if options.is_partial(&own.shape)? {
        own.shape = own.shape.with(own.shape.rank() - 1, columns);
    }
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
fn lay<'a>(
    cx: &Launch,
    options: &RotaryEmbeddingOptions,
    x: &[Dev<'a>],
) -> Result<([Dev<'a>; 3], [Shape; 2])> {
    let (refuse, mode) = (|| refused(cx, x[0].dtype()), options.mode);
    if options.is_partial(x[0].shape())? {
        return Err(refuse());
    }
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
        check(&self.options, x)?;
        plan.output(x[0].shape, x[0].dtype);
        Ok(())
    }

    fn cpu(&self, x: &[Host<'_>], y: &mut [HostMut<'_>]) -> Result<Counts> {
        self.options.on_host(false, x, &mut y[0])?;
        Ok(Counts::EXACT)
    }

    fn ascend(&self, cx: &Launch, x: &[Dev<'_>], y: &[Dev<'_>]) -> Result<Counts> {
        let ([x, cos, sin], [full, _]) = lay(cx, &self.options, x)?;
        let y = y[0].with_layout(Layout::contiguous(full));
        aclnn::rotary_position_embedding(cx, &x, &cos, &sin, self.options.mode.code(), &y)?;
        Ok(Counts::EXACT)
    }

    fn compose(&self, x: &[Tensor]) -> Result<Outputs> {
        let (shape, mode) = (x[0].shape(), self.options.mode);
        if self.options.is_partial(shape)? {
            let turn = |part: &Tensor| part.rotary_embedding(&x[1], &x[2], mode);
            return Ok(smallvec![self.options.replaced(&x[0], turn)?]);
        }
        if x[1..3]
            .iter()
            .any(|table| serves_both(mode, shape, table.shape()))
        {
            let (cos, sin) = (whole(mode, shape, &x[1])?, whole(mode, shape, &x[2])?);
            return Ok(smallvec![run_one(self, &[&x[0], &cos, &sin])?]);
        }
        let wide = |x: &Tensor| x.to_dtype(x.dtype().compute());
        let (own, cos, sin) = (wide(&x[0])?, wide(&x[1])?, wide(&x[2])?);
        let y = own.mul(&cos)?.add(&turned(&own, mode)?.mul(&sin)?)?;
        Ok(smallvec![y.to_dtype(x[0].dtype())?])
    }

    fn gradient(&self) -> Gradient {
        Gradient::Backward
    }

    fn backward(&self, cx: &GradCx<'_>) -> Result<Grads> {
        let (x, cos, sin, dy) = (cx.input(0)?, cx.input(1)?, cx.input(2)?, cx.gradient()?);
        let (options, mode) = (self.options, self.options.mode);
        let op = RotaryBackward { options };
        let dx = cx.want(0, || {
            if may_fuse() {
                run_one(&op, &[dy, cos, sin])
            } else {
                op.formula(dy, cos, sin)
            }
        })?;
        // Summed over the rows that share a table: halves round once, after the sum.
        let wide = |x: &Tensor| {
            let part = options.part(x)?;
            part.to_dtype(x.dtype().compute())
        };
        let dcos = cx.want(1, || folded(mode, cos.shape(), wide(dy)?.mul(&wide(x)?)?))?;
        let dsin = cx.want(2, || {
            let whole = wide(dy)?.mul(&turned(&wide(x)?, mode)?)?;
            folded(mode, sin.shape(), whole)
        })?;
        Ok(smallvec![dx, dcos, dsin])
    }

    fn boxed(&self) -> Box<dyn Op> {
        Box::new(*self)
    }
}

impl RotaryBackward {
    fn formula(&self, dy: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
        let mode = self.options.mode;
        if self.options.is_partial(dy.shape())? {
            let op = RotaryBackward {
                options: mode.into(),
            };
            return self.options.replaced(dy, |part| op.formula(part, cos, sin));
        }
        let wide = |x: &Tensor| x.to_dtype(x.dtype().compute());
        let (cos, sin) = (whole(mode, dy.shape(), cos)?, whole(mode, dy.shape(), sin)?);
        let (wide_dy, cos, sin) = (wide(dy)?, wide(&cos)?, wide(&sin)?);
        let back = turned_back(&wide_dy.mul(&sin)?, mode)?;
        wide_dy.mul(&cos)?.add(&back)?.to_dtype(dy.dtype())
    }
}

impl Op for RotaryBackward {
    fn name(&self) -> &'static str {
        "rotary_embedding_backward"
    }

    fn infer(&self, x: &[Meta], plan: &mut Plan) -> Result<()> {
        check(&self.options, x)?;
        plan.output(x[0].shape, x[0].dtype);
        Ok(())
    }

    fn cpu(&self, x: &[Host<'_>], y: &mut [HostMut<'_>]) -> Result<Counts> {
        self.options.on_host(true, x, &mut y[0])?;
        Ok(Counts::EXACT)
    }

    fn ascend(&self, cx: &Launch, x: &[Dev<'_>], y: &[Dev<'_>]) -> Result<Counts> {
        let ([dy, cos, sin], [full, _]) = lay(cx, &self.options, x)?;
        let dx = y[0].with_layout(Layout::contiguous(full));
        let mode = self.options.mode.code();
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
    let sample = |options, x: &[usize], table: &[usize]| Sample {
        op: Box::new(Rotary { options }),
        inputs: vec![
            SampleInput::new(x, -2.0, 2.0),
            SampleInput::new(table, -1.0, 1.0),
            SampleInput::new(table, -1.0, 1.0),
        ],
        dtypes: FLOATS,
    };
    vec![
        sample(RotaryMode::Half.into(), &[2, 3, 5, 4], &[5, 4]),
        sample(RotaryMode::Half.into(), &[3, 6], &[3, 6]),
        sample(RotaryMode::Half.into(), &[2, 3, 5, 4], &[5, 2]),
        sample(RotaryMode::Interleave.into(), &[2, 3, 4], &[1, 3, 4]),
        sample(RotaryMode::Interleave.into(), &[2, 2, 3, 4], &[2, 1, 1, 4]),
        sample(
            RotaryEmbeddingOptions::new().columns(1..5),
            &[2, 3, 7],
            &[3, 4],
        ),
    ]
}
