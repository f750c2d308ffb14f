//! Determinism: whether kernels may add numbers in another order from run to run.
//!
//! Knows the setting, CANN's option for it, and the kernels that the option does not reach. Must not know ops.

use std::sync::atomic::{AtomicU8, Ordering};

use ascend_sys::{ACL_OPT_DETERMINISTIC, f};

use super::context::Context;
use super::runtime::process;
use crate::device::Device;
use crate::dtype::DType;
use crate::error::{Error, Result};

/// How equal the results of equal runs are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Determinism {
    /// Kernels may add in any order: some results differ in their last bits from run to run.
    #[default]
    Fast,
    /// The same program gives the same bits in each run, on one chip type, core count and CANN version.
    RunToRun,
}

const UNSET: u8 = 0;
const FAST: u8 = 1;
const RUN_TO_RUN: u8 = 2;

static SETTING: AtomicU8 = AtomicU8::new(UNSET);

/// Kernels whose sums stay in any order under CANN's option, and the chips where that is so.
const STUBBORN: [(&str, &str); 2] = [
    ("aclnnDeepNormGrad", "Ascend"),
    ("aclnnScatterAdd", "Ascend950"),
];

/// Sets how equal the results of equal runs are, on all NPUs of the process, those opened later too.
///
/// The CPU is deterministic always: sums are cut by shape, never by threads. On NPUs CANN's option `ACL_OPT_DETERMINISTIC`
/// replaces the kernels that add in any order (`docs` of CANN names them: the gradients of norms, pooling, convolution and
/// embedding, index_add, index_put, batch norm, norms of vectors ..) by slower ones; a kernel that the option does not reach is
/// refused as `Unsupported`. Without the option, as before it is set, a process's own setting holds. Communicators made after
/// `RunToRun` was set add in one order too (`HcclSetConfig`); before, HCCL's variable `HCCL_DETERMINISTIC` holds.
///
/// PyTorch: `torch.use_deterministic_algorithms`.
///
/// # Errors
/// `Symbol` if this CANN lacks the option, and the failure of setting it on an open device: then the setting is as before.
pub fn set_determinism(determinism: Determinism) -> Result<()> {
    let wanted = match determinism {
        Determinism::Fast => FAST,
        Determinism::RunToRun => RUN_TO_RUN,
    };
    let process = process();
    let before = SETTING.swap(wanted, Ordering::AcqRel);
    for opened in &process.devices {
        let context = &opened.context;
        let done = context
            .bind(OP)
            .and_then(|()| tell(context, wanted == RUN_TO_RUN));
        if let Err(error) = done {
            SETTING.store(before, Ordering::Release);
            return Err(error);
        }
    }
    Ok(())
}

/// The present setting.
pub fn determinism() -> Determinism {
    match SETTING.load(Ordering::Acquire) {
        RUN_TO_RUN => Determinism::RunToRun,
        _ => Determinism::Fast,
    }
}

const OP: &str = "set_determinism";

/// Sets the option of the context, which is bound.
fn tell(context: &Context, on: bool) -> Result<()> {
    // SAFETY: the call takes numbers only.
    context.call(OP, f::aclrtCtxSetSysParamOpt, |set| unsafe {
        set(ACL_OPT_DETERMINISTIC, i64::from(on))
    })
}

/// Gives the setting to a context that was just opened and is bound.
pub(super) fn carry_over(context: &Context) -> Result<()> {
    match SETTING.load(Ordering::Acquire) {
        UNSET => Ok(()),
        setting => tell(context, setting == RUN_TO_RUN),
    }
}

/// Refuses a kernel that would add in any order all the same.
#[inline]
pub(super) fn permit(op: &'static str, context: &Context, kernel: &str) -> Result<()> {
    if SETTING.load(Ordering::Relaxed) == RUN_TO_RUN {
        refuse(op, context, kernel)
    } else {
        Ok(())
    }
}

#[cold]
fn refuse(op: &'static str, context: &Context, kernel: &str) -> Result<()> {
    let Some((_, chip)) = STUBBORN.iter().find(|(own, _)| *own == kernel) else {
        return Ok(());
    };
    if !context.runtime().cann.soc_name(op)?.starts_with(chip) {
        return Ok(());
    }
    let why = "the kernel adds in any order, and run-to-run determinism is set";
    let device = Device::Ascend(context.number());
    Err(Error::unsupported(op, device, DType::F32, why))
}
