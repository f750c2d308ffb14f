//! Communicators: the ranks of a computation on several NPUs, and what HCCL does between them.
//!
//! Knows how ranks find each other, the rules of HCCL's calls, and in what order they reach the streams. Must not know tensors
//! or gradients: those meet communicators in `distributed`.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use ascend_sys::{
    Function, HCCL_DATA_TYPE_BFP16, HCCL_DATA_TYPE_FP16, HCCL_DATA_TYPE_FP32, HCCL_DATA_TYPE_FP64,
    HCCL_DATA_TYPE_INT8, HCCL_DATA_TYPE_INT16, HCCL_DATA_TYPE_INT32, HCCL_DATA_TYPE_INT64,
    HCCL_DATA_TYPE_UINT8, HCCL_DETERMINISTIC, HCCL_E_NOT_SUPPORT, HCCL_REDUCE_MAX, HCCL_REDUCE_MIN,
    HCCL_REDUCE_PROD, HCCL_REDUCE_SUM, HcclComm, HcclConfigValue, HcclDataType, HcclReduceOp,
    HcclResult, HcclRootInfo, aclrtStream, f,
};

use super::context::{Context, Raw, lock};
use super::determinism::{Determinism, determinism};
use super::launch::Launch;
use super::runtime::{current_stream, default_stream};
use super::stream::Stream;
use super::tensor::Dev;
use crate::device::Device;
use crate::dtype::DType;
use crate::error::{Error, Result};

/// The bytes of a [`RootInfo`].
const ROOT_INFO: usize = size_of::<HcclRootInfo>();

/// How long a drop waits for the communicator's last collective, in milliseconds.
const PATIENCE: i32 = 1000;

/// How ranks in several processes find each other: one rank makes it, and gives its bytes to the others by any way there is
/// (a file, a socket, a launcher's store).
#[derive(Clone, PartialEq, Eq)]
pub struct RootInfo(Box<[u8; ROOT_INFO]>);

impl RootInfo {
    /// Opens a meeting place, on the device of the rank that calls this; that rank must then join, too.
    ///
    /// # Errors
    /// Failures of opening the device; `Symbol` if this CANN has no HCCL; a failure of HCCL.
    pub fn new(device: u32) -> Result<Self> {
        let op = "RootInfo::new";
        let stream = default_stream(op, device)?;
        let mut info = HcclRootInfo {
            internal: [0; ROOT_INFO],
        };
        // SAFETY: `info` is writable for the call.
        hccl(op, stream.context(), f::HcclGetRootInfo, |get| unsafe {
            get(&mut info)
        })?;
        Ok(RootInfo(Box::new(info.internal.map(|byte| byte as u8))))
    }

    /// The bytes to hand to the other ranks.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_slice()
    }

    /// What another rank's [`as_bytes`](RootInfo::as_bytes) gave.
    ///
    /// # Errors
    /// `Option` for another number of bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        match <[u8; ROOT_INFO]>::try_from(bytes) {
            Ok(bytes) => Ok(RootInfo(Box::new(bytes))),
            Err(_) => {
                let why = format!("got {} bytes, wanted {ROOT_INFO}", bytes.len());
                Err(Error::option("RootInfo::from_bytes", "bytes", why))
            }
        }
    }
}

impl fmt::Debug for RootInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RootInfo").finish_non_exhaustive()
    }
}

/// Which of how many ranks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Membership {
    /// The rank, from 0.
    pub rank: u32,
    /// The number of ranks.
    pub ranks: u32,
}

/// How a collective joins the elements that are in the same place on each rank. PyTorch: `torch.distributed.ReduceOp`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ReduceOp {
    /// Their sum.
    #[default]
    Sum,
    /// Their product.
    Product,
    /// The smallest.
    Minimum,
    /// The largest.
    Maximum,
}

impl ReduceOp {
    const fn code(self) -> HcclReduceOp {
        match self {
            ReduceOp::Sum => HCCL_REDUCE_SUM,
            ReduceOp::Product => HCCL_REDUCE_PROD,
            ReduceOp::Minimum => HCCL_REDUCE_MIN,
            ReduceOp::Maximum => HCCL_REDUCE_MAX,
        }
    }
}

