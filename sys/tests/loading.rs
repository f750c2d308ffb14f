//! Finding CANN: stand-ins that answer by name, folders that look like installations, and what the errors say.
//! Knows the public interface; libraries are built here by the C compiler where there is one.

use std::ffi::{CStr, c_void};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use ascend_sys::{
    ACL_ERROR_INVALID_PARAM, Api, Environment, FUNCTION_COUNT, FUNCTIONS, Function, LibraryState,
    LoadError, LoadOptions, MissingSymbol, Place, Reason, aclError, f,
};

unsafe extern "C" fn finalize() -> aclError {
    ACL_ERROR_INVALID_PARAM
}

/// A folder of this test alone, empty at the start.
fn folder(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&path);
    fs::create_dir_all(&path).expect("the folder can be made");
    path
}

fn nowhere() -> LoadOptions {
    LoadOptions::new()
        .environment(Environment::default())
        .without_install_root()
        .without_loader()
}

/// Compiles a shared library with functions that return a number; `None` without a C compiler.
fn library(path: &Path, functions: &[(&str, i32)]) -> Option<()> {
    fs::create_dir_all(path.parent()?).ok()?;
    let source = path.with_extension("c");
    let text: String = functions
        .iter()
        .map(|(name, value)| format!("int {name}(void) {{ return {value}; }}\n"))
        .collect();
    fs::write(&source, text).ok()?;
    let compiler = Command::new("cc")
        .args(["-shared", "-fPIC", "-o"])
        .arg(path)
        .arg(&source)
        .status();
    match compiler {
        Ok(status) => assert!(status.success(), "cc failed on {}", source.display()),
        Err(_) => {
            eprintln!("skipped: no C compiler");
            return None;
        }
    }
    Some(())
}

fn call(api: &Api) -> aclError {
    let finalize = api
        .function(f::aclFinalize)
        .expect("aclFinalize is exported");
    // SAFETY: the functions behind it in these tests take nothing.
    unsafe { finalize() }
}

#[test]
fn resolver_is_asked_once_for_each_function() {
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&asked);
    let api = Api::from_resolver("fake", move |name: &CStr| {
        counter.fetch_add(1, Ordering::SeqCst);
        (name == c"aclFinalize")
            .then(|| NonNull::new(finalize as *mut c_void))
            .flatten()
    });
    assert_eq!(asked.load(Ordering::SeqCst), 0);
    for _ in 0..3 {
        assert_eq!(call(&api), ACL_ERROR_INVALID_PARAM);
        assert!(api.has(f::aclFinalize) && !api.has(f::aclnnAdd));
        let missing = api
            .function(f::aclnnAdd)
            .expect_err("the fake has no such function");
        assert_eq!(
            missing,
            MissingSymbol {
                symbol: "aclnnAdd",
                library: "libopapi.so"
            }
        );
    }
    assert_eq!(asked.load(Ordering::SeqCst), 2);
    assert_eq!(api.origin().resolver(), Some("fake"));
    assert!(
        format!("{api:?}").contains("functions_in_use: 1"),
        "{api:?}"
    );
}

#[test]
fn one_table_serves_many_threads() {
    let api = Api::from_resolver("fake", |_| NonNull::new(finalize as *mut c_void));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| (0..1000).for_each(|_| assert_eq!(call(&api), ACL_ERROR_INVALID_PARAM)));
        }
    });
}

#[test]
fn table_and_errors_cross_threads() {
    fn crosses<T: Send + Sync + 'static>() {}
    crosses::<Api>();
    crosses::<LoadError>();
    crosses::<MissingSymbol>();
}

#[test]
fn missing_symbol_names_symbol_and_library() {
    let api = Api::from_resolver("empty", |_| None);
    let text = api
        .function(f::HcclAllReduce)
        .expect_err("nothing is there")
        .to_string();
    assert_eq!(
        text,
        "HcclAllReduce: got no such symbol from what is loaded, wanted it in libhccl.so"
    );
    let newest = api
        .function(f::aclrtMemPoolMallocAsync)
        .expect_err("nothing is there");
    assert_eq!(newest.library, "libacl_rt.so");
}

#[test]
fn functions_are_sorted_and_markers_know_their_place() {
    assert_eq!(FUNCTIONS.len(), FUNCTION_COUNT);
    assert!(FUNCTIONS.windows(2).all(|pair| pair[0].name < pair[1].name));
    assert_eq!(
        FUNCTIONS[<f::aclrtMalloc as Function>::INDEX].name,
        c"aclrtMalloc"
    );
    assert_eq!(
        FUNCTIONS[<f::aclnnAddGetWorkspaceSize as Function>::INDEX].header,
        "aclnnop/aclnn_add.h"
    );
}

