//! Dtype promotion: which type two operands compute in, and which results fit which outputs.
//!
//! Knows dtypes only; it must not know tensors, ops or kernels.

use crate::dtype::{Class, DType};

/// The common dtype of two tensors; `None` where they do not promote (u16, u32 and u64 only with themselves).
pub fn promote(a: DType, b: DType) -> Option<DType> {
    use DType as D;
    if a == b {
        return Some(a);
    }
    let unsigned = |dtype| matches!(dtype, D::U16 | D::U32 | D::U64);
    if unsigned(a) || unsigned(b) {
        return None;
    }
    match (a.class(), b.class()) {
        (Class::Other, _) | (_, Class::Other) => None,
        (Class::Complex, _) | (_, Class::Complex) => Some(match width(a).max(width(b)) {
            8 => D::C128,
            4 => D::C64,
            _ => D::C32,
        }),
        (Class::Boolean, _) => Some(b),
        (_, Class::Boolean) => Some(a),
        (Class::Integer, Class::Integer) => Some(integers(a, b)),
        (Class::Integer, _) => Some(b),
        (_, Class::Integer) => Some(a),
        (Class::Float64, _) | (_, Class::Float64) => Some(D::F64),
        _ => Some(D::F32),
    }
}

/// Bytes of one real component of a float or complex type; 0 for the others.
fn width(dtype: DType) -> usize {
    match dtype {
        DType::F64 | DType::C128 => 8,
        DType::F32 | DType::C64 | DType::Bf16 => 4,
        DType::F16 | DType::C32 => 2,
        _ => 0,
    }
}

fn integers(a: DType, b: DType) -> DType {
    use DType as D;
    match (a, b) {
        (D::U8, D::I8) | (D::I8, D::U8) => D::I16,
        (D::I4, other) | (other, D::I4) => other,
        _ if a.bits() >= b.bits() => a,
        _ => b,
    }
}

/// The dtype in which a tensor and a scalar compute (A2, A3, 910A, 310P): a float tensor keeps its dtype, an integer tensor keeps
/// it with integer scalars, everything else is the promoted pair.
pub fn promote_scalar(tensor: DType, scalar: DType) -> Option<DType> {
    match (tensor.class(), scalar.class()) {
        (Class::Complex, _) | (_, Class::Complex) => promote(tensor, scalar),
        (Class::Float32 | Class::Float64, _) => Some(tensor),
        (Class::Integer, Class::Integer | Class::Boolean) => Some(tensor),
        _ => promote(tensor, scalar),
    }
}

/// Whether a result of type `from` may be written into an output of type `to`: nothing but bool goes to bool, no complex to real.
pub fn castable(from: DType, to: DType) -> bool {
    match (from.class(), to.class()) {
        _ if from == to => true,
        (Class::Other, _) | (_, Class::Other) | (_, Class::Boolean) => false,
        (Class::Complex, to) => to == Class::Complex,
        _ => true,
    }
}

/// The float type in which a unary float function of this type computes and answers: f32 for integers and bool.
pub fn to_float(dtype: DType) -> DType {
    match dtype.class() {
        Class::Integer | Class::Boolean => DType::F32,
        _ => dtype,
    }
}
