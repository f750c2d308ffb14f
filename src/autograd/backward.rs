//! The backward pass: from an output over the tape to the leaves.
//!
//! Knows the order of nodes and how gradients add up, and brings each to its input's shape and dtype. Must not know any op's
//! gradient.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use smallvec::SmallVec;

use super::arrived::{Arrived, Run, Whole};
use super::tape::{Kind, Node, NodeRef, Record};
use crate::error::{BackwardFault, Error, Result};
use crate::mode::{self, Modes};
use crate::op::{Before, GradCx, Gradient, Grads, Meta};
use crate::tensor::Tensor;

/// The gradients that a backward pass computed, by leaf.
#[derive(Debug, Default, Clone)]
pub struct Gradients {
    by_leaf: HashMap<u64, Tensor>,
}

impl Gradients {
    /// The gradient of a tensor that requires one; `None` if the output did not depend on it.
    pub fn get(&self, leaf: &Tensor) -> Option<&Tensor> {
        self.by_leaf.get(&leaf.node()?.node.id)
    }

    /// Takes the gradient of a tensor out.
    pub fn take(&mut self, leaf: &Tensor) -> Option<Tensor> {
        self.by_leaf.remove(&leaf.node()?.node.id)
    }

    /// Replaces the gradient of a tensor that requires one.
    pub(crate) fn put(&mut self, leaf: &Tensor, gradient: Tensor) {
        if let Some(node) = leaf.node() {
            self.by_leaf.insert(node.node.id, gradient);
        }
    }

    /// The number of leaves with a gradient.
    pub fn len(&self) -> usize {
        self.by_leaf.len()
    }

    /// Whether no leaf has a gradient.
    pub fn is_empty(&self) -> bool {
        self.by_leaf.is_empty()
    }

    /// Adds the gradients of another pass to these (gradient accumulation).
    ///
    /// # Errors
    /// If gradients of one leaf cannot be added.
    pub fn accumulate(&mut self, other: Gradients) -> Result<()> {
        for (leaf, gradient) in other.by_leaf {
            let sum = match self.by_leaf.get(&leaf) {
                Some(own) => own.add(&gradient)?,
                None => gradient,
            };
            self.by_leaf.insert(leaf, sum);
        }
        Ok(())
    }
}

/// Settings of [`Tensor::backward_with`].
#[derive(Debug, Clone, Copy, Default)]
#[must_use]
pub struct BackwardOptions<'a> {
    seed: Option<&'a Tensor>,
    create_graph: bool,
}

impl<'a> BackwardOptions<'a> {
    /// The gradient of a single-element output, not differentiable again.
    pub fn new() -> Self {
        BackwardOptions::default()
    }

    /// Starts from this gradient of the output instead of 1.
    pub fn gradient(mut self, seed: &'a Tensor) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Records the backward pass too, so that the gradients can be differentiated again.
    pub fn create_graph(mut self) -> Self {
        self.create_graph = true;
        self
    }
}

impl Tensor {
    /// The same tensor as a leaf whose gradient `backward` computes.
    ///
    /// # Errors
    /// If the dtype is not a float.
    pub fn requires_grad(&self) -> Result<Tensor> {
        if !self.dtype().is_float() {
            return Err(Error::Backward {
                op: "requires_grad",
                why: BackwardFault::NotFloat,
            });
        }
        Ok(self.detached_handle().with_node(NodeRef {
            node: Node::leaf(),
            output: 0,
        }))
    }

    /// Computes the gradients of this single-element tensor for all leaves that it depends on.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([1.0f32, 2.0, 3.0]).requires_grad()?;
    /// let gradients = x.mul(&x)?.sum(())?.backward()?;
    /// let dx = gradients.get(&x).map(|dx| dx.to_vec::<f32>()).transpose()?;
    /// assert_eq!(dx, Some(vec![2.0, 4.0, 6.0]));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// If the tensor has more than one element or no history, a saved tensor was changed in place, or an op fails.
    pub fn backward(&self) -> Result<Gradients> {
        self.backward_with(BackwardOptions::new())
    }