/// One rank's end of a group of NPUs that compute together over HCCL.
///
/// Every rank calls the same collectives in the same order, with the same dtypes and sizes; HCCL waits for all of them. A
/// collective is queued on the thread's stream as a kernel is, so that its failure surfaces at a later wait, as theirs do:
/// a rank that never comes is an error after `HCCL_EXEC_TIMEOUT` seconds (1836 unless set), whose text names it where CANN
/// does, and the streams of the device are of no more use until [`reset`](super::reset).
///
/// Ranks of one process belong on a thread each: HCCL's first collective waits on the host for the other ranks.
///
/// The collectives are methods on tensors, in [`distributed`](crate::distributed). Dropping the last handle waits at most a
/// second for the last collective, and what fails then surfaces at the device's next call; [`close`](Communicator::close)
/// answers for itself.
#[derive(Debug)]
pub struct Communicator {
    context: Arc<Context>,
    raw: Raw,
    member: Membership,
    closed: AtomicBool,
    /// The stream of the last collective: one on another stream waits for it, so that all ranks keep one order.
    last: Mutex<Option<Arc<Stream>>>,
}

impl Communicator {
    /// The ranks of one process: the communicator of each listed device, whose rank is the place in the list.
    ///
    /// ```
    /// use ascend_tensor::distributed::Communicator;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// # let mut settings = ascend_emulator::Settings::default();
    /// # settings.devices = 2;
    /// # ascend_emulator::reset(settings).unwrap();
    /// # ascend_tensor::ascend::install(ascend_sys::Api::from_resolver("ascend-emulator", ascend_emulator::resolve))?;
    /// let ranks = Communicator::of_devices(&[0, 1])?;
    /// assert_eq!((ranks[1].rank(), ranks[1].ranks(), ranks[1].device()), (1, 2, 1));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Option` for no device or one that is listed twice; failures of opening the devices; a failure of HCCL.
    pub fn of_devices(devices: &[u32]) -> Result<Vec<Arc<Self>>> {
        let op = "Communicator::of_devices";
        let twice =
            |(place, device): (usize, &u32)| devices.iter().take(place).any(|d| d == device);
        if devices.is_empty() || devices.iter().enumerate().any(twice) {
            let why = format!("got {devices:?}, wanted one or more different devices");
            return Err(Error::option(op, "devices", why));
        }
        let streams: Vec<_> = devices
            .iter()
            .map(|device| default_stream(op, *device))
            .collect::<Result<_>>()?;
        let Some(first) = streams.first() else {
            return Ok(Vec::new());
        };
        let mut numbers: Vec<i32> = devices.iter().map(|device| *device as i32).collect();
        let mut raw: Vec<HcclComm> = vec![std::ptr::null_mut(); devices.len()];
        let ranks = devices.len() as u32;
        let context = first.context();
        context.bind(op)?;
        tell_determinism(op, context)?;
        // SAFETY: both lists have as many entries as the call is told.
        let made = hccl(op, context, f::HcclCommInitAll, |init| unsafe {
            init(ranks, numbers.as_mut_ptr(), raw.as_mut_ptr())
        });
        // The call selects devices on this thread as it likes.
        Context::unbind();
        made?;
        let member = |rank| Membership { rank, ranks };
        Ok((0..ranks)
            .zip(streams.iter().zip(raw))
            .map(|(rank, (stream, raw))| Self::made(stream, raw, member(rank)))
            .collect())
    }

    /// Joins the ranks that were given the same root info, in this process or others, with a device. Waits for all of them.
    ///
    /// ```
    /// use ascend_tensor::distributed::{Communicator, Membership, RootInfo};
    /// # fn main() -> ascend_tensor::Result<()> {
    /// # ascend_tensor::ascend::install(ascend_sys::Api::from_resolver("ascend-emulator", ascend_emulator::resolve))?;
    /// let root = RootInfo::new(0)?; // on rank 0; the others are given its bytes
    /// let root = RootInfo::from_bytes(root.as_bytes())?;
    /// let alone = Communicator::join(0, &root, Membership { rank: 0, ranks: 1 })?;
    /// assert_eq!(alone.ranks(), 1);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Option` for a rank that is not below the number of ranks; failures of opening the device; an [`Acl`](Error::Acl) error
    /// with HCCL's time-out (9), whose text names the rank that did not come, after `HCCL_CONNECT_TIMEOUT` seconds (120
    /// unless set).
    pub fn join(device: u32, root: &RootInfo, member: Membership) -> Result<Arc<Self>> {
        let op = "Communicator::join";
        if member.rank >= member.ranks {
            let why = format!("got {member:?}, wanted a rank below the number of ranks");
            return Err(Error::option(op, "member", why));
        }
        let stream = default_stream(op, device)?;
        let context = stream.context();
        tell_determinism(op, context)?;
        let info = HcclRootInfo {
            internal: root.0.map(|byte| byte as _),
        };
        let mut raw: HcclComm = std::ptr::null_mut();
        // SAFETY: `info` is as long as HCCL's own, and `raw` is writable for the call.
        hccl(op, context, f::HcclCommInitRootInfo, |init| unsafe {
            init(member.ranks, &info, member.rank, &mut raw)
        })?;
        Ok(Self::made(&stream, raw, member))
    }

