//! Muon: momentum whose direction is made orthogonal, for the matrices inside a network.
//!
//! Knows the Newton-Schulz steps, in the crate's own ops, and running gradients. Must not know modules.

use super::Optimizer;
use super::group::Groups;
use super::sgd::{Running, entries, take};
use crate::autograd::Gradients;
use crate::check::{not_negative, probability};
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::mode::without_autocast;
use crate::nn::{Parameter, StateDict};
use crate::ops::elementwise::ClampOptions;
use crate::ops::linear::AddmmOptions;
use crate::ops::reduce::NormOptions;
use crate::tensor::Tensor;

const OP: &str = "muon";

/// How the length of a step follows from a matrix's shape `[outputs, inputs]`: what the learning rate is multiplied with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum MuonScale {
    /// `sqrt(max(1, outputs / inputs))` (Jordan). PyTorch: `"original"`.
    #[default]
    Original,
    /// `0.2 sqrt(max(outputs, inputs))`: steps as large as AdamW's, so that its rate and decay can be kept (Moonshot).
    /// PyTorch: `"match_rms_adamw"`.
    MatchRmsAdamW,
    /// `sqrt(outputs / inputs)` (Bernstein). PyTorch: `"spectral_unclamped"`.
    Spectral,
}

impl MuonScale {
    fn factor(self, shape: [f64; 2]) -> f64 {
        let [outputs, inputs] = shape.map(|size| size.max(1.0));
        match self {
            MuonScale::Original => (outputs / inputs).max(1.0).sqrt(),
            MuonScale::MatchRmsAdamW => 0.2 * outputs.max(inputs).sqrt(),
            MuonScale::Spectral => (outputs / inputs).sqrt(),
        }
    }
}

/// What direction the running gradient gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Momentum {
    /// The running gradient itself.
    Plain,
    /// The running gradient as it will be after one more step of the same gradient (Nesterov).
    #[default]
    Nesterov,
}

/// Settings of [`Muon`].
#[derive(Debug, Clone, Copy, PartialEq)]
#[must_use]
pub struct MuonOptions {
    lr: f64,
    weight_decay: f64,
    momentum: f64,
    kind: Momentum,
    coefficients: [f64; 3],
    steps: usize,
    eps: f64,
    scale: MuonScale,
    precision: DType,
}

impl Default for MuonOptions {
    fn default() -> Self {
        MuonOptions {
            lr: 1e-3,
            weight_decay: 0.1,
            momentum: 0.95,
            kind: Momentum::Nesterov,
            coefficients: [3.4445, -4.775, 2.0315],
            steps: 5,
            eps: 1e-7,
            scale: MuonScale::Original,
            precision: DType::BF16,
        }
    }
}

impl MuonOptions {
    /// PyTorch's: rate 1e-3, weight decay 0.1, Nesterov momentum 0.95, five Newton-Schulz steps in `bf16`.
    pub fn new() -> Self {
        MuonOptions::default()
    }

    /// The learning rate.
    pub fn lr(mut self, lr: f64) -> Self {
        self.lr = lr;
        self
    }

    /// The weight decay, apart from the gradient.
    pub fn weight_decay(mut self, weight_decay: f64) -> Self {
        self.weight_decay = weight_decay;
        self
    }

    /// How much of the running gradient stays in a step, from 0 to 1.
    pub fn momentum(mut self, momentum: f64) -> Self {
        self.momentum = momentum;
        self
    }

    /// What direction the running gradient gives.
    pub fn kind(mut self, kind: Momentum) -> Self {
        self.kind = kind;
        self
    }

    /// `a`, `b`, `c` of a Newton-Schulz step `x -> a x + b (x x^T) x + c (x x^T)^2 x`.
    pub fn coefficients(mut self, coefficients: [f64; 3]) -> Self {
        self.coefficients = coefficients;
        self
    }

    /// The number of Newton-Schulz steps, below 100.
    pub fn newton_schulz_steps(mut self, steps: usize) -> Self {
        self.steps = steps;
        self
    }

