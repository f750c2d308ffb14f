//! The installed folder as programs in C and C++ see it: they compile against its headers, link its libraries and run.
//!
//! Knows the command and compilers; it must not know the emulator's inside.
#![allow(missing_docs)]

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const COMMAND: &str = env!("CARGO_BIN_EXE_ascend-emulator");

/// A folder of this test's own below cargo's folder for that.
fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("installed-{name}"));
    if folder.exists() {
        fs::remove_dir_all(&folder).expect("the old folder goes");
    }
    folder
}

fn install(name: &str) -> PathBuf {
    let root = folder(name);
    succeed(Command::new(COMMAND).arg("install").arg(&root));
    root
}

fn succeed(command: &mut Command) -> String {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().expect("the program starts");
    let stdout = String::from_utf8_lossy(&stdout).into_owned();
    assert!(
        status.success(),
        "{command:?}: {status}\n{stdout}\n{}",
        String::from_utf8_lossy(&stderr)
    );
    stdout
}

fn program(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/programs")
        .join(name)
}

/// Compiles with the options that any user of CANN has, and gives a command that runs the program.
fn compiled(root: &Path, compiler: &str, source: &str, libraries: &[&str]) -> Command {
    let out = root.join(source.replace('.', "_"));
    let mut compile = Command::new(compiler);
    compile
        .args(["-Wall", "-Wextra", "-Werror", "-o"])
        .arg(&out);
    compile.arg(program(source));
    compile.arg("-I").arg(root.join("include"));
    compile.arg("-L").arg(root.join("lib64"));
    compile.args(libraries);
    succeed(&mut compile);
    let mut run = Command::new(out);
    run.env("LD_LIBRARY_PATH", root.join("lib64"));
    run
}

#[test]
fn a_c_program_runs_the_classic_sequence() {
    let root = install("c");
    let libraries = ["-lascendcl", "-lnnopbase", "-lopapi"];
    let mut run = compiled(&root, "gcc", "classic.c", &libraries);
    assert_eq!(succeed(&mut run), "classic: right on Ascend910B3\n");
    run.env("ASCEND_EMULATOR_SOC", "Ascend910_9391");
    assert_eq!(succeed(&mut run), "classic: right on Ascend910_9391\n");
    // The names of the newest version.
    let libraries = ["-lacl_rt", "-lnnopbase", "-lopapi_math"];
    succeed(&mut compiled(&root, "gcc", "classic.c", &libraries));
}

#[test]
fn a_c_program_runs_single_operators() {
    let root = install("single");
    let libraries = ["-lascendcl", "-lacl_op_compiler", "-lacl_cblas", "-lm"];
    let mut run = compiled(&root, "gcc", "single.c", &libraries);
    assert_eq!(succeed(&mut run), "single: right\n");
}

#[test]
fn a_c_program_sends_tensors_through_a_channel() {
    let root = install("channel");
    let libraries = [
        "-lascendcl",
        "-lacl_tdt_channel",
        "-lms_tools_ext",
        "-pthread",
    ];
    let mut run = compiled(&root, "gcc", "channel.c", &libraries);
    assert_eq!(succeed(&mut run), "channel: as it should be\n");
}

#[test]
fn a_cpp_program_runs_a_layer() {
    let root = install("cpp");
    let libraries = ["-std=c++17", "-lascendcl", "-lnnopbase", "-lopapi"];
    let mut run = compiled(&root, "g++", "network.cpp", &libraries);
    assert_eq!(succeed(&mut run), "network: right\n");
}

#[test]
fn a_cpp_program_makes_a_configured_communicator() {
    let root = install("communicator");
    let libraries = ["-lascendcl", "-lhccl", "-pthread"];
    let mut run = compiled(&root, "g++", "communicator.cpp", &libraries);
    run.env("ASCEND_EMULATOR_DEVICES", "2");
    assert_eq!(succeed(&mut run), "communicator: right\n");
}