#[test]
fn error_lists_each_path_with_its_reason() {
    let empty = folder("empty");
    let broken = folder("broken");
    fs::create_dir_all(broken.join("lib64")).expect("the folder can be made");
    fs::write(broken.join("lib64/libascendcl.so"), "no library").expect("the file can be written");
    let mut environment = Environment::default();
    environment.home = Some(empty.clone());
    environment.toolkit = Some(broken.clone());
    let options = nowhere().path("/no/such/place").environment(environment);
    let start = Instant::now();
    let error = Api::open(&options).expect_err("there is no library");
    let spent = start.elapsed();
    let tried = error.tried();
    assert_eq!(tried[0].reason, Reason::Absent);
    assert_eq!(
        (tried[1].place, &tried[1].reason),
        (Place::AscendHomePath, &Reason::NoLibrary)
    );
    assert!(
        matches!(&tried[2].reason, Reason::Refused { detail } if detail.contains("libascendcl.so"))
    );
    assert_eq!(tried.len(), 3);
    let text = error.to_string();
    assert!(
        text.starts_with(
            "open: got no CANN library, wanted libascendcl.so or libacl_rt.so; tried:\n"
        ),
        "{text}"
    );
    assert!(
        text.contains("\n  /no/such/place (path given): does not exist"),
        "{text}"
    );
    assert!(
        text.contains(&format!(
            "\n  {} (ASCEND_HOME_PATH): holds neither",
            empty.display()
        )),
        "{text}"
    );
    assert!(
        text.contains("(ASCEND_TOOLKIT_HOME): cannot be loaded: "),
        "{text}"
    );
    assert!(spent.as_millis() < 50, "a failing search took {spent:?}");
}

#[test]
fn error_with_every_place_switched_off() {
    let LoadError::NotFound { tried } = Api::open(&nowhere()).expect_err("no place is left") else {
        panic!("another error");
    };
    assert!(tried.is_empty());
}

#[test]
fn environment_is_read_by_name() {
    let environment = Environment::from_lookup(|name| match name {
        "ASCEND_HOME_PATH" => Some(""),
        "ASCEND_TOOLKIT_HOME" => Some("/opt/toolkit"),
        "ASCEND_CUSTOM_OPP_PATH" => Some("/a:/b:"),
        _ => None,
    });
    assert_eq!((environment.home, environment.operators), (None, None));
    assert_eq!(environment.toolkit, Some(PathBuf::from("/opt/toolkit")));
    assert_eq!(
        environment.custom_operators,
        [PathBuf::from("/a"), PathBuf::from("/b")]
    );
}

#[test]
fn libraries_of_an_installation_are_opened_on_first_use() {
    let root = folder("toolkit");
    let lib64 = root.join("lib64");
    let arch = root.join(format!("{}-linux", std::env::consts::ARCH));
    let made = library(&lib64.join("libascendcl.so"), &[("aclFinalize", 81)])
        .and_then(|()| {
            library(
                &lib64.join("libopapi.so"),
                &[("aclnnAdd", 1), ("aclnnMul", 1)],
            )
        })
        .and_then(|()| {
            library(
                &root.join("opp/vendors/mine/op_api/lib/libcust_opapi.so"),
                &[("aclnnMul", 2)],
            )
        })
        .and_then(|()| {
            library(
                &lib64.join("libacl_rt.so"),
                &[("aclFinalize", 90), ("aclrtMemPoolMallocAsync", 3)],
            )
        });
    if made.is_none() {
        return;
    }
    fs::create_dir_all(&arch).expect("the folder can be made");
    fs::write(
        arch.join("ascend_toolkit_install.info"),
        "package_name=x\nversion=8.1.RC1\n",
    )
    .expect("it can be written");
    let mut environment = Environment::default();
    environment.home = Some(root.clone());
    let api = Api::open(&nowhere().environment(environment)).expect("the runtime library loads");
    assert_eq!(call(&api), 81);
    let open = || {
        api.origin()
            .libraries()
            .iter()
            .filter(|one| one.state == LibraryState::Open)
            .count()
    };
    assert_eq!(open(), 1);
    assert!(api.has(f::aclnnAdd) && api.has(f::aclrtMemPoolMallocAsync) && !api.has(f::aclnnSub));
    assert!(open() >= 3);
    let mul = api.function(f::aclnnMul).expect("two libraries export it");
    // SAFETY: the function compiled above reads none of its arguments.
    let answer = unsafe { mul(ptr::null_mut(), 0, ptr::null_mut(), ptr::null_mut()) };
    assert_eq!(answer, 2, "custom packages come first");
    assert_eq!(api.origin().place(), Some(Place::AscendHomePath));
    assert_eq!(
        api.origin().to_string(),
        format!("CANN at {}, version 8.1.RC1", root.display())
    );
}

#[test]
fn places_are_searched_in_order() {
    let install = folder("install");
    let given = folder("given");
    let made = library(
        &install.join("cann-9.0/lib64/libacl_rt.so"),
        &[("aclFinalize", 9)],
    )
    .and_then(|()| {
        library(
            &install.join("cann-8.5/lib64/libacl_rt.so"),
            &[("aclFinalize", 8)],
        )
    })
    .and_then(|()| {
        library(
            &given.join("libone.so"),
            &[("aclFinalize", 1), ("aclnnAdd", 1)],
        )
    });
    if made.is_none() {
        return;
    }
    let usual = nowhere().install_root(&install);
    assert_eq!(call(&Api::open(&usual).expect("the newest loads")), 9);
    let single = Api::open(&usual.path(given.join("libone.so"))).expect("one library serves all");
    assert_eq!(call(&single), 1);
    assert!(single.has(f::aclnnAdd) && !single.has(f::aclInit));
    assert_eq!(single.origin().libraries().len(), 1);
}
