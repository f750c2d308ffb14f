//! Matrix products: `aclnnMatmul`, `aclnnMm`, `aclnnBatchMatMul`, the forms that add a matrix, and the vector forms.
//!
//! Knows the kernel interface and ndarray's product; it must not know streams, handles or device memory.

use super::common::{Arithmetic, by_class, expect_broadcast, load_broadcast};
use super::weight_format::{is_blocked, unblocked};
use crate::dtype::{Class, DType};
use crate::failure::{Fault, Refusal};
use crate::kernel::{Call, Family, Prepare, Scalar, Work};
use crate::promote::promote;
use crate::tensor::Tensor;
use half::f16;
use ndarray::{ArrayD, ArrayView2, ArrayViewD, Axis, CowArray, Dimension, Ix2, IxDyn};

/// This family's ops.
pub(crate) const KERNELS: &[(&str, Prepare)] = &[
    ("aclnnMatmul", matmul as Prepare),
    ("aclnnMm", mm as Prepare),
    ("aclnnBatchMatMul", batch_matmul as Prepare),
    ("aclnnAddmm", addmm as Prepare),
    ("aclnnInplaceAddmm", addmm as Prepare),
    ("aclnnBaddbmm", baddbmm as Prepare),
    ("aclnnInplaceBaddbmm", baddbmm as Prepare),
    ("aclnnAddbmm", addbmm as Prepare),
    ("aclnnInplaceAddbmm", addbmm as Prepare),
    ("aclnnGemm", gemm as Prepare),
    ("aclnnMv", mv as Prepare),
    ("aclnnAddmv", addmv as Prepare),
    ("aclnnDot", dot as Prepare),
    ("aclnnAddr", addr as Prepare),
    ("aclnnInplaceAddr", addr as Prepare),
];

/// What the cube unit does to its operands before it multiplies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Precision {
    /// Nothing.
    Exact,
    /// Rounds f32 to 11 bits of mantissa.
    Hf32,
    /// Rounds to f16.
    F16,
}

impl Precision {
    /// From the `cubeMathType` parameter and the dtype in which the op computes.
    pub fn of(call: &Call, index: usize, dtype: DType) -> Result<Precision, Refusal> {
        let mode = call.int(index)?;
        let wide_cube = !matches!(call.family(), Family::P310 | Family::A910 | Family::B310);
        let refuse =
            |why: &str| Err(call.invalid(format!("cubeMathType is {mode} for {dtype}: {why}")));
        match (mode, dtype) {
            (0..=4, _) if dtype == DType::Bf16 && mode == 2 => refuse("bf16 is not taken as f16"),
            (0, DType::F32) if !wide_cube => refuse("this chip multiplies no f32, wanted 1 or 2"),
            (3, DType::F32) if !wide_cube => refuse("this chip has no hf32"),
            (3, DType::F32) => Ok(Precision::Hf32),
            // Mode 1 allows less precision and demands none; only a cube without f32 must take it.
            (1, DType::F32) if wide_cube => Ok(Precision::Exact),
            (1 | 2, DType::F32) => Ok(Precision::F16),
            (0..=4, _) => Ok(Precision::Exact),
            _ => refuse("wanted 0 to 4"),
        }
    }

    /// Rounds one operand in place.
    pub fn round(self, values: &mut ArrayD<f32>) {
        match self {
            Precision::Exact => {}
            Precision::Hf32 => values.mapv_inplace(to_hf32),
            Precision::F16 => values.mapv_inplace(|value| f16::from_f32(value).to_f32()),
        }
    }
}

/// Rounds to 11 bits of mantissa, ties to even; infinities and NaN stay.
fn to_hf32(value: f32) -> f32 {
    if !value.is_finite() {
        return value;
    }
    let bits = value.to_bits();
    let tie = 0x7ff + ((bits >> 12) & 1);
    f32::from_bits(bits.wrapping_add(tie) & !0xfff)
}

/// The operands of a product as they are read when it runs.
#[derive(Debug, Clone)]
pub(super) struct Product {
    x: Tensor,
    y: Tensor,
    precision: Precision,
    shape: Vec<usize>,
    /// The second operand lies in blocks.
    pub blocked: bool,
}

