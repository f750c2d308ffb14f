//! Elements repeated in place, each as often as the others or as often as a tensor says.
//!
//! Knows which source each result has; it must not know memory.

use super::common::{Lanes, by_class, size_of};
use super::element::no_kernel;
use crate::dtype::DType;
use crate::failure::{Fault, Refusal};
use crate::kernel::{Call, Prepare, Work};
use crate::number::Number;
use crate::tensor::Tensor;

/// This family's ops.
pub(crate) const KERNELS: &[(&str, Prepare)] = &[
    ("aclnnRepeatInterleaveInt", by_number as Prepare),
    ("aclnnRepeatInterleaveIntWithDim", by_number_along),
    ("aclnnRepeatInterleave", by_tensor),
    ("aclnnRepeatInterleaveWithDim", by_tensor_along),
    ("aclnnRepeatInterleaveTensor", places),
];

/// How often each index of the dim occurs.
#[derive(Clone)]
enum Times {
    All(usize),
    Each(Tensor),
}

impl Times {
    /// The source of each result, for a dim of `length` that gives `wanted` results.
    fn sources(&self, length: usize, wanted: usize) -> Result<Vec<usize>, Fault> {
        let counts = match self {
            Times::All(count) => vec![*count as i64; length],
            Times::Each(tensor) => match tensor.load_vec::<i64>().as_slice() {
                [count] => vec![*count; length],
                counts => counts.to_vec(),
            },
        };
        let mut sources = Vec::with_capacity(wanted);
        for (index, &count) in counts.iter().enumerate() {
            let fits = usize::try_from(count).is_ok_and(|count| count <= wanted - sources.len());
            if !fits {
                return Err(Fault::exception(format!(
                    "repeats {counts:?} do not give {wanted} results"
                )));
            }
            sources.extend(std::iter::repeat_n(index, count as usize));
        }
        if sources.len() != wanted {
            return Err(Fault::exception(format!(
                "repeats {counts:?} do not give {wanted} results"
            )));
        }
        Ok(sources)
    }
}

/// One number, which the host knows: the length of the result is checked at once.
fn number(call: &Call, length: usize, wanted: usize) -> Result<Times, Refusal> {
    let count = size_of(call, "repeats", call.int(1)?, 0)?;
    if length.checked_mul(count) != Some(wanted) {
        return Err(call.invalid(format!(
            "{length} elements repeated {count} times, but out has {wanted}"
        )));
    }
    Ok(Times::All(count))
}

fn counts(call: &Call, index: usize, length: usize) -> Result<Times, Refusal> {
    let repeats = call.tensor(index)?;
    call.expect_dtype("repeats", &repeats, &[DType::I32, DType::I64])?;
    if repeats.rank() > 1 || (repeats.count() != 1 && repeats.count() != length) {
        return Err(call.invalid(format!(
            "repeats have shape {:?}, wanted [1] or [{length}]",
            repeats.shape()
        )));
    }
    Ok(Times::Each(repeats))
}

fn by_number(call: &Call) -> Result<Work, Refusal> {
    let (x, out) = (call.tensor(0)?, call.tensor(3)?);
    let times = number(call, x.count(), out.count())?;
    flattened(call, x, times, out)
}

fn by_tensor(call: &Call) -> Result<Work, Refusal> {
    let (x, out) = (call.tensor(0)?, call.tensor(3)?);
    let times = counts(call, 1, x.count())?;
    flattened(call, x, times, out)
}

fn flattened(call: &Call, x: Tensor, times: Times, out: Tensor) -> Result<Work, Refusal> {
    let lanes = Lanes {
        outer: 1,
        length: x.count(),
        inner: 1,
    };
    call.expect_shape("out", &out, &[out.count()])?;
    repeated(call, x, lanes, times, out.clone(), out.count())
}

fn by_number_along(call: &Call) -> Result<Work, Refusal> {
    along(call, 4, number)
}

fn by_tensor_along(call: &Call) -> Result<Work, Refusal> {
    along(call, 4, |call, length, _| counts(call, 1, length))
}

fn along(
    call: &Call,
    out: usize,
    times: fn(&Call, usize, usize) -> Result<Times, Refusal>,
) -> Result<Work, Refusal> {
    let (x, out) = (call.tensor(0)?, call.tensor(out)?);
    let axis = call.axis(call.int(2)?, x.rank())?;
    let (Some(&length), Some(&wanted)) = (x.shape().get(axis), out.shape().get(axis)) else {
        return Err(call.invalid(format!(
            "self has shape {:?} and out {:?}, wanted a dim {axis}",
            x.shape(),
            out.shape()
        )));
    };
    let mut shape = x.shape().to_vec();
    shape[axis] = wanted;
    call.expect_shape("out", &out, &shape)?;
    let times = times(call, length, wanted)?;
    let lanes = Lanes::new(x.shape(), axis);
    repeated(call, x, lanes, times, out, wanted)
}

fn repeated(
    call: &Call,
    x: Tensor,
    lanes: Lanes,
    times: Times,
    out: Tensor,
    wanted: usize,
) -> Result<Work, Refusal> {
    call.expect_dtype("out", &out, &[x.dtype()])?;
    let refused = no_kernel(call, x.dtype());
    by_class!(x.dtype(), T => Ok(Work::new(move || {
        let sources = times.sources(lanes.length, wanted)?;
        out.store_slice(&copied::<T>(&x, lanes, &sources))
    })), Err(refused))
}

fn copied<T: Number>(x: &Tensor, lanes: Lanes, sources: &[usize]) -> Vec<T> {
    let values = x.load_vec::<T>();
    let mut result = Vec::with_capacity(lanes.outer * sources.len() * lanes.inner);
    for outer in 0..lanes.outer {
        for &source in sources {
            let start = (outer * lanes.length + source) * lanes.inner;
            result.extend_from_slice(&values[start..start + lanes.inner]);
        }
    }
    result
}

/// Each index as often as the tensor says.
fn places(call: &Call) -> Result<Work, Refusal> {
    let (repeats, out) = (call.tensor(0)?, call.tensor(2)?);
    let length = repeats.count();
    let times = counts(call, 0, length)?;
    call.expect_shape("out", &out, &[out.count()])?;
    Ok(Work::new(move || {
        let sources = times.sources(length, out.count())?;
        let places: Vec<i64> = sources.into_iter().map(|source| source as i64).collect();
        out.store_slice(&places)
    }))
}
