//! HCCL: making, asking and destroying communicators.
//!
//! Knows the calls' rules; it must not know sockets or algorithms.

use super::system::give_text;
use crate::failure::Failure;
use crate::guard::{call, value};
use crate::hccl::collective::Turn;
use crate::hccl::link::Link;
use crate::hccl::meeting::{self, ROOT_INFO, Root, Seat};
use crate::hccl::rank_table::RankTable;
use crate::hccl::result::{self, PTR, translate, unsupported, wrong};
use crate::hccl::{COMMUNICATORS, Communicator, Parts};
use crate::kernel::Family;
use crate::state::{World, context, world};
use ascend_sys::*;
use std::ffi::{CStr, c_char};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

/// The process's `HCCL_DETERMINISTIC`; results here are deterministic in any case.
static DETERMINISTIC: AtomicI32 = AtomicI32::new(0);

/// The gate for functions of HCCL: failures of the runtime become results of HCCL.
pub(crate) fn hccl(name: &'static str, body: impl FnOnce() -> Result<(), Failure>) -> HcclResult {
    call(name, || body().map_err(translate)) as HcclResult
}

pub(crate) fn not_null<T>(pointer: *const T, what: &str) -> Result<(), Failure> {
    if pointer.is_null() {
        return Err(Failure::new(
            PTR,
            format!("{what} is null, wanted a pointer"),
        ));
    }
    Ok(())
}

/// Writes a result through a caller's pointer; null is refused.
///
/// # Safety
/// `target` must be null or valid for a write of `T`.
unsafe fn give<T>(target: *mut T, what: &str, value: T) -> Result<(), Failure> {
    not_null(target, what)?;
    // SAFETY: not null, and valid by this function's contract.
    unsafe { target.write(value) };
    Ok(())
}

pub(crate) fn find(comm: HcclComm) -> Result<Arc<Communicator>, Failure> {
    not_null(comm, "comm")?;
    COMMUNICATORS.get(comm)
}

/// What a configuration asks for.
struct Wish {
    name: Option<String>,
    buffer: u64,
    patience: Option<Duration>,
}

impl Wish {
    /// # Safety
    /// `config` must be null or point to a configuration as long as its first word says.
    unsafe fn read(config: *const HcclCommConfig, world: &World) -> Result<Wish, Failure> {
        let settings = &world.settings;
        let mut wish = Wish {
            name: None,
            buffer: settings.hccl_buffer,
            patience: settings.hccl_exec_timeout,
        };
        if config.is_null() {
            return Ok(wish);
        }
        // SAFETY: not null; every version of the structure begins with these fields.
        let known = unsafe { config.read_unaligned() };
        let word = |at: usize| -> u32 {
            let bytes = [0, 1, 2, 3].map(|byte| known.reserved[at + byte] as u8);
            u32::from_ne_bytes(bytes)
        };
        if word(8) != HCCL_COMM_CONFIG_MAGIC_WORD {
            return Err(wrong("config was not made by HcclCommConfigInit"));
        }
        if known.hcclBufferSize != HCCL_COMM_BUFFSIZE_CONFIG_NOT_SET {
            wish.buffer = u64::from(known.hcclBufferSize);
        }
        if wish.buffer == 0 {
            return Err(wrong("hcclBufferSize is 0, wanted megabytes, 1 or more"));
        }
        let name: Vec<u8> = known
            .hcclCommName
            .iter()
            .map(|letter| *letter as u8)
            .take_while(|letter| *letter != 0)
            .collect();
        if name.len() >= COMM_NAME_MAX_LENGTH as usize {
            return Err(wrong("hcclCommName does not end within 128 bytes"));
        }
        if !name.is_empty() {
            wish.name = Some(String::from_utf8_lossy(&name).into_owned());
        }
        const EXEC_TIMEOUT: usize = 316;
        if word(0) as usize >= EXEC_TIMEOUT + 4 {
            // SAFETY: the structure is long enough to hold the field of newer versions.
            let seconds = unsafe { config.byte_add(EXEC_TIMEOUT).cast::<i32>().read_unaligned() };
            if let Ok(seconds) = u64::try_from(seconds) {
                wish.patience = (seconds > 0).then(|| Duration::from_secs(seconds));
            }
        }
        Ok(wish)
    }

