//! The short way of small calls on the host.
//!
//! Knows the calls that need no casts, tape, modes or compositions. Must not know any op; all other calls go the long way.

use smallvec::SmallVec;

use super::{host_memory, host_output};
use crate::cpu::alloc::told;
use crate::cpu::{self, HostMut};
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::mode::{self, Modes};
use crate::op::{Counts, Meta, Op, Plan};
use crate::storage::Locks;
use crate::tensor::Tensor;

/// The short way of a call with one output and up to three inputs that needs no casts, no tape, no mode and no composition: a
/// view, or a host kernel with nothing copied that need not be. None if the call is not of that kind; it has left nothing
/// behind then.
pub(super) fn quick(op: &dyn Op, inputs: &[&Tensor]) -> Result<Option<Tensor>> {
    let modes = mode::current().outer();
    let plain = modes == Modes::NO_GRAD
        || modes == Modes::default() && inputs.iter().all(|input| !input.is_tracked());
    if !plain || !inputs.iter().all(|input| input.storage().is_host()) || !op.writes().is_nothing()
    {
        return Ok(None);
    }
    match inputs {
        [input] => match op.view(input.layout())? {
            Some(layout) => {
                layout.shape().check(op.name())?;
                Ok(Some(input.with_layout(layout)))
            }
            None => short(op, [input], |y| {
                let _locks = Locks::reading([input.storage()]);
                op.cpu(&[input.host_or_empty()], y)
            }),
        },
        [a, b] => short(op, [a, b], |y| {
            let _locks = Locks::reading([a.storage(), b.storage()]);
            op.cpu(&[a.host_or_empty(), b.host_or_empty()], y)
        }),
        [a, b, c] => short(op, [a, b, c], |y| {
            let _locks = Locks::reading([a.storage(), b.storage(), c.storage()]);
            op.cpu(
                &[a.host_or_empty(), b.host_or_empty(), c.host_or_empty()],
                y,
            )
        }),
        _ => Ok(None),
    }
}

/// A call that `quick` has looked at: `run` starts the host kernel.
#[inline(always)]
fn short<const N: usize>(
    op: &dyn Op,
    inputs: [&Tensor; N],
    run: impl FnOnce(&mut [HostMut<'_>]) -> Result<Counts>,
) -> Result<Option<Tensor>> {
    let name = op.name();
    cpu::ready(name)?;
    let fresh = match alike(op, &inputs) {
        Some(dtype) => host_memory(name, inputs[0].layout(), dtype)?,
        None => match planned(op, &inputs.map(Tensor::meta))? {
            Some(meta) => host_output(name, &meta)?,
            None => return Ok(None),
        },
    };
    let Some(target) = fresh.host_mut() else {
        return Ok(None);
    };
    match told(name, run(&mut [target])) {
        Ok(_) => Ok(Some(fresh)),
        Err(Error::Unsupported { .. } | Error::Symbol { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The dtype of the output of an op that needs no plan, which has the layout of the inputs: all row-major and of one dtype.
#[inline(always)]
fn alike(op: &dyn Op, inputs: &[&Tensor]) -> Option<DType> {
    let (first, others) = inputs.split_first()?;
    let (layout, dtype) = (first.layout(), first.dtype());
    let same = |other: &&Tensor| {
        other.dtype() == dtype
            && (std::ptr::eq(other.layout(), layout) || layout.alike(other.layout()))
    };
    if !layout.is_plain() || !others.iter().all(same) {
        return None;
    }
    let result = op.alike(dtype)?;
    debug_assert_eq!(
        planned(
            op,
            &inputs
                .iter()
                .map(|input| input.meta())
                .collect::<SmallVec<[Meta; 4]>>()
        )
        .ok(),
        Some(Some(Meta {
            shape: *layout.shape(),
            dtype: result
        })),
        "{}: a plan of its own",
        op.name(),
    );
    Some(result)
}

/// The one output that the op plans; none for a plan with casts or with other outputs.
fn planned(op: &dyn Op, metas: &[Meta]) -> Result<Option<Meta>> {
    let mut plan = Plan::default();
    op.infer(metas, &mut plan)?;
    let cast = |(cast, meta): (&Option<DType>, &Meta)| cast.is_some_and(|cast| cast != meta.dtype);
    let [output] = plan.outputs.as_slice() else {
        return Ok(None);
    };
    if plan.casts.iter().zip(metas).any(cast) || output.at_most.is_some() || !output.visible {
        return Ok(None);
    }
    output.meta.shape.check(op.name())?;
    Ok(Some(output.meta))
}
