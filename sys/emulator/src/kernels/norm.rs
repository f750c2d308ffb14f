//! Normalisation of the trailing dims: layer norm, RMS norm, their gradients, and the forms that add a residual first.
//!
//! Knows the kernel interface; it must not know streams, handles or device memory.

use super::common::{rounded_to, same_dtype, volume};
use crate::failure::{Fault, Refusal};
use crate::kernel::{Call, Prepare, Work};
use crate::tensor::Tensor;

/// This family's ops.
pub(crate) const KERNELS: &[(&str, Prepare)] = &[
    ("aclnnLayerNorm", layer_norm as Prepare),
    ("aclnnLayerNormWithImplMode", layer_norm as Prepare),
    ("aclnnFastLayerNorm", layer_norm as Prepare),
    ("aclnnLayerNormBackward", layer_norm_backward as Prepare),
    ("aclnnAddLayerNorm", add_layer_norm as Prepare),
    ("aclnnAddLayerNormGrad", add_layer_norm_grad as Prepare),
    ("aclnnDeepNorm", deep_norm as Prepare),
    ("aclnnDeepNormGrad", deep_norm_grad as Prepare),
    ("aclnnRmsNorm", rms_norm as Prepare),
    ("aclnnGemmaRmsNorm", rms_norm as Prepare),
    ("aclnnRmsNormGrad", rms_norm_grad as Prepare),
    ("aclnnAddRmsNorm", add_rms_norm as Prepare),
    ("aclnnAddRmsNormCast", add_rms_norm as Prepare),
    ("aclnnInplaceAddRmsNorm", add_rms_norm as Prepare),
];

/// Mean and biased variance, each rounded once.
pub(crate) fn moments(row: &[f32]) -> (f32, f32) {
    let count = row.len() as f64;
    let mean = row.iter().map(|&x| f64::from(x)).sum::<f64>() / count;
    let square = row
        .iter()
        .map(|&x| (f64::from(x) - mean) * (f64::from(x) - mean));
    (mean as f32, (square.sum::<f64>() / count) as f32)
}

/// A tensor as `rows` rows of `width` elements, where the trailing dims are those of `trailing`.
pub(super) fn rows_of(
    call: &Call,
    what: &str,
    x: &Tensor,
    trailing: &[usize],
) -> Result<usize, Refusal> {
    if trailing.is_empty() || !x.shape().ends_with(trailing) {
        return Err(call.invalid(format!(
            "{what} has shape {:?}, whose trailing dims are not {trailing:?}",
            x.shape()
        )));
    }
    Ok(volume(&x.shape()[..x.rank() - trailing.len()]))
}

/// The shape of statistics: the trailing dims become 1.
fn statistics_shape(shape: &[usize], trailing: usize) -> Vec<usize> {
    let lead = shape.len().saturating_sub(trailing);
    let mut wanted = shape[..lead].to_vec();
    wanted.resize(shape.len(), 1);
    wanted
}

/// Weight and bias of a normalisation, read when it runs; absent ones are 1 and 0.
#[derive(Debug, Clone, Default)]
struct Affine {
    weight: Option<Tensor>,
    bias: Option<Tensor>,
}

impl Affine {
    fn new(
        call: &Call,
        weight: Option<Tensor>,
        bias: Option<Tensor>,
        shape: &[usize],
    ) -> Result<Affine, Refusal> {
        for (what, tensor) in [("weight", &weight), ("bias", &bias)] {
            if let Some(tensor) = tensor {
                call.expect_shape(what, tensor, shape)?;
            }
        }
        Ok(Affine { weight, bias })
    }

    fn weight(&self, width: usize) -> Vec<f32> {
        self.weight
            .as_ref()
            .map_or_else(|| vec![1.0; width], |tensor| tensor.load_vec())
    }

    fn bias(&self, width: usize) -> Vec<f32> {
        self.bias
            .as_ref()
            .map_or_else(|| vec![0.0; width], |tensor| tensor.load_vec())
    }
}

/// What a layer norm of rows gives.
struct Normalized {
    y: Vec<f32>,
    mean: Vec<f32>,
    rstd: Vec<f32>,
}

