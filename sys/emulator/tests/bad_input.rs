//! Bad input to every exported function: nulls, stale handles, wrong numbers, absurd sizes. A code and a text come back; the
//! process lives.
#![allow(missing_docs, clippy::macro_metavars_in_unsafe)]

mod common;

use ascend_emulator::Settings;
use common::*;
use std::ffi::{CString, c_void};
use std::process::{Command, Stdio};
use std::ptr;

/// One exported function, as the list of signatures has it.
struct Function {
    name: String,
    parameters: Vec<String>,
    output: String,
}

/// All functions but those with a variable number of arguments.
fn functions() -> Vec<Function> {
    include_str!("../../src/generated/functions.rs")
        .lines()
        .filter_map(|line| {
            let name = line.split_whitespace().nth(1)?.to_string();
            let (_, signature) = line.split_once("=> unsafe extern \"C\" fn(")?;
            let close = signature.rfind(')')?;
            let list = &signature[..close];
            if list.contains("...") || list.contains("fn(") {
                return None;
            }
            let parameters = list
                .split(", ")
                .filter(|parameter| !parameter.is_empty())
                .filter_map(|parameter| Some(parameter.split_once(": ")?.1.to_string()))
                .collect();
            let output = signature[close + 1..].trim_matches(['-', '>', ';', ' ']);
            Some(Function {
                name,
                parameters,
                output: output.to_string(),
            })
        })
        .collect()
}

/// How the arguments of a case look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Case {
    /// Pointers are null, numbers 0.
    Nothing,
    /// Pointers are null, numbers are enormous.
    NullsAndHugeNumbers,
    /// Handles look like handles, but are not alive or of another kind; other pointers are null.
    StaleHandles,
    /// Pointers lead to zeros; numbers are 0.
    ZerosAndNoElements,
    /// Pointers lead to zeros, handles are null; numbers are 1.
    ZerosAndOnes,
    /// Handles are stale, other pointers lead to zeros; numbers are a wrong enum value.
    WrongNumbers,
}

const CASES: [Case; 6] = [
    Case::Nothing,
    Case::NullsAndHugeNumbers,
    Case::StaleHandles,
    Case::ZerosAndNoElements,
    Case::ZerosAndOnes,
    Case::WrongNumbers,
];

/// Functions that wait for ever, by their contract, when a number says so, or end the process.
const LEFT_OUT: [&str; 1] = ["aclrtProcessReport"];

/// A page of zeros for pointers that must lead somewhere.
fn zeros() -> u64 {
    let zeros: &'static mut [u64] = Box::leak(vec![0u64; 1 << 16].into_boxed_slice());
    zeros.as_mut_ptr().expose_provenance() as u64
}

/// Objects of the library; other pointers lead to the caller's memory.
const OPAQUE: [&str; 12] = [
    "aclTensor",
    "aclScalar",
    "aclIntArray",
    "aclFloatArray",
    "aclBoolArray",
    "aclTensorList",
    "aclScalarList",
    "aclOpExecutor",
    "aclTensorDesc",
    "aclDataBuffer",
    "aclopAttr",
    "aclprofConfig",
];

/// Types that are handles themselves.
const HANDLES: [&str; 8] = [
    "aclrtStream",
    "aclrtEvent",
    "aclrtContext",
    "aclmdlRI",
    "aclrtTaskGrp",
    "aclrtDrvMemHandle",
    "aclrtNotify",
    "HcclComm",
];

fn is_handle(kind: &str) -> bool {
    let pointed = kind
        .strip_prefix("*const ")
        .or_else(|| kind.strip_prefix("*mut "));
    pointed.is_some_and(|kind| OPAQUE.contains(&kind)) || HANDLES.contains(&kind)
}

