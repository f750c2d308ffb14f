//! `lstm_cell`: one step of a long short-term memory.

use super::lstm_gates::LstmGates;
use super::{CellWeights, cell_samples, parts, plan};
use crate::ops::prelude::*;

/// The states of [`Tensor::lstm_cell`].
#[derive(Debug, Clone)]
pub struct LstmState {
    /// What the cell shows: `h`.
    pub hidden: Tensor,
    /// What it remembers: `c`.
    pub cell: Tensor,
}

#[derive(Debug, Clone, Copy)]
struct LstmCell {
    biases: [bool; 2],
}

const NAME: &str = "lstm_cell";

impl Tensor {
    /// One step of an LSTM with this input: `c' = sigmoid(f) c + sigmoid(i) tanh(g)`, `h' = sigmoid(o) tanh(c')`, where the gates
    /// `(i, f, g, o)` are the four blocks of `x w_ih^T + b_ih + h w_hh^T + b_hh`. Halves compute in f32.
    ///
    /// Shapes: input `[b, i]`, states `[b, h]`, weights `[4 h, i]` and `[4 h, h]`, biases `[4 h]`. Dtypes: floats, equal ones.
    /// PyTorch: `torch.lstm_cell` (Hochreiter & Schmidhuber 1997). NPU: matrix products and
    /// `aclnnThnnFusedLstmCell`, `aclnnThnnFusedLstmCellBackward`.
    ///
    /// ```
    /// use ascend_tensor::{DType, Device, Tensor};
    /// use ascend_tensor::ops::recurrent::{CellWeights, LstmState};
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let zeros = |shape: [usize; 2]| Tensor::zeros(shape, DType::F32, Device::Cpu);
    /// let state = LstmState { hidden: zeros([1, 1])?, cell: Tensor::new([[2.0f32]]) };
    /// let (w_ih, w_hh) = (zeros([4, 3])?, zeros([4, 1])?);
    /// let next = zeros([1, 3])?.lstm_cell(&state, CellWeights::new(&w_ih, &w_hh))?;
    /// assert_eq!(next.cell.to_vec::<f32>()?, [1.0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Shape` for sizes that do not fit, `DType` for unequal or other dtypes.
    pub fn lstm_cell(&self, state: &LstmState, weights: CellWeights<'_>) -> Result<LstmState> {
        let (rest, biases) = weights.inputs();
        let mut inputs = vec![self, &state.hidden, &state.cell];
        inputs.extend(rest);
        let (hidden, cell) = crate::ops::reduce::run_two(&LstmCell { biases }, &inputs)?;
        Ok(LstmState { hidden, cell })
    }
}

impl Op for LstmCell {
    fn name(&self) -> &'static str {
        NAME
    }

    fn infer(&self, x: &[Meta], outputs: &mut Plan) -> Result<()> {
        let state = plan(NAME, 4, 2, self.biases, x)?;
        outputs.output(state, x[0].dtype);
        outputs.output(state, x[0].dtype);
        Ok(())
    }

    fn compose(&self, x: &[Tensor]) -> Result<Outputs> {
        let [own, from_state] = parts(2, self.biases, x)?;
        let cell = x[2].to_dtype(own.dtype())?;
        let (hidden, next) = crate::ops::reduce::run_two(&LstmGates, &[&own, &from_state, &cell])?;
        let dtype = x[0].dtype();
        Ok(smallvec![hidden.to_dtype(dtype)?, next.to_dtype(dtype)?])
    }

    fn is_composed(&self, _x: &[Meta], device: Device) -> bool {
        device.is_cpu()
    }

    fn gradient(&self) -> Gradient {
        Gradient::Compose
    }

    fn cast(&self) -> CastRule {
        CastRule::Lower
    }

    fn boxed(&self) -> Box<dyn Op> {
        Box::new(*self)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: NAME,
    family: "recurrent",
    kernels: &[
        "aclnnMm",
        "aclnnAddmm",
        "aclnnThnnFusedLstmCell",
        "aclnnThnnFusedLstmCellBackward",
    ],
    samples,
};

fn samples() -> Vec<Sample> {
    let sample = |biases: bool| Sample {
        op: Box::new(LstmCell {
            biases: [biases; 2],
        }),
        inputs: cell_samples(4, 2, biases),
        dtypes: FLOATS,
    };
    vec![sample(true), sample(false)]
}
