//! Factorisations of matrices: QR by reflections, sign and logarithm of the determinant by elimination.
//!
//! Knows the kernel interface; it must not know streams, handles or device memory.

use crate::failure::Refusal;
use crate::kernel::{Call, Prepare, Work};
use ndarray::Array2;

/// This family's ops.
pub(crate) const KERNELS: &[(&str, Prepare)] = &[
    ("aclnnLinalgQr", linalg_qr as Prepare),
    ("aclnnQr", plain_qr as Prepare),
    ("aclnnSlogdet", slogdet as Prepare),
    ("aclnnLogdet", logdet as Prepare),
];

/// The dims before the last two, and the last two.
fn matrices<'a>(call: &Call, shape: &'a [usize]) -> Result<(&'a [usize], usize, usize), Refusal> {
    match shape {
        [batch @ .., rows, columns] => Ok((batch, *rows, *columns)),
        _ => Err(call.invalid(format!("shape {shape:?} holds no matrix"))),
    }
}

/// Reflects columns onto the axes as LAPACK does: the diagonal of R has the sign opposite to the column's first entry.
fn reflect(matrix: &mut Array2<f64>) -> Array2<f64> {
    let (rows, columns) = matrix.dim();
    let mut q = Array2::eye(rows);
    for column in 0..rows.min(columns) {
        let mut normal: Vec<f64> = (column..rows).map(|row| matrix[[row, column]]).collect();
        if normal.iter().skip(1).all(|&value| value == 0.0) {
            continue;
        }
        let length = normal.iter().map(|value| value * value).sum::<f64>().sqrt();
        normal[0] += length.copysign(normal[0]);
        let square: f64 = normal.iter().map(|value| value * value).sum();
        for target in column..columns {
            let along: f64 = normal
                .iter()
                .enumerate()
                .map(|(at, value)| value * matrix[[column + at, target]])
                .sum();
            for (at, value) in normal.iter().enumerate() {
                matrix[[column + at, target]] -= 2.0 * along / square * value;
            }
        }
        for row in 0..rows {
            let along: f64 = normal
                .iter()
                .enumerate()
                .map(|(at, value)| value * q[[row, column + at]])
                .sum();
            for (at, value) in normal.iter().enumerate() {
                q[[row, column + at]] -= 2.0 * along / square * value;
            }
        }
    }
    q
}

fn linalg_qr(call: &Call) -> Result<Work, Refusal> {
    qr(call, call.int(1)?)
}

/// The older form: the reduced factors where `some`, else all of Q.
fn plain_qr(call: &Call) -> Result<Work, Refusal> {
    qr(call, i64::from(!call.bool(1)?))
}

/// Mode 0 gives Q with as many columns as the smaller extent, 1 all of Q, 2 only R.
fn qr(call: &Call, mode: i64) -> Result<Work, Refusal> {
    let (x, q_out, r_out) = (call.tensor(0)?, call.tensor(2)?, call.tensor(3)?);
    if x.dtype().is_complex() {
        return Err(call.unsupported("complex matrices"));
    }
    let (batch, rows, columns) = matrices(call, x.shape())?;
    let inner = rows.min(columns);
    let (q_width, r_height) = match mode {
        0 | 2 => (inner, inner),
        1 => (rows, rows),
        _ => return Err(call.invalid(format!("mode is {mode}, wanted 0 to 2"))),
    };
    if mode != 2 {
        call.expect_shape("Q", &q_out, &[batch, &[rows, q_width]].concat())?;
    }
    call.expect_shape("R", &r_out, &[batch, &[r_height, columns]].concat())?;
    let count = batch.iter().product::<usize>();
    Ok(Work::new(move || {
        let values = x.load_vec::<f64>();
        let (mut all_q, mut all_r) = (Vec::new(), Vec::new());
        for index in 0..count {
            let values = &values[index * rows * columns..][..rows * columns];
            let mut r = Array2::from_shape_fn((rows, columns), |(row, column)| {
                values[row * columns + column]
            });
            let q = reflect(&mut r);
            all_q.extend(
                (0..rows)
                    .flat_map(|row| (0..q_width).map(move |at| [row, at]))
                    .map(|at| q[at]),
            );
            all_r.extend(
                (0..r_height)
                    .flat_map(|row| (0..columns).map(move |at| [row, at]))
                    .map(|at| if at[0] > at[1] { 0.0 } else { r[at] }),
            );
        }
        if mode != 2 {
            q_out.store_slice(&all_q)?;
        }
        r_out.store_slice(&all_r)
    }))
}

/// Sign and logarithm of the absolute determinant; 0 and minus infinity for a singular matrix.
fn slogdet(call: &Call) -> Result<Work, Refusal> {
    let (x, sign, log) = (call.tensor(0)?, call.tensor(1)?, call.tensor(2)?);
    if x.dtype().is_complex() {
        return Err(call.unsupported("complex matrices"));
    }
    let (batch, rows, columns) = matrices(call, x.shape())?;
    if rows != columns {
        return Err(call.invalid(format!("matrices of {rows} by {columns} are not square")));
    }
    call.expect_shape("signOut", &sign, batch)?;
    call.expect_shape("logOut", &log, batch)?;
    Ok(Work::new(move || {
        let values = x.load_vec::<f64>();
        let (signs, logs): (Vec<f64>, Vec<f64>) = (0..sign.count())
            .map(|index| eliminate(&values[index * rows * rows..][..rows * rows], rows))
            .unzip();
        sign.store_slice(&signs)?;
        log.store_slice(&logs)
    }))
}

/// Logarithm of the determinant; NaN for a negative one.
fn logdet(call: &Call) -> Result<Work, Refusal> {
    let (x, out) = (call.tensor(0)?, call.tensor(1)?);
    if x.dtype().is_complex() {
        return Err(call.unsupported("complex matrices"));
    }
    let (batch, rows, columns) = matrices(call, x.shape())?;
    if rows != columns {
        return Err(call.invalid(format!("matrices of {rows} by {columns} are not square")));
    }
    call.expect_shape("out", &out, batch)?;
    Ok(Work::new(move || {
        let values = x.load_vec::<f64>();
        let logs: Vec<f64> = (0..out.count())
            .map(|index| eliminate(&values[index * rows * rows..][..rows * rows], rows))
            .map(|(sign, log)| if sign < 0.0 { f64::NAN } else { log })
            .collect();
        out.store_slice(&logs)
    }))
}

/// Elimination with the largest pivot of each column.
fn eliminate(values: &[f64], size: usize) -> (f64, f64) {
    let mut matrix = values.to_vec();
    let (mut sign, mut log) = (1.0, 0.0);
    for column in 0..size {
        let pivot = (column..size)
            .max_by(|&a, &b| {
                let size_of = |row: usize| matrix[row * size + column].abs();
                size_of(a).total_cmp(&size_of(b))
            })
            .unwrap_or(column);
        let value = matrix[pivot * size + column];
        if value == 0.0 {
            return (0.0, f64::NEG_INFINITY);
        }
        if pivot != column {
            sign = -sign;
            (0..size).for_each(|at| matrix.swap(pivot * size + at, column * size + at));
        }
        sign *= value.signum();
        log += value.abs().ln();
        for row in column + 1..size {
            let factor = matrix[row * size + column] / value;
            for at in column..size {
                matrix[row * size + at] -= factor * matrix[column * size + at];
            }
        }
    }
    (sign, log)
}
