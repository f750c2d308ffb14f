//! The ops of the family `recurrent`.

use ascend_tensor::ops::recurrent::{CellWeights, LstmState};
use ascend_tensor::{Result, Tensor};

use super::{Args, Call, one};

pub const CALLS: &[(&str, Call)] = &[("gru_cell", gru_cell), ("lstm_cell", lstm_cell)];

/// The weights from a slot on.
fn weights<'a>(args: &Args<'a>, slot: usize) -> Result<CellWeights<'a>> {
    let mut weights = CellWeights::new(args.tensor(slot)?, args.tensor(slot + 1)?);
    if let Some(bias) = args.optional(slot + 2) {
        weights = weights.input_bias(bias);
    }
    if let Some(bias) = args.optional(slot + 3) {
        weights = weights.hidden_bias(bias);
    }
    Ok(weights)
}

fn lstm_cell(args: &Args) -> Result<Vec<Tensor>> {
    let state = LstmState {
        hidden: args.tensor(1)?.clone(),
        cell: args.tensor(2)?.clone(),
    };
    let next = args.tensor(0)?.lstm_cell(&state, weights(args, 3)?)?;
    Ok(vec![next.hidden, next.cell])
}

fn gru_cell(args: &Args) -> Result<Vec<Tensor>> {
    one(args.tensor(0)?.gru_cell(args.tensor(1)?, weights(args, 2)?))
}
