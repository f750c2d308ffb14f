//! Copies: casts, copies between views, permutations, slices, tiles, triangles, joins, splits and one-hot rows.
//!
//! Knows shapes and where elements go; it must not know memory.

use super::common::{Lanes, by_class, expect_broadcast, size_of, volume};
use super::element::{Through, common_of, expect_castable, fetch, keep, no_kernel, output, spread};
use super::placement::{AxisTable, OUTSIDE, rearranged};
use crate::dtype::{Class, DType};
use crate::failure::{Fault, Refusal};
use crate::kernel::{Call, Prepare, Work};
use crate::number::{Complex, Number};
use crate::tensor::Tensor;
use ndarray::{Axis, Slice};

/// This family's ops.
pub(crate) const KERNELS: &[(&str, Prepare)] = &[
    ("aclnnCast", cast as Prepare),
    ("aclnnInplaceCopy", copy),
    ("aclnnPermute", permute),
    ("aclnnFlip", flip),
    ("aclnnRoll", roll),
    ("aclnnRepeat", repeat),
    ("aclnnExpand", expand),
    ("aclnnSlice", slice),
    ("aclnnSliceV2", slice_axes),
    ("aclnnFlatten", flatten),
    ("aclnnDiag", diag),
    ("aclnnDiagFlat", diag_flat),
    ("aclnnTril", tril),
    ("aclnnInplaceTril", tril),
    ("aclnnTriu", triu),
    ("aclnnInplaceTriu", triu),
    ("aclnnCat", cat),
    ("aclnnStack", stack),
    ("aclnnSplitTensor", split),
    ("aclnnSplitWithSize", split_with_size),
    ("aclnnOneHot", one_hot),
];

/// Converts between any two types: floats to integers truncate, anything to bool is a comparison with zero.
fn convert(x: &Tensor, out: &Tensor) -> Result<(), Fault> {
    match (x.dtype().class(), out.dtype().class()) {
        (Class::Complex, _) => convert_through::<Complex>(x, out),
        (Class::Float32, Class::Float32) => convert_through::<f32>(x, out),
        (Class::Float32 | Class::Float64, _) => convert_through::<f64>(x, out),
        (_, Class::Float32 | Class::Float64) if x.dtype() == DType::U64 => {
            convert_through::<f64>(x, out)
        }
        _ => convert_through::<i64>(x, out),
    }
}

fn convert_through<T: Number>(x: &Tensor, out: &Tensor) -> Result<(), Fault> {
    let values = x.read::<T>();
    if x.shape() == out.shape() {
        return out.store(&values);
    }
    out.store(&spread(&values, out.shape())?)
}

fn expect_numbers(call: &Call, tensors: [&Tensor; 2]) -> Result<(), Refusal> {
    match tensors
        .iter()
        .find(|tensor| tensor.dtype().class() == Class::Other)
    {
        Some(tensor) => Err(no_kernel(call, tensor.dtype())),
        None => Ok(()),
    }
}

fn cast(call: &Call) -> Result<Work, Refusal> {
    let (x, dtype, out) = (call.tensor(0)?, call.dtype(1)?, call.tensor(2)?);
    if dtype != out.dtype() {
        return Err(call.invalid(format!("dtype is {dtype}, but out is {}", out.dtype())));
    }
    call.expect_shape("out", &out, x.shape())?;
    expect_numbers(call, [&x, &out])?;
    Ok(Work::new(move || convert(&x, &out)))
}

/// The source broadcasts to self and is cast to its type.
fn copy(call: &Call) -> Result<Work, Refusal> {
    let (out, x) = (call.tensor(0)?, call.tensor(1)?);
    expect_broadcast(call, "src", &x, out.shape())?;
    expect_numbers(call, [&x, &out])?;
    if out.is_empty() {
        return Ok(Work::nothing());
    }
    Ok(Work::new(move || convert(&x, &out)))
}

