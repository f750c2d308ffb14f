//! Products of matrices fused with what ranks exchange: sums of all ranks' products, products of all ranks' rows.
//!
//! Knows the kernel interface, communicators by name and their turns; it must not know sockets, streams' queues or device memory.

use super::common::load_broadcast;
use super::norm::root_normalize;
use crate::dtype::DType;
use crate::failure::{Fault, Refusal};
use crate::hccl::collective::Turn;
use crate::hccl::kind::{Dtype, Reduction};
use crate::hccl::{COMMUNICATORS, Communicator};
use crate::kernel::{Call, Prepare, Work};
use crate::state;
use crate::tensor::Tensor;
use half::{bf16, f16};
use ndarray::{Array2, Ix2};
use std::sync::Arc;

/// This family's ops.
pub(crate) const KERNELS: &[(&str, Prepare)] = &[
    ("aclnnMatmulAllReduce", |call| all_reduce(call, None, 0)),
    ("aclnnMatmulAllReduceV2", |call| {
        all_reduce(call, Some(3), 0)
    }),
    ("aclnnMatmulAllReduceV3", |call| {
        all_reduce(call, Some(3), 1)
    }),
    ("aclnnMatmulAllReduceAddRmsNorm", add_norm as Prepare),
    ("aclnnInplaceMatmulAllReduceAddRmsNorm", add_norm as Prepare),
    ("aclnnAllGatherMatmul", all_gather as Prepare),
    ("aclnnMatmulReduceScatter", reduce_scatter as Prepare),
];

/// A communicator and how its ranks exchange values of one type.
pub(super) struct Ranks {
    pub communicator: Arc<Communicator>,
    dtype: DType,
    pub wire: Dtype,
    call: String,
}

impl Ranks {
    /// The communicator of a name on this thread's device.
    pub fn of(
        call: &Call,
        group: usize,
        reduction: Option<usize>,
        dtype: DType,
        said: String,
    ) -> Result<Ranks, Refusal> {
        let name = call.text(group)?;
        let device = state::context()?.device.id;
        let communicator = COMMUNICATORS
            .living()
            .into_iter()
            .map(|(_, communicator, _)| communicator)
            .find(|communicator| communicator.name == name && communicator.device == device)
            .ok_or_else(|| {
                call.invalid(format!(
                    "no communicator of device {device} has the name {name:?}"
                ))
            })?;
        if let Some(reduction) = reduction {
            let reduction = call.text(reduction)?;
            if reduction != "sum" {
                return Err(call.invalid(format!("reduceOp is {reduction:?}, wanted \"sum\"")));
            }
        }
        let number = match dtype {
            DType::F16 => 3,
            DType::F32 => 4,
            DType::Bf16 => 11,
            other => return Err(call.invalid(format!("results are {other}"))),
        };
        Ok(Ranks {
            communicator,
            dtype,
            wire: Dtype::read(number, call.family())?,
            call: format!("{} of {said}", call.name()),
        })
    }

    pub fn count(&self) -> usize {
        self.communicator.ranks()
    }

    /// A turn of all ranks, in the order in which these operators run.
    pub fn turn<T>(
        &self,
        swap: impl FnOnce(&Turn) -> Result<T, crate::hccl::result::Trouble>,
    ) -> Result<T, Fault> {
        let turn = Turn::new(&self.communicator, None, &self.call, None);
        let outcome = swap(&turn);
        turn.finish(outcome)
            .map_err(crate::hccl::result::Trouble::into_failure)
    }

    /// Values as they travel, each rounded once.
    pub fn bytes(&self, values: impl Iterator<Item = f32>) -> Vec<u8> {
        match self.dtype {
            DType::F16 => values
                .flat_map(|value| f16::from_f32(value).to_ne_bytes())
                .collect(),
            DType::Bf16 => values
                .flat_map(|value| bf16::from_f32(value).to_ne_bytes())
                .collect(),
            _ => values.flat_map(f32::to_ne_bytes).collect(),
        }
    }