/// y = (x − mean) rstd w + b, rstd = 1 / sqrt(var + eps).
fn normalize(x: &[f32], width: usize, affine: &Affine, eps: f32) -> Normalized {
    let (weight, bias) = (affine.weight(width), affine.bias(width));
    let rows = x.len() / width.max(1);
    let mut result = Normalized {
        y: Vec::with_capacity(x.len()),
        mean: Vec::with_capacity(rows),
        rstd: Vec::with_capacity(rows),
    };
    for row in x.chunks_exact(width.max(1)) {
        let (mean, variance) = moments(row);
        let rstd = 1.0 / (variance + eps).sqrt();
        result.y.extend(
            row.iter()
                .zip(weight.iter().zip(&bias))
                .map(|(&x, (&w, &b))| (x - mean) * rstd * w + b),
        );
        result.mean.push(mean);
        result.rstd.push(rstd);
    }
    result
}

fn store_optional(tensor: &Option<Tensor>, values: &[f32]) -> Result<(), Fault> {
    match tensor {
        Some(tensor) => tensor.store_slice(values),
        None => Ok(()),
    }
}

fn sizes(call: &Call, values: &[i64]) -> Result<Vec<usize>, Refusal> {
    values
        .iter()
        .map(|&value| {
            usize::try_from(value)
                .map_err(|_| call.invalid(format!("normalizedShape holds {value}")))
        })
        .collect()
}

fn layer_norm(call: &Call) -> Result<Work, Refusal> {
    let (x, out) = (call.tensor(0)?, call.tensor(5)?);
    let trailing = sizes(call, call.ints(1)?)?;
    let rows = rows_of(call, "input", &x, &trailing)?;
    let affine = Affine::new(
        call,
        call.optional_tensor(2),
        call.optional_tensor(3),
        &trailing,
    )?;
    let eps = call.float(4)? as f32;
    let (mean, rstd) = (call.optional_tensor(6), call.optional_tensor(7));
    call.expect_shape("out", &out, x.shape())?;
    for (what, tensor) in [("mean", &mean), ("rstd", &rstd)] {
        // An empty input has no statistics, whatever their shape: PyTorch's client passes them flat.
        if let Some(tensor) = tensor.as_ref().filter(|_| rows > 0) {
            call.expect_shape(what, tensor, &statistics_shape(x.shape(), trailing.len()))?;
        }
    }
    let width = volume(&trailing);
    if rows == 0 {
        return Ok(Work::nothing());
    }
    if width == 0 {
        return Ok(Work::new(move || {
            store_optional(&mean, &vec![f32::NAN; rows])?;
            store_optional(&rstd, &vec![f32::NAN; rows])
        }));
    }
    Ok(Work::new(move || {
        let result = normalize(&x.load_vec(), width, &affine, eps);
        out.store_slice(&result.y)?;
        store_optional(&mean, &result.mean)?;
        store_optional(&rstd, &result.rstd)
    }))
}

/// The operands of a layer norm's gradient in f32, row-major.
struct Gradient<'a> {
    dy: &'a [f32],
    x: &'a [f32],
    mean: &'a [f32],
    rstd: &'a [f32],
    weight: &'a [f32],
}

impl Gradient<'_> {
    /// dx = rstd (g − mean(g) − x̂ mean(g x̂)) with g = dy w; dw = Σ dy x̂; db = Σ dy.
    fn run(&self) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
        let width = self.weight.len();
        let mut dx = Vec::with_capacity(self.x.len());
        let (mut dw, mut db) = (vec![0f64; width], vec![0f64; width]);
        let rows = self.x.chunks_exact(width).zip(self.dy.chunks_exact(width));
        for (row, (x, dy)) in rows.enumerate() {
            let (mean, rstd) = (self.mean[row], self.rstd[row]);
            let (mut sum, mut product) = (0f64, 0f64);
            for (column, (&x, &dy)) in x.iter().zip(dy).enumerate() {
                let normal = (x - mean) * rstd;
                let g = dy * self.weight[column];
                sum += f64::from(g);
                product += f64::from(g * normal);
                dw[column] += f64::from(dy * normal);
                db[column] += f64::from(dy);
            }
            let sum = (sum / width as f64) as f32;
            let product = (product / width as f64) as f32;
            dx.extend(
                x.iter()
                    .zip(dy.iter().zip(self.weight))
                    .map(|(&x, (&dy, &w))| rstd * (dy * w - sum - (x - mean) * rstd * product)),
            );
        }
        let narrow = |sums: Vec<f64>| sums.into_iter().map(|sum| sum as f32).collect();
        (dx, narrow(dw), narrow(db))
    }
}

