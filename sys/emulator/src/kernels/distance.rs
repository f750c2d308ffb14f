//! Distances between rows, cross products, and rows scaled down to a norm.
//!
//! Knows the kernel interface; it must not know streams, handles or device memory.

use super::common::{
    Lanes, broadcast_positions, checked_index, expect_broadcast, load_broadcast, same_dtype,
};
use crate::failure::{Fault, Refusal};
use crate::kernel::{Call, Prepare, Work};
use crate::number::Number;
use crate::tensor::Tensor;

/// This family's ops.
pub(crate) const KERNELS: &[(&str, Prepare)] = &[
    ("aclnnCdist", cdist as Prepare),
    ("aclnnCdistBackward", cdist_backward as Prepare),
    ("aclnnPdist", pdist as Prepare),
    ("aclnnLinalgCross", cross as Prepare),
    ("aclnnRenorm", renorm as Prepare),
    ("aclnnInplaceRenorm", renorm as Prepare),
    ("aclnnEmbeddingRenorm", embedding_renorm as Prepare),
];

/// The p-norm of a row: the count of non-zeros for 0, the maximum for infinity.
fn norm(row: impl Iterator<Item = f64>, p: f64) -> f64 {
    let row = row.map(f64::abs);
    if p == 0.0 {
        row.filter(|&value| value != 0.0).count() as f64
    } else if p == f64::INFINITY {
        row.fold(0.0, |a, b| if b > a || b.is_nan() { b } else { a })
    } else if p == 1.0 {
        row.sum()
    } else if p == 2.0 {
        row.map(|value| value * value).sum::<f64>().sqrt()
    } else {
        row.map(|value| value.powf(p)).sum::<f64>().powf(1.0 / p)
    }
}

fn order(call: &Call, p: f64) -> Result<f64, Refusal> {
    if p >= 0.0 {
        return Ok(p);
    }
    Err(call.invalid(format!("p is {p}, wanted at least 0")))
}

/// `out[.., i, j] = |x1[.., i, :] - x2[.., j, :]|_p`, the leading dims broadcast.
fn cdist(call: &Call) -> Result<Work, Refusal> {
    let (x1, x2, out) = (call.tensor(0)?, call.tensor(1)?, call.tensor(4)?);
    let p = order(call, call.float(2)?)?;
    same_dtype(call, "x2", &x2, &x1)?;
    let (lead1, &[rows1, width]) = split_last_two(call, "x1", &x1)?;
    let (lead2, &[rows2, other]) = split_last_two(call, "x2", &x2)?;
    if width != other {
        return Err(call.invalid(format!("rows have {width} and {other} elements")));
    }
    let mut shape = call.broadcast(&[lead1, lead2])?;
    let (first, second) = (
        broadcast_positions(lead1, &shape),
        broadcast_positions(lead2, &shape),
    );
    shape.extend([rows1, rows2]);
    call.expect_shape("out", &out, &shape)?;
    Ok(Work::new(move || {
        let (a, b) = (x1.load_vec::<f64>(), x2.load_vec::<f64>());
        let mut distances = Vec::with_capacity(out.count());
        for (&batch1, &batch2) in first.iter().zip(&second) {
            for i in 0..rows1 {
                let one = &a[(batch1 * rows1 + i) * width..][..width];
                for j in 0..rows2 {
                    let two = &b[(batch2 * rows2 + j) * width..][..width];
                    distances.push(norm(one.iter().zip(two).map(|(a, b)| a - b), p));
                }
            }
        }
        out.store_slice(&distances)
    }))
}

/// The gradient of such a distance by one coordinate of its first row, `d = a - b`; 0 where the distance is 0.
fn slope(d: f64, distance: f64, p: f64) -> f64 {
    let sign = if d == 0.0 { 0.0 } else { d.signum() };
    match p {
        _ if p == 0.0 || distance == 0.0 => 0.0,
        _ if p == 1.0 => sign,
        f64::INFINITY => sign * f64::from(u8::from(d.abs() == distance)),
        _ if d == 0.0 => 0.0,
        _ => sign * (d.abs() / distance).powf(p - 1.0),
    }
}

