//! The router of a mixture of experts: which experts a token goes to, with what weights.
//!
//! Knows scores, groups, the bias that balances, and the auxiliary loss. Must not know experts.

use super::{Init, Module, Parameter, Place, Visitor};
use crate::check;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::ops::reduce::ReduceOptions;
use crate::tensor::Tensor;

/// How an expert's score is made of its logit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Scoring {
    /// Softmax over all experts (DeepSeek-V2, Mixtral).
    Softmax,
    /// The logistic function of each (DeepSeek-V3).
    #[default]
    Sigmoid,
}

/// How the score of a group of experts is made of theirs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum GroupScore {
    /// The sum of the two largest (DeepSeek-V3).
    #[default]
    TopTwo,
    /// The largest (DeepSeek-V2).
    Largest,
}

/// The rules of a [`Router`].
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct RouterOptions {
    /// The width of a token.
    pub hidden_size: usize,
    /// The number of experts.
    pub experts: usize,
    /// The number of experts of a token.
    pub top_k: usize,
    /// How scores are made.
    pub scoring: Scoring,
    /// The number of groups of experts, which divides that of experts.
    pub groups: usize,
    /// The number of groups that a token's experts may come from.
    pub top_groups: usize,
    /// How groups are ranked.
    pub group_score: GroupScore,
    /// Whether a token's weights are divided by their sum.
    pub normalize: bool,
    /// What the weights are multiplied with at the end.
    pub scale: f64,
    /// The starting values of the weight.
    pub init: Init,
}

impl RouterOptions {
    /// Eight experts of which two, sigmoid scores, one group, weights that sum to 1.
    pub fn new(hidden_size: usize) -> Self {
        RouterOptions {
            hidden_size,
            experts: 8,
            top_k: 2,
            scoring: Scoring::Sigmoid,
            groups: 1,
            top_groups: 1,
            group_score: GroupScore::TopTwo,
            normalize: true,
            scale: 1.0,
            init: Init::Normal { deviation: 0.02 },
        }
    }

    fn check(&self) -> Result<()> {
        check::sizes(
            "router",
            &[("hidden_size", self.hidden_size), ("experts", self.experts)],
        )?;
        check::finite("router", "scale", self.scale)?;
        let refuse = |name, got: usize, wanted: String| {
            let why = format!("got {got}, wanted {wanted}");
            Err(Error::option("router", name, why))
        };
        let own = self.experts;
        if self.groups == 0 || !own.is_multiple_of(self.groups) {
            return refuse("groups", self.groups, format!("a divisor of {own} experts"));
        }
        if self.top_groups == 0 || self.top_groups > self.groups {
            let wanted = format!("one of 1 to {}", self.groups);
            return refuse("top_groups", self.top_groups, wanted);
        }
        let open = own / self.groups * self.top_groups;
        if self.top_k == 0 || self.top_k > open {
            return refuse("top_k", self.top_k, format!("one of 1 to {open}"));
        }
        if self.groups > 1 && self.group_score == GroupScore::TopTwo && own / self.groups < 2 {
            return refuse("groups", self.groups, "two experts or more in each".into());
        }
        Ok(())
    }
}

/// What a [`Router`] decides for `n` tokens.
#[derive(Debug, Clone)]
pub struct Routing {
    /// The weights of each token's experts, `[n, k]`, `f32`.
    pub weights: Tensor,
    /// The experts of each token, `[n, k]`, `i64`.
    pub experts: Tensor,
    /// The scores of all experts, `[n, experts]`, `f32`, without the balancing bias.
    pub scores: Tensor,
}

impl Routing {
    /// The same routing without history.
    #[must_use]
    pub fn detach(&self) -> Routing {
        Routing {
            weights: self.weights.detach(),
            experts: self.experts.clone(),
            scores: self.scores.detach(),
        }
    }

    /// The loss of DeepSeek-V3 that evens out the experts' loads within each sequence: `sum_i f_i P_i`, where `f_i` is expert
    /// `i`'s share of the tokens times the number of experts over `k`, and `P_i` the mean of its normalised scores.
    ///
    /// It is 1 when all loads are equal. Add it to the loss times a small factor (1e-4 in the report).
    ///
    /// # Errors
    /// `Shape` if the tokens are not those of so many sequences of one length.
    pub fn auxiliary_loss(&self, sequences: usize) -> Result<Tensor> {
        let (tokens, experts) = (self.scores.dims()[0], self.scores.dims()[1]);
        let top_k = self.experts.dims()[1];
        if sequences == 0 || !tokens.is_multiple_of(sequences) {
            let want = format!("tokens of {sequences} sequences of one length");
            return Err(Error::shape("auxiliary_loss", self.scores.shape(), want));
        }
        let length = tokens / sequences;
        let over = |dim: i64| ReduceOptions::new().dim(dim);
        let chosen = self.experts.one_hot(experts)?.sum(over(1))?;
        let chosen = chosen
            .to_dtype(DType::F32)?
            .reshape([sequences, length, experts])?;
        let share = chosen.mean(over(1))?.mul(experts as f64 / top_k as f64)?;
        let total = self.scores.sum(over(1).keepdim())?;
        let scores = self
            .scores
            .div(&total)?
            .reshape([sequences, length, experts])?;
        share.mul(&scores.mean(over(1))?)?.sum(over(1))?.mean(())
    }

