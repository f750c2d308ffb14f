//! Selection by value: distinct elements, places of non-zeros, masks, bounds in sorted sequences, counts and membership.
//! Outputs of a size that depends on the data are sized for the worst case and report their true shape after the run.
//!
//! Knows orders and counts; it must not know memory.

use super::common::{Lanes, by_class, size_of, volume};
use super::element::{Operand, common, fetch, load_spread, no_kernel};
use crate::dtype::{Class, DType};
use crate::failure::{Fault, Refusal};
use crate::kernel::{Call, Prepare, Work};
use crate::number::Number;
use crate::tensor::Tensor;
use std::cmp::Ordering;

/// This family's ops.
pub(crate) const KERNELS: &[(&str, Prepare)] = &[
    ("aclnnUnique", unique as Prepare),
    ("aclnnUnique2", unique),
    ("aclnnUniqueConsecutive", unique_consecutive),
    ("aclnnUniqueDim", unique_slices),
    ("aclnnNonzero", |call| nonzero(call, false)),
    ("aclnnNonzeroV2", |call| nonzero(call, true)),
    ("aclnnMaskedSelect", masked_select),
    ("aclnnSearchSorted", search_sorted),
    ("aclnnSearchSorteds", search_sorted),
    ("aclnnBucketize", bucketize),
    ("aclnnBincount", bincount),
    ("aclnnHistc", histogram),
    ("aclnnIsInTensorScalar", is_in),
    ("aclnnIsInScalarTensor", is_in),
];

/// Writes the first elements of an output sized for the worst case, and says its true shape.
fn store_front<T: Number>(out: &Tensor, mut values: Vec<T>, shape: &[usize]) -> Result<(), Fault> {
    if values.len() > out.count() {
        return Err(Fault::exception(format!(
            "{} elements were found, the output holds {}",
            values.len(),
            out.count()
        )));
    }
    values.resize(out.count(), T::get(0u8));
    out.store_slice(&values)?;
    out.report_shape(shape);
    Ok(())
}

/// Refuses an output that cannot hold the worst case.
fn expect_room(call: &Call, what: &str, out: &Tensor, count: usize) -> Result<(), Refusal> {
    if out.count() >= count && out.is_contiguous() {
        return Ok(());
    }
    Err(call.invalid(format!(
        "{what} has shape {:?}, wanted room for {count} elements without gaps",
        out.shape()
    )))
}

/// As [`expect_room`], but less than the worst case is taken: published programs allocate what they know to be found. What does
/// not fit then is a device exception.
fn expect_some_room(call: &Call, what: &str, out: &Tensor, count: usize) -> Result<(), Refusal> {
    expect_room(call, what, out, count.min(out.count().max(1)))
}

/// A number in a total order, as bits: equal numbers have equal keys (both zeros too), NaN is the greatest.
fn float_key(value: f64) -> u64 {
    if value.is_nan() {
        return u64::MAX;
    }
    let bits = (value + 0.0).to_bits();
    if bits >> 63 == 1 {
        !bits
    } else {
        bits | 1 << 63
    }
}

/// The keys of a tensor's elements; U64 orders as unsigned.
fn keys(x: &Tensor) -> Vec<u64> {
    match x.dtype().class() {
        Class::Float32 | Class::Float64 => x.load_vec::<f64>().into_iter().map(float_key).collect(),
        _ => {
            let flip = if x.dtype() == DType::U64 {
                0
            } else {
                1u64 << 63
            };
            let values = x.load_vec::<i64>().into_iter();
            values.map(|value| value as u64 ^ flip).collect()
        }
    }
}

/// The distinct ones of `count` things: which one represents each, which class each belongs to, and how many there are.
struct Classes {
    first: Vec<usize>,
    class: Vec<i64>,
    counts: Vec<i64>,
}

fn classify(count: usize, order: impl Fn(usize, usize) -> Ordering) -> Classes {
    let mut sorted: Vec<usize> = (0..count).collect();
    sorted.sort_by(|&a, &b| order(a, b));
    let mut classes = Classes {
        first: Vec::new(),
        class: vec![0; count],
        counts: Vec::new(),
    };
    for &index in &sorted {
        let same = classes
            .first
            .last()
            .is_some_and(|&first| order(first, index) == Ordering::Equal);
        if !same {
            classes.first.push(index);
            classes.counts.push(0);
        }
        classes.class[index] = classes.first.len() as i64 - 1;
        if let Some(number) = classes.counts.last_mut() {
            *number += 1;
        }
    }
    classes
}

