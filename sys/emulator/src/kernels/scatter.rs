//! Writing by index: scatter in its forms, index add, fill and copy, masked scatter.
//!
//! Knows the kernel interface; it must not know streams, handles or device memory. An index out of range is a device exception.

use super::common::{
    Arithmetic, Lanes, by_class, checked_index, expect_broadcast, load_broadcast, same_dtype,
    strided_positions, volume, wrapped_index,
};
use super::gather::{coordinate_shape, coordinate_starts, element_positions, expect_element_index};
use crate::failure::{Fault, Refusal};
use crate::kernel::{Call, Prepare, Scalar, Work};
use crate::number::Complex;
use crate::tensor::{Tensor, natural_strides};

/// This family's ops.
pub(crate) const KERNELS: &[(&str, Prepare)] = &[
    ("aclnnScatter", scatter as Prepare),
    ("aclnnInplaceScatter", scatter as Prepare),
    ("aclnnScatterValue", scatter as Prepare),
    ("aclnnInplaceScatterValue", scatter as Prepare),
    ("aclnnScatterAdd", scatter_add as Prepare),
    ("aclnnScatterReduce", scatter_reduce as Prepare),
    ("aclnnInplaceScatterReduce", scatter_reduce as Prepare),
    ("aclnnIndexAdd", index_add as Prepare),
    ("aclnnIndexAddV2", index_add as Prepare),
    ("aclnnIndexFill", index_fill as Prepare),
    ("aclnnInplaceIndexFill", index_fill as Prepare),
    ("aclnnIndexFillTensor", index_fill as Prepare),
    ("aclnnInplaceIndexFillTensor", index_fill as Prepare),
    ("aclnnIndexCopy", index_copy as Prepare),
    ("aclnnInplaceIndexCopy", index_copy as Prepare),
    ("aclnnInplaceMaskedScatter", masked_scatter as Prepare),
    ("aclnnScatterNd", scatter_nd as Prepare),
    ("aclnnScatterNdUpdate", scatter_nd as Prepare),
    ("aclnnTfScatterAdd", scatter_rows as Prepare),
    ("aclnnInplacePut", put as Prepare),
];

/// `self.flat[index] = source`, or `+= source`; negative indices count from the end.
fn put(call: &Call) -> Result<Work, Refusal> {
    let (x, index, source) = (call.tensor(0)?, call.tensor(1)?, call.tensor(2)?);
    let accumulate = call.bool(3)?;
    same_dtype(call, "source", &source, &x)?;
    if index.count() != source.count() {
        return Err(call.invalid(format!(
            "index has shape {:?}, source {:?}: wanted as many elements",
            index.shape(),
            source.shape()
        )));
    }
    if index.is_empty() {
        return Ok(Work::nothing());
    }
    let op = call.name();
    by_class!(x.dtype(), T => Ok(Work::new(move || {
        let mut values = x.load_vec::<T>();
        for (at, value) in index.load_vec::<i64>().into_iter().zip(source.load_vec::<T>()) {
            let slot = &mut values[wrapped_index(op, at, x.count())?];
            *slot = if accumulate { slot.plus(value) } else { value };
        }
        x.store_slice(&values)
    })), Err(call.unsupported(format!("no kernel for {}", x.dtype()))))
}

/// How a new value meets the old one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Combine {
    Replace,
    Add,
    Multiply,
    Maximum,
    Minimum,
    Mean,
}

impl Combine {
    fn of(call: &Call, index: usize, limit: i64) -> Result<Combine, Refusal> {
        let code = call.int(index)?;
        let all = [
            Combine::Replace,
            Combine::Add,
            Combine::Multiply,
            Combine::Maximum,
            Combine::Minimum,
            Combine::Mean,
        ];
        usize::try_from(code)
            .ok()
            .filter(|_| code < limit)
            .and_then(|code| all.get(code).copied())
            .ok_or_else(|| call.invalid(format!("reduce is {code}, wanted 0 to {}", limit - 1)))
    }
}

