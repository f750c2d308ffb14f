//! The C headers of this crate, written from the facts.
//! Knows where a declaration belongs and in which order headers and declarations may stand; knows nothing of Rust bindings.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use crate::facts::{
    ConstantFact, EnumFact, Facts, FieldFact, FunctionFact, Kind, LayoutFact, Literal, RecordFact,
};

/// Headers in the order in which they build on each other; operator headers come after all of these.
const ORDER: &[&str] = &[
    "acl/error_codes/ge_error_codes.h",
    "acl/error_codes/rt_error_codes.h",
    "acl/acl_base_rt.h",
    "acl/acl_base.h",
    "acl/acl_rt.h",
    "acl/acl_rt_allocator.h",
    "acl/acl_rt_memory_soma.h",
    "acl/acl_mdl.h",
    "acl/acl_op.h",
    "acl/acl_op_compiler.h",
    "acl/acl_prof.h",
    "acl/acl_dump.h",
    "acl/acl_platform.h",
    "acl/acl.h",
    "acl/ops/acl_cblas.h",
    "aclnn/acl_meta.h",
    "aclnn/aclnn_base.h",
    "aclnn/opdev/op_errno.h",
    "hccl/hccl_types.h",
    "hccl/hccl_comm.h",
    "hccl/hccl.h",
];

/// What a header includes besides the homes of the types that it uses.
const INCLUDES: &[(&str, &[&str])] = &[
    (
        "acl/acl_base.h",
        &[
            "acl/error_codes/ge_error_codes.h",
            "acl/error_codes/rt_error_codes.h",
            "acl/acl_base_rt.h",
        ],
    ),
    ("acl/acl_rt.h", &["acl/acl_base.h"]),
    ("acl/acl_mdl.h", &["acl/acl_rt.h"]),
    (
        "acl/acl.h",
        &["acl/acl_rt.h", "acl/acl_mdl.h", "acl/acl_op.h"],
    ),
    ("acl/ops/acl_cblas.h", &["acl/acl.h"]),
    ("aclnn/acl_meta.h", &["acl/acl_base.h"]),
    ("aclnn/aclnn_base.h", &["aclnn/acl_meta.h"]),
    ("hccl/hccl_types.h", &["acl/acl_base.h"]),
    ("hccl/hccl.h", &["hccl/hccl_types.h", "hccl/hccl_comm.h"]),
];

/// What programs use of a header that is neither a symbol nor a type: its macros with arguments and functions that it defines,
/// with the system's header that they need.
const WRITTEN: &[(&str, Option<&str>, &str)] = &[
    ("acl/acl_base.h", None, APP_LOG),
    ("hccl/hccl.h", Some("string.h"), COMM_CONFIG_INIT),
];

const APP_LOG: &str = r#"#ifndef ACL_FUNC_VISIBILITY
#define ACL_FUNC_VISIBILITY __attribute__((visibility("default")))
#endif
#ifndef ACL_DEPRECATED_MESSAGE
#define ACL_DEPRECATED_MESSAGE(message) __attribute__((deprecated(message)))
#endif
/** aclAppLog with the place where it stands; the format and its arguments follow the level. */
#define ACL_APP_LOG(level, ...) aclAppLog(level, __func__, __FILE__, __LINE__, __VA_ARGS__)
"#;

const COMM_CONFIG_INIT: &str = r"/** Marks a configuration as made for this version, with everything left to the defaults. */
static inline void HcclCommConfigInit(HcclCommConfig *config) {
    struct {
        size_t size;
        uint32_t magicWord;
        uint32_t version;
        uint64_t reserved;
    } head = {sizeof(HcclCommConfig), HCCL_COMM_CONFIG_MAGIC_WORD, HCCL_COMM_CONFIG_VERSION, 0};
    if (config == NULL) {
        return;
    }
    memset(config, 0, sizeof *config);
    memcpy(config->reserved, &head, sizeof head);
    config->hcclBufferSize = HCCL_COMM_BUFFSIZE_CONFIG_NOT_SET;
    config->hcclDeterministic = HCCL_COMM_DETERMINISTIC_CONFIG_NOT_SET;
    config->hcclOpExpansionMode = HCCL_COMM_DEFAULT_OP_EXPANSION_MODE;
    config->hcclRdmaTrafficClass = HCCL_COMM_TRAFFIC_CLASS_CONFIG_NOT_SET;
    config->hcclRdmaServiceLevel = HCCL_COMM_SERVICE_LEVEL_CONFIG_NOT_SET;
#ifdef ASCEND_ABI_NEWEST
    config->hcclExecTimeOut = HCCL_COMM_EXECTIMEOUT_CONFIG_NOT_SET;
    config->hcclQos = HCCL_COMM_QOS_CONFIG_NOT_SET;
#endif
}
";