    /// The smallest norm that a matrix is divided by.
    pub fn eps(mut self, eps: f64) -> Self {
        self.eps = eps;
        self
    }

    /// How the length of a step follows from a matrix's shape.
    pub fn scale(mut self, scale: MuonScale) -> Self {
        self.scale = scale;
        self
    }

    /// The dtype of the Newton-Schulz steps: `bf16`, as PyTorch has it, or `f32`.
    pub fn precision(mut self, precision: DType) -> Self {
        self.precision = precision;
        self
    }

    fn check(&self) -> Result<()> {
        let refuse = |name, why: String| Err(Error::option(OP, name, why));
        not_negative(OP, "lr", self.lr)?;
        not_negative(OP, "weight_decay", self.weight_decay)?;
        not_negative(OP, "eps", self.eps)?;
        probability(OP, "momentum", self.momentum)?;
        if self.coefficients.iter().any(|own| !own.is_finite()) {
            let why = format!("got {:?}, wanted finite numbers", self.coefficients);
            return refuse("coefficients", why);
        }
        if self.steps >= 100 {
            let why = format!("got {}, wanted fewer than 100", self.steps);
            return refuse("newton_schulz_steps", why);
        }
        if !matches!(self.precision, DType::BF16 | DType::F32) {
            let why = format!("got {}, wanted bf16 or f32", self.precision);
            return refuse("precision", why);
        }
        Ok(())
    }

    /// Something near `u v^T` of the singular value decomposition `u s v^T` of each matrix: singular values between about 0.5
    /// and 1.5 in place of whatever they were, by odd polynomials of the matrix.
    fn orthogonal(&self, x: &Tensor) -> Result<Tensor> {
        let [a, b, c] = self.coefficients;
        let [outputs, inputs] = matrix(x);
        let tall = outputs > inputs;
        let turned = |x: &Tensor| {
            if tall {
                x.transpose(-2, -1)
            } else {
                Ok(x.clone())
            }
        };
        let add = |own: &Tensor, factor: f64, x: &Tensor, y: &Tensor, alpha: f64| {
            let options = AddmmOptions::new().beta(factor).alpha(alpha);
            match own.rank() {
                2 => own.addmm(x, y, options),
                _ => own.baddbmm(x, y, options),
            }
        };
        let mut x = turned(&x.to_dtype(self.precision)?)?;
        let norm = x.norm(NormOptions::new().dim([-2, -1]).keepdim())?;
        x = x.div(&norm.clamp(ClampOptions::new().min(self.eps))?)?;
        for _ in 0..self.steps {
            let gram = x.matmul(&x.transpose(-2, -1)?)?;
            let mixed = add(&gram, b, &gram, &gram, c)?;
            x = add(&x, a, &mixed, &x, 1.0)?;
        }
        turned(&x)
    }

    /// Moves a matrix, or a stack of them, with the rate times a factor.
    fn step(
        &self,
        own: &mut Tensor,
        gradient: &Tensor,
        running: &mut Option<Tensor>,
        factor: f64,
    ) -> Result<()> {
        let before = match running {
            Some(before) => before.clone(),
            None => own.zeros_like()?,
        };
        let after = before.lerp(gradient, 1.0 - self.momentum)?;
        let direction = match self.kind {
            Momentum::Plain => after.clone(),
            Momentum::Nesterov => gradient.lerp(&after, self.momentum)?,
        };
        let direction = self.orthogonal(&direction)?.to_dtype(own.dtype())?;
        let rate = self.lr * factor;
        let length = rate * self.scale.factor(matrix(own).map(|size| size as f64));
        let change = direction.mul(-length)?;
        *running = Some(after);
        own.mul_(1.0 - rate * self.weight_decay)?;
        own.add_(&change)
    }
}

/// The sizes of a matrix, or of each one in a stack.
fn matrix(x: &Tensor) -> [usize; 2] {
    match x.dims() {
        [.., outputs, inputs] => [*outputs, *inputs],
        _ => [1, 1],
    }
}

