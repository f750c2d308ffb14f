//! Elementwise work: operands that are tensors or scalars, the dtype they compute in, broadcasting, and one rounding at the end.
//!
//! Knows numbers, promotion and the kernel interface; it must not know single ops.

use crate::dtype::DType;
use crate::failure::{Fault, Refusal};
use crate::kernel::{Arg, Call, Scalar, Work};
use crate::number::{Complex, Number};
use crate::promote::{castable, promote, promote_scalar, to_float};
use crate::tensor::Tensor;
use half::{bf16, f16};
use ndarray::{Array, ArrayD, ArrayView, ArrayViewD, CowArray, IxDyn, Zip};

/// A number that can take a detour through a narrower stored type, as a tensor of that dtype would hold it.
pub(crate) trait Through: Number {
    /// The value as `dtype` holds it.
    fn through(self, dtype: DType) -> Self;
}

impl Through for f64 {
    fn through(self, dtype: DType) -> f64 {
        match dtype {
            DType::F32 | DType::C64 => f64::from(self as f32),
            DType::F16 | DType::C32 => f16::from_f64(self).to_f64(),
            DType::Bf16 => bf16::from_f64(self).to_f64(),
            _ => self,
        }
    }
}

impl Through for f32 {
    fn through(self, dtype: DType) -> f32 {
        match dtype {
            DType::F16 | DType::C32 => f16::from_f32(self).to_f32(),
            DType::Bf16 => bf16::from_f32(self).to_f32(),
            _ => self,
        }
    }
}

impl Through for i64 {
    fn through(self, dtype: DType) -> i64 {
        match dtype {
            DType::I8 => i64::from(self as i8),
            DType::I16 => i64::from(self as i16),
            DType::I32 => i64::from(self as i32),
            DType::U8 => i64::from(self as u8),
            DType::U16 => i64::from(self as u16),
            DType::U32 => i64::from(self as u32),
            _ => self,
        }
    }
}

impl Through for bool {
    fn through(self, _dtype: DType) -> bool {
        self
    }
}

impl Through for Complex {
    fn through(self, dtype: DType) -> Complex {
        Complex::new(self.re.through(dtype), self.im.through(dtype))
    }
}

/// A tensor or a scalar that takes part in an elementwise op.
#[derive(Debug, Clone)]
pub(crate) enum Operand {
    /// A tensor.
    Tensor(Tensor),
    /// A scalar, which broadcasts to everything.
    Scalar(Scalar),
}

impl Operand {
    /// Parameter `index`, whichever of the two it is.
    pub fn of(call: &Call, index: usize) -> Result<Operand, Refusal> {
        match call.arg(index) {
            Some(Arg::Scalar(_)) => call.scalar(index).map(Operand::Scalar),
            _ => call.tensor(index).map(Operand::Tensor),
        }
    }

    /// The dtype.
    pub fn dtype(&self) -> DType {
        match self {
            Operand::Tensor(tensor) => tensor.dtype(),
            Operand::Scalar(scalar) => scalar.dtype(),
        }
    }

    /// The shape; a scalar has none.
    pub fn shape(&self) -> &[usize] {
        match self {
            Operand::Tensor(tensor) => tensor.shape(),
            Operand::Scalar(_) => &[],
        }
    }

    /// The values, converted to `dtype` first.
    pub fn fetch<T: Through>(&self, dtype: DType) -> CowArray<'_, T, IxDyn> {
        match self {
            Operand::Tensor(tensor) => fetch(tensor, dtype),
            Operand::Scalar(scalar) => {
                let value = scalar.get::<T>().through(dtype);
                CowArray::from(Array::from_elem(IxDyn(&[]), value))
            }
        }
    }
}

/// The values of a tensor converted to `dtype`: rounded once where that type is narrower than the computing one.
pub(crate) fn fetch<T: Through>(tensor: &Tensor, dtype: DType) -> CowArray<'_, T, IxDyn> {
    let values = tensor.read::<T>();
    if holds(dtype, tensor.dtype()) {
        return values;
    }
    CowArray::from(values.mapv(|value| value.through(dtype)))
}

