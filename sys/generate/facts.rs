//! The facts of the C ABI as read from `abi/functions.tsv` and `abi/types.json`.
//! Knows the two file formats; knows nothing of C headers, of Rust bindings, or of how libraries are loaded.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Error, ErrorKind, Result};
use std::path::Path;

use serde_json::{Map, Value};

/// What a row of the function table describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A function of the core interfaces.
    Core,
    /// An operator: two C functions.
    Operator,
    /// A helper that an operator header declares next to its operator.
    Auxiliary,
    /// Exported by the libraries, declared by no public header.
    NonPublic,
}

/// One row of the function table.
#[derive(Clone, Debug)]
pub struct FunctionFact {
    pub name: String,
    pub returns: String,
    pub parameters: String,
    pub library_8_1: Option<String>,
    pub library_newest: Option<String>,
    pub header: String,
    pub from_documentation: bool,
    pub variadic: bool,
    pub kind: Kind,
}

/// One field of a record; an anonymous union carries fields of its own.
#[derive(Clone, Debug)]
pub struct FieldFact {
    pub name: String,
    pub c_type: String,
    pub offset: u64,
    pub size: u64,
    pub fields: Vec<FieldFact>,
}

/// The layout of a struct or a union in one version.
#[derive(Clone, Debug)]
pub struct LayoutFact {
    pub size: u64,
    pub align: u64,
    pub fields: Vec<FieldFact>,
}

/// A struct or a union: its layout in the first version that has it, and that of the newest version where it differs.
#[derive(Clone, Debug)]
pub struct RecordFact {
    pub name: String,
    pub header: String,
    pub union: bool,
    pub newest_only: bool,
    pub layout: LayoutFact,
    pub newest: Option<LayoutFact>,
}

impl RecordFact {
    /// The layout to declare: the newest one where it only adds members to a union of the same size, else the older one.
    pub fn declared(&self) -> &LayoutFact {
        match &self.newest {
            Some(newest) if self.union && newest.size == self.layout.size => newest,
            _ => &self.layout,
        }
    }

    /// The newest layout, when it cannot stand for the older one.
    pub fn incompatible(&self) -> Option<&LayoutFact> {
        self.newest
            .as_ref()
            .filter(|newest| !(self.union && newest.size == self.layout.size))
    }
}

/// A named integer or text, and its value in the newest version where that differs.
#[derive(Clone, Debug)]
pub struct ConstantFact {
    pub name: String,
    pub header: String,
    pub c_type: Option<String>,
    pub value: Literal,
    pub newest: Option<Literal>,
    pub newest_only: bool,
}

/// The value of a constant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Literal {
    Integer(i128),
    Text(String),
}

/// One C enum; its members are sorted by value, then by name.
#[derive(Clone, Debug)]
pub struct EnumFact {
    pub name: String,
    pub header: String,
    pub newest_only: bool,
    pub members: Vec<MemberFact>,
}

/// One member of an enum.
#[derive(Clone, Debug)]
pub struct MemberFact {
    pub name: String,
    pub value: i64,
    pub newest: Option<i64>,
    pub newest_only: bool,
    pub removed: bool,
}

/// A name for another type, or for an opaque struct (then `c_type` is empty).
#[derive(Clone, Debug)]
pub struct NameFact {
    pub name: String,
    pub header: String,
    pub c_type: String,
    pub newest_only: bool,
}

/// Everything that the files say.
#[derive(Clone, Debug)]
pub struct Facts {
    pub functions: Vec<FunctionFact>,
    pub opaque: Vec<NameFact>,
    pub names: Vec<NameFact>,
    pub enums: Vec<EnumFact>,
    pub records: Vec<RecordFact>,
    pub constants: Vec<ConstantFact>,
}

impl Facts {
    /// Reads the files of the folder `abi`.
    pub fn read(abi: &Path) -> Result<Facts> {
        let table = fs::read_to_string(abi.join("functions.tsv"))?;
        let types: Value = serde_json::from_str(&fs::read_to_string(abi.join("types.json"))?)
            .map_err(|error| Error::new(ErrorKind::InvalidData, error))?;
        let mut names = Vec::new();
        for section in ["opaque_pointers", "callbacks", "aliases"] {
            names.extend(read_names(&types, section)?);
        }
        let mut constants = read_constants(&types, "constants", None)?;
        constants.extend(read_constants(&types, "aclnn_status", Some("aclnnStatus"))?);
        Ok(Facts {
            functions: read_functions(&table)?,
            opaque: read_names(&types, "opaque_structs")?,
            names,
            enums: read_enums(&types)?,
            records: read_records(&types)?,
            constants,
        })
    }
}

fn bad(what: &str) -> Error {
    Error::new(ErrorKind::InvalidData, what.to_owned())
}

fn section<'a>(types: &'a Value, name: &str) -> Result<BTreeMap<&'a str, &'a Map<String, Value>>> {
    let map = types[name].as_object().ok_or_else(|| bad(name))?;
    map.iter()
        .map(|(key, value)| Ok((key.as_str(), value.as_object().ok_or_else(|| bad(key))?)))
        .collect()
}

fn text(map: &Map<String, Value>, key: &str) -> Result<String> {
    let value = map.get(key).and_then(Value::as_str);
    Ok(value.ok_or_else(|| bad(key))?.to_owned())
}

fn newest_only(map: &Map<String, Value>) -> bool {
    map.get("in")
        .and_then(Value::as_array)
        .is_some_and(|list| list.iter().all(|version| version != "8.1"))
}

fn read_names(types: &Value, name: &str) -> Result<Vec<NameFact>> {
    let mut names = Vec::new();
    for (key, map) in section(types, name)? {
        let c_type = map.get("type").and_then(Value::as_str).unwrap_or("");
        names.push(NameFact {
            name: key.to_owned(),
            header: text(map, "header")?,
            c_type: c_type.to_owned(),
            newest_only: newest_only(map),
        });
    }
    Ok(names)
}

