//! The committed headers and generated files against the facts, and the headers against C and C++ compilers.
//! Knows the generator's rooms that need no libclang; the one that does is compiled in with the feature `bindgen`.

#[path = "../generate/facts.rs"]
mod facts;
#[path = "../generate/headers.rs"]
mod headers;
#[path = "../generate/layout.rs"]
mod layout;
#[path = "../generate/stamp.rs"]
mod stamp;

#[cfg(feature = "bindgen")]
#[path = "../generate/bindings.rs"]
mod bindings;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use facts::{Facts, FieldFact, Kind, Literal};

fn home() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn facts() -> Facts {
    Facts::read(&home().join("abi")).expect("the facts can be read")
}

fn committed() -> BTreeMap<String, String> {
    let root = home().join("headers");
    let mut folders = vec![root.clone()];
    let mut found = BTreeMap::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)
            .expect("a folder of headers")
            .flatten()
        {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "h") {
                let name = path
                    .strip_prefix(&root)
                    .expect("below the root")
                    .to_string_lossy()
                    .into_owned();
                found.insert(name, fs::read_to_string(&path).expect("a header"));
            }
        }
    }
    found
}

#[test]
fn committed_headers_are_what_the_facts_say() {
    let (made, committed) = (headers::headers(&facts()), committed());
    let names = |map: &BTreeMap<String, String>| map.keys().cloned().collect::<BTreeSet<_>>();
    assert_eq!(names(&made), names(&committed));
    for (name, text) in &made {
        assert_eq!(
            committed.get(name),
            Some(text),
            "{name} is stale: run the binary `generate`"
        );
    }
}

#[test]
fn generated_files_carry_the_stamp_of_the_headers() {
    let stamp = format!(
        "// headers: {}\n",
        stamp::stamp(&headers::headers(&facts()))
    );
    for name in ["types.rs", "functions.rs"] {
        let text =
            fs::read_to_string(home().join("src/generated").join(name)).expect("a generated file");
        assert!(
            text.contains(&stamp),
            "{name} is stale: run the binary `generate`"
        );
    }
    let checks =
        fs::read_to_string(home().join("tests/generated/layout.rs")).expect("a generated file");
    assert!(
        checks == layout::checks(&facts()),
        "tests/generated/layout.rs is stale: run the binary `generate`"
    );
}

#[test]
fn every_function_of_the_facts_has_a_marker() {
    let mut expected = BTreeMap::new();
    for fact in facts().functions {
        let kind = match fact.kind {
            _ if fact.from_documentation => ascend_sys::Kind::Documented,
            Kind::Core => ascend_sys::Kind::Core,
            Kind::Operator => ascend_sys::Kind::Operator,
            Kind::Auxiliary => ascend_sys::Kind::Auxiliary,
            Kind::NonPublic => ascend_sys::Kind::NonPublic,
        };
        let row = (
            kind,
            headers::header_of(&fact),
            fact.library_8_1.clone(),
            fact.library_newest.clone(),
        );
        if fact.kind == Kind::Operator {
            expected.insert(format!("{}GetWorkspaceSize", fact.name), row.clone());
        }
        expected.insert(fact.name, row);
    }
    let owned = |library: Option<&str>| library.map(str::to_owned);
    let mut known = BTreeMap::new();
    for info in ascend_sys::FUNCTIONS {
        let libraries = (owned(info.library_8_1), owned(info.library_newest));
        let row = (info.kind, info.header.to_owned(), libraries.0, libraries.1);
        known.insert(info.name.to_string_lossy().into_owned(), row);
    }
    assert_eq!(known.len(), ascend_sys::FUNCTION_COUNT);
    assert!(
        known == expected,
        "src/generated/functions.rs is stale: run the binary `generate`"
    );
}

