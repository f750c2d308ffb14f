//! Hugging Face's names for the experts of a layer, and FP8 weights.
//!
//! Knows how tensors of a file become the model's, and back. Must not know files.

use std::collections::BTreeMap;

use super::Config;
use crate::error::{Error, Result};
use crate::nn::StateDict;
use crate::shape::Shape;
use crate::tensor::Tensor;

pub(super) const OP: &str = "load_pretrained";
const GATE_UP: &str = "experts.gate_up";
const DOWN: &str = "experts.down";
const SCALE: &str = "_scale_inv";

/// The tensors of a file, taken out by name.
#[derive(Debug)]
pub(super) struct Source<'a> {
    pub config: &'a Config,
    pub tensors: BTreeMap<String, Tensor>,
}

impl Source<'_> {
    /// A tensor by name; one with a scale of its blocks is multiplied by it.
    fn take(&mut self, name: &str) -> Result<Tensor> {
        let missing = || Error::entry(OP, name, "it is missing");
        let tensor = self.tensors.remove(name).ok_or_else(missing)?;
        match self.tensors.remove(&format!("{name}{SCALE}")) {
            None => Ok(tensor),
            Some(scale) => scaled(name, &tensor, &scale, self.config.weight_block_size),
        }
    }

    /// A tensor by name, of this shape.
    fn take_shaped(&mut self, name: &str, want: &[usize]) -> Result<Tensor> {
        let found = self.take(name)?;
        if found.dims() != want {
            let why = format!("got shape {}, wanted {}", found.shape(), Shape::from(want));
            return Err(Error::entry(OP, name, why));
        }
        Ok(found)
    }

    /// The value of one entry of the model's state, whose shape is known.
    pub fn entry(&mut self, name: &str, want: &Tensor) -> Result<Tensor> {
        let (prefix, parts, stacked) = match (name.strip_suffix(GATE_UP), name.strip_suffix(DOWN)) {
            (Some(prefix), _) => (prefix, &["gate", "up"][..], "gate_up_proj"),
            (_, Some(prefix)) => (prefix, &["down"][..], "down_proj"),
            _ => return self.take_shaped(name, want.dims()),
        };
        let [experts, inputs, outputs] = want.dims() else {
            return Err(Error::entry(OP, name, "wanted a stack of matrices"));
        };
        let whole = format!("{prefix}experts.{stacked}");
        let stack = if self.tensors.contains_key(&whole) {
            self.take_shaped(&whole, &[*experts, *outputs, *inputs])?
        } else {
            let each = [outputs / parts.len(), *inputs];
            let mut all = Vec::with_capacity(*experts);
            for expert in 0..*experts {
                let name = |part: &str| format!("{prefix}experts.{expert}.{part}_proj.weight");
                let own = parts
                    .iter()
                    .map(|part| self.take_shaped(&name(part), &each));
                let own: Vec<Tensor> = own.collect::<Result<_>>()?;
                all.push(Tensor::cat(&own.iter().collect::<Vec<_>>(), 0)?);
            }
            Tensor::stack(&all.iter().collect::<Vec<_>>(), 0)?
        };
        stack.transpose(-2, -1)?.contiguous()
    }

    /// Refuses tensors that nothing took, but for those that a model of this configuration may carry beside its own.
    pub fn finish(&self) -> Result<()> {
        let own = format!("model.layers.{}.", self.config.num_hidden_layers);
        let further = |name: &str| {
            let number = name.strip_prefix("model.layers.");
            let number = number.and_then(|rest| rest.split('.').next()?.parse::<usize>().ok());
            number.is_some_and(|number| number >= self.config.num_hidden_layers)
        };
        let tied = |name: &str| self.config.tie_word_embeddings && name == "lm_head.weight";
        let known = |name: &str| {
            further(name) || name.starts_with(&own) || tied(name) || name.ends_with("inv_freq")
        };
        // A shared expert of no size is written as empty matrices.
        let lost = |(name, tensor): &(&String, &Tensor)| tensor.elements() > 0 && !known(name);
        match self.tensors.iter().find(lost) {
            Some((name, _)) => Err(Error::entry(OP, name, "the model has no such tensor")),
            None => Ok(()),
        }
    }
}

/// `weight * scale`, where each number of the scale belongs to a block of the weight.
fn scaled(name: &str, weight: &Tensor, scale: &Tensor, block: [usize; 2]) -> Result<Tensor> {
    let [rows, columns] = weight.dims() else {
        let why = format!(
            "got shape {}, wanted two dims for a scale of blocks",
            weight.shape()
        );
        return Err(Error::entry(OP, name, why));
    };
    let want = [rows.div_ceil(block[0]), columns.div_ceil(block[1])];
    if scale.dims() != want {
        let why = format!(
            "got shape {}, wanted [{}, {}]",
            scale.shape(),
            want[0],
            want[1]
        );
        return Err(Error::entry(OP, &format!("{name}{SCALE}"), why));
    }
    let spread = scale
        .repeat_interleave(block[0] as i64, 0)?
        .narrow(0, 0, *rows as i64)?
        .repeat_interleave(block[1] as i64, 1)?
        .narrow(1, 0, *columns as i64)?;
    weight.to_dtype(spread.dtype())?.mul(&spread)
}

/// The model's state under Hugging Face's names: one tensor per expert and matrix.
pub(super) fn published(state: &StateDict) -> Result<StateDict> {
    let mut found = StateDict::new();
    for (name, value) in state {
        let each = |value: &Tensor| value.transpose(-2, -1)?.unbind(0);
        if let Some(prefix) = name.strip_suffix(GATE_UP) {
            for (expert, both) in each(value)?.iter().enumerate() {
                let halves = both.chunk(2, 0)?;
                for (part, half) in ["gate", "up"].iter().zip(&halves) {
                    let name = format!("{prefix}experts.{expert}.{part}_proj.weight");
                    found.insert(name, half.contiguous()?);
                }
            }
        } else if let Some(prefix) = name.strip_suffix(DOWN) {
            for (expert, down) in each(value)?.iter().enumerate() {
                let name = format!("{prefix}experts.{expert}.down_proj.weight");
                found.insert(name, down.contiguous()?);
            }
        } else {
            found.insert(name.clone(), value.clone());
        }
    }
    Ok(found)
}
