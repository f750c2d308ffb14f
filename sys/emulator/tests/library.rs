//! The shared library under its real names, the symbol table, and the generated files.
#![allow(missing_docs)]

use ascend_sys::{Function, f};
use std::ffi::{CStr, CString, c_void};
use std::path::PathBuf;
use std::process::Command;
use std::ptr;

/// Where cargo puts the shared library: next to this test, or one folder up.
fn library() -> PathBuf {
    let test = std::env::current_exe().expect("path of this test");
    let folder = test.parent().expect("folder of this test");
    [folder.to_path_buf(), folder.join("..")]
        .into_iter()
        .map(|folder| folder.join("libascend_emulator.so"))
        .find(|path| path.exists())
        .expect("cargo builds the shared library before the tests")
}

struct Library(*mut c_void);

impl Library {
    fn get<F: Function>(&self, _: F) -> F::Pointer {
        // SAFETY: the handle is open, the name is a C string.
        let address = unsafe { libc::dlsym(self.0, F::NAME.as_ptr()) };
        assert!(!address.is_null(), "{:?}", F::NAME);
        // SAFETY: the library exports a function of this type under this name.
        unsafe { std::mem::transmute_copy(&address) }
    }
}

#[test]
fn a_program_runs_on_the_shared_library() {
    let path = CString::new(library().to_string_lossy().into_owned()).expect("a path");
    // SAFETY: opening the library runs no code of its own.
    let handle = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW) };
    assert!(!handle.is_null());
    let library = Library(handle);
    // SAFETY: all calls below keep the contracts of the C functions.
    unsafe {
        assert_eq!(library.get(f::aclInit)(ptr::null()), 0);
        assert_eq!(library.get(f::aclrtSetDevice)(0), 0);
        let (mut x, host) = (ptr::null_mut(), [1.5f32, 2.5]);
        assert_eq!(library.get(f::aclrtMalloc)(&mut x, 8, 0), 0);
        assert_eq!(
            library.get(f::aclrtMemcpy)(x, 8, host.as_ptr().cast(), 8, 1),
            0
        );
        let shape = [2i64];
        let tensor = library.get(f::aclCreateTensor)(
            shape.as_ptr(),
            1,
            0,
            ptr::null(),
            0,
            2,
            shape.as_ptr(),
            1,
            x,
        );
        let mut one = 1f32;
        let alpha = library.get(f::aclCreateScalar)((&raw mut one).cast(), 0);
        let (mut size, mut executor) = (0, ptr::null_mut());
        let plan = library.get(f::aclnnAddGetWorkspaceSize);
        assert_eq!(
            plan(tensor, tensor, alpha, tensor, &mut size, &mut executor),
            0
        );
        assert_eq!(
            library.get(f::aclnnAdd)(ptr::null_mut(), size, executor, ptr::null_mut()),
            0
        );
        assert_eq!(library.get(f::aclrtSynchronizeStream)(ptr::null_mut()), 0);
        let mut back = [0f32; 2];
        assert_eq!(
            library.get(f::aclrtMemcpy)(back.as_mut_ptr().cast(), 8, x, 8, 2),
            0
        );
        assert_eq!(back, [3.0, 5.0]);
        assert_eq!(library.get(f::aclFinalize)(), 0);
        let soc = CStr::from_ptr(library.get(f::aclrtGetSocName)());
        assert!(soc.to_bytes().starts_with(b"Ascend"));
    }
    assert_eq!(
        ascend_emulator::calls("aclInit"),
        0,
        "the two instances share nothing"
    );
}

#[test]
fn every_known_function_is_exported() {
    let path = CString::new(library().to_string_lossy().into_owned()).expect("a path");
    // SAFETY: opening the library runs no code of its own.
    let handle = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW) };
    let missing: Vec<_> = ascend_sys::FUNCTIONS
        .iter()
        .filter(|info| {
            // SAFETY: the handle is open, the name is a C string.
            let exported = unsafe { libc::dlsym(handle, info.name.as_ptr()) };
            exported.is_null() || ascend_emulator::resolve(info.name).is_none()
        })
        .map(|info| info.name)
        .collect();
    assert_eq!(missing, Vec::<&CStr>::new());
    assert!(ascend_sys::FUNCTIONS.len() > 2000);
}