/// Whether `wide` holds each value of `narrow`, so that no rounding is needed.
fn holds(wide: DType, narrow: DType) -> bool {
    wide == narrow
        || matches!(wide, DType::F64 | DType::C128 | DType::I64 | DType::Bool)
        || narrow == DType::Bool
        || (wide == DType::F32 && narrow.bits() <= 16)
}

/// Stores results computed in `dtype`: rounded to it first if the output has another type.
pub(crate) fn keep<T: Through>(
    out: &Tensor,
    dtype: DType,
    values: ArrayViewD<T>,
) -> Result<(), Fault> {
    if out.dtype() == dtype {
        return out.store(&values);
    }
    out.store(&values.mapv(|value| value.through(dtype)))
}

/// The output: `selfRef` of an in-place op, else parameter `index`.
pub(crate) fn output(call: &Call, index: usize) -> Result<Tensor, Refusal> {
    if call.name().starts_with("aclnnInplace") {
        return call.tensor(0);
    }
    call.tensor(index)
}

/// The dtype in which two operands compute.
pub(crate) fn common(call: &Call, x: &Operand, y: &Operand) -> Result<DType, Refusal> {
    let dtype = match (x, y) {
        (Operand::Tensor(_), Operand::Scalar(_)) => promote_scalar(x.dtype(), y.dtype()),
        (Operand::Scalar(_), Operand::Tensor(_)) => promote_scalar(y.dtype(), x.dtype()),
        _ => promote(x.dtype(), y.dtype()),
    };
    dtype.ok_or_else(|| call.invalid(format!("{} and {} do not promote", x.dtype(), y.dtype())))
}

/// As [`common`], for results that are floats whatever the operands are.
pub(crate) fn common_float(call: &Call, x: &Operand, y: &Operand) -> Result<DType, Refusal> {
    common(call, x, y).map(to_float)
}

/// The dtype in which several tensors compute.
pub(crate) fn common_of(call: &Call, tensors: &[&Tensor]) -> Result<DType, Refusal> {
    let mut dtypes = tensors.iter().map(|tensor| tensor.dtype());
    let first = dtypes
        .next()
        .ok_or_else(|| call.invalid("no tensors given"))?;
    dtypes.try_fold(first, |all, dtype| {
        promote(all, dtype).ok_or_else(|| call.invalid(format!("{all} and {dtype} do not promote")))
    })
}

/// Refuses an output to which a result of `dtype` cannot be cast.
pub(crate) fn expect_castable(call: &Call, dtype: DType, out: &Tensor) -> Result<(), Refusal> {
    if castable(dtype, out.dtype()) {
        return Ok(());
    }
    Err(call.invalid(format!(
        "out is {}, to which a result of {dtype} cannot be cast",
        out.dtype()
    )))
}

/// Refuses an output of another shape than the operands broadcast to.
pub(crate) fn expect_common_shape(
    call: &Call,
    shapes: &[&[usize]],
    out: &Tensor,
) -> Result<(), Refusal> {
    let shape = call.broadcast(shapes)?;
    call.expect_shape("out", out, &shape)
}

/// A refusal of a dtype that the emulated kernel does not compute.
pub(crate) fn no_kernel(call: &Call, dtype: DType) -> Refusal {
    call.unsupported(format!("no emulated kernel computes in {dtype}"))
}

/// The values broadcast to a shape, as a view.
pub(crate) fn spread<'a, T>(
    values: &'a CowArray<'_, T, IxDyn>,
    shape: &[usize],
) -> Result<ArrayView<'a, T, IxDyn>, Fault> {
    values.broadcast(IxDyn(shape)).ok_or_else(|| {
        Fault::exception(format!(
            "shape {:?} does not broadcast to {shape:?}",
            values.shape()
        ))
    })
}

