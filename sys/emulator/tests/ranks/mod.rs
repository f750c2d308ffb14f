//! Ranks as processes: a test starts its own binary once for each rank, and each runs the scenario that it is told.
//!
//! Knows processes and how the root info travels; it must not know what a scenario checks.
#![allow(dead_code)]

use crate::acl;
use crate::common::*;
use ascend_sys as sys;
use std::ffi::{CStr, c_void};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// A rank's place, and what it knows of the others.
pub struct Rank {
    pub rank: usize,
    pub ranks: usize,
    folder: PathBuf,
}

/// The scenario that this process shall run, if it is a rank.
pub fn scenario() -> Option<(String, Rank)> {
    let read = |name: &str| std::env::var(name).ok();
    let number = |name: &str| read(name)?.parse().ok();
    Some((
        read("TEST_SCENARIO")?,
        Rank {
            rank: number("TEST_RANK")?,
            ranks: number("TEST_RANKS")?,
            folder: read("TEST_FOLDER")?.into(),
        },
    ))
}

/// Running ranks of a scenario.
pub struct Job {
    pub children: Vec<(usize, Child)>,
    folder: PathBuf,
}

/// Starts some of the ranks of a scenario.
pub fn start(scenario: &str, which: &[usize], ranks: usize, variables: &[(&str, &str)]) -> Job {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let name = format!(
        "{}-{}",
        std::process::id(),
        COUNT.fetch_add(1, Ordering::Relaxed)
    );
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::create_dir_all(&folder).expect("a folder");
    let children = which
        .iter()
        .map(|&rank| {
            let child = Command::new(std::env::current_exe().expect("a path"))
                .args(["--exact", "a_rank", "--nocapture", "--test-threads", "1"])
                .env("TEST_SCENARIO", scenario)
                .env("TEST_RANK", rank.to_string())
                .env("TEST_RANKS", ranks.to_string())
                .env("TEST_FOLDER", &folder)
                .env("ASCEND_EMULATOR_DEVICES", "8")
                .envs(variables.iter().copied())
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .expect("a process");
            (rank, child)
        })
        .collect();
    Job { children, folder }
}

impl Job {
    /// What each rank said and how it ended.
    pub fn wait(self) -> Vec<(usize, Output)> {
        let outputs = self
            .children
            .into_iter()
            .map(|(rank, child)| (rank, child.wait_with_output().expect("an end")))
            .collect();
        let _ = std::fs::remove_dir_all(self.folder);
        outputs
    }

    /// Waits for what a rank says.
    pub fn await_published(&self, name: &str) {
        published(&self.folder, name);
    }

    /// All ranks must succeed.
    pub fn succeed(self) {
        for (rank, output) in self.wait() {
            assert!(
                output.status.success(),
                "rank {rank}: {}\n{}",
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr)
            );
        }
    }
}

/// All ranks of a scenario, which must succeed.
pub fn run(scenario: &str, ranks: usize, variables: &[(&str, &str)]) {
    start(scenario, &(0..ranks).collect::<Vec<_>>(), ranks, variables).succeed();
}

fn published(folder: &Path, name: &str) -> Vec<u8> {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if let Ok(bytes) = std::fs::read(folder.join(name)) {
            return bytes;
        }
        assert!(Instant::now() < deadline, "{name} was never published");
        std::thread::sleep(Duration::from_millis(2));
    }
}

impl Rank {
    /// Says something to the other ranks.
    pub fn publish(&self, name: &str, bytes: &[u8]) {
        let path = self.folder.join(name);
        std::fs::write(path.with_extension("new"), bytes).expect("written");
        std::fs::rename(path.with_extension("new"), path).expect("renamed");
    }

