//! Work along one dim in an order where NaN is the greatest: sorting, the k best, extremes with their places, medians and
//! running extremes.
//!
//! Knows lanes and orders; it must not know strides or memory.

use super::common::{Lanes, size_of};
use super::element::no_kernel;
use crate::dtype::{Class, DType};
use crate::failure::{Fault, Refusal};
use crate::kernel::{Call, Prepare, Work};
use crate::number::Number;
use crate::tensor::Tensor;
use std::cmp::Ordering;

/// This family's ops.
pub(crate) const KERNELS: &[(&str, Prepare)] = &[
    ("aclnnSort", sort as Prepare),
    ("aclnnArgsort", argsort),
    ("aclnnTopk", top_k),
    ("aclnnKthvalue", kth_value),
    ("aclnnMaxDim", |call| extreme(call, true)),
    ("aclnnMinDim", |call| extreme(call, false)),
    ("aclnnArgMax", |call| place_of_extreme(call, true)),
    ("aclnnArgMin", |call| place_of_extreme(call, false)),
    ("aclnnMedian", |call| median_of_all(call, false)),
    ("aclnnNanMedian", |call| median_of_all(call, true)),
    ("aclnnMedianDim", |call| median_of_dim(call, false)),
    ("aclnnNanMedianDim", |call| median_of_dim(call, true)),
    ("aclnnCummax", |call| running_extreme(call, true)),
    ("aclnnCummin", |call| running_extreme(call, false)),
];

/// Numbers in a total order.
trait Ordered: Number {
    fn order(self, other: Self) -> Ordering;
    fn is_nan(self) -> bool {
        false
    }
}

impl Ordered for f64 {
    fn order(self, other: f64) -> Ordering {
        self.partial_cmp(&other)
            .unwrap_or_else(|| f64::is_nan(self).cmp(&f64::is_nan(other)))
    }
    fn is_nan(self) -> bool {
        f64::is_nan(self)
    }
}

impl Ordered for i64 {
    fn order(self, other: i64) -> Ordering {
        self.cmp(&other)
    }
}

impl Ordered for bool {
    fn order(self, other: bool) -> Ordering {
        self.cmp(&other)
    }
}

/// One element and its place in its lane.
type Placed<T> = (T, usize);

/// What a kernel does with one lane: it leaves the results in it.
#[derive(Debug, Clone, Copy)]
enum Step {
    Sort { descending: bool },
    Best { count: usize, largest: bool },
    Kth { rank: usize },
    Extreme { largest: bool },
    Median { skip_nan: bool },
    Running { largest: bool },
}

impl Step {
    fn apply<T: Ordered>(self, lane: &mut Vec<Placed<T>>) {
        match self {
            Step::Sort { descending } => arrange(lane, descending),
            Step::Best { count, largest } => {
                arrange(lane, largest);
                lane.truncate(count);
            }
            Step::Kth { rank } => {
                arrange(lane, false);
                lane.drain(..rank.min(lane.len()));
                lane.truncate(1);
            }
            Step::Extreme { largest } => {
                let first = lane.iter().copied().reduce(|best, next| {
                    if beats(next.0, best.0, largest, false) {
                        next
                    } else {
                        best
                    }
                });
                lane.clear();
                lane.extend(first);
            }
            Step::Median { skip_nan } => median(lane, skip_nan),
            Step::Running { largest } => {
                let mut best: Option<Placed<T>> = None;
                for slot in lane.iter_mut() {
                    let takes = best.is_none_or(|best| beats(slot.0, best.0, largest, true));
                    if takes {
                        best = Some(*slot);
                    }
                    *slot = best.unwrap_or(*slot);
                }
            }
        }
    }
}

/// Stable in both directions.
fn arrange<T: Ordered>(lane: &mut [Placed<T>], descending: bool) {
    if descending {
        lane.sort_by(|a, b| b.0.order(a.0));
    } else {
        lane.sort_by(|a, b| a.0.order(b.0));
    }
}

/// Whether the next element takes over: NaN beats every number and, with `ties`, equals beat each other.
fn beats<T: Ordered>(next: T, best: T, largest: bool, ties: bool) -> bool {
    match (next.is_nan(), best.is_nan()) {
        (true, true) => ties,
        (true, false) => true,
        (false, true) => false,
        _ => match next.order(best) {
            Ordering::Equal => ties,
            order => (order == Ordering::Greater) == largest,
        },
    }
}

/// The lower median; NaN is skipped, or else wins.
fn median<T: Ordered>(lane: &mut Vec<Placed<T>>, skip_nan: bool) {
    let nan = lane.iter().copied().find(|element| element.0.is_nan());
    let numbers = lane.iter().filter(|element| !element.0.is_nan()).count();
    if let (Some(nan), true) = (nan, !skip_nan || numbers == 0) {
        lane.clear();
        lane.push(nan);
        return;
    }
    arrange(lane, false);
    lane.drain(..numbers.saturating_sub(1) / 2);
    lane.truncate(1);
}

