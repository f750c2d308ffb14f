//! Single operators: run by type, with descriptions and buffers, at once or through a handle that is made before.
//!
//! Nothing is compiled: an operator that the emulator has runs with or without a model loaded for it.
//! Knows the C arrays of these calls; it must not know kernels (those are `single`'s).

use crate::exports::attribute::attributes;
use crate::exports::description::{self, operand};
use crate::failure::{Failure, code};
use crate::guard::{call, not_null};
use crate::registry::{Kind, Registry};
use crate::single::{self, Attributes, Operand, Request, Value};
use crate::tensor::Description;
use ascend_sys::*;
use std::ffi::{CStr, c_char, c_int, c_void};

/// An operator that is bound to descriptions; buffers come with each run.
struct Bound {
    op: String,
    inputs: Vec<*const aclTensorDesc>,
    outputs: Vec<*const aclTensorDesc>,
    attributes: Attributes,
}

// SAFETY: the pointers are handles, numbers that are looked up and never followed.
unsafe impl Send for Bound {}
// SAFETY: as above.
unsafe impl Sync for Bound {}

static HANDLES: Registry<Bound> = Registry::new(Kind::Operator, code::INVALID_PARAM);
/// The greatest number of inputs or outputs.
const MOST: u64 = 4096;

fn invalid(text: impl Into<String>) -> Failure {
    Failure::new(code::INVALID_PARAM, text.into())
}

/// # Safety
/// `values` must be null or valid for `count` reads.
unsafe fn list<T: Copy>(count: c_int, values: *const T, what: &str) -> Result<Vec<T>, Failure> {
    let count =
        u64::try_from(count).map_err(|_| invalid(format!("the number of {what} is {count}")))?;
    if count > 0 {
        not_null(values, what)?;
    }
    // SAFETY: not null where something is read, valid by this function's contract.
    unsafe { crate::meta::copied(values, count, MOST) }.map_err(|failure| invalid(failure.text))
}

/// # Safety
/// `op` must be null or end in a zero byte.
unsafe fn name(op: *const c_char) -> Result<String, Failure> {
    not_null(op, "opType")?;
    // SAFETY: not null, and ends in a zero byte by this function's contract.
    Ok(unsafe { CStr::from_ptr(op) }.to_string_lossy().into_owned())
}

fn operands(
    descriptions: &[*const aclTensorDesc],
    buffers: &[*const aclDataBuffer],
    what: &str,
) -> Result<Vec<Option<Operand>>, Failure> {
    if descriptions.len() != buffers.len() {
        return Err(invalid(format!(
            "{} descriptions and {} buffers of {what}",
            descriptions.len(),
            buffers.len()
        )));
    }
    let pairs = descriptions.iter().zip(buffers);
    pairs
        .map(|(&said, &buffer)| operand(said, buffer))
        .collect()
}

/// The C arrays of a call.
#[derive(Clone, Copy)]
struct Arrays {
    inputs: c_int,
    input_descriptions: *const *const aclTensorDesc,
    input_buffers: *const *const aclDataBuffer,
    outputs: c_int,
    output_descriptions: *const *const aclTensorDesc,
    output_buffers: *const *const aclDataBuffer,
}

/// # Safety
/// The arrays must be null or valid for as many reads as they say, `op` null or end in a zero byte.
unsafe fn execute(
    function: &'static str,
    op: *const c_char,
    arrays: Arrays,
    attr: *const aclopAttr,
    stream: aclrtStream,
) -> i32 {
    call(function, || {
        // SAFETY: valid by this function's contract.
        let op = unsafe { name(op) }?;
        single::expect_known(&op)?;
        // SAFETY: as above.
        let (inputs, input_buffers, outputs, output_buffers) = unsafe {
            (
                list(arrays.inputs, arrays.input_descriptions, "inputDesc")?,
                list(arrays.inputs, arrays.input_buffers, "inputs")?,
                list(arrays.outputs, arrays.output_descriptions, "outputDesc")?,
                list(arrays.outputs, arrays.output_buffers, "outputs")?,
            )
        };
        run(
            op,
            operands(&inputs, &input_buffers, "inputs")?,
            operands(&outputs, &output_buffers, "outputs")?,
            attributes(attr)?,
            stream,
        )
    })
}

