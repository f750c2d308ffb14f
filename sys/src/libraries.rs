//! The libraries of one installation: which to ask for a symbol, and opening each on first use.
//! Knows `dlopen`; knows nothing of function types.

use std::error::Error as _;
use std::ffi::{CStr, c_void};
use std::fmt;
use std::mem::ManuallyDrop;
use std::path::{Path, PathBuf};
use std::ptr::NonNull;
use std::sync::OnceLock;

use libloading::Library;

use crate::environment::Environment;
use crate::error::{Attempt, LoadError, Place, Reason};
use crate::function::{FUNCTION_COUNT, FunctionInfo, Kind};
use crate::search::{self, CUSTOM, GENERAL, LoadOptions, RUNTIME};

/// A library that is opened on first use and never closed: code and threads of CANN outlive any handle.
struct Lazy {
    name: String,
    path: PathBuf,
    opened: OnceLock<Result<ManuallyDrop<Library>, String>>,
}

impl Lazy {
    fn new(name: &str, path: PathBuf) -> Self {
        Self {
            name: name.to_owned(),
            path,
            opened: OnceLock::new(),
        }
    }

    fn library(&self) -> Result<&Library, &str> {
        let opened = self.opened.get_or_init(|| open(&self.path));
        opened
            .as_ref()
            .map(|library| &**library)
            .map_err(String::as_str)
    }

    fn symbol(&self, name: &CStr) -> Option<NonNull<c_void>> {
        let library = self.library().ok()?;
        // SAFETY: the symbol is read as a bare address; nothing is called or dereferenced here.
        let symbol = unsafe { library.get::<*mut c_void>(name.to_bytes_with_nul()) }.ok()?;
        NonNull::new(*symbol)
    }
}

fn open(path: &Path) -> Result<ManuallyDrop<Library>, String> {
    // SAFETY: loading runs the initialisers of a library that the user's installation names as CANN; these are
    // written to be run by a loader, and the library is never unloaded.
    let library = unsafe { Library::new(path) };
    library.map(ManuallyDrop::new).map_err(|error| {
        let cause = error.source().map(ToString::to_string);
        cause.unwrap_or_else(|| error.to_string())
    })
}

/// One library as [`Origin`](crate::Origin) reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LibraryReport {
    /// The path that was opened, or that will be when a function of the library is asked for.
    pub path: PathBuf,
    /// Whether it is open.
    pub state: LibraryState,
}

/// Whether a library is open.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LibraryState {
    /// It is open.
    Open,
    /// No function of it was asked for yet.
    Waiting,
    /// The loader refused it.
    Refused {
        /// What the loader said.
        detail: String,
    },
}

/// The libraries of one installation.
pub(crate) struct Libraries {
    pub(crate) place: Place,
    pub(crate) root: Option<PathBuf>,
    pub(crate) version: Option<String>,
    single: bool,
    lazy: Vec<Lazy>,
}

impl fmt::Debug for Libraries {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Libraries")
            .field("place", &self.place)
            .field("root", &self.root)
            .finish_non_exhaustive()
    }
}

impl Libraries {
    /// Searches, and opens the runtime library of the first place that has one.
    pub(crate) fn open(options: &LoadOptions) -> Result<Self, LoadError> {
        let environment = options.resolved_environment();
        let mut tried = Vec::new();
        for (place, root) in options.roots(&environment) {
            match search::runtime_files(place, &root) {
                Ok(files) => {
                    if let Some(first) = first_that_opens(place, &files, &mut tried) {
                        return Ok(Self::of_root(place, &root, first, &environment));
                    }
                }
                Err(attempt) => tried.push(attempt),
            }
        }
        if options.uses_loader() {
            let names: Vec<PathBuf> = RUNTIME.iter().map(PathBuf::from).collect();
            if let Some(first) = first_that_opens(Place::Loader, &names, &mut tried) {
                return Ok(Self::of_loader(first, &environment));
            }
        }
        Err(LoadError::NotFound { tried })
    }

    fn of_root(place: Place, root: &Path, first: Lazy, environment: &Environment) -> Self {
        let single = root.is_file();
        let mut lazy = vec![first];
        if !single {
            for path in search::custom_libraries(Some(root), environment) {
                lazy.push(Lazy::new(CUSTOM, path));
            }
            let folders = search::library_folders(root);
            let found = |name| Some(Lazy::new(name, search::find(&folders, name)?));
            lazy.extend(names().into_iter().filter_map(found));
        }
        Self {
            place,
            root: Some(root.to_owned()),
            version: search::version_hint(root),
            single,
            lazy,
        }
    }

    fn of_loader(first: Lazy, environment: &Environment) -> Self {
        let mut lazy = vec![first];
        for path in search::custom_libraries(None, environment) {
            lazy.push(Lazy::new(CUSTOM, path));
        }
        lazy.extend(
            names()
                .into_iter()
                .map(|name| Lazy::new(name, PathBuf::from(name))),
        );
        Self {
            place: Place::Loader,
            root: None,
            version: None,
            single: false,
            lazy,
        }
    }

    /// The address of a function: from custom operator packages first, then from the libraries that the tables name, then from the rest.
    pub(crate) fn symbol(&self, info: &FunctionInfo) -> Option<NonNull<c_void>> {
        if self.single {
            return self.lazy.first()?.symbol(info.name);
        }
        let operator = matches!(
            info.kind,
            Kind::Operator | Kind::Documented | Kind::Auxiliary | Kind::Unlisted
        );
        let custom = self
            .lazy
            .iter()
            .filter(|lazy| operator && lazy.name == CUSTOM);
        let named = self.lazy.iter().filter(|lazy| {
            Some(lazy.name.as_str()) == info.library_8_1
                || Some(lazy.name.as_str()) == info.library_newest
        });
        let general = self.lazy.iter().filter(|lazy| {
            RUNTIME.contains(&lazy.name.as_str()) || GENERAL.contains(&lazy.name.as_str())
        });
        custom
            .chain(named)
            .chain(general)
            .find_map(|lazy| lazy.symbol(info.name))
    }

    pub(crate) fn report(&self) -> Vec<LibraryReport> {
        let state = |lazy: &Lazy| match lazy.opened.get() {
            None => LibraryState::Waiting,
            Some(Ok(_)) => LibraryState::Open,
            Some(Err(detail)) => LibraryState::Refused {
                detail: detail.clone(),
            },
        };
        self.lazy
            .iter()
            .map(|lazy| LibraryReport {
                path: lazy.path.clone(),
                state: state(lazy),
            })
            .collect()
    }
}

fn first_that_opens(place: Place, files: &[PathBuf], tried: &mut Vec<Attempt>) -> Option<Lazy> {
    for path in files {
        let name = path
            .file_name()
            .map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        let lazy = Lazy::new(&name, path.clone());
        match lazy.library() {
            Ok(_) => return Some(lazy),
            Err(detail) => {
                let reason = Reason::Refused {
                    detail: detail.to_owned(),
                };
                tried.push(Attempt {
                    path: path.clone(),
                    place,
                    reason,
                });
            }
        }
    }
    None
}

/// The names of all libraries: those of the table of functions, and those of both runtime forms.
fn names() -> Vec<&'static str> {
    let mut names: Vec<&'static str> = RUNTIME.iter().chain(GENERAL).copied().collect();
    for info in crate::FUNCTIONS.iter().take(FUNCTION_COUNT) {
        for name in [info.library_8_1, info.library_newest]
            .into_iter()
            .flatten()
        {
            if !names.contains(&name) {
                names.push(name);
            }
        }
    }
    names
}