/// The distinct elements; each NaN is a class of its own.
fn element_classes(x: &Tensor) -> Classes {
    let (keys, float) = (keys(x), x.dtype().is_float());
    classify(keys.len(), |a, b| {
        let tie = if float && keys[a] == u64::MAX {
            a.cmp(&b)
        } else {
            Ordering::Equal
        };
        keys[a].cmp(&keys[b]).then(tie)
    })
}

/// The distinct slices along the axis of the lanes.
fn slice_classes(x: &Tensor, lanes: Lanes) -> Classes {
    let keys = keys(x);
    let slice = |index: usize| {
        let places = lanes.starts().map(move |start| start + index * lanes.inner);
        places.map(|place| keys[place]).collect::<Vec<u64>>()
    };
    let slices: Vec<Vec<u64>> = (0..lanes.length).map(slice).collect();
    classify(lanes.length, |a, b| slices[a].cmp(&slices[b]))
}

fn refuse_complex(call: &Call, x: &Tensor) -> Result<(), Refusal> {
    match x.dtype().class() {
        Class::Complex | Class::Other => Err(no_kernel(call, x.dtype())),
        _ => Ok(()),
    }
}

/// Ascending distinct elements of the flattened input; where each element went, and how often each occurs, on demand.
fn unique(call: &Call) -> Result<Work, Refusal> {
    let (x, with_inverse) = (call.tensor(0)?, call.bool(2)?);
    let counted = call.name() == "aclnnUnique2";
    let with_counts = counted && call.bool(3)?;
    let first = if counted { 4 } else { 3 };
    let (values, inverse) = (call.tensor(first)?, call.tensor(first + 1)?);
    let counts = if counted {
        Some(call.tensor(first + 2)?)
    } else {
        None
    };
    refuse_complex(call, &x)?;
    call.expect_dtype("valueOut", &values, &[x.dtype()])?;
    expect_room(call, "valueOut", &values, x.count())?;
    if with_inverse {
        call.expect_shape("inverseOut", &inverse, x.shape())?;
    }
    if let (Some(counts), true) = (&counts, with_counts) {
        expect_room(call, "countsOut", counts, x.count())?;
    }
    let refused = no_kernel(call, x.dtype());
    by_class!(x.dtype(), T => Ok(Work::new(move || {
        let classes = element_classes(&x);
        let data = x.load_vec::<T>();
        let distinct: Vec<T> = classes.first.iter().map(|&index| data[index]).collect();
        let count = distinct.len();
        store_front(&values, distinct, &[count])?;
        if with_inverse {
            inverse.store_slice(&classes.class)?;
        }
        match &counts {
            Some(counts) if with_counts => store_front(counts, classes.counts, &[count]),
            _ => Ok(()),
        }
    })), Err(refused))
}

/// The value of `dim` that stands for no dim: the input is taken flat.
const FLAT: i64 = 1000;

