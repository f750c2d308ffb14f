//! The Rust bindings, made by bindgen from C headers and converted to the form that this crate offers.
//! Knows bindgen and the shape of its output; knows nothing of how functions are found at run time.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use bindgen::callbacks::{EnumVariantValue, IntKind, ParseCallbacks};
use quote::{ToTokens, format_ident};
use syn::{
    Fields, FnArg, ForeignItem, GenericArgument, Item, PathArguments, ReturnType, Type, parse_quote,
};

use crate::facts::{Facts, FunctionFact, Kind};
use crate::headers::header_of;

/// The generated Rust files: name and text.
pub type Files = BTreeMap<&'static str, String>;

/// Why no bindings could be made.
#[derive(Debug, thiserror::Error)]
pub enum BindingsError {
    /// libclang is not on this machine, or not where the loader or `LIBCLANG_PATH` points.
    #[error("libclang not found: {0}")]
    Libclang(String),
    /// bindgen refused the headers.
    #[error("bindgen failed on {root}: {source}")]
    Bindgen {
        root: PathBuf,
        source: bindgen::BindgenError,
    },
    /// The output of bindgen is not what the converter expects.
    #[error("cannot parse the output of bindgen: {0}")]
    Syntax(#[from] syn::Error),
    /// A folder could not be read.
    #[error("cannot list headers: {0}")]
    List(#[from] io::Error),
}

#[derive(Debug)]
struct Names;

impl ParseCallbacks for Names {
    /// Error codes that C declares as macros have the type of the functions that return them.
    fn int_macro(&self, name: &str, value: i64) -> Option<IntKind> {
        let error = name.starts_with("ACL_ERROR_") || name == "ACL_RT_SUCCESS";
        (error && i32::try_from(value).is_ok()).then_some(IntKind::I32)
    }

    /// Members of `Reduction` are plain words (`None`), so they keep the name of their enum.
    fn enum_variant_name(
        &self,
        name: Option<&str>,
        member: &str,
        _: EnumVariantValue,
    ) -> Option<String> {
        name.filter(|name| name.ends_with("Reduction"))
            .map(|_| format!("Reduction_{member}"))
    }
}

/// Makes the bindings of all headers below `root`.
pub fn bindings(root: &Path, facts: &Facts, stamp: &str) -> Result<Files, BindingsError> {
    if !clang_sys::is_loaded() {
        clang_sys::load().map_err(BindingsError::Libclang)?;
    }
    let mut wrapper = String::new();
    for path in list(root)? {
        let _ = writeln!(wrapper, "#include \"{path}\"");
    }
    let text = bindgen::Builder::default()
        .header_contents("all_headers.h", &wrapper)
        .clang_arg(format!("-I{}", root.display()))
        .clang_arg(format!("-I{}", root.join("aclnn").display()))
        .clang_args(language(root))
        .clang_args(compiler_headers())
        .parse_callbacks(Box::new(Names))
        .allowlist_file(format!("{}/.*", root.display()))
        .default_enum_style(bindgen::EnumVariation::Consts)
        .prepend_enum_name(false)
        .translate_enum_integer_types(true)
        .generate_cstr(true)
        .layout_tests(false)
        .use_core()
        .formatter(bindgen::Formatter::None)
        .generate()
        .map_err(|source| BindingsError::Bindgen {
            root: root.to_owned(),
            source,
        })?
        .to_string();
    convert(&text, facts, stamp)
}

/// The headers of an installed toolkit are written for C++ compilers (`<cstdint>`); this crate's own are C.
fn language(root: &Path) -> &'static [&'static str] {
    if is_installed(root) {
        &["-xc++", "-std=c++17"]
    } else {
        &["-xc"]
    }
}

/// Whether the folder is a toolkit's and not this crate's, which alone has a folder for functions outside the public headers.
fn is_installed(root: &Path) -> bool {
    !root.join("nonpublic").is_dir()
}

/// A libclang without headers of its own (`stddef.h`, `stdbool.h`) borrows those of the C compiler.
fn compiler_headers() -> Vec<String> {
    let answer = Command::new("cc").arg("-print-file-name=include").output();
    let folder = answer.map(|answer| String::from_utf8_lossy(&answer.stdout).trim().to_owned());
    match folder {
        Ok(folder) if Path::new(&folder).is_dir() => vec!["-idirafter".to_owned(), folder],
        _ => Vec::new(),
    }
}

/// The headers to bind, relative to the include folder; of an installed toolkit without
/// its C++ internals and the headers that only include all others, some of which no toolkit has.
fn list(root: &Path) -> io::Result<Vec<String>> {
    let mut found = Vec::new();
    for folder in [
        "acl",
        "acl/error_codes",
        "acl/ops",
        "aclnn",
        "aclnn/opdev",
        "aclnnop",
        "aclnnop/level2",
        "hccl",
        "nonpublic",
    ] {
        let Ok(entries) = fs::read_dir(root.join(folder)) else {
            continue;
        };
        for entry in entries {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if name.ends_with(".h") {
                found.push(format!("{folder}/{name}"));
            }
        }
    }
    let installed = is_installed(root);
    found.retain(|path| {
        !(installed
            && ["opdev/", "acl_tdt", "dvpp", "/aclnn_ops_"]
                .iter()
                .any(|part| path.contains(part)))
    });
    found.sort();
    Ok(found)
}

fn convert(text: &str, facts: &Facts, stamp: &str) -> Result<Files, BindingsError> {
    let file = syn::parse_file(text)?;
    let mut functions: BTreeMap<String, String> = BTreeMap::new();
    let mut kept: Vec<Item> = Vec::new();
    for item in file.items {
        match item {
            Item::ForeignMod(block) => {
                for function in block.items {
                    if let ForeignItem::Fn(function) = function {
                        functions.insert(function.sig.ident.to_string(), pointer(&function.sig));
                    }
                }
            }
            Item::Struct(mut record) if record.ident != "__IncompleteArrayField" => {
                convert_record(&mut record);
                kept.push(Item::Struct(record));
            }
            Item::Struct(_) => {}
            Item::Impl(block)
                if block
                    .self_ty
                    .to_token_stream()
                    .to_string()
                    .contains("__IncompleteArrayField") => {}
            other => kept.push(other),
        }
    }
    let mut types =
        String::from("// Generated by the `generate` binary of this crate; do not edit.\n");
    let _ = writeln!(types, "// headers: {stamp}\n");
    types.push_str(&prettyplease::unparse(&syn::File {
        shebang: None,
        attrs: Vec::new(),
        items: kept,
    }));
    Ok(Files::from([
        ("types.rs", types),
        ("functions.rs", function_table(&functions, facts, stamp)),
    ]))
}

/// Opaque structs become types that cannot be made, copied or moved to another thread; a flexible array becomes an empty one.
fn convert_record(record: &mut syn::ItemStruct) {
    let Fields::Named(fields) = &mut record.fields else {
        return;
    };
    if fields
        .named
        .iter()
        .any(|field| field.ident.as_ref().is_some_and(|name| name == "_unused"))
    {
        record
            .attrs
            .retain(|attribute| !attribute.path().is_ident("derive"));
        record.attrs.push(parse_quote!(#[derive(Debug)]));
        record.fields = Fields::Named(parse_quote!({
            _private: [u8; 0],
            _marker: ::core::marker::PhantomData<(*mut u8, ::core::marker::PhantomPinned)>,
        }));
        return;
    }
    for field in &mut fields.named {
        if let Some(element) = incomplete_array(&field.ty) {
            field.ty = parse_quote!([#element; 0]);
            record
                .attrs
                .retain(|attribute| !attribute.path().is_ident("derive"));
            record
                .attrs
                .push(parse_quote!(#[derive(Debug, Copy, Clone)]));
        }
    }
}

fn incomplete_array(of: &Type) -> Option<Type> {
    let Type::Path(path) = of else { return None };
    let last = path
        .path
        .segments
        .last()
        .filter(|last| last.ident == "__IncompleteArrayField")?;
    let PathArguments::AngleBracketed(arguments) = &last.arguments else {
        return None;
    };
    match arguments.args.first()? {
        GenericArgument::Type(element) => Some(element.clone()),
        _ => None,
    }
}

/// The type of a pointer to a function, as text on one line.
fn pointer(signature: &syn::Signature) -> String {
    let mut parameters = Vec::new();
    for (at, argument) in signature.inputs.iter().enumerate() {
        if let FnArg::Typed(argument) = argument {
            let name = match &*argument.pat {
                syn::Pat::Ident(name) => name.ident.clone(),
                _ => format_ident!("arg{}", at),
            };
            parameters.push(format!(
                "{name}: {}",
                tidy(&argument.ty.to_token_stream().to_string())
            ));
        }
    }
    if signature.variadic.is_some() {
        parameters.push("...".to_owned());
    }
    let returns = match &signature.output {
        ReturnType::Default => String::new(),
        ReturnType::Type(_, of) => format!(" -> {}", tidy(&of.to_token_stream().to_string())),
    };
    format!("unsafe extern \"C\" fn({}){returns}", parameters.join(", "))
}

/// Removes the spaces that the printer of tokens puts between all of them.
fn tidy(tokens: &str) -> String {
    [
        (":: core :: ffi :: ", "core::ffi::"),
        (" :: ", "::"),
        (":: ", "::"),
        ("* mut ", "*mut "),
        ("* const ", "*const "),
        (" < ", "<"),
        (" >", ">"),
        (" ;", ";"),
        (" (", "("),
        (" ,", ","),
        (" :", ":"),
    ]
    .iter()
    .fold(tokens.to_owned(), |text, (from, to)| text.replace(from, to))
}

fn function_table(functions: &BTreeMap<String, String>, facts: &Facts, stamp: &str) -> String {
    let known = |name: &str| -> Option<&FunctionFact> {
        let first = name.strip_suffix("GetWorkspaceSize").unwrap_or(name);
        let fact = facts.functions.iter().find(|fact| fact.name == name);
        fact.or_else(|| {
            facts
                .functions
                .iter()
                .find(|fact| fact.kind == Kind::Operator && fact.name == first)
        })
    };
    let mut text =
        String::from("// Generated by the `generate` binary of this crate; do not edit.\n");
    let _ = writeln!(text, "// headers: {stamp}\n\nfunctions! {{");
    for (index, (name, pointer)) in functions.iter().enumerate() {
        let fact = known(name);
        let library = |name: Option<&String>| match name {
            Some(name) => format!("Some(\"{name}\")"),
            None => "None".to_owned(),
        };
        let header = fact.map_or_else(|| "an installed header".to_owned(), header_of);
        let kind = match fact {
            Some(fact) if fact.from_documentation => "Documented",
            Some(fact) => match fact.kind {
                Kind::Core => "Core",
                Kind::Operator => "Operator",
                Kind::Auxiliary => "Auxiliary",
                Kind::NonPublic => "NonPublic",
            },
            None => "Unlisted",
        };
        let older = library(fact.and_then(|fact| fact.library_8_1.as_ref()));
        let newest = library(fact.and_then(|fact| fact.library_newest.as_ref()));
        let _ = writeln!(
            text,
            "    {index} {name} c\"{name}\" \"{header}\" {kind} {older}, {newest} => {pointer};"
        );
    }
    text.push_str("}\n");
    text
}
