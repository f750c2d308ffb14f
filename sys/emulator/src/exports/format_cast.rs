//! The shape and format that a tensor has after `aclnnNpuFormatCast`.
//!
//! Knows FRACTAL_NZ's rule only; it must not know how elements move.

use crate::dtype::DType;
use crate::failure::Failure;
use crate::guard::call;
use crate::kernel::Family;
use crate::meta;
use crate::state::world;
use ascend_sys::*;
use std::ffi::c_int;

const NULL: i32 = 161_001;
/// What the documents give for conversions that a chip does not have.
const REFUSED: i32 = 361_001;

/// The shape and format after a cast.
fn target(source: *const aclTensor, format: i32, dtype: i32) -> Result<(Vec<i64>, i32), Failure> {
    let said = meta::TENSORS.get(source)?.describe();
    let family = world()?.family;
    let known =
        |code: i32| matches!(code, 0..=4 | 8 | 27) || (code == 36 && family == Family::A950);
    let dtype = if dtype == -1 { said.dtype } else { dtype };
    if !known(said.dtype) || !known(dtype) {
        return Err(Failure::invalid(format!(
            "srcTensor has data type {}, additionalDtype is {dtype}, wanted int8, uint8, int32, uint32, float, float16 or bfloat16",
            said.dtype
        )));
    }
    let [lead @ .., rows, columns] = said.shape.as_slice() else {
        return Err(Failure::invalid(format!(
            "srcTensor has shape {:?}, wanted 2 to 6 dims",
            said.shape
        )));
    };
    if said.shape.len() > 6 || said.shape.iter().any(|&dim| dim <= 0) {
        let text = format!("srcTensor has shape {:?}, wanted 2 to 6 dims", said.shape);
        return Err(Failure::invalid(text));
    }
    let bits = DType::from_code(dtype).map_or(8, DType::bits).max(8);
    let wide = (256 / bits) as i64;
    let plain = |format: i32| matches!(format, -1 | 0 | 2 | 30 | 47);
    match (said.format, format) {
        (from, 29) if plain(from) && family_has(family) => {
            let up = |dim: i64, block: i64| (dim + block - 1) / block;
            let mut shape = lead.to_vec();
            shape.extend([up(*columns, wide), up(*rows, 16), 16, wide]);
            let natural = DType::from_code(said.dtype).map_or(8, DType::bits);
            let named = family == Family::A950 && natural > bits;
            let actual = match wide {
                16 if named => 50,
                32 if named => 51,
                _ => 29,
            };
            Ok((shape, actual))
        }
        (29 | 50 | 51, to) if plain(to) && family_has(family) => Ok((said.shape.clone(), to)),
        (from, to) if from == to && plain(to) => Ok((said.shape.clone(), to)),
        (from, to) => Err(Failure::new(
            REFUSED,
            format!("the emulator has no conversion from format {from} to {to} on this chip"),
        )),
    }
}

fn family_has(family: Family) -> bool {
    matches!(family, Family::A2 | Family::A3 | Family::A950)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclnnNpuFormatCastCalculateSizeAndFormat(
    srcTensor: *const aclTensor,
    dstFormat: c_int,
    additionalDtype: c_int,
    dstShape: *mut *mut i64,
    dstShapeSize: *mut u64,
    actualFormat: *mut c_int,
) -> aclnnStatus {
    call("aclnnNpuFormatCastCalculateSizeAndFormat", || {
        let outputs = [
            dstShape.is_null(),
            dstShapeSize.is_null(),
            actualFormat.is_null(),
        ];
        if srcTensor.is_null() || outputs.contains(&true) {
            return Err(Failure::new(NULL, "srcTensor or an output is null"));
        }
        let (shape, format) = target(srcTensor, dstFormat, additionalDtype)?;
        // SAFETY: asks for memory. The caller ends it with C++'s `delete[]`, which frees what `malloc` gave.
        let list = unsafe { libc::malloc(size_of_val(shape.as_slice())) }.cast::<i64>();
        if list.is_null() {
            return Err(Failure::new(REFUSED, "the host has no memory"));
        }
        // SAFETY: the list has as many entries; the outputs are not null, valid for writes.
        unsafe {
            std::ptr::copy_nonoverlapping(shape.as_ptr(), list, shape.len());
            dstShape.write(list);
            dstShapeSize.write(shape.len() as u64);
            actualFormat.write(format);
        }
        Ok(())
    })
}
