//! Keys and values normalised, turned, quantised and put into caches in one step.
//!
//! Knows the kernel interface; it must not know streams, handles or device memory.

use super::cache::{Pages, block_width};
use super::common::{checked_index, same_dtype, size_of};
use super::latent_attention::turn as turn_neighbours;
use super::norm::root_normalize;
use crate::dtype::DType;
use crate::failure::{Fault, Refusal};
use crate::kernel::{Call, Family, Prepare, Work};
use crate::tensor::Tensor;

/// This family's ops.
pub(crate) const KERNELS: &[(&str, Prepare)] = &[
    ("aclnnKvRmsNormRopeCache", |call| Latent::of(call, None)),
    ("aclnnKvRmsNormRopeCacheV2", |call| {
        Latent::of(call, Some(11))
    }),
    ("aclnnQkvRmsNormRopeCache", joint as Prepare),
];

/// What becomes of values on their way into a cache: nothing, or a rounding to bytes by factors for each head and column.
struct Quant {
    scale: Option<Tensor>,
    offset: Option<Tensor>,
    /// Values are divided by the factors, not multiplied.
    divides: bool,
}

impl Quant {
    fn of(
        call: &Call,
        cache: &Tensor,
        like: &Tensor,
        [scale, offset]: [usize; 2],
        divides: bool,
    ) -> Result<Quant, Refusal> {
        let (scale, offset) = (call.optional_tensor(scale), call.optional_tensor(offset));
        match &scale {
            Some(_) => call.expect_dtype("a quantised cache", cache, &[DType::I8])?,
            None if offset.is_some() => {
                return Err(call.invalid("an offset of quantisation without its scale"));
            }
            None => same_dtype(call, "a cache", cache, like)?,
        }
        Ok(Quant {
            scale,
            offset,
            divides,
        })
    }

    /// The factors have one of these shapes.
    fn check(&self, call: &Call, shapes: &[&[usize]]) -> Result<(), Refusal> {
        for tensor in [&self.scale, &self.offset].into_iter().flatten() {
            if !shapes.contains(&tensor.shape()) {
                return Err(call.invalid(format!(
                    "factors of quantisation have shape {:?}, wanted one of {shapes:?}",
                    tensor.shape()
                )));
            }
        }
        Ok(())
    }

    /// Lines of so many columns, one for each head in turn.
    fn apply(&self, mut values: Vec<f32>) -> Vec<f32> {
        let Some(scale) = self.scale.as_ref().map(|scale| scale.load_vec::<f32>()) else {
            return values;
        };
        let offset = self.offset.as_ref().map(|offset| offset.load_vec::<f32>());
        for (at, value) in values.iter_mut().enumerate() {
            let factor = scale[at % scale.len()];
            *value = if self.divides {
                *value / factor
            } else {
                *value * factor
            };
            *value += offset
                .as_ref()
                .map_or(0.0, |offset| offset[at % offset.len()]);
            *value = value.round_ties_even().clamp(-128.0, 127.0);
        }
        values
    }
}

/// Where a sample's row goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    /// To a row of the sample's own part.
    Own,
    /// To a slot of all pages.
    Slot,
    /// To a page that the sample's part of so many rows fills.
    Page,
}

/// One of the two caches and what goes there.
struct Kept {
    cache: Tensor,
    quant: Quant,
    raw: Option<Tensor>,
    width: usize,
}

/// What both caches of one call share.
struct Frame {
    lines: [usize; 3],
    /// Values come in a tensor of their own.
    parted: bool,
    target: Target,
    /// By how many the later parameters are shifted.
    more: usize,
    output: bool,
}

impl Kept {
    fn of(
        call: &Call,
        kv: &Tensor,
        frame: &Frame,
        number: usize,
        width: usize,
    ) -> Result<Kept, Refusal> {
        let [batch, heads, rows] = frame.lines;
        let cache = call.tensor(5 + number)?;
        let mut quant = Quant::of(call, &cache, kv, [7 + number, 9 + number], false)?;
        let chip = call.family() != Family::A950;
        if chip && !frame.parted {
            // These chips take no offset here, and pass over one that is given.
            quant.offset = None;
        }
        let (flat, by_head) = ([width], [heads, width]);
        let shapes: &[&[usize]] = match (frame.parted, chip) {
            (true, _) => &[&by_head],
            (false, true) => &[&flat, &by_head],
            (false, false) => &[&flat, &by_head, &[1]],
        };
        quant.check(call, shapes)?;
        let (quantised, own) = (quant.scale.is_some(), frame.target == Target::Own);
        if chip && !frame.parted && own && quantised {
            return Err(call.invalid("cacheMode Norm takes no quantisation here"));
        }
        let useful = !own || (frame.parted && quantised);
        let raw = match frame.output && useful {
            true => Some(call.tensor(14 + frame.more + number)?),
            false => None,
        };
        if let Some(raw) = &raw {
            call.expect_shape("an output", raw, &[batch, heads, rows, width])?;
        }
        Ok(Kept {
            cache,
            quant,
            raw,
            width,
        })
    }
}