/// Axes counted from the start; repeated ones are refused.
fn distinct_axes(call: &Call, axes: &[i64], rank: usize) -> Result<Vec<usize>, Refusal> {
    let mut seen = Vec::with_capacity(axes.len());
    for &axis in axes {
        let axis = call.axis(axis, rank)?;
        if seen.contains(&axis) {
            return Err(call.invalid(format!("dims {axes:?} hold dim {axis} twice")));
        }
        seen.push(axis);
    }
    Ok(seen)
}

fn permute(call: &Call) -> Result<Work, Refusal> {
    let (x, dims, out) = (call.tensor(0)?, call.ints(1)?, call.tensor(2)?);
    let axes = distinct_axes(call, dims, x.rank())?;
    if axes.len() != x.rank() {
        return Err(call.invalid(format!("dims {dims:?} do not name the {} dims", x.rank())));
    }
    call.expect_dtype("out", &out, &[x.dtype()])?;
    let shape: Vec<usize> = axes.iter().map(|&axis| x.shape()[axis]).collect();
    call.expect_shape_or_one_element("out", &out, &shape)?;
    let refused = no_kernel(call, x.dtype());
    by_class!(x.dtype(), T => Ok(Work::new(move || {
        out.store(&x.read::<T>().view().permuted_axes(axes.as_slice()))
    })), Err(refused))
}

fn flip(call: &Call) -> Result<Work, Refusal> {
    let (x, dims, out) = (call.tensor(0)?, call.ints(1)?, call.tensor(2)?);
    let axes = distinct_axes(call, dims, x.rank())?;
    let mut tables = AxisTable::identity(x.shape());
    for axis in axes {
        if let Some(table) = tables.get_mut(axis) {
            table.sources.reverse();
        }
    }
    rearranged(call, x, &tables, out, None)
}

/// Without dims the flattened tensor turns.
fn roll(call: &Call) -> Result<Work, Refusal> {
    let (x, shifts, out) = (call.tensor(0)?, call.ints(1)?, call.tensor(2 + 1)?);
    let dims = call.optional_ints(2).unwrap_or(&[]);
    if dims.is_empty() && shifts.len() == 1 {
        call.expect_dtype("out", &out, &[x.dtype()])?;
        call.expect_shape("out", &out, x.shape())?;
        let refused = no_kernel(call, x.dtype());
        let shift = turned(shifts[0], x.count());
        return by_class!(x.dtype(), T => Ok(Work::new(move || {
            let mut values = x.load_vec::<T>();
            values.rotate_right(shift);
            out.store_slice(&values)
        })), Err(refused));
    }
    if dims.len() != shifts.len() {
        return Err(call.invalid(format!("shifts {shifts:?} do not fit dims {dims:?}")));
    }
    let mut tables = AxisTable::identity(x.shape());
    for (&dim, &shift) in dims.iter().zip(shifts) {
        if let Some(table) = tables.get_mut(call.axis(dim, x.rank())?) {
            let shift = turned(shift, table.sources.len());
            table.sources.rotate_right(shift);
        }
    }
    rearranged(call, x, &tables, out, None)
}

fn turned(shift: i64, length: usize) -> usize {
    shift.rem_euclid(length.max(1) as i64) as usize
}

/// New dims come first.
fn repeat(call: &Call) -> Result<Work, Refusal> {
    let (x, repeats, out) = (call.tensor(0)?, call.ints(1)?, call.tensor(2)?);
    if repeats.len() < x.rank() {
        return Err(call.invalid(format!(
            "repeats {repeats:?}, wanted at least {} numbers",
            x.rank()
        )));
    }
    let mut shape = vec![1usize; repeats.len() - x.rank()];
    shape.extend(x.shape());
    let longest = out.shape().iter().copied().max().unwrap_or(0);
    let mut tables = AxisTable::identity(&shape);
    for (table, &count) in tables.iter_mut().zip(repeats) {
        let count = size_of(call, "a repeat", count, 0)?;
        if table
            .sources
            .len()
            .checked_mul(count)
            .is_none_or(|size| size > longest)
        {
            return Err(call.invalid(format!(
                "shape {:?} repeated {repeats:?} times does not fit {:?}",
                x.shape(),
                out.shape()
            )));
        }
        table.sources = table.sources.repeat(count);
    }
    rearranged(call, x, &tables, out, None)
}

