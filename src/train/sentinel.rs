//! The overflow sentinel: which op of a pass first made a number that is not finite.
//!
//! Knows how to watch a pass. Must not know steps or scales.

use crate::ascend::{OverflowMode, overflow_words};
use crate::dtype::DType;
use crate::error::{Error, NotFinite, Result};
use crate::mode::no_grad;
use crate::nn::Parameter;
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
    watch_for(OverflowMode::Infinite, body)
}

/// As [`watch`]; where the device saturates, the first op that made a number as large as its dtype has.
fn watch_for<R>(mode: OverflowMode, body: impl FnOnce() -> Result<R>) -> Result<R> {
    let mut count = 0;
    observe(
        move |call| {
            let number = count;
            count += 1;
            judge(call, number, mode)
        },
        body,
    )
}

/// Replays a pass and tells which op first made a number that is not finite; `None` if none did.
///
/// ```
/// use ascend_tensor::Tensor;
/// use ascend_tensor::train::find_not_finite;
/// # fn main() -> ascend_tensor::Result<()> {
/// let x = Tensor::new([1.0f32, 0.0]);
/// let found = find_not_finite(|| x.mul(3.0)?.log()?.sum(()))?;
/// assert_eq!(found.map(|found| found.op), Some("log"));
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// Those of `body`, but for the one that is looked for.
pub fn find_not_finite<R>(body: impl FnOnce() -> Result<R>) -> Result<Option<NotFinite>> {
    find_overflow(OverflowMode::Infinite, body)
}

/// As [`find_not_finite`], on a device that treats overflows so.
pub(super) fn find_overflow<R>(
    mode: OverflowMode,
    body: impl FnOnce() -> Result<R>,
) -> Result<Option<NotFinite>> {
    match watch_for(mode, body) {
        Ok(_) => Ok(None),
        Err(Error::NotFinite(found)) => Ok(Some(*found)),
        Err(other) => Err(other),
    }
}

/// Ops that put infinities in on purpose.
const EXEMPT: [&str; 4] = ["masked_fill", "full", "fill_", "where"];

/// Whether a value of this dtype is a number, and not the one that overflows become.
fn is_sound(value: f64, dtype: DType, mode: OverflowMode) -> bool {
    match mode {
        OverflowMode::Infinite => value.is_finite(),
        OverflowMode::Saturate => value.abs() < dtype.largest(),
    }
}

fn all_sound(x: &Tensor, mode: OverflowMode) -> Result<bool> {
    if !x.dtype().is_float() || x.elements() == 0 {
        return Ok(true);
    }
    let sound = match mode {
        OverflowMode::Infinite => x.isfinite()?,
        OverflowMode::Saturate => x.abs()?.lt(x.dtype().largest())?,
    };
    sound.all(())?.item::<bool>()
}

fn judge(call: &Call<'_>, number: usize, mode: OverflowMode) -> Result<()> {
    if EXEMPT.contains(&call.op) {
        return Ok(());
    }
    for (output, made) in call.outputs.iter().enumerate() {
        if all_sound(made, mode)? {
            continue;
        }
        for input in call.inputs {
            if !all_sound(input, mode)? {
                return Ok(());
            }
        }
        let values = made.to_f64_vec()?;
        let sound = |value: &f64| is_sound(*value, made.dtype(), mode);
        let position = values.iter().position(|x| !sound(x)).unwrap_or(0);
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

/// Refuses weights that are no numbers: every loss would be none. One read from the device tells of all.
pub(super) fn refuse_not_finite(parameters: &[(String, Parameter)]) -> Result<()> {
    let flag =
        |(_, own): &(String, Parameter)| no_grad(|| own.tensor().isfinite()?.all(())?.reshape([1]));
    let flags: Vec<Tensor> = parameters.iter().map(flag).collect::<Result<_>>()?;
    let flags = Tensor::cat(&flags.iter().collect::<Vec<_>>(), 0)?.to_vec::<bool>()?;
    match parameters.iter().zip(flags).find(|(_, finite)| !finite) {
        Some(((name, _), _)) => {
            let why = "got an element that is NaN or infinite, wanted finite numbers";
            Err(Error::entry("trainer", name, why))
        }
        None => Ok(()),
    }
}

/// Whether an NPU's chip tells of an overflow since that was last forgotten, as one number that is not 0 then.
pub(super) fn overflow_flag(number: u32) -> Result<Tensor> {
    let words = Tensor::from_buffer(overflow_words(number)?, [16].into(), DType::I32);
    words.ne(0)?.any(())?.to_dtype(DType::F32)?.reshape([1])
}
