//! Tokens to experts and back by a map of routes: a flag for each token and expert.
//!
//! Knows the kernel interface; it must not know streams, handles or device memory.

use super::common::{checked_index, size_of};
use crate::failure::{Fault, Refusal};
use crate::kernel::{Call, Prepare, Work};

/// This family's ops.
pub(crate) const KERNELS: &[(&str, Prepare)] = &[
    ("aclnnMoeTokenPermuteWithRoutingMap", permute as Prepare),
    ("aclnnMoeTokenUnpermuteWithRoutingMap", unpermute as Prepare),
    (
        "aclnnMoeTokenUnpermuteWithRoutingMapGrad",
        unpermute_grad as Prepare,
    ),
];

/// Tokens in the order of the experts that a map of routes sends them to; `sortedIndices` says from which place each row comes.
fn permute(call: &Call) -> Result<Work, Refusal> {
    let (tokens, map, probs) = (call.tensor(0)?, call.tensor(1)?, call.optional_tensor(2));
    let wanted = size_of(call, "numOutTokens", call.int(3)?, 0)?;
    if call.bool(4)? {
        return Err(call.unsupported("rows for each expert (dropAndPad)"));
    }
    let (out, probs_out, sorted) = (call.tensor(5)?, call.optional_tensor(6), call.tensor(7)?);
    let (&[count, width], &[rows, experts]) = (tokens.shape(), map.shape()) else {
        return Err(call.invalid(format!(
            "tokens have shape {:?}, the map {:?}, wanted 2 dims",
            tokens.shape(),
            map.shape()
        )));
    };
    if rows != count || count == 0 {
        return Err(call.invalid(format!("{count} tokens, {rows} rows of the map")));
    }
    // Each token goes to equally many experts.
    let k = wanted / count;
    let kept = k * count;
    call.expect_shape("permuteTokensOut", &out, &[kept, width])?;
    call.expect_shape("sortedIndicesOut", &sorted, &[kept])?;
    if let Some(probs) = &probs {
        call.expect_shape("probs", probs, map.shape())?;
    }
    let probs_out = probs_out.filter(|_| probs.is_some());
    if let Some(out) = &probs_out {
        call.expect_shape("permuteProbsOut", out, &[kept])?;
    }
    let op = call.name();
    Ok(Work::new(move || {
        let routes = map.load_vec::<bool>();
        let by_expert =
            (0..experts).flat_map(|expert| (0..count).map(move |token| (token, expert)));
        let chosen: Vec<(usize, usize)> = by_expert
            .filter(|&(token, expert)| routes[token * experts + expert])
            .collect();
        if chosen.len() != kept {
            return Err(Fault::exception(format!(
                "{op}: the map has {} routes, wanted {kept}",
                chosen.len()
            )));
        }
        let values = tokens.load_vec::<f32>();
        let moved: Vec<f32> = chosen
            .iter()
            .flat_map(|&(token, _)| values[token * width..][..width].iter().copied())
            .collect();
        out.store_slice(&moved)?;
        // The order that sorts the routes' token numbers, equals in order: where each token's rows went.
        let mut order: Vec<usize> = (0..kept).collect();
        order.sort_by_key(|&at| chosen[at].0);
        let order: Vec<i64> = order.into_iter().map(|at| at as i64).collect();
        sorted.store_slice(&order)?;
        match (&probs_out, &probs) {
            (Some(out), Some(probs)) => {
                let probs = probs.load_vec::<f32>();
                let moved: Vec<f32> = chosen
                    .iter()
                    .map(|&(token, expert)| probs[token * experts + expert])
                    .collect();
                out.store_slice(&moved)
            }
            _ => Ok(()),
        }
    }))
}

/// Rows back in the order of their tokens, those of one token added up, each times its route's probability. The outputs that only
/// rows for each expert need stay as they are.
fn unpermute(call: &Call) -> Result<Work, Refusal> {
    let (rows, sorted) = (call.tensor(0)?, call.tensor(1)?);
    let (map, probs) = (call.optional_tensor(2), call.optional_tensor(3));
    if call.bool(4)? {
        return Err(call.unsupported("rows for each expert (paddedMode)"));
    }
    let (out, probs_out) = (call.tensor(6)?, call.optional_tensor(9));
    let (&[kept, width], &[tokens, other]) = (rows.shape(), out.shape()) else {
        return Err(call.invalid(format!(
            "permutedTokens have shape {:?}, unpermutedTokens {:?}, wanted 2 dims",
            rows.shape(),
            out.shape()
        )));
    };
    if other != width || tokens == 0 || !kept.is_multiple_of(tokens) {
        return Err(call.invalid(format!("{kept} rows of {tokens} tokens")));
    }
    call.expect_shape("sortedIndices", &sorted, &[kept])?;
    let routes = match (&probs, map) {
        (Some(probs), Some(map)) => {
            call.expect_shape("probs", probs, map.shape())?;
            if map.shape().first() != Some(&tokens) {
                return Err(call.invalid(format!("routingMap has shape {:?}", map.shape())));
            }
            Some((probs.clone(), map))
        }
        (Some(_), None) => return Err(call.invalid("probs without routingMap")),
        (None, _) => None,
    };
    let (k, op) = (kept / tokens, call.name());
    Ok(Work::new(move || {
        let mut values = rows.load_vec::<f32>();
        if let Some((probs, map)) = &routes {
            let factors = by_expert(&map.load_vec::<bool>(), tokens, &probs.load_vec::<f32>());
            if factors.len() != kept {
                return Err(Fault::exception(format!(
                    "{op}: the map has {} routes, wanted {kept}",
                    factors.len()
                )));
            }
            let lines = values.chunks_exact_mut(width.max(1));
            for (line, factor) in lines.zip(&factors) {
                line.iter_mut().for_each(|value| *value *= factor);
            }
            if let Some(out) = probs_out.as_ref().filter(|out| out.count() == kept) {
                out.store_slice(&factors)?;
            }
        }
        let mut sums = vec![0f32; tokens * width];
        for (at, place) in sorted.load_vec::<i64>().into_iter().enumerate() {
            let row = checked_index(op, place, kept)?;
            let target = &mut sums[at / k * width..][..width];
            let source = &values[row * width..][..width];
            target
                .iter_mut()
                .zip(source)
                .for_each(|(sum, value)| *sum += value);
        }
        out.store_slice(&sums)
    }))
}