/// -1 keeps a dim; new dims come first.
fn expand(call: &Call) -> Result<Work, Refusal> {
    let (x, size, out) = (call.tensor(0)?, call.ints(1)?, call.tensor(2)?);
    let lead = size.len().checked_sub(x.rank()).ok_or_else(|| {
        call.invalid(format!(
            "size {size:?}, wanted at least {} numbers",
            x.rank()
        ))
    })?;
    let mut shape = Vec::with_capacity(size.len());
    for (axis, &wanted) in size.iter().enumerate() {
        shape.push(match wanted {
            -1 if axis >= lead => x.shape()[axis - lead],
            _ => size_of(call, "size", wanted, 0)?,
        });
    }
    expect_broadcast(call, "self", &x, &shape)?;
    call.expect_shape("out", &out, &shape)?;
    call.expect_dtype("out", &out, &[x.dtype()])?;
    expect_numbers(call, [&x, &out])?;
    if out.is_empty() {
        return Ok(Work::nothing());
    }
    Ok(Work::new(move || convert(&x, &out)))
}

/// Keeps `start, start + step, ...` before `end` along an axis; bounds count from the end where negative, and are clipped.
fn cut(call: &Call, table: &mut AxisTable, start: i64, end: i64, step: i64) -> Result<(), Refusal> {
    if step <= 0 {
        return Err(call.invalid(format!("step is {step}, wanted at least 1")));
    }
    let length = table.sources.len() as i64;
    let clip = |bound: i64| {
        let from_start = if bound < 0 {
            bound.saturating_add(length)
        } else {
            bound
        };
        from_start.clamp(0, length) as usize
    };
    let (start, end) = (clip(start), clip(end));
    let step = usize::try_from(step).unwrap_or(usize::MAX);
    table.sources = (start..end.max(start)).step_by(step).collect();
    Ok(())
}

fn slice(call: &Call) -> Result<Work, Refusal> {
    let (x, out) = (call.tensor(0)?, call.tensor(5)?);
    let (start, end, step) = (call.int(2)?, call.int(3)?, call.int(4)?);
    let mut tables = AxisTable::identity(x.shape());
    let axis = call.axis(call.int(1)?, x.rank())?;
    match tables.get_mut(axis) {
        Some(table) => cut(call, table, start, end, step)?,
        None => return Err(call.invalid("self has no dims")),
    }
    rearranged(call, x, &tables, out, None)
}

fn slice_axes(call: &Call) -> Result<Work, Refusal> {
    let (x, out) = (call.tensor(0)?, call.tensor(5)?);
    let (starts, ends, axes, steps) = (call.ints(1)?, call.ints(2)?, call.ints(3)?, call.ints(4)?);
    if [ends.len(), axes.len(), steps.len()] != [starts.len(); 3] {
        return Err(call.invalid(format!(
            "starts {starts:?}, ends {ends:?}, axes {axes:?} and steps {steps:?} differ in length"
        )));
    }
    let mut tables = AxisTable::identity(x.shape());
    let numbers = starts.iter().zip(ends).zip(steps);
    for (axis, ((&start, &end), &step)) in distinct_axes(call, axes, x.rank())?
        .into_iter()
        .zip(numbers)
    {
        if let Some(table) = tables.get_mut(axis) {
            cut(call, table, start, end, step)?;
        }
    }
    rearranged(call, x, &tables, out, None)
}

