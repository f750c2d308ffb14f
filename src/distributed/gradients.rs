//! Data-parallel training: each rank has its part of the batch, and all have the same parameters.
//!
//! Knows parameters and their gradients. Must not know optimisers or how a loss is made.

use std::sync::Arc;

use super::{Communicator, ReduceOp};
use crate::autograd::Gradients;
use crate::error::Result;
use crate::mode::no_grad;
use crate::nn::Parameter;
use crate::tensor::Tensor;

/// Gradients are reduced together up to this number of bytes: many small collectives would wait for each other.
const BUCKET: usize = 25 << 20;

/// Replaces the gradient of each trained parameter by its mean over the ranks: `g = 1/ranks * sum over ranks r of g_r`.
///
/// Where each rank's loss is the mean over an equal part of a batch, the mean of their gradients is the gradient of the whole
/// batch, so that ranks that start with the same parameters ([`broadcast_parameters`]) keep them the same. A trained parameter
/// that has no gradient on a rank counts as zero there and gets the mean of the others; freeze what no rank uses. Gradients of
/// one dtype travel together, up to 25 MiB at once, divided before they are summed, so that halves do not overflow.
///
/// PyTorch: what `torch.nn.parallel.DistributedDataParallel` does after `backward`.
///
/// ```
/// # use ascend_tensor::distributed::{Communicator, Membership, RootInfo, all_reduce_gradients};
/// # use ascend_tensor::{Device, Tensor, nn::Parameter};
/// # fn main() -> ascend_tensor::Result<()> {
/// # ascend_tensor::ascend::install(ascend_sys::Api::from_resolver("ascend-emulator", ascend_emulator::resolve))?;
/// # let comm = Communicator::join(0, &RootInfo::new(0)?, Membership { rank: 0, ranks: 1 })?;
/// let weight = Parameter::new(&Tensor::new([1.0f32, 2.0]).to_device(Device::ascend(0))?)?;
/// let loss = weight.tensor().mul(&weight.tensor())?.sum(())?;
/// let mut gradients = loss.backward()?;
/// all_reduce_gradients(&comm, &mut gradients, &[("weight".into(), weight.clone())])?;
/// let gradient = gradients.get(&weight.tensor()).map(Tensor::to_vec::<f32>).transpose()?;
/// assert_eq!(gradient, Some(vec![2.0, 4.0]));
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// `Device` if a gradient is not on the rank's device; those of [`Communicator::all_reduce`].
pub fn all_reduce_gradients(
    comm: &Arc<Communicator>,
    gradients: &mut Gradients,
    parameters: &[(String, Parameter)],
) -> Result<()> {
    no_grad(|| {
        let mut bucket: Vec<(Tensor, Tensor)> = Vec::new();
        let mut bytes = 0;
        for (_, parameter) in parameters.iter().filter(|(_, own)| own.is_trained()) {
            let leaf = parameter.tensor();
            let gradient = match gradients.get(&leaf) {
                Some(gradient) => gradient.detach(),
                None => leaf.detach().zeros_like()?,
            };
            let other = |(_, first): &(Tensor, Tensor)| first.dtype() != gradient.dtype();
            if bytes >= BUCKET || bucket.first().is_some_and(other) {
                reduce(comm, gradients, std::mem::take(&mut bucket))?;
                bytes = 0;
            }
            bytes += gradient.elements() * gradient.dtype().size();
            bucket.push((leaf, gradient));
        }
        reduce(comm, gradients, bucket)
    })
}

/// Puts the means of gradients of one dtype in their place.
fn reduce(
    comm: &Arc<Communicator>,
    gradients: &mut Gradients,
    bucket: Vec<(Tensor, Tensor)>,
) -> Result<()> {
    if bucket.is_empty() {
        return Ok(());
    }
    let flat = |(_, gradient): &(Tensor, Tensor)| gradient.reshape([gradient.elements()]);
    let parts: Vec<Tensor> = bucket.iter().map(flat).collect::<Result<_>>()?;
    let joined = Tensor::cat(&parts.iter().collect::<Vec<_>>(), 0)?;
    let share = joined.div(f64::from(comm.ranks()))?;
    let mean = comm.all_reduce(&share, ReduceOp::Sum)?;
    let mut start = 0;
    for (leaf, gradient) in &bucket {
        let length = gradient.elements();
        let own = mean.narrow(0, start as i64, length as i64)?;
        gradients.put(leaf, own.reshape(*gradient.shape())?);
        start += length;
    }
    Ok(())
}

/// Gives all ranks the parameters and buffers of one, so that they start from the same.
///
/// # Errors
/// Those of [`Communicator::broadcast`].
pub fn broadcast_parameters(
    comm: &Arc<Communicator>,
    parameters: &[(String, Parameter)],
    root: u32,
) -> Result<()> {
    for (_, parameter) in parameters {
        parameter.update(|tensor| {
            let theirs = comm.broadcast(tensor, root)?;
            tensor.copy_(&theirs)
        })?;
    }
    Ok(())
}
