//! Routing of tokens to experts in its later forms: groups of experts, ranges of experts.
//!
//! Knows the kernel interface; it must not know streams, handles or device memory.

use super::common::{checked_index, size_of, volume};
use super::functions::sigmoid;
use super::softmax::soften;
use crate::failure::{Fault, Refusal};
use crate::kernel::{Call, Prepare, Work};
use crate::tensor::Tensor;

/// This family's ops.
pub(crate) const KERNELS: &[(&str, Prepare)] = &[
    ("aclnnMoeGatingTopK", |call| gating(call, false)),
    ("aclnnMoeGatingTopKV2", |call| gating(call, true)),
    ("aclnnMoeComputeExpertTokens", compute_tokens as Prepare),
    ("aclnnMoeInitRoutingV3", init_routing as Prepare),
    ("aclnnMoeInitRoutingV2Grad", init_routing_grad as Prepare),
    ("aclnnMoeFinalizeRoutingV2Grad", finalize_grad as Prepare),
];

/// The positions of the `count` largest values, in falling order; the first of equals comes first.
fn largest(values: &[f64], count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[b].total_cmp(&values[a]));
    order.truncate(count);
    order
}

/// Scores by sigmoid or softmax; groups of experts ranked by their best or their two best (with the bias); the best experts of the
/// best groups; their scores without the bias, divided by their sum where the scores are sigmoids, times a factor.
///
/// The later form can take the experts from a table by the tokens' numbers, and divide shares of softmax by their sum too.
fn gating(call: &Call, later: bool) -> Result<Work, Refusal> {
    let (x, bias) = (call.tensor(0)?, call.optional_tensor(1));
    let first = if later { 4 } else { 2 };
    let k = size_of(call, "k", call.int(first)?, 1)?;
    let kept = size_of(call, "kGroup", call.int(first + 1)?, 1)?;
    let groups = size_of(call, "groupCount", call.int(first + 2)?, 1)?;
    let by_two = match call.int(first + 3)? {
        0 => false,
        1 => true,
        mode => return Err(call.invalid(format!("groupSelectMode is {mode}, wanted 0 or 1"))),
    };
    let divides = match call.int(first + 4)? {
        0 => false,
        1 if later => true,
        renorm => return Err(call.invalid(format!("renorm is {renorm}"))),
    };
    let sigmoids = match call.int(first + 5)? {
        0 => false,
        1 => true,
        mode => return Err(call.invalid(format!("normType is {mode}, wanted 0 or 1"))),
    };
    let (factor, eps) = (call.float(first + 7)?, call.float(first + 8)?);
    let (y, experts) = (call.tensor(first + 9)?, call.tensor(first + 10)?);
    let all = if call.bool(first + 6)? {
        Some(call.tensor(first + 11)?)
    } else {
        None
    };
    let &[tokens, count] = x.shape() else {
        return Err(call.invalid(format!("x has shape {:?}, wanted 2 dims", x.shape())));
    };
    let width = count / groups;
    let narrow = by_two && width < 2;
    if !count.is_multiple_of(groups) || kept > groups || k > kept * width || narrow {
        return Err(call.invalid(format!(
            "k is {k} of {kept} groups, {groups} groups of {count} experts"
        )));
    }
    if let Some(bias) = &bias {
        call.expect_shape("bias", bias, &[count])?;
    }
    let table = match later {
        true => Table::of(call, [tokens, k])?,
        false => None,
    };
    call.expect_shape("yOut", &y, &[tokens, k])?;
    call.expect_shape("expertIdxOut", &experts, &[tokens, k])?;
    if let Some(all) = &all {
        call.expect_shape("outOut", all, x.shape())?;
    }
    let op = call.name();
    Ok(Work::new(move || {
        let mut scores = x.load_vec::<f32>();
        let given = table.as_ref().map(|table| table.experts(op, count));
        let given = given.transpose()?;
        let bias = bias.as_ref().map(|bias| bias.load_vec::<f64>());
        let (mut weights, mut chosen) = (Vec::new(), Vec::new());
        for (token, row) in scores.chunks_exact_mut(count).enumerate() {
            match sigmoids {
                true => row
                    .iter_mut()
                    .for_each(|value| *value = sigmoid(f64::from(*value)) as f32),
                false => soften(row, false),
            }
            let best = match &given {
                Some(given) => given[token * k..][..k].to_vec(),
                None => largest(&ranked(row, bias.as_deref(), width, kept, by_two), k),
            };
            let sum: f64 = best.iter().map(|&at| f64::from(row[at])).sum();
            let divisor = if sigmoids || divides { sum + eps } else { 1.0 };
            weights.extend(best.iter().map(|&at| f64::from(row[at]) / divisor * factor));
            chosen.extend(best.iter().map(|&at| at as i64));
        }
        y.store_slice(&weights)?;
        experts.store_slice(&chosen)?;
        all.as_ref().map_or(Ok(()), |all| all.store_slice(&scores))
    }))
}