/// Two dims: those before the axis, and the others.
fn flatten(call: &Call) -> Result<Work, Refusal> {
    let (x, axis, out) = (call.tensor(0)?, call.int(1)?, call.tensor(2)?);
    let rank = x.rank() as i64;
    if axis < -rank || axis > rank {
        return Err(call.invalid(format!("axis {axis} is outside [{}, {rank}]", -rank)));
    }
    let axis = if axis < 0 { axis + rank } else { axis } as usize;
    let shape = [volume(&x.shape()[..axis]), volume(&x.shape()[axis..])];
    call.expect_shape("out", &out, &shape)?;
    call.expect_dtype("out", &out, &[x.dtype()])?;
    let refused = no_kernel(call, x.dtype());
    by_class!(x.dtype(), T => Ok(Work::new(move || out.store_slice(&x.load_vec::<T>()))), Err(refused))
}

/// A vector becomes a diagonal, a matrix gives its diagonal.
fn diag(call: &Call) -> Result<Work, Refusal> {
    let (x, shift, out) = (call.tensor(0)?, call.int(1)?, call.tensor(2)?);
    let (down, right) = (shift.min(0).unsigned_abs() as usize, shift.max(0) as usize);
    match x.shape() {
        [_] => diag_flat(call),
        &[rows, columns] => {
            let length = rows.saturating_sub(down).min(columns.saturating_sub(right));
            let places = (0..length)
                .map(|index| (index + down) * columns + index + right)
                .collect();
            let table = AxisTable {
                stride: 1,
                sources: places,
            };
            rearranged(call, x, &[table], out, None)
        }
        other => Err(call.invalid(format!("self has shape {other:?}, wanted 1 or 2 dims"))),
    }
}

/// The flattened input on a diagonal of a square matrix.
fn diag_flat(call: &Call) -> Result<Work, Refusal> {
    let (x, shift, out) = (call.tensor(0)?, call.int(1)?, call.tensor(2)?);
    let (down, right) = (shift.min(0).unsigned_abs() as usize, shift.max(0) as usize);
    let side = x.count().saturating_add(down).saturating_add(right);
    call.expect_shape("out", &out, &[side, side])?;
    call.expect_dtype("out", &out, &[x.dtype()])?;
    let refused = no_kernel(call, x.dtype());
    by_class!(x.dtype(), T => Ok(Work::new(move || {
        let mut values = vec![T::get(0u8); side * side];
        let slots = values.iter_mut().skip(down * side + right).step_by(side + 1);
        slots.zip(x.load_vec::<T>()).for_each(|(slot, value)| *slot = value);
        out.store_slice(&values)
    })), Err(refused))
}

fn tril(call: &Call) -> Result<Work, Refusal> {
    triangle(call, |offset, diagonal| offset <= diagonal)
}

fn triu(call: &Call) -> Result<Work, Refusal> {
    triangle(call, |offset, diagonal| offset >= diagonal)
}

/// Zeroes what `keeps(column - row, diagonal)` does not keep, in each matrix of the last two dims.
fn triangle(call: &Call, keeps: fn(i64, i64) -> bool) -> Result<Work, Refusal> {
    let (x, diagonal, out) = (call.tensor(0)?, call.int(1)?, output(call, 2)?);
    let &[.., rows, columns] = x.shape() else {
        return Err(call.invalid(format!(
            "self has shape {:?}, wanted at least 2 dims",
            x.shape()
        )));
    };
    call.expect_shape("out", &out, x.shape())?;
    call.expect_dtype("out", &out, &[x.dtype()])?;
    if x.is_empty() {
        return Ok(Work::nothing());
    }
    let refused = no_kernel(call, x.dtype());
    by_class!(x.dtype(), T => Ok(Work::new(move || {
        let mut values = x.load_vec::<T>();
        for (place, value) in values.iter_mut().enumerate() {
            let (row, column) = (place / columns % rows, place % columns);
            if !keeps(column as i64 - row as i64, diagonal) {
                *value = T::get(0u8);
            }
        }
        out.store_slice(&values)
    })), Err(refused))
}

