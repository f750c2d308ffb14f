//! Matrix products of the older interface: `C = alpha A B + beta C` and `y = alpha A x + beta y` over packed matrices.
//!
//! Knows which operand has which shape; it must not know how a product is computed (that is the single operator GEMM).

use crate::dtype::DType;
use crate::failure::{Failure, code};
use crate::guard::{call, not_null};
use crate::meta;
use crate::single::{self, Attributes, Operand, Request, Value};
use ascend_sys::*;
use std::ffi::{c_int, c_void};

const F16: aclDataType = DType::F16 as aclDataType;
const I8: aclDataType = DType::I8 as aclDataType;
const I32: aclDataType = DType::I32 as aclDataType;

fn invalid(text: String) -> Failure {
    Failure::new(code::INVALID_PARAM, text)
}

/// Sizes, transpositions and types of a product.
struct Product {
    sizes: [c_int; 3],
    turns: [aclTransType; 3],
    leading: [c_int; 3],
    dtypes: [aclDataType; 3],
}

fn operand(
    shape: Vec<i64>,
    dtype: aclDataType,
    address: *const c_void,
) -> Result<Option<Operand>, Failure> {
    not_null(address, "an operand")?;
    Ok(Some(Operand {
        description: meta::describe(shape.clone(), dtype, None, 0, 2, shape),
        address: address.expose_provenance(),
        // The call says no size of its own: whether so many bytes are there is checked with the device's memory.
        size: usize::MAX,
        constant: None,
    }))
}

fn turned(turn: aclTransType, name: &str) -> Result<bool, Failure> {
    match turn {
        0 => Ok(false),
        1 => Ok(true),
        2 | 3 => Err(Failure::new(
            code::API_NOT_SUPPORT,
            format!("{name} is {turn}: the emulator takes no private formats here"),
        )),
        _ => Err(invalid(format!("{name} is {turn}, wanted 0 to 3"))),
    }
}