/// The gradient of the first operand.
fn cdist_backward(call: &Call) -> Result<Work, Refusal> {
    let (grad, x1, x2) = (call.tensor(0)?, call.tensor(1)?, call.tensor(2)?);
    let (distance, out) = (call.tensor(3)?, call.tensor(5)?);
    let p = order(call, call.float(4)?)?;
    let (lead1, &[rows1, width]) = split_last_two(call, "x1", &x1)?;
    let (lead2, &[rows2, other]) = split_last_two(call, "x2", &x2)?;
    if width != other {
        return Err(call.invalid(format!("rows have {width} and {other} elements")));
    }
    let lead = call.broadcast(&[lead1, lead2])?;
    let (first, second) = (
        broadcast_positions(lead1, &lead),
        broadcast_positions(lead2, &lead),
    );
    let pairs = [&lead[..], &[rows1, rows2]].concat();
    expect_broadcast(call, "grad", &grad, &pairs)?;
    call.expect_shape("cdist", &distance, &pairs)?;
    call.expect_shape("out", &out, &[&lead[..], &[rows1, width]].concat())?;
    Ok(Work::new(move || {
        let (a, b) = (x1.load_vec::<f64>(), x2.load_vec::<f64>());
        let grads = load_broadcast::<f64>(&grad, &pairs);
        let distances = distance.load_vec::<f64>();
        let mut result = vec![0f64; first.len() * rows1 * width];
        for (batch, (&batch1, &batch2)) in first.iter().zip(&second).enumerate() {
            for i in 0..rows1 {
                let one = &a[(batch1 * rows1 + i) * width..][..width];
                let target = &mut result[(batch * rows1 + i) * width..][..width];
                for j in 0..rows2 {
                    let two = &b[(batch2 * rows2 + j) * width..][..width];
                    let at = (batch * rows1 + i) * rows2 + j;
                    for (column, slot) in target.iter_mut().enumerate() {
                        *slot += grads[at] * slope(one[column] - two[column], distances[at], p);
                    }
                }
            }
        }
        out.store_slice(&result)
    }))
}

fn split_last_two<'a>(
    call: &Call,
    what: &str,
    tensor: &'a Tensor,
) -> Result<(&'a [usize], &'a [usize; 2]), Refusal> {
    tensor
        .shape()
        .split_last_chunk::<2>()
        .ok_or_else(|| call.invalid(format!("{what} has fewer than 2 dims")))
}

/// Distances of each pair of rows, the first row's first.
fn pdist(call: &Call) -> Result<Work, Refusal> {
    let (x, out) = (call.tensor(0)?, call.tensor(2)?);
    let p = order(call, call.float(1)?)?;
    let &[rows, width] = x.shape() else {
        return Err(call.invalid(format!("self has shape {:?}, wanted 2 dims", x.shape())));
    };
    call.expect_shape("out", &out, &[rows * rows.saturating_sub(1) / 2])?;
    Ok(Work::new(move || {
        let x = x.load_vec::<f64>();
        let row = |index: usize| &x[index * width..][..width];
        let pairs = (0..rows).flat_map(|i| (i + 1..rows).map(move |j| (i, j)));
        let distances: Vec<f64> = pairs
            .map(|(i, j)| norm(row(i).iter().zip(row(j)).map(|(a, b)| a - b), p))
            .collect();
        out.store_slice(&distances)
    }))
}

/// The cross product of vectors of three elements along a dim.
fn cross(call: &Call) -> Result<Work, Refusal> {
    let (x, y, out) = (call.tensor(0)?, call.tensor(1)?, call.tensor(3)?);
    same_dtype(call, "other", &y, &x)?;
    let shape = call.broadcast(&[x.shape(), y.shape()])?;
    let axis = call.axis(call.int(2)?, shape.len())?;
    if shape.get(axis) != Some(&3) {
        return Err(call.invalid(format!("dim {axis} of {shape:?} has not 3 elements")));
    }
    call.expect_shape("out", &out, &shape)?;
    let lanes = Lanes::new(&shape, axis);
    if x.dtype().is_float() {
        return Ok(Work::new(move || {
            out.store_slice(&cross_lanes::<f64>(&x, &y, &shape, lanes, |a, b, c, d| {
                a * b - c * d
            }))
        }));
    }
    // Integers wrap.
    Ok(Work::new(move || {
        out.store_slice(&cross_lanes::<i64>(&x, &y, &shape, lanes, |a, b, c, d| {
            a.wrapping_mul(b).wrapping_sub(c.wrapping_mul(d))
        }))
    }))
}

/// Each component by `term(a[next], b[last], a[last], b[next])`.
fn cross_lanes<T: Number>(
    x: &Tensor,
    y: &Tensor,
    shape: &[usize],
    lanes: Lanes,
    term: impl Fn(T, T, T, T) -> T,
) -> Vec<T> {
    let a = load_broadcast::<T>(x, shape);
    let b = load_broadcast::<T>(y, shape);
    let mut result = a.clone();
    for start in lanes.starts() {
        let at = |component: usize| start + (component % 3) * lanes.inner;
        for component in 0..3 {
            let (next, last) = (at(component + 1), at(component + 2));
            result[at(component)] = term(a[next], b[last], a[last], b[next]);
        }
    }
    result
}

/// What a row is multiplied with so that its norm is at most `limit`; the 1e-7 is PyTorch's.
fn shrink(norm: f64, limit: f64) -> f64 {
    if norm > limit {
        limit / (norm + 1e-7)
    } else {
        1.0
    }
}