/// An order, for the forms that keep the larger or smaller value.
trait Ordered: Arithmetic {
    /// True where `other` takes the place of this; NaN always wins.
    fn yields_to(self, other: Self, maximum: bool) -> bool;
    /// This divided by a count; integers round down.
    fn share(self, count: u64) -> Self;
}

macro_rules! ordered {
    ($($kind:ty, |$a:ident, $b:ident| $less:expr, $nan:expr, |$v:ident, $n:ident| $share:expr;)*) => {$(
        impl Ordered for $kind {
            fn yields_to(self, other: Self, maximum: bool) -> bool {
                let (old, new): ($kind, $kind) = (self, other);
                let not_a_number: fn(&$kind) -> bool = $nan;
                let less = |$a: $kind, $b: $kind| $less;
                if not_a_number(&old) { return false; }
                not_a_number(&new) || if maximum { less(old, new) } else { less(new, old) }
            }
            fn share(self, count: u64) -> Self { let ($v, $n) = (self, count); $share }
        }
    )*};
}

ordered! {
    f32, |a, b| a < b, |a| a.is_nan(), |v, n| v / n as f32;
    f64, |a, b| a < b, |a| a.is_nan(), |v, n| v / n as f64;
    i64, |a, b| a < b, |_| false, |v, n| v.div_euclid(n as i64);
    bool, |a, b| !a & b, |_| false, |v, n| v && n > 0;
    Complex, |a, b| a.norm() < b.norm(), |a| a.norm().is_nan(), |v, n| Complex::new(v.re / n as f64, v.im / n as f64);
}

fn combine<T: Ordered>(old: T, new: T, how: Combine) -> T {
    match how {
        Combine::Replace => new,
        Combine::Add | Combine::Mean => old.plus(new),
        Combine::Multiply => old.times(new),
        Combine::Maximum | Combine::Minimum => {
            if old.yields_to(new, how == Combine::Maximum) {
                new
            } else {
                old
            }
        }
    }
}

/// What is written: a tensor's leading part of the index's shape, or one value.
#[derive(Debug, Clone)]
enum Source {
    Tensor(Tensor),
    Value(Scalar),
}

/// A scatter along one axis.
struct Scatter {
    x: Tensor,
    axis: usize,
    index: Tensor,
    source: Source,
    how: Combine,
    include: bool,
    out: Tensor,
}

impl Scatter {
    fn check(&self, call: &Call) -> Result<(), Refusal> {
        expect_element_index(call, self.x.shape(), self.axis, &self.index)?;
        call.expect_shape("out", &self.out, self.x.shape())?;
        same_dtype(call, "out", &self.out, &self.x)?;
        let Source::Tensor(source) = &self.source else {
            return Ok(());
        };
        same_dtype(call, "src", source, &self.x)?;
        let fits = source.rank().max(1) == self.index.rank().max(1)
            && self
                .index
                .shape()
                .iter()
                .zip(source.shape())
                .all(|(index, own)| index <= own);
        if fits || self.index.is_empty() {
            return Ok(());
        }
        Err(call.invalid(format!(
            "src has shape {:?}, index {:?}",
            source.shape(),
            self.index.shape()
        )))
    }

    fn run<T: Ordered>(&self, op: &str) -> Result<(), Fault> {
        let mut values = self.x.load_vec::<T>();
        let positions = element_positions(op, self.x.shape(), self.axis, &self.index)?;
        let new: Vec<T> = match &self.source {
            Source::Value(value) => vec![value.get(); positions.len()],
            Source::Tensor(source) => {
                let all = source.load_vec::<T>();
                if source.rank() == self.index.rank() {
                    let strides = natural_strides(source.shape());
                    strided_positions(self.index.shape(), &strides)
                        .into_iter()
                        .map(|position| all[position])
                        .collect()
                } else {
                    all
                }
            }
        };
        let mut counts = vec![0u64; values.len()];
        for (&position, value) in positions.iter().zip(new) {
            let fresh = !self.include && counts[position] == 0;
            counts[position] += 1;
            let old = values[position];
            values[position] = if fresh {
                value
            } else {
                combine(old, value, self.how)
            };
        }
        if self.how == Combine::Mean {
            for (value, &count) in values.iter_mut().zip(&counts).filter(|entry| *entry.1 > 0) {
                *value = value.share(count + u64::from(self.include));
            }
        }
        self.out.store_slice(&values)
    }