impl Product {
    /// Checks dtypes, shapes and the precision mode.
    pub fn new(call: &Call, x: Tensor, y: Tensor, mode: usize) -> Result<Product, Refusal> {
        let dtype = product_dtype(call, &x, &y)?;
        let precision = Precision::of(call, mode, dtype)?;
        let shape = product_shape(call, x.shape(), y.shape())?;
        Ok(Product {
            blocked: is_blocked(call, &y)?,
            x,
            y,
            precision,
            shape,
        })
    }

    fn run(&self) -> Result<Vec<f32>, Fault> {
        let (x, y) = (self.operand(&self.x), self.second());
        multiply(x.view(), y.view())
    }

    fn second(&self) -> CowArray<'_, f32, IxDyn> {
        if !self.blocked {
            return self.operand(&self.y);
        }
        let mut values = unblocked(&self.y);
        self.precision.round(&mut values);
        CowArray::from(values)
    }

    fn operand<'a>(&self, tensor: &'a Tensor) -> CowArray<'a, f32, IxDyn> {
        if self.precision == Precision::Exact {
            return tensor.read::<f32>();
        }
        let mut values = tensor.load::<f32>();
        self.precision.round(&mut values);
        CowArray::from(values)
    }
}

fn product_dtype(call: &Call, x: &Tensor, y: &Tensor) -> Result<DType, Refusal> {
    let (a, b) = (x.dtype(), y.dtype());
    let halves = matches!(
        (a, b),
        (DType::F16, DType::Bf16) | (DType::Bf16, DType::F16)
    );
    if halves && call.family() != Family::A950 {
        return Err(call.invalid(format!("{a} with {b} is not promoted")));
    }
    promote(a, b).ok_or_else(|| call.invalid(format!("{a} and {b} do not promote")))
}

fn expect_rank(call: &Call, what: &str, tensor: &Tensor, rank: usize) -> Result<(), Refusal> {
    if tensor.rank() == rank {
        return Ok(());
    }
    Err(call.invalid(format!(
        "{what} has shape {:?}, wanted {rank} dims",
        tensor.shape()
    )))
}

/// `out = self @ mat2` with torch's rules for vectors and batches; halves accumulate in f32.
fn matmul(call: &Call) -> Result<Work, Refusal> {
    let out = call.tensor(2)?;
    let product = Product::new(call, call.tensor(0)?, call.tensor(1)?, 3)?;
    plain(call, product, out)
}

/// `out = self @ mat2` of two matrices.
fn mm(call: &Call) -> Result<Work, Refusal> {
    let (x, y) = (call.tensor(0)?, call.tensor(1)?);
    expect_rank(call, "self", &x, 2)?;
    expect_rank(call, "mat2", &y, 2)?;
    plain(call, Product::new(call, x, y, 3)?, call.tensor(2)?)
}

/// `out = self @ mat2` of two batches of matrices.
fn batch_matmul(call: &Call) -> Result<Work, Refusal> {
    let (x, y) = (call.tensor(0)?, call.tensor(1)?);
    expect_rank(call, "self", &x, 3)?;
    expect_rank(call, "mat2", &y, 3)?;
    plain(call, Product::new(call, x, y, 3)?, call.tensor(2)?)
}

pub(super) fn plain(call: &Call, product: Product, out: Tensor) -> Result<Work, Refusal> {
    call.expect_shape("out", &out, &product.shape)?;
    if out.is_empty() {
        return Ok(Work::nothing());
    }
    Ok(Work::new(move || out.store_slice(&product.run()?)))
}

/// `beta * self` and `alpha` of the forms that add a matrix.
pub(super) struct Addend {
    tensor: Tensor,
    beta: f32,
    alpha: f32,
}