/// A table of experts, with a line for each number that a token can have.
struct Table {
    numbers: Tensor,
    lines: Tensor,
}

impl Table {
    fn of(call: &Call, [tokens, k]: [usize; 2]) -> Result<Option<Table>, Refusal> {
        let (Some(numbers), Some(lines)) = (call.optional_tensor(2), call.optional_tensor(3))
        else {
            return Ok(None);
        };
        call.expect_shape("inputIds", &numbers, &[tokens])?;
        match lines.shape() {
            &[_, wide] if wide == k && k <= 64 => Ok(Some(Table { numbers, lines })),
            shape => Err(call.invalid(format!("tid2eid has shape {shape:?}, k is {k}"))),
        }
    }

    fn experts(&self, op: &str, count: usize) -> Result<Vec<usize>, Fault> {
        let (k, lines) = (self.lines.shape()[1], self.lines.load_vec::<i64>());
        let mut experts = Vec::new();
        for number in self.numbers.load_vec::<i64>() {
            let line = checked_index(op, number, self.lines.shape()[0])?;
            for &expert in &lines[line * k..][..k] {
                experts.push(checked_index(op, expert, count)?);
            }
        }
        Ok(experts)
    }
}

/// Scores with the bias, by which experts are chosen; minus infinity in all but the best groups.
fn ranked(row: &[f32], bias: Option<&[f64]>, width: usize, kept: usize, by_two: bool) -> Vec<f64> {
    let mut ranked: Vec<f64> = row.iter().map(|&value| f64::from(value)).collect();
    if let Some(bias) = bias {
        let pairs = ranked.iter_mut().zip(bias);
        pairs.for_each(|(value, own)| *value += own);
    }
    let ranks: Vec<f64> = ranked
        .chunks_exact(width)
        .map(|group| {
            let best = largest(group, if by_two { 2 } else { 1 });
            best.iter().map(|&at| group[at]).sum()
        })
        .collect();
    let open = largest(&ranks, kept);
    for (at, value) in ranked.iter_mut().enumerate() {
        if !open.contains(&(at / width)) {
            *value = f64::NEG_INFINITY;
        }
    }
    ranked
}

/// How many of the sorted numbers are at most each expert's.
fn compute_tokens(call: &Call) -> Result<Work, Refusal> {
    let (sorted, out) = (call.tensor(0)?, call.tensor(2)?);
    let count = size_of(call, "numExperts", call.int(1)?, 1)?;
    call.expect_shape("out", &out, &[count])?;
    Ok(Work::new(move || {
        let sorted = sorted.load_vec::<i64>();
        let totals: Vec<i64> = (0..count as i64)
            .map(|expert| sorted.iter().filter(|&&own| own <= expert).count() as i64)
            .collect();
        out.store_slice(&totals)
    }))
}

/// The attributes of the third form of routing.
struct Routing {
    tokens: usize,
    width: usize,
    k: usize,
    kept: usize,
    capacity: usize,
    experts: usize,
    padded: bool,
    counting: i64,
    dynamic: bool,
    range: (i64, i64),
    gathers: bool,
}