/// Where the results of a step go.
struct Outputs {
    values: Option<Tensor>,
    places: Option<Tensor>,
    lanes: Lanes,
}

fn run<T: Ordered>(x: &Tensor, lanes: Lanes, step: Step, outputs: &Outputs) -> Result<(), Fault> {
    let data = x.load_vec::<T>();
    let total = outputs.lanes.outer * outputs.lanes.length * outputs.lanes.inner;
    let (mut values, mut places) = (vec![T::get(0u8); total], vec![0i64; total]);
    let mut lane: Vec<Placed<T>> = Vec::with_capacity(lanes.length);
    for (from, to) in lanes.starts().zip(outputs.lanes.starts()) {
        lane.clear();
        let elements = data.iter().skip(from).step_by(lanes.inner.max(1));
        lane.extend(elements.take(lanes.length).copied().zip(0..));
        step.apply(&mut lane);
        for (index, &(value, place)) in lane.iter().take(outputs.lanes.length).enumerate() {
            let slot = to + index * outputs.lanes.inner;
            values[slot] = value;
            places[slot] = place as i64;
        }
    }
    if let Some(out) = &outputs.values {
        out.store_slice(&values)?;
    }
    match &outputs.places {
        Some(out) => out.store_slice(&places),
        None => Ok(()),
    }
}

fn work(
    call: &Call,
    x: Tensor,
    lanes: Lanes,
    step: Step,
    values: Option<Tensor>,
    places: Option<Tensor>,
    length: usize,
) -> Result<Work, Refusal> {
    if let Some(values) = &values {
        call.expect_dtype("the values", values, &[x.dtype()])?;
    }
    let outputs = Outputs {
        values,
        places,
        lanes: Lanes { length, ..lanes },
    };
    match x.dtype().class() {
        Class::Float32 | Class::Float64 => {
            Ok(Work::new(move || run::<f64>(&x, lanes, step, &outputs)))
        }
        Class::Integer => Ok(Work::new(move || run::<i64>(&x, lanes, step, &outputs))),
        Class::Boolean => Ok(Work::new(move || run::<bool>(&x, lanes, step, &outputs))),
        _ => Err(no_kernel(call, x.dtype())),
    }
}

/// The axis, and the shape with that dim replaced.
fn resized(
    call: &Call,
    x: &Tensor,
    dim: i64,
    length: usize,
) -> Result<(Lanes, Vec<usize>), Refusal> {
    let axis = call.axis(dim, x.rank())?;
    let mut shape = x.shape().to_vec();
    if let Some(dim) = shape.get_mut(axis) {
        *dim = length;
    }
    Ok((Lanes::new(x.shape(), axis), shape))
}

/// The axis, and the shape without that dim (or with 1 in its place). The dim must not be empty.
fn dropped(call: &Call, x: &Tensor, dim: i64, keep: bool) -> Result<(Lanes, Vec<usize>), Refusal> {
    let (lanes, mut shape) = resized(call, x, dim, 1)?;
    if lanes.length == 0 && lanes.outer * lanes.inner > 0 {
        return Err(call.invalid(format!("dim {dim} of shape {:?} is empty", x.shape())));
    }
    if !keep && !shape.is_empty() {
        shape.remove(call.axis(dim, x.rank())?);
    }
    Ok((lanes, shape))
}

fn sort(call: &Call) -> Result<Work, Refusal> {
    let (x, descending) = (call.tensor(0)?, call.bool(3)?);
    let (values, places) = (call.tensor(4)?, call.tensor(5)?);
    let axis = call.axis(call.int(2)?, x.rank())?;
    let lanes = Lanes::new(x.shape(), axis);
    if x.dtype() == DType::Bf16 && lanes.length == 1 {
        return Err(call.invalid("a bf16 dim of 1 element cannot be sorted"));
    }
    call.expect_shape("valuesOut", &values, x.shape())?;
    call.expect_shape("indicesOut", &places, x.shape())?;
    let step = Step::Sort { descending };
    work(
        call,
        x,
        lanes,
        step,
        Some(values),
        Some(places),
        lanes.length,
    )
}

fn argsort(call: &Call) -> Result<Work, Refusal> {
    let (x, descending, out) = (call.tensor(0)?, call.bool(2)?, call.tensor(3)?);
    let axis = call.axis(call.int(1)?, x.rank())?;
    let lanes = Lanes::new(x.shape(), axis);
    call.expect_shape("out", &out, x.shape())?;
    let step = Step::Sort { descending };
    work(call, x, lanes, step, None, Some(out), lanes.length)
}

