//! What comes before multi-head latent attention in inference: queries and keys through their low ranks, into the caches.
//!
//! Knows the kernel interface and ndarray's product; it must not know streams, handles or device memory.

use super::common::{checked_index, rounded_to};
use super::norm::root_normalize;
use super::weight_format::unblocked;
use crate::failure::{Fault, Refusal};
use crate::kernel::{Call, Prepare, Work};
use crate::tensor::Tensor;
use ndarray::{Array2, Axis, Ix2, Ix3, IxDyn};

/// This family's ops.
pub(crate) const KERNELS: &[(&str, Prepare)] = &[
    ("aclnnMlaProlog", |call| Prolog::of(call, FIRST)),
    ("aclnnMlaPrologV2WeightNz", |call| Prolog::of(call, FIRST)),
    ("aclnnMlaPrologV3WeightNz", third),
];

/// Where parameters stand that the versions place differently.
#[derive(Clone, Copy)]
struct Places {
    index: usize,
    caches: [usize; 2],
    scales: usize,
    epsilons: usize,
    mode: usize,
    outputs: [usize; 2],
    factors: Option<[usize; 2]>,
}

const FIRST: Places = Places {
    index: 9,
    caches: [10, 11],
    scales: 12,
    epsilons: 19,
    mode: 21,
    outputs: [22, 23],
    factors: None,
};

const THIRD: Places = Places {
    index: 11,
    caches: [9, 10],
    scales: 12,
    epsilons: 20,
    mode: 22,
    outputs: [33, 34],
    factors: Some([31, 32]),
};

/// The third form adds factors, and forms of quantisation that have no kernel here.
fn third(call: &Call) -> Result<Work, Refusal> {
    for (index, name) in [
        (24, "weightQuantMode"),
        (25, "kvCacheQuantMode"),
        (26, "queryQuantMode"),
    ] {
        if call.int(index)? != 0 {
            return Err(call.unsupported(format!("{name} {} has no kernel here", call.int(index)?)));
        }
    }
    if call.bool(23)? {
        return Err(call.unsupported("the normalised query as an output has no kernel here"));
    }
    Prolog::of(call, THIRD)
}

struct Prolog {
    x: Tensor,
    down_query: Tensor,
    up_query: Tensor,
    up_key: Tensor,
    down_key: Tensor,
    gammas: [Tensor; 2],
    sin: Tensor,
    cos: Tensor,
    index: Tensor,
    caches: [Tensor; 2],
    outputs: [Tensor; 2],
    epsilons: [f32; 2],
    factors: [f32; 2],
    sizes: Sizes,
}

#[derive(Debug, Clone, Copy)]
struct Sizes {
    tokens: usize,
    heads: usize,
    /// Width of a head before the keys' low rank, the low rank itself, and the width that turns.
    head: usize,
    rank: usize,
    turned: usize,
}

/// The matrix that a weight holds: as it stands, or in the four dims of its blocks (columns, rows, rows of a block, its columns).
fn matrix_shape(weight: &Tensor) -> Vec<usize> {
    match weight.shape() {
        &[columns, rows, high, wide] => vec![rows * high, columns * wide],
        shape => shape.to_vec(),
    }
}

fn matrix(weight: &Tensor) -> Result<Array2<f32>, Fault> {
    let failed = |error: ndarray::ShapeError| Fault::exception(error.to_string());
    if weight.rank() == 4 {
        let shape = matrix_shape(weight);
        let blocks = weight.load::<f32>().permuted_axes(IxDyn(&[1, 2, 0, 3]));
        let values = blocks.iter().copied().collect();
        return Array2::from_shape_vec((shape[0], shape[1]), values).map_err(failed);
    }
    let plain = match weight.format() {
        29 => unblocked(weight),
        _ => weight.load::<f32>(),
    };
    plain.into_dimensionality::<Ix2>().map_err(failed)
}

fn last(tensor: &Tensor) -> usize {
    tensor.shape().last().copied().unwrap_or(0)
}

