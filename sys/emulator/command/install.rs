//! Lays out the folder: the library, its names, the headers, links, text files, and this command under its two names.
//!
//! Knows the disk; what the folder holds is `layout`'s to say.

use crate::layout;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// Headers that an installed toolkit has beside those of the C interface: bounded string functions, a half for the host.
const OWN_HEADERS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/headers");

/// Where the library and the headers come from, if not from where they are built and kept.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    pub library: Option<PathBuf>,
    pub headers: Option<PathBuf>,
}

/// Lays out `target` and gives its absolute path.
pub(crate) fn run(target: &Path, sources: &Sources) -> Result<PathBuf, String> {
    let library = sources.library.clone().map_or_else(built_library, Ok)?;
    let headers = match &sources.headers {
        Some(folder) => folder.clone(),
        None => PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../headers")),
    };
    if !headers.join("acl/acl.h").is_file() {
        return Err(format!(
            "{} holds no acl/acl.h: name the folder of the headers with --headers",
            headers.display()
        ));
    }
    check_target(target)?;
    let root = written(
        target,
        fs::create_dir_all(target).and_then(|()| target.canonicalize()),
    )?;
    // The mark first: a layout that was cut off can be repeated.
    for (name, text) in layout::texts(&root).iter().rev() {
        write(&root.join(name), text.as_bytes())?;
    }
    for name in layout::FOLDERS {
        let folder = root.join(name);
        written(&folder, fs::create_dir_all(&folder))?;
    }
    for (name, says) in layout::links() {
        link(&root.join(name), &says)?;
    }
    copy(&library, &root.join("lib64").join(layout::LIBRARY))?;
    for name in layout::NAMES {
        link(&root.join(format!("lib64/lib{name}.so")), layout::LIBRARY)?;
    }
    copy_headers(&headers, &root.join("include"))?;
    let own_headers = Path::new(OWN_HEADERS);
    if own_headers.is_dir() {
        copy_headers(own_headers, &root.join("include"))?;
    }
    link_levels(&root.join("include/aclnnop"))?;
    let own = std::env::current_exe().map_err(|error| format!("this command's path: {error}"))?;
    copy(&own, &root.join("bin/ascend-emulator"))?;
    link(&root.join("bin/npu-smi"), "ascend-emulator")?;
    Ok(root)
}

/// The library that cargo built together with this command: below its folder in `deps`, or installed beside it.
fn built_library() -> Result<PathBuf, String> {
    let own = std::env::current_exe().and_then(|path| path.canonicalize());
    let own = own.map_err(|error| format!("this command's path: {error}"))?;
    let folder = own.parent().unwrap_or(Path::new("."));
    let places = [
        folder.join("deps"),
        folder.to_path_buf(),
        folder.join("../lib64"),
    ];
    let found = places
        .iter()
        .map(|place| place.join(layout::LIBRARY))
        .find(|path| path.is_file());
    found.ok_or_else(|| {
        let tried: Vec<String> = places.iter().map(|place| place.display().to_string()).collect();
        format!(
            "{} is in none of {}: run this through `cargo run --release -p ascend-emulator -- install <dir>`, or name it with --library",
            layout::LIBRARY,
            tried.join(", ")
        )
    })
}

/// A folder that holds something else, such as a real CANN, is left alone.
fn check_target(target: &Path) -> Result<(), String> {
    if target.join(layout::MARK).exists() {
        return Ok(());
    }
    match fs::read_dir(target).map(|mut entries| entries.next().is_none()) {
        Ok(true) => Ok(()),
        Ok(false) => Err(format!(
            "{} is neither empty nor a folder that this command laid out: nothing was changed",
            target.display()
        )),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(format!("{}: {error}", target.display())),
    }
}

fn written<T>(path: &Path, outcome: io::Result<T>) -> Result<T, String> {
    outcome.map_err(|error| format!("{}: {error}", path.display()))
}

fn make_parent(path: &Path) -> Result<(), String> {
    match path.parent() {
        Some(parent) => written(parent, fs::create_dir_all(parent)),
        None => Ok(()),
    }
}

/// Puts a file in its place under a name that it had not before: programs that run on the old one keep it.
fn replace(path: &Path, make: impl FnOnce(&Path) -> io::Result<()>) -> Result<(), String> {
    make_parent(path)?;
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{}", std::process::id()));
    let fresh = path.with_file_name(name);
    let outcome = make(&fresh).and_then(|()| fs::rename(&fresh, path));
    if outcome.is_err() {
        // The reason is in `outcome`; a leftover that cannot be removed changes nothing.
        let _ = fs::remove_file(&fresh);
    }
    written(path, outcome)
}

fn write(path: &Path, text: &[u8]) -> Result<(), String> {
    replace(path, |fresh| fs::write(fresh, text))
}

fn copy(from: &Path, path: &Path) -> Result<(), String> {
    if let (Ok(from), Ok(to)) = (from.canonicalize(), path.canonicalize())
        && from == to
    {
        return Ok(());
    }
    replace(path, |fresh| fs::copy(from, fresh).map(drop))
        .map_err(|error| format!("{} to {error}", from.display()))
}

fn link(path: &Path, says: &str) -> Result<(), String> {
    replace(path, |fresh| symlink(says, fresh))
}

/// The headers with their folders; functions that no public header declares stay out.
/// An installed toolkit has most operators' headers twice, in `aclnnop` and in `aclnnop/level2`; newer ones moved those that were
/// only there up.
fn link_levels(upper: &Path) -> Result<(), String> {
    let lower = upper.join("level2");
    let names = |folder: &Path| -> Result<Vec<String>, String> {
        let mut names = Vec::new();
        for entry in written(folder, fs::read_dir(folder))? {
            let name = written(folder, entry)?
                .file_name()
                .to_string_lossy()
                .into_owned();
            if name.ends_with(".h") && !folder.join(&name).is_symlink() {
                names.push(name);
            }
        }
        Ok(names)
    };
    for name in names(&lower)? {
        if !upper.join(&name).exists() {
            link(&upper.join(&name), &format!("level2/{name}"))?;
        }
    }
    for name in names(upper)? {
        if !lower.join(&name).exists() {
            link(&lower.join(&name), &format!("../{name}"))?;
        }
    }
    Ok(())
}

fn copy_headers(from: &Path, to: &Path) -> Result<(), String> {
    for entry in written(from, fs::read_dir(from))? {
        let path = written(from, entry)?.path();
        let Some(name) = path.file_name() else {
            continue;
        };
        if path.is_dir() {
            if name != "nonpublic" {
                copy_headers(&path, &to.join(name))?;
            }
        } else if path.extension().is_some_and(|extension| extension == "h") {
            copy(&path, &to.join(name))?;
        }
    }
    Ok(())
}