/// Runs of equal elements, or of equal slices along a dim, each as one; which run each belongs to, and the runs' lengths.
fn unique_consecutive(call: &Call) -> Result<Work, Refusal> {
    let (x, with_inverse, with_counts) = (call.tensor(0)?, call.bool(1)?, call.bool(2)?);
    let (values, inverse, counts) = (call.tensor(4)?, call.tensor(5)?, call.tensor(6)?);
    refuse_complex(call, &x)?;
    call.expect_dtype("valueOut", &values, &[x.dtype()])?;
    expect_room(call, "valueOut", &values, x.count())?;
    let flat = call.int(3)? == FLAT;
    let lanes = if flat {
        Lanes::new(&[x.count()], 0)
    } else {
        Lanes::new(x.shape(), call.axis(call.int(3)?, x.rank())?)
    };
    let axis = if flat {
        0
    } else {
        call.axis(call.int(3)?, x.rank())?
    };
    let mut shape = if flat {
        vec![x.count()]
    } else {
        x.shape().to_vec()
    };
    let inverse_shape = if flat {
        x.shape().to_vec()
    } else {
        vec![lanes.length]
    };
    let refused = no_kernel(call, x.dtype());
    by_class!(x.dtype(), T => Ok(Work::new(move || {
        let data = x.load_vec::<T>();
        let slice = |index: usize| lanes.starts().map(move |start| start + index * lanes.inner);
        let (mut first, mut runs, mut lengths) = (Vec::new(), Vec::new(), Vec::<i64>::new());
        for index in 0..lanes.length {
            let same = index > 0 && slice(index - 1).zip(slice(index)).all(|(a, b)| data[a] == data[b]);
            match lengths.last_mut() {
                Some(length) if same => *length += 1,
                _ => {
                    first.push(index);
                    lengths.push(1);
                }
            }
            runs.push(lengths.len() as i64 - 1);
        }
        let mut kept = Vec::with_capacity(x.count());
        for outer in 0..lanes.outer {
            for index in &first {
                let start = (outer * lanes.length + index) * lanes.inner;
                kept.extend_from_slice(&data[start..start + lanes.inner]);
            }
        }
        if let Some(dim) = shape.get_mut(axis) {
            *dim = first.len();
        }
        store_front(&values, kept, &shape)?;
        if with_inverse {
            store_front(&inverse, runs, &inverse_shape)?;
        }
        if with_counts {
            store_front(&counts, lengths, &[first.len()])?;
        }
        Ok(())
    })), Err(refused))
}

/// Distinct slices along a dim, in lexicographic order.
fn unique_slices(call: &Call) -> Result<Work, Refusal> {
    let (x, with_inverse) = (call.tensor(0)?, call.bool(2)?);
    let (values, inverse, counts) = (call.tensor(4)?, call.tensor(5)?, call.tensor(6)?);
    let axis = call.axis(call.int(3)?, x.rank())?;
    let Some(&length) = x.shape().get(axis) else {
        return Err(call.invalid("self has no dims"));
    };
    refuse_complex(call, &x)?;
    call.expect_dtype("valueOut", &values, &[x.dtype()])?;
    expect_some_room(call, "valueOut", &values, x.count())?;
    expect_some_room(call, "countsOut", &counts, length)?;
    if with_inverse {
        expect_room(call, "inverseOut", &inverse, length)?;
    }
    let lanes = Lanes::new(x.shape(), axis);
    let refused = no_kernel(call, x.dtype());
    by_class!(x.dtype(), T => Ok(Work::new(move || {
        let classes = slice_classes(&x, lanes);
        let data = x.load_vec::<T>();
        let mut distinct = Vec::with_capacity(x.count());
        for outer in 0..lanes.outer {
            for &index in &classes.first {
                let start = (outer * length + index) * lanes.inner;
                distinct.extend_from_slice(&data[start..start + lanes.inner]);
            }
        }
        let count = classes.first.len();
        let mut shape = x.shape().to_vec();
        shape[axis] = count;
        store_front(&values, distinct, &shape)?;
        if with_inverse {
            store_front(&inverse, classes.class, &[length])?;
        }
        store_front(&counts, classes.counts, &[count])
    })), Err(refused))
}

/// Coordinates of the non-zeros in row-major order: one row each, or one column each.
fn nonzero(call: &Call, columns: bool) -> Result<Work, Refusal> {
    let (x, out) = (call.tensor(0)?, call.tensor(1)?);
    let rank = x.rank();
    expect_some_room(call, "out", &out, x.count() * rank)?;
    Ok(Work::new(move || {
        let truths = x.load_vec::<bool>();
        let places: Vec<usize> = (0..truths.len()).filter(|&place| truths[place]).collect();
        let mut coordinates = vec![0i64; places.len() * rank];
        for (index, &place) in places.iter().enumerate() {
            let mut rest = place;
            for (axis, &dim) in x.shape().iter().enumerate().rev() {
                let slot = if columns {
                    axis * places.len() + index
                } else {
                    index * rank + axis
                };
                coordinates[slot] = (rest % dim.max(1)) as i64;
                rest /= dim.max(1);
            }
        }
        let shape = if columns {
            [rank, places.len()]
        } else {
            [places.len(), rank]
        };
        store_front(&out, coordinates, &shape)
    }))
}