/// The output of parameter `index` where the mask wants it.
pub(crate) fn masked_output(
    call: &Call,
    mask: &[bool],
    position: usize,
    index: usize,
    shape: &[usize],
) -> Result<Option<Tensor>, Refusal> {
    match mask.get(position) {
        Some(true) => {
            let tensor = call.tensor(index)?;
            call.expect_shape("a gradient", &tensor, shape)?;
            Ok(Some(tensor))
        }
        Some(false) => Ok(None),
        None => Err(call.invalid(format!("outputMask has {} entries, wanted 3", mask.len()))),
    }
}

fn layer_norm_backward(call: &Call) -> Result<Work, Refusal> {
    let (dy, x) = (call.tensor(0)?, call.tensor(1)?);
    let trailing = sizes(call, call.ints(2)?)?;
    let rows = rows_of(call, "input", &x, &trailing)?;
    let (mean, rstd) = (call.tensor(3)?, call.tensor(4)?);
    let affine = Affine::new(
        call,
        call.optional_tensor(5),
        call.optional_tensor(6),
        &trailing,
    )?;
    let mask = call.bools(7)?;
    call.expect_shape("gradOut", &dy, x.shape())?;
    for (what, tensor) in [("mean", &mean), ("rstd", &rstd)] {
        if tensor.count() != rows {
            return Err(call.invalid(format!(
                "{what} has shape {:?}, wanted {rows} elements",
                tensor.shape()
            )));
        }
    }
    if x.is_empty() {
        return Err(call.invalid(format!("input of shape {:?} is empty", x.shape())));
    }
    let dx = masked_output(call, mask, 0, 8, x.shape())?;
    let dw = masked_output(call, mask, 1, 9, &trailing)?;
    let db = masked_output(call, mask, 2, 10, &trailing)?;
    let width = volume(&trailing);
    Ok(Work::new(move || {
        let (dy, x) = (dy.load_vec::<f32>(), x.load_vec::<f32>());
        let (mean, rstd) = (mean.load_vec::<f32>(), rstd.load_vec::<f32>());
        let gradient = Gradient {
            dy: &dy,
            x: &x,
            mean: &mean,
            rstd: &rstd,
            weight: &affine.weight(width),
        };
        let results = gradient.run();
        store_optional(&dx, &results.0)?;
        store_optional(&dw, &results.1)?;
        store_optional(&db, &results.2)
    }))
}

/// Refuses statistics whose number of elements is not that of the rows.
fn expect_rows(call: &Call, what: &str, tensor: &Tensor, rows: usize) -> Result<(), Refusal> {
    if tensor.count() == rows {
        return Ok(());
    }
    Err(call.invalid(format!(
        "{what} has shape {:?}, wanted {rows} elements",
        tensor.shape()
    )))
}

/// x1 + scale x2 in f32, rounded to the dtype of `x1`.
pub(super) fn sum_of(x1: &Tensor, scale: f32, x2: &Tensor) -> Vec<f32> {
    let other = x2.load_vec::<f32>();
    let mut sum = x1.load_vec::<f32>();
    for (value, &b) in sum.iter_mut().zip(&other) {
        *value += scale * b;
    }
    rounded_to(sum, x1.dtype())
}

