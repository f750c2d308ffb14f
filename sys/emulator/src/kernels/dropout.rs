//! Dropout: bit masks and their use. Bit `i mod 8` of byte `i / 8` is 1 where element `i` is kept.
//!
//! Knows the kernel interface; it must not know streams, handles or device memory.

use super::common::{size_of, volume};
use super::random::{Origin, Philox};
use crate::failure::{Fault, Refusal};
use crate::kernel::{Call, Prepare, Work};
use crate::tensor::Tensor;

/// This family's ops.
pub(crate) const KERNELS: &[(&str, Prepare)] = &[
    ("aclnnDropoutGenMask", generate as Prepare),
    ("aclnnDropoutGenMaskV2", generate as Prepare),
    ("aclnnDropoutGenMaskV2Tensor", generate as Prepare),
    ("aclnnDropoutDoMask", apply_mask as Prepare),
    ("aclnnDropout", dropout as Prepare),
    ("aclnnDropoutBackward", backward as Prepare),
];

/// Bytes of a mask: one bit per element, rounded up to 128 bits.
fn mask_bytes(count: usize) -> usize {
    count.div_ceil(128) * 16
}

fn probability(call: &Call, index: usize) -> Result<f64, Refusal> {
    let p = call.float(index)?;
    if (0.0..=1.0).contains(&p) {
        return Ok(p);
    }
    Err(call.invalid(format!("the probability is {p}, wanted [0, 1]")))
}

fn expect_mask(call: &Call, mask: &Tensor, count: usize) -> Result<(), Refusal> {
    if mask.count() >= mask_bytes(count) {
        return Ok(());
    }
    Err(call.invalid(format!(
        "mask has shape {:?}, wanted {} bytes for {count} elements",
        mask.shape(),
        mask_bytes(count)
    )))
}

/// Draws a mask of `count` bits, each 1 with probability `1 - p`.
fn draw(random: &mut Philox, count: usize, p: f64) -> Vec<u8> {
    let mut mask = vec![0u8; mask_bytes(count)];
    for element in 0..count {
        let kept = p <= 0.0 || (p < 1.0 && f64::from(random.unit()) >= p);
        mask[element / 8] |= u8::from(kept) << (element % 8);
    }
    mask
}

/// Whether an element is kept.
pub(crate) fn kept(mask: &[u8], element: usize) -> bool {
    mask.get(element / 8)
        .is_some_and(|byte| byte >> (element % 8) & 1 == 1)
}

fn generate(call: &Call) -> Result<Work, Refusal> {
    let shape = call
        .ints(0)?
        .iter()
        .map(|&dim| size_of(call, "a dim of shape", dim, 0))
        .collect::<Result<Vec<_>, _>>()?;
    let p = probability(call, 1)?;
    let origin = Origin::of(call, 2)?;
    let out = call.tensor(call.count() - 1)?;
    let count = volume(&shape);
    call.expect_shape("out", &out, &[mask_bytes(count)])?;
    Ok(Work::new(move || {
        out.store_slice(&draw(&mut origin.start(), count, p))
    }))
}

/// x / (1 − p) where the mask keeps it, else 0; p of 0 copies, of 1 gives zeros.
fn masked(x: &Tensor, mask: Option<&[u8]>, p: f64, out: &Tensor) -> Result<(), Fault> {
    let mut values = x.load_vec::<f32>();
    let scale = (1.0 - p) as f32;
    for (element, value) in values.iter_mut().enumerate() {
        *value = match mask {
            _ if p <= 0.0 => *value,
            _ if p >= 1.0 => 0.0,
            Some(mask) if kept(mask, element) => *value / scale,
            _ => 0.0,
        };
    }
    out.store_slice(&values)
}

fn apply_mask(call: &Call) -> Result<Work, Refusal> {
    let (x, mask, out) = (call.tensor(0)?, call.tensor(1)?, call.tensor(3)?);
    let p = probability(call, 2)?;
    expect_mask(call, &mask, x.count())?;
    call.expect_shape("out", &out, x.shape())?;
    Ok(Work::new(move || {
        masked(&x, Some(&mask.load_vec::<u8>()), p, &out)
    }))
}

/// Draws a mask and uses it; without training the input is copied and the mask left alone.
fn dropout(call: &Call) -> Result<Work, Refusal> {
    let (x, out, mask) = (call.tensor(0)?, call.tensor(5)?, call.tensor(6)?);
    let (p, train) = (probability(call, 1)?, call.bool(2)?);
    let origin = Origin::of(call, 3)?;
    if x.is_empty() {
        return Err(call.invalid(format!("input of shape {:?} is empty", x.shape())));
    }
    call.expect_shape("out", &out, x.shape())?;
    expect_mask(call, &mask, x.count())?;
    Ok(Work::new(move || {
        let p = if train { p } else { 0.0 };
        if p <= 0.0 || p >= 1.0 {
            return masked(&x, None, p, &out);
        }
        let mut bits = draw(&mut origin.start(), x.count(), p);
        masked(&x, Some(&bits), p, &out)?;
        bits.resize(mask.count(), 0);
        mask.store_slice(&bits)
    }))
}

/// grad scale where the mask keeps it; a scale of 0 gives zeros, of 1 copies.
fn backward(call: &Call) -> Result<Work, Refusal> {
    let (grad, mask, out) = (call.tensor(0)?, call.tensor(1)?, call.tensor(3)?);
    let scale = call.float(2)?;
    expect_mask(call, &mask, grad.count())?;
    call.expect_shape("out", &out, grad.shape())?;
    let p = if scale == 0.0 { 1.0 } else { 1.0 - 1.0 / scale };
    if !(0.0..=1.0).contains(&p) {
        return Err(call.invalid(format!("scale is {scale}, wanted 0 or at least 1")));
    }
    Ok(Work::new(move || {
        masked(&grad, Some(&mask.load_vec::<u8>()), p, &out)
    }))
}
