//! Names, versions, capabilities and small conversions.
//!
//! Knows the chip table; it must not know streams or memory.

use crate::dtype::DType;
use crate::failure::{Failure, code};
use crate::guard::{call, give, not_null, value};
use crate::kernel::Family;
use crate::state::{context, world};
use ascend_sys::*;
use half::f16;
use std::ffi::{CString, c_char};
use std::ptr;
use std::sync::{Mutex, PoisonError};

/// The version that the emulator says it is.
const VERSION: (i32, i32, i32) = (8, 1, 0);
const VERSION_TEXT: &str = "8.1.0";

/// Writes a text with its closing zero byte; refused where it does not fit.
///
/// # Safety
/// `target` must be valid for `room` writes.
pub(crate) unsafe fn give_text(
    target: *mut c_char,
    room: usize,
    text: &str,
) -> Result<(), Failure> {
    if text.len() + 1 > room {
        return Err(Failure::new(
            code::INVALID_PARAM,
            format!("the buffer has {room} bytes, wanted {}", text.len() + 1),
        ));
    }
    // SAFETY: the text and its zero byte fit into `room`.
    unsafe {
        ptr::copy_nonoverlapping(text.as_ptr(), target.cast::<u8>(), text.len());
        target.add(text.len()).write(0);
    }
    Ok(())
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtGetSocName() -> *const c_char {
    static NAMES: Mutex<Vec<CString>> = Mutex::new(Vec::new());
    value("aclrtGetSocName", ptr::null(), || {
        let soc = world()?.settings.soc.replace('\0', "");
        let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = names.iter().find(|name| name.to_bytes() == soc.as_bytes()) {
            return Ok(known.as_ptr());
        }
        let name = CString::new(soc).unwrap_or_default();
        let pointer = name.as_ptr();
        names.push(name);
        Ok(pointer)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtGetVersion(
    major: *mut i32,
    minor: *mut i32,
    patch: *mut i32,
) -> aclError {
    call("aclrtGetVersion", || {
        // SAFETY: null or valid for a write.
        unsafe { give(major, "majorVersion", VERSION.0) }?;
        // SAFETY: null or valid for a write.
        unsafe { give(minor, "minorVersion", VERSION.1) }?;
        // SAFETY: null or valid for a write.
        unsafe { give(patch, "patchVersion", VERSION.2) }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclsysGetCANNVersion(
    name: aclCANNPackageName,
    version: *mut aclCANNPackageVersion,
) -> aclError {
    call("aclsysGetCANNVersion", || {
        not_null(version, "version")?;
        if !(0..=16).contains(&i64::from(name)) {
            return Err(Failure::new(
                code::INVALID_PARAM,
                format!("package {name} is unknown"),
            ));
        }
        // SAFETY: not null, valid for a write; all fields are character arrays, for which zero bytes are valid.
        unsafe {
            version.write_bytes(0, 1);
            give_text((&raw mut (*version).version).cast(), 128, VERSION_TEXT)?;
            give_text((&raw mut (*version).majorVersion).cast(), 64, "8")?;
            give_text((&raw mut (*version).minorVersion).cast(), 64, "1")?;
            give_text((&raw mut (*version).releaseVersion).cast(), 64, "0")?;
            give_text((&raw mut (*version).patchVersion).cast(), 64, "0")
        }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclsysGetVersionStr(
    pkgName: *mut c_char,
    versionStr: *mut c_char,
) -> aclError {
    call("aclsysGetVersionStr", || {
        not_null(pkgName, "pkgName")?;
        not_null(versionStr, "versionStr")?;
        // SAFETY: the C function promises room for any version text.
        unsafe { give_text(versionStr, 128, VERSION_TEXT) }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclsysGetVersionNum(
    pkgName: *mut c_char,
    versionNum: *mut i32,
) -> aclError {
    call("aclsysGetVersionNum", || {
        not_null(pkgName, "pkgName")?;
        // SAFETY: null or valid for a write.
        unsafe { give(versionNum, "versionNum", 80_100_000) }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtGetRunMode(runMode: *mut aclrtRunMode) -> aclError {
    // SAFETY: null or valid for a write.
    call("aclrtGetRunMode", || unsafe { give(runMode, "runMode", 1) })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtSetTsDevice(_tsId: aclrtTsId) -> aclError {
    call("aclrtSetTsDevice", || Ok(()))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclDataTypeSize(dataType: aclDataType) -> usize {
    value("aclDataTypeSize", 0, || {
        Ok(DType::from_code(dataType).map_or(0, |dtype| dtype.bits() / 8))
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclFloat16ToFloat(value: aclFloat16) -> f32 {
    crate::guard::value("aclFloat16ToFloat", 0.0, || {
        Ok(f16::from_bits(value).to_f32())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclFloatToFloat16(value: f32) -> aclFloat16 {
    crate::guard::value(
        "aclFloatToFloat16",
        0,
        || Ok(f16::from_f32(value).to_bits()),
    )
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclGetCannAttributeList(
    cannAttrList: *mut *const aclCannAttr,
    num: *mut usize,
) -> aclError {
    static ATTRIBUTES: [aclCannAttr; 3] = [0, 1, 2];
    call("aclGetCannAttributeList", || {
        // SAFETY: null or valid for a write.
        unsafe { give(cannAttrList, "cannAttrList", ATTRIBUTES.as_ptr()) }?;
        // SAFETY: null or valid for a write.
        unsafe { give(num, "num", ATTRIBUTES.len()) }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclGetCannAttribute(cannAttr: aclCannAttr, value: *mut i32) -> aclError {
    call("aclGetCannAttribute", || {
        let modern = matches!(world()?.family, Family::A2 | Family::A3 | Family::A950);
        let answer = match cannAttr {
            0 | 1 => i32::from(modern),
            2 => 1,
            _ => {
                return Err(Failure::new(
                    code::INVALID_PARAM,
                    format!("attribute {cannAttr} is unknown"),
                ));
            }
        };
        // SAFETY: null or valid for a write.
        unsafe { give(value, "value", answer) }
    })
}

/// Cube cores, vector cores and bytes of level-two cache.
fn cores(family: Family) -> (i64, i64, i64) {
    match family {
        Family::A2 => (20, 40, 192 << 20),
        Family::A3 => (24, 48, 192 << 20),
        Family::A950 => (32, 64, 128 << 20),
        Family::P310 => (8, 7, 16 << 20),
        Family::A910 => (32, 32, 32 << 20),
        Family::B310 => (1, 1, 4 << 20),
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclGetDeviceCapability(
    deviceId: u32,
    deviceInfo: aclDeviceInfo,
    value: *mut i64,
) -> aclError {
    call("aclGetDeviceCapability", || {
        let world = world()?;
        world.device(i64::from(deviceId))?;
        let (cube, vector, cache) = cores(world.family);
        let answer = match deviceInfo {
            0 => cube,
            1 => vector,
            2 => cache,
            _ => {
                return Err(Failure::new(
                    code::INVALID_PARAM,
                    format!("device info {deviceInfo} is unknown"),
                ));
            }
        };
        // SAFETY: null or valid for a write.
        unsafe { give(value, "value", answer) }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtGetDeviceInfo(
    deviceId: u32,
    attr: aclrtDevAttr,
    value: *mut i64,
) -> aclError {
    call("aclrtGetDeviceInfo", || {
        let world = world()?;
        world.device(i64::from(deviceId))?;
        let (cube, vector, cache) = cores(world.family);
        let answer = match attr {
            1 => 6,
            101 | 102 => cube,
            201 => vector,
            301 => i64::try_from(world.capacity()).unwrap_or(i64::MAX),
            302 => cache,
            _ => {
                return Err(Failure::new(
                    code::RT_FEATURE_NOT_SUPPORT,
                    format!("the emulator does not know device attribute {attr}"),
                ));
            }
        };
        // SAFETY: null or valid for a write.
        unsafe { give(value, "value", answer) }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtGetDeviceUtilizationRate(
    deviceId: i32,
    utilizationInfo: *mut aclrtUtilizationInfo,
) -> aclError {
    call("aclrtGetDeviceUtilizationRate", || {
        world()?.device(i64::from(deviceId))?;
        not_null(utilizationInfo, "utilizationInfo")?;
        // SAFETY: not null, valid for a write; the fields are numbers and a pointer, for which zero bytes are valid.
        unsafe { utilizationInfo.write_bytes(0, 1) };
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtDeviceGetBareTgid(pid: *mut i32) -> aclError {
    // SAFETY: null or valid for a write.
    call("aclrtDeviceGetBareTgid", || unsafe {
        give(pid, "pid", std::process::id() as i32)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtSetOpExecuteTimeOut(_timeout: u32) -> aclError {
    call("aclrtSetOpExecuteTimeOut", || context().map(drop))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtSetOpExecuteTimeOutWithMs(_timeout: u32) -> aclError {
    call("aclrtSetOpExecuteTimeOutWithMs", || context().map(drop))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtSetOpExecuteTimeOutV2(
    timeout: u64,
    actualTimeout: *mut u64,
) -> aclError {
    call("aclrtSetOpExecuteTimeOutV2", || {
        context()?;
        let interval = time_out_interval()?;
        let steps = timeout.div_ceil(interval).clamp(1, MOST_INTERVALS);
        // SAFETY: null or valid for a write.
        unsafe { give(actualTimeout, "actualTimeout", steps * interval) }
    })
}

/// Time-outs of kernels are at most this many intervals.
const MOST_INTERVALS: u64 = 254;

/// The steps of time-outs of kernels in microseconds. Documents name the longest time-outs only (1091, 547 and 68 seconds): powers of
/// two in nanoseconds come closest to their 254th part.
fn time_out_interval() -> Result<u64, crate::failure::Failure> {
    use crate::kernel::Family;
    let exponent = match world()?.family {
        Family::A2 | Family::A3 | Family::A950 => 32,
        Family::P310 | Family::B310 => 31,
        Family::A910 => 28,
    };
    Ok((1_u64 << exponent) / 1000)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtGetOpTimeOutInterval(interval: *mut u64) -> aclError {
    call("aclrtGetOpTimeOutInterval", || {
        let own = time_out_interval()?;
        // SAFETY: null or valid for a write.
        unsafe { give(interval, "interval", own) }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtSetOpWaitTimeout(_timeout: u32) -> aclError {
    call("aclrtSetOpWaitTimeout", || context().map(drop))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclrtCheckArchCompatibility(
    socVersion: *const c_char,
    canCompatible: *mut i32,
) -> aclError {
    call("aclrtCheckArchCompatibility", || {
        not_null(socVersion, "socVersion")?;
        // SAFETY: not null, and a C string.
        let asked = unsafe { std::ffi::CStr::from_ptr(socVersion) }.to_string_lossy();
        let same = crate::state::family(&asked) == world()?.family;
        // SAFETY: null or valid for a write.
        unsafe { give(canCompatible, "canCompatible", i32::from(same)) }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclnnCalculateMatmulWeightSizeV2(
    tensorShape: *const aclIntArray,
    dataType: aclDataType,
    weightTensorSize: *mut u64,
) -> aclnnStatus {
    call("aclnnCalculateMatmulWeightSizeV2", || {
        // SAFETY: null or valid for a write.
        unsafe { weight_size(tensorShape, dataType, weightTensorSize) }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclnnCalculateMatmulWeightSize(
    tensorShape: *const aclIntArray,
    weightTensorSize: *mut u64,
) -> aclnnStatus {
    call("aclnnCalculateMatmulWeightSize", || {
        // SAFETY: null or valid for a write.
        unsafe { weight_size(tensorShape, DType::F16.code(), weightTensorSize) }
    })
}

/// Elements of a weight whose last two dims are padded to blocks.
unsafe fn weight_size(
    shape: *const aclIntArray,
    dtype: i32,
    size: *mut u64,
) -> Result<(), Failure> {
    let shape = crate::meta::INTS.get(shape)?;
    let [batch @ .., rows, columns] = shape.as_slice() else {
        return Err(Failure::invalid(format!(
            "the shape is {shape:?}, wanted at least two dims"
        )));
    };
    let block = match DType::from_code(dtype) {
        Some(DType::F16 | DType::Bf16) => 16,
        Some(DType::I8) => 32,
        _ => {
            return Err(Failure::invalid(format!(
                "data type {dtype}, wanted f16, bf16 or i8"
            )));
        }
    };
    let padded = |dim: i64, block: i64| dim.checked_add(block - 1).map(|sum| sum / block * block);
    let elements = batch
        .iter()
        .copied()
        .chain([
            padded(*rows, 16).unwrap_or(-1),
            padded(*columns, block).unwrap_or(-1),
        ])
        .try_fold(1u64, |product, dim| {
            product.checked_mul(u64::try_from(dim).ok()?)
        })
        .ok_or_else(|| Failure::invalid(format!("the shape {shape:?} is too large or negative")))?;
    // SAFETY: null or valid for a write by this function's contract.
    unsafe { give(size, "weightTensorSize", elements) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclAppLog(
    _logLevel: aclLogLevel,
    _func: *const c_char,
    _file: *const c_char,
    _line: u32,
    _fmt: *const c_char,
) {
    value("aclAppLog", (), || Ok(()));
}