/// Each row's gradient is its token's, times its route's probability; a probability's is its row's sum of gradient times value.
fn unpermute_grad(call: &Call) -> Result<Work, Refusal> {
    let (dy, places, tokens) = (call.tensor(0)?, call.tensor(1)?, call.tensor(2)?);
    if call.bool(6)? {
        return Err(call.unsupported("rows for each expert (dropAndPad)"));
    }
    let dx = call.tensor(8)?;
    let (&[count, width], &[kept, other]) = (dy.shape(), dx.shape()) else {
        return Err(call.invalid(format!(
            "unpermutedTokensGrad has shape {:?}, permutedTokensGrad {:?}",
            dy.shape(),
            dx.shape()
        )));
    };
    if other != width || count == 0 || !kept.is_multiple_of(count) {
        return Err(call.invalid(format!("{kept} rows of {count} tokens")));
    }
    call.expect_shape("outIndex", &places, &[kept])?;
    call.expect_shape("permuteTokenId", &tokens, &[kept])?;
    let routes = match (
        call.optional_tensor(3),
        call.optional_tensor(4),
        call.optional_tensor(5),
    ) {
        (Some(map), Some(rows), Some(probs)) => {
            let out = call.tensor(9)?;
            call.expect_shape("probs", &probs, map.shape())?;
            call.expect_shape("probsGrad", &out, map.shape())?;
            call.expect_shape("permutedTokens", &rows, dx.shape())?;
            if map.shape().first() != Some(&count) {
                return Err(call.invalid(format!("routingMap has shape {:?}", map.shape())));
            }
            Some((map, rows, probs, out))
        }
        (_, _, None) => None,
        _ => return Err(call.invalid("probs without routingMap or permutedTokens")),
    };
    let op = call.name();
    Ok(Work::new(move || {
        let grads = dy.load_vec::<f32>();
        let mut rows = vec![0f32; kept * width];
        let pairs = places.load_vec::<i64>().into_iter();
        for (place, token) in pairs.zip(tokens.load_vec::<i64>()) {
            let place = checked_index(op, place, kept)?;
            let token = checked_index(op, token, count)?;
            rows[place * width..][..width].copy_from_slice(&grads[token * width..][..width]);
        }
        let Some((map, values, probs, out)) = &routes else {
            return dx.store_slice(&rows);
        };
        let map = map.load_vec::<bool>();
        let taken: Vec<usize> = (0..map.len() / count)
            .flat_map(|expert| (0..count).map(move |token| (token, expert)))
            .map(|(token, expert)| token * (map.len() / count) + expert)
            .filter(|&at| map[at])
            .collect();
        if taken.len() != kept {
            return Err(Fault::exception(format!(
                "{op}: the map has {} routes, wanted {kept}",
                taken.len()
            )));
        }
        let (values, factors) = (values.load_vec::<f32>(), probs.load_vec::<f32>());
        let mut shares = vec![0f32; map.len()];
        for (row, &at) in taken.iter().enumerate() {
            let line = &mut rows[row * width..][..width];
            let own = &values[row * width..][..width];
            shares[at] = line.iter().zip(own).map(|(a, b)| a * b).sum();
            line.iter_mut().for_each(|value| *value *= factors[at]);
        }
        dx.store_slice(&rows)?;
        out.store_slice(&shares)
    }))
}

/// The values of the routes that are taken, expert by expert.
fn by_expert(routes: &[bool], tokens: usize, values: &[f32]) -> Vec<f32> {
    let experts = routes.len() / tokens.max(1);
    let all =
        (0..experts).flat_map(|expert| (0..tokens).map(move |token| token * experts + expert));
    all.filter(|&at| routes[at]).map(|at| values[at]).collect()
}
