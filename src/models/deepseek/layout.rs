//! Hugging Face's names for the experts of a layer, and FP8 weights.
//!
//! Knows how tensors of a file become the model's, and back. Must not know files.

use std::collections::BTreeMap;

use super::Config;
use crate::error::{Error, Result};
use crate::nn::StateDict;
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

    /// The value of one entry of the model's state, whose shape is known.
    pub fn entry(&mut self, name: &str, want: &Tensor) -> Result<Tensor> {
        let experts = want.dims().first().copied().unwrap_or(0);
        let found = if let Some(prefix) = name.strip_suffix(GATE_UP) {
            match self.stacked(&format!("{prefix}experts.gate_up_proj"))? {
                Some(stacked) => stacked,
                None => self.stack(experts, want, |this, expert| {
                    let part = |this: &mut Self, part: &str| {
                        this.take(&format!("{prefix}experts.{expert}.{part}_proj.weight"))
                    };
                    let (gate, up) = (part(this, "gate")?, part(this, "up")?);
                    Tensor::cat(&[&gate, &up], 0)
                })?,
            }
        } else if let Some(prefix) = name.strip_suffix(DOWN) {
            match self.stacked(&format!("{prefix}experts.down_proj"))? {
                Some(stacked) => stacked,
                None => self.stack(experts, want, |this, expert| {
                    this.take(&format!("{prefix}experts.{expert}.down_proj.weight"))
                })?,
            }
        } else {
            self.take(name)?
        };
        if found.shape() != want.shape() {
            let why = format!("got shape {}, wanted {}", found.shape(), want.shape());
            return Err(Error::entry(OP, name, why));
        }
        Ok(found)
    }

    /// Experts that are one tensor in the file, `[experts, outputs, inputs]`.
    fn stacked(&mut self, name: &str) -> Result<Option<Tensor>> {
        let stacked = self.tensors.remove(name);
        stacked
            .map(|stacked| stacked.transpose(-2, -1)?.contiguous())
            .transpose()
    }

    /// Experts that are a tensor each, `[outputs, inputs]`, side by side and transposed.
    fn stack(
        &mut self,
        experts: usize,
        want: &Tensor,
        mut one: impl FnMut(&mut Self, usize) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let mut parts = Vec::with_capacity(experts);
        for expert in 0..experts {
            let part = one(self, expert)?;
            let part = part.transpose(-2, -1)?;
            if part.dims() != &want.dims()[1..] {
                let name = format!("of expert {expert}");
                let why = format!(
                    "got shape {} transposed, wanted {}",
                    part.shape(),
                    want.shape()
                );
                return Err(Error::entry(OP, &name, why));
            }
            parts.push(part);
        }
        Tensor::stack(&parts.iter().collect::<Vec<_>>(), 0)
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