/// Layer norm of `x1 + x2 (+ bias)`; `xOut` gets the sum where `additionalOutput` asks for it.
fn add_layer_norm(call: &Call) -> Result<Work, Refusal> {
    let (x1, x2, gamma, beta) = (
        call.tensor(0)?,
        call.tensor(1)?,
        call.tensor(2)?,
        call.tensor(3)?,
    );
    let bias = call.optional_tensor(4);
    let (eps, keep) = (call.float(5)? as f32, call.bool(6)?);
    let (y, mean, rstd) = (call.tensor(7)?, call.tensor(8)?, call.tensor(9)?);
    let sum_out = if keep { Some(call.tensor(10)?) } else { None };
    let rows = rows_of(call, "x1", &x1, gamma.shape())?;
    call.expect_shape("x2", &x2, x1.shape())?;
    call.expect_shape("beta", &beta, gamma.shape())?;
    call.expect_shape("yOut", &y, x1.shape())?;
    expect_rows(call, "meanOut", &mean, rows)?;
    expect_rows(call, "rstdOut", &rstd, rows)?;
    if let Some(bias) = &bias
        && bias.shape() != gamma.shape()
        && bias.shape() != x1.shape()
    {
        return Err(call.invalid(format!("bias has shape {:?}", bias.shape())));
    }
    if let Some(out) = &sum_out {
        call.expect_shape("xOut", out, x1.shape())?;
    }
    if x1.is_empty() {
        return Ok(Work::nothing());
    }
    let width = gamma.count();
    let affine = Affine {
        weight: Some(gamma),
        bias: Some(beta),
    };
    Ok(Work::new(move || {
        let mut sum = sum_of(&x1, 1.0, &x2);
        if let Some(bias) = &bias {
            let bias = bias.load_vec::<f32>();
            sum.iter_mut()
                .zip(bias.iter().cycle())
                .for_each(|(value, &b)| *value += b);
            sum = rounded_to(sum, x1.dtype());
        }
        let result = normalize(&sum, width, &affine, eps);
        store_optional(&sum_out, &sum)?;
        y.store_slice(&result.y)?;
        mean.store_slice(&result.mean)?;
        rstd.store_slice(&result.rstd)
    }))
}

fn add_layer_norm_grad(call: &Call) -> Result<Work, Refusal> {
    let (dy, x1, x2) = (call.tensor(0)?, call.tensor(1)?, call.tensor(2)?);
    let (rstd, mean, gamma) = (call.tensor(3)?, call.tensor(4)?, call.tensor(5)?);
    let extra = call.optional_tensor(6);
    let (dx, dgamma, dbeta) = (call.tensor(7)?, call.tensor(8)?, call.tensor(9)?);
    let rows = rows_of(call, "x1", &x1, gamma.shape())?;
    for (what, tensor) in [("dy", &dy), ("x2", &x2), ("dxOut", &dx)] {
        call.expect_shape(what, tensor, x1.shape())?;
    }
    if let Some(extra) = &extra {
        call.expect_shape("dsum", extra, x1.shape())?;
    }
    expect_rows(call, "mean", &mean, rows)?;
    expect_rows(call, "rstd", &rstd, rows)?;
    call.expect_shape("dgammaOut", &dgamma, gamma.shape())?;
    call.expect_shape("dbetaOut", &dbeta, gamma.shape())?;
    Ok(Work::new(move || {
        let sum = sum_of(&x1, 1.0, &x2);
        let gradient = Gradient {
            dy: &dy.load_vec::<f32>(),
            x: &sum,
            mean: &mean.load_vec::<f32>(),
            rstd: &rstd.load_vec::<f32>(),
            weight: &gamma.load_vec::<f32>(),
        };
        let mut results = gradient.run();
        if let Some(extra) = &extra {
            let extra = extra.load_vec::<f32>();
            results.0.iter_mut().zip(&extra).for_each(|(a, &b)| *a += b);
        }
        dx.store_slice(&results.0)?;
        dgamma.store_slice(&results.1)?;
        dbeta.store_slice(&results.2)
    }))
}

/// Layer norm of `alpha x + gx`.
fn deep_norm(call: &Call) -> Result<Work, Refusal> {
    let (x, gx, beta, gamma) = (
        call.tensor(0)?,
        call.tensor(1)?,
        call.tensor(2)?,
        call.tensor(3)?,
    );
    let (alpha, eps) = (call.float(4)? as f32, call.float(5)? as f32);
    let (mean, rstd, y) = (call.tensor(6)?, call.tensor(7)?, call.tensor(8)?);
    let rows = rows_of(call, "x", &x, gamma.shape())?;
    call.expect_shape("gx", &gx, x.shape())?;
    call.expect_shape("beta", &beta, gamma.shape())?;
    call.expect_shape("yOut", &y, x.shape())?;
    expect_rows(call, "meanOut", &mean, rows)?;
    expect_rows(call, "rstdOut", &rstd, rows)?;
    if x.is_empty() {
        return Ok(Work::nothing());
    }
    let width = gamma.count();
    let affine = Affine {
        weight: Some(gamma),
        bias: Some(beta),
    };
    Ok(Work::new(move || {
        let mut sum = gx.load_vec::<f32>();
        let scaled = x.load_vec::<f32>();
        sum.iter_mut()
            .zip(&scaled)
            .for_each(|(value, &x)| *value += alpha * x);
        let result = normalize(&sum, width, &affine, eps);
        mean.store_slice(&result.mean)?;
        rstd.store_slice(&result.rstd)?;
        y.store_slice(&result.y)
    }))
}