/// Operand addresses in the order A, B, C, alpha, beta.
fn run(
    product: &Product,
    addresses: [*const c_void; 5],
    compute: aclComputeType,
    stream: aclrtStream,
) -> Result<(), Failure> {
    let [m, n, k] = product.sizes.map(i64::from);
    if m <= 0 || n <= 0 || k <= 0 {
        return Err(invalid(format!(
            "m, n, k are {m}, {n}, {k}, wanted positive numbers"
        )));
    }
    if compute > 1 {
        return Err(invalid(format!(
            "the type of computation is {compute}, wanted 0 or 1"
        )));
    }
    // Row by row without gaps: the documents reserve the leading dims, -1 being their only value.
    if product.leading.iter().any(|&leading| leading != -1) {
        return Err(invalid(format!(
            "leading dims are {:?}, wanted -1",
            product.leading
        )));
    }
    let [turn_a, turn_b, turn_c] = product.turns;
    let (turn_a, turn_b) = (turned(turn_a, "transA")?, turned(turn_b, "transB")?);
    if turned(turn_c, "transC")? {
        return Err(invalid(String::from("transC is 1, wanted 0")));
    }
    let [a, b, c] = product.dtypes;
    let shape_a = if turn_a { vec![k, m] } else { vec![m, k] };
    let shape_b = if turn_b { vec![n, k] } else { vec![k, n] };
    let result = operand(vec![m, n], c, addresses[2])?;
    let request = Request {
        op: String::from("GEMM"),
        inputs: vec![
            operand(shape_a, a, addresses[0])?,
            operand(shape_b, b, addresses[1])?,
            result.clone(),
            operand(vec![1], c, addresses[3])?,
            operand(vec![1], c, addresses[4])?,
        ],
        outputs: result.into_iter().collect(),
        attributes: Attributes::from([
            (String::from("transpose_a"), Value::Bool(turn_a)),
            (String::from("transpose_b"), Value::Bool(turn_b)),
        ]),
    };
    single::run(&request, stream)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclblasGemmEx(
    transA: aclTransType,
    transB: aclTransType,
    transC: aclTransType,
    m: c_int,
    n: c_int,
    k: c_int,
    alpha: *const c_void,
    matrixA: *const c_void,
    lda: c_int,
    dataTypeA: aclDataType,
    matrixB: *const c_void,
    ldb: c_int,
    dataTypeB: aclDataType,
    beta: *const c_void,
    matrixC: *mut c_void,
    ldc: c_int,
    dataTypeC: aclDataType,
    type_: aclComputeType,
    stream: aclrtStream,
) -> aclError {
    let product = Product {
        sizes: [m, n, k],
        turns: [transA, transB, transC],
        leading: [lda, ldb, ldc],
        dtypes: [dataTypeA, dataTypeB, dataTypeC],
    };
    call("aclblasGemmEx", || {
        run(
            &product,
            [matrixA, matrixB, matrixC, alpha, beta],
            type_,
            stream,
        )
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclblasHgemm(
    transA: aclTransType,
    transB: aclTransType,
    transC: aclTransType,
    m: c_int,
    n: c_int,
    k: c_int,
    alpha: *const aclFloat16,
    matrixA: *const aclFloat16,
    lda: c_int,
    matrixB: *const aclFloat16,
    ldb: c_int,
    beta: *const aclFloat16,
    matrixC: *mut aclFloat16,
    ldc: c_int,
    type_: aclComputeType,
    stream: aclrtStream,
) -> aclError {
    let product = Product {
        sizes: [m, n, k],
        turns: [transA, transB, transC],
        leading: [lda, ldb, ldc],
        dtypes: [F16; 3],
    };
    let addresses = [matrixA, matrixB, matrixC.cast_const(), alpha, beta].map(|at| at.cast());
    call("aclblasHgemm", || run(&product, addresses, type_, stream))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclblasS8gemm(
    transA: aclTransType,
    transB: aclTransType,
    transC: aclTransType,
    m: c_int,
    n: c_int,
    k: c_int,
    alpha: *const i32,
    matrixA: *const i8,
    lda: c_int,
    matrixB: *const i8,
    ldb: c_int,
    beta: *const i32,
    matrixC: *mut i32,
    ldc: c_int,
    type_: aclComputeType,
    stream: aclrtStream,
) -> aclError {
    let product = Product {
        sizes: [m, n, k],
        turns: [transA, transB, transC],
        leading: [lda, ldb, ldc],
        dtypes: [I8, I8, I32],
    };
    let addresses = [
        matrixA.cast(),
        matrixB.cast(),
        matrixC.cast_const().cast(),
        alpha.cast(),
        beta.cast(),
    ];
    call("aclblasS8gemm", || run(&product, addresses, type_, stream))
}

/// A vector is a matrix of one column; steps between its elements are reserved too.
fn vector(
    turn: aclTransType,
    m: c_int,
    n: c_int,
    steps: [c_int; 3],
    dtypes: [aclDataType; 3],
) -> Product {
    // The matrix is m by n as it stands in memory; what is multiplied has n or m columns.
    let (rows, shared) = if turn == 1 { (n, m) } else { (m, n) };
    Product {
        sizes: [rows, 1, shared],
        turns: [turn, 0, 0],
        leading: steps,
        dtypes,
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclblasGemvEx(
    transA: aclTransType,
    m: c_int,
    n: c_int,
    alpha: *const c_void,
    a: *const c_void,
    lda: c_int,
    dataTypeA: aclDataType,
    x: *const c_void,
    incx: c_int,
    dataTypeX: aclDataType,
    beta: *const c_void,
    y: *mut c_void,
    incy: c_int,
    dataTypeY: aclDataType,
    type_: aclComputeType,
    stream: aclrtStream,
) -> aclError {
    let dtypes = [dataTypeA, dataTypeX, dataTypeY];
    let product = vector(transA, m, n, [lda, incx, incy], dtypes);
    call("aclblasGemvEx", || {
        run(&product, [a, x, y, alpha, beta], type_, stream)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclblasHgemv(
    transA: aclTransType,
    m: c_int,
    n: c_int,
    alpha: *const aclFloat16,
    a: *const aclFloat16,
    lda: c_int,
    x: *const aclFloat16,
    incx: c_int,
    beta: *const aclFloat16,
    y: *mut aclFloat16,
    incy: c_int,
    type_: aclComputeType,
    stream: aclrtStream,
) -> aclError {
    let product = vector(transA, m, n, [lda, incx, incy], [F16; 3]);
    let addresses = [a, x, y.cast_const(), alpha, beta].map(|at| at.cast());
    call("aclblasHgemv", || run(&product, addresses, type_, stream))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclblasS8gemv(
    transA: aclTransType,
    m: c_int,
    n: c_int,
    alpha: *const i32,
    a: *const i8,
    lda: c_int,
    x: *const i8,
    incx: c_int,
    beta: *const i32,
    y: *mut i32,
    incy: c_int,
    type_: aclComputeType,
    stream: aclrtStream,
) -> aclError {
    let product = vector(transA, m, n, [lda, incx, incy], [I8, I8, I32]);
    let addresses = [
        a.cast(),
        x.cast(),
        y.cast_const().cast(),
        alpha.cast(),
        beta.cast(),
    ];
    call("aclblasS8gemv", || run(&product, addresses, type_, stream))
}
