//! Where the libraries of CANN may lie.
//! Knows folder layouts of CANN 8.1 and of the newest version; opens no library.

use std::fs;
use std::path::{Path, PathBuf};

use crate::environment::Environment;
use crate::error::{Attempt, Place, Reason};

/// The libraries of the runtime interface: one of them must load. CANN 8.1 has the first; the newest version has both.
pub(crate) const RUNTIME: &[&str] = &["libascendcl.so", "libacl_rt.so"];

/// Libraries that are asked for a symbol which the library of the tables does not export.
pub(crate) const GENERAL: &[&str] = &[
    "libnnopbase.so",
    "libopapi.so",
    "libopapi_math.so",
    "libopapi_nn.so",
    "libopapi_cv.so",
    "libopapi_transformer.so",
    "libhccl.so",
    "libhcomm.so",
];

/// The file name of a custom operator package.
pub(crate) const CUSTOM: &str = "libcust_opapi.so";

/// Where [`Api::open`](crate::Api::open) looks for the libraries, and in which order:
///
/// 1. the [path](LoadOptions::path) given: a folder (the root of an installation, or the folder of the libraries) or one library that exports everything;
/// 2. `ASCEND_HOME_PATH`, then `ASCEND_TOOLKIT_HOME`;
/// 3. below the [install root](LoadOptions::install_root), `/usr/local/Ascend` by default: `ascend-toolkit/latest`, `latest`, `cann*`, `nnae/latest`;
/// 4. the search path of the dynamic loader (`LD_LIBRARY_PATH`, the system's cache).
///
/// In a root, the root itself, `lib64`, `<arch>-linux/lib64` and `runtime/lib64` are searched.
#[derive(Clone, Debug)]
#[must_use]
pub struct LoadOptions {
    path: Option<PathBuf>,
    environment: Option<Environment>,
    install_root: Option<PathBuf>,
    loader: bool,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self {
            path: None,
            environment: None,
            install_root: Some(PathBuf::from("/usr/local/Ascend")),
            loader: true,
        }
    }
}

impl LoadOptions {
    /// The default order without a path.
    pub fn new() -> Self {
        Self::default()
    }

    /// Looks here first.
    pub fn path(mut self, path: impl Into<PathBuf>) -> Self {
        self.path = Some(path.into());
        self
    }

    /// Takes this instead of the environment of the process; `Environment::default()` says nothing.
    pub fn environment(mut self, environment: Environment) -> Self {
        self.environment = Some(environment);
        self
    }

    /// Looks here instead of below `/usr/local/Ascend`.
    pub fn install_root(mut self, root: impl Into<PathBuf>) -> Self {
        self.install_root = Some(root.into());
        self
    }

    /// Leaves out the usual place of an installation.
    pub fn without_install_root(mut self) -> Self {
        self.install_root = None;
        self
    }

    /// Leaves out the search path of the dynamic loader.
    pub fn without_loader(mut self) -> Self {
        self.loader = false;
        self
    }

    pub(crate) fn resolved_environment(&self) -> Environment {
        self.environment.clone().unwrap_or_else(Environment::read)
    }

    /// The roots in order.
    pub(crate) fn roots(&self, environment: &Environment) -> Vec<(Place, PathBuf)> {
        let mut roots = Vec::new();
        roots.extend(self.path.iter().map(|path| (Place::Path, path.clone())));
        roots.extend(
            environment
                .home
                .iter()
                .map(|path| (Place::AscendHomePath, path.clone())),
        );
        roots.extend(
            environment
                .toolkit
                .iter()
                .map(|path| (Place::AscendToolkitHome, path.clone())),
        );
        for path in self.install_root.iter().flat_map(|root| installed(root)) {
            roots.push((Place::InstallRoot, path));
        }
        let mut seen: Vec<PathBuf> = Vec::new();
        roots.retain(|(_, path)| {
            let fresh = !seen.contains(path);
            seen.push(path.clone());
            fresh
        });
        roots
    }

    pub(crate) fn uses_loader(&self) -> bool {
        self.loader
    }
}