fn deep_norm_grad(call: &Call) -> Result<Work, Refusal> {
    let (dy, x, gx, gamma) = (
        call.tensor(0)?,
        call.tensor(1)?,
        call.tensor(2)?,
        call.tensor(3)?,
    );
    let (mean, rstd, alpha) = (call.tensor(4)?, call.tensor(5)?, call.float(6)? as f32);
    let (dx, dgx) = (call.tensor(7)?, call.tensor(8)?);
    let (dbeta, dgamma) = (call.tensor(9)?, call.tensor(10)?);
    let rows = rows_of(call, "x", &x, gamma.shape())?;
    for (what, tensor) in [("dy", &dy), ("gx", &gx), ("dxOut", &dx), ("dgxOut", &dgx)] {
        call.expect_shape(what, tensor, x.shape())?;
    }
    expect_rows(call, "mean", &mean, rows)?;
    expect_rows(call, "rstd", &rstd, rows)?;
    call.expect_shape("dgammaOut", &dgamma, gamma.shape())?;
    call.expect_shape("dbetaOut", &dbeta, gamma.shape())?;
    Ok(Work::new(move || {
        let mut sum = gx.load_vec::<f32>();
        let scaled = x.load_vec::<f32>();
        sum.iter_mut()
            .zip(&scaled)
            .for_each(|(value, &x)| *value += alpha * x);
        let gradient = Gradient {
            dy: &dy.load_vec::<f32>(),
            x: &sum,
            mean: &mean.load_vec::<f32>(),
            rstd: &rstd.load_vec::<f32>(),
            weight: &gamma.load_vec::<f32>(),
        };
        let (mut values, weights, biases) = gradient.run();
        dgx.store_slice(&values)?;
        values.iter_mut().for_each(|value| *value *= alpha);
        dx.store_slice(&values)?;
        dgamma.store_slice(&weights)?;
        dbeta.store_slice(&biases)
    }))
}

/// y = x rstd γ with rstd = 1 / sqrt(mean x² + eps); γ is taken as 1 + γ where `shifted`.
pub(super) fn root_normalize(
    x: &[f32],
    gamma: &[f32],
    eps: f32,
    shifted: bool,
) -> (Vec<f32>, Vec<f32>) {
    let width = gamma.len();
    let mut y = Vec::with_capacity(x.len());
    let mut rstds = Vec::with_capacity(x.len() / width.max(1));
    for row in x.chunks_exact(width.max(1)) {
        let square: f64 = row.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
        let rstd = 1.0 / ((square / width as f64) as f32 + eps).sqrt();
        y.extend(row.iter().zip(gamma).map(|(&x, &g)| {
            let factor = if shifted { 1.0 + g } else { g };
            x * rstd * factor
        }));
        rstds.push(rstd);
    }
    (y, rstds)
}

fn rms_norm(call: &Call) -> Result<Work, Refusal> {
    let (x, gamma) = (call.tensor(0)?, call.tensor(1)?);
    let (eps, y, rstd) = (call.float(2)? as f32, call.tensor(3)?, call.tensor(4)?);
    rows_of(call, "x", &x, gamma.shape())?;
    call.expect_shape("yOut", &y, x.shape())?;
    // The manual wants 1 for each normalised dim; llama.cpp leaves these dims out, and CANN takes it.
    let wanted = statistics_shape(x.shape(), gamma.rank());
    if rstd.shape() != &wanted[..x.rank() - gamma.rank()] {
        call.expect_shape("rstdOut", &rstd, &wanted)?;
    }
    if x.is_empty() {
        return Ok(Work::nothing());
    }
    let shifted = call.name() == "aclnnGemmaRmsNorm";
    Ok(Work::new(move || {
        let (values, rstds) = root_normalize(&x.load_vec(), &gamma.load_vec(), eps, shifted);
        y.store_slice(&values)?;
        rstd.store_slice(&rstds)
    }))
}