fn run(
    op: String,
    inputs: Vec<Option<Operand>>,
    outputs: Vec<Option<Operand>>,
    attributes: Attributes,
    stream: aclrtStream,
) -> Result<(), Failure> {
    let outputs = outputs
        .into_iter()
        .enumerate()
        .map(|(index, output)| output.ok_or_else(|| invalid(format!("output {index} is null"))))
        .collect::<Result<_, _>>()?;
    let request = Request {
        op,
        inputs,
        outputs,
        attributes,
    };
    single::run(&request, stream)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclopCompile(
    opType: *const c_char,
    numInputs: c_int,
    inputDesc: *const *const aclTensorDesc,
    numOutputs: c_int,
    outputDesc: *const *const aclTensorDesc,
    attr: *const aclopAttr,
    _engineType: aclopEngineType,
    _compileFlag: aclopCompileType,
    _opPath: *const c_char,
) -> aclError {
    call("aclopCompile", || {
        // SAFETY: the caller keeps the contract of the C function.
        let op = unsafe {
            list(numInputs, inputDesc, "inputDesc")?;
            list(numOutputs, outputDesc, "outputDesc")?;
            name(opType)?
        };
        attributes(attr)?;
        single::expect_known(&op)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclopCompileAndExecute(
    opType: *const c_char,
    numInputs: c_int,
    inputDesc: *const *const aclTensorDesc,
    inputs: *const *const aclDataBuffer,
    numOutputs: c_int,
    outputDesc: *const *const aclTensorDesc,
    outputs: *const *mut aclDataBuffer,
    attr: *const aclopAttr,
    _engineType: aclopEngineType,
    _compileFlag: aclopCompileType,
    _opPath: *const c_char,
    stream: aclrtStream,
) -> aclError {
    let arrays = Arrays {
        inputs: numInputs,
        input_descriptions: inputDesc,
        input_buffers: inputs,
        outputs: numOutputs,
        output_descriptions: outputDesc,
        output_buffers: outputs.cast(),
    };
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { execute("aclopCompileAndExecute", opType, arrays, attr, stream) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclopCompileAndExecuteV2(
    opType: *const c_char,
    numInputs: c_int,
    inputDesc: *mut *mut aclTensorDesc,
    inputs: *mut *mut aclDataBuffer,
    numOutputs: c_int,
    outputDesc: *mut *mut aclTensorDesc,
    outputs: *mut *mut aclDataBuffer,
    attr: *mut aclopAttr,
    _engineType: aclopEngineType,
    _compileFlag: aclopCompileType,
    _opPath: *const c_char,
    stream: aclrtStream,
) -> aclError {
    let arrays = Arrays {
        inputs: numInputs,
        input_descriptions: inputDesc.cast_const().cast(),
        input_buffers: inputs.cast_const().cast(),
        outputs: numOutputs,
        output_descriptions: outputDesc.cast_const().cast(),
        output_buffers: outputs.cast_const().cast(),
    };
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { execute("aclopCompileAndExecuteV2", opType, arrays, attr, stream) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclopExecute(
    opType: *const c_char,
    numInputs: c_int,
    inputDesc: *const *const aclTensorDesc,
    inputs: *const *const aclDataBuffer,
    numOutputs: c_int,
    outputDesc: *const *const aclTensorDesc,
    outputs: *const *mut aclDataBuffer,
    attr: *const aclopAttr,
    stream: aclrtStream,
) -> aclError {
    let arrays = Arrays {
        inputs: numInputs,
        input_descriptions: inputDesc,
        input_buffers: inputs,
        outputs: numOutputs,
        output_descriptions: outputDesc,
        output_buffers: outputs.cast(),
    };
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { execute("aclopExecute", opType, arrays, attr, stream) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclopExecuteV2(
    opType: *const c_char,
    numInputs: c_int,
    inputDesc: *mut *mut aclTensorDesc,
    inputs: *mut *mut aclDataBuffer,
    numOutputs: c_int,
    outputDesc: *mut *mut aclTensorDesc,
    outputs: *mut *mut aclDataBuffer,
    attr: *mut aclopAttr,
    stream: aclrtStream,
) -> aclError {
    let arrays = Arrays {
        inputs: numInputs,
        input_descriptions: inputDesc.cast_const().cast(),
        input_buffers: inputs.cast_const().cast(),
        outputs: numOutputs,
        output_descriptions: outputDesc.cast_const().cast(),
        output_buffers: outputs.cast_const().cast(),
    };
    // SAFETY: the caller keeps the contract of the C function.
    unsafe { execute("aclopExecuteV2", opType, arrays, attr, stream) }
}

/// A folder of compiled operators: none is needed here, but it has to be there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclopSetModelDir(modelDir: *const c_char) -> aclError {
    call("aclopSetModelDir", || {
        // SAFETY: the caller keeps the contract of the C function.
        let path = unsafe { name(modelDir) }?;
        if std::path::Path::new(&path).is_dir() {
            return Ok(());
        }
        Err(invalid(format!("modelDir {path} is no folder")))
    })
}

/// A compiled operator in memory: none is needed here.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclopLoad(model: *const c_void, modelSize: usize) -> aclError {
    call("aclopLoad", || {
        not_null(model, "model")?;
        match modelSize {
            0 => Err(invalid("modelSize is 0")),
            _ => Ok(()),
        }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclopSetMaxOpQueueNum(maxOpNum: u64) -> aclError {
    call("aclopSetMaxOpQueueNum", || match maxOpNum {
        0 => Err(invalid("maxOpNum is 0")),
        _ => Ok(()),
    })
}

fn create(bound: Bound, handle: *mut *mut aclopHandle) -> Result<(), Failure> {
    for &said in bound.inputs.iter().chain(&bound.outputs) {
        description::describe(said)?;
    }
    let made = HANDLES.insert(bound).cast();
    // SAFETY: null or valid for a write by the contract of the C functions.
    unsafe { crate::guard::give(handle, "handle", made) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclopCreateHandle(
    opType: *const c_char,
    numInputs: c_int,
    inputDesc: *const *const aclTensorDesc,
    numOutputs: c_int,
    outputDesc: *const *const aclTensorDesc,
    opAttr: *const aclopAttr,
    handle: *mut *mut aclopHandle,
) -> aclError {
    call("aclopCreateHandle", || {
        not_null(handle, "handle")?;
        // SAFETY: the caller keeps the contract of the C function.
        let (op, inputs, outputs) = unsafe {
            (
                name(opType)?,
                list(numInputs, inputDesc, "inputDesc")?,
                list(numOutputs, outputDesc, "outputDesc")?,
            )
        };
        single::expect_known(&op)?;
        let bound = Bound {
            op,
            inputs,
            outputs,
            attributes: attributes(opAttr)?,
        };
        create(bound, handle)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclopDestroyHandle(handle: *mut aclopHandle) {
    call("aclopDestroyHandle", || {
        if handle.is_null() {
            return Ok(());
        }
        HANDLES.remove(handle).map(drop)
    });
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclopExecWithHandle(
    handle: *mut aclopHandle,
    numInputs: c_int,
    inputs: *const *const aclDataBuffer,
    numOutputs: c_int,
    outputs: *const *mut aclDataBuffer,
    stream: aclrtStream,
) -> aclError {
    call("aclopExecWithHandle", || {
        let bound = HANDLES.get(handle)?;
        // SAFETY: the caller keeps the contract of the C function.
        let (inputs, outputs) = unsafe {
            (
                list(numInputs, inputs, "inputs")?,
                list(numOutputs, outputs.cast(), "outputs")?,
            )
        };
        run(
            bound.op.clone(),
            operands(&bound.inputs, &inputs, "inputs")?,
            operands(&bound.outputs, &outputs, "outputs")?,
            bound.attributes.clone(),
            stream,
        )
    })
}

fn cast_attributes(target: &Description, truncate: u8) -> Result<Attributes, Failure> {
    if truncate > 1 {
        return Err(invalid(format!("truncate is {truncate}, wanted 0 or 1")));
    }
    Ok(Attributes::from([
        (String::from("dst_type"), Value::DType(target.dtype)),
        (String::from("truncate"), Value::Bool(truncate == 1)),
    ]))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclopCast(
    srcDesc: *const aclTensorDesc,
    srcBuffer: *const aclDataBuffer,
    dstDesc: *const aclTensorDesc,
    dstBuffer: *mut aclDataBuffer,
    truncate: u8,
    stream: aclrtStream,
) -> aclError {
    call("aclopCast", || {
        let attributes = cast_attributes(&description::describe(dstDesc)?, truncate)?;
        run(
            String::from("Cast"),
            operands(&[srcDesc], &[srcBuffer], "inputs")?,
            operands(&[dstDesc], &[dstBuffer.cast_const()], "outputs")?,
            attributes,
            stream,
        )
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclopCreateHandleForCast(
    srcDesc: *mut aclTensorDesc,
    dstDesc: *mut aclTensorDesc,
    truncate: u8,
    handle: *mut *mut aclopHandle,
) -> aclError {
    call("aclopCreateHandleForCast", || {
        not_null(handle, "handle")?;
        let attributes = cast_attributes(&description::describe(dstDesc)?, truncate)?;
        let bound = Bound {
            op: String::from("Cast"),
            inputs: vec![srcDesc],
            outputs: vec![dstDesc],
            attributes,
        };
        create(bound, handle)
    })
}