    /// How many tokens each expert gets, `[experts]`, `f32`.
    ///
    /// # Errors
    /// Memory and device errors.
    pub fn loads(&self) -> Result<Tensor> {
        let experts = self.scores.dims()[1];
        let chosen = self.experts.one_hot(experts)?.to_dtype(DType::F32)?;
        chosen.sum(ReduceOptions::new().dim([0, 1]))
    }
}

/// The router of DeepSeek-V2 and V3.
///
/// State: `weight` `[experts, hidden]` and the buffer `e_score_correction_bias` `[experts]`, which takes part in the choice of
/// experts but not in their weights.
///
/// ```
/// use ascend_tensor::nn::{Place, Router, RouterOptions};
/// use ascend_tensor::Tensor;
/// # fn main() -> ascend_tensor::Result<()> {
/// let mut options = RouterOptions::new(4);
/// (options.experts, options.top_k) = (3, 2);
/// let router = Router::new(options, &Place::default())?;
/// let routing = router.forward(&Tensor::new([[1.0f32, 0.0, -1.0, 2.0]]))?;
/// assert_eq!((routing.experts.dims(), routing.scores.dims()), (&[1, 2][..], &[1, 3][..]));
/// let weights = routing.weights.to_vec::<f32>()?;
/// assert!((weights[0] + weights[1] - 1.0).abs() < 1e-6);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Router {
    options: RouterOptions,
    weight: Parameter,
    bias: Parameter,
}

impl Router {
    /// A router by its rules. It computes in `f32` whatever the tokens' dtype.
    ///
    /// # Errors
    /// `Option` for numbers that do not fit each other; memory and device errors.
    pub fn new(options: RouterOptions, place: &Place) -> Result<Self> {
        options.check()?;
        let (experts, hidden) = (options.experts, options.hidden_size);
        let place = place.clone().dtype(DType::F32);
        Ok(Router {
            options,
            weight: Parameter::new(&options.init.tensor([experts, hidden], &place)?)?,
            bias: Parameter::buffer(&Init::Zeros.tensor([experts], &place)?),
        })
    }

    /// The rules.
    pub fn options(&self) -> &RouterOptions {
        &self.options
    }

    /// The experts of tokens `[n, hidden]`.
    ///
    /// # Errors
    /// `Shape` for another width.
    pub fn forward(&self, x: &Tensor) -> Result<Routing> {
        let options = &self.options;
        let logits = self.logits(x)?;
        let scores = match options.scoring {
            Scoring::Softmax => logits.softmax(-1)?,
            Scoring::Sigmoid => logits.sigmoid()?,
        };
        let choice = scores
            .detach()
            .add(&self.bias.tensor().to_dtype(DType::F32)?)?;
        let choice = self.open_groups(&choice)?;
        let (_, experts) = choice.topk(options.top_k, ())?;
        let mut weights = scores.gather(1, &experts)?;
        if options.normalize {
            let total = weights.sum(ReduceOptions::new().dim(-1).keepdim())?;
            weights = weights.div(&total.add(1e-20)?)?;
        }
        if options.scale != 1.0 {
            weights = weights.mul(options.scale)?;
        }
        Ok(Routing {
            weights,
            experts,
            scores,
        })
    }

    /// In `f32` under autocast too: a wrong choice of an expert is not a rounding error.
    fn logits(&self, x: &Tensor) -> Result<Tensor> {
        let weight = self.weight.tensor().to_dtype(DType::F32)?;
        let x = x.to_dtype(DType::F32)?;
        crate::mode::without_autocast(|| x.linear(&weight, None))
    }

    /// The scores with minus infinity in all groups but the best.
    fn open_groups(&self, choice: &Tensor) -> Result<Tensor> {
        let RouterOptions {
            groups, top_groups, ..
        } = self.options;
        if top_groups == groups {
            return Ok(choice.clone());
        }
        let (tokens, experts) = (choice.dims()[0], choice.dims()[1]);
        let grouped = choice.reshape([tokens, groups, experts / groups])?;
        let ranks = match self.options.group_score {
            GroupScore::Largest => grouped.amax(ReduceOptions::new().dim(-1))?,
            GroupScore::TopTwo => grouped.topk(2, ())?.0.sum(ReduceOptions::new().dim(-1))?,
        };
        let (_, best) = ranks.topk(top_groups, ())?;
        let open = best.one_hot(groups)?.amax(ReduceOptions::new().dim(1))?;
        let shut = open.eq(0)?.unsqueeze(-1)?;
        grouped
            .masked_fill(&shut, f64::NEG_INFINITY)?
            .reshape([tokens, experts])
    }

    /// Moves the balancing bias by `speed` toward equal loads: up for experts with fewer tokens than the mean, down for those
    /// with more. DeepSeek-V3 does so after each step instead of an auxiliary loss.
    ///
    /// # Errors
    /// `Shape` for loads of another number of experts.
    pub fn balance(&self, loads: &Tensor, speed: f64) -> Result<()> {
        let loads = loads.to_dtype(DType::F32)?;
        let step = loads.mean(())?.sub(&loads)?.sign()?.mul(speed)?;
        self.bias.update(|bias| {
            let step = step.to_dtype(bias.dtype())?;
            bias.add_(&step)
        })
    }
}

impl Module for Router {
    fn visit(&self, visitor: &mut Visitor<'_>) {
        visitor.parameter("weight", &self.weight);
        visitor.parameter("e_score_correction_bias", &self.bias);
    }
}