/// Latent keys and values: a part is normalised, a part is turned.
struct Latent {
    kv: Tensor,
    gamma: Tensor,
    cos: Tensor,
    sin: Tensor,
    index: Tensor,
    values: Option<Tensor>,
    target: Target,
    blocked: bool,
    keys: Kept,
    latents: Kept,
    epsilon: f32,
}

impl Latent {
    fn of(call: &Call, values: Option<usize>) -> Result<Work, Refusal> {
        let more = usize::from(values.is_some());
        let mode = call.text(12 + more).unwrap_or("Norm");
        let (target, blocked) = match mode {
            "" | "Norm" => (Target::Own, false),
            "PA" | "PA_BNSD" => (Target::Slot, false),
            "PA_NZ" => (Target::Slot, true),
            "PA_BLK_BNSD" => (Target::Page, false),
            "PA_BLK_NZ" => (Target::Page, true),
            _ => return Err(call.invalid(format!("cacheMode is {mode:?}"))),
        };
        let (kv, gamma, cos) = (call.tensor(0)?, call.tensor(1)?, call.tensor(2)?);
        let values = values.and_then(|index| call.optional_tensor(index));
        let (&[batch, heads, rows, width], Some(&turned)) = (kv.shape(), cos.shape().last()) else {
            return Err(call.invalid(format!(
                "kv has shape {:?}, cos {:?}, wanted 4 dims",
                kv.shape(),
                cos.shape()
            )));
        };
        let normal = if values.is_some() {
            width
        } else {
            width.saturating_sub(turned)
        };
        if turned == 0 || turned % 2 != 0 || normal == 0 || turned > width {
            return Err(call.invalid(format!("{turned} of {width} columns turn")));
        }
        if values.is_none() && heads != 1 {
            return Err(call.invalid(format!("kv has {heads} heads, wanted 1")));
        }
        call.expect_shape("gamma", &gamma, &[normal])?;
        let sin = call.tensor(3)?;
        for (what, tensor) in [("cos", &cos), ("sin", &sin)] {
            let one = [batch, heads, 1, turned];
            if tensor.shape() != one {
                call.expect_shape(what, tensor, &[batch, heads, rows, turned])?;
            }
            call.expect_shape(what, tensor, cos.shape())?;
        }
        let wide = match &values {
            Some(values) => match values.shape() {
                &[b, n, s, wide] if (b, n, s) == (batch, heads, rows) => wide,
                shape => return Err(call.invalid(format!("v has shape {shape:?}"))),
            },
            None => normal,
        };
        let key_width = if values.is_some() { width } else { turned };
        let output = call.bool(13 + more)?;
        let frame = Frame {
            lines: [batch, heads, rows],
            parted: values.is_some(),
            target,
            more,
            output,
        };
        let latent = Latent {
            index: call.tensor(4)?,
            keys: Kept::of(call, &kv, &frame, 0, key_width)?,
            latents: Kept::of(call, &kv, &frame, 1, wide)?,
            epsilon: call.float(11 + more)? as f32,
            kv,
            gamma,
            cos,
            sin,
            values,
            target,
            blocked,
        };
        latent.check(call)?;
        let op = call.name();
        Ok(Work::new(move || latent.run(op)))
    }

    fn check(&self, call: &Call) -> Result<(), Refusal> {
        let shape = self.kv.shape();
        let (batch, heads, rows) = (shape[0], shape[1], shape[2]);
        if self.blocked && heads != 1 {
            return Err(call.unsupported("blocked pages of several heads have no kernel here"));
        }
        for kept in [&self.keys, &self.latents] {
            let cache = kept.cache.shape();
            let fits = match (self.target, cache) {
                (Target::Own, &[b, n, s, d]) => {
                    (b, n, d) == (batch, heads, kept.width) && s >= rows
                }
                (_, &[_, size, n, d]) => (n, d) == (heads, kept.width) && size > 0,
                _ => false,
            };
            let block = block_width(&kept.cache);
            if !fits || (self.blocked && !kept.width.is_multiple_of(block)) {
                return Err(call.invalid(format!(
                    "a cache has shape {cache:?} for {heads} heads of {}",
                    kept.width
                )));
            }
        }
        match self.target {
            Target::Own => call.expect_shape("index", &self.index, &[batch, rows]),
            Target::Slot => call.expect_shape("index", &self.index, &[batch * rows]),
            Target::Page => {
                let size = self.keys.cache.shape()[1];
                let pages = batch * rows.div_ceil(size);
                call.expect_shape("index", &self.index, &[pages])
            }
        }
    }