/// Scales each slice along a dim whose p-norm is above maxNorm down to it.
fn renorm(call: &Call) -> Result<Work, Refusal> {
    let x = call.tensor(0)?;
    let out = call.optional_tensor(4).unwrap_or_else(|| x.clone());
    let (p, limit) = (call.scalar(1)?.f64(), call.scalar(3)?.f64());
    if p <= 0.0 || limit < 0.0 {
        return Err(call.invalid(format!(
            "p is {p} and maxNorm {limit}, wanted above and at least 0"
        )));
    }
    if x.rank() < 2 {
        return Err(call.invalid(format!("self has shape {:?}, wanted 2 dims", x.shape())));
    }
    let axis = call.axis(call.int(2)?, x.rank())?;
    call.expect_shape("out", &out, x.shape())?;
    let lanes = Lanes::new(x.shape(), axis);
    Ok(Work::new(move || {
        let mut values = x.load_vec::<f64>();
        let slice = lanes.length * lanes.inner;
        for index in 0..lanes.length {
            let places = || {
                (0..lanes.outer).flat_map(move |outer| {
                    let start = outer * slice + index * lanes.inner;
                    start..start + lanes.inner
                })
            };
            let factor = shrink(norm(places().map(|at| values[at]), p), limit);
            places().for_each(|at| values[at] *= factor);
        }
        out.store_slice(&values)
    }))
}

/// As [`renorm`] for the rows of a table that the indices name, each once.
fn embedding_renorm(call: &Call) -> Result<Work, Refusal> {
    let (table, indices) = (call.tensor(0)?, call.tensor(1)?);
    let (limit, p) = (call.float(2)?, call.float(3)?);
    let &[rows, width] = table.shape() else {
        return Err(call.invalid(format!(
            "selfRef has shape {:?}, wanted 2 dims",
            table.shape()
        )));
    };
    let op = call.name();
    Ok(Work::new(move || {
        let mut named = indices
            .load_vec::<i64>()
            .into_iter()
            .map(|index| checked_index(op, index, rows))
            .collect::<Result<Vec<_>, Fault>>()?;
        named.sort_unstable();
        named.dedup();
        let mut values = table.load_vec::<f64>();
        for row in named {
            let row = &mut values[row * width..][..width];
            let factor = shrink(norm(row.iter().copied(), p), limit);
            row.iter_mut().for_each(|value| *value *= factor);
        }
        table.store_slice(&values)
    }))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{
        arg, assert_close, floats, long_scalar, longs, run, scalar, tensor,
    };
    use crate::dtype::DType;
    use crate::kernel::Arg;

    #[test]
    fn distances_of_rows() {
        let x = floats(&[2, 2], &[0., 0., 3., 4.]);
        let y = floats(&[1, 2], &[0., 1.]);
        let out = floats(&[2, 1], &[0.; 2]);
        let call = [arg(&x), arg(&y), Arg::Float(1.0), Arg::Int(0), arg(&out)];
        run("aclnnCdist", &call).expect("cdist");
        assert_close(&out, &[1., 6.], 0.);
        let out = floats(&[1], &[0.]);
        run("aclnnPdist", &[arg(&x), Arg::Float(2.0), arg(&out)]).expect("pdist");
        assert_close(&out, &[5.], 0.);
    }

    #[test]
    fn cross_of_unit_vectors() {
        let x = floats(&[3], &[1., 0., 0.]);
        let y = floats(&[3], &[0., 1., 0.]);
        let out = floats(&[3], &[9.; 3]);
        run(
            "aclnnLinalgCross",
            &[arg(&x), arg(&y), Arg::Int(-1), arg(&out)],
        )
        .expect("cross");
        assert_close(&out, &[0., 0., 1.], 0.);
    }

    #[test]
    fn cross_of_bytes_wraps() {
        // PyTorch's CPU: torch.linalg.cross of uint8 [5, 1, 2] and [2, 6, 1].
        let x = tensor(DType::U8, &[3], &[5i64, 1, 2]);
        let y = tensor(DType::U8, &[3], &[2i64, 6, 1]);
        let out = tensor(DType::U8, &[3], &[0i64; 3]);
        run(
            "aclnnLinalgCross",
            &[arg(&x), arg(&y), Arg::Int(-1), arg(&out)],
        )
        .expect("cross");
        assert_eq!(out.load_vec::<i64>(), [245, 255, 28]);
    }

    #[test]
    fn rows_are_scaled_down() {
        let x = floats(&[2, 2], &[3., 4., 0.3, 0.4]);
        let out = floats(&[2, 2], &[0.; 4]);
        let call = [arg(&x), long_scalar(2), Arg::Int(0), scalar(1.0), arg(&out)];
        run("aclnnRenorm", &call).expect("renorm");
        assert_close(&out, &[0.6, 0.8, 0.3, 0.4], 1e-6);
        let indices = longs(&[2], &[0, 0]);
        let call = [arg(&x), arg(&indices), Arg::Float(1.0), Arg::Float(2.0)];
        run("aclnnEmbeddingRenorm", &call).expect("renorm");
        assert_close(&x, &[0.6, 0.8, 0.3, 0.4], 1e-6);
    }
}