    /// As [`Tensor::backward`], with a gradient to start from, or recorded for second derivatives.
    ///
    /// # Errors
    /// As [`Tensor::backward`], and if the seed does not have this tensor's shape, dtype and device.
    pub fn backward_with(&self, options: BackwardOptions<'_>) -> Result<Gradients> {
        let root = self.node().ok_or(Error::Backward {
            op: "backward",
            why: BackwardFault::NotTracked,
        })?;
        super::tape::check_history("backward", self)?;
        let seed = match options.seed {
            Some(seed) if seed.meta() == self.meta() && seed.device() == self.device() => {
                seed.clone()
            }
            Some(_) => {
                return Err(Error::Backward {
                    op: "backward",
                    why: BackwardFault::Seed,
                });
            }
            None if self.elements() == 1 => Tensor::ones_like(self)?,
            None => {
                return Err(Error::Backward {
                    op: "backward",
                    why: BackwardFault::NotScalar,
                });
            }
        };
        mode::backward(options.create_graph, || {
            walk(root, seed, options.create_graph)
        })
    }
}

/// The gradients of the leaves of several outputs in one walk, each output with a gradient to start from.
pub(super) fn backward_of(outputs: &[(&Tensor, &Tensor)]) -> Result<Gradients> {
    mode::backward(false, || {
        let mut waiting = BTreeMap::new();
        for (output, gradient) in outputs {
            if let Some(root) = output.node() {
                let gradient = fit("backward", (*gradient).clone(), &output.meta())?;
                at(&mut waiting, root).add(root, gradient, false)?;
            }
        }
        drain(waiting, &HashMap::new(), false)
    })
}

/// Visits nodes in falling order of their numbers: each after all that used it.
fn walk(root: &NodeRef, seed: Tensor, create_graph: bool) -> Result<Gradients> {
    let mut waiting = BTreeMap::new();
    at(&mut waiting, root).add(root, seed, create_graph)?;
    drain(waiting, &HashMap::new(), create_graph)
}

/// Visits what waits, and what that leads to, down to leaves and to the nodes at which to stop.
fn drain(
    mut waiting: BTreeMap<u64, Arrived>,
    stops: &HashMap<u64, usize>,
    create_graph: bool,
) -> Result<Gradients> {
    let mut gradients = Gradients::default();
    while let Some((id, arrived)) = waiting.pop_last() {
        let (node, own) = arrived.settle()?;
        let record = match &node.kind {
            Kind::Op(record) if !stops.contains_key(&id) => record,
            _ => {
                if let Some(gradient) = own.into_iter().flatten().next() {
                    gradients.by_leaf.insert(id, gradient);
                }
                continue;
            }
        };
        visit((&node, record), &own, &mut waiting, create_graph)?;
    }
    Ok(gradients)
}

/// Sends the gradients of a node's inputs where they belong.
fn visit(
    (node, record): (&Arc<Node>, &Record),
    own: &Whole,
    waiting: &mut BTreeMap<u64, Arrived>,
    create_graph: bool,
) -> Result<()> {
    let offers = record.device.is_cpu() && !create_graph;
    if offers
        && !mode::current().has(Modes::ANOMALY)
        && let ([Some(edge)], [Some(gradient)]) = (record.edges.as_slice(), own.as_slice())
        && let Some(run) = Run::of(record)
    {
        return at(waiting, edge).add_run(edge, run, gradient.clone());
    }
    let others = RefCell::new(&mut *waiting);
    let take = |position: usize| {
        let edge = record.edges.get(position)?.as_ref()?;
        others.borrow_mut().get_mut(&edge.node.id)?.take(edge)
    };
    let before = Before(offers.then_some(&take));
    let grads = step(node, own, record, before, create_graph)?;
    for ((edge, gradient), meta) in record.edges.iter().zip(grads).zip(&record.metas) {
        if let (Some(edge), Some(gradient)) = (edge, gradient) {
            let gradient = fit(record.op.name(), gradient, meta)?;
            at(waiting, edge).add(edge, gradient, create_graph)?;
        }
    }
    Ok(())
}

/// What has arrived at the node of an edge.
fn at<'a>(waiting: &'a mut BTreeMap<u64, Arrived>, edge: &NodeRef) -> &'a mut Arrived {
    waiting
        .entry(edge.node.id)
        .or_insert_with(|| Arrived::new(Arc::clone(&edge.node)))
}

/// Brings a gradient to its input's shape (sums over broadcast dims) and dtype.
fn fit(op: &'static str, gradient: Tensor, meta: &Meta) -> Result<Tensor> {
    let gradient = if *gradient.shape() == meta.shape {
        gradient
    } else {
        gradient.sum_to(op, &meta.shape)?
    };
    if gradient.dtype() == meta.dtype {
        Ok(gradient)
    } else {
        gradient.to_dtype(meta.dtype)
    }
}