/// Muon over groups of matrices. PyTorch: `torch.optim.Muon`.
///
/// `m = momentum m + (1 - momentum) g; d = orthogonal(g + momentum (m - g)); p = (1 - lr decay) p - lr scale d`, where
/// `orthogonal` brings all singular values near 1 by Newton-Schulz steps. A parameter of three dims is a stack of matrices, such
/// as the experts of a mixture. Meant for the matrices inside a network; embeddings, the last layer, norms and biases go to
/// [`Adam::w`](super::Adam::w), both together in a [`MultiOptimizer`](super::MultiOptimizer). Source: Jordan et al., "Muon: An
/// optimizer for hidden layers in neural networks" (2024); Liu et al., "Muon is scalable for LLM training" (2025).
///
/// Dtypes: floats; half parameters keep an `f32` copy that the steps go to. NPU: `aclnnAddmm`, `aclnnBaddbmm`.
///
/// ```
/// use ascend_tensor::nn::Parameter;
/// use ascend_tensor::optim::{Momentum, Muon, MuonOptions, Optimizer};
/// use ascend_tensor::{DType, Tensor};
/// # fn main() -> ascend_tensor::Result<()> {
/// let weight = Parameter::new(&Tensor::new([[0.0f32, 0.0], [0.0, 0.0]]))?;
/// let options = MuonOptions::new().lr(0.1).kind(Momentum::Plain).precision(DType::F32);
/// let mut muon = Muon::new(vec![("weight".into(), weight.clone())], options)?;
/// let loss = weight.tensor().mul(&Tensor::new([[100.0f32, 0.0], [0.0, 1.0]]))?.sum(())?;
/// muon.step(&loss.backward()?)?;
/// // Gradients of 100 and 1 move their weights about as far.
/// let moved = weight.tensor().to_vec::<f32>()?;
/// assert!(moved[0] < -0.05 && moved[3] < -0.05 && moved[0] / moved[3] < 2.5);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Muon {
    groups: Groups<MuonOptions, Running>,
}

impl Muon {
    /// Muon over one group.
    ///
    /// # Errors
    /// `Option` for negative numbers, momentum outside `[0, 1]`, 100 steps or more; [`Error::Entry`] that names a parameter
    /// that is neither a matrix nor a stack of matrices.
    pub fn new(parameters: Vec<(String, Parameter)>, options: MuonOptions) -> Result<Self> {
        let empty = Muon {
            groups: Groups::new(),
        };
        empty.group(parameters, options)
    }

    /// One more group with settings of its own.
    ///
    /// # Errors
    /// As [`Muon::new`].
    pub fn group(
        mut self,
        parameters: Vec<(String, Parameter)>,
        options: MuonOptions,
    ) -> Result<Self> {
        options.check()?;
        for (name, own) in &parameters {
            let own = own.tensor();
            if !matches!(own.rank(), 2 | 3) {
                let why = format!(
                    "got shape {}, wanted a matrix or a stack of them",
                    own.shape()
                );
                return Err(Error::entry(OP, name, why));
            }
        }
        self.groups.add(parameters, options);
        Ok(self)
    }
}

impl Optimizer for Muon {
    fn step(&mut self, gradients: &Gradients) -> Result<()> {
        let factor = self.groups.factor;
        self.groups
            .step(gradients, |options, own, gradient, running| {
                without_autocast(|| options.step(own, gradient, running, factor))
            })
    }

    fn set_factor(&mut self, factor: f64) {
        self.groups.factor = factor;
    }

    fn rates(&self) -> Vec<f64> {
        self.groups.rates(|options| options.lr)
    }

    fn parameters(&self) -> Vec<(String, Parameter)> {
        self.groups.parameters()
    }

    fn state_dict(&self) -> Result<StateDict> {
        Ok(self.groups.state_dict(entries))
    }

    fn load_state_dict(&mut self, state: &StateDict) -> Result<()> {
        self.groups.load_state_dict(state, take)
    }
}