    fn work(self, call: &Call) -> Result<Work, Refusal> {
        self.check(call)?;
        if self.out.is_empty() {
            return Ok(Work::nothing());
        }
        let op = call.name();
        by_class!(self.x.dtype(), T => Ok(Work::new(move || self.run::<T>(op))),
            Err(call.unsupported(format!("no kernel for {}", self.x.dtype()))))
    }
}

fn in_place(call: &Call) -> bool {
    call.name().starts_with("aclnnInplace")
}

/// The output: `self` for the forms in place, else the last parameter.
fn output(call: &Call, x: &Tensor) -> Result<Tensor, Refusal> {
    if in_place(call) {
        return Ok(x.clone());
    }
    call.tensor(call.count().saturating_sub(1))
}

/// `out = self` with `out[index[i][j]][j] = src[i][j]` for `dim` 0; `reduce` 1 adds, 2 multiplies.
fn scatter(call: &Call) -> Result<Work, Refusal> {
    let x = call.tensor(0)?;
    let source = match call.optional_scalar(3) {
        Some(value) => Source::Value(value),
        None => Source::Tensor(call.tensor(3)?),
    };
    let scatter = Scatter {
        axis: call.axis(call.int(1)?, x.rank())?,
        index: call.tensor(2)?,
        source,
        how: Combine::of(call, 4, 3)?,
        include: true,
        out: output(call, &x)?,
        x,
    };
    scatter.work(call)
}

fn scatter_add(call: &Call) -> Result<Work, Refusal> {
    let x = call.tensor(0)?;
    let scatter = Scatter {
        axis: call.axis(call.int(1)?, x.rank())?,
        index: call.tensor(2)?,
        source: Source::Tensor(call.tensor(3)?),
        how: Combine::Add,
        include: true,
        out: output(call, &x)?,
        x,
    };
    scatter.work(call)
}

fn scatter_reduce(call: &Call) -> Result<Work, Refusal> {
    let x = call.tensor(0)?;
    let scatter = Scatter {
        axis: call.axis(call.int(1)?, x.rank())?,
        index: call.tensor(2)?,
        source: Source::Tensor(call.tensor(3)?),
        how: Combine::of(call, 4, 6)?,
        include: call.bool(5)?,
        out: output(call, &x)?,
        x,
    };
    scatter.work(call)
}

/// Refuses a source that is not `shape` with `axis` replaced by the number of indices.
fn expect_slices(
    call: &Call,
    source: &Tensor,
    shape: &[usize],
    axis: usize,
    count: usize,
) -> Result<(), Refusal> {
    let mut wanted = shape.to_vec();
    if let Some(dim) = wanted.get_mut(axis) {
        *dim = count;
    }
    if source.rank() == 0 && volume(&wanted) == 1 {
        return Ok(());
    }
    call.expect_shape("source", source, &wanted)
}

fn expect_vector(call: &Call, index: &Tensor) -> Result<(), Refusal> {
    if index.rank() <= 1 {
        return Ok(());
    }
    Err(call.invalid(format!("index has shape {:?}, wanted 1 dim", index.shape())))
}