/// The gradients of one node's inputs.
fn step(
    node: &Arc<Node>,
    own: &Whole,
    record: &Record,
    before: Before<'_>,
    create_graph: bool,
) -> Result<Grads> {
    let op = record.op.name();
    let needs: SmallVec<[bool; 4]> = record.edges.iter().map(Option::is_some).collect();
    let inputs: SmallVec<[Option<Tensor>; 4]> = record
        .inputs
        .iter()
        .map(|saved| saved.as_ref().map(|saved| saved.get(op)).transpose())
        .collect::<Result<_>>()?;
    let attach = |(output, tensor): (usize, Tensor)| {
        if create_graph && tensor.dtype().is_float() {
            tensor.with_node(NodeRef {
                node: Arc::clone(node),
                output: output as u32,
            })
        } else {
            tensor
        }
    };
    let outputs: SmallVec<[Option<Tensor>; 4]> = record
        .outputs
        .iter()
        .enumerate()
        .map(|(output, saved)| {
            saved
                .as_ref()
                .map(|saved| saved.get(op).map(|tensor| attach((output, tensor))))
                .transpose()
        })
        .collect::<Result<_>>()?;
    let cx = GradCx {
        op,
        inputs: &inputs,
        outputs: &outputs,
        metas: &record.metas,
        device: record.device,
        gradients: own,
        needs: &needs,
        // A backward that may still give way to the composition must not take what would then be lost.
        before: match record.op.gradient() {
            Gradient::Backward => before,
            _ => Before(None),
        },
    };
    let grads = match record.op.gradient() {
        Gradient::Compose if !create_graph => match record.op.backward(&cx) {
            Err(Error::NoGradient { .. } | Error::Unsupported { .. } | Error::Symbol { .. }) => {
                composed(record, &cx, create_graph)?
            }
            grads => grads?,
        },
        Gradient::Compose => composed(record, &cx, create_graph)?,
        _ => record.op.backward(&cx)?,
    };
    if mode::current().has(Modes::ANOMALY) {
        check_finite(op, &grads)?;
    }
    if grads.iter().skip(record.metas.len()).any(Option::is_some) {
        return Err(Error::Backward {
            op,
            why: BackwardFault::Arity,
        });
    }
    Ok(grads)
}

/// Refuses gradients that are not finite.
fn check_finite(op: &'static str, grads: &Grads) -> Result<()> {
    for gradient in grads.iter().flatten() {
        if !gradient.isfinite()?.all(())?.item::<bool>()? {
            return Err(Error::Backward {
                op,
                why: BackwardFault::NotFinite,
            });
        }
    }
    Ok(())
}

/// The gradient of a composition: run again under the tape from views of the inputs, at which the walk stops. The views
/// keep the inputs' history, so that recorded gradients can be differentiated again.
fn composed(record: &Record, cx: &GradCx<'_>, create_graph: bool) -> Result<Grads> {
    let starts: Vec<Tensor> = (0..cx.len())
        .map(|index| cx.input(index).cloned())
        .collect::<Result<_>>()?;
    let starts = starts.iter().enumerate().map(|(index, x)| {
        if cx.needs(index) {
            x.reshape(*x.shape())
        } else {
            Ok(x.detach())
        }
    });
    let starts: Vec<Tensor> = mode::inner(true, || starts.collect::<Result<_>>())?;
    let outputs = mode::inner(true, || record.op.compose(&starts))?;
    let mut stops = HashMap::new();
    for (index, start) in starts
        .iter()
        .enumerate()
        .filter(|(index, _)| cx.needs(*index))
    {
        stops.extend(start.node().map(|node| (node.node.id, index)));
    }
    let mut grads: Grads = smallvec::smallvec![None; cx.len()];
    let mut waiting = BTreeMap::new();
    for (output, gradient) in outputs.iter().zip(cx.gradients) {
        if let (Some(gradient), Some(node)) = (gradient, output.node()) {
            let gradient = fit(cx.op, gradient.clone(), &output.meta())?;
            at(&mut waiting, node).add(node, gradient, create_graph)?;
        }
    }
    let found = drain(waiting, &stops, create_graph)?;
    for (id, gradient) in found.by_leaf {
        if let Some(slot) = stops.get(&id).and_then(|index| grads.get_mut(*index)) {
            *slot = Some(gradient);
        }
    }
    Ok(grads)
}
