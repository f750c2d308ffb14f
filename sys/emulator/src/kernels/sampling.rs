//! Logits cut down to the most likely tokens.
//!
//! Knows the kernel interface; it must not know streams, handles or device memory.

use super::softmax::soften;
use crate::failure::Refusal;
use crate::kernel::{Call, Prepare, Work};

/// This family's ops.
pub(crate) const KERNELS: &[(&str, Prepare)] = &[("aclnnApplyTopKTopP", filter as Prepare)];

/// Minus infinity for what is below the k-th largest value, then for the least likely ones whose probabilities add up to at most
/// 1 - p; the most likely one stays.
fn filter(call: &Call) -> Result<Work, Refusal> {
    let (x, p, k) = (
        call.tensor(0)?,
        call.optional_tensor(1),
        call.optional_tensor(2),
    );
    let out = call.tensor(3)?;
    let &[rows, width] = x.shape() else {
        return Err(call.invalid(format!("logits have shape {:?}, wanted 2 dims", x.shape())));
    };
    call.expect_shape("out", &out, x.shape())?;
    if p.is_none() && k.is_none() {
        return Err(call.invalid("p and k are both null"));
    }
    if let Some(p) = &p {
        call.expect_shape("p", p, &[rows])?;
        call.expect_dtype("p", p, &[x.dtype()])?;
    }
    if let Some(k) = &k {
        call.expect_shape("k", k, &[rows])?;
    }
    call.expect_dtype("out", &out, &[x.dtype()])?;
    if x.is_empty() {
        return Ok(Work::nothing());
    }
    Ok(Work::new(move || {
        let mut values = x.load_vec::<f32>();
        let limits = p.as_ref().map(|p| p.load_vec::<f32>());
        let counts = k.as_ref().map(|k| k.load_vec::<i64>());
        for (row, line) in values.chunks_exact_mut(width).enumerate() {
            let mut order: Vec<usize> = (0..width).collect();
            order.sort_by(|&a, &b| line[a].total_cmp(&line[b]));
            if let Some(k) = counts.as_ref().map(|counts| counts[row]) {
                // Counts out of range keep everything.
                if let Some(&at) = usize::try_from(k)
                    .ok()
                    .filter(|&k| k > 0 && k < width)
                    .and_then(|k| order.get(width - k))
                {
                    let least = line[at];
                    let below = line.iter_mut().filter(|value| **value < least);
                    below.for_each(|value| *value = f32::NEG_INFINITY);
                }
            }
            if let Some(limits) = &limits {
                let mut sorted: Vec<f32> = order.iter().map(|&at| line[at]).collect();
                soften(&mut sorted, false);
                let mut sum = 0f32;
                for (&at, probability) in order.iter().zip(&sorted).take(width - 1) {
                    sum += probability;
                    if sum <= 1.0 - limits[row] {
                        line[at] = f32::NEG_INFINITY;
                    }
                }
            }
        }
        out.store_slice(&values)
    }))
}