impl Addend {
    /// `out = beta * self + alpha * product`; a `beta` of 0 ignores `self`, NaN included.
    fn combine(&self, mut product: Vec<f32>, out: &Tensor) -> Result<(), Fault> {
        let alpha = self.alpha;
        if self.beta == 0.0 {
            product.iter_mut().for_each(|value| *value *= alpha);
        } else {
            let addend = load_broadcast::<f32>(&self.tensor, out.shape());
            for (value, &a) in product.iter_mut().zip(&addend) {
                *value = self.beta * a + alpha * *value;
            }
        }
        out.store_slice(&product)
    }
}

/// Reads `self, mat1, mat2, beta, alpha, [out,] cubeMathType`; the forms in place have no `out`.
pub(super) fn addition(call: &Call, rank: usize) -> Result<(Addend, Product, Tensor), Refusal> {
    let tensor = call.tensor(0)?;
    let in_place = call.name().starts_with("aclnnInplace");
    let (out, mode) = if in_place {
        (tensor.clone(), 5)
    } else {
        (call.tensor(5)?, 6)
    };
    let (x, y) = (call.tensor(1)?, call.tensor(2)?);
    expect_rank(call, "mat1", &x, rank)?;
    expect_rank(call, "mat2", &y, rank)?;
    let addend = Addend {
        tensor,
        beta: call.scalar(3)?.f32(),
        alpha: call.scalar(4)?.f32(),
    };
    Ok((addend, Product::new(call, x, y, mode)?, out))
}

/// `out = beta * self + alpha * mat1 @ mat2`.
fn addmm(call: &Call) -> Result<Work, Refusal> {
    let (addend, product, out) = addition(call, 2)?;
    added(call, addend, product, out)
}

/// As [`addmm`] for each matrix of a batch.
fn baddbmm(call: &Call) -> Result<Work, Refusal> {
    let (addend, product, out) = addition(call, 3)?;
    added(call, addend, product, out)
}

pub(super) fn added(
    call: &Call,
    addend: Addend,
    product: Product,
    out: Tensor,
) -> Result<Work, Refusal> {
    call.expect_shape("out", &out, &product.shape)?;
    expect_broadcast(call, "self", &addend.tensor, &product.shape)?;
    if out.is_empty() {
        return Ok(Work::nothing());
    }
    Ok(Work::new(move || addend.combine(product.run()?, &out)))
}

/// `out = beta * self + alpha * sum over the batch of batch1 @ batch2`.
fn addbmm(call: &Call) -> Result<Work, Refusal> {
    let (addend, product, out) = addition(call, 3)?;
    let [batch, rows, columns] = product.shape[..] else {
        return Err(call.invalid("operands are no batches of matrices"));
    };
    if product.x.shape().first() != product.y.shape().first() {
        return Err(call.invalid("batch1 and batch2 hold different numbers of matrices"));
    }
    call.expect_shape("out", &out, &[rows, columns])?;
    expect_broadcast(call, "self", &addend.tensor, &[rows, columns])?;
    if out.is_empty() {
        return Ok(Work::nothing());
    }
    Ok(Work::new(move || {
        let products = product.run()?;
        let mut sum = vec![0f32; rows * columns];
        for index in 0..batch {
            let start = index * rows * columns;
            for (total, &value) in sum.iter_mut().zip(&products[start..]) {
                *total += value;
            }
        }
        addend.combine(sum, &out)
    }))
}

/// `out = alpha * op(A) @ op(B) + beta * C`.
fn gemm(call: &Call) -> Result<Work, Refusal> {
    let (x, y, tensor, out) = (
        call.tensor(0)?,
        call.tensor(1)?,
        call.tensor(2)?,
        call.tensor(7)?,
    );
    expect_rank(call, "A", &x, 2)?;
    expect_rank(call, "B", &y, 2)?;
    let (alpha, beta) = (call.float(3)? as f32, call.float(4)? as f32);
    let (flip_x, flip_y) = (call.int(5)? != 0, call.int(6)? != 0);
    let precision = Precision::of(call, 8, product_dtype(call, &x, &y)?)?;
    let flipped = |shape: &[usize], flip: bool| match (shape, flip) {
        ([rows, columns], true) => vec![*columns, *rows],
        _ => shape.to_vec(),
    };
    let shape = product_shape(
        call,
        &flipped(x.shape(), flip_x),
        &flipped(y.shape(), flip_y),
    )?;
    call.expect_shape("out", &out, &shape)?;
    expect_broadcast(call, "C", &tensor, &shape)?;
    if out.is_empty() {
        return Ok(Work::nothing());
    }
    let addend = Addend {
        tensor,
        beta,
        alpha,
    };
    let product = Product {
        blocked: is_blocked(call, &y)?,
        x,
        y,
        precision,
        shape,
    };
    Ok(Work::new(move || {
        let (a, b) = (product.operand(&product.x), product.second());
        let a = if flip_x { a.t() } else { a.view() };
        let b = if flip_y { b.t() } else { b.view() };
        addend.combine(multiply(a, b)?, &out)
    }))
}

