//! Observation: an observer that sees every op as it has run.
//!
//! Knows observers and the calls they see. Must not know what an op means.

use std::cell::RefCell;
use std::rc::Rc;

use crate::error::Result;
use crate::mode::{self, Modes};
use crate::tensor::Tensor;

/// An op that has run.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Call<'a> {
    /// The op's name.
    pub op: &'static str,
    /// What it got.
    pub inputs: &'a [&'a Tensor],
    /// What it made.
    pub outputs: &'a [Tensor],
    /// Whether it ran as a part of another op, which is made of others on this device.
    pub inner: bool,
}

/// What an observer does with a call; an error ends the op with it.
type Observer = Rc<RefCell<dyn FnMut(&Call<'_>) -> Result<()>>>;

thread_local! {
    static OBSERVERS: RefCell<Vec<Observer>> = const { RefCell::new(Vec::new()) };
}

/// Takes the observer away again, on unwinding too.
struct Observed;

impl Drop for Observed {
    fn drop(&mut self) {
        OBSERVERS.with(|all| all.borrow_mut().pop());
    }
}

/// Runs `body` with `observer` seeing every op of this thread, views and those of backward passes too, after it has run.
/// An error of the observer becomes the op's. Ops that the observer runs itself are not seen.
///
/// ```
/// use std::{cell::RefCell, rc::Rc};
/// use ascend_tensor::{Tensor, observe};
/// # fn main() -> ascend_tensor::Result<()> {
/// let seen = Rc::new(RefCell::new(Vec::new()));
/// let list = Rc::clone(&seen);
/// observe(
///     move |call| {
///         list.borrow_mut().push(call.op);
///         Ok(())
///     },
///     || Tensor::new([1.0f32, 4.0]).sqrt()?.sum(()),
/// )?;
/// assert_eq!(*seen.borrow(), ["sqrt", "sum"]);
/// # Ok(())
/// # }
/// ```
pub fn observe<R>(
    observer: impl FnMut(&Call<'_>) -> Result<()> + 'static,
    body: impl FnOnce() -> R,
) -> R {
    OBSERVERS.with(|all| all.borrow_mut().push(Rc::new(RefCell::new(observer))));
    let _observed = Observed;
    mode::scoped(Modes::OBSERVE, true, body)
}

/// Shows a call to the innermost observer.
pub(crate) fn note(op: &'static str, inputs: &[&Tensor], outputs: &[Tensor]) -> Result<()> {
    let observer = OBSERVERS.with(|all| all.borrow().last().cloned());
    let Some(observer) = observer else {
        return Ok(());
    };
    let call = Call {
        op,
        inputs,
        outputs,
        inner: mode::current().has(Modes::INNER),
    };
    mode::scoped(Modes::OBSERVE, false, || {
        mode::no_grad(|| (observer.borrow_mut())(&call))
    })
}