/// The header of what no public header declares.
const NON_PUBLIC: &str = "nonpublic/nnopbase.h";

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Macro,
    Type,
    Constant,
    Function,
}

struct Item {
    name: String,
    header: String,
    stage: Stage,
    text: String,
    uses: BTreeSet<String>,
}

/// The header that declares a function: the one of the table, else one of the same form.
pub fn header_of(function: &FunctionFact) -> String {
    match function.header.as_str() {
        "-" => NON_PUBLIC.to_owned(),
        "aclnnop/?" => {
            let mut name = String::from("aclnnop/aclnn");
            for letter in function.name.trim_start_matches("aclnn").chars() {
                if letter.is_ascii_uppercase() {
                    name.push('_');
                }
                name.push(letter.to_ascii_lowercase());
            }
            name + ".h"
        }
        known => known.to_owned(),
    }
}

/// All headers: path below the include folder, and text.
pub fn headers(facts: &Facts) -> BTreeMap<String, String> {
    let mut items = type_items(facts);
    items.extend(facts.constants.iter().map(constant_item));
    items.extend(facts.functions.iter().flat_map(function_items));
    let types: BTreeSet<String> = items
        .iter()
        .filter(|item| item.stage == Stage::Type)
        .map(|item| item.name.clone())
        .collect();
    for item in &mut items {
        item.uses = words(&item.text)
            .filter(|word| types.contains(*word) && *word != item.name)
            .map(str::to_owned)
            .collect();
    }
    hoist(&mut items);
    let homes: BTreeMap<String, String> = items
        .iter()
        .filter(|item| item.stage == Stage::Type)
        .map(|item| (item.name.clone(), item.header.clone()))
        .collect();
    let mut paths: BTreeSet<&str> = ORDER.iter().copied().collect();
    paths.extend(items.iter().map(|item| item.header.as_str()));
    paths
        .into_iter()
        .map(|path| {
            let own: Vec<&Item> = items.iter().filter(|item| item.header == path).collect();
            (path.to_owned(), header(path, &own, &homes))
        })
        .collect()
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_')
        .filter(|word| !word.is_empty())
}

fn rank(header: &str) -> usize {
    ORDER
        .iter()
        .position(|known| *known == header)
        .unwrap_or(ORDER.len())
}

/// Moves a type that an earlier header needs into that header, until nothing moves.
fn hoist(items: &mut [Item]) {
    loop {
        let mut wanted: BTreeMap<String, String> = BTreeMap::new();
        let homes: BTreeMap<&str, &str> = items
            .iter()
            .filter(|item| item.stage == Stage::Type)
            .map(|item| (item.name.as_str(), item.header.as_str()))
            .collect();
        for item in items.iter() {
            for used in &item.uses {
                let home = wanted
                    .get(used)
                    .map(String::as_str)
                    .or(homes.get(used.as_str()).copied());
                if home.is_some_and(|home| rank(home) > rank(&item.header)) {
                    wanted.insert(used.clone(), item.header.clone());
                }
            }
        }
        if wanted.is_empty() {
            return;
        }
        for item in items.iter_mut().filter(|item| item.stage == Stage::Type) {
            if let Some(header) = wanted.get(&item.name) {
                item.header.clone_from(header);
            }
        }
    }
}

