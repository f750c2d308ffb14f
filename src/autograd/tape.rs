//! The tape: a graph of the ops that ran, from outputs back to leaves.
//!
//! Knows nodes, what they save, and when a saved tensor went stale. Must not know any op, nor how gradients are summed.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use smallvec::SmallVec;

use crate::device::Device;
use crate::error::{BackwardFault, Error, Result};
use crate::op::{Meta, Op, Outputs};
use crate::tensor::Tensor;

/// One output of a node.
#[derive(Clone)]
pub(crate) struct NodeRef {
    pub node: Arc<Node>,
    pub output: u32,
}

/// An op that ran, or a leaf.
pub(crate) struct Node {
    /// Rises with time, so that every node's inputs have smaller numbers.
    pub id: u64,
    pub kind: Kind,
}

pub(crate) enum Kind {
    /// A tensor that requires a gradient.
    Leaf,
    Op(Box<Record>),
}

/// What a node keeps of its op's call.
pub(crate) struct Record {
    pub op: Box<dyn Op>,
    /// The histories of the inputs.
    pub edges: SmallVec<[Option<NodeRef>; 3]>,
    pub metas: SmallVec<[Meta; 3]>,
    pub device: Device,
    pub inputs: SmallVec<[Option<Saved>; 3]>,
    pub outputs: SmallVec<[Option<Saved>; 2]>,
}

/// A tensor kept for the gradient, with the version it had.
pub(crate) struct Saved {
    tensor: Tensor,
    version: u64,
}

impl Saved {
    fn new(tensor: &Tensor) -> Self {
        Saved {
            tensor: tensor.clone(),
            version: tensor.storage().version(),
        }
    }

    /// The tensor, if it was not changed in place since.
    pub fn get(&self, op: &'static str) -> Result<Tensor> {
        if self.tensor.storage().version() != self.version {
            return Err(Error::Backward {
                op,
                why: BackwardFault::Stale,
            });
        }
        Ok(self.tensor.clone())
    }
}

static NEXT: AtomicU64 = AtomicU64::new(1);

impl Node {
    pub fn leaf() -> Arc<Self> {
        Arc::new(Node {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            kind: Kind::Leaf,
        })
    }
}

impl fmt::Debug for NodeRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match &self.node.kind {
            Kind::Leaf => "leaf",
            Kind::Op(record) => record.op.name(),
        };
        write!(f, "{name}#{}.{}", self.node.id, self.output)
    }
}

impl Drop for Node {
    /// Takes a long chain apart without recursion: a million ops must not overflow the stack.
    fn drop(&mut self) {
        let mut waiting: Vec<Record> = Vec::new();
        take_apart(&mut self.kind, &mut waiting);
        while let Some(mut record) = waiting.pop() {
            let edges = record.edges.drain(..).flatten();
            let saved = record
                .inputs
                .drain(..)
                .chain(record.outputs.drain(..))
                .flatten();
            let saved = saved.filter_map(|saved| saved.tensor.into_node());
            for edge in edges.chain(saved) {
                if let Some(mut node) = Arc::into_inner(edge.node) {
                    take_apart(&mut node.kind, &mut waiting);
                }
            }
        }
    }
}

fn take_apart(kind: &mut Kind, waiting: &mut Vec<Record>) {
    if let Kind::Op(record) = std::mem::replace(kind, Kind::Leaf) {
        waiting.push(*record);
    }
}

/// Refuses a handle whose storage got another history through an in-place op on another handle.
pub(crate) fn check_history(op: &'static str, input: &Tensor) -> Result<()> {
    if input.storage().history() > input.seen() {
        return Err(Error::Backward {
            op,
            why: BackwardFault::History,
        });
    }
    Ok(())
}

/// Refuses an in-place op under the tape whose destination is a leaf: its gradient would belong to a value that is gone.
pub(crate) fn check_destinations(op: &dyn Op, inputs: &[Tensor]) -> Result<()> {
    let is_leaf = |input: &Tensor| {
        input
            .node()
            .is_some_and(|node| matches!(node.node.kind, Kind::Leaf))
    };
    let written_leaf = inputs
        .iter()
        .enumerate()
        .any(|(index, input)| op.writes().has(index) && is_leaf(input));
    if written_leaf {
        return Err(Error::Backward {
            op: op.name(),
            why: BackwardFault::LeafInPlace,
        });
    }
    Ok(())
}

/// Gives the outputs of a call their history; the answer has the visible outputs only.
pub(crate) fn record(
    op: &dyn Op,
    inputs: &[&Tensor],
    mut outputs: Outputs,
    visible: usize,
) -> Result<Outputs> {
    let saves = op.saves();
    let saved = |index: usize, input: &&Tensor| saves.input(index).then(|| Saved::new(input));
    let record = Record {
        op: op.boxed(),
        edges: inputs.iter().map(|input| input.node().cloned()).collect(),
        metas: inputs.iter().map(|input| input.meta()).collect(),
        device: inputs.first().map_or(Device::Cpu, |input| input.device()),
        inputs: inputs
            .iter()
            .enumerate()
            .map(|(index, input)| saved(index, input))
            .collect(),
        outputs: outputs
            .iter()
            .enumerate()
            .map(|(index, output)| saves.output(index).then(|| Saved::new(output)))
            .collect(),
    };
    let node = Arc::new(Node {
        id: NEXT.fetch_add(1, Ordering::Relaxed),
        kind: Kind::Op(Box::new(record)),
    });
    outputs.truncate(visible);
    let follow = |(output, tensor): (usize, Tensor)| {
        if tensor.dtype().is_float() {
            tensor.with_node(NodeRef {
                node: Arc::clone(&node),
                output: output as u32,
            })
        } else {
            tensor
        }
    };
    Ok(outputs.into_iter().enumerate().map(follow).collect())
}