    /// Waits for what another rank says.
    pub fn await_published(&self, name: &str) -> Vec<u8> {
        published(&self.folder, name)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The result of making a communicator of all ranks on the device with the rank's number.
    pub fn try_init(&self) -> (u32, sys::HcclComm) {
        assert_eq!(acl!(aclInit(ptr::null())), 0);
        assert_eq!(acl!(aclrtSetDevice(self.rank as i32)), 0);
        let mut info = Box::new(sys::HcclRootInfo {
            internal: [0; 4108],
        });
        if self.rank == 0 {
            assert_eq!(acl!(HcclGetRootInfo(&mut *info)), 0, "{}", recent());
            let bytes: Vec<u8> = info.internal.iter().map(|byte| *byte as u8).collect();
            self.publish("root", &bytes);
        } else {
            for (to, from) in info.internal.iter_mut().zip(self.await_published("root")) {
                *to = from as _;
            }
        }
        let mut comm = ptr::null_mut();
        let result = acl!(HcclCommInitRootInfo(
            self.ranks as u32,
            &*info,
            self.rank as u32,
            &mut comm
        ));
        (result, comm)
    }

    pub fn init(&self) -> sys::HcclComm {
        let (result, comm) = self.try_init();
        assert_eq!(result, 0, "{}", recent());
        comm
    }
}

/// Device memory with the bytes of some numbers.
pub fn device<T: Copy>(values: &[T]) -> *mut c_void {
    let bytes = size_of_val(values);
    let pointer = malloc(bytes.max(1));
    let code = acl!(aclrtMemcpy(
        pointer,
        bytes,
        values.as_ptr().cast(),
        bytes,
        HOST_TO_DEVICE
    ));
    assert_eq!(code, 0, "{}", recent());
    pointer
}

/// Numbers from device memory.
pub fn host<T: Copy + Default>(pointer: *const c_void, count: usize) -> Vec<T> {
    let mut values = vec![T::default(); count];
    let bytes = count * size_of::<T>();
    let code = acl!(aclrtMemcpy(
        values.as_mut_ptr().cast(),
        bytes,
        pointer,
        bytes,
        DEVICE_TO_HOST
    ));
    assert_eq!(code, 0, "{}", recent());
    values
}

pub fn check(result: u32) {
    assert_eq!(result, 0, "{}", recent());
}

pub fn synchronized(stream: sys::aclrtStream) {
    assert_eq!(synchronize(stream), 0, "{}", recent());
}

/// Numbers that differ by rank and place.
pub fn numbers(rank: usize, count: usize) -> Vec<f32> {
    (0..count).map(|at| (rank * 100 + at) as f32).collect()
}

pub fn config() -> sys::HcclCommConfig {
    let mut config = sys::HcclCommConfig {
        reserved: [0; 24],
        hcclBufferSize: u32::MAX,
        hcclDeterministic: u32::MAX,
        hcclCommName: [0; 128],
        hcclUdi: [0; 128],
        hcclOpExpansionMode: 0,
        hcclRdmaTrafficClass: u32::MAX,
        hcclRdmaServiceLevel: u32::MAX,
    };
    let head = [
        size_of_val(&config) as u64,
        u64::from(sys::HCCL_COMM_CONFIG_MAGIC_WORD) | 5 << 32,
    ];
    for (to, from) in config
        .reserved
        .iter_mut()
        .zip(head.iter().flat_map(|word| word.to_ne_bytes()))
    {
        *to = from as _;
    }
    config
}

pub fn name_of(comm: sys::HcclComm) -> String {
    let mut name = [0; 128];
    check(acl!(HcclGetCommName(comm, name.as_mut_ptr())));
    // SAFETY: the call wrote a C string.
    unsafe { CStr::from_ptr(name.as_ptr()) }
        .to_string_lossy()
        .into_owned()
}

pub fn eight_devices() -> std::sync::MutexGuard<'static, ()> {
    let mut settings = ascend_emulator::Settings::default();
    settings.devices = 8;
    fresh(settings)
}

/// Numbers as bf16, whose bits are the upper half of f32's: exact for these.
pub fn halves(values: &[f32]) -> Vec<u16> {
    values
        .iter()
        .map(|value| (value.to_bits() >> 16) as u16)
        .collect()
}

/// Runs the second phase of what a first phase made, with the workspace that it asked for.
pub fn finish(
    stream: sys::aclrtStream,
    (status, size, executor): (i32, u64, *mut sys::aclOpExecutor),
    second: unsafe extern "C" fn(
        *mut c_void,
        u64,
        *mut sys::aclOpExecutor,
        sys::aclrtStream,
    ) -> i32,
) {
    assert_eq!(status, 0, "{}", recent());
    let workspace = match size {
        0 => ptr::null_mut(),
        size => malloc(size as usize),
    };
    // SAFETY: the executor was made for this function, the workspace has the size that was asked for.
    let status = unsafe { second(workspace, size, executor, stream) };
    assert_eq!(status, 0, "{}", recent());
    synchronized(stream);
}