/// An argument in a register or a slot of the stack; `None` for floating-point numbers, which travel apart.
fn argument(kind: &str, case: Case, zeros: u64) -> Option<u64> {
    if matches!(kind, "f32" | "f64") {
        return None;
    }
    if kind.contains("Callback") || kind.contains("Func") || kind.contains("Hook") {
        return Some(0);
    }
    let pointer = kind.starts_with('*');
    let stale = 0x2600_0001_2340;
    let number = match case {
        Case::Nothing | Case::StaleHandles | Case::ZerosAndNoElements => 0,
        Case::NullsAndHugeNumbers => 1 << 63,
        Case::ZerosAndOnes => 1,
        Case::WrongNumbers => 0x7777_7777,
    };
    let value = if is_handle(kind) {
        match case {
            Case::StaleHandles | Case::WrongNumbers => stale,
            _ => 0,
        }
    } else if pointer {
        match case {
            Case::ZerosAndNoElements | Case::ZerosAndOnes | Case::WrongNumbers => zeros,
            _ => 0,
        }
    } else if kind == "bool" {
        number & 1
    } else {
        number
    };
    Some(value)
}

/// Every integer and pointer argument first, then floating-point ones: each kind is numbered apart in the calling conventions
/// of x86-64 and AArch64, and arguments too many harm nobody.
type Any = unsafe extern "C" fn(
    u64,
    u64,
    u64,
    u64,
    u64,
    u64,
    u64,
    u64,
    u64,
    u64,
    u64,
    u64,
    u64,
    u64,
    u64,
    u64,
    u64,
    u64,
    u64,
    u64,
    u64,
    u64,
    u64,
    u64,
    u64,
    u64,
    u64,
    u64,
    u64,
    u64,
    u64,
    u64,
    u64,
    u64,
    u64,
    u64,
    u64,
    u64,
    u64,
    u64,
    u64,
    u64,
    u64,
    u64,
    u64,
    u64,
    u64,
    u64,
    u64,
    u64,
    u64,
    u64,
    u64,
    u64,
    u64,
    u64,
    u64,
    u64,
    u64,
    u64,
    u64,
    u64,
    u64,
    u64,
    f64,
    f64,
    f64,
    f64,
    f64,
    f64,
    f64,
    f64,
) -> u64;

fn run(function: &Function, case: Case, zeros: u64) -> u64 {
    let name = CString::new(function.name.as_str()).expect("a name");
    let address = ascend_emulator::resolve(&name).expect("exported");
    // SAFETY: an address of a function; see `Any`.
    let call: Any = unsafe { std::mem::transmute(address) };
    let given = function
        .parameters
        .iter()
        .filter_map(|kind| argument(kind, case, zeros));
    let mut a = [0u64; 64];
    for (slot, value) in a.iter_mut().zip(given) {
        *slot = value;
    }
    let f = 0.5f64;
    // SAFETY: pointers are null or lead to zeros, handles are checked by the library: that it does is what is tested.
    unsafe {
        call(
            a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7], a[8], a[9], a[10], a[11], a[12], a[13],
            a[14], a[15], a[16], a[17], a[18], a[19], a[20], a[21], a[22], a[23], a[24], a[25],
            a[26], a[27], a[28], a[29], a[30], a[31], a[32], a[33], a[34], a[35], a[36], a[37],
            a[38], a[39], a[40], a[41], a[42], a[43], a[44], a[45], a[46], a[47], a[48], a[49],
            a[50], a[51], a[52], a[53], a[54], a[55], a[56], a[57], a[58], a[59], a[60], a[61],
            a[62], a[63], f, f, f, f, f, f, f, f,
        )
    }
}

