//! Products of stacks of matrices whose dims stand in another order.
//!
//! Knows the kernel interface and ndarray's product; it must not know streams, handles or device memory.

use crate::failure::{Fault, Refusal};
use crate::kernel::{Call, Prepare, Work};
use crate::tensor::Tensor;
use ndarray::{ArrayD, Axis, Ix2, IxDyn};

/// This family's ops.
pub(crate) const KERNELS: &[(&str, Prepare)] = &[("aclnnTransposeBatchMatMul", product as Prepare)];

/// An order of three dims.
fn order(call: &Call, index: usize, what: &str) -> Result<[usize; 3], Refusal> {
    let wrong =
        |got: &[i64]| call.invalid(format!("{what} is {got:?}, wanted an order of 0, 1, 2"));
    let numbers = call.ints(index)?;
    let &[a, b, c] = numbers else {
        return Err(wrong(numbers));
    };
    let order = [a, b, c].map(|dim| usize::try_from(dim).unwrap_or(3));
    let mut sorted = order;
    sorted.sort_unstable();
    if sorted == [0, 1, 2] {
        Ok(order)
    } else {
        Err(wrong(numbers))
    }
}

fn permuted(tensor: &Tensor, order: [usize; 3]) -> [usize; 3] {
    order.map(|dim| tensor.shape().get(dim).copied().unwrap_or(0))
}

/// The batch, rows and columns of both operands by their orders; the result by its own, its last dim in several parts where asked.
fn product(call: &Call) -> Result<Work, Refusal> {
    let (x1, x2, out) = (call.tensor(0)?, call.tensor(1)?, call.tensor(9)?);
    if call.optional_tensor(2).is_some() {
        return Err(call.invalid("bias has to be null"));
    }
    if call.optional_tensor(3).is_some() {
        return Err(call.unsupported("a scale, and results of 8 bits"));
    }
    let orders = [
        order(call, 4, "permX1")?,
        order(call, 5, "permX2")?,
        order(call, 6, "permY")?,
    ];
    if x1.rank() != 3 || x2.rank() != 3 {
        return Err(call.invalid(format!(
            "shapes {:?} and {:?}, wanted 3 dims",
            x1.shape(),
            x2.shape()
        )));
    }
    let parts = usize::try_from(call.int(8)?.max(1)).unwrap_or(1);
    let [batch, m, k] = permuted(&x1, orders[0]);
    let [other, inner, n] = permuted(&x2, orders[1]);
    if batch != other || k != inner || !batch.is_multiple_of(parts) {
        return Err(call.invalid(format!(
            "stacks of {batch} matrices {m} x {k} and {other} of {inner} x {n} in {parts} parts"
        )));
    }
    call.expect_dtype("x2", &x2, &[x1.dtype()])?;
    let natural = [batch, m, n];
    let shape = match parts {
        1 => orders[2].map(|dim| natural[dim]),
        _ => [parts, m, batch * n / parts],
    };
    if parts > 1 && orders[2] != [1, 0, 2] {
        return Err(call.invalid("a result in parts, wanted permY 1, 0, 2"));
    }
    call.expect_shape("out", &out, &shape)?;
    if out.is_empty() {
        return Ok(Work::nothing());
    }
    Ok(Work::new(move || {
        let failed = |error: ndarray::ShapeError| Fault::exception(error.to_string());
        let (a, b) = (x1.load::<f32>(), x2.load::<f32>());
        let (a, b) = (
            a.permuted_axes(IxDyn(&orders[0])),
            b.permuted_axes(IxDyn(&orders[1])),
        );
        let mut result = ArrayD::<f32>::zeros(IxDyn(&natural));
        for at in 0..batch {
            let left = a
                .index_axis(Axis(0), at)
                .into_dimensionality::<Ix2>()
                .map_err(failed)?;
            let right = b
                .index_axis(Axis(0), at)
                .into_dimensionality::<Ix2>()
                .map_err(failed)?;
            result.index_axis_mut(Axis(0), at).assign(&left.dot(&right));
        }
        if parts == 1 {
            return out.store(&result.permuted_axes(IxDyn(&orders[2])));
        }
        // Part, row, then the matrices of the part side by side.
        let by_part = result
            .into_shape_with_order(IxDyn(&[parts, batch / parts, m, n]))
            .map_err(failed)?;
        out.store(&by_part.permuted_axes(IxDyn(&[0, 2, 1, 3])))
    }))
}
