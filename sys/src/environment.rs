//! The only place of this crate that reads environment variables.
//! Knows names and splits lists; does not look at what the paths hold.

use std::env;
use std::ffi::OsStr;
use std::path::PathBuf;

/// What the environment says of where CANN is.
///
/// | variable | meaning |
/// |---|---|
/// | `ASCEND_HOME_PATH` | root of the installed CANN |
/// | `ASCEND_TOOLKIT_HOME` | the same; second in order |
/// | `ASCEND_OPP_PATH` | folder of operator packages, `<root>/opp` if unset |
/// | `ASCEND_CUSTOM_OPP_PATH` | list of folders of custom operator packages |
///
/// An empty variable counts as unset.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Environment {
    /// `ASCEND_HOME_PATH`.
    pub home: Option<PathBuf>,
    /// `ASCEND_TOOLKIT_HOME`.
    pub toolkit: Option<PathBuf>,
    /// `ASCEND_OPP_PATH`.
    pub operators: Option<PathBuf>,
    /// `ASCEND_CUSTOM_OPP_PATH`.
    pub custom_operators: Vec<PathBuf>,
}

impl Environment {
    /// Reads the variables of the process.
    pub fn read() -> Self {
        Self::from_lookup(|name| env::var_os(name))
    }

    /// Reads the variables from elsewhere.
    pub fn from_lookup<T: AsRef<OsStr>>(lookup: impl Fn(&str) -> Option<T>) -> Self {
        let value = |name: &str| lookup(name).filter(|value| !value.as_ref().is_empty());
        let path = |name: &str| value(name).map(|value| PathBuf::from(value.as_ref()));
        let custom = value("ASCEND_CUSTOM_OPP_PATH");
        let custom = custom
            .iter()
            .flat_map(|list| env::split_paths(list.as_ref()));
        Self {
            home: path("ASCEND_HOME_PATH"),
            toolkit: path("ASCEND_TOOLKIT_HOME"),
            operators: path("ASCEND_OPP_PATH"),
            custom_operators: custom.filter(|path| !path.as_os_str().is_empty()).collect(),
        }
    }
}