/// What a process does that the test started: all functions from a place on, each said before it is called.
fn child(from: usize) {
    let mut settings = Settings::default();
    settings.devices = 2;
    ascend_emulator::reset(settings).expect("settings");
    let zeros = zeros();
    for (index, function) in functions().iter().enumerate().skip(from) {
        if LEFT_OUT.contains(&function.name.as_str()) {
            continue;
        }
        for case in CASES {
            eprintln!("CALL {index} {} {case:?}", function.name);
            acl!(aclInit(ptr::null()));
            acl!(aclrtSetDevice(0));
            recent();
            let code = run(function, case, zeros) as i32;
            let is_code =
                ["aclError", "aclnnStatus", "HcclResult"].contains(&function.output.as_str());
            let quiet = [0, 100_002].contains(&code) || function.name.contains("LastError");
            if is_code && !quiet && recent().is_empty() {
                eprintln!(
                    "SILENT {} {case:?} gives {code} without a text",
                    function.name
                );
            }
            if is_code && code == 500_000 {
                eprintln!("SILENT {} {case:?} panicked inside", function.name);
            }
        }
    }
    eprintln!("DONE");
}

#[test]
fn no_function_ends_the_process() {
    if let Ok(from) = std::env::var("TEST_FROM") {
        child(from.parse().expect("a number"));
        return;
    }
    let (mut from, mut crashes) = (0, Vec::new());
    loop {
        let output = Command::new(std::env::current_exe().expect("a path"))
            .args(["--exact", "no_function_ends_the_process", "--nocapture"])
            .env("TEST_FROM", from.to_string())
            .stdin(Stdio::null())
            .output()
            .expect("a process");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        crashes.extend(
            said.lines()
                .filter(|line| line.starts_with("SILENT"))
                .map(str::to_string),
        );
        if said.contains("\nDONE") || crashes.len() > 40 {
            break;
        }
        let last = said
            .lines()
            .rfind(|line| line.starts_with("CALL "))
            .unwrap_or("CALL 0 nothing");
        crashes.push(format!("{last}: {}", output.status));
        let index = last
            .split_whitespace()
            .nth(1)
            .and_then(|index| index.parse::<usize>().ok());
        from = index.unwrap_or(usize::MAX - 1) + 1;
    }
    assert!(crashes.is_empty(), "{:#?}", crashes);
}

/// Numbers that look random, the same in each run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.next() as usize % from.len()]
    }
}

const DIMS: [i64; 9] = [0, 1, 2, 3, 7, -1, i64::MAX, i64::MIN, 1 << 62];
const STRIDES: [i64; 9] = [0, 1, 2, 4, 12, 1000, -1, i64::MAX, 1 << 61];
const DTYPES: [i32; 12] = [0, 1, 2, 3, 9, 11, 12, 16, 27, 5, -1, 999];

/// A tensor of shape 4 x 4 in 256 bytes, of which up to three properties are replaced by nonsense.
fn any_tensor(random: &mut Random, address: *mut c_void) -> *mut ascend_sys::aclTensor {
    let (mut shape, mut strides) = ([4i64, 4], [4i64, 1]);
    let (mut dtype, mut offset, mut storage, mut format, mut skew) = (0, 0, 64, 2, 0);
    for _ in 0..random.next() % 4 {
        match random.next() % 8 {
            0 => shape[random.next() as usize % 2] = random.pick(&DIMS),
            1 | 2 => strides[random.next() as usize % 2] = random.pick(&STRIDES),
            3 => dtype = random.pick(&DTYPES),
            4 => offset = random.pick(&[1, 16, 48, 49, 63, 64, -1, i64::MAX]),
            5 => storage = random.pick(&[16, 1, 0, -5, i64::MAX]),
            6 => format = random.pick(&[0, 29, -1, 1000]),
            _ => skew = random.pick(&[32, 192, 224, 4, 256, 1 << 40]),
        }
    }
    let list = if random.next() % 4 == 0 {
        ptr::null()
    } else {
        strides.as_ptr()
    };
    let start = address.wrapping_byte_add(skew);
    acl!(aclCreateTensor(
        shape.as_ptr(),
        2,
        dtype,
        list,
        offset,
        format,
        &storage,
        1,
        start
    ))
}

