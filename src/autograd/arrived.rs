//! Gradients on their way: what has arrived at the outputs of a node, whole or in runs of indices along a dim.
//!
//! Knows how gradients add up. Must not know any op's gradient, nor the order of nodes.
//!
//! Views that cut a tensor into runs are as good as alone in giving it gradients (heads and gates that one product made), and
//! together they often cover all of it. So runs wait for each other, and are put side by side at once: not each into zeros of
//! its own, to be added up after that.

use std::sync::Arc;

use smallvec::SmallVec;

use super::tape::{Node, NodeRef, Record};
use crate::error::Result;
use crate::layout::Layout;
use crate::op::Gradient;
use crate::shape::Shape;
use crate::tensor::Tensor;

/// Whole gradients, one for each output of a node.
pub(super) type Whole = SmallVec<[Option<Tensor>; 2]>;

/// The gradients that have arrived at a node's outputs: of each either a whole, or runs.
pub(super) struct Arrived {
    pub node: Arc<Node>,
    whole: Whole,
    runs: Vec<(usize, Runs)>,
}

/// A run of a tensor of this shape: where it begins along the dim.
#[derive(Clone, Copy)]
pub(super) struct Run {
    shape: Shape,
    dim: usize,
    start: usize,
}

impl Run {
    /// The run that a recorded view takes of its input.
    pub fn of(record: &Record) -> Option<Self> {
        let [meta] = record.metas.as_slice() else {
            return None;
        };
        if record.op.gradient() != Gradient::Backward {
            return None;
        }
        let whole = Layout::contiguous(meta.shape);
        let own = record.op.view(&whole).ok().flatten()?;
        let differs = |(own, whole): (&usize, &usize)| own != whole;
        let dim = own.dims().iter().zip(whole.dims()).position(differs)?;
        let (stride, length) = (whole.strides()[dim].max(1), own.dims()[dim]);
        let start = own.offset() / stride;
        let is_run = own.strides() == whole.strides()
            && *own.shape() == meta.shape.with(dim, length)
            && own.offset().is_multiple_of(stride)
            && length < whole.dims()[dim]
            && start + length <= whole.dims()[dim];
        is_run.then_some(Run {
            shape: meta.shape,
            dim,
            start,
        })
    }

    /// Adds the gradient of the run to that of the whole.
    fn add_to(self, whole: Tensor, gradient: &Tensor) -> Result<Tensor> {
        let whole = whole.into_sole()?;
        let length = gradient.shape().size(self.dim) as i64;
        whole
            .narrow(self.dim as i64, self.start as i64, length)?
            .add_(gradient)?;
        Ok(whole)
    }
}

/// Runs along one dim that do not overlap, by where they begin.
struct Runs {
    shape: Shape,
    dim: usize,
    parts: SmallVec<[(usize, Tensor); 4]>,
}

impl Runs {
    /// Where a run of so many indices belongs among these, if it overlaps none.
    fn place(&self, run: Run, length: usize) -> Option<usize> {
        let place = self.parts.partition_point(|(start, _)| *start < run.start);
        let end = |(start, part): &(usize, Tensor)| start + part.shape().size(self.dim);
        let before = self.parts[..place]
            .last()
            .is_none_or(|part| end(part) <= run.start);
        let after = self
            .parts
            .get(place)
            .is_none_or(|(start, _)| run.start + length <= *start);
        (run.dim == self.dim && before && after).then_some(place)
    }

    /// The runs side by side, and zeros between them.
    fn whole(self) -> Result<Tensor> {
        let mut pieces: SmallVec<[Tensor; 4]> = SmallVec::new();
        let mut covered = 0;
        let last = (self.shape.size(self.dim), None);
        let parts = self.parts.iter().map(|(start, part)| (*start, Some(part)));
        for (start, part) in parts.chain([last]) {
            if start > covered
                && let Some((_, like)) = self.parts.first()
            {
                let zero = Tensor::zeros((), like.dtype(), like.device())?;
                pieces.push(zero.expand(self.shape.with(self.dim, start - covered))?);
            }
            if let Some(part) = part {
                pieces.push(part.clone());
                covered = start + part.shape().size(self.dim);
            }
        }
        let pieces: SmallVec<[&Tensor; 4]> = pieces.iter().collect();
        Tensor::cat(&pieces, self.dim as i64)
    }
}

impl Arrived {
    pub fn new(node: Arc<Node>) -> Self {
        Arrived {
            node,
            whole: Whole::new(),
            runs: Vec::new(),
        }
    }

    fn slot(&mut self, output: usize) -> &mut Option<Tensor> {
        if self.whole.len() <= output {
            self.whole.resize(output + 1, None);
        }
        &mut self.whole[output]
    }

    /// Takes the runs of an output out.
    fn take_runs(&mut self, output: usize) -> Option<Runs> {
        let place = self.runs.iter().position(|(own, _)| *own == output)?;
        Some(self.runs.swap_remove(place).1)
    }

    /// Takes the gradient of an output out, if it is there as a whole.
    pub fn take(&mut self, edge: &NodeRef) -> Option<Tensor> {
        self.slot(edge.output as usize).take()
    }

    /// Adds a gradient to what there is of an output's; in place, unless it will be differentiated again.
    pub fn add(&mut self, edge: &NodeRef, gradient: Tensor, create_graph: bool) -> Result<()> {
        let output = edge.output as usize;
        if let Some(Runs { shape, dim, parts }) = self.take_runs(output) {
            let add = |whole, (start, part): (usize, Tensor)| {
                Run { shape, dim, start }.add_to(whole, &part)
            };
            let sum = parts.into_iter().try_fold(gradient, add)?;
            *self.slot(output) = Some(sum);
            return Ok(());
        }
        let slot = self.slot(output);
        *slot = Some(match slot.take() {
            Some(mut own) if !create_graph && own.is_sole() => {
                own.add_(&gradient)?;
                own
            }
            Some(own) => own.add(&gradient)?,
            None => gradient,
        });
        Ok(())
    }

    /// As `add`, of a run of the output.
    pub fn add_run(&mut self, edge: &NodeRef, run: Run, gradient: Tensor) -> Result<()> {
        let output = edge.output as usize;
        if let Some(whole) = self.slot(output).take() {
            *self.slot(output) = Some(run.add_to(whole, &gradient)?);
            return Ok(());
        }
        let length = gradient.shape().size(run.dim);
        let mut runs = self.take_runs(output).unwrap_or(Runs {
            shape: run.shape,
            dim: run.dim,
            parts: SmallVec::new(),
        });
        match runs.place(run, length) {
            Some(place) => {
                runs.parts.insert(place, (run.start, gradient));
                self.runs.push((output, runs));
            }
            None => *self.slot(output) = Some(run.add_to(runs.whole()?, &gradient)?),
        }
        Ok(())
    }

    /// The node and the whole gradients of its outputs.
    pub fn settle(mut self) -> Result<(Arc<Node>, Whole)> {
        while let Some((output, runs)) = self.runs.pop() {
            *self.slot(output) = Some(runs.whole()?);
        }
        Ok((self.node, self.whole))
    }
}