impl Routing {
    fn of(call: &Call, x: &Tensor, experts: &Tensor) -> Result<Routing, Refusal> {
        let (&[tokens, width], &[rows, k]) = (x.shape(), experts.shape()) else {
            return Err(call.invalid(format!(
                "x has shape {:?}, expertIdx {:?}, wanted 2 dims",
                x.shape(),
                experts.shape()
            )));
        };
        if rows != tokens {
            return Err(call.invalid(format!("{tokens} tokens, {rows} rows of experts")));
        }
        let count = size_of(call, "expertNum", call.int(6)?, 1)?;
        let padded = match call.int(7)? {
            0 => false,
            1 => true,
            mode => return Err(call.invalid(format!("dropPadMode is {mode}, wanted 0 or 1"))),
        };
        let dynamic = match call.int(10)? {
            -1 => false,
            1 => true,
            0 => return Err(call.unsupported("static quantisation")),
            mode => return Err(call.invalid(format!("quantMode is {mode}, wanted -1 to 1"))),
        };
        let range = match call.optional_ints(11) {
            None | Some([]) => (0, count as i64),
            Some(&[start, end]) if 0 <= start && start < end && end <= count as i64 => (start, end),
            Some(other) => return Err(call.invalid(format!("activeExpertRange is {other:?}"))),
        };
        let counting = call.int(8)?;
        if !(0..=2).contains(&counting) {
            return Err(call.invalid(format!("expertTokensNumType is {counting}, wanted 0 to 2")));
        }
        if padded && range != (0, count as i64) {
            return Err(call.invalid("a range of experts with rows for each expert"));
        }
        Ok(Routing {
            tokens,
            width,
            k,
            kept: size_of(call, "activeNum", call.int(4)?.max(0), 0)?,
            capacity: size_of(call, "expertCapacity", call.int(5)?, usize::from(padded))?,
            experts: count,
            padded,
            counting,
            dynamic,
            range,
            gathers: call.int(12)? == 0,
        })
    }

    /// Experts in the range.
    fn active(&self) -> usize {
        (self.range.1 - self.range.0) as usize
    }

    /// Tokens of each expert in the range, and the row of each slot that is kept.
    fn places(&self, keys: &[i64]) -> (Vec<i64>, Vec<(usize, usize)>) {
        let mut order: Vec<usize> = (0..keys.len())
            .filter(|&at| keys[at] >= self.range.0 && keys[at] < self.range.1)
            .collect();
        order.sort_by_key(|&at| keys[at]);
        let (mut totals, mut rows_of) = (vec![0i64; self.active()], Vec::new());
        for (place, &at) in order.iter().enumerate() {
            let expert = (keys[at] - self.range.0) as usize;
            let own = totals[expert] as usize;
            totals[expert] += 1;
            match self.padded {
                true if own < self.capacity => rows_of.push((at, expert * self.capacity + own)),
                false if place < self.rows() => rows_of.push((at, place)),
                _ => {}
            }
        }
        (totals, rows_of)
    }

    /// Rows of the expanded tokens.
    fn rows(&self) -> usize {
        let slots = self.tokens * self.k;
        match (self.padded, self.kept) {
            (true, _) => self.experts * self.capacity,
            (false, 0) => slots,
            (false, kept) => slots.min(kept),
        }
    }
}

/// What the third form of routing reads and writes.
struct Tables {
    x: Tensor,
    experts: Tensor,
    scale: Option<Tensor>,
    out: Tensor,
    places: Tensor,
    counts: Option<Tensor>,
    scales: Option<Tensor>,
}

impl Tables {
    fn of(call: &Call, plan: &Routing, x: Tensor, experts: Tensor) -> Result<Tables, Refusal> {
        let scale = call.optional_tensor(2);
        let (out, places) = (call.tensor(13)?, call.tensor(14)?);
        let counts = if call.bool(9)? {
            call.optional_tensor(15)
        } else {
            None
        };
        let scales = call
            .optional_tensor(16)
            .filter(|_| plan.dynamic || scale.is_some());
        let rows = plan.rows();
        if out.count() != rows * plan.width {
            return Err(call.invalid(format!(
                "expandedXOut has shape {:?}, wanted {rows} rows",
                out.shape()
            )));
        }
        call.expect_shape("expandedRowIdxOut", &places, &[plan.tokens * plan.k])?;
        if let Some(scale) = scale
            .as_ref()
            .filter(|scale| !(plan.dynamic && scale.shape() == [1, plan.width]))
        {
            let wanted = if plan.dynamic {
                vec![plan.active(), plan.width]
            } else {
                vec![plan.tokens]
            };
            call.expect_shape("scale", scale, &wanted)?;
        }
        if let Some(counts) = &counts {
            let wanted = if plan.counting == 2 {
                vec![plan.experts, 2]
            } else {
                vec![plan.active()]
            };
            call.expect_shape("expertTokensCountOrCumsumOut", counts, &wanted)?;
        }
        if let Some(scales) = scales.as_ref().filter(|scales| scales.count() < rows) {
            return Err(call.invalid(format!("expandedScaleOut has shape {:?}", scales.shape())));
        }
        Ok(Tables {
            x,
            experts,
            scale,
            out,
            places,
            counts,
            scales,
        })
    }