    fn made(stream: &Stream, raw: HcclComm, member: Membership) -> Arc<Self> {
        let context = Arc::clone(stream.context());
        let communicator = Arc::new(Communicator {
            raw: Raw::new(raw),
            member,
            closed: AtomicBool::new(false),
            last: Mutex::default(),
            context,
        });
        communicator.context.adopt_communicator(&communicator);
        communicator
    }

    /// This end's rank.
    pub fn rank(&self) -> u32 {
        self.member.rank
    }

    /// The number of ranks.
    pub fn ranks(&self) -> u32 {
        self.member.ranks
    }

    /// The number of this rank's device.
    pub fn device(&self) -> u32 {
        self.context.number()
    }

    /// Refuses a rank that is not of this communicator.
    pub(crate) fn check_rank(&self, op: &'static str, rank: u32) -> Result<()> {
        if rank < self.member.ranks {
            return Ok(());
        }
        let why = format!("got {rank}, wanted a rank below {}", self.member.ranks);
        Err(Error::option(op, "rank", why))
    }

    /// What HCCL knows of failures since the start, without waiting: of this rank's collectives or of another rank.
    ///
    /// # Errors
    /// The failure; a lost device; a communicator that was closed.
    pub fn check(&self) -> Result<()> {
        let op = "Communicator::check";
        self.ready(op)?;
        self.context.bind(op)?;
        let mut found: HcclResult = 0;
        hccl(op, &self.context, f::HcclGetCommAsyncError, |get| {
            // SAFETY: the communicator is alive and `found` is writable for the call.
            unsafe { get(self.raw.pointer(), &mut found) }
        })?;
        match found {
            0 => Ok(()),
            code => {
                Err(self
                    .context
                    .runtime()
                    .cann
                    .failure(op, "HcclGetCommAsyncError", code as i32))
            }
        }
    }

    /// Waits, on this rank's stream, until all ranks have come here. The host waits where it waits for the stream.
    ///
    /// ```
    /// # use ascend_tensor::distributed::{Communicator, Membership, RootInfo};
    /// # fn main() -> ascend_tensor::Result<()> {
    /// # ascend_tensor::ascend::install(ascend_sys::Api::from_resolver("ascend-emulator", ascend_emulator::resolve))?;
    /// # let comm = Communicator::join(0, &RootInfo::new(0)?, Membership { rank: 0, ranks: 1 })?;
    /// comm.barrier()?;
    /// ascend_tensor::ascend::synchronize(0)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// A failure of HCCL; an earlier failure that surfaces; a communicator that was closed.
    pub fn barrier(&self) -> Result<()> {
        let op = "barrier";
        self.ready(op)?;
        let stream = current_stream(op, self.device())?;
        self.queue(
            op,
            &stream,
            f::HcclBarrier,
            None,
            |barrier, comm, stream| {
                // SAFETY: communicator and stream are alive and of one context.
                unsafe { barrier(comm, stream) }
            },
        )
    }