/// `out = self @ vec`.
fn mv(call: &Call) -> Result<Work, Refusal> {
    let (x, y) = (call.tensor(0)?, call.tensor(1)?);
    expect_rank(call, "self", &x, 2)?;
    expect_rank(call, "vec", &y, 1)?;
    plain(call, Product::new(call, x, y, 3)?, call.tensor(2)?)
}

fn common_dtype(call: &Call, tensors: &[&Tensor]) -> Result<DType, Refusal> {
    let mut dtypes = tensors.iter().map(|tensor| tensor.dtype());
    let first = dtypes.next().unwrap_or(DType::F32);
    dtypes
        .try_fold(first, promote)
        .ok_or_else(|| call.invalid("the dtypes of the operands do not promote"))
}

/// `out = beta * self + alpha * mat @ vec`; here `alpha` comes first, and integers are taken too.
fn addmv(call: &Call) -> Result<Work, Refusal> {
    let (tensor, x, y, out) = (
        call.tensor(0)?,
        call.tensor(1)?,
        call.tensor(2)?,
        call.tensor(5)?,
    );
    let (alpha, beta) = (call.scalar(3)?, call.scalar(4)?);
    expect_rank(call, "mat", &x, 2)?;
    expect_rank(call, "vec", &y, 1)?;
    let dtype = common_dtype(call, &[&tensor, &x, &y])?;
    let shape = product_shape(call, x.shape(), y.shape())?;
    call.expect_shape("out", &out, &shape)?;
    expect_broadcast(call, "self", &tensor, &shape)?;
    if out.is_empty() {
        return Ok(Work::nothing());
    }
    if dtype.class() == Class::Float32 {
        let addend = Addend {
            tensor,
            beta: beta.f32(),
            alpha: alpha.f32(),
        };
        let product = Product::new(call, x, y, 6)?;
        return Ok(Work::new(move || addend.combine(product.run()?, &out)));
    }
    let columns = y.count();
    by_class!(dtype, T => Ok(Work::new(move || {
        let (matrix, vector) = (x.load_vec::<T>(), y.load_vec::<T>());
        let addend = load_broadcast::<T>(&tensor, out.shape());
        let (alpha, beta): (T, T) = (alpha.get(), beta.get());
        let values: Vec<T> = addend
            .iter()
            .enumerate()
            .map(|(row, &a)| {
                let start = row * columns;
                let sum = inner(&matrix[start..start + columns], &vector);
                beta.times(a).plus(alpha.times(sum))
            })
            .collect();
        out.store_slice(&values)
    })), Err(call.unsupported(format!("no kernel for {dtype}"))))
}

fn inner<T: Arithmetic>(x: &[T], y: &[T]) -> T {
    x.iter()
        .zip(y)
        .fold(T::NOTHING, |sum, (&a, &b)| sum.plus(a.times(b)))
}

/// `out = self . tensor` of two vectors.
fn dot(call: &Call) -> Result<Work, Refusal> {
    let (x, y, out) = (call.tensor(0)?, call.tensor(1)?, call.tensor(2)?);
    expect_rank(call, "self", &x, 1)?;
    expect_rank(call, "tensor", &y, 1)?;
    call.expect_shape("tensor", &y, x.shape())?;
    call.expect_dtype("tensor", &y, &[x.dtype()])?;
    if out.count() != 1 {
        return Err(call.invalid(format!("out has shape {:?}, wanted []", out.shape())));
    }
    by_class!(x.dtype(), T => Ok(Work::new(move || {
        let sum = inner(&x.load_vec::<T>(), &y.load_vec::<T>());
        out.store_slice(&[sum])
    })), Err(call.unsupported(format!("no kernel for {}", x.dtype()))))
}

