//! The two ways in which finding CANN fails: no library, or a library without a symbol.
//! Knows paths and reasons; does not search itself.

use std::fmt;
use std::path::PathBuf;

use thiserror::Error;

/// No set of CANN libraries could be loaded.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LoadError {
    /// None of the places searched holds a library that loads.
    #[error(
        "open: got no CANN library, wanted libascendcl.so or libacl_rt.so; tried{}",
        list(tried)
    )]
    NotFound {
        /// Every place that was tried, in order.
        tried: Vec<Attempt>,
    },
}

impl LoadError {
    /// Every place that was tried, in order.
    pub fn tried(&self) -> &[Attempt] {
        let LoadError::NotFound { tried } = self;
        tried
    }
}

fn list(tried: &[Attempt]) -> String {
    if tried.is_empty() {
        return ": nothing, every place is switched off".to_owned();
    }
    tried.iter().fold(String::from(":"), |text, attempt| {
        text + "\n  " + &attempt.to_string()
    })
}

/// One place that was tried, and why it did not serve.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Attempt {
    /// The folder or file.
    pub path: PathBuf,
    /// What named it.
    pub place: Place,
    /// Why it did not serve.
    pub reason: Reason,
}

impl fmt::Display for Attempt {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{} ({}): {}",
            self.path.display(),
            self.place,
            self.reason
        )
    }
}

/// What named a place to search.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Place {
    /// The path given to [`LoadOptions::path`](crate::LoadOptions::path).
    Path,
    /// The environment variable `ASCEND_HOME_PATH`.
    AscendHomePath,
    /// The environment variable `ASCEND_TOOLKIT_HOME`.
    AscendToolkitHome,
    /// The usual place of an installation.
    InstallRoot,
    /// The search path of the dynamic loader.
    Loader,
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Place::Path => "path given",
            Place::AscendHomePath => "ASCEND_HOME_PATH",
            Place::AscendToolkitHome => "ASCEND_TOOLKIT_HOME",
            Place::InstallRoot => "usual place",
            Place::Loader => "loader's search path",
        })
    }
}

/// Why a place did not serve.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Reason {
    /// Nothing is there.
    #[error("does not exist")]
    Absent,
    /// The folder is there without the libraries.
    #[error(
        "holds neither libascendcl.so nor libacl_rt.so in itself, lib64, <arch>-linux/lib64 or runtime/lib64"
    )]
    NoLibrary,
    /// The dynamic loader refused the file.
    #[error("cannot be loaded: {detail}")]
    Refused {
        /// What the loader said.
        detail: String,
    },
}

/// The loaded libraries do not export a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{symbol}: got no such symbol from what is loaded, wanted it in {library}")]
pub struct MissingSymbol {
    /// The name of the C function.
    pub symbol: &'static str,
    /// The library that should export it.
    pub library: &'static str,
}
