//! Many copies in one call.
//!
//! Knows arrays of copies; what one copy may do is `copy`'s to say.

use super::copy::{copy_async, copy_now};
use crate::failure::{Failure, code};
use crate::guard::{call, not_null};
use ascend_sys::*;
use std::ffi::c_void;

/// The arrays of a call; entry `i` of each belongs to copy `i`.
struct Batch {
    targets: *mut *mut c_void,
    rooms: *mut usize,
    sources: *mut *mut c_void,
    sizes: *mut usize,
    count: usize,
}

impl Batch {
    fn new(
        targets: *mut *mut c_void,
        rooms: *mut usize,
        sources: *mut *mut c_void,
        sizes: *mut usize,
        count: usize,
    ) -> Batch {
        Batch {
            targets,
            rooms,
            sources,
            sizes,
            count,
        }
    }

    /// Runs the copies one by one; the number of the one that fails is told.
    ///
    /// # Safety
    /// The arrays are null or hold `count` entries; `failed` is null or valid for a write.
    unsafe fn run(
        &self,
        attributes: *const aclrtMemcpyBatchAttr,
        kinds: usize,
        failed: *mut usize,
        mut one: impl FnMut(*mut c_void, usize, *mut c_void, usize) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        not_null(self.targets, "dsts")?;
        not_null(self.rooms, "destMaxs")?;
        not_null(self.sources, "srcs")?;
        not_null(self.sizes, "sizes")?;
        not_null(attributes, "attrs")?;
        if self.count == 0 || kinds == 0 || kinds > self.count {
            return Err(Failure::new(
                code::RT_PARAM_INVALID,
                format!("{} copies with {kinds} attributes", self.count),
            ));
        }
        for index in 0..self.count {
            // SAFETY: not null, with `count` entries by this function's contract.
            let (target, room, source, size) = unsafe {
                (
                    self.targets.add(index).read(),
                    self.rooms.add(index).read(),
                    self.sources.add(index).read(),
                    self.sizes.add(index).read(),
                )
            };
            let done = match size {
                0 => Err(Failure::new(
                    code::RT_PARAM_INVALID,
                    format!("copy {index} has no bytes"),
                )),
                size => one(target, room, source, size),
            };
            if let Err(failure) = done {
                if !failed.is_null() {
                    // SAFETY: not null, valid for a write by this function's contract.
                    unsafe { failed.write(index) };
                }
                return Err(failure);
            }
        }
        Ok(())
    }
}

/// All copies of one C call, at once or on a stream.
///
/// # Safety
/// As [`Batch::run`].
unsafe fn copies(
    name: &'static str,
    batch: Batch,
    attributes: *const aclrtMemcpyBatchAttr,
    kinds: usize,
    failed: *mut usize,
    stream: Option<aclrtStream>,
) -> aclError {
    // SAFETY: this function's contract is that of `run`.
    call(name, || unsafe {
        batch.run(
            attributes,
            kinds,
            failed,
            |dst, room, src, size| match stream {
                Some(stream) => copy_async(dst, room, src, size, ACL_MEMCPY_DEFAULT, stream),
                None => copy_now(dst, room, src, size),
            },
        )
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtMemcpyBatch(
    dsts: *mut *mut c_void,
    destMaxs: *mut usize,
    srcs: *mut *mut c_void,
    sizes: *mut usize,
    numBatches: usize,
    attrs: *mut aclrtMemcpyBatchAttr,
    _attrsIndexes: *mut usize,
    numAttrs: usize,
    failIndex: *mut usize,
) -> aclError {
    let batch = Batch::new(dsts, destMaxs, srcs, sizes, numBatches);
    // SAFETY: the arrays are null or as long as `numBatches` by the contract of the C function.
    unsafe { copies("aclrtMemcpyBatch", batch, attrs, numAttrs, failIndex, None) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtMemcpyBatchAsync(
    dsts: *mut *mut c_void,
    destMaxs: *mut usize,
    srcs: *mut *mut c_void,
    sizes: *mut usize,
    numBatches: usize,
    attrs: *mut aclrtMemcpyBatchAttr,
    _attrsIndexes: *mut usize,
    numAttrs: usize,
    failIndex: *mut usize,
    stream: aclrtStream,
) -> aclError {
    let batch = Batch::new(dsts, destMaxs, srcs, sizes, numBatches);
    // SAFETY: the arrays are null or as long as `numBatches` by the contract of the C function.
    unsafe {
        copies(
            "aclrtMemcpyBatchAsync",
            batch,
            attrs,
            numAttrs,
            failIndex,
            Some(stream),
        )
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtMemcpyBatchV2(
    dsts: *mut *mut c_void,
    destMaxs: *mut usize,
    srcs: *mut *mut c_void,
    sizes: *mut usize,
    numBatches: usize,
    attrs: *mut aclrtMemcpyBatchAttr,
    _attrsIndexes: *mut usize,
    numAttrs: usize,
) -> aclError {
    let batch = Batch::new(dsts, destMaxs, srcs, sizes, numBatches);
    // SAFETY: the arrays are null or as long as `numBatches` by the contract of the C function.
    unsafe {
        copies(
            "aclrtMemcpyBatchV2",
            batch,
            attrs,
            numAttrs,
            std::ptr::null_mut(),
            None,
        )
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtMemcpyBatchAsyncV2(
    dsts: *mut *mut c_void,
    destMaxs: *mut usize,
    srcs: *mut *mut c_void,
    sizes: *mut usize,
    numBatches: usize,
    attrs: *mut aclrtMemcpyBatchAttr,
    _attrsIndexes: *mut usize,
    numAttrs: usize,
    stream: aclrtStream,
) -> aclError {
    let batch = Batch::new(dsts, destMaxs, srcs, sizes, numBatches);
    // SAFETY: the arrays are null or as long as `numBatches` by the contract of the C function.
    unsafe {
        copies(
            "aclrtMemcpyBatchAsyncV2",
            batch,
            attrs,
            numAttrs,
            std::ptr::null_mut(),
            Some(stream),
        )
    }
}
