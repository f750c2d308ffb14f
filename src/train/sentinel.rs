//! The overflow sentinel: which op of a pass first made a number that is not finite.
//!
//! Knows how to watch a pass. Must not know steps or scales.

use crate::error::{Error, NotFinite, Result};
use crate::observe::{Call, observe};
use crate::tensor::Tensor;

/// Runs `body` with each op's outputs checked, so that the first that is not finite, made of finite inputs, is an error.
///
/// Each check reads one number back from the device: this is for a replay of a step that went wrong, not for every step.
/// Views, casts and fills are not judged: a mask of minus infinities is no fault.
///
/// # Errors
/// [`Error::NotFinite`], and those of `body`.
pub fn watch<R>(body: impl FnOnce() -> Result<R>) -> Result<R> {
    let mut count = 0;
    observe(
        move |call| {
            let number = count;
            count += 1;
            judge(call, number)
        },
        body,
    )
}

/// Replays a pass and tells which op first made a number that is not finite; `None` if none did.
///
/// # Errors
/// Those of `body`, but for the one that is looked for.
pub fn find_not_finite<R>(body: impl FnOnce() -> Result<R>) -> Result<Option<NotFinite>> {
    match watch(body) {
        Ok(_) => Ok(None),
        Err(Error::NotFinite(found)) => Ok(Some(*found)),
        Err(other) => Err(other),
    }
}

/// Ops that put infinities in on purpose.
const EXEMPT: [&str; 4] = ["masked_fill", "full", "fill_", "where"];

fn is_finite(x: &Tensor) -> Result<bool> {
    Ok(!x.dtype().is_float() || x.elements() == 0 || x.isfinite()?.all(())?.item::<bool>()?)
}

fn judge(call: &Call<'_>, number: usize) -> Result<()> {
    if EXEMPT.contains(&call.op) {
        return Ok(());
    }
    for (output, made) in call.outputs.iter().enumerate() {
        if is_finite(made)? {
            continue;
        }
        for input in call.inputs {
            if !is_finite(input)? {
                return Ok(());
            }
        }
        let values = made.to_f64_vec()?;
        let position = values.iter().position(|x| !x.is_finite()).unwrap_or(0);
        let inputs: Vec<String> = call
            .inputs
            .iter()
            .map(|x| format!("{} {}", x.dtype(), x.shape()))
            .collect();
        return Err(Error::NotFinite(Box::new(NotFinite {
            op: call.op,
            call: number,
            output,
            position,
            value: values.get(position).copied().unwrap_or(f64::NAN),
            inputs: inputs.join(", ").into(),
        })));
    }
    Ok(())
}