    /// Joins the elements of all ranks: `y = reduce(x of each rank)`.
    pub(crate) fn all_reduce_into(
        &self,
        cx: &Launch,
        [x, y]: [&Dev<'_>; 2],
        reduce: ReduceOp,
    ) -> Result<()> {
        let (from, to, kind) = self.buffers(cx, x, y)?;
        let (count, reduce) = (x.elements() as u64, reduce.code());
        let call = f::HcclAllReduce;
        self.queue(
            cx.op(),
            cx.stream(),
            call,
            Some(x.dtype()),
            |all_reduce, comm, stream| {
                // SAFETY: both buffers have `count` elements of the dtype, are on the communicator's device, and stay until the
                // stream has passed the collective.
                unsafe { all_reduce(from, to, count, kind, reduce, comm, stream) }
            },
        )
    }

    /// Makes the elements of one rank those of all: `y` holds them already on the root.
    pub(crate) fn broadcast_in_place(&self, cx: &Launch, y: &Dev<'_>, root: u32) -> Result<()> {
        let (at, _, kind) = self.buffers(cx, y, y)?;
        let count = y.elements() as u64;
        let call = f::HcclBroadcast;
        self.queue(
            cx.op(),
            cx.stream(),
            call,
            Some(y.dtype()),
            |broadcast, comm, stream| {
                // SAFETY: as in `all_reduce_into`.
                unsafe { broadcast(at, count, kind, root, comm, stream) }
            },
        )
    }

    /// Puts the elements of all ranks one after the other: `y` has `ranks` times those of `x`.
    pub(crate) fn all_gather_into(&self, cx: &Launch, [x, y]: [&Dev<'_>; 2]) -> Result<()> {
        let (from, to, kind) = self.buffers(cx, x, y)?;
        let count = x.elements() as u64;
        let call = f::HcclAllGather;
        self.queue(
            cx.op(),
            cx.stream(),
            call,
            Some(x.dtype()),
            |all_gather, comm, stream| {
                // SAFETY: as in `all_reduce_into`; `y` has `count` elements for each rank.
                unsafe { all_gather(from, to, count, kind, comm, stream) }
            },
        )
    }

    /// Joins the elements of all ranks and keeps this rank's part: `x` has `ranks` times the elements of `y`.
    pub(crate) fn reduce_scatter_into(
        &self,
        cx: &Launch,
        [x, y]: [&Dev<'_>; 2],
        reduce: ReduceOp,
    ) -> Result<()> {
        let (from, to, kind) = self.buffers(cx, x, y)?;
        let (count, reduce) = (y.elements() as u64, reduce.code());
        let call = f::HcclReduceScatter;
        self.queue(
            cx.op(),
            cx.stream(),
            call,
            Some(x.dtype()),
            |scatter, comm, stream| {
                // SAFETY: as in `all_reduce_into`; `x` has `count` elements for each rank.
                unsafe { scatter(from, to, count, kind, reduce, comm, stream) }
            },
        )
    }

    /// Gives part `i` of `x` to rank `i`, and takes its part from each.
    pub(crate) fn all_to_all_into(&self, cx: &Launch, [x, y]: [&Dev<'_>; 2]) -> Result<()> {
        let (from, to, kind) = self.buffers(cx, x, y)?;
        let count = x.elements() as u64 / u64::from(self.member.ranks.max(1));
        let call = f::HcclAlltoAll;
        self.queue(
            cx.op(),
            cx.stream(),
            call,
            Some(x.dtype()),
            |all_to_all, comm, stream| {
                // SAFETY: as in `all_reduce_into`; both have `count` elements for each rank.
                unsafe { all_to_all(from, count, kind, to, count, kind, comm, stream) }
            },
        )
    }

    /// Gives `x` to a rank, which must receive it.
    pub(crate) fn send_from(&self, cx: &Launch, x: &Dev<'_>, to: u32) -> Result<()> {
        let (from, _, kind) = self.buffers(cx, x, x)?;
        let count = x.elements() as u64;
        self.queue(
            cx.op(),
            cx.stream(),
            f::HcclSend,
            Some(x.dtype()),
            |send, comm, stream| {
                // SAFETY: as in `all_reduce_into`.
                unsafe { send(from, count, kind, to, comm, stream) }
            },
        )
    }

    /// Takes what a rank sends.
    pub(crate) fn receive_into(&self, cx: &Launch, y: &Dev<'_>, from: u32) -> Result<()> {
        let (at, _, kind) = self.buffers(cx, y, y)?;
        let count = y.elements() as u64;
        self.queue(
            cx.op(),
            cx.stream(),
            f::HcclRecv,
            Some(y.dtype()),
            |receive, comm, stream| {
                // SAFETY: as in `all_reduce_into`.
                unsafe { receive(at, count, kind, from, comm, stream) }
            },
        )
    }

    /// The addresses of two row-major tensors, usable on the launch's stream, and HCCL's number of their dtype.
    fn buffers(
        &self,
        cx: &Launch,
        x: &Dev<'_>,
        y: &Dev<'_>,
    ) -> Result<(Address, Address, HcclDataType)> {
        for dev in [x, y] {
            if !dev.layout().is_contiguous() {
                return Err(Error::shape(
                    cx.op(),
                    dev.layout().shape(),
                    "a row-major tensor",
                ));
            }
            if dev.buffer().device() != self.device() {
                return Err(Error::Device {
                    op: cx.op(),
                    lhs: Device::Ascend(self.device()),
                    rhs: Device::Ascend(dev.buffer().device()),
                });
            }
            dev.buffer().join(cx.op(), cx.stream())?;
        }
        let at = |dev: &Dev<'_>| dev.buffer().at(dev.layout().offset() * dev.dtype().size());
        Ok((at(x), at(y), code(x.dtype())))
    }

    /// Queues one collective, behind those that came before it on other streams.
    fn queue<F: Function>(
        &self,
        op: &'static str,
        stream: &Arc<Stream>,
        function: F,
        dtype: Option<DType>,
        body: impl FnOnce(F::Pointer, HcclComm, aclrtStream) -> HcclResult,
    ) -> Result<()> {
        self.ready(op)?;
        let mut last = lock(&self.last);
        if let Some(before) = last.as_ref().filter(|before| !Arc::ptr_eq(before, stream)) {
            stream.wait_for(op, before)?;
        }
        *last = Some(Arc::clone(stream));
        let queued = hccl(op, &self.context, function, |call| {
            body(call, self.raw.pointer(), stream.raw())
        });
        queued.map_err(|error| match (error, dtype) {
            (Error::Acl(error), Some(dtype)) if error.code == HCCL_E_NOT_SUPPORT as i32 => {
                let why = format!("HCCL on this chip does not take it: {}", error.detail);
                Error::unsupported(op, Device::Ascend(self.device()), dtype, why)
            }
            (error, _) => error,
        })
    }

    /// Refuses a communicator that has ended, and one on a lost device.
    fn ready(&self, op: &'static str) -> Result<()> {
        self.context.check(op)?;
        if self.closed.load(Ordering::Acquire) {
            let why = "got a communicator that was closed, wanted an open one";
            return Err(Error::option(op, "communicator", why));
        }
        Ok(())
    }

    /// Waits for the collectives queued so far and ends this rank's part. The other ranks end theirs.
    ///
    /// # Errors
    /// The first failure of the collectives, or of ending the communicator.
    pub fn close(&self) -> Result<()> {
        let op = "Communicator::close";
        let last = lock(&self.last).clone();
        let done = last.map_or(Ok(()), |stream| stream.synchronize_for(op));
        done.and(self.end(op))
    }

    /// Ends the communicator, once; its last collective has a moment to finish, without which HCCL's memory must stay.
    pub(super) fn end(&self, op: &'static str) -> Result<()> {
        if self.closed.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        let last = lock(&self.last).take();
        let bound = self.context.bind(op);
        let settled = match last.filter(|stream| bound.is_ok() && !stream.is_closed()) {
            Some(stream) => {
                let wait = f::aclrtSynchronizeStreamWithTimeout;
                // SAFETY: the stream is alive and its context bound.
                self.context
                    .call(op, wait, |wait| unsafe { wait(stream.raw(), PATIENCE) })
            }
            None => Ok(()),
        };
        const STILL_RUNNING: i32 = 507_046;
        if matches!(&settled, Err(Error::Acl(error)) if error.code == STILL_RUNNING) {
            return settled;
        }
        // SAFETY: the handle is destroyed only here, once, and nothing of it runs any more.
        let ended = hccl(op, &self.context, f::HcclCommDestroy, |destroy| unsafe {
            destroy(self.raw.pointer())
        });
        settled.and(ended)
    }
}

impl Drop for Communicator {
    fn drop(&mut self) {
        if let Err(error) = self.end("drop of a communicator") {
            self.context.defer(error);
        }
    }
}

type Address = *mut core::ffi::c_void;

/// Calls a function of HCCL on a device's behalf.
fn hccl<F: Function>(
    op: &'static str,
    context: &Context,
    function: F,
    body: impl FnOnce(F::Pointer) -> HcclResult,
) -> Result<()> {
    context.call(op, function, |pointer| body(pointer) as i32)
}

/// Tells HCCL to add in one order from run to run, where that is asked for.
fn tell_determinism(op: &'static str, context: &Context) -> Result<()> {
    if determinism() != Determinism::RunToRun {
        return Ok(());
    }
    let value = HcclConfigValue { value: 1 };
    // SAFETY: the call takes numbers only.
    hccl(op, context, f::HcclSetConfig, |set| unsafe {
        set(HCCL_DETERMINISTIC, value)
    })
}

/// HCCL's number of a dtype, which is not that of CANN's tensors.
const fn code(dtype: DType) -> HcclDataType {
    match dtype {
        DType::F64 => HCCL_DATA_TYPE_FP64,
        DType::F32 => HCCL_DATA_TYPE_FP32,
        DType::F16 => HCCL_DATA_TYPE_FP16,
        DType::BF16 => HCCL_DATA_TYPE_BFP16,
        DType::I64 => HCCL_DATA_TYPE_INT64,
        DType::I32 => HCCL_DATA_TYPE_INT32,
        DType::I16 => HCCL_DATA_TYPE_INT16,
        DType::I8 => HCCL_DATA_TYPE_INT8,
        DType::U8 | DType::Bool => HCCL_DATA_TYPE_UINT8,
    }
}
