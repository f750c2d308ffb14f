//! Systems of equations: triangular ones, the inverse, and the triangle whose square a matrix is.
//!
//! Knows the kernel interface; it must not know streams, handles or device memory.

use super::common::same_dtype;
use crate::failure::{Fault, Refusal};
use crate::kernel::{Call, Prepare, Work};
use crate::tensor::Tensor;

/// This family's ops.
pub(crate) const KERNELS: &[(&str, Prepare)] = &[
    ("aclnnTriangularSolve", triangular_solve as Prepare),
    ("aclnnInverse", inverse as Prepare),
    ("aclnnLinalgCholesky", cholesky as Prepare),
    ("aclnnGer", outer as Prepare),
];

/// The side of the square matrices in the last two dims.
fn side(call: &Call, what: &str, tensor: &Tensor) -> Result<usize, Refusal> {
    match tensor.shape() {
        [.., rows, columns] if rows == columns => Ok(*rows),
        shape => Err(call.invalid(format!(
            "{what} has shape {shape:?}, wanted square matrices"
        ))),
    }
}

/// `x` with `A x = self`, A read as upper or lower triangle, transposed or with a diagonal of 1 on demand; `m` is A itself.
fn triangular_solve(call: &Call) -> Result<Work, Refusal> {
    let (b, a) = (call.tensor(0)?, call.tensor(1)?);
    let (upper, transpose, unit) = (call.bool(2)?, call.bool(3)?, call.bool(4)?);
    let (x, m) = (call.tensor(5)?, call.tensor(6)?);
    let n = side(call, "A", &a)?;
    same_dtype(call, "A", &a, &b)?;
    let (lead_b, lead_a) = match (b.shape(), a.shape()) {
        ([lead_b @ .., rows, _], [lead_a @ .., _, _]) if *rows == n => (lead_b, lead_a),
        _ => {
            return Err(call.invalid(format!("A {:?} for self {:?}", a.shape(), b.shape())));
        }
    };
    if lead_b != lead_a {
        return Err(call.unsupported(format!(
            "batches {lead_b:?} and {lead_a:?} are not broadcast by the emulator"
        )));
    }
    call.expect_shape("xOut", &x, b.shape())?;
    call.expect_shape("mOut", &m, a.shape())?;
    let width = b.shape().last().copied().unwrap_or(0);
    Ok(Work::new(move || {
        let matrices = a.load_vec::<f64>();
        let mut values = b.load_vec::<f64>();
        let size = (n * width).max(1);
        for (matrix, values) in matrices.chunks((n * n).max(1)).zip(values.chunks_mut(size)) {
            let cell = |row: usize, column: usize| {
                if transpose {
                    matrix[column * n + row]
                } else {
                    matrix[row * n + column]
                }
            };
            // Read transposed, an upper triangle is a lower one.
            let lower = upper == transpose;
            for step in 0..n {
                let row = if lower { step } else { n - 1 - step };
                let known = if lower { 0..row } else { row + 1..n };
                for column in 0..width {
                    let sum: f64 = known
                        .clone()
                        .map(|other| cell(row, other) * values[other * width + column])
                        .sum();
                    let rest = values[row * width + column] - sum;
                    values[row * width + column] = if unit { rest } else { rest / cell(row, row) };
                }
            }
        }
        x.store_slice(&values)?;
        m.store_slice(&matrices)
    }))
}

/// The inverse, by elimination with the largest pivot of each column.
fn inverse(call: &Call) -> Result<Work, Refusal> {
    let (x, out) = (call.tensor(0)?, call.tensor(1)?);
    let n = side(call, "self", &x)?;
    call.expect_shape("out", &out, x.shape())?;
    let op = call.name();
    Ok(Work::new(move || {
        let mut result = Vec::with_capacity(out.count());
        for matrix in x.load_vec::<f64>().chunks_mut((n * n).max(1)) {
            result.extend(inverted(op, matrix, n)?);
        }
        out.store_slice(&result)
    }))
}

fn inverted(op: &str, matrix: &mut [f64], n: usize) -> Result<Vec<f64>, Fault> {
    let mut other: Vec<f64> = (0..n * n)
        .map(|at| if at / n == at % n { 1.0 } else { 0.0 })
        .collect();
    for column in 0..n {
        let size = |row: &usize| matrix[row * n + column].abs();
        let pivot = (column..n)
            .max_by(|a, b| size(a).total_cmp(&size(b)))
            .unwrap_or(column);
        let divisor = matrix[pivot * n + column];
        if divisor == 0.0 {
            return Err(Fault::exception(format!("{op}: a matrix is singular")));
        }
        for at in 0..n {
            matrix.swap(column * n + at, pivot * n + at);
            other.swap(column * n + at, pivot * n + at);
        }
        for at in 0..n {
            matrix[column * n + at] /= divisor;
            other[column * n + at] /= divisor;
        }
        for row in (0..n).filter(|&row| row != column) {
            let factor = matrix[row * n + column];
            for at in 0..n {
                matrix[row * n + at] -= factor * matrix[column * n + at];
                other[row * n + at] -= factor * other[column * n + at];
            }
        }
    }
    Ok(other)
}

