//! `gru_cell`: one step of a gated recurrent unit.

use super::{CellWeights, cell_samples, parts, plan};
use crate::ops::prelude::*;

#[derive(Debug, Clone, Copy)]
struct GruCell {
    biases: [bool; 2],
}

const NAME: &str = "gru_cell";

impl Tensor {
    /// One step of a GRU with this input: `h' = (1 - z) n + z h` with `r, z = sigmoid(x part + h part)` and
    /// `n = tanh(x part + r (h part))`, where the parts are the three blocks `(r, z, n)` of `x w_ih^T + b_ih` and
    /// `h w_hh^T + b_hh`. Halves compute in f32.
    ///
    /// Shapes: input `[b, i]`, state `[b, h]`, weights `[3 h, i]` and `[3 h, h]`, biases `[3 h]`. Dtypes: floats, equal ones.
    /// PyTorch: `torch.gru_cell` (Cho et al. 2014). NPU: matrix products and elementwise kernels.
    ///
    /// ```
    /// use ascend_tensor::{DType, Device, Tensor, ops::recurrent::CellWeights};
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let zeros = |shape: [usize; 2]| Tensor::zeros(shape, DType::F32, Device::Cpu);
    /// let (w_ih, w_hh) = (zeros([3, 2])?, zeros([3, 1])?);
    /// let state = Tensor::new([[4.0f32]]);
    /// let next = zeros([1, 2])?.gru_cell(&state, CellWeights::new(&w_ih, &w_hh))?;
    /// assert_eq!(next.to_vec::<f32>()?, [2.0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Shape` for sizes that do not fit, `DType` for unequal or other dtypes.
    pub fn gru_cell(&self, state: &Tensor, weights: CellWeights<'_>) -> Result<Tensor> {
        let (rest, biases) = weights.inputs();
        let mut inputs = vec![self, state];
        inputs.extend(rest);
        run_one(&GruCell { biases }, &inputs)
    }
}

impl Op for GruCell {
    fn name(&self) -> &'static str {
        NAME
    }

    fn infer(&self, x: &[Meta], outputs: &mut Plan) -> Result<()> {
        let state = plan(NAME, 3, 1, self.biases, x)?;
        outputs.output(state, x[0].dtype);
        Ok(())
    }

    fn compose(&self, x: &[Tensor]) -> Result<Outputs> {
        let [own, from_state] = parts(1, self.biases, x)?;
        let size = x[1].shape().size(1) as i64;
        let part = |parts: &Tensor, index: i64| parts.narrow(1, index * size, size);
        let both = |index| {
            part(&own, index)?
                .add(&part(&from_state, index)?)?
                .sigmoid()
        };
        let (r, z) = (both(0)?, both(1)?);
        let n = part(&own, 2)?
            .add(&r.mul(&part(&from_state, 2)?)?)?
            .tanh()?;
        let state = x[1].to_dtype(own.dtype())?;
        let next = n.add(&z.mul(&state.sub(&n)?)?)?;
        Ok(smallvec![next.to_dtype(x[0].dtype())?])
    }

    fn is_composed(&self, _x: &[Meta], _device: Device) -> bool {
        true
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
        "aclnnSigmoid",
        "aclnnTanh",
        "aclnnMul",
    ],
    samples,
};

fn samples() -> Vec<Sample> {
    let sample = |biases: bool| Sample {
        op: Box::new(GruCell {
            biases: [biases; 2],
        }),
        inputs: cell_samples(3, 1, biases),
        dtypes: FLOATS,
    };
    vec![sample(true), sample(false)]
}