/// `out = self` with `out[index[i]] += alpha * source[i]` along `dim`.
fn index_add(call: &Call) -> Result<Work, Refusal> {
    let (x, index, source) = (call.tensor(0)?, call.tensor(2)?, call.tensor(3)?);
    let axis = call.axis(call.int(1)?, x.rank())?;
    let alpha = call.scalar(4)?;
    let out = output(call, &x)?;
    expect_vector(call, &index)?;
    expect_slices(call, &source, x.shape(), axis, index.count())?;
    same_dtype(call, "source", &source, &x)?;
    call.expect_shape("out", &out, x.shape())?;
    if out.is_empty() {
        return Ok(Work::nothing());
    }
    let (op, lanes, order) = (call.name(), Lanes::new(x.shape(), axis), call.order());
    by_class!(x.dtype(), T => Ok(Work::new(move || {
        let alpha = alpha.get::<T>();
        let source = source.load_vec::<T>();
        let mut values = x.load_vec::<T>();
        let index = index.load_vec::<i64>();
        each_slice(op, lanes, &index, order.of(index.len()), false, |to, from| {
            values[to] = values[to].plus(alpha.times(source[from]));
        })?;
        out.store_slice(&values)
    })), Err(call.unsupported(format!("no kernel for {}", x.dtype()))))
}

/// Visits each element of the slices that `indices` name, in an order of these: its position, and that of its counterpart in a
/// source of such slices.
fn each_slice(
    op: &str,
    lanes: Lanes,
    indices: &[i64],
    order: impl Iterator<Item = usize>,
    wrap: bool,
    mut visit: impl FnMut(usize, usize),
) -> Result<(), Fault> {
    let find = if wrap { wrapped_index } else { checked_index };
    let rows = indices
        .iter()
        .map(|&index| find(op, index, lanes.length))
        .collect::<Result<Vec<_>, _>>()?;
    let order: Vec<usize> = order.collect();
    for outer in 0..lanes.outer {
        for &number in &order {
            let to = (outer * lanes.length + rows[number]) * lanes.inner;
            let from = (outer * rows.len() + number) * lanes.inner;
            (0..lanes.inner).for_each(|inner| visit(to + inner, from + inner));
        }
    }
    Ok(())
}

/// `out = self` with the slices that `index` names filled by a value.
fn index_fill(call: &Call) -> Result<Work, Refusal> {
    let x = call.tensor(0)?;
    let axis = call.axis(call.int(1)?, x.rank())?;
    let (value, out) = (call.scalar(3)?, output(call, &x)?);
    call.expect_shape("out", &out, x.shape())?;
    same_dtype(call, "out", &out, &x)?;
    let host = call.optional_ints(2).map(<[i64]>::to_vec);
    let index = match host {
        Some(_) => None,
        None => Some(call.tensor(2)?),
    };
    if let Some(index) = &index {
        expect_vector(call, index)?;
    }
    if out.is_empty() {
        return Ok(Work::nothing());
    }
    let (op, lanes) = (call.name(), Lanes::new(x.shape(), axis));
    by_class!(x.dtype(), T => Ok(Work::new(move || {
        let rows = match (&index, &host) {
            (Some(index), _) => index.load_vec::<i64>(),
            (None, host) => host.clone().unwrap_or_default(),
        };
        let mut values = x.load_vec::<T>();
        each_slice(op, lanes, &rows, 0..rows.len(), true, |to, _| values[to] = value.get::<T>())?;
        out.store_slice(&values)
    })), Err(call.unsupported(format!("no kernel for {}", x.dtype()))))
}

/// `self` with `self[index[i]] = source[i]` along `dim`.
fn index_copy(call: &Call) -> Result<Work, Refusal> {
    let (x, index, source) = (call.tensor(0)?, call.tensor(2)?, call.tensor(3)?);
    let axis = call.axis(call.int(1)?, x.rank())?;
    let out = output(call, &x)?;
    expect_vector(call, &index)?;
    expect_slices(call, &source, x.shape(), axis, index.count())?;
    same_dtype(call, "source", &source, &x)?;
    call.expect_shape("outRef", &out, x.shape())?;
    if out.is_empty() {
        return Ok(Work::nothing());
    }
    let (op, lanes) = (call.name(), Lanes::new(x.shape(), axis));
    by_class!(x.dtype(), T => Ok(Work::new(move || {
        let source = source.load_vec::<T>();
        let mut values = x.load_vec::<T>();
        let index = index.load_vec::<i64>();
        each_slice(op, lanes, &index, 0..index.len(), false, |to, from| values[to] = source[from])?;
        out.store_slice(&values)
    })), Err(call.unsupported(format!("no kernel for {}", x.dtype()))))
}

