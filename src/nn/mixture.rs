//! Mixture of experts: many feed-forward blocks of which each token uses a few, and shared ones that all use.
//!
//! Knows how tokens are sorted by expert and put back. Must not know how experts are chosen.

use super::{Activation, Init, Module, Parameter, Place, Router, Routing, SwiGlu, Visitor};
use crate::check;
use crate::error::{Error, Result};
use crate::ops::moe::GroupList;
use crate::tensor::Tensor;

/// The sizes of [`Experts`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExpertsSize {
    /// The number of experts.
    pub experts: usize,
    /// The size of the last dim of input and output.
    pub width: usize,
    /// The size between an expert's matrices.
    pub hidden: usize,
}

/// Gated feed-forward blocks side by side. No token is dropped.
///
/// State: `gate_up` `[experts, width, 2 hidden]` (gate first), `down` `[experts, hidden, width]`.
#[derive(Debug, Clone)]
pub struct Experts {
    gate_up: Parameter,
    down: Parameter,
    activation: Activation,
    size: ExpertsSize,
}

impl Experts {
    /// Blocks with `silu` as their gate function.
    ///
    /// # Errors
    /// Memory and device errors.
    pub fn new(size: ExpertsSize, init: Init, place: &Place) -> Result<Self> {
        let ExpertsSize {
            experts,
            width,
            hidden,
        } = size;
        let named = [("experts", experts), ("width", width), ("hidden", hidden)];
        check::sizes("experts", &named)?;
        let fresh = |shape: [usize; 3]| Parameter::new(&init.tensor(shape, place)?);
        Ok(Experts {
            gate_up: fresh([experts, width, 2 * hidden])?,
            down: fresh([experts, hidden, width])?,
            activation: Activation::Silu,
            size,
        })
    }

    /// Another gate function.
    #[must_use]
    pub fn activation(mut self, activation: Activation) -> Self {
        self.activation = activation;
        self
    }

    /// The weighted sum of the results of each token's experts: `[n, width] -> [n, width]`.
    ///
    /// # Errors
    /// `Shape` for another width or a routing of other tokens.
    pub fn forward(&self, x: &Tensor, routing: &Routing) -> Result<Tensor> {
        let [tokens, top_k] = *routing.experts.dims() else {
            return Err(Error::shape(
                "experts",
                routing.experts.shape(),
                "[tokens, top_k]",
            ));
        };
        if tokens == 0 {
            return Ok(x.clone());
        }
        // Nothing is read back: the kernels take the counts from the device.
        let flat = routing.experts.reshape([tokens * top_k])?;
        let counts = flat.one_hot(self.size.experts)?.sum(0i64)?;
        let sorted = x.moe_token_permute(&routing.experts, None)?;
        let product = |x: &Tensor, weight: &Parameter| {
            x.grouped_matmul(&weight.tensor(), &counts, GroupList::Counts)
        };
        let hidden = self.gate(&product(&sorted.tokens, &self.gate_up)?)?;
        let results = product(&hidden, &self.down)?;
        let weights = routing.weights.to_dtype(results.dtype())?;
        results.moe_token_unpermute(&sorted.places, Some(&weights))
    }

    fn gate(&self, both: &Tensor) -> Result<Tensor> {
        if self.activation == Activation::Silu {
            return both.swiglu(-1);
        }
        let hidden = self.size.hidden as i64;
        let gate = self.activation.apply(&both.narrow(-1, 0, hidden)?)?;
        gate.mul(&both.narrow(-1, hidden, hidden)?)
    }
}

impl Module for Experts {
    fn visit(&self, visitor: &mut Visitor<'_>) {
        visitor.parameter("gate_up", &self.gate_up);
        visitor.parameter("down", &self.down);
    }
}

/// A router, its experts and, where there are, the shared expert that sees every token. DeepSeek-V2 and V3.
///
/// State: `gate`, `experts`, `shared_experts`.
///
/// ```
/// use ascend_tensor::nn::{Experts, ExpertsSize, Init, Mixture, Place, Router, RouterOptions};
/// use ascend_tensor::Tensor;
/// # fn main() -> ascend_tensor::Result<()> {
/// let place = Place::default();
/// let mut options = RouterOptions::new(2);
/// (options.experts, options.top_k) = (2, 1);
/// let size = ExpertsSize { experts: 2, width: 2, hidden: 3 };
/// let mixture = Mixture::new(Router::new(options, &place)?, Experts::new(size, Init::Ones, &place)?, None);
/// // Whichever expert a token goes to: 3 silu(2) 2 = 10.5696.
/// let y = mixture.forward(&Tensor::new([[1.0f32, 1.0], [0.0, 2.0]]))?.to_vec::<f32>()?;
/// assert!(y.iter().all(|y| (y - 10.5696).abs() < 1e-3));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Mixture {
    router: Router,
    experts: Experts,
    shared: Option<SwiGlu>,
}

impl Mixture {
    /// A mixture of its parts.
    pub fn new(router: Router, experts: Experts, shared: Option<SwiGlu>) -> Self {
        Mixture {
            router,
            experts,
            shared,
        }
    }

    /// The router.
    pub fn router(&self) -> &Router {
        &self.router
    }

    /// `[.., width] -> [.., width]`.
    ///
    /// # Errors
    /// `Shape` for another width.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        Ok(self.forward_routed(x)?.0)
    }

    /// As [`Mixture::forward`], with the routing, for balancing and the auxiliary loss.
    ///
    /// # Errors
    /// As [`Mixture::forward`].
    pub fn forward_routed(&self, x: &Tensor) -> Result<(Tensor, Routing)> {
        let width = x.dims().last().copied().unwrap_or(0);
        let rows = x.elements() / width.max(1);
        let flat = x.reshape([rows, width])?;
        let routing = self.router.forward(&flat)?;
        let mut result = self.experts.forward(&flat, &routing)?.reshape(*x.shape())?;
        if let Some(shared) = &self.shared {
            result = result.add(&shared.forward(x)?)?;
        }
        Ok((result, routing))
    }
}

impl Module for Mixture {
    fn visit(&self, visitor: &mut Visitor<'_>) {
        visitor.module("gate", &self.router);
        visitor.module("experts", &self.experts);
        if let Some(shared) = &self.shared {
            visitor.module("shared_experts", shared);
        }
    }
}