    /// The first 910 and 310P count in steps of 68 seconds.
    fn patience(&self, family: Family) -> Option<Duration> {
        let time = self.patience?;
        let steps = matches!(family, Family::A910 | Family::P310) && time >= Duration::from_secs(1);
        Some(if steps {
            Duration::from_secs((time.as_secs() / 68).max(1) * 68)
        } else {
            time
        })
    }
}

/// Takes exchange buffers from a device and makes a communicator known.
fn install(world: &World, wish: &Wish, device: u32, mut parts: Parts) -> Result<HcclComm, Failure> {
    parts.buffers = 2 * (wish.buffer << 20);
    parts.patience = wish.patience(world.family);
    if let Some(name) = &wish.name {
        parts.name.clone_from(name);
    }
    let room = usize::try_from(parts.buffers).unwrap_or(usize::MAX);
    let device = world.device(i64::from(device))?;
    if let Err(failure) = device.account(room, world.capacity()) {
        parts.link.open_group();
        parts.link.close_group(parts.group);
        return Err(failure);
    }
    Ok(COMMUNICATORS.insert(Communicator::new(parts)))
}

fn whole(link: Arc<Link>, name: String, device: u32) -> Parts {
    Parts {
        name,
        device,
        group: 0,
        members: (0..link.ranks).collect(),
        rank: link.rank,
        link,
        patience: None,
        buffers: 0,
    }
}

fn check_rank(rank: u32, ranks: u32) -> Result<(), Failure> {
    if ranks == 0 || rank >= ranks {
        return Err(wrong(format!(
            "rank is {rank} of {ranks}, wanted 0 to {ranks} - 1"
        )));
    }
    Ok(())
}