/// The elements under a true mask, both broadcast together.
fn masked_select(call: &Call) -> Result<Work, Refusal> {
    let (x, mask, out) = (call.tensor(0)?, call.tensor(1)?, call.tensor(2)?);
    let shape = call.broadcast(&[x.shape(), mask.shape()])?;
    call.expect_dtype("mask", &mask, &[DType::Bool, DType::U8])?;
    call.expect_dtype("out", &out, &[x.dtype()])?;
    if out.rank() != 1 {
        return Err(call.invalid(format!("out has shape {:?}, wanted 1 dim", out.shape())));
    }
    expect_room(call, "out", &out, volume(&shape))?;
    if volume(&shape) == 0 {
        return Ok(Work::new(move || {
            out.report_shape(&[0]);
            Ok(())
        }));
    }
    let refused = no_kernel(call, x.dtype());
    by_class!(x.dtype(), T => Ok(Work::new(move || {
        let values = load_spread::<T>(&x, x.dtype(), &shape)?;
        let truths = load_spread::<bool>(&mask, DType::Bool, &shape)?;
        let pairs = values.iter().zip(&truths);
        let chosen: Vec<T> = pairs.filter(|pair| *pair.1).map(|pair| *pair.0).collect();
        let count = chosen.len();
        store_front(&out, chosen, &[count])
    })), Err(refused))
}

/// The first place in an ascending row where a value can be inserted; with `right`, the last one.
fn bound(row: &[f64], value: f64, right: bool) -> usize {
    let key = float_key(value);
    row.partition_point(|&element| {
        let element = float_key(element);
        element < key || (right && element == key)
    })
}

fn expect_index_type(call: &Call, out: &Tensor, narrow: bool) -> Result<(), Refusal> {
    let wanted = if narrow { DType::I32 } else { DType::I64 };
    call.expect_dtype("out", out, &[wanted])
}

/// Sequences along the last dim, one for all values or one for each leading index; the sorter, if any, puts them in order.
fn search_sorted(call: &Call) -> Result<Work, Refusal> {
    let (sequence, values) = (call.tensor(0)?, Operand::of(call, 1)?);
    let (narrow, right, sorter) = (call.bool(2)?, call.bool(3)?, call.optional_tensor(4));
    let out = call.tensor(5)?;
    let Some((&length, lead)) = sequence.shape().split_last() else {
        return Err(call.invalid("sortedSequence has no dims"));
    };
    let shared = lead.is_empty();
    let values_lead = values.shape().split_last().map(|(_, lead)| lead);
    if !shared && values_lead != Some(lead) {
        return Err(call.invalid(format!(
            "self has shape {:?}, which does not fit a sequence of shape {:?}",
            values.shape(),
            sequence.shape()
        )));
    }
    if let Some(sorter) = &sorter {
        call.expect_shape("sorter", sorter, sequence.shape())?;
    }
    call.expect_shape_or_one_element("out", &out, values.shape())?;
    expect_index_type(call, &out, narrow)?;
    let dtype = common(call, &Operand::Tensor(sequence.clone()), &values)?;
    if out.is_empty() {
        return Ok(Work::nothing());
    }
    let columns = if shared {
        out.count()
    } else {
        out.count() / volume(lead).max(1)
    };
    Ok(Work::new(move || {
        let mut rows: Vec<f64> = fetch::<f64>(&sequence, dtype).iter().copied().collect();
        if let Some(sorter) = &sorter {
            rows = sorted_rows(&rows, &sorter.load_vec::<i64>(), length)?;
        }
        let wanted = values.fetch::<f64>(dtype);
        let places: Vec<i64> = wanted
            .iter()
            .enumerate()
            .map(|(index, &value)| {
                let start = index / columns.max(1) * length;
                bound(&rows[start..start + length], value, right) as i64
            })
            .collect();
        out.store_slice(&places)
    }))
}

fn sorted_rows(rows: &[f64], order: &[i64], length: usize) -> Result<Vec<f64>, Fault> {
    let mut sorted = Vec::with_capacity(rows.len());
    for (index, &place) in order.iter().enumerate() {
        let place = super::common::checked_index("sorter", place, length)?;
        sorted.push(rows[index / length.max(1) * length + place]);
    }
    Ok(sorted)
}

