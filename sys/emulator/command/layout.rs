//! What an installed toolkit holds besides the library and the headers: names of libraries, folders that are links, text files.
//!
//! Knows the layout of CANN 8.1 and of the newest version; it must not touch the disk.

use std::path::Path;

/// The version that the files and the library name.
pub(crate) const VERSION: &str = "8.1.RC1";

/// The file in `lib64` that all other names are links to.
pub(crate) const LIBRARY: &str = "libascend_emulator.so";

/// The file by which a folder is known as one that this command laid out.
pub(crate) const MARK: &str = "ascend_emulator.info";

/// Names of libraries that programs link or open, without `lib` and `.so`: those of CANN 8.1 and those that the newest version
/// split off. Some hold nothing that the emulator has (graph engine, data queues); programs name them all the same.
pub(crate) const NAMES: &[&str] = &[
    // The runtime interface.
    "ascendcl",
    "acl_rt",
    "acl_rt_impl",
    "acl_mdl",
    "acl_mdl_impl",
    "acl_op_executor",
    "acl_op_executor_impl",
    "acl_op_compiler",
    "acl_cblas",
    "acl_dvpp",
    "acl_dvpp_mpi",
    "acl_dvpp_op",
    "acl_prof",
    "acl_retr",
    "acl_tdt_channel",
    "acl_tdt_queue",
    "ascend_dump",
    "ascend_hal",
    "ascendalog",
    "ms_tools_ext",
    "msprofiler",
    "profapi",
    "runtime",
    "runtime_common",
    // Operators.
    "nnopbase",
    "opapi",
    "opapi_math",
    "opapi_nn",
    "opapi_cv",
    "opapi_transformer",
    "aclnn_fft",
    "aclnn_math",
    "aclnn_ops_infer",
    "aclnn_ops_train",
    "aclnn_rand",
    "aclnn_sparse",
    // Collectives.
    "hccl",
    "hccl_fwk",
    "hccl_alg",
    "hccl_plf",
    "hccl_v2",
    "hcomm",
    // The graph engine.
    "ge_runner",
    "ge_compiler",
    "ge_common",
    "ge_executor",
    "ge_executor_shared",
    "fmk_parser",
    "graph",
    "graph_base",
];

/// The packages of a toolkit; each has a folder with a version file, and sees the libraries and the headers.
const PACKAGES: &[&str] = &[
    "acllib",
    "atc",
    "compiler",
    "fwkacllib",
    "hccl",
    "opp",
    "runtime",
    "toolkit",
];

/// Folders that programs expect, empty where the emulator has nothing to put in.
pub(crate) const FOLDERS: &[&str] = &[
    "bin",
    "include",
    "lib64",
    "opp/built-in/op_impl",
    "opp/built-in/op_proto",
    "opp/vendors",
    "python/site-packages",
    "tools",
];

/// Links to folders: where the link stands, and what it says.
pub(crate) fn links() -> Vec<(String, String)> {
    let machine = format!("{}-linux", std::env::consts::ARCH);
    let mut links = vec![
        (format!("{machine}/bin"), String::from("../bin")),
        (format!("{machine}/devlib"), String::from("../lib64")),
        (String::from("devlib"), String::from("lib64")),
        (String::from("latest"), String::from(".")),
    ];
    for part in PACKAGES.iter().copied().chain([machine.as_str()]) {
        for folder in ["include", "lib64"] {
            links.push((format!("{part}/{folder}"), format!("../{folder}")));
        }
    }
    links
}

/// Text files by their path in the folder.
pub(crate) fn texts(root: &Path) -> Vec<(String, String)> {
    let (machine, place) = (std::env::consts::ARCH, root.display());
    let version = format!("Version={VERSION}\nversion_dir={VERSION}\n");
    let info = |package: &str| {
        format!(
            "package_name=Ascend-cann-{package}\nversion={VERSION}\ninnerversion={VERSION}-emulator\n\
             arch={machine}\nos=linux\npath={place}/{machine}-linux\n"
        )
    };
    let mut texts: Vec<(String, String)> = PACKAGES
        .iter()
        .map(|package| (format!("{package}/version.info"), version.clone()))
        .collect();
    texts.push((
        format!("{machine}-linux/ascend_toolkit_install.info"),
        info("toolkit"),
    ));
    texts.push((
        format!("{machine}-linux/ascend_ops_install.info"),
        info("ops"),
    ));
    let running: String = PACKAGES
        .iter()
        .map(|package| format!("{package}_running_version=[{VERSION}:{VERSION}]\n"))
        .collect();
    texts.push((
        String::from("version.cfg"),
        format!("# version: 1.0\n{running}"),
    ));
    let quoted = format!("'{}'", place.to_string().replace('\'', r"'\''"));
    texts.push((
        String::from("set_env.sh"),
        SET_ENV.replace("@ROOT@", &quoted),
    ));
    texts.push((
        String::from(MARK),
        format!(
            "This is not CANN but a stand-in for tests, laid out by ascend-emulator {}.\n",
            env!("CARGO_PKG_VERSION")
        ),
    ));
    texts
}

/// Finds its own folder in shells that name the file which they read; in others it is where it was laid out.
const SET_ENV: &str = r#"# Source this file: it lets programs find the emulator where they look for CANN.
_ascend_script=""
if [ -n "${BASH_SOURCE:-}" ]; then
    _ascend_script="${BASH_SOURCE}"
elif [ -n "${ZSH_VERSION:-}" ]; then
    _ascend_script="$(eval 'echo "${(%):-%x}"')"
fi
if [ -n "${_ascend_script}" ]; then
    ASCEND_TOOLKIT_HOME="$(cd "$(dirname "${_ascend_script}")" && pwd -P)"
else
    ASCEND_TOOLKIT_HOME=@ROOT@
fi
unset _ascend_script
export ASCEND_TOOLKIT_HOME
export ASCEND_HOME_PATH="${ASCEND_TOOLKIT_HOME}"
export ASCEND_OPP_PATH="${ASCEND_TOOLKIT_HOME}/opp"
export ASCEND_AICPU_PATH="${ASCEND_TOOLKIT_HOME}"
export TOOLCHAIN_HOME="${ASCEND_TOOLKIT_HOME}/toolkit"
export LD_LIBRARY_PATH="${ASCEND_TOOLKIT_HOME}/lib64${LD_LIBRARY_PATH:+:${LD_LIBRARY_PATH}}"
export PYTHONPATH="${ASCEND_TOOLKIT_HOME}/python/site-packages${PYTHONPATH:+:${PYTHONPATH}}"
export PATH="${ASCEND_TOOLKIT_HOME}/bin${PATH:+:${PATH}}"
"#;
