//! The table of names: each public method whose documentation names its counterpart in PyTorch, with those in candle and ndarray.
//!
//! Knows how the documentation is written. Must not know any op.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::{path, read, sources};

/// A method, and what its documentation calls it in PyTorch.
struct Method {
    family: String,
    name: String,
    torch: String,
}

/// The methods of one file.
fn methods(family: &str, text: &str) -> Vec<Method> {
    let (mut found, mut doc) = (Vec::new(), String::new());
    for line in text.lines().map(str::trim) {
        if let Some(more) = line.strip_prefix("///") {
            doc.push_str(more);
        } else if !line.starts_with("#[") {
            let torch = doc.split("PyTorch: ").nth(1).map(|rest| {
                let end = rest.find(". ").unwrap_or(rest.len());
                rest[..end].trim_end_matches('.').to_string()
            });
            if let (Some(torch), Some(rest)) = (torch, line.strip_prefix("pub fn ")) {
                let end = rest.find(['(', '<']).unwrap_or(rest.len());
                found.push(Method {
                    family: family.to_string(),
                    name: rest[..end].to_string(),
                    torch,
                });
            }
            doc.clear();
        }
    }
    found
}

/// `text` as code, or nothing for a dash.
fn code(text: &str) -> String {
    let parts = text.split(", ").filter(|part| *part != "-");
    let parts: Vec<String> = parts
        .map(|part| format!("`{}`", part.replace('|', "\\|")))
        .collect();
    parts.join(", ")
}

/// The table of the chapter.
pub fn table() -> String {
    let mut all = Vec::new();
    for file in sources("src/ops") {
        let family = file
            .parent()
            .and_then(|folder| folder.file_name())
            .unwrap_or_default();
        all.extend(methods(&family.to_string_lossy(), &read(&file)));
    }
    assert!(all.len() > 200, "only {} methods name PyTorch", all.len());
    let rows = read(&path("src/docs/names.tsv"));
    let mut elsewhere = BTreeMap::new();
    for row in rows.lines().filter(|row| !row.starts_with('#')) {
        let cells: Vec<&str> = row.split('\t').collect();
        let [name, candle, ndarray, difference] = cells[..] else {
            panic!("names.tsv has a row of {} cells: {row}", cells.len());
        };
        assert!(
            all.iter().any(|method| method.name == name),
            "names.tsv names {name}, which no method is called"
        );
        elsewhere.insert(name, (candle, ndarray, difference));
    }
    let mut text = String::from(
        "| here | family | PyTorch | candle | ndarray | differs |\n|---|---|---|---|---|---|\n",
    );
    for Method {
        family,
        name,
        torch,
    } in &all
    {
        let (candle, ndarray, difference) = elsewhere
            .get(name.as_str())
            .copied()
            .unwrap_or(("-", "-", "-"));
        let difference = difference.strip_prefix('-').unwrap_or(difference);
        let (candle, ndarray, torch) = (code(candle), code(ndarray), torch.replace('|', "\\|"));
        let _ = writeln!(
            text,
            "| `{name}` | {family} | {torch} | {candle} | {ndarray} | {difference} |"
        );
    }
    text
}
