//! Copies and fills, synchronous and on streams.
//!
//! Knows directions and bounds; it must not know how queues or blocks work.

use super::stream::resolve;
use crate::failure::{Failure, code};
use crate::guard::{call, not_null, violation};
use crate::memory::{self, Access, Block, Missing, Place};
use crate::state::context;
use crate::stream::{Stream, Task};
use ascend_sys::*;
use std::ffi::c_void;
use std::ptr;
use std::sync::Arc;

/// One side of a copy: where the bytes lie on the host, and the block that owns them, if one is known.
pub(super) struct Side {
    data: usize,
    pub(super) block: Option<Arc<Block>>,
}

impl Side {
    fn find(pointer: *const c_void, count: usize, what: &str) -> Result<Side, Failure> {
        let address = pointer.expose_provenance();
        match memory::find(address, count) {
            Ok(block) => Ok(Side {
                data: address - block.start + block.data,
                block: Some(block),
            }),
            Err(Missing::Host) => Ok(Side {
                data: address,
                block: None,
            }),
            Err(Missing::Stale(text)) => Err(violation(
                code::RT_INVALID_HANDLE,
                format!("{what}: freed memory: {text}"),
            )),
            Err(Missing::Overrun(text)) => {
                Err(violation(code::RT_PARAM_INVALID, format!("{what}: {text}")))
            }
        }
    }

    pub(super) fn device(&self) -> Option<u32> {
        match self.block.as_ref()?.place {
            Place::Device(id) => Some(id),
            _ => None,
        }
    }

    /// Host memory that is not there would end the process.
    fn probe(&self, count: usize, access: Access, what: &str) -> Result<(), Failure> {
        if self.block.is_some() {
            return Ok(());
        }
        if let Some(base) = super::virtual_memory::reservation(self.data) {
            return Err(violation(
                code::RT_PARAM_INVALID,
                format!(
                    "{what}: nothing is mapped at {:#x} of the addresses reserved from {base:#x}",
                    self.data
                ),
            ));
        }
        if memory::is_accessible(self.data, count, access) {
            return Ok(());
        }
        Err(violation(
            code::RT_PARAM_INVALID,
            format!(
                "{what}: {count} bytes from {:#x} are neither memory of the runtime nor memory that the process may {access}",
                self.data
            ),
        ))
    }

    /// Ordinary host memory that nobody pinned.
    fn is_pageable(&self) -> bool {
        self.block.is_none()
    }
}

/// A checked copy.
struct Copy {
    target: Side,
    source: Side,
    count: usize,
}

impl Copy {
    fn check(
        dst: *mut c_void,
        room: usize,
        src: *const c_void,
        count: usize,
        kind: u32,
    ) -> Result<Option<Copy>, Failure> {
        if kind > 5 {
            let code = if kind <= 7 {
                code::INVALID_PARAM
            } else {
                code::RT_PARAM_INVALID
            };
            return Err(Failure::new(
                code,
                format!("copy kind is {kind}, wanted 0 to 5"),
            ));
        }
        if count == 0 {
            return Ok(None);
        }
        not_null(dst, "dst")?;
        not_null(src, "src")?;
        if count > room {
            return Err(Failure::new(
                code::RT_PARAM_INVALID,
                format!("count is {count}, but the destination takes {room} bytes"),
            ));
        }
        if ptr::eq(dst.cast_const(), src) {
            return Ok(None);
        }
        let (low, high) = (dst.addr().min(src.addr()), dst.addr().max(src.addr()));
        if high - low < count {
            return Err(violation(
                code::RT_PARAM_INVALID,
                format!(
                    "{count} bytes from {:#x} overlap their destination {:#x}",
                    src.addr(),
                    dst.addr()
                ),
            ));
        }
        let copy = Copy {
            target: Side::find(dst, count, "dst")?,
            source: Side::find(src, count, "src")?,
            count,
        };
        copy.source.probe(count, Access::Read, "src")?;
        copy.target.probe(count, Access::Write, "dst")?;
        copy.check_peers()?;
        Ok(Some(copy))
    }

    /// Copies between devices need peer access in one direction or the other.
    fn check_peers(&self) -> Result<(), Failure> {
        let (Some(to), Some(from)) = (self.target.device(), self.source.device()) else {
            return Ok(());
        };
        if to == from {
            return Ok(());
        }
        let world = crate::state::world()?;
        let allowed = |own: u32, peer: u32| -> Result<bool, Failure> {
            let device = world.device(i64::from(own))?;
            let peers = device
                .peers
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            Ok(peers.contains(&(peer as i32)))
        };
        if allowed(to, from)? || allowed(from, to)? || world.family == crate::kernel::Family::A3 {
            return Ok(());
        }
        Err(Failure::new(
            code::RT_PARAM_INVALID,
            format!("a copy from device {from} to device {to} needs aclrtDeviceEnablePeerAccess"),
        ))
    }

    fn blocks(&self) -> Vec<Arc<Block>> {
        [&self.target, &self.source]
            .into_iter()
            .filter_map(|side| side.block.clone())
            .collect()
    }