/// The lower triangle L with L Lᵀ = self, or the upper one; only that triangle of the input is read.
fn cholesky(call: &Call) -> Result<Work, Refusal> {
    let (x, upper, out) = (call.tensor(0)?, call.bool(1)?, call.tensor(2)?);
    let n = side(call, "self", &x)?;
    call.expect_shape("out", &out, x.shape())?;
    let op = call.name();
    Ok(Work::new(move || {
        let values = x.load_vec::<f64>();
        let mut result = vec![0f64; values.len()];
        let size = (n * n).max(1);
        for (matrix, triangle) in values.chunks(size).zip(result.chunks_mut(size)) {
            let place = |row: usize, column: usize| {
                if upper {
                    column * n + row
                } else {
                    row * n + column
                }
            };
            for row in 0..n {
                for column in 0..=row {
                    let sum: f64 = (0..column)
                        .map(|at| triangle[place(row, at)] * triangle[place(column, at)])
                        .sum();
                    let rest = matrix[place(row, column)] - sum;
                    if row == column && (rest <= 0.0 || rest.is_nan()) {
                        return Err(Fault::exception(format!(
                            "{op}: a matrix is not positive definite"
                        )));
                    }
                    triangle[place(row, column)] = if row == column {
                        rest.sqrt()
                    } else {
                        rest / triangle[place(column, column)]
                    };
                }
            }
        }
        out.store_slice(&result)
    }))
}

/// out = self vec2ᵀ of two vectors.
fn outer(call: &Call) -> Result<Work, Refusal> {
    let (x, y, out) = (call.tensor(0)?, call.tensor(1)?, call.tensor(2)?);
    if x.rank() != 1 || y.rank() != 1 {
        return Err(call.invalid(format!(
            "{:?} and {:?} are not vectors",
            x.shape(),
            y.shape()
        )));
    }
    call.expect_shape("out", &out, &[x.count(), y.count()])?;
    if out.dtype().is_complex() {
        return Err(call.unsupported("complex vectors"));
    }
    Ok(Work::new(move || {
        if out.dtype().is_float() {
            let (x, y) = (x.load_vec::<f64>(), y.load_vec::<f64>());
            let products = x.iter().flat_map(|a| y.iter().map(move |b| a * b));
            return out.store_slice(&products.collect::<Vec<f64>>());
        }
        let (x, y) = (x.load_vec::<i64>(), y.load_vec::<i64>());
        let products = x
            .iter()
            .flat_map(|a| y.iter().map(move |b| a.wrapping_mul(*b)));
        out.store_slice(&products.collect::<Vec<i64>>())
    }))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{arg, assert_close, floats, run};
    use crate::kernel::Arg;

    #[test]
    fn triangles_are_solved() {
        let a = floats(&[2, 2], &[2., 9., 1., 4.]);
        let b = floats(&[2, 1], &[2., 9.]);
        let (x, m) = (floats(&[2, 1], &[0.; 2]), floats(&[2, 2], &[0.; 4]));
        let call = |upper, transpose, unit| {
            let flags = [upper, transpose, unit].map(Arg::Bool);
            let mut all = vec![arg(&b), arg(&a)];
            all.extend(flags);
            all.extend([arg(&x), arg(&m)]);
            run("aclnnTriangularSolve", &all).expect("a solution");
        };
        call(false, false, false);
        assert_close(&x, &[1., 2.], 0.);
        assert_close(&m, &[2., 9., 1., 4.], 0.);
        call(true, true, true);
        assert_close(&x, &[2., -9.], 0.);
        call(true, false, false);
        assert_close(&x, &[(2. - 9. * 2.25) / 2., 2.25], 1e-6);
    }

    #[test]
    fn inverse_and_root() {
        let x = floats(&[2, 2], &[0., 2., 4., 6.]);
        let out = floats(&[2, 2], &[0.; 4]);
        run("aclnnInverse", &[arg(&x), arg(&out)]).expect("an inverse");
        assert_close(&out, &[-0.75, 0.25, 0.5, 0.], 1e-6);
        let x = floats(&[2, 2], &[4., 2., 2., 10.]);
        run(
            "aclnnLinalgCholesky",
            &[arg(&x), Arg::Bool(false), arg(&out)],
        )
        .expect("a root");
        assert_close(&out, &[2., 0., 1., 3.], 1e-6);
        run(
            "aclnnLinalgCholesky",
            &[arg(&x), Arg::Bool(true), arg(&out)],
        )
        .expect("a root");
        assert_close(&out, &[2., 1., 0., 3.], 1e-6);
        let x = floats(&[1, 1], &[0.]);
        let out = floats(&[1, 1], &[0.]);
        assert_eq!(
            run("aclnnInverse", &[arg(&x), arg(&out)])
                .expect_err("singular")
                .code,
            507015
        );
    }
}