    pub fn values(&self, bytes: &[u8]) -> Vec<f32> {
        let pairs = bytes.as_chunks::<2>().0.iter();
        match self.dtype {
            DType::F16 => pairs
                .map(|&pair| f16::from_ne_bytes(pair).to_f32())
                .collect(),
            DType::Bf16 => pairs
                .map(|&pair| bf16::from_ne_bytes(pair).to_f32())
                .collect(),
            _ => bytes
                .as_chunks::<4>()
                .0
                .iter()
                .map(|&four| f32::from_ne_bytes(four))
                .collect(),
        }
    }
}

/// The operands of a product: rows of any number of leading dims, a matrix, and what is added to each row.
struct Product {
    x: Tensor,
    weight: Tensor,
    bias: Option<Tensor>,
    sizes: [usize; 3],
}

impl Product {
    fn of(call: &Call) -> Result<Product, Refusal> {
        let (x, weight) = (call.tensor(0)?, call.tensor(1)?);
        // A bias without elements is none.
        let bias = call.optional_tensor(2).filter(|bias| !bias.is_empty());
        let ([.., k], &[rows, n]) = (x.shape(), weight.shape()) else {
            return Err(call.invalid(format!("x2 has shape {:?}, wanted 2 dims", weight.shape())));
        };
        if *k != rows || rows == 0 || n == 0 || x.is_empty() {
            return Err(call.invalid(format!("{:?} times {:?}", x.shape(), weight.shape())));
        }
        call.expect_dtype("x2", &weight, &[x.dtype()])?;
        if let Some(bias) = &bias {
            call.expect_shape("bias", bias, &[n])?;
        }
        let sizes = [x.count() / rows, rows, n];
        Ok(Product {
            x,
            weight,
            bias,
            sizes,
        })
    }

    fn said(&self) -> String {
        format!("{:?} {}", self.sizes, self.x.dtype())
    }

    /// The shape of the product of all rows.
    fn shape(&self) -> Vec<usize> {
        let mut shape = self.x.shape().to_vec();
        if let Some(last) = shape.last_mut() {
            *last = self.sizes[2];
        }
        shape
    }

    fn run(&self, rows: Array2<f32>) -> Result<Array2<f32>, Fault> {
        let weight = self
            .weight
            .load::<f32>()
            .into_dimensionality::<Ix2>()
            .map_err(|error| Fault::exception(error.to_string()))?;
        let mut result = rows.dot(&weight);
        if let Some(bias) = &self.bias {
            result += &ndarray::Array1::from(bias.load_vec::<f32>());
        }
        Ok(result)
    }

    fn rows(&self) -> Result<Array2<f32>, Fault> {
        let [m, k, _] = self.sizes;
        Array2::from_shape_vec((m, k), self.x.load_vec::<f32>())
            .map_err(|error| Fault::exception(error.to_string()))
    }
}

pub(super) fn expect_mode(call: &Call, index: usize) -> Result<(), Refusal> {
    match call.int(index)? {
        1 => Ok(()),
        mode => Err(call.invalid(format!("streamMode is {mode}, wanted 1"))),
    }
}

/// The sum over all ranks of `x1 x2 + bias + x3`; `later` parameters (how ranks exchange) stand before the mode of streams.
fn all_reduce(call: &Call, addend: Option<usize>, later: usize) -> Result<Work, Refusal> {
    let product = Product::of(call)?;
    let first = addend.map_or(3, |index| index + 1);
    let addend = addend.and_then(|index| call.optional_tensor(index));
    expect_mode(call, first + 3 + later)?;
    let out = call.tensor(first + 4 + later)?;
    call.expect_shape("output", &out, &product.shape())?;
    call.expect_dtype("output", &out, &[product.x.dtype()])?;
    if let Some(addend) = &addend {
        call.expect_shape("x3", addend, out.shape())?;
    }
    let ranks = Ranks::of(call, first, Some(first + 1), out.dtype(), product.said())?;
    Ok(Work::waiting(move || {
        let mut result = product.run(product.rows()?)?;
        if let Some(addend) = &addend {
            let more = addend.load_vec::<f32>();
            result
                .iter_mut()
                .zip(more)
                .for_each(|(value, own)| *value += own);
        }
        let own = ranks.bytes(result.iter().copied());
        let sums = ranks.turn(|turn| turn.all_reduce(&own, ranks.wire, Reduction::Sum))?;
        out.store_slice(&ranks.values(&sums))
    }))
}