/// dx = rstd (dy γ − x̂ mean(dy γ x̂)) with x̂ = x rstd; dγ = Σ dy x̂.
fn rms_norm_grad(call: &Call) -> Result<Work, Refusal> {
    let (dy, x, rstd, gamma) = (
        call.tensor(0)?,
        call.tensor(1)?,
        call.tensor(2)?,
        call.tensor(3)?,
    );
    let (dx, dgamma) = (call.tensor(4)?, call.tensor(5)?);
    let rows = rows_of(call, "x", &x, gamma.shape())?;
    call.expect_shape("dy", &dy, x.shape())?;
    call.expect_shape("dxOut", &dx, x.shape())?;
    call.expect_shape("dgammaOut", &dgamma, gamma.shape())?;
    expect_rows(call, "rstd", &rstd, rows)?;
    if gamma.is_empty() {
        return Ok(Work::nothing());
    }
    Ok(Work::new(move || {
        let (dy, x) = (dy.load_vec::<f32>(), x.load_vec::<f32>());
        let (rstd, gamma) = (rstd.load_vec::<f32>(), gamma.load_vec::<f32>());
        let width = gamma.len();
        let mut values = Vec::with_capacity(x.len());
        let mut weights = vec![0f64; width];
        for (row, (x, dy)) in x
            .chunks_exact(width)
            .zip(dy.chunks_exact(width))
            .enumerate()
        {
            let rstd = rstd[row];
            let mut product = 0f64;
            for (column, (&x, &dy)) in x.iter().zip(dy).enumerate() {
                let normal = x * rstd;
                product += f64::from(dy * gamma[column] * normal);
                weights[column] += f64::from(dy * normal);
            }
            let product = (product / width as f64) as f32;
            values.extend(
                x.iter()
                    .zip(dy.iter().zip(&gamma))
                    .map(|(&x, (&dy, &g))| rstd * (dy * g - x * rstd * product)),
            );
        }
        let weights: Vec<f32> = weights.into_iter().map(|sum| sum as f32).collect();
        dx.store_slice(&values)?;
        dgamma.store_slice(&weights)
    }))
}

/// RMS norm of `x1 + x2`. The plain form answers y, rstd and the sum; `Cast` gives y in two dtypes; in place y lands in `x1`
/// and the sum in `x2`.
fn add_rms_norm(call: &Call) -> Result<Work, Refusal> {
    let (x1, x2, gamma) = (call.tensor(0)?, call.tensor(1)?, call.tensor(2)?);
    let eps = call.float(3)? as f32;
    let (ys, rstd, sum_out) = match call.name() {
        "aclnnInplaceAddRmsNorm" => (vec![x1.clone()], call.tensor(4)?, x2.clone()),
        "aclnnAddRmsNormCast" => (
            vec![call.tensor(4)?, call.tensor(5)?],
            call.tensor(6)?,
            call.tensor(7)?,
        ),
        _ => (vec![call.tensor(4)?], call.tensor(5)?, call.tensor(6)?),
    };
    rows_of(call, "x1", &x1, gamma.shape())?;
    call.expect_shape("x2", &x2, x1.shape())?;
    same_dtype(call, "x2", &x2, &x1)?;
    call.expect_shape("xOut", &sum_out, x1.shape())?;
    for y in &ys {
        call.expect_shape("yOut", y, x1.shape())?;
    }
    call.expect_shape(
        "rstdOut",
        &rstd,
        &statistics_shape(x1.shape(), gamma.rank()),
    )?;
    if x1.is_empty() {
        return Ok(Work::nothing());
    }
    Ok(Work::new(move || {
        let sum = sum_of(&x1, 1.0, &x2);
        let (values, rstds) = root_normalize(&sum, &gamma.load_vec(), eps, false);
        for y in &ys {
            y.store_slice(&values)?;
        }
        rstd.store_slice(&rstds)?;
        sum_out.store_slice(&sum)
    }))
}
