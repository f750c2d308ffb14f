//! Small tasks on memory: filling with words, and adding one range to another.
//!
//! Knows sizes, dtypes and what each chip has; the arithmetic is that of HCCL's reductions.

use super::stream::resolve;
use crate::failure::{Failure, code};
use crate::guard::{call, not_null, violation};
use crate::hccl::kind::{Dtype, Reduction};
use crate::kernel::Family;
use crate::memory::{self, Block, Place};
use crate::state::{context, world};
use crate::stream::Task;
use ascend_sys::*;
use std::ffi::c_void;
use std::ptr;
use std::sync::Arc;

fn wrong(text: String) -> Failure {
    Failure::new(code::RT_PARAM_INVALID, text)
}

/// Some bytes of a block.
struct Range {
    block: Arc<Block>,
    data: usize,
    bytes: usize,
}

impl Range {
    fn find(pointer: *const c_void, bytes: usize, what: &str) -> Result<Range, Failure> {
        not_null(pointer, what)?;
        let start = pointer.addr();
        let block = memory::find(start, bytes).map_err(|missing| {
            let text = format!("{what}: {bytes} bytes from {start:#x}: {missing:?}");
            violation(code::RT_PARAM_INVALID, text)
        })?;
        Ok(Range {
            data: start - block.start + block.data,
            block,
            bytes,
        })
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.bytes];
        // SAFETY: the block has as many bytes from `data`; the buffer too.
        unsafe {
            memory::copy(
                bytes.as_mut_ptr().expose_provenance(),
                self.data,
                self.bytes,
            )
        };
        bytes
    }

    fn store(&self, bytes: &[u8]) {
        let from = bytes.as_ptr().expose_provenance();
        // SAFETY: as above.
        unsafe { memory::copy(self.data, from, bytes.len().min(self.bytes)) };
    }

    fn fill(&self, word: u32) {
        let start = ptr::with_exposed_provenance_mut::<u32>(self.data);
        for at in 0..self.bytes / 4 {
            // SAFETY: as above; `write_unaligned` asks no alignment.
            unsafe { start.add(at).write_unaligned(word) };
        }
    }
}

/// The range that is filled; `None` for no words.
fn words(pointer: *mut c_void, room: usize, count: usize) -> Result<Option<Range>, Failure> {
    let bytes = count.checked_mul(4).filter(|&bytes| bytes <= room);
    let bytes = bytes.ok_or_else(|| {
        wrong(format!(
            "{count} words of 4 bytes, but the memory takes {room} bytes"
        ))
    })?;
    if !matches!(world()?.family, Family::A2 | Family::A3 | Family::A950) {
        return Err(Failure::new(
            code::RT_FEATURE_NOT_SUPPORT,
            "this chip has no fill by words",
        ));
    }
    not_null(pointer, "ptr")?;
    if bytes == 0 {
        return Ok(None);
    }
    Range::find(pointer, bytes, "ptr").map(Some)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtMemsetD32(
    ptr: *mut c_void,
    memSize: usize,
    value: u32,
    N: usize,
) -> aclError {
    call("aclrtMemsetD32", || {
        context()?;
        if let Some(range) = words(ptr, memSize, N)? {
            range.fill(value);
        }
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtMemsetD32Async(
    ptr: *mut c_void,
    memSize: usize,
    value: u32,
    N: usize,
    stream: aclrtStream,
) -> aclError {
    call("aclrtMemsetD32Async", || {
        let stream = resolve(&*context()?, stream)?;
        let Some(range) = words(ptr, memSize, N)? else {
            return Ok(());
        };
        if range.block.place == Place::Pinned {
            range.fill(value);
            return Ok(());
        }
        let blocks = [Arc::clone(&range.block)];
        let run = move || {
            range.fill(value);
            Ok(())
        };
        stream.submit(Task::new(run).holding(&blocks))
    })
}

/// HCCL's number of a dtype that can be added so.
fn dtype_of(number: aclDataType, family: Family) -> Result<Dtype, Failure> {
    let known = match number {
        ACL_FLOAT => Some(4),
        ACL_FLOAT16 => Some(3),
        ACL_BF16 => Some(11),
        ACL_INT8 => Some(0),
        ACL_INT16 => Some(1),
        ACL_INT32 => Some(2),
        _ => None,
    };
    let known = known.filter(|&own| family != Family::A910 || own == 4);
    let refused = || {
        let text = format!("type {number} has no reduction on this chip");
        Failure::new(code::RT_FEATURE_NOT_SUPPORT, text)
    };
    Dtype::read(known.ok_or_else(refused)?, family).map_err(|_| refused())
}

/// `dst = reduce(dst, src)` of `count` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtReduceAsync(
    dst: *mut c_void,
    src: *const c_void,
    count: u64,
    kind: aclrtReduceKind,
    type_: aclDataType,
    stream: aclrtStream,
    _reserve: *mut c_void,
) -> aclError {
    call("aclrtReduceAsync", || {
        let context = context()?;
        let stream = resolve(&context, stream)?;
        let family = world()?.family;
        let reduction = match kind {
            ACL_RT_MEMCPY_SDMA_AUTOMATIC_SUM => Reduction::Sum,
            ACL_RT_MEMCPY_SDMA_AUTOMATIC_MAX => Reduction::Max,
            ACL_RT_MEMCPY_SDMA_AUTOMATIC_MIN => Reduction::Min,
            other => {
                return Err(wrong(format!("kind is {other}, wanted 10, 11 or 12")));
            }
        };
        let sums_only = matches!(family, Family::A910 | Family::P310 | Family::B310);
        if sums_only && reduction != Reduction::Sum {
            return Err(Failure::new(
                code::RT_FEATURE_NOT_SUPPORT,
                "this chip has sums only",
            ));
        }
        let dtype = dtype_of(type_, family)?;
        let bytes = usize::try_from(count).unwrap_or(usize::MAX);
        if bytes == 0 || !bytes.is_multiple_of(dtype.size()) {
            let text = format!("count is {count} bytes of {}", dtype.name());
            return Err(wrong(text));
        }
        let (to, from) = (
            Range::find(dst, bytes, "dst")?,
            Range::find(src, bytes, "src")?,
        );
        for range in [&to, &from] {
            if range.block.place != Place::Device(context.device.id) {
                let text = format!(
                    "{:?} memory, wanted that of the stream's device",
                    range.block.place
                );
                return Err(violation(code::RT_PARAM_INVALID, text));
            }
        }
        if to.data.abs_diff(from.data) < bytes && to.data != from.data {
            return Err(violation(
                code::RT_PARAM_INVALID,
                "dst and src overlap in part",
            ));
        }
        let blocks = [Arc::clone(&to.block), Arc::clone(&from.block)];
        let run = move || {
            let mut sums = to.bytes();
            dtype.reduce(reduction, &mut sums, &from.bytes());
            to.store(&sums);
            Ok(())
        };
        stream.submit(Task::new(run).holding(&blocks))
    })
}

/// Memory that host and device both use is a feature of Ascend 950, which is not emulated.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtMemAllocManaged(
    ptr: *mut *mut c_void,
    _size: u64,
    _flag: u32,
) -> aclError {
    call("aclrtMemAllocManaged", || {
        not_null(ptr, "ptr")?;
        Err(Failure::new(
            code::RT_FEATURE_NOT_SUPPORT,
            "the emulated chip has no managed memory",
        ))
    })
}