/// Views with any strides, sizes and offsets: refused, or computed within their memory.
#[test]
fn tensors_that_make_no_sense_touch_nothing_outside() {
    let _guard = fresh(Settings::default());
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    let (mut launched, mut refused) = (0, 0);
    for _ in 0..20_000 {
        let buffers = [malloc(256), malloc(256), malloc(256)];
        let tensors = buffers.map(|buffer| any_tensor(&mut random, buffer));
        let (status, workspace, executor) = plan_add(tensors[0], tensors[1], tensors[2]);
        if status == 0 {
            let extra = if workspace > 0 {
                malloc(workspace as usize)
            } else {
                ptr::null_mut()
            };
            let status = acl!(aclnnAdd(extra, workspace, executor, ptr::null_mut()));
            launched += i32::from(status == 0);
            assert!(status == 0 || !recent().is_empty());
            let status = synchronize(ptr::null_mut());
            assert_eq!(status, 0, "{}", recent());
            if workspace > 0 {
                assert_eq!(acl!(aclrtFree(extra)), 0, "{}", recent());
            }
        } else {
            refused += 1;
            assert!(!recent().is_empty(), "{status} without a text");
        }
        for tensor in tensors {
            assert_eq!(acl!(aclDestroyTensor(tensor)), 0);
        }
        for buffer in buffers {
            assert_eq!(
                acl!(aclrtFree(buffer)),
                0,
                "something was written past an end: {}",
                recent()
            );
        }
    }
    assert!(
        launched > 100 && refused > 1000,
        "{launched} launched, {refused} refused"
    );
}

/// Sizes at the edges: a code and a text, never a crash.
#[test]
fn absurd_sizes_are_refused() {
    let _guard = fresh(Settings::default());
    let (device, host) = (malloc(64), pinned(64));
    let mut pointer = ptr::null_mut();
    for size in [usize::MAX, 1 << 63, isize::MAX as usize, 1 << 50] {
        assert_eq!(
            acl!(aclrtMalloc(&mut pointer, size, 0)),
            207001,
            "{size:#x}"
        );
        assert!(recent().contains("memory"));
        assert_ne!(acl!(aclrtMallocHost(&mut pointer, size)), 0, "{size:#x}");
        assert!(!recent().is_empty());
        for (to, from, kind) in [(device, host, 1), (host, device, 2)] {
            assert_eq!(
                acl!(aclrtMemcpy(to, 64, from, size, kind)),
                107000,
                "{size:#x}"
            );
            assert_ne!(
                acl!(aclrtMemcpy(to, size, from, size, kind)),
                0,
                "{size:#x}"
            );
            assert!(!recent().is_empty());
            assert_ne!(
                acl!(aclrtMemcpyAsync(
                    to,
                    size,
                    from,
                    size,
                    kind,
                    ptr::null_mut()
                )),
                0
            );
        }
        assert_ne!(acl!(aclrtMemset(device, size, 0, size)), 0);
        assert_ne!(
            acl!(aclrtMemsetAsync(device, size, 0, size, ptr::null_mut())),
            0
        );
        assert_ne!(acl!(aclrtMemcpy2d(device, 8, host, 8, 8, size, 1)), 0);
        assert_ne!(
            acl!(aclrtReserveMemAddress(
                &mut pointer,
                size,
                0,
                ptr::null_mut(),
                0
            )),
            0
        );
        assert!(!recent().is_empty());
    }
    assert_eq!(acl!(aclrtMalloc(&mut pointer, 0, 0)), 100000);
    assert_eq!(
        acl!(aclrtMemcpy(device, 0, host, 0, 1)),
        0,
        "nothing to copy"
    );
    let address = ptr::null_mut();
    let shape = [4i64];
    for rank in [1u64 << 63, 1 << 40, 1000] {
        let tensor = acl!(aclCreateTensor(
            shape.as_ptr(),
            rank,
            0,
            ptr::null(),
            0,
            2,
            shape.as_ptr(),
            1,
            address
        ));
        assert!(tensor.is_null(), "rank {rank:#x}");
        assert!(!recent().is_empty());
        let numbers = acl!(aclCreateIntArray(shape.as_ptr(), rank.max(1 << 40)));
        assert!(numbers.is_null(), "{rank:#x} numbers");
    }
}