fn join(root: Root, ranks: u32, rank: u32, wish: &Wish) -> Result<HcclComm, Failure> {
    let world = world()?;
    let device = context()?.device.id;
    check_rank(rank, ranks)?;
    let seat = Seat {
        root,
        ranks: ranks as usize,
        rank: rank as usize,
        device,
        patience: world.settings.hccl_connect_timeout,
    };
    let link = seat.take()?;
    install(&world, wish, device, whole(link, root.name(), device))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn HcclGetRootInfo(rootInfo: *mut HcclRootInfo) -> HcclResult {
    hccl("HcclGetRootInfo", || {
        not_null(rootInfo, "rootInfo")?;
        context()?;
        let root = Root::open(world()?.settings.hccl_connect_timeout)?;
        // SAFETY: not null, valid for a write of as many bytes.
        unsafe { rootInfo.cast::<[u8; ROOT_INFO]>().write(root.write()) };
        Ok(())
    })
}

/// # Safety
/// As the C functions that call it.
unsafe fn init_root_info(
    ranks: u32,
    info: *const HcclRootInfo,
    rank: u32,
    config: *const HcclCommConfig,
    comm: *mut HcclComm,
) -> Result<(), Failure> {
    not_null(info, "rootInfo")?;
    not_null(comm, "comm")?;
    // SAFETY: null, or a configuration.
    let wish = unsafe { Wish::read(config, &*world()?) }?;
    // SAFETY: not null, valid for a read of as many bytes.
    let root = Root::read(unsafe { &*info.cast::<[u8; ROOT_INFO]>() })?;
    let made = join(root, ranks, rank, &wish)?;
    // SAFETY: checked for null, valid for a write.
    unsafe { give(comm, "comm", made) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn HcclCommInitRootInfo(
    nRanks: u32,
    rootInfo: *const HcclRootInfo,
    rank: u32,
    comm: *mut HcclComm,
) -> HcclResult {
    // SAFETY: the caller's pointers are null or valid.
    hccl("HcclCommInitRootInfo", || unsafe {
        init_root_info(nRanks, rootInfo, rank, ptr::null(), comm)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn HcclCommInitRootInfoConfig(
    nRanks: u32,
    rootInfo: *const HcclRootInfo,
    rank: u32,
    config: *const HcclCommConfig,
    comm: *mut HcclComm,
) -> HcclResult {
    hccl("HcclCommInitRootInfoConfig", || {
        not_null(config, "config")?;
        // SAFETY: the caller's pointers are null or valid.
        unsafe { init_root_info(nRanks, rootInfo, rank, config, comm) }
    })
}

/// # Safety
/// As the C functions that call it.
unsafe fn init_cluster_info(
    path: *const c_char,
    rank: u32,
    config: *const HcclCommConfig,
    comm: *mut HcclComm,
) -> Result<(), Failure> {
    not_null(path, "clusterInfo")?;
    not_null(comm, "comm")?;
    let world = world()?;
    // SAFETY: null, or a configuration.
    let wish = unsafe { Wish::read(config, &world) }?;
    // SAFETY: not null, and a C string.
    let path = unsafe { CStr::from_ptr(path) }.to_string_lossy();
    let table = RankTable::read(&path)?;
    let ranks = table.devices.len() as u32;
    check_rank(rank, ranks)?;
    context()?;
    let root = table.root(rank as usize, world.settings.hccl_connect_timeout)?;
    let made = join(root, ranks, rank, &wish)?;
    // SAFETY: checked for null, valid for a write.
    unsafe { give(comm, "comm", made) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn HcclCommInitClusterInfo(
    clusterInfo: *const c_char,
    rank: u32,
    comm: *mut HcclComm,
) -> HcclResult {
    // SAFETY: the caller's pointers are null or valid.
    hccl("HcclCommInitClusterInfo", || unsafe {
        init_cluster_info(clusterInfo, rank, ptr::null(), comm)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn HcclCommInitClusterInfoConfig(
    clusterInfo: *const c_char,
    rank: u32,
    config: *mut HcclCommConfig,
    comm: *mut HcclComm,
) -> HcclResult {
    hccl("HcclCommInitClusterInfoConfig", || {
        not_null(config, "config")?;
        // SAFETY: the caller's pointers are null or valid.
        unsafe { init_cluster_info(clusterInfo, rank, config, comm) }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn HcclCommInitAll(
    ndev: u32,
    devices: *mut i32,
    comms: *mut HcclComm,
) -> HcclResult {
    hccl("HcclCommInitAll", || {
        not_null(devices, "devices")?;
        not_null(comms, "comms")?;
        let world = world()?;
        if ndev == 0 || ndev as usize > world.devices.len() {
            return Err(wrong(format!(
                "ndev is {ndev}, wanted 1 to {} devices",
                world.devices.len()
            )));
        }
        // SAFETY: not null, valid for `ndev` reads.
        let devices = unsafe { std::slice::from_raw_parts(devices, ndev as usize) };
        for (rank, &id) in devices.iter().enumerate() {
            world
                .device(i64::from(id))
                .map_err(|failure| wrong(failure.text))?;
            if devices[..rank].contains(&id) {
                return Err(wrong(format!("device {id} is listed twice")));
            }
        }
        let token = meeting::random();
        // SAFETY: no configuration.
        let wish = unsafe { Wish::read(ptr::null(), &world) }?;
        let links = meeting::connect_all(devices.len())?;
        for (rank, link) in links.into_iter().enumerate() {
            let device = devices[rank] as u32;
            let name = Root { port: 0, token }.name();
            let made = install(&world, &wish, device, whole(link, name, device))?;
            // SAFETY: not null, valid for `ndev` writes.
            unsafe { comms.add(rank).write(made) };
        }
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn HcclCreateSubCommConfig(
    comm: *mut HcclComm,
    rankNum: u32,
    rankIds: *mut u32,
    subCommId: u64,
    subCommRankId: u32,
    config: *mut HcclCommConfig,
    subComm: *mut HcclComm,
) -> HcclResult {
    hccl("HcclCreateSubCommConfig", || {
        not_null(comm, "comm")?;
        not_null(subComm, "subComm")?;
        // SAFETY: not null, valid for a read.
        let parent = find(unsafe { comm.read() })?;
        if rankIds.is_null() && subCommId == 0xffff_ffff {
            // SAFETY: not null, valid for a write. This rank is not part of it.
            unsafe { subComm.write(ptr::null_mut()) };
            return Ok(());
        }
        not_null(rankIds, "rankIds")?;
        not_null(config, "config")?;
        check_rank(subCommRankId, rankNum)?;
        // SAFETY: not null, valid for `rankNum` reads.
        let ids = unsafe { std::slice::from_raw_parts(rankIds, rankNum as usize) };
        for (place, &id) in ids.iter().enumerate() {
            if id as usize >= parent.ranks() || ids[..place].contains(&id) {
                return Err(wrong(format!(
                    "rankIds are {ids:?}, wanted different ranks of {}",
                    parent.ranks()
                )));
            }
        }
        if ids[subCommRankId as usize] as usize != parent.rank {
            return Err(wrong(format!(
                "subCommRankId is {subCommRankId}, where rankIds {ids:?} have rank {}, but this is rank {}",
                ids[subCommRankId as usize], parent.rank
            )));
        }
        let world = world()?;
        // SAFETY: a configuration.
        let wish = unsafe { Wish::read(config, &world) }?;
        let parts = Parts {
            name: format!("{}_sub_{subCommId}", parent.name),
            device: parent.device,
            link: Arc::clone(&parent.link),
            group: parent.part(subCommId, ids),
            members: ids.iter().map(|&id| parent.members[id as usize]).collect(),
            rank: subCommRankId as usize,
            patience: None,
            buffers: 0,
        };
        let made = install(&world, &wish, parent.device, parts)?;
        let part = find(made)?;
        let call = format!("HcclCreateSubCommConfig with ranks {ids:?}");
        let turn = Turn::new(&part, Some(part.next_turn(false)), &call, None);
        if let Err(trouble) = turn.finish(turn.barrier()) {
            destroy(made)?;
            return Err(Failure::new(trouble.result, trouble.text));
        }
        // SAFETY: checked for null, valid for a write.
        unsafe { give(subComm, "subComm", made) }
    })
}

fn destroy(comm: HcclComm) -> Result<(), Failure> {
    let communicator = find(comm)?;
    if communicator.queued() > 0 {
        let failure = crate::guard::violation(
            result::PARA,
            format!(
                "communicator {} is destroyed while {} of its collectives are queued",
                communicator.name,
                communicator.queued()
            ),
        );
        if !communicator.drain(Duration::from_secs(30)) {
            return Err(failure);
        }
    }
    let communicator = COMMUNICATORS.remove(comm)?;
    communicator.close();
    let room = usize::try_from(communicator.buffers).unwrap_or(usize::MAX);
    if let Ok(device) = world()?.device(i64::from(communicator.device)) {
        device.unaccount(room);
    }
    Ok(())
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn HcclCommDestroy(comm: HcclComm) -> HcclResult {
    hccl("HcclCommDestroy", || destroy(comm))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn HcclGetRankId(comm: HcclComm, rank: *mut u32) -> HcclResult {
    hccl("HcclGetRankId", || {
        // SAFETY: null or valid for a write.
        unsafe { give(rank, "rank", find(comm)?.rank as u32) }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn HcclGetRankSize(comm: HcclComm, rankSize: *mut u32) -> HcclResult {
    hccl("HcclGetRankSize", || {
        // SAFETY: null or valid for a write.
        unsafe { give(rankSize, "rankSize", find(comm)?.ranks() as u32) }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn HcclGetCommName(comm: HcclComm, commName: *mut c_char) -> HcclResult {
    hccl("HcclGetCommName", || {
        not_null(commName, "commName")?;
        let communicator = find(comm)?;
        // SAFETY: not null; the C contract asks for room for COMM_NAME_MAX_LENGTH bytes.
        unsafe { give_text(commName, COMM_NAME_MAX_LENGTH as usize, &communicator.name) }
    })
}

/// The communicator with a name.
///
/// # Safety
/// `name` must be null or a C string.
unsafe fn by_name(name: *const c_char) -> Result<(HcclComm, Arc<Communicator>), Failure> {
    not_null(name, "commName")?;
    // SAFETY: not null, and a C string.
    let name = unsafe { CStr::from_ptr(name) }.to_string_lossy();
    COMMUNICATORS
        .living()
        .into_iter()
        .find(|(_, communicator, _)| communicator.name == name)
        .map(|(handle, communicator, _)| (ptr::without_provenance_mut(handle), communicator))
        .ok_or_else(|| {
            Failure::new(
                result::NOT_FOUND,
                format!("no communicator is called {name}"),
            )
        })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn HcclCommGetHandleWithName(
    commName: *const c_char,
    comm: *mut HcclComm,
) -> HcclResult {
    hccl("HcclCommGetHandleWithName", || {
        // SAFETY: null, or as the C contract says.
        unsafe { give(comm, "comm", by_name(commName)?.0) }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn HcclCommGetStatus(
    commId: *const c_char,
    status: *mut HcclCommStatus,
) -> HcclResult {
    hccl("HcclCommGetStatus", || {
        // SAFETY: null or a C string.
        let (_, communicator) = unsafe { by_name(commId) }?;
        let suspended = communicator.suspended.load(Ordering::Acquire);
        // SAFETY: null or valid for a write.
        unsafe { give(status, "status", HcclCommStatus::from(suspended)) }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn HcclGetCommAsyncError(
    comm: HcclComm,
    asyncError: *mut HcclResult,
) -> HcclResult {
    hccl("HcclGetCommAsyncError", || {
        let communicator = find(comm)?;
        let trouble = communicator
            .link
            .trouble(communicator.group, &communicator.members);
        let result = trouble.map_or(0, |trouble| trouble.result);
        // SAFETY: null or valid for a write.
        unsafe { give(asyncError, "asyncError", result as HcclResult) }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn HcclGetErrorString(code: HcclResult) -> *const c_char {
    value("HcclGetErrorString", ptr::null(), || {
        Ok(result::text(code).as_ptr())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn HcclGetCommConfigCapability() -> u32 {
    value("HcclGetCommConfigCapability", 0, || {
        Ok(HCCL_COMM_CONFIG_RESERVED)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn HcclSetConfig(
    config: HcclConfig,
    configValue: HcclConfigValue,
) -> HcclResult {
    hccl("HcclSetConfig", || {
        // SAFETY: the union has one member.
        let wanted = unsafe { configValue.value };
        if config != HCCL_DETERMINISTIC || !(0..=2).contains(&wanted) {
            return Err(wrong(format!(
                "config is {config} with value {wanted}, wanted 0 (HCCL_DETERMINISTIC) with 0, 1 or 2"
            )));
        }
        DETERMINISTIC.store(wanted, Ordering::Release);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn HcclGetConfig(
    config: HcclConfig,
    configValue: *mut HcclConfigValue,
) -> HcclResult {
    hccl("HcclGetConfig", || {
        if config != HCCL_DETERMINISTIC {
            return Err(unsupported(format!(
                "config is {config}, wanted 0 (HCCL_DETERMINISTIC)"
            )));
        }
        let value = DETERMINISTIC.load(Ordering::Acquire);
        // SAFETY: null or valid for a write.
        unsafe { give(configValue, "configValue", HcclConfigValue { value }) }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn HcclCommSuspend(comm: HcclComm) -> HcclResult {
    hccl("HcclCommSuspend", || {
        find(comm)?.suspended.store(true, Ordering::Release);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn HcclCommResume(comm: HcclComm) -> HcclResult {
    hccl("HcclCommResume", || {
        find(comm)?.suspended.store(false, Ordering::Release);
        Ok(())
    })
}
