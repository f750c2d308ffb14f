//! Parts of one attention brought together by their statistics: those of several devices, those of a ring's steps.
//!
//! Knows the kernel interface; it must not know streams, handles or device memory.

use super::common::same_dtype;
use crate::failure::Refusal;
use crate::kernel::{Call, Prepare, Work};
use crate::tensor::Tensor;

/// This family's ops.
pub(crate) const KERNELS: &[(&str, Prepare)] = &[
    ("aclnnAttentionUpdate", merge as Prepare),
    ("aclnnRingAttentionUpdate", |call| ring(call, None)),
    ("aclnnRingAttentionUpdateV2", |call| ring(call, Some(8))),
];

/// O = Σ Oᵢ exp(lseᵢ − lse) with lse = log Σ exp lseᵢ.
fn merge(call: &Call) -> Result<Work, Refusal> {
    let (sums, parts) = (call.tensors(0)?, call.tensors(1)?);
    let out = call.tensor(3)?;
    let wanted = match call.int(2)? {
        0 => None,
        1 => Some(call.tensor(4)?),
        kind => return Err(call.invalid(format!("updateType is {kind}, wanted 0 or 1"))),
    };
    let &[rows, width] = out.shape() else {
        return Err(call.invalid(format!("out has shape {:?}, wanted 2 dims", out.shape())));
    };
    if sums.len() != parts.len() || sums.is_empty() || sums.len() > 128 {
        return Err(call.invalid(format!(
            "{} lists of sums, {} parts, wanted 1 to 128 of both",
            sums.len(),
            parts.len()
        )));
    }
    if !(8..=512).contains(&width) || width % 8 != 0 {
        return Err(call.invalid(format!("a head has {width}, wanted 8 to 512 in eights")));
    }
    for (sum, part) in sums.iter().zip(&parts) {
        call.expect_shape("lse", sum, &[rows])?;
        call.expect_shape("localOut", part, out.shape())?;
        same_dtype(call, "localOut", part, &out)?;
    }
    if let Some(total) = &wanted {
        call.expect_shape("lseOut", total, &[rows])?;
    }
    Ok(Work::new(move || {
        let logs: Vec<Vec<f32>> = sums.iter().map(Tensor::load_vec).collect();
        let totals: Vec<f32> = (0..rows)
            .map(|row| {
                let own = logs.iter().map(|log| log[row]);
                let highest = own.clone().fold(f32::NEG_INFINITY, f32::max);
                highest + own.map(|log| (log - highest).exp()).sum::<f32>().ln()
            })
            .collect();
        let mut result = vec![0f32; rows * width];
        for (log, part) in logs.iter().zip(&parts) {
            for (at, (sum, value)) in result.iter_mut().zip(part.load_vec::<f32>()).enumerate() {
                *sum += value * (log[at / width] - totals[at / width]).exp();
            }
        }
        out.store_slice(&result)?;
        wanted
            .as_ref()
            .map_or(Ok(()), |wanted| wanted.store_slice(&totals))
    }))
}

/// Two outputs of attention over different keys, each with its rows' largest scores and sums, made one.
fn ring(call: &Call, layout_of_statistics: Option<usize>) -> Result<Work, Refusal> {
    let inputs = (0..6)
        .map(|index| call.tensor(index))
        .collect::<Result<Vec<_>, _>>()?;
    let last = call.count().saturating_sub(3);
    let outputs = (last..last + 3)
        .map(|index| call.tensor(index))
        .collect::<Result<Vec<_>, _>>()?;
    let layout = call.text(7)?;
    let (shape, statistics) = (inputs[0].shape().to_vec(), inputs[1].shape().to_vec());
    for (number, tensor) in inputs.iter().chain(&outputs).enumerate() {
        let whole = number % 3 == 0;
        call.expect_shape(
            if whole { "attention" } else { "a statistic" },
            tensor,
            if whole { &shape } else { &statistics },
        )?;
        if whole {
            same_dtype(call, "attention", tensor, &inputs[0])?;
        }
    }
    // Where a row of the output finds its statistics.
    let (width, place): (usize, Box<dyn Fn(usize) -> usize + Send>) =
        match (layout, shape.as_slice(), statistics.as_slice()) {
            ("SBH", &[rows, batch, joint], &[b, heads, s, 8])
                if (b, s) == (batch, rows) && heads > 0 && joint % heads == 0 =>
            {
                let place = move |line: usize| {
                    let (row, rest) = (line / (batch * heads), line % (batch * heads));
                    ((rest / heads * heads + rest % heads) * rows + row) * 8
                };
                (joint / heads, Box::new(place))
            }
            ("TND", &[tokens, heads, width], &[a, b, 8]) if (a, b) == (tokens, heads) => {
                let by_row = layout_of_statistics
                    .and_then(|index| call.text(index).ok())
                    .unwrap_or("");
                if by_row != "TND" {
                    // The manuals do not say how the statistics of a sample lie then.
                    return Err(call.unsupported(format!(
                        "TND with statistics laid out as {by_row:?} has no kernel here"
                    )));
                }
                (width, Box::new(|line| line * 8))
            }
            _ => {
                return Err(call.invalid(format!(
                    "inputLayout {layout:?} with {shape:?} and statistics {statistics:?}"
                )));
            }
        };
    Ok(Work::new(move || {
        let values: Vec<Vec<f32>> = inputs.iter().map(Tensor::load_vec).collect();
        let mut result = vec![0f32; values[0].len()];
        let (mut maxima, mut sums) = (vec![0f32; values[1].len()], vec![0f32; values[1].len()]);
        for (line, target) in result.chunks_exact_mut(width.max(1)).enumerate() {
            let at = place(line);
            let highest = values[1][at].max(values[4][at]);
            let weights =
                [1, 4].map(|part| (values[part][at] - highest).exp() * values[part + 1][at]);
            let sum = weights[0] + weights[1];
            for (column, value) in target.iter_mut().enumerate() {
                let from = line * width + column;
                *value = (values[0][from] * weights[0] + values[3][from] * weights[1]) / sum;
            }
            maxima[at..at + 8].fill(highest);
            sums[at..at + 8].fill(sum);
        }
        outputs[0].store_slice(&result)?;
        outputs[1].store_slice(&maxima)?;
        outputs[2].store_slice(&sums)
    }))
}