fn read_constants(types: &Value, name: &str, c_type: Option<&str>) -> Result<Vec<ConstantFact>> {
    let literal = |value: &Value| match value {
        Value::String(text) => Some(Literal::Text(text.clone())),
        Value::Number(number) => number.as_i128().map(Literal::Integer),
        _ => None,
    };
    let mut constants = Vec::new();
    for (key, map) in section(types, name)? {
        let of_map = map.get("type").and_then(Value::as_str);
        constants.push(ConstantFact {
            name: key.to_owned(),
            header: text(map, "header")?,
            c_type: of_map.or(c_type).map(str::to_owned),
            value: map.get("value").and_then(literal).ok_or_else(|| bad(key))?,
            newest: map
                .get("latest")
                .and_then(|latest| literal(&latest["value"])),
            newest_only: newest_only(map),
        });
    }
    Ok(constants)
}

fn read_enums(types: &Value) -> Result<Vec<EnumFact>> {
    let integers = |value: Option<&Value>| -> Vec<(String, i64)> {
        let map = value.and_then(Value::as_object);
        map.into_iter()
            .flatten()
            .filter_map(|(name, value)| Some((name.clone(), value.as_i64()?)))
            .collect()
    };
    let mut enums = Vec::new();
    for (key, map) in section(types, "enums")? {
        let latest = map.get("latest").and_then(Value::as_object);
        let of_latest = |name: &str| latest.and_then(|latest| latest.get(name));
        let changed: BTreeMap<String, i64> = integers(of_latest("changed")).into_iter().collect();
        let removed = of_latest("removed").and_then(Value::as_array);
        let is_removed =
            |name: &str| removed.is_some_and(|list| list.iter().any(|entry| entry == name));
        let member = |(name, value): (String, i64), newest_only| MemberFact {
            newest: changed.get(&name).copied(),
            removed: is_removed(&name),
            name,
            value,
            newest_only,
        };
        let old = integers(map.get("values"))
            .into_iter()
            .map(|entry| member(entry, false));
        let new = integers(of_latest("added"))
            .into_iter()
            .map(|entry| member(entry, true));
        let mut members: Vec<MemberFact> = old.chain(new).collect();
        members.sort_by(|a, b| (a.value, &a.name).cmp(&(b.value, &b.name)));
        enums.push(EnumFact {
            name: key.to_owned(),
            header: text(map, "header")?,
            newest_only: newest_only(map),
            members,
        });
    }
    Ok(enums)
}

fn read_fields(value: Option<&Value>) -> Result<Vec<FieldFact>> {
    let list = value
        .and_then(Value::as_array)
        .ok_or_else(|| bad("fields"))?;
    list.iter()
        .map(|field| {
            let map = field.as_object().ok_or_else(|| bad("field"))?;
            Ok(FieldFact {
                name: text(map, "name")?,
                c_type: text(map, "type")?,
                offset: field["offset"].as_u64().ok_or_else(|| bad("offset"))?,
                size: field["size"].as_u64().ok_or_else(|| bad("size"))?,
                fields: match map.get("fields") {
                    Some(_) => read_fields(map.get("fields"))?,
                    None => Vec::new(),
                },
            })
        })
        .collect()
}

fn read_layout(value: &Map<String, Value>) -> Result<LayoutFact> {
    let number = |key: &str| {
        value
            .get(key)
            .and_then(Value::as_u64)
            .ok_or_else(|| bad(key))
    };
    Ok(LayoutFact {
        size: number("size")?,
        align: number("align")?,
        fields: read_fields(value.get("fields"))?,
    })
}

fn read_records(types: &Value) -> Result<Vec<RecordFact>> {
    let mut records = Vec::new();
    for (key, map) in section(types, "structs")? {
        let latest = map.get("latest").and_then(Value::as_object);
        records.push(RecordFact {
            name: key.to_owned(),
            header: text(map, "header")?,
            union: text(map, "kind")? == "union",
            newest_only: newest_only(map),
            layout: read_layout(map)?,
            newest: latest.map(read_layout).transpose()?,
        });
    }
    Ok(records)
}

fn read_functions(table: &str) -> Result<Vec<FunctionFact>> {
    let mut lines = table.lines();
    let columns: Vec<&str> = lines.next().unwrap_or("").split('\t').collect();
    let mut functions = Vec::new();
    for line in lines {
        let cells: Vec<&str> = line.split('\t').collect();
        let cell = |name: &str| -> Result<&str> {
            let at = columns.iter().position(|column| *column == name);
            at.and_then(|at| cells.get(at).copied())
                .ok_or_else(|| bad(&format!("column {name} of: {line}")))
        };
        let library = |name: &str| -> Result<Option<String>> {
            let value = cell(name)?;
            Ok(value.starts_with("lib").then(|| value.to_owned()))
        };
        let flags = cell("flags")?;
        functions.push(FunctionFact {
            name: cell("name")?.to_owned(),
            returns: cell("ret")?.to_owned(),
            parameters: cell("params")?.to_owned(),
            library_8_1: library("lib_8.1")?,
            library_newest: library("lib_latest")?,
            header: cell("header")?.to_owned(),
            from_documentation: flags.contains("sig-from-doc"),
            variadic: flags.contains("variadic"),
            kind: match cell("kind")? {
                "fn" => Kind::Core,
                "op" => Kind::Operator,
                "aux" => Kind::Auxiliary,
                "nonpublic" => Kind::NonPublic,
                other => return Err(bad(&format!("kind {other} of: {line}"))),
            },
        });
    }
    Ok(functions)
}