/// The candidates below the usual place; the newest name first where names carry a version.
fn installed(root: &Path) -> Vec<PathBuf> {
    let mut found = vec![
        root.join("ascend-toolkit/latest"),
        root.join("latest"),
        root.join("cann"),
    ];
    let mut versions: Vec<PathBuf> = folders(root)
        .into_iter()
        .filter(|path| {
            path.file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with("cann"))
        })
        .collect();
    versions.sort_by(|a, b| b.cmp(a));
    found.extend(versions.into_iter().filter(|path| !path.ends_with("cann")));
    found.push(root.join("nnae/latest"));
    found
}

fn folders(path: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.path())
        .filter(|path| path.is_dir())
        .collect()
}

/// The folders of a root that may hold libraries.
pub(crate) fn library_folders(root: &Path) -> Vec<PathBuf> {
    let arch = format!("{}-linux/lib64", std::env::consts::ARCH);
    vec![
        root.to_owned(),
        root.join("lib64"),
        root.join(arch),
        root.join("runtime/lib64"),
        root.join("opp/lib64"),
    ]
}

/// The first file of this name in the folders.
pub(crate) fn find(folders: &[PathBuf], name: &str) -> Option<PathBuf> {
    folders
        .iter()
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
}

/// The runtime libraries that a root holds, or why it holds none.
pub(crate) fn runtime_files(place: Place, root: &Path) -> Result<Vec<PathBuf>, Attempt> {
    let failed = |reason| Attempt {
        path: root.to_owned(),
        place,
        reason,
    };
    if root.is_file() {
        return Ok(vec![root.to_owned()]);
    }
    if !root.is_dir() {
        return Err(failed(Reason::Absent));
    }
    let folders = library_folders(root);
    let files: Vec<PathBuf> = RUNTIME
        .iter()
        .filter_map(|name| find(&folders, name))
        .collect();
    if files.is_empty() {
        Err(failed(Reason::NoLibrary))
    } else {
        Ok(files)
    }
}

/// The custom operator libraries: those of `ASCEND_CUSTOM_OPP_PATH`, then the vendors in the order of their `config.ini`.
pub(crate) fn custom_libraries(root: Option<&Path>, environment: &Environment) -> Vec<PathBuf> {
    let library = |package: &Path| package.join("op_api/lib").join(CUSTOM);
    let mut found: Vec<PathBuf> = environment
        .custom_operators
        .iter()
        .map(|path| library(path))
        .collect();
    let operators = environment
        .operators
        .clone()
        .or_else(|| root.map(|root| root.join("opp")));
    if let Some(vendors) = operators.map(|operators| operators.join("vendors")) {
        let priority = fs::read_to_string(vendors.join("config.ini")).unwrap_or_default();
        let priority = priority
            .lines()
            .find_map(|line| line.trim().strip_prefix("load_priority="));
        let first = priority.into_iter().flat_map(|list| list.split(','));
        found.extend(first.map(|name| library(&vendors.join(name.trim()))));
        let mut others = folders(&vendors);
        others.sort();
        found.extend(others.iter().map(|path| library(path)));
    }
    let mut seen: Vec<PathBuf> = Vec::new();
    for path in found {
        if path.is_file() && !seen.contains(&path) {
            seen.push(path);
        }
    }
    seen
}

/// The version that an installation writes into its files, when it does.
pub(crate) fn version_hint(root: &Path) -> Option<String> {
    let arch = format!("{}-linux", std::env::consts::ARCH);
    let info = "ascend_toolkit_install.info";
    let files = [
        root.join(&arch).join(info),
        root.join(info),
        root.join("version.cfg"),
        root.join("runtime/version.info"),
    ];
    files.iter().find_map(|file| {
        let text = fs::read_to_string(file).ok()?;
        let of_line = |line: &str| {
            let (key, value) = line.split_once('=')?;
            key.trim()
                .eq_ignore_ascii_case("version")
                .then(|| value.trim().to_owned())
        };
        text.lines().find_map(of_line)
    })
}