/// As a search in one sequence of boundaries.
fn bucketize(call: &Call) -> Result<Work, Refusal> {
    let (x, boundaries, out) = (call.tensor(0)?, call.tensor(1)?, call.tensor(4)?);
    let (narrow, right) = (call.bool(2)?, call.bool(3)?);
    if boundaries.rank() != 1 {
        return Err(call.invalid(format!(
            "boundaries have shape {:?}, wanted 1 dim",
            boundaries.shape()
        )));
    }
    call.expect_shape("out", &out, x.shape())?;
    expect_index_type(call, &out, narrow)?;
    Ok(Work::new(move || {
        let row = boundaries.load_vec::<f64>();
        let values = x.load_vec::<f64>();
        let places = values.iter().map(|&value| bound(&row, value, right) as i64);
        out.store_slice(&places.collect::<Vec<_>>())
    }))
}

/// How often each value occurs, or the sum of its weights. The output is as long as the caller made it: at least
/// `minlength`, and one more than the largest value, which only the device sees.
fn bincount(call: &Call) -> Result<Work, Refusal> {
    let (x, weights, out) = (call.tensor(0)?, call.optional_tensor(1), call.tensor(3)?);
    let least = size_of(call, "minlength", call.int(2)?, 0)?;
    if x.rank() != 1 || out.rank() != 1 || out.count() < least {
        return Err(call.invalid(format!(
            "self has shape {:?} and out {:?}, wanted 1 dim and at least {least} results",
            x.shape(),
            out.shape()
        )));
    }
    if let Some(weights) = &weights {
        call.expect_shape("weights", weights, x.shape())?;
    }
    Ok(Work::new(move || {
        let mut sums = vec![0f64; out.count()];
        let weights = match &weights {
            Some(weights) => weights.load_vec::<f64>(),
            None => vec![1.0; x.count()],
        };
        for (label, weight) in x.load_vec::<i64>().into_iter().zip(weights) {
            let place = super::common::checked_index("aclnnBincount", label, sums.len())?;
            sums[place] += weight;
        }
        out.store_slice(&sums)
    }))
}

/// Counts in equal bins from min to max (from the data where both are equal); the last bin holds its upper edge.
fn histogram(call: &Call) -> Result<Work, Refusal> {
    let (x, out) = (call.tensor(0)?, call.tensor(4)?);
    let bins = size_of(call, "bins", call.int(1)?, 1)?;
    let (low, high) = (call.scalar(2)?.f64(), call.scalar(3)?.f64());
    if low > high {
        return Err(call.invalid(format!("min {low} is above max {high}")));
    }
    call.expect_shape("out", &out, &[bins])?;
    Ok(Work::new(move || {
        let values = x.load_vec::<f64>();
        let (mut low, mut high) = (low, high);
        if low == high && !values.is_empty() {
            low = values.iter().copied().fold(f64::INFINITY, f64::min);
            high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        }
        if low == high {
            (low, high) = (low - 1.0, high + 1.0);
        }
        let mut counts = vec![0i64; bins];
        for value in values
            .into_iter()
            .filter(|value| (low..=high).contains(value))
        {
            let bin = ((value - low) / (high - low) * bins as f64) as usize;
            counts[bin.min(bins - 1)] += 1;
        }
        out.store_slice(&counts)
    }))
}

/// Whether each element is the scalar, or the scalar is one of the elements.
fn is_in(call: &Call) -> Result<Work, Refusal> {
    let (x, y) = (Operand::of(call, 0)?, Operand::of(call, 1)?);
    let (invert, out) = (call.bool(3)?, call.tensor(4)?);
    call.expect_shape("out", &out, x.shape())?;
    let dtype = common(call, &x, &y)?;
    if dtype.is_complex() {
        return Err(no_kernel(call, dtype));
    }
    let whole = dtype.is_integer();
    Ok(Work::new(move || {
        let truths: Vec<bool> = if whole {
            found(&x.fetch::<i64>(dtype), &y.fetch::<i64>(dtype), invert)
        } else {
            found(&x.fetch::<f64>(dtype), &y.fetch::<f64>(dtype), invert)
        };
        out.store_slice(&truths)
    }))
}

/// One of the two sides has a single element, so this is linear.
fn found<T: PartialEq>(
    elements: &ndarray::CowArray<'_, T, ndarray::IxDyn>,
    tests: &ndarray::CowArray<'_, T, ndarray::IxDyn>,
    invert: bool,
) -> Vec<bool> {
    elements
        .iter()
        .map(|element| tests.iter().any(|test| test == element) != invert)
        .collect()
}
