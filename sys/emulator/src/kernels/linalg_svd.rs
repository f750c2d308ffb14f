//! Singular values by rotations of pairs of columns until all are orthogonal.
//!
//! Knows the kernel interface; it must not know streams, handles or device memory.

use crate::failure::Refusal;
use crate::kernel::{Call, Prepare, Work};

/// This family's ops.
pub(crate) const KERNELS: &[(&str, Prepare)] = &[("aclnnSvd", svd)];

type Column = Vec<f64>;

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Turns columns `p` and `q` of both matrices by the angle that makes the first matrix's columns orthogonal.
fn rotate(columns: &mut [Column], turns: &mut [Column], p: usize, q: usize) -> bool {
    let (alpha, beta) = (dot(&columns[p], &columns[p]), dot(&columns[q], &columns[q]));
    let gamma = dot(&columns[p], &columns[q]);
    if gamma.abs() <= 1e-15 * (alpha * beta).sqrt() || gamma == 0.0 {
        return false;
    }
    let zeta = (beta - alpha) / (2.0 * gamma);
    let tangent = zeta.signum() / (zeta.abs() + (1.0 + zeta * zeta).sqrt());
    let cosine = 1.0 / (1.0 + tangent * tangent).sqrt();
    let sine = cosine * tangent;
    for matrix in [columns, turns] {
        for row in 0..matrix[p].len() {
            let (a, b) = (matrix[p][row], matrix[q][row]);
            matrix[p][row] = cosine * a - sine * b;
            matrix[q][row] = sine * a + cosine * b;
        }
    }
    true
}

/// Adds unit vectors that are orthogonal to those given, until there are `count`.
fn complete(columns: &mut Vec<Column>, size: usize, count: usize) {
    for axis in 0..size {
        if columns.len() >= count {
            return;
        }
        let mut vector = vec![0.0; size];
        vector[axis] = 1.0;
        for _ in 0..2 {
            for column in columns.iter() {
                let along = dot(column, &vector);
                vector
                    .iter_mut()
                    .zip(column)
                    .for_each(|(value, part)| *value -= along * part);
            }
        }
        let length = dot(&vector, &vector).sqrt();
        if length > 1e-6 {
            columns.push(vector.iter().map(|value| value / length).collect());
        }
    }
}

/// Left vectors, values in falling order, right vectors of a matrix with at least as many rows as columns.
fn decompose(mut columns: Vec<Column>, rows: usize) -> (Vec<Column>, Vec<f64>, Vec<Column>) {
    let count = columns.len();
    let mut turns: Vec<Column> = (0..count)
        .map(|at| {
            (0..count)
                .map(|row| f64::from(u8::from(row == at)))
                .collect()
        })
        .collect();
    for _ in 0..60 {
        let mut turned = false;
        for p in 0..count {
            for q in p + 1..count {
                turned |= rotate(&mut columns, &mut turns, p, q);
            }
        }
        if !turned {
            break;
        }
    }
    let values: Vec<f64> = columns
        .iter()
        .map(|column| dot(column, column).sqrt())
        .collect();
    let mut order: Vec<usize> = (0..count).collect();
    order.sort_by(|&a, &b| values[b].total_cmp(&values[a]));
    let largest = values.iter().copied().fold(0.0, f64::max);
    let mut left = Vec::new();
    for &at in order.iter().filter(|&&at| values[at] > 1e-14 * largest) {
        left.push(columns[at].iter().map(|value| value / values[at]).collect());
    }
    complete(&mut left, rows, count);
    let right = order.iter().map(|&at| turns[at].clone()).collect();
    (left, order.iter().map(|&at| values[at]).collect(), right)
}

/// x = u · diag(sigma) · vᵀ.
fn svd(call: &Call) -> Result<Work, Refusal> {
    let (x, sigma, u, v) = (
        call.tensor(0)?,
        call.tensor(3)?,
        call.tensor(4)?,
        call.tensor(5)?,
    );
    if x.dtype().is_complex() {
        return Err(call.unsupported("complex matrices"));
    }
    let (full, with_vectors) = (call.bool(1)?, call.bool(2)?);
    let [batch @ .., rows, columns] = x.shape() else {
        return Err(call.invalid(format!("shape {:?} holds no matrix", x.shape())));
    };
    let (rows, columns) = (*rows, *columns);
    let inner = rows.min(columns);
    let widths = if full {
        (rows, columns)
    } else {
        (inner, inner)
    };
    call.expect_shape("sigma", &sigma, &[batch, &[inner]].concat())?;
    if with_vectors {
        call.expect_shape("u", &u, &[batch, &[rows, widths.0]].concat())?;
        call.expect_shape("v", &v, &[batch, &[columns, widths.1]].concat())?;
    }
    if x.is_empty() {
        return Ok(Work::nothing());
    }
    Ok(Work::new(move || {
        let values = x.load_vec::<f64>();
        let (mut all_sigma, mut all_u, mut all_v) = (Vec::new(), Vec::new(), Vec::new());
        for values in values.chunks(rows * columns) {
            let by_columns: Vec<Column> = (0..columns)
                .map(|column| {
                    values
                        .iter()
                        .skip(column)
                        .step_by(columns)
                        .copied()
                        .collect()
                })
                .collect();
            let by_rows = || values.chunks(columns).map(<[f64]>::to_vec).collect();
            let (mut left, sizes, mut right) = if rows >= columns {
                decompose(by_columns, rows)
            } else {
                let (right, sizes, left) = decompose(by_rows(), columns);
                (left, sizes, right)
            };
            complete(&mut left, rows, widths.0);
            complete(&mut right, columns, widths.1);
            all_sigma.extend(sizes);
            all_u.extend((0..rows).flat_map(|row| left.iter().map(move |column| column[row])));
            all_v.extend((0..columns).flat_map(|row| right.iter().map(move |column| column[row])));
        }
        sigma.store_slice(&all_sigma)?;
        if with_vectors {
            u.store_slice(&all_u)?;
            v.store_slice(&all_v)?;
        }
        Ok(())
    }))
}