#[test]
fn all_libraries_are_one_and_export_everything() {
    let root = install("names");
    let mut names = 0;
    for entry in fs::read_dir(root.join("lib64")).expect("lib64") {
        let path = entry.expect("an entry").path();
        assert_eq!(path.extension(), Some(OsStr::new("so")));
        assert!(
            path.canonicalize()
                .expect("no dead link")
                .ends_with("lib64/libascend_emulator.so")
        );
        names += 1;
    }
    assert!(names > 30, "{names} names");
    let mut run = compiled(&root, "gcc", "names.c", &["-ldl"]);
    assert_eq!(succeed(&mut run), "names: one library\n");
}

#[test]
fn every_header_compiles_in_c_and_cpp() {
    let root = install("headers");
    let include = root.join("include");
    let mut headers = Vec::new();
    let mut waiting = vec![include.clone()];
    while let Some(folder) = waiting.pop() {
        for entry in fs::read_dir(folder).expect("a folder of headers") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                waiting.push(path);
            } else {
                let name = path.strip_prefix(&include).expect("below include");
                headers.push(name.to_string_lossy().into_owned());
            }
        }
    }
    headers.sort();
    assert!(headers.len() > 800, "{} headers", headers.len());
    for wanted in [
        "acl/acl.h",
        "acl/acl_tdt.h",
        "aclnn/aclnn_base.h",
        "aclnnop/aclnn_add.h",
        "hccl/hccl.h",
    ] {
        assert!(headers.iter().any(|name| name == wanted), "no {wanted}");
    }
    let all: String = headers
        .iter()
        .map(|name| format!("#include <{name}>\n"))
        .collect();
    for (compiler, standard, file) in [
        ("gcc", "-std=c99", "all.c"),
        ("g++", "-std=c++11", "all.cpp"),
    ] {
        let source = root.join(file);
        fs::write(&source, &all).expect("the source is written");
        let mut compile = Command::new(compiler);
        compile.args([standard, "-Wall", "-Werror", "-fsyntax-only"]);
        succeed(compile.arg("-I").arg(&include).arg(source));
    }
}

#[test]
fn the_environment_file_leads_to_the_folder() {
    let root = install("environment");
    for shell in ["bash", "sh"] {
        let script = format!(
            ". '{0}/set_env.sh' && cd / && test \"$ASCEND_TOOLKIT_HOME\" -ef '{0}' && test -d \"$ASCEND_OPP_PATH\" \
             && test -d \"$ASCEND_HOME_PATH/runtime\" && test -d \"$ASCEND_HOME_PATH/compiler\" && npu-smi info",
            root.display()
        );
        let mut run = Command::new(shell);
        run.args(["-c", &script])
            .env("ASCEND_EMULATOR_SOC", "Ascend910B2")
            .env("ASCEND_EMULATOR_DEVICES", "2");
        let table = succeed(&mut run);
        // Build scripts take the third word of the seventh line.
        let words: Vec<&str> = table
            .lines()
            .nth(6)
            .expect("seven lines")
            .split_whitespace()
            .collect();
        assert_eq!(&words[..4], ["|", "0", "910B2", "|"], "{table}");
        assert!(table.contains("| 1     910B2"), "{table}");
    }
    let machine = std::env::consts::ARCH;
    let info = root.join(format!("{machine}-linux/ascend_toolkit_install.info"));
    let info = fs::read_to_string(info).expect("the version file");
    assert!(info.lines().any(|line| line == "version=8.1.RC1"), "{info}");
}

#[test]
fn a_folder_of_something_else_is_left_alone() {
    let root = folder("strange");
    fs::create_dir_all(&root).expect("a folder");
    fs::write(root.join("precious"), "kept").expect("a file");
    let refused = Command::new(COMMAND)
        .arg("install")
        .arg(&root)
        .output()
        .expect("it starts");
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("nothing was changed"));
    assert_eq!(fs::read_dir(&root).expect("the folder").count(), 1);
    // Its own folder is laid out again.
    let own = install("again");
    succeed(Command::new(COMMAND).arg("install").arg(&own));
    let moved = Command::new(COMMAND)
        .args(["install", "--nonsense"])
        .output()
        .expect("it starts");
    assert!(!moved.status.success());
}