/// y = residual + the sum over all ranks of `x1 x2 + bias`, and its root-mean-square norm; in the residual's place by the second name.
fn add_norm(call: &Call) -> Result<Work, Refusal> {
    let product = Product::of(call)?;
    let (residual, gamma, eps) = (call.tensor(3)?, call.tensor(4)?, call.float(5)? as f32);
    expect_mode(call, 9)?;
    let in_place = call.name().contains("Inplace");
    let y = if in_place {
        residual.clone()
    } else {
        call.tensor(10)?
    };
    let norm = call.tensor(if in_place { 10 } else { 11 })?;
    let n = product.sizes[2];
    let count = product.sizes[0] * n;
    for (what, tensor) in [("residual", &residual), ("y", &y), ("normOut", &norm)] {
        if tensor.count() != count || tensor.shape().last() != Some(&n) {
            return Err(call.invalid(format!(
                "{what} has shape {:?} for {count} elements",
                tensor.shape()
            )));
        }
    }
    call.expect_shape("gamma", &gamma, &[n])?;
    let ranks = Ranks::of(call, 6, Some(7), product.x.dtype(), product.said())?;
    Ok(Work::waiting(move || {
        let result = product.run(product.rows()?)?;
        let own = ranks.bytes(result.iter().copied());
        let sums = ranks.turn(|turn| turn.all_reduce(&own, ranks.wire, Reduction::Sum))?;
        let before = load_broadcast::<f32>(&residual, residual.shape());
        let sums: Vec<f32> = ranks
            .values(&sums)
            .iter()
            .zip(&before)
            .map(|(sum, own)| sum + own)
            .collect();
        let (normal, _) = root_normalize(&sums, &gamma.load_vec(), eps, false);
        y.store_slice(&sums)?;
        norm.store_slice(&normal)
    }))
}

/// All ranks' rows times this rank's matrix.
fn all_gather(call: &Call) -> Result<Work, Refusal> {
    let product = Product::of(call)?;
    if call.int(4)? != 0 {
        return Err(call.invalid(format!("gatherIndex is {}, wanted 0", call.int(4)?)));
    }
    expect_mode(call, 6)?;
    let (out, gathered) = (
        call.tensor(7)?,
        call.optional_tensor(8).filter(|all| !all.is_empty()),
    );
    let ranks = Ranks::of(call, 3, None, product.x.dtype(), product.said())?;
    let [m, k, n] = product.sizes;
    let all = m * ranks.count();
    call.expect_shape("output", &out, &[all, n])?;
    call.expect_dtype("output", &out, &[product.x.dtype()])?;
    if let Some(gathered) = &gathered {
        call.expect_shape("gatherOut", gathered, &[all, k])?;
    }
    Ok(Work::waiting(move || {
        let own = ranks.bytes(product.x.load_vec::<f32>().into_iter());
        let parts = ranks.turn(|turn| turn.all_gather(&own))?;
        let rows: Vec<f32> = parts.iter().flat_map(|part| ranks.values(part)).collect();
        if let Some(gathered) = &gathered {
            gathered.store_slice(&rows)?;
        }
        let rows = Array2::from_shape_vec((all, k), rows)
            .map_err(|error| Fault::exception(error.to_string()))?;
        out.store(&product.run(rows)?)
    }))
}

/// This rank's rows of the sum over all ranks of `x1 x2 + bias`.
fn reduce_scatter(call: &Call) -> Result<Work, Refusal> {
    let product = Product::of(call)?;
    expect_mode(call, 6)?;
    let out = call.tensor(7)?;
    let ranks = Ranks::of(call, 3, Some(4), out.dtype(), product.said())?;
    let [m, _, n] = product.sizes;
    let count = ranks.count();
    if !m.is_multiple_of(count) {
        return Err(call.invalid(format!("{m} rows for {count} ranks")));
    }
    call.expect_shape("output", &out, &[m / count, n])?;
    call.expect_dtype("output", &out, &[product.x.dtype()])?;
    Ok(Work::waiting(move || {
        let result = product.run(product.rows()?)?;
        let own = ranks.bytes(result.iter().copied());
        let parts: Vec<&[u8]> = own.chunks_exact(own.len() / count).collect();
        let sums = ranks.turn(|turn| turn.reduce_scatter(&parts, ranks.wire, Reduction::Sum))?;
        out.store_slice(&ranks.values(&sums))
    }))
}