/// Always in order, whatever the flag says: both are allowed.
fn top_k(call: &Call) -> Result<Work, Refusal> {
    let (x, largest) = (call.tensor(0)?, call.bool(3)?);
    let (values, places) = (call.tensor(5)?, call.tensor(6)?);
    let count = size_of(call, "k", call.int(1)?, 0)?;
    let (lanes, shape) = resized(call, &x, call.int(2)?, count)?;
    if count > lanes.length {
        return Err(call.invalid(format!("k is {count}, but the dim has {}", lanes.length)));
    }
    call.expect_shape("valuesOut", &values, &shape)?;
    call.expect_shape("indicesOut", &places, &shape)?;
    let step = Step::Best { count, largest };
    work(call, x, lanes, step, Some(values), Some(places), count)
}

/// The k-th smallest, counted from 1.
fn kth_value(call: &Call) -> Result<Work, Refusal> {
    let (x, keep) = (call.tensor(0)?, call.bool(3)?);
    let (values, places) = (call.tensor(4)?, call.tensor(5)?);
    let k = size_of(call, "k", call.int(1)?, 1)?;
    let (lanes, shape) = dropped(call, &x, call.int(2)?, keep)?;
    if k > lanes.length {
        return Err(call.invalid(format!("k is {k}, but the dim has {}", lanes.length)));
    }
    call.expect_shape("valuesOut", &values, &shape)?;
    call.expect_shape("indicesOut", &places, &shape)?;
    let step = Step::Kth { rank: k - 1 };
    work(call, x, lanes, step, Some(values), Some(places), 1)
}

/// The first extreme of each lane and its place.
fn extreme(call: &Call, largest: bool) -> Result<Work, Refusal> {
    let (x, keep) = (call.tensor(0)?, call.bool(2)?);
    let (values, places) = (call.tensor(3)?, call.tensor(4)?);
    let (lanes, shape) = dropped(call, &x, call.int(1)?, keep)?;
    call.expect_shape_or_one_element("out", &values, &shape)?;
    call.expect_shape_or_one_element("indices", &places, &shape)?;
    let step = Step::Extreme { largest };
    work(call, x, lanes, step, Some(values), Some(places), 1)
}

fn place_of_extreme(call: &Call, largest: bool) -> Result<Work, Refusal> {
    let (x, keep, out) = (call.tensor(0)?, call.bool(2)?, call.tensor(3)?);
    let (lanes, shape) = dropped(call, &x, call.int(1)?, keep)?;
    call.expect_shape_or_one_element("out", &out, &shape)?;
    work(
        call,
        x,
        lanes,
        Step::Extreme { largest },
        None,
        Some(out),
        1,
    )
}

fn median_of_all(call: &Call, skip_nan: bool) -> Result<Work, Refusal> {
    let (x, out) = (call.tensor(0)?, call.tensor(1)?);
    if x.is_empty() {
        return Err(call.invalid("self is empty"));
    }
    if out.count() != 1 || out.rank() > 1 {
        return Err(call.invalid(format!(
            "out has shape {:?}, wanted one element",
            out.shape()
        )));
    }
    let lanes = Lanes {
        outer: 1,
        length: x.count(),
        inner: 1,
    };
    work(
        call,
        x,
        lanes,
        Step::Median { skip_nan },
        Some(out),
        None,
        1,
    )
}

fn median_of_dim(call: &Call, skip_nan: bool) -> Result<Work, Refusal> {
    let (x, keep) = (call.tensor(0)?, call.bool(2)?);
    let (values, places) = (call.tensor(3)?, call.tensor(4)?);
    let (lanes, shape) = dropped(call, &x, call.int(1)?, keep)?;
    call.expect_shape("valuesOut", &values, &shape)?;
    call.expect_shape("indicesOut", &places, &shape)?;
    work(
        call,
        x,
        lanes,
        Step::Median { skip_nan },
        Some(values),
        Some(places),
        1,
    )
}

/// A later equal element takes the place over.
fn running_extreme(call: &Call, largest: bool) -> Result<Work, Refusal> {
    let (x, values, places) = (call.tensor(0)?, call.tensor(2)?, call.tensor(3)?);
    let axis = call.axis(call.int(1)?, x.rank())?;
    let lanes = Lanes::new(x.shape(), axis);
    call.expect_shape("valuesOut", &values, x.shape())?;
    call.expect_shape("indicesOut", &places, x.shape())?;
    let step = Step::Running { largest };
    work(
        call,
        x,
        lanes,
        step,
        Some(values),
        Some(places),
        lanes.length,
    )
}