/// `out = beta * self + alpha * vec1 vec2ᵀ`; a null scalar is 1.
fn addr(call: &Call) -> Result<Work, Refusal> {
    let (tensor, x, y) = (call.tensor(0)?, call.tensor(1)?, call.tensor(2)?);
    let (beta, alpha) = (call.optional_scalar(3), call.optional_scalar(4));
    let out = if call.name() == "aclnnInplaceAddr" {
        tensor.clone()
    } else {
        call.tensor(5)?
    };
    expect_rank(call, "vec1", &x, 1)?;
    expect_rank(call, "vec2", &y, 1)?;
    let shape = [x.count(), y.count()];
    call.expect_shape("out", &out, &shape)?;
    expect_broadcast(call, "self", &tensor, &shape)?;
    if out.is_empty() {
        return Ok(Work::nothing());
    }
    let dtype = common_dtype(call, &[&tensor, &x, &y])?;
    by_class!(dtype, T => Ok(Work::new(move || {
        let factor = |scalar: Option<Scalar>| scalar.map_or(T::UNIT, |scalar| scalar.get::<T>());
        let (alpha, beta) = (factor(alpha), factor(beta));
        let (rows, columns) = (x.load_vec::<T>(), y.load_vec::<T>());
        let mut values = load_broadcast::<T>(&tensor, out.shape());
        for (row, &a) in rows.iter().enumerate() {
            for (column, &b) in columns.iter().enumerate() {
                let value = &mut values[row * columns.len() + column];
                let kept = if beta == T::NOTHING { T::NOTHING } else { beta.times(*value) };
                *value = kept.plus(alpha.times(a.times(b)));
            }
        }
        out.store_slice(&values)
    })), Err(call.unsupported(format!("no kernel for {dtype}"))))
}

/// The shape of a product: vectors lose their dim, leading dims broadcast.
fn product_shape(call: &Call, x: &[usize], y: &[usize]) -> Result<Vec<usize>, Refusal> {
    let refuse = || call.invalid(format!("shapes {x:?} and {y:?} cannot be multiplied"));
    let Some((&k, left)) = x.split_last() else {
        return Err(refuse());
    };
    let (right_k, columns, right_batch) = match y {
        [k] => (*k, None, &[][..]),
        [batch @ .., k, n] => (*k, Some(*n), batch),
        [] => return Err(refuse()),
    };
    if k != right_k {
        return Err(refuse());
    }
    let (rows, left_batch) = match left.split_last() {
        Some((&m, batch)) => (Some(m), batch),
        None => (None, &[][..]),
    };
    let mut shape = call.broadcast(&[left_batch, right_batch])?;
    shape.extend(rows);
    shape.extend(columns);
    Ok(shape)
}

