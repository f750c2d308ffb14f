//! Regenerates `headers/` and `src/generated/` of this crate.
//! Knows which headers to take (this crate's own, or those of an installed CANN) and where the files go; the making is in the other rooms.

mod bindings;
mod facts;
mod headers;
mod layout;
mod stamp;

use std::env;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use facts::Facts;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("generate: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let mut from = None;
    let mut own = false;
    let mut out = None;
    let mut arguments = env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--include" => {
                from = Some(PathBuf::from(
                    arguments.next().ok_or("--include needs a folder")?,
                ))
            }
            "--out" => {
                out = Some(PathBuf::from(
                    arguments.next().ok_or("--out needs a folder")?,
                ))
            }
            "--own" => own = true,
            other => {
                return Err(format!(
                    "unknown argument {other}; known: --own, --include <folder>, --out <folder>"
                )
                .into());
            }
        }
    }
    let home = Path::new(env!("CARGO_MANIFEST_DIR"));
    let facts = Facts::read(&home.join("abi"))?;
    let texts = headers::headers(&facts);
    let installed = if own {
        None
    } else {
        from.or_else(installed_headers)
    };
    if installed.is_none() {
        write(
            &home.join("tests/generated/layout.rs"),
            &layout::checks(&facts),
        )?;
        for (path, text) in &texts {
            let path = home.join("headers").join(path);
            if let Some(folder) = path.parent() {
                fs::create_dir_all(folder)?;
            }
            write(&path, text)?;
        }
    }
    let stamp = match &installed {
        Some(folder) => format!("installed at {}", folder.display()),
        None => stamp::stamp(&texts),
    };
    let root = installed.unwrap_or_else(|| home.join("headers"));
    println!("headers: {}", root.display());
    let folder = out.unwrap_or_else(|| home.join("src/generated"));
    fs::create_dir_all(&folder)?;
    for (name, text) in bindings::bindings(&root, &facts, &stamp)? {
        write(&folder.join(name), &text)?;
    }
    Ok(())
}

/// The include folder of the CANN that the environment names.
fn installed_headers() -> Option<PathBuf> {
    let names = ["ASCEND_HOME_PATH", "ASCEND_TOOLKIT_HOME"];
    let roots = names.iter().filter_map(env::var_os).map(PathBuf::from);
    roots
        .map(|root| root.join("include"))
        .find(|include| include.join("acl/acl.h").is_file())
}

/// Writes only what changes, so that an unchanged file keeps its time.
fn write(path: &Path, text: &str) -> std::io::Result<()> {
    if fs::read_to_string(path).is_ok_and(|old| old == text) {
        return Ok(());
    }
    println!("wrote {}", path.display());
    fs::write(path, text)
}