    fn run(&self) {
        // SAFETY: block sides were found to hold `count` bytes; host sides are valid by the contract of the C function.
        unsafe { memory::copy(self.target.data, self.source.data, self.count) };
    }
}

/// Sync copies and fills are unsafe calls in a capture unless the mode is relaxed.
fn refuse_in_capture(stream_device: &crate::state::Device) -> Result<(), Failure> {
    refuse_unsafe(stream_device, code::RT_CAPTURE_MODE_NOT_SUPPORT)
}

fn refuse_unsafe(stream_device: &crate::state::Device, refused: i32) -> Result<(), Failure> {
    for stream in stream_device.streams() {
        if let Some(capture) = stream.capture() {
            let own = capture.thread == std::thread::current().id();
            let mode = super::graph::effective_mode(&capture);
            if mode == 0 || (mode == 1 && own) {
                capture.break_off("a synchronous copy or fill");
                return Err(Failure::new(
                    refused,
                    "a synchronous copy or fill while a stream captures",
                ));
            }
        }
    }
    Ok(())
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtMemcpy(
    dst: *mut c_void,
    destMax: usize,
    src: *const c_void,
    count: usize,
    kind: aclrtMemcpyKind,
) -> aclError {
    call("aclrtMemcpy", || copy_sync(dst, destMax, src, count, kind))
}

fn copy_sync(
    dst: *mut c_void,
    room: usize,
    src: *const c_void,
    count: usize,
    kind: aclrtMemcpyKind,
) -> Result<(), Failure> {
    let context = context()?;
    refuse_in_capture(&context.device)?;
    if let Some(copy) = Copy::check(dst, room, src, count, kind)? {
        copy.run();
    }
    Ok(())
}

/// A synchronous copy whose direction the addresses tell.
pub(super) fn copy_now(
    dst: *mut c_void,
    room: usize,
    src: *const c_void,
    count: usize,
) -> Result<(), Failure> {
    copy_sync(dst, room, src, count, ACL_MEMCPY_DEFAULT)
}

fn submit_copy(stream: &Arc<Stream>, copy: Copy) -> Result<(), Failure> {
    let blocks = copy.blocks();
    stream.submit(
        Task::new(move || {
            copy.run();
            Ok(())
        })
        .holding(&blocks),
    )
}

pub(super) fn copy_async(
    dst: *mut c_void,
    room: usize,
    src: *const c_void,
    count: usize,
    kind: u32,
    stream: aclrtStream,
) -> Result<(), Failure> {
    let context = context()?;
    let stream = resolve(&context, stream)?;
    if kind == 0 {
        return Err(Failure::new(
            code::RT_FEATURE_NOT_SUPPORT,
            "an asynchronous copy cannot go from host to host",
        ));
    }
    let Some(mut copy) = Copy::check(dst, room, src, count, kind)? else {
        return Ok(());
    };
    if kind == 5 && copy.source.device().is_none() {
        let mut buffer = vec![0u8; copy.count].into_boxed_slice();
        // SAFETY: the source is valid for `count` bytes by the contract of the C function; the buffer has as many.
        unsafe {
            memory::copy(
                buffer.as_mut_ptr().expose_provenance(),
                copy.source.data,
                copy.count,
            )
        };
        copy.source = Side {
            data: buffer.as_ptr().expose_provenance(),
            block: None,
        };
        let blocks = copy.blocks();
        let run = move || {
            let _keep = &buffer;
            copy.run();
            Ok(())
        };
        return stream.submit(Task::new(run).holding(&blocks));
    }
    if copy.target.is_pageable() || copy.source.is_pageable() {
        if let Some(capture) = stream.capture() {
            capture.break_off("a copy with pageable host memory");
            return Err(Failure::new(
                code::RT_PARAM_INVALID,
                "a copy with pageable host memory cannot be captured, wanted memory of aclrtMallocHost",
            ));
        }
        refuse_unsafe(&context.device, code::RT_CAPTURE_MODE_BLOCK_ASYNC)?;
        stream.synchronize(None)?;
        copy.run();
        return Ok(());
    }
    submit_copy(&stream, copy)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtMemcpyAsync(
    dst: *mut c_void,
    destMax: usize,
    src: *const c_void,
    count: usize,
    kind: aclrtMemcpyKind,
    stream: aclrtStream,
) -> aclError {
    call("aclrtMemcpyAsync", || {
        copy_async(dst, destMax, src, count, kind, stream)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtMemcpyAsyncWithCondition(
    dst: *mut c_void,
    destMax: usize,
    src: *const c_void,
    count: usize,
    kind: aclrtMemcpyKind,
    stream: aclrtStream,
) -> aclError {
    call("aclrtMemcpyAsyncWithCondition", || {
        copy_async(dst, destMax, src, count, kind, stream)
    })
}

/// A checked plane of rows.
struct Plane {
    rows: Vec<Copy>,
}

impl Plane {
    fn check(
        dst: (*mut c_void, usize),
        src: (*const c_void, usize),
        width: usize,
        height: usize,
        kind: u32,
    ) -> Result<Plane, Failure> {
        if !(1..=3).contains(&kind) {
            return Err(Failure::new(
                code::RT_PARAM_INVALID,
                format!("copy kind is {kind}, wanted 1, 2 or 3"),
            ));
        }
        if width > dst.1 || width > src.1 || height == 0 || width == 0 {
            return Err(Failure::new(
                code::RT_PARAM_INVALID,
                format!(
                    "{height} rows of {width} bytes with pitches {} and {}",
                    dst.1, src.1
                ),
            ));
        }
        not_null(dst.0, "dst")?;
        not_null(src.0, "src")?;
        let extent = |pitch: usize| {
            let extent = pitch
                .checked_mul(height - 1)
                .and_then(|rows| rows.checked_add(width));
            extent
                .filter(|&extent| extent <= isize::MAX as usize)
                .ok_or_else(|| {
                    Failure::new(
                        code::RT_PARAM_INVALID,
                        format!("{height} rows with pitch {pitch} are more than memory can hold"),
                    )
                })
        };
        let target = Side::find(dst.0, extent(dst.1)?, "dst")?;
        let source = Side::find(src.0, extent(src.1)?, "src")?;
        if target.is_pageable() && source.is_pageable() {
            return Err(violation(
                code::RT_PARAM_INVALID,
                "neither dst nor src is memory of the runtime",
            ));
        }
        let rows = (0..height)
            .map(|row| {
                let target = dst.0.wrapping_byte_add(row.wrapping_mul(dst.1));
                let source = src.0.wrapping_byte_add(row.wrapping_mul(src.1));
                Copy::check(target, width, source, width, kind)
            })
            .filter_map(Result::transpose)
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Plane { rows })
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtMemcpy2d(
    dst: *mut c_void,
    dpitch: usize,
    src: *const c_void,
    spitch: usize,
    width: usize,
    height: usize,
    kind: aclrtMemcpyKind,
) -> aclError {
    call("aclrtMemcpy2d", || {
        let context = context()?;
        refuse_in_capture(&context.device)?;
        if kind == 3 {
            return Err(Failure::new(
                code::RT_PARAM_INVALID,
                "a synchronous copy of rows goes between host and device, not from device to device",
            ));
        }
        for row in Plane::check((dst, dpitch), (src, spitch), width, height, kind)?.rows {
            row.run();
        }
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtMemcpy2dAsync(
    dst: *mut c_void,
    dpitch: usize,
    src: *const c_void,
    spitch: usize,
    width: usize,
    height: usize,
    kind: aclrtMemcpyKind,
    stream: aclrtStream,
) -> aclError {
    call("aclrtMemcpy2dAsync", || {
        let context = context()?;
        let stream = resolve(&context, stream)?;
        let plane = Plane::check((dst, dpitch), (src, spitch), width, height, kind)?;
        let pageable = |row: &Copy| row.target.is_pageable() || row.source.is_pageable();
        if plane.rows.iter().any(pageable) {
            super::stream::refuse_captured(&stream)?;
            refuse_unsafe(&context.device, code::RT_CAPTURE_MODE_BLOCK_ASYNC)?;
            stream.synchronize(None)?;
            plane.rows.iter().for_each(Copy::run);
            return Ok(());
        }
        plane
            .rows
            .into_iter()
            .try_for_each(|row| submit_copy(&stream, row))
    })
}

/// A checked fill.
pub(super) fn fill(
    pointer: *mut c_void,
    room: usize,
    count: usize,
) -> Result<Option<Side>, Failure> {
    not_null(pointer, "devPtr")?;
    if count > room {
        return Err(Failure::new(
            code::RT_PARAM_INVALID,
            format!("count is {count}, but the memory takes {room} bytes"),
        ));
    }
    if count == 0 {
        return Ok(None);
    }
    let side = Side::find(pointer, count, "devPtr")?;
    if side.is_pageable() {
        return Err(violation(
            code::RT_PARAM_INVALID,
            format!("{:#x} is no memory of the runtime", pointer.addr()),
        ));
    }
    Ok(Some(side))
}

pub(super) fn set_bytes(side: &Side, value: i32, count: usize) {
    // SAFETY: the side was found to hold `count` bytes.
    unsafe {
        ptr::write_bytes(
            ptr::with_exposed_provenance_mut::<u8>(side.data),
            value as u8,
            count,
        )
    };
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtMemset(
    devPtr: *mut c_void,
    maxCount: usize,
    value: i32,
    count: usize,
) -> aclError {
    call("aclrtMemset", || {
        let context = context()?;
        refuse_in_capture(&context.device)?;
        if let Some(side) = fill(devPtr, maxCount, count)? {
            set_bytes(&side, value, count);
        }
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtMemsetAsync(
    devPtr: *mut c_void,
    maxCount: usize,
    value: i32,
    count: usize,
    stream: aclrtStream,
) -> aclError {
    call("aclrtMemsetAsync", || {
        let stream = resolve(&*context()?, stream)?;
        let Some(side) = fill(devPtr, maxCount, count)? else {
            return Ok(());
        };
        let blocks: Vec<_> = side.block.iter().cloned().collect();
        let run = move || {
            set_bytes(&side, value, count);
            Ok(())
        };
        stream.submit(Task::new(run).holding(&blocks))
    })
}