#[test]
fn functions_outside_of_the_emulation_say_so() {
    let address =
        ascend_emulator::resolve(<f::aclrtCreateLabel as Function>::NAME).expect("exported");
    // SAFETY: the table pairs each name with a function of its type.
    let create: <f::aclrtCreateLabel as Function>::Pointer =
        unsafe { std::mem::transmute(address) };
    let mut label = ptr::null_mut();
    // SAFETY: valid arguments.
    assert_eq!(unsafe { create(&mut label) }, 207000);
}

#[test]
fn the_generated_files_are_up_to_date() {
    let status = Command::new(env!("CARGO_BIN_EXE_generate-shims"))
        .arg("--check")
        .status();
    assert!(status.expect("the generator runs").success());
}

/// Runs one test of this file again in a process with other environment variables.
fn again(test: &str, variables: &[(&str, &str)]) -> std::process::ExitStatus {
    let program = std::env::current_exe().expect("path of this test");
    Command::new(program)
        .args(["--exact", test])
        .env("TEST_CHILD", "1")
        .envs(variables.iter().copied())
        .output()
        .expect("the test runs again")
        .status
}

fn is_child() -> bool {
    std::env::var_os("TEST_CHILD").is_some()
}

fn resolved<F: Function>(_: F) -> F::Pointer {
    let address = ascend_emulator::resolve(F::NAME).expect("exported");
    // SAFETY: the table pairs each name with a function of its type.
    unsafe { std::mem::transmute_copy(&address) }
}

#[test]
fn the_environment_is_read() {
    if !is_child() {
        let variables = [
            ("ASCEND_EMULATOR_SOC", "Ascend310P3"),
            ("ASCEND_EMULATOR_DEVICES", "3"),
            ("ASCEND_EMULATOR_MEMORY", "1M"),
            ("ASCEND_EMULATOR_FAULTS", "aclrtGetDeviceCount:1=507899"),
            ("ASCEND_EMULATOR_LOG", "1"),
            ("ASCEND_RT_VISIBLE_DEVICES", "0,2,7"),
        ];
        assert!(again("the_environment_is_read", &variables).success());
        return;
    }
    let (mut count, mut free, mut total) = (0, 0, 0);
    // SAFETY: all calls keep the contracts of the C functions.
    unsafe {
        assert_eq!(resolved(f::aclrtGetDeviceCount)(&mut count), 507899);
        assert_eq!(resolved(f::aclrtGetDeviceCount)(&mut count), 0);
        assert_eq!(count, 2);
        assert_eq!(
            CStr::from_ptr(resolved(f::aclrtGetSocName)()),
            c"Ascend310P3"
        );
        assert_eq!(resolved(f::aclrtSetDevice)(1), 0);
        assert_eq!(resolved(f::aclrtGetMemInfo)(1, &mut free, &mut total), 0);
    }
    assert_eq!(total, 1 << 20);
    assert_eq!(
        ascend_emulator::call_log()[0],
        "aclrtGetDeviceCount (call 1)"
    );
}

#[test]
fn the_strictest_level_ends_the_process() {
    use std::os::unix::process::ExitStatusExt;
    if !is_child() {
        let status = again(
            "the_strictest_level_ends_the_process",
            &[("ASCEND_EMULATOR_STRICT", "abort")],
        );
        assert_eq!(status.signal(), Some(libc::SIGABRT));
        return;
    }
    let mut stream = ptr::null_mut();
    // SAFETY: the calls keep the contracts of the C functions, but for the last, which the emulator must find.
    unsafe {
        assert_eq!(resolved(f::aclrtSetDevice)(0), 0);
        assert_eq!(resolved(f::aclrtCreateStream)(&mut stream), 0);
        assert_eq!(resolved(f::aclrtDestroyStream)(stream), 0);
        resolved(f::aclrtDestroyStream)(stream);
    }
}