    /// Lines of keys and of latent values, head by head within a sample: [B, N, S, D].
    fn lines(&self) -> (Vec<f32>, Vec<f32>) {
        let (shape, gamma) = (self.kv.shape(), self.gamma.load_vec::<f32>());
        let (rows, width) = (shape[2], shape[3]);
        let (cos, sin) = (self.cos.load_vec::<f32>(), self.sin.load_vec::<f32>());
        let turned = self.cos.shape()[3];
        let once = self.cos.shape()[2] == 1;
        let (mut keys, mut latents) = (Vec::new(), Vec::new());
        for (number, line) in self.kv.load_vec::<f32>().chunks_exact(width).enumerate() {
            let angles = if once { number / rows } else { number } * turned;
            let angles = angles..angles + turned;
            let (cos, sin) = (&cos[angles.clone()], &sin[angles]);
            let (normal, _) = root_normalize(&line[..gamma.len()], &gamma, self.epsilon, false);
            if self.values.is_some() {
                keys.extend(turn_neighbours(&normal[..turned], cos, sin));
                keys.extend(&normal[turned..]);
            } else {
                keys.extend(turn_neighbours(&line[gamma.len()..], cos, sin));
                latents.extend(normal);
            }
        }
        match &self.values {
            Some(values) => (keys, values.load_vec()),
            None => (keys, latents),
        }
    }

    fn run(&self, op: &str) -> Result<(), Fault> {
        let (keys, latents) = self.lines();
        self.keep(op, &self.keys, keys)?;
        self.keep(op, &self.latents, latents)
    }

    /// Writes lines [B, N, S, D] where the index says.
    fn keep(&self, op: &str, kept: &Kept, lines: Vec<f32>) -> Result<(), Fault> {
        if let Some(raw) = &kept.raw {
            raw.store_slice(&lines)?;
        }
        let (shape, width) = (self.kv.shape(), kept.width);
        let (heads, rows) = (shape[1], shape[2]);
        let cache = kept.cache.shape();
        let joint = heads * width;
        let pages = Pages::plain(cache[0], cache[1], joint);
        let pages = match self.blocked {
            true => pages.blocked(block_width(&kept.cache)),
            false => pages,
        };
        let index = self.index.load_vec::<i64>();
        let mut target = kept.cache.load_vec::<f32>();
        for (number, line) in lines.chunks_exact(width).enumerate() {
            let (sample, head, row) = (
                number / (heads * rows),
                number / rows % heads,
                number % rows,
            );
            let place = match self.target {
                Target::Page => sample * rows.div_ceil(pages.rows) + row / pages.rows,
                _ => sample * rows + row,
            };
            // Those at -1 are left out.
            if index[place] < 0 {
                continue;
            }
            // Factors are by head, so each head's line goes with its own.
            let own = self.quantised(kept, head, line);
            for (column, &value) in own.iter().enumerate() {
                let at = match self.target {
                    Target::Own => {
                        let to = checked_index(op, index[place], cache[2])?;
                        ((sample * heads + head) * cache[2] + to) * width + column
                    }
                    Target::Slot => {
                        let slot = checked_index(op, index[place], pages.slots())?;
                        pages.place(slot, head * width + column)
                    }
                    Target::Page => {
                        let slot = checked_index(op, index[place], pages.slots())?;
                        let slot = slot / pages.rows * pages.rows + row % pages.rows;
                        pages.place(slot, head * width + column)
                    }
                };
                target[at] = value;
            }
        }
        kept.cache.store_slice(&target)
    }

    fn quantised(&self, kept: &Kept, head: usize, line: &[f32]) -> Vec<f32> {
        // Lines of other heads before it put the line at its factors.
        let heads = if kept
            .quant
            .scale
            .as_ref()
            .is_some_and(|scale| scale.count() > kept.width)
        {
            head
        } else {
            0
        };
        let mut all = vec![0f32; heads * line.len()];
        all.extend(line);
        kept.quant.apply(all).split_off(heads * line.len())
    }
}