impl Prolog {
    fn of(call: &Call, places: Places) -> Result<Work, Refusal> {
        for index in places.scales..places.scales + 7 {
            if call
                .optional_tensor(index)
                .is_some_and(|tensor| !tensor.is_empty())
            {
                return Err(call.unsupported(format!(
                    "the quantised form (parameter {index}) has no kernel here"
                )));
            }
        }
        let mode = call.text(places.mode).unwrap_or("PA_BSND");
        if mode != "PA_BSND" {
            return Err(call.unsupported(format!("cacheMode {mode} has no kernel here")));
        }
        let x = call.tensor(0)?;
        let up_key = call.tensor(3)?;
        let &[heads, head, rank] = up_key.shape() else {
            return Err(call.invalid(format!(
                "weightUk has shape {:?}, wanted 3 dims",
                up_key.shape()
            )));
        };
        let cos = call.tensor(8)?;
        let width = last(&x).max(1);
        let sizes = Sizes {
            tokens: x.count() / width,
            heads,
            head,
            rank,
            turned: last(&cos),
        };
        let factor = |index: usize| match places.factors {
            Some(factors) => call.float(factors[index]).map(|factor| factor as f32),
            None => Ok(1.0),
        };
        let prolog = Prolog {
            down_query: call.tensor(1)?,
            up_query: call.tensor(2)?,
            down_key: call.tensor(4)?,
            gammas: [call.tensor(5)?, call.tensor(6)?],
            sin: call.tensor(7)?,
            index: call.tensor(places.index)?,
            caches: [
                call.tensor(places.caches[0])?,
                call.tensor(places.caches[1])?,
            ],
            outputs: [
                call.tensor(places.outputs[0])?,
                call.tensor(places.outputs[1])?,
            ],
            epsilons: [
                call.float(places.epsilons)? as f32,
                call.float(places.epsilons + 1)? as f32,
            ],
            factors: [factor(0)?, factor(1)?],
            x,
            up_key,
            cos,
            sizes,
        };
        prolog.check(call)?;
        let op = call.name();
        Ok(Work::new(move || prolog.run(op)))
    }

    fn check(&self, call: &Call) -> Result<(), Refusal> {
        let Sizes {
            tokens,
            heads,
            head,
            rank,
            turned,
        } = self.sizes;
        let low = matrix_shape(&self.down_query).last().copied().unwrap_or(0);
        let width = last(&self.x);
        if turned % 2 != 0 || tokens == 0 {
            return Err(call.invalid(format!(
                "{tokens} tokens, ropeCos has shape {:?}",
                self.cos.shape()
            )));
        }
        let weights = [
            ("weightDq", &self.down_query, [width, low]),
            ("weightUqQr", &self.up_query, [low, heads * (head + turned)]),
            ("weightDkvKr", &self.down_key, [width, rank + turned]),
        ];
        for (name, weight, wanted) in weights {
            if matrix_shape(weight) != wanted {
                return Err(call.invalid(format!(
                    "{name} has shape {:?}, wanted {wanted:?}",
                    weight.shape()
                )));
            }
        }
        call.expect_shape("rmsnormGammaCq", &self.gammas[0], &[low])?;
        call.expect_shape("rmsnormGammaCkv", &self.gammas[1], &[rank])?;
        let lead = &self.x.shape()[..self.x.rank() - 1];
        for (name, tensor) in [("ropeSin", &self.sin), ("ropeCos", &self.cos)] {
            call.expect_shape(name, tensor, &[lead, &[turned]].concat())?;
        }
        call.expect_shape("cacheIndex", &self.index, lead)?;
        call.expect_shape(
            "queryOut",
            &self.outputs[0],
            &[lead, &[heads, rank]].concat(),
        )?;
        call.expect_shape(
            "queryRopeOut",
            &self.outputs[1],
            &[lead, &[heads, turned]].concat(),
        )?;
        for (cache, wide) in self.caches.iter().zip([rank, turned]) {
            let &[_, _, 1, own] = cache.shape() else {
                return Err(call.invalid(format!(
                    "a cache has shape {:?}, wanted one head of 4 dims",
                    cache.shape()
                )));
            };
            if own != wide || cache.count() / wide != self.caches[0].count() / rank {
                return Err(call.invalid(format!(
                    "a cache has shape {:?}, wanted lines of {wide}",
                    cache.shape()
                )));
            }
        }
        Ok(())
    }