/// Elements of `self` where the mask is true take the elements of `source` in their order.
fn masked_scatter(call: &Call) -> Result<Work, Refusal> {
    let (x, mask, source) = (call.tensor(0)?, call.tensor(1)?, call.tensor(2)?);
    expect_broadcast(call, "mask", &mask, x.shape())?;
    same_dtype(call, "source", &source, &x)?;
    if x.is_empty() {
        return Ok(Work::nothing());
    }
    let op = call.name();
    by_class!(x.dtype(), T => Ok(Work::new(move || {
        let chosen = load_broadcast::<bool>(&mask, x.shape());
        let mut new = source.load_vec::<T>().into_iter();
        let mut values = x.load_vec::<T>();
        for (value, _) in values.iter_mut().zip(chosen).filter(|entry| entry.1) {
            *value = new.next().ok_or_else(|| Fault::exception(format!(
                "{op}: source holds {} elements, fewer than the mask asks for", source.count()
            )))?;
        }
        x.store_slice(&values)
    })), Err(call.unsupported(format!("no kernel for {}", x.dtype()))))
}

/// Slices that rows of coordinates name take the updates.
fn scatter_nd(call: &Call) -> Result<Work, Refusal> {
    let (x, indices, updates) = (call.tensor(0)?, call.tensor(1)?, call.tensor(2)?);
    let out = if call.name() == "aclnnScatterNdUpdate" {
        x.clone()
    } else {
        call.tensor(3)?
    };
    let shape = coordinate_shape(call, x.shape(), &indices)?;
    call.expect_shape("updates", &updates, &shape)?;
    same_dtype(call, "updates", &updates, &x)?;
    call.expect_shape("out", &out, x.shape())?;
    if out.is_empty() {
        return Ok(Work::nothing());
    }
    let depth = indices.shape().last().copied().unwrap_or(0);
    let width = volume(x.shape().get(depth..).unwrap_or(&[]));
    let op = call.name();
    by_class!(x.dtype(), T => Ok(Work::new(move || {
        let new = updates.load_vec::<T>();
        let mut values = x.load_vec::<T>();
        let starts = coordinate_starts(op, x.shape(), &indices, false)?;
        for (row, start) in starts.into_iter().enumerate() {
            values[start..start + width].copy_from_slice(&new[row * width..(row + 1) * width]);
        }
        out.store_slice(&values)
    })), Err(call.unsupported(format!("no kernel for {}", x.dtype()))))
}

/// `var[indices[i]] += updates[i]` for indices of any rank.
fn scatter_rows(call: &Call) -> Result<Work, Refusal> {
    let (x, indices, updates) = (call.tensor(0)?, call.tensor(1)?, call.tensor(2)?);
    let Some(rest) = x.shape().get(1..) else {
        return Err(call.invalid("varRef is a scalar"));
    };
    call.expect_shape("updates", &updates, &[indices.shape(), rest].concat())?;
    same_dtype(call, "updates", &updates, &x)?;
    if x.is_empty() {
        return Ok(Work::nothing());
    }
    let (op, lanes) = (call.name(), Lanes::new(x.shape(), 0));
    by_class!(x.dtype(), T => Ok(Work::new(move || {
        let new = updates.load_vec::<T>();
        let mut values = x.load_vec::<T>();
        let indices = indices.load_vec::<i64>();
        each_slice(op, lanes, &indices, 0..indices.len(), false, |to, from| {
            values[to] = values[to].plus(new[from]);
        })?;
        x.store_slice(&values)
    })), Err(call.unsupported(format!("no kernel for {}", x.dtype()))))
}