    /// A token's line with its scale, or quantised by its largest value.
    fn line(
        &self,
        plan: &Routing,
        values: &[f32],
        factors: Option<&[f32]>,
        at: usize,
        expert: usize,
    ) -> (Vec<f32>, f32) {
        let token = at / plan.k;
        let mut line = values[token * plan.width..][..plan.width].to_vec();
        if !plan.dynamic {
            return (line, factors.map_or(1.0, |factors| factors[token]));
        }
        if let Some(factors) = factors {
            let start = if factors.len() == plan.width {
                0
            } else {
                expert * plan.width
            };
            let pairs = line.iter_mut().zip(&factors[start..]);
            pairs.for_each(|(value, factor)| *value *= factor);
        }
        let own = line.iter().fold(0f32, |most, value| most.max(value.abs())) / 127.0;
        line.iter_mut()
            .for_each(|value| *value = (*value / own).round_ties_even());
        (line, own)
    }

    fn run(&self, plan: &Routing) -> Result<(), Fault> {
        let (keys, slots) = (self.experts.load_vec::<i64>(), plan.tokens * plan.k);
        let (totals, rows_of) = plan.places(&keys);
        let (mut inverse, values) = (vec![-1i64; slots], self.x.load_vec::<f32>());
        let factors = self.scale.as_ref().map(|scale| scale.load_vec::<f32>());
        let mut expanded = vec![0f32; plan.rows() * plan.width];
        let mut own_scales = vec![0f32; self.scales.as_ref().map_or(0, Tensor::count)];
        for &(at, row) in &rows_of {
            match plan.gathers || plan.padded {
                true => inverse[at] = row as i64,
                false => inverse[row] = at as i64,
            }
            let expert = (keys[at] - plan.range.0) as usize;
            let (line, own) = self.line(plan, &values, factors.as_deref(), at, expert);
            expanded[row * plan.width..][..plan.width].copy_from_slice(&line);
            own_scales
                .get_mut(row)
                .into_iter()
                .for_each(|slot| *slot = own);
        }
        self.out.store_slice(&expanded)?;
        self.places.store_slice(&inverse)?;
        if let Some(scales) = &self.scales {
            scales.store_slice(&own_scales)?;
        }
        let counts = self.counts.as_ref();
        counts.map_or(Ok(()), |counts| {
            counts.store_slice(&tokens_of(plan, &totals))
        })
    }
}

/// Tokens in the order of their experts, only those of a range; each with its scale, or quantised by the largest value of its row.
fn init_routing(call: &Call) -> Result<Work, Refusal> {
    let (x, experts) = (call.tensor(0)?, call.tensor(1)?);
    let plan = Routing::of(call, &x, &experts)?;
    let tables = Tables::of(call, &plan, x, experts)?;
    Ok(Work::new(move || tables.run(&plan)))
}

/// Tokens per expert: running sums, counts, or pairs of expert and count without those that have none, closed by zeros.
fn tokens_of(plan: &Routing, totals: &[i64]) -> Vec<i64> {
    match plan.counting {
        0 => totals
            .iter()
            .scan(0, |sum, count| {
                *sum += count;
                Some(*sum)
            })
            .collect(),
        1 => totals.to_vec(),
        _ => {
            let pairs = totals.iter().enumerate().filter(|(_, count)| **count > 0);
            let mut list: Vec<i64> = pairs
                .flat_map(|(expert, &count)| [plan.range.0 + expert as i64, count])
                .collect();
            list.resize(plan.experts * 2, 0);
            list
        }
    }
}

