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
        ascend_emulator::resolve(<f::aclrtCreateNotify as Function>::NAME).expect("exported");
    // SAFETY: the table pairs each name with a function of its type.
    let create: <f::aclrtCreateNotify as Function>::Pointer =
        unsafe { std::mem::transmute(address) };
    let mut notify = ptr::null_mut();
    // SAFETY: valid arguments.
    assert_eq!(unsafe { create(&mut notify, 0) }, 207000);
}

#[test]
fn the_generated_files_are_up_to_date() {
    let status = Command::new(env!("CARGO_BIN_EXE_generate-shims"))
        .arg("--check")
        .status();
    assert!(status.expect("the generator runs").success());
}