/// The product in row-major order, batches broadcast.
pub(crate) fn multiply(x: ArrayViewD<f32>, y: ArrayViewD<f32>) -> Result<Vec<f32>, Fault> {
    let bad = || Fault::exception("operands of a matrix product do not fit");
    let x = if x.ndim() == 1 {
        x.insert_axis(Axis(0))
    } else {
        x
    };
    let y = if y.ndim() == 1 {
        y.insert_axis(Axis(1))
    } else {
        y
    };
    let (&[.., m, k], &[.., right_k, n]) = (x.shape(), y.shape()) else {
        return Err(bad());
    };
    let rank = x.ndim().max(y.ndim());
    let mut batch = vec![1usize; rank - 2];
    for shape in [x.shape(), y.shape()] {
        for (target, &dim) in batch.iter_mut().rev().zip(shape.iter().rev().skip(2)) {
            if dim != 1 {
                *target = dim;
            }
        }
    }
    let full = |rows: usize, columns: usize| {
        let mut shape = batch.clone();
        shape.extend([rows, columns]);
        IxDyn(&shape)
    };
    let x = x.broadcast(full(m, k)).ok_or_else(bad)?;
    let y = y.broadcast(full(right_k, n)).ok_or_else(bad)?;
    let mut product = Vec::with_capacity(batch.iter().product::<usize>() * m * n);
    for index in ndarray::indices(IxDyn(&batch)) {
        let (mut left, mut right) = (x.view(), y.view());
        for &position in index.as_array_view().iter() {
            left = left.index_axis_move(Axis(0), position);
            right = right.index_axis_move(Axis(0), position);
        }
        let left: ArrayView2<f32> = left.into_dimensionality::<Ix2>().map_err(|_| bad())?;
        let right: ArrayView2<f32> = right.into_dimensionality::<Ix2>().map_err(|_| bad())?;
        product.extend(left.dot(&right).iter());
    }
    Ok(product)
}

#[cfg(test)]
mod tests {
    use crate::kernel::Arg;
    use crate::kernels::testing::*;

    #[test]
    fn products_of_matrices() {
        let (x, y) = (
            floats(&[2, 2], &[1., 2., 3., 4.]),
            floats(&[2, 2], &[5., 6., 7., 8.]),
        );
        let out = floats(&[2, 2], &[0.; 4]);
        let call = [arg(&x), arg(&y), arg(&out), Arg::Int(0)];
        run("aclnnMm", &call).expect("a product");
        assert_close(&out, &[19., 22., 43., 50.], 0.0);
        let bias = floats(&[2], &[10., f32::NAN]);
        let call = [
            arg(&bias),
            arg(&x),
            arg(&y),
            scalar(0.0),
            scalar(2.0),
            arg(&out),
            Arg::Int(0),
        ];
        run("aclnnAddmm", &call).expect("beta 0 ignores self");
        assert_close(&out, &[38., 44., 86., 100.], 0.0);
        let refused = run("aclnnMm", &[arg(&x), arg(&bias), arg(&out), Arg::Int(0)]);
        assert_eq!(refused.expect_err("a vector is no matrix").code, 161002);
    }

    #[test]
    fn gemm_transposes_and_addmv_wraps() {
        let (a, b, c) = (
            floats(&[3, 1], &[1., 2., 3.]),
            floats(&[1, 3], &[4., 5., 6.]),
            floats(&[1, 1], &[7.]),
        );
        let out = floats(&[1, 1], &[0.]);
        let call = [
            arg(&a),
            arg(&b),
            arg(&c),
            Arg::Float(2.0),
            Arg::Float(3.0),
            Arg::Int(1),
            Arg::Int(1),
            arg(&out),
            Arg::Int(0),
        ];
        run("aclnnGemm", &call).expect("a product");
        assert_close(&out, &[2.0 * 32.0 + 21.0], 0.0);
        let (s, m, v) = (
            longs(&[1], &[1]),
            longs(&[1, 2], &[i64::MAX, 1]),
            longs(&[2], &[2, 5]),
        );
        let out = longs(&[1], &[0]);
        let call = [
            arg(&s),
            arg(&m),
            arg(&v),
            long_scalar(1),
            long_scalar(10),
            arg(&out),
            Arg::Int(0),
        ];
        run("aclnnAddmv", &call).expect("integers");
        assert_eq!(out.load_vec::<i64>(), [10 + 5 - 2]);
    }

    #[test]
    fn hf32_drops_bits() {
        let x = floats(&[1, 1], &[1.0 + f32::EPSILON]);
        let out = floats(&[1, 1], &[0.]);
        run("aclnnMm", &[arg(&x), arg(&x), arg(&out), Arg::Int(3)]).expect("a product");
        assert_close(&out, &[1.0], 0.0);
        run("aclnnMm", &[arg(&x), arg(&x), arg(&out), Arg::Int(1)]).expect("a product");
        assert_close(&out, &[1.0 + 2.0 * f64::from(f32::EPSILON)], 0.0);
    }
}