/// A token's gradient is the sum of those of its rows; -1 stands for a row that was dropped.
fn init_routing_grad(call: &Call) -> Result<Work, Refusal> {
    let (grad, places) = (call.tensor(0)?, call.tensor(1)?);
    let k = size_of(call, "topK", call.int(2)?, 1)?;
    let padded = call.int(3)? == 1;
    let active = size_of(call, "activeNum", call.int(4)?, 0)?;
    let out = call.tensor(5)?;
    let &[tokens, width] = out.shape() else {
        return Err(call.invalid(format!("out has shape {:?}, wanted 2 dims", out.shape())));
    };
    call.expect_shape("expandedRowIdx", &places, &[tokens * k])?;
    if grad.shape().last() != Some(&width) {
        return Err(call.invalid(format!("gradExpandedX has shape {:?}", grad.shape())));
    }
    let rows = volume(grad.shape()).checked_div(width).unwrap_or(0);
    let op = call.name();
    Ok(Work::new(move || {
        let (grads, places) = (grad.load_vec::<f32>(), places.load_vec::<i64>());
        let mut sums = vec![0f32; tokens * width];
        for (slot, &place) in places.iter().enumerate() {
            let dropped = place == -1 || (!padded && active > 0 && place >= active as i64);
            if dropped {
                continue;
            }
            let row = checked_index(op, place, rows)?;
            let target = &mut sums[slot / k * width..][..width];
            let source = &grads[row * width..][..width];
            target
                .iter_mut()
                .zip(source)
                .for_each(|(sum, value)| *sum += value);
        }
        out.store_slice(&sums)
    }))
}

/// A row's gradient is that of its token, times the row's scale; a scale's gradient is the product of both (with the expert's bias).
fn finalize_grad(call: &Call) -> Result<Work, Refusal> {
    let (grad, places, expanded) = (call.tensor(0)?, call.tensor(1)?, call.optional_tensor(2));
    let (scales, experts, bias) = (
        call.optional_tensor(3),
        call.optional_tensor(4),
        call.optional_tensor(5),
    );
    let (out, scale_out) = (call.tensor(10)?, call.optional_tensor(11));
    let &[tokens, width] = grad.shape() else {
        return Err(call.invalid(format!("gradY has shape {:?}, wanted 2 dims", grad.shape())));
    };
    let slots = places.count();
    if tokens == 0
        || width == 0
        || !slots.is_multiple_of(tokens)
        || out.shape().last() != Some(&width)
    {
        return Err(call.invalid(format!(
            "{slots} rows of {tokens} tokens, gradExpandedXOut has shape {:?}",
            out.shape()
        )));
    }
    let (k, rows) = (slots / tokens, out.count() / width);
    if let Some(scales) = &scales {
        call.expect_shape("scales", scales, &[tokens, k])?;
    } else if k != 1 {
        return Err(call.invalid(format!("{k} rows of a token without scales")));
    }
    if scales.is_some() != scale_out.is_some() || (scales.is_some() && expanded.is_none()) {
        return Err(call.invalid("scales, their gradient and expandedX go together"));
    }
    if bias.is_some() && experts.is_none() {
        return Err(call.invalid("a bias without expertIdx"));
    }
    let op = call.name();
    Ok(Work::new(move || {
        let (grads, places) = (grad.load_vec::<f32>(), places.load_vec::<i64>());
        let factors = scales.as_ref().map(|scales| scales.load_vec::<f32>());
        let values = expanded.as_ref().map(|expanded| expanded.load_vec::<f32>());
        let biases = bias.as_ref().map(|bias| bias.load_vec::<f32>());
        let keys = experts.as_ref().map(|experts| experts.load_vec::<i64>());
        let (mut moved, mut products) = (vec![0f32; rows * width], vec![0f32; slots]);
        for (slot, &place) in places.iter().enumerate() {
            let row = if place < 0 {
                None
            } else {
                usize::try_from(place).ok().filter(|row| *row < rows)
            };
            let source = &grads[slot / k * width..][..width];
            let factor = factors.as_ref().map_or(1.0, |list| list[slot]);
            if let Some(row) = row {
                let target = &mut moved[row * width..][..width];
                target
                    .iter_mut()
                    .zip(source)
                    .for_each(|(to, from)| *to = from * factor);
            }
            let own_bias = match (&biases, &keys) {
                (Some(biases), Some(keys)) => {
                    let expert = checked_index(op, keys[slot], biases.len() / width)?;
                    Some(&biases[expert * width..][..width])
                }
                _ => None,
            };
            products[slot] = (0..width)
                .map(|at| {
                    let own = row.and_then(|row| values.as_ref().map(|all| all[row * width + at]));
                    source[at] * (own.unwrap_or(0.0) + own_bias.map_or(0.0, |bias| bias[at]))
                })
                .sum();
        }
        out.store_slice(&moved)?;
        scale_out
            .as_ref()
            .map_or(Ok(()), |scales| scales.store_slice(&products))
    }))
}