/// The list is promoted together; vectors without elements are skipped.
fn cat(call: &Call) -> Result<Work, Refusal> {
    let (list, out) = (call.tensors(0)?, call.tensor(2)?);
    let dtype = common_of(call, &list.iter().collect::<Vec<_>>())?;
    expect_castable_or_same(call, dtype, &out)?;
    let parts: Vec<Tensor> = list
        .iter()
        .filter(|part| part.shape() != [0])
        .cloned()
        .collect();
    let Some(first) = parts.first() else {
        call.expect_shape_or_one_element("out", &out, &[0])?;
        return Ok(Work::nothing());
    };
    let axis = call.axis(call.int(1)?, first.rank())?;
    let mut shape = first.shape().to_vec();
    if shape.is_empty() {
        return Err(call.invalid("tensors without dims cannot be joined"));
    }
    shape[axis] = 0;
    for part in &parts {
        let mut rest = part.shape().to_vec();
        let length = rest.get_mut(axis).map_or(0, std::mem::take);
        let joined = shape[axis];
        shape[axis] = 0;
        if rest != shape {
            return Err(call.invalid(format!(
                "shapes {:?} and {:?} cannot be joined at dim {axis}",
                first.shape(),
                part.shape()
            )));
        }
        shape[axis] = joined + length;
    }
    call.expect_shape_or_one_element("out", &out, &shape)?;
    if out.is_empty() {
        return Ok(Work::nothing());
    }
    let refused = no_kernel(call, dtype);
    by_class!(dtype, T => Ok(Work::new(move || {
        join::<T>(&parts, dtype, Axis(axis), &out, false)
    })), Err(refused))
}

fn expect_castable_or_same(call: &Call, dtype: DType, out: &Tensor) -> Result<(), Refusal> {
    if dtype == out.dtype() {
        return Ok(());
    }
    expect_castable(call, dtype, out)
}

fn stack(call: &Call) -> Result<Work, Refusal> {
    let (parts, out) = (call.tensors(0)?, call.tensor(2)?);
    let dtype = common_of(call, &parts.iter().collect::<Vec<_>>())?;
    expect_castable_or_same(call, dtype, &out)?;
    let mut shape = parts
        .first()
        .map_or_else(Vec::new, |first| first.shape().to_vec());
    for part in &parts {
        call.expect_shape("a tensor in the list", part, &shape)?;
    }
    let axis = call.axis(call.int(1)?, shape.len() + 1)?;
    shape.insert(axis, parts.len());
    call.expect_shape_or_one_element("out", &out, &shape)?;
    if out.is_empty() {
        return Ok(Work::nothing());
    }
    let refused = no_kernel(call, dtype);
    by_class!(dtype, T => Ok(Work::new(move || {
        join::<T>(&parts, dtype, Axis(axis), &out, true)
    })), Err(refused))
}

fn join<T: Through>(
    parts: &[Tensor],
    dtype: DType,
    axis: Axis,
    out: &Tensor,
    new_axis: bool,
) -> Result<(), Fault> {
    let arrays: Vec<_> = parts.iter().map(|part| fetch::<T>(part, dtype)).collect();
    let views: Vec<_> = arrays.iter().map(|array| array.view()).collect();
    let joined = if new_axis {
        ndarray::stack(axis, &views)
    } else {
        ndarray::concatenate(axis, &views)
    };
    match joined {
        Ok(joined) => keep(out, dtype, joined.view()),
        Err(error) => Err(Fault::exception(format!("tensors do not join: {error}"))),
    }
}