/// Queries, keys and values out of one tensor: queries and keys normalised and turned, keys and values into blocked pages.
fn joint(call: &Call) -> Result<Work, Refusal> {
    let (qkv, cos, sin, index) = (
        call.tensor(0)?,
        call.tensor(3)?,
        call.tensor(4)?,
        call.tensor(5)?,
    );
    let (sizes, heads) = (call.ints(13)?, call.ints(14)?);
    let natural = |values: &[i64]| -> Result<Vec<usize>, Refusal> {
        values
            .iter()
            .map(|&value| size_of(call, "a size", value, 1))
            .collect()
    };
    let (sizes, heads) = (natural(sizes)?, natural(heads)?);
    let (&[batch, rows, all, width], &[queries, keys, values]) =
        (sizes.as_slice(), heads.as_slice())
    else {
        return Err(call.invalid(format!(
            "qkvSize {sizes:?} and headNums {heads:?}, wanted 4 and 3"
        )));
    };
    if all != queries + keys + values || keys != values || width != 128 {
        return Err(call.invalid(format!(
            "qkvSize {sizes:?} and headNums {heads:?} do not fit"
        )));
    }
    let mode = call.text(16).unwrap_or("PA_NZ");
    if mode != "PA_NZ" {
        return Err(call.invalid(format!("cacheMode is {mode:?}, wanted PA_NZ")));
    }
    let tokens = batch * rows;
    call.expect_shape("qkv", &qkv, &[tokens, all * width])?;
    call.expect_shape("cos", &cos, &[tokens, width])?;
    call.expect_shape("sin", &sin, &[tokens, width])?;
    call.expect_shape("index", &index, &[tokens])?;
    let gammas = [call.tensor(1)?, call.tensor(2)?];
    for gamma in &gammas {
        call.expect_shape("gamma", gamma, &[width])?;
    }
    let out = call.tensor(6)?;
    call.expect_shape("qOut", &out, &[tokens, queries * width])?;
    let mut kept = Vec::new();
    for number in 0..2 {
        let cache = call.tensor(7 + number)?;
        let quant = Quant::of(call, &cache, &qkv, [9 + number, 11 + number], true)?;
        quant.check(call, &[&[keys, width]])?;
        let (columns, block) = (keys * width, block_width(&cache));
        let pages = match cache.shape() {
            &[count, blocks, rows, wide]
                if wide == block && blocks * wide == columns && rows > 0 =>
            {
                Pages::plain(count, rows, columns).blocked(block)
            }
            shape => return Err(call.invalid(format!("a cache has shape {shape:?}"))),
        };
        kept.push((cache, quant, pages));
    }
    let joint = Joint {
        qkv,
        cos,
        sin,
        index,
        gammas,
        out,
        kept,
        heads: [queries, keys],
        epsilon: call.float(15)? as f32,
    };
    let op = call.name();
    Ok(Work::new(move || joint.run(op)))
}

/// Queries, keys and values in one tensor, and where they go.
struct Joint {
    qkv: Tensor,
    cos: Tensor,
    sin: Tensor,
    index: Tensor,
    gammas: [Tensor; 2],
    out: Tensor,
    kept: Vec<(Tensor, Quant, Pages)>,
    /// Heads of queries, and of keys as of values.
    heads: [usize; 2],
    epsilon: f32,
}

impl Joint {
    fn run(&self, op: &str) -> Result<(), Fault> {
        let x = self.qkv.load_vec::<f32>();
        let (cos, sin) = (self.cos.load_vec::<f32>(), self.sin.load_vec::<f32>());
        let gammas = [
            self.gammas[0].load_vec::<f32>(),
            self.gammas[1].load_vec::<f32>(),
        ];
        let [queries, keys] = self.heads;
        let (all, width) = (queries + 2 * keys, gammas[0].len());
        let mut parts = [Vec::new(), Vec::new(), Vec::new()];
        for (number, line) in x.chunks_exact(width).enumerate() {
            let (token, head) = (number / all, number % all);
            let part = usize::from(head >= queries) + usize::from(head >= queries + keys);
            let Some(gamma) = gammas.get(part) else {
                parts[part].extend_from_slice(line);
                continue;
            };
            let (y, _) = root_normalize(line, gamma, self.epsilon, false);
            let angles = token * width..(token + 1) * width;
            parts[part].extend(turn_halves(&y, &cos[angles.clone()], &sin[angles]));
        }
        let [own, rest @ ..] = parts;
        self.out.store_slice(&own)?;
        let index = self.index.load_vec::<i64>();
        for (values, (cache, quant, pages)) in rest.into_iter().zip(&self.kept) {
            let values = quant.apply(values);
            let mut target = cache.load_vec::<f32>();
            for (row, &slot) in values.chunks_exact(pages.columns).zip(&index) {
                // Those at -1 are left out.
                if slot < 0 {
                    continue;
                }
                let slot = checked_index(op, slot, pages.slots())?;
                for (column, &value) in row.iter().enumerate() {
                    target[pages.place(slot, column)] = value;
                }
            }
            cache.store_slice(&target)?;
        }
        Ok(())
    }
}

/// y cos + rot(y) sin, where element i turns with element i + D/2.
fn turn_halves(y: &[f32], cos: &[f32], sin: &[f32]) -> Vec<f32> {
    let half = y.len() / 2;
    (0..y.len())
        .map(|at| {
            let other = if at < half {
                -y[at + half]
            } else {
                y[at - half]
            };
            y[at] * cos[at] + other * sin[at]
        })
        .collect()
}