    /// Rows times a weight, rounded to the type in which they go on.
    fn times(&self, rows: Vec<f32>, weight: &Tensor) -> Result<Array2<f32>, Fault> {
        let failed = |error: ndarray::ShapeError| Fault::exception(error.to_string());
        let weight = matrix(weight)?;
        let rows =
            Array2::from_shape_vec((self.sizes.tokens, weight.nrows()), rows).map_err(failed)?;
        let product = rows.dot(&weight);
        let shape = product.dim();
        let rounded = rounded_to(product.into_iter().collect(), self.x.dtype());
        Array2::from_shape_vec(shape, rounded).map_err(failed)
    }

    /// A normalised low rank, scaled.
    fn normal(&self, rows: &[f32], which: usize) -> Vec<f32> {
        let gamma = self.gammas[which].load_vec::<f32>();
        let (mut y, _) = root_normalize(rows, &gamma, self.epsilons[which], false);
        y.iter_mut().for_each(|value| *value *= self.factors[which]);
        rounded_to(y, self.x.dtype())
    }

    fn run(&self, op: &str) -> Result<(), Fault> {
        let Sizes {
            tokens,
            heads,
            head,
            rank,
            turned,
        } = self.sizes;
        let x = self.x.load_vec::<f32>();
        let low: Vec<f32> = self
            .times(x.clone(), &self.down_query)?
            .into_iter()
            .collect();
        let queries = self.times(self.normal(&low, 0), &self.up_query)?;
        let keys = self.times(x, &self.down_key)?;
        let up = self.up_key.load::<f32>().into_dimensionality::<Ix3>();
        let up = up.map_err(|error| Fault::exception(error.to_string()))?;
        let (cos, sin) = (self.cos.load_vec::<f32>(), self.sin.load_vec::<f32>());
        let (mut flat, mut around) = (Vec::new(), Vec::new());
        for (token, row) in queries.outer_iter().enumerate() {
            let angles = token * turned..(token + 1) * turned;
            for number in 0..heads {
                let start = number * (head + turned);
                let own = row.slice(ndarray::s![start..start + head]);
                flat.extend(own.dot(&up.index_axis(Axis(0), number)));
                let part: Vec<f32> = row
                    .iter()
                    .skip(start + head)
                    .take(turned)
                    .copied()
                    .collect();
                around.extend(turn(&part, &cos[angles.clone()], &sin[angles.clone()]));
            }
        }
        self.outputs[0].store_slice(&flat)?;
        self.outputs[1].store_slice(&around)?;
        let latent: Vec<f32> = keys
            .outer_iter()
            .flat_map(|row| row.iter().take(rank).copied().collect::<Vec<_>>())
            .collect();
        let latent = self.normal(&latent, 1);
        let slots = self.caches[0].count() / rank;
        let (mut kept, mut turns) = (
            self.caches[0].load_vec::<f32>(),
            self.caches[1].load_vec::<f32>(),
        );
        for (token, slot) in self
            .index
            .load_vec::<i64>()
            .into_iter()
            .enumerate()
            .take(tokens)
        {
            // A negative number stands for a token that is not kept.
            if slot < 0 {
                continue;
            }
            let slot = checked_index(op, slot, slots)?;
            let angles = token * turned..(token + 1) * turned;
            let part: Vec<f32> = keys.row(token).iter().skip(rank).copied().collect();
            kept[slot * rank..][..rank].copy_from_slice(&latent[token * rank..][..rank]);
            turns[slot * turned..][..turned].copy_from_slice(&turn(
                &part,
                &cos[angles.clone()],
                &sin[angles],
            ));
        }
        self.caches[0].store_slice(&kept)?;
        self.caches[1].store_slice(&turns)
    }
}

/// Pairs of neighbours turned; the first of all pairs come before the second of all.
pub(super) fn turn(x: &[f32], cos: &[f32], sin: &[f32]) -> Vec<f32> {
    let half = x.len() / 2;
    (0..x.len())
        .map(|at| {
            let pair = at % half.max(1);
            let (first, second) = (x[2 * pair], x[2 * pair + 1]);
            match at < half {
                true => first * cos[at] - second * sin[at],
                false => second * cos[at] + first * sin[at],
            }
        })
        .collect()
}