fn header(path: &str, items: &[&Item], homes: &BTreeMap<String, String>) -> String {
    let mut guard = String::from("ASCEND_SYS_");
    guard.extend(path.chars().map(|letter| {
        if letter.is_ascii_alphanumeric() {
            letter.to_ascii_uppercase()
        } else {
            '_'
        }
    }));
    let mut includes: BTreeSet<&str> = BTreeSet::new();
    for (header, fixed) in INCLUDES {
        if *header == path {
            includes.extend(fixed.iter().copied());
        }
    }
    if path.starts_with("aclnnop/") || path == NON_PUBLIC {
        includes.insert("aclnn/aclnn_base.h");
    }
    // Operators that communicate bring HCCL's declarations along, as the installed ones do: their callers make communicators.
    if path.starts_with("aclnnop/") && items.iter().any(|item| item.text.contains("char *group")) {
        includes.insert("hccl/hccl.h");
    }
    for used in items.iter().flat_map(|item| &item.uses) {
        includes.extend(
            homes
                .get(used)
                .map(String::as_str)
                .filter(|home| *home != path),
        );
    }
    let mut text = String::from("/* Generated from the facts in sys/abi; do not edit. */\n");
    let _ = write!(text, "#ifndef {guard}\n#define {guard}\n\n");
    text.push_str("#include <stdbool.h>\n#include <stddef.h>\n#include <stdint.h>\n");
    let written = WRITTEN.iter().find(|(header, ..)| *header == path);
    if let Some((_, Some(system), _)) = written {
        let _ = writeln!(text, "#include <{system}>");
    }
    for include in includes {
        let _ = writeln!(text, "#include \"{include}\"");
    }
    text.push_str("\n#ifdef __cplusplus\nextern \"C\" {\n#endif\n\n");
    for stage in [Stage::Macro, Stage::Type, Stage::Constant, Stage::Function] {
        let mut left: Vec<&&Item> = items.iter().filter(|item| item.stage == stage).collect();
        if stage == Stage::Type {
            left = ordered(&left);
        }
        for item in left {
            text.push_str(&item.text);
        }
    }
    text.extend(written.map(|(.., body)| *body));
    let _ = write!(
        text,
        "\n#ifdef __cplusplus\n}}\n#endif\n\n#endif /* {guard} */\n"
    );
    text
}

/// The types of one header, each after the ones that it uses.
fn ordered<'a, 'b>(items: &[&'a &'b Item]) -> Vec<&'a &'b Item> {
    let mut left = items.to_vec();
    let mut done = Vec::with_capacity(left.len());
    while !left.is_empty() {
        let names: BTreeSet<&str> = left.iter().map(|item| item.name.as_str()).collect();
        let (ready, waiting): (Vec<_>, Vec<_>) = left
            .iter()
            .copied()
            .partition(|item| item.uses.iter().all(|used| !names.contains(used.as_str())));
        if ready.is_empty() {
            done.extend(waiting);
            return done;
        }
        done.extend(ready);
        left = waiting;
    }
    done
}

fn since(newest_only: bool) -> &'static str {
    if newest_only {
        "/** Newest CANN only. */\n"
    } else {
        ""
    }
}

fn item(name: &str, header: &str, stage: Stage, text: String) -> Item {
    let (name, header) = (name.to_owned(), header.to_owned());
    Item {
        name,
        header,
        stage,
        text,
        uses: BTreeSet::new(),
    }
}

fn type_items(facts: &Facts) -> Vec<Item> {
    let mut items = Vec::new();
    for opaque in &facts.opaque {
        let name = &opaque.name;
        let text = format!(
            "{}typedef struct {name} {name};\n",
            since(opaque.newest_only)
        );
        items.push(item(name, &opaque.header, Stage::Type, text));
    }
    for fact in &facts.names {
        let declared = if fact.c_type.contains("(*)") {
            fact.c_type.replacen("(*)", &format!("(*{})", fact.name), 1)
        } else {
            declaration(&fact.c_type, &fact.name)
        };
        let text = format!("{}typedef {declared};\n", since(fact.newest_only));
        items.push(item(&fact.name, &fact.header, Stage::Type, text));
    }
    items.extend(facts.enums.iter().map(enum_item));
    items.extend(facts.records.iter().map(record_item));
    items
}

/// A declaration from a type that may end in array extents.
fn declaration(c_type: &str, name: &str) -> String {
    let (base, extents) = c_type.split_at(c_type.find('[').unwrap_or(c_type.len()));
    let space = if base.ends_with('*') { "" } else { " " };
    format!("{base}{space}{name}{extents}")
}