/// A C (or C++) program that includes every header and states every layout and value as an assertion.
fn program(facts: &Facts, assertion: &str, newest: bool) -> String {
    let mut text = String::new();
    for path in headers::headers(facts).keys() {
        let _ = writeln!(text, "#include \"{path}\"");
    }
    let mut state = |condition: String| {
        let _ = writeln!(
            text,
            "{assertion}({condition}, \"{}\");",
            condition.replace('"', "'")
        );
    };
    for record in &facts.records {
        let layout =
            if newest { record.newest.as_ref() } else { None }.unwrap_or_else(|| record.declared());
        state(format!("sizeof({}) == {}", record.name, layout.size));
        state(format!(
            "{}({}) == {}",
            if assertion.starts_with('_') {
                "_Alignof"
            } else {
                "alignof"
            },
            record.name,
            layout.align
        ));
        state_fields(&record.name, &layout.fields, "", 0, &mut state);
    }
    for member in facts.enums.iter().flat_map(|one| &one.members) {
        let value = member.newest.filter(|_| newest).unwrap_or(member.value);
        state(format!("(long long){} == {value}", member.name));
    }
    for constant in facts
        .constants
        .iter()
        .filter(|constant| constant.c_type.is_none())
    {
        let value = constant
            .newest
            .as_ref()
            .filter(|_| newest)
            .unwrap_or(&constant.value);
        if let Literal::Integer(value) = value {
            state(format!("(long long){} == {value}", constant.name));
        }
    }
    text.push_str("int main(void) { return 0; }\n");
    text
}

fn state_fields(
    record: &str,
    list: &[FieldFact],
    path: &str,
    base: u64,
    state: &mut dyn FnMut(String),
) {
    for field in list {
        let at = base + field.offset;
        let path = if field.name.is_empty() {
            path.to_owned()
        } else {
            format!("{path}{}", field.name)
        };
        if !field.name.is_empty() {
            state(format!("offsetof({record}, {path}) == {at}"));
            state(format!("sizeof((({record} *)0)->{path}) == {}", field.size));
        }
        let inner = if field.name.is_empty() {
            path
        } else {
            format!("{path}.")
        };
        state_fields(record, &field.fields, &inner, at, state);
    }
}

fn compile(compiler: &str, name: &str, text: &str, arguments: &[&str]) {
    let source: PathBuf = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::write(&source, text).expect("the source can be written");
    let mut command = Command::new(compiler);
    command
        .args(["-fsyntax-only", "-Wall", "-Wextra", "-Werror", "-I"])
        .arg(home().join("headers"));
    match command.args(arguments).arg(&source).output() {
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            let head: String = said.lines().take(20).collect::<Vec<_>>().join("\n");
            assert!(output.status.success(), "{compiler} on {name}:\n{head}");
        }
        Err(_) => eprintln!("skipped: {compiler} not found"),
    }
}

#[test]
fn headers_compile_as_c_and_state_the_facts() {
    compile(
        "gcc",
        "every.c",
        &program(&facts(), "_Static_assert", false),
        &["-std=c11"],
    );
    compile(
        "gcc",
        "newest.c",
        &program(&facts(), "_Static_assert", true),
        &["-std=c11", "-DASCEND_ABI_NEWEST"],
    );
}

#[test]
fn headers_compile_as_cpp_and_state_the_facts() {
    compile(
        "g++",
        "every.cpp",
        &program(&facts(), "static_assert", false),
        &["-std=c++14"],
    );
}

#[test]
fn each_header_stands_alone() {
    for compiler in ["gcc", "g++"] {
        let language = if compiler == "gcc" { "c" } else { "c++" };
        for path in [
            "acl/acl.h",
            "aclnnop/aclnn_add.h",
            "hccl/hccl.h",
            "acl/acl_prof.h",
            "aclnn/opdev/op_errno.h",
        ] {
            let text = format!("#include \"{path}\"\nint main(void) {{ return 0; }}\n");
            let name = path
                .replace('/', "_")
                .replace(".h", if language == "c" { ".c" } else { ".cpp" });
            compile(compiler, &name, &text, &["-x", language]);
        }
    }
}

#[cfg(feature = "bindgen")]
#[test]
fn committed_bindings_are_what_bindgen_makes() {
    let facts = facts();
    let stamp = stamp::stamp(&headers::headers(&facts));
    let made = match bindings::bindings(&home().join("headers"), &facts, &stamp) {
        Err(bindings::BindingsError::Libclang(why)) => {
            eprintln!("skipped: libclang not found: {why}");
            return;
        }
        made => made.expect("bindgen reads the headers"),
    };
    for (name, text) in made {
        let committed =
            fs::read_to_string(home().join("src/generated").join(name)).expect("a generated file");
        assert!(
            text == committed,
            "{name} is stale: run the binary `generate`"
        );
    }
}
