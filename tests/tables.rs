//! The tables in the documentation, built from the catalog and the methods' own documentation, and what they promise: every
//! kernel that an op can start is one that the emulator has.
//!
//! `ASCEND_TENSOR_BLESS=1` writes the tables anew; without it, a table that is not up to date fails.

#[path = "tables/kernels.rs"]
mod kernels;
#[path = "tables/names.rs"]
mod names;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Once;

use ascend_tensor::{DType, Device, Result, Tensor, ascend, catalog, host_fallback, trace};

/// Gives the process its NPU: the emulator.
fn emulator() {
    static INSTALL: Once = Once::new();
    INSTALL.call_once(|| {
        let api = ascend_sys::Api::from_resolver("ascend-emulator", ascend_emulator::resolve);
        ascend::install(api).unwrap_or_else(|error| panic!("{error}"));
    });
}

/// A path of the project.
fn path(relative: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(relative)
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The Rust files below a folder, sorted.
fn sources(folder: &str) -> Vec<PathBuf> {
    let (mut found, mut waiting) = (Vec::new(), vec![path(folder)]);
    while let Some(folder) = waiting.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            match entry.path() {
                path if path.is_dir() => waiting.push(path),
                path if path.extension().is_some_and(|end| end == "rs") => found.push(path),
                _ => {}
            }
        }
    }
    found.sort();
    found
}

/// Compares a table with its file, or writes it.
fn check(file: &str, table: &str) {
    let file = path(file);
    if std::env::var_os("ASCEND_TENSOR_BLESS").is_some() {
        std::fs::write(&file, table).unwrap_or_else(|error| panic!("{error}"));
    }
    let old = read(&file);
    let differs = old.lines().zip(table.lines()).find(|(old, new)| old != new);
    assert!(
        old == table,
        "{} is not up to date (run with ASCEND_TENSOR_BLESS=1), first at {differs:?}",
        file.display()
    );
}

/// The lines of `aclnn!` as function and kernel: `add` and `aclnnAdd`.
fn declared() -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for path in sources("src/ascend/aclnn") {
        for line in read(&path).lines() {
            let Some((name, rest)) = line.trim().split_once(" = aclnn") else {
                continue;
            };
            if let Some((_, second)) = rest.split_once(", ") {
                let kernel = second.split('(').next().unwrap_or_default();
                found.insert(name.to_string(), kernel.to_string());
            }
        }
    }
    found
}

/// The kernels that the rooms, and the launches themselves, name.
fn used() -> BTreeSet<String> {
    let declared = declared();
    assert!(
        declared.len() > 150,
        "only {} kernels are declared",
        declared.len()
    );
    let mut found = BTreeSet::new();
    let files = sources("src/ops")
        .into_iter()
        .chain([path("src/ascend/launch.rs")]);
    for path in files {
        let text = read(&path);
        for after in text.split("aclnn::").skip(1) {
            let end = after.find(|c: char| !c.is_alphanumeric() && c != '_');
            let name = after.get(..end.unwrap_or(after.len())).unwrap_or_default();
            found.extend(declared.get(name).cloned());
        }
    }
    found
}

#[test]
fn the_emulator_has_every_kernel_that_ops_use() {
    let emulated = ascend_emulator::supported_ops();
    let lacking: Vec<String> = used()
        .into_iter()
        .chain(catalog().flat_map(|op| op.kernels.iter().map(ToString::to_string)))
        .filter(|kernel| !emulated.contains(&kernel.as_str()))
        .collect();
    assert!(lacking.is_empty(), "the emulator lacks {lacking:?}");
}

#[test]
fn the_table_of_kernels_is_up_to_date() {
    check("src/docs/kernels.md", &kernels::table());
}

#[test]
fn the_table_of_names_is_up_to_date() {
    check("src/docs/names.md", &names::table());
}

#[test]
fn a_trace_tells_calls_kernels_and_fallbacks() -> Result<()> {
    emulator();
    let npu = Device::ascend(0);
    let x = Tensor::new([[1.0f32, -2.0]]).to_device(npu)?;
    let ((), inner) = trace(|| ());
    assert!(inner.ops.is_empty());
    let (y, seen) = trace(|| x.add(&x)?.softplus(()));
    assert_eq!(y?.dims(), [1, 2]);
    let ops: Vec<_> = seen
        .called()
        .map(|op| (op.op, op.device, op.kernels.len()))
        .collect();
    assert_eq!(ops, [("add", npu, 1), ("softplus", npu, 1)]);
    assert_eq!(
        seen.called().next().map(|op| op.kernels.clone()),
        Some(vec!["aclnnAdd"])
    );
    assert!(seen.launches() == 2 && seen.calls() >= 12, "{seen}");
    assert!(
        seen.to_string()
            .starts_with("add f32[1, 2] f32[1, 2] -> f32[1, 2] on ascend:0: "),
        "{seen}"
    );
    let wide = x.to_dtype(DType::F64)?;
    let (failed, seen) = trace(|| wide.erfinv());
    assert!(
        failed.is_err() && seen.ops.first().is_some_and(|op| op.failed),
        "{seen}"
    );
    let (host, seen) = trace(|| host_fallback(|| wide.erfinv()));
    assert_eq!(host?.device(), npu);
    assert_eq!(
        seen.called().next().map(|op| op.fallbacks),
        Some(1),
        "{seen}"
    );
    Ok(())
}