/// `f(x)` for each element of a tensor, in `dtype`, into `out`.
pub(crate) fn apply<T: Through, R: Through>(
    x: &Tensor,
    dtype: DType,
    out: &Tensor,
    result: DType,
    f: &dyn Fn(T) -> R,
) -> Result<(), Fault> {
    let values = fetch::<T>(x, dtype).map(|&a| f(a));
    keep(out, result, values.view())
}

/// Phase 2 of `f(x)` computed in `dtype`. The formula is called through a pointer, so that there is one loop for all.
pub(crate) fn map<T: Through>(
    x: Tensor,
    dtype: DType,
    out: Tensor,
    f: impl Fn(T) -> T + Send + 'static,
) -> Work {
    map_boxed(x, dtype, out, Box::new(f))
}

fn map_boxed<T: Through>(
    x: Tensor,
    dtype: DType,
    out: Tensor,
    f: Box<dyn Fn(T) -> T + Send>,
) -> Work {
    Work::new(move || apply(&x, dtype, &out, dtype, &*f))
}

/// A formula of two numbers.
type OfTwo<T, R> = Box<dyn Fn(T, T) -> R + Send>;

/// A formula of three numbers.
type OfThree<T> = Box<dyn Fn(T, T, T) -> T + Send>;

/// Phase 2 of `f(x, y)` with operands of `dtype` and results of `result`, broadcast to the shape of `out`.
pub(crate) fn combine<T: Through, R: Through>(
    x: Operand,
    y: Operand,
    dtype: DType,
    out: Tensor,
    result: DType,
    f: impl Fn(T, T) -> R + Send + 'static,
) -> Work {
    combine_boxed(x, y, dtype, out, result, Box::new(f))
}

fn combine_boxed<T: Through, R: Through>(
    x: Operand,
    y: Operand,
    dtype: DType,
    out: Tensor,
    result: DType,
    f: OfTwo<T, R>,
) -> Work {
    combine_inlined(x, y, dtype, out, result, f)
}

/// As [`combine`], with a loop of its own for this formula: for the few that large tensors go through all the time.
pub(crate) fn combine_inlined<T: Through, R: Through>(
    x: Operand,
    y: Operand,
    dtype: DType,
    out: Tensor,
    result: DType,
    f: impl Fn(T, T) -> R + Send + 'static,
) -> Work {
    Work::new(move || {
        let (a, b) = (x.fetch::<T>(dtype), y.fetch::<T>(dtype));
        let (a, b) = (spread(&a, out.shape())?, spread(&b, out.shape())?);
        let values = Zip::from(&a).and(&b).map_collect(|&a, &b| f(a, b));
        keep(&out, result, values.view())
    })
}

/// Phase 2 of `f(x, y, z)` in `dtype`, broadcast to the shape of `out`.
pub(crate) fn combine_three<T: Through>(
    operands: [Operand; 3],
    dtype: DType,
    out: Tensor,
    f: impl Fn(T, T, T) -> T + Send + 'static,
) -> Work {
    combine_three_boxed(operands, dtype, out, Box::new(f))
}

fn combine_three_boxed<T: Through>(
    operands: [Operand; 3],
    dtype: DType,
    out: Tensor,
    f: OfThree<T>,
) -> Work {
    Work::new(move || {
        let [x, y, z] = &operands;
        let (a, b, c) = (x.fetch::<T>(dtype), y.fetch(dtype), z.fetch(dtype));
        let shape = out.shape();
        let (a, b, c) = (spread(&a, shape)?, spread(&b, shape)?, spread(&c, shape)?);
        let values = Zip::from(&a)
            .and(&b)
            .and(&c)
            .map_collect(|&a, &b, &c| f(a, b, c));
        keep(&out, dtype, values.view())
    })
}

/// A tensor's values broadcast to a shape as an array of their own.
pub(crate) fn load_spread<T: Through>(
    tensor: &Tensor,
    dtype: DType,
    shape: &[usize],
) -> Result<ArrayD<T>, Fault> {
    let values = fetch::<T>(tensor, dtype);
    Ok(spread(&values, shape)?.to_owned())
}