/// Pieces of one length; the last may be shorter.
fn split(call: &Call) -> Result<Work, Refusal> {
    let x = call.tensor(0)?;
    let piece = size_of(call, "splitSections", call.int(1)?, 1)?;
    let axis = call.axis(call.int(2)?, x.rank())?;
    let Some(&length) = x.shape().get(axis) else {
        return Err(call.invalid("self has no dims"));
    };
    let count = length.div_ceil(piece).max(1);
    let sizes = (0..count)
        .map(|index| piece.min(length - index * piece))
        .collect();
    pieces(call, x, axis, sizes)
}

fn split_with_size(call: &Call) -> Result<Work, Refusal> {
    let (x, sizes) = (call.tensor(0)?, call.ints(1)?);
    let axis = call.axis(call.int(2)?, x.rank())?;
    let sizes: Vec<usize> = sizes
        .iter()
        .map(|&size| size_of(call, "a split size", size, 0))
        .collect::<Result<_, _>>()?;
    let sum = sizes
        .iter()
        .try_fold(0usize, |sum, &size| sum.checked_add(size));
    if sum.is_none() || sum != x.shape().get(axis).copied() {
        return Err(call.invalid(format!(
            "split sizes {sizes:?} do not fill dim {axis} of {:?}",
            x.shape()
        )));
    }
    pieces(call, x, axis, sizes)
}

fn pieces(call: &Call, x: Tensor, axis: usize, sizes: Vec<usize>) -> Result<Work, Refusal> {
    let outs = call.tensors(3)?;
    if outs.len() != sizes.len() {
        return Err(call.invalid(format!(
            "out holds {} tensors, wanted {}",
            outs.len(),
            sizes.len()
        )));
    }
    for (out, &size) in outs.iter().zip(&sizes) {
        let mut shape = x.shape().to_vec();
        shape[axis] = size;
        call.expect_shape_or_one_element("a tensor of out", out, &shape)?;
        call.expect_dtype("a tensor of out", out, &[x.dtype()])?;
    }
    let refused = no_kernel(call, x.dtype());
    by_class!(x.dtype(), T => Ok(Work::new(move || {
        let values = x.read::<T>();
        let mut start = 0;
        for (out, &size) in outs.iter().zip(&sizes) {
            let range = Slice::from(start..start + size);
            out.store(&values.slice_axis(Axis(axis), range))?;
            start += size;
        }
        Ok(())
    })), Err(refused))
}

/// A new dim of classes at `axis` (-1: last) that holds `on` at the class and `off` elsewhere; classes out of range are
/// nowhere on.
fn one_hot(call: &Call) -> Result<Work, Refusal> {
    let (x, classes) = (call.tensor(0)?, call.int(1)?);
    let (on, off, out) = (call.tensor(2)?, call.tensor(3)?, call.tensor(5)?);
    let classes = size_of(call, "numClasses", classes, 0)?;
    for (what, value) in [("onValue", &on), ("offValue", &off)] {
        call.expect_dtype(what, value, &[out.dtype()])?;
        if value.count() != 1 {
            return Err(call.invalid(format!("{what} has shape {:?}", value.shape())));
        }
    }
    let axis = call.axis(call.int(4)?, x.rank() + 1)?;
    let mut shape = x.shape().to_vec();
    shape.insert(axis, classes);
    call.expect_shape("out", &out, &shape)?;
    if out.is_empty() {
        return Ok(Work::nothing());
    }
    let lanes = Lanes::new(&shape, axis);
    let refused = no_kernel(call, out.dtype());
    by_class!(out.dtype(), T => Ok(Work::new(move || {
        let mut values = vec![off.load_one::<T>(); out.count()];
        let (on, labels) = (on.load_one::<T>(), x.load_vec::<i64>());
        for (start, label) in lanes.starts().zip(labels) {
            let class = usize::try_from(label).unwrap_or(OUTSIDE);
            if class < lanes.length {
                values[start + class * lanes.inner] = on;
            }
        }
        out.store_slice(&values)
    })), Err(refused))
}