/// Two forms of a text that differs between the versions.
fn either(newest: &str, older: &str) -> String {
    format!("#ifdef ASCEND_ABI_NEWEST\n{newest}#else\n{older}#endif\n")
}

fn enum_item(fact: &EnumFact) -> Item {
    let mut text = format!("{}typedef enum {} {{\n", since(fact.newest_only), fact.name);
    for member in &fact.members {
        let line = |value: i64| format!("    {} = {value},\n", member.name);
        if member.newest_only && !fact.newest_only {
            text.push_str("    /** Newest CANN only. */\n");
        } else if member.removed {
            text.push_str("    /** CANN 8.1 only. */\n");
        }
        match member.newest {
            Some(newest) => text.push_str(&either(&line(newest), &line(member.value))),
            None => text.push_str(&line(member.value)),
        }
    }
    let _ = writeln!(text, "}} {};", fact.name);
    item(&fact.name, &fact.header, Stage::Type, text)
}

fn record_item(fact: &RecordFact) -> Item {
    let keyword = if fact.union { "union" } else { "struct" };
    let body = |layout: &LayoutFact| {
        let mut text = format!("typedef {keyword} {} {{\n", fact.name);
        fields(&layout.fields, 1, &mut text);
        let _ = writeln!(text, "}} {};", fact.name);
        text
    };
    let text = match fact.incompatible() {
        Some(newest) => either(&body(newest), &body(fact.declared())),
        None => body(fact.declared()),
    };
    let text = since(fact.newest_only).to_owned() + &text;
    item(&fact.name, &fact.header, Stage::Type, text)
}

fn fields(list: &[FieldFact], depth: usize, text: &mut String) {
    let indent = "    ".repeat(depth);
    for field in list {
        if field.c_type == "<anonymous union>" {
            let _ = writeln!(text, "{indent}union {{");
            fields(&field.fields, depth + 1, text);
            let space = if field.name.is_empty() { "" } else { " " };
            let _ = writeln!(text, "{indent}}}{space}{};", field.name);
        } else {
            let _ = writeln!(text, "{indent}{};", declaration(&field.c_type, &field.name));
        }
    }
}

fn constant_item(fact: &ConstantFact) -> Item {
    let line = |value: &Literal| {
        let value = match value {
            Literal::Text(text) => format!("\"{text}\""),
            Literal::Integer(value) if *value < 0 => format!("({value})"),
            Literal::Integer(value) if *value > i128::from(u32::MAX) => format!("{value}ULL"),
            Literal::Integer(value) if *value > i128::from(i32::MAX) => format!("{value}U"),
            Literal::Integer(value) => value.to_string(),
        };
        match &fact.c_type {
            Some(c_type) => format!("static const {c_type} {} = {value};\n", fact.name),
            None => format!("#define {} {value}\n", fact.name),
        }
    };
    let text = match &fact.newest {
        Some(newest) => either(&line(newest), &line(&fact.value)),
        None => line(&fact.value),
    };
    let stage = if fact.c_type.is_some() {
        Stage::Constant
    } else {
        Stage::Macro
    };
    item(
        &fact.name,
        &fact.header,
        stage,
        since(fact.newest_only).to_owned() + &text,
    )
}

fn function_items(fact: &FunctionFact) -> Vec<Item> {
    let header = header_of(fact);
    let prototype = |name: &str, parameters: &str| {
        let parameters = if parameters.is_empty() {
            "void"
        } else {
            parameters
        };
        let variadic = if fact.variadic { ", ..." } else { "" };
        let text = format!(
            "{}({parameters}{variadic});\n",
            declaration(&fact.returns, name)
        );
        item(name, &header, Stage::Function, text)
    };
    if fact.kind != Kind::Operator {
        return vec![prototype(&fact.name, &fact.parameters)];
    }
    let second =
        "void *workspace, uint64_t workspaceSize, aclOpExecutor *executor, aclrtStream stream";
    vec![
        prototype(&format!("{}GetWorkspaceSize", fact.name), &fact.parameters),
        prototype(&fact.name, second),
    ]
}
