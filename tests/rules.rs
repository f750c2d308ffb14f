//! The 'never' rules of DESIGN.md, read from the sources.

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file below a folder, with its path relative to the workspace.
fn sources(folder: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut waiting = vec![root().join(folder)];
    while let Some(path) = waiting.pop() {
        let Ok(entries) = fs::read_dir(&path) else {
            continue;
        };
        for entry in entries.flatten() {
            let path = entry.path();
            if path.is_dir() && path.file_name().is_none_or(|name| name != "target") {
                waiting.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap_or_default();
                let name = path
                    .strip_prefix(root())
                    .unwrap_or(&path)
                    .to_string_lossy()
                    .into_owned();
                found.push((name, text));
            }
        }
    }
    assert!(!found.is_empty(), "no sources in {folder}");
    found.sort();
    found
}

fn generated(name: &str, text: &str) -> bool {
    name.contains("/generated/")
        || name.contains("/shims/")
        || text.lines().take(3).any(|line| line.contains("@generated"))
}

/// The code of a file without comments and without its unit tests.
fn code(text: &str) -> String {
    let body = text.split("#[cfg(test)]\nmod tests").next().unwrap_or(text);
    let line = |line: &str| line.split("//").next().unwrap_or(line).to_string();
    body.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// Rooms and the crate paths that they must not name.
const WALLS: &[(&str, &[&str])] = &[
    (
        "src/cpu",
        &[
            "crate::ascend",
            "crate::ops",
            "crate::tensor",
            "crate::autograd",
            "crate::dispatch",
        ],
    ),
    (
        "src/ascend",
        &[
            "crate::ops",
            "crate::autograd",
            "crate::nn",
            "crate::dispatch",
            "crate::tensor",
            "crate::cpu",
        ],
    ),
    ("src/ops", &["Storage", "crate::storage"]),
    ("sys/src", &["ascend_tensor", "ascend_emulator"]),
    ("sys/emulator/src", &["ascend_tensor"]),
];

#[test]
fn rooms_do_not_look_through_walls() {
    for (room, forbidden) in WALLS {
        for (name, text) in sources(room) {
            let code = code(&text);
            for word in *forbidden {
                assert!(!code.contains(word), "{name} names {word}");
            }
        }
    }
}

#[test]
fn unsafe_only_where_the_design_says() {
    let rooms = [
        "src/ascend/",
        "src/cpu/",
        "src/storage.rs",
        "src/io/mmap.rs",
    ];
    for (name, text) in sources("src") {
        let named = code(&text).split_whitespace().any(|word| word == "unsafe");
        assert!(
            !named || rooms.iter().any(|room| name.starts_with(room)),
            "{name} has unsafe code"
        );
    }
}

#[test]
fn files_and_functions_stay_short() {
    for folder in ["src", "sys/src", "sys/emulator/src", "tests", "examples"] {
        for (name, text) in sources(folder) {
            if generated(&name, &text) {
                continue;
            }
            assert!(
                text.lines().count() <= 600,
                "{name} has {} lines",
                text.lines().count()
            );
            for (start, length) in functions(&text) {
                assert!(length <= 80, "{name}:{start}: a function of {length} lines");
            }
        }
    }
}

/// The first line and the length of every function, by the indentation of its braces.
fn functions(text: &str) -> Vec<(usize, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let starts = |line: &str| {
        let line = line.trim_start();
        [
            "fn ",
            "pub fn ",
            "pub(crate) fn ",
            "pub(super) fn ",
            "unsafe fn ",
            "pub unsafe fn ",
        ]
        .iter()
        .any(|start| line.starts_with(start))
    };
    let mut found = Vec::new();
    for (index, line) in lines.iter().enumerate().filter(|(_, line)| starts(line)) {
        let indent = line.len() - line.trim_start().len();
        let closing = format!("{}}}", " ".repeat(indent));
        if line.trim_end().ends_with(';') || line.trim_end().ends_with('}') {
            continue;
        }
        if let Some(length) = lines[index..].iter().position(|line| *line == closing) {
            found.push((index + 1, length + 1));
        }
    }
    found
}

#[test]
fn every_file_says_what_it_knows() {
    for folder in ["src", "sys/src", "sys/emulator/src", "tests", "examples"] {
        for (name, text) in sources(folder) {
            assert!(
                text.starts_with("//!") || generated(&name, &text),
                "{name} does not begin with //!"
            );
        }
    }
}

#[test]
fn environment_is_read_in_one_place() {
    let readers: Vec<String> = sources("src")
        .into_iter()
        .filter(|(_, text)| code(text).contains("env::var"))
        .map(|(name, _)| name)
        .collect();
    assert!(
        readers.len() <= 1,
        "environment variables are read in {readers:?}"
    );
}

#[test]
fn the_library_does_not_print() {
    for (name, text) in sources("src") {
        for word in ["println!", "eprintln!", "dbg!", "todo!", "unimplemented!"] {
            assert!(!code(&text).contains(word), "{name} uses {word}");
        }
    }
}

#[test]
fn dtypes_are_listed_once() {
    let table = Path::new("src/dtype.rs");
    assert!(root().join(table).exists());
    for (name, text) in sources("src/ops") {
        let arms = code(&text).matches("DType::F64 =>").count();
        assert!(
            arms == 0,
            "{name} matches on every dtype by hand; use with_lane! or with_float!"
        );
    }
}
