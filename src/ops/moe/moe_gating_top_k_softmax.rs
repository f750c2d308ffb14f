//! `moe_gating_top_k_softmax`: the experts that each token goes to, and their weights.

use super::matrix;
use crate::ops::prelude::*;
use crate::ops::reduce::ReduceOptions;
use crate::ops::sort::TopkOptions;
use crate::ops::view::SliceOptions;

/// Settings of [`Tensor::moe_gating_top_k_softmax`]. Made from the number of experts per token, or built up.
#[derive(Debug, Clone, Copy)]
#[must_use]
pub struct GatingOptions<'a> {
    k: i64,
    renormalize: bool,
    finished: Option<&'a Tensor>,
}

impl<'a> GatingOptions<'a> {
    /// This many experts for each token; their weights are parts of the softmax over all.
    pub fn new(k: i64) -> Self {
        GatingOptions {
            k,
            renormalize: false,
            finished: None,
        }
    }

    /// The weights of a token's experts sum to 1.
    pub fn renormalize(mut self) -> Self {
        self.renormalize = true;
        self
    }

    /// Bools `[n]`: tokens that go to no expert; they get the expert's number `e`, which is none.
    pub fn finished(mut self, finished: &'a Tensor) -> Self {
        self.finished = Some(finished);
        self
    }
}

impl From<i64> for GatingOptions<'_> {
    fn from(k: i64) -> Self {
        GatingOptions::new(k)
    }
}

/// What [`Tensor::moe_gating_top_k_softmax`] gives, all `[n, k]`.
#[derive(Debug, Clone)]
pub struct Gating {
    /// The weights of each token's experts, in descending order.
    pub weights: Tensor,
    /// The experts, `i32`.
    pub experts: Tensor,
    /// The slot of each choice when slots are counted choice by choice, `i32`: choice `j` of token `i` has `j n + i`.
    pub rows: Tensor,
}

#[derive(Debug, Clone, Copy)]
struct MoeGating {
    k: i64,
    renormalize: bool,
}

const NAME: &str = "moe_gating_top_k_softmax";

impl Tensor {
    /// The `k` largest of `softmax(x)` over the experts, for each token, computed in f32.
    ///
    /// Shapes: `[n, e]` -> three of `[n, k]`. Dtypes: floats. PyTorch: none (Shazeer et al. 2017; `softmax` and `topk`).
    /// NPU: `aclnnMoeGatingTopKSoftmax`, `aclnnMoeGatingTopKSoftmaxV2`.
    ///
    /// ```
    /// use ascend_tensor::{Tensor, ops::moe::GatingOptions};
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([[0.0f64, 2.0f64.ln(), 5.0f64.ln()]]);
    /// let gating = x.moe_gating_top_k_softmax(2)?;
    /// assert_eq!(gating.experts.to_vec::<i32>()?, [2, 1]);
    /// assert_eq!(gating.rows.to_vec::<i32>()?, [0, 1]);
    /// assert!((gating.weights.to_vec::<f64>()?[0] - 0.625).abs() < 1e-6);
    /// let whole = x.moe_gating_top_k_softmax(GatingOptions::new(2).renormalize())?;
    /// assert!((whole.weights.to_vec::<f64>()?[0] - 5.0 / 7.0).abs() < 1e-6);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Shape` if this is no matrix or `finished` does not fit, `Option` for `k` outside 1 to the number of experts, `DType` for
    /// integers and bools.
    pub fn moe_gating_top_k_softmax<'a>(
        &self,
        options: impl Into<GatingOptions<'a>>,
    ) -> Result<Gating> {
        let GatingOptions {
            k,
            renormalize,
            finished,
        } = options.into();
        let op = MoeGating { k, renormalize };
        let outputs = match finished {
            Some(finished) => run(&op, &[self, finished])?,
            None => run(&op, &[self])?,
        };
        match <[Tensor; 3]>::try_from(outputs.into_vec()) {
            Ok([weights, experts, rows]) => Ok(Gating {
                weights,
                experts,
                rows,
            }),
            Err(_) => Err(Error::NoGradient { op: NAME }),
        }
    }
}

/// The slots `j n + i` as `[n, k]`.
fn slots(tokens: usize, k: usize, device: Device) -> Result<Tensor> {
    let all = Tensor::arange(0..(tokens * k) as i64, device)?;
    all.reshape([k, tokens])?
        .transpose(0, 1)?
        .to_dtype(DType::I32)?
        .contiguous()
}

/// The softmax over the experts in f32. Doubles see its single steps: each term, their sum by pairs and each quotient
/// rounded to f32.
fn softmax(x: &Tensor) -> Result<Tensor> {
    let single = x.to_dtype(DType::F32)?;
    if x.dtype() != DType::F64 {
        return single.softmax(-1);
    }
    let largest = single
        .detach()
        .amax(ReduceOptions::new().dim(-1).keepdim())?;
    let exact = single.sub(&largest)?.to_dtype(DType::F64)?.exp()?;
    let terms = exact.to_dtype(DType::F32)?;
    let mut sum = terms.clone();
    while sum.shape().size(1) > 1 {
        let count = sum.shape().size(1) as i64;
        let every = |first| {
            sum.slice(
                -1,
                SliceOptions::new().start(first).end(count / 2 * 2).step(2),
            )
        };
        let pairs = every(0)?.add(&every(1)?)?;
        sum = if count % 2 == 0 {
            pairs
        } else {
            Tensor::cat(&[&pairs, &sum.narrow(-1, count - 1, 1)?], -1)?
        };
    }
    terms.div(&sum)
}

impl Op for MoeGating {
    fn name(&self) -> &'static str {
        NAME
    }

    fn infer(&self, x: &[Meta], plan: &mut Plan) -> Result<()> {
        let [tokens, experts] = matrix(NAME, "an input", &x[0].shape)?;
        crate::ops::norm::float_only(NAME, x[0].dtype)?;
        let k = usize::try_from(self.k)
            .ok()
            .filter(|k| (1..=experts).contains(k))
            .ok_or_else(|| {
                let why = format!("got {}, wanted 1 to {experts}", self.k);
                Error::option(NAME, "k", why)
            })?;
        if let Some(finished) = x.get(1) {
            if finished.dtype != DType::Bool {
                return Err(Error::dtype(NAME, finished.dtype, "bool for finished"));
            }
            if finished.shape != Shape::from([tokens]) {
                return Err(Error::shape(
                    NAME,
                    format!("finished of {}", finished.shape),
                    format!("[{tokens}]"),
                ));
            }
        }
        plan.output([tokens, k].into(), x[0].dtype);
        plan.output([tokens, k].into(), DType::I32);
        plan.output([tokens, k].into(), DType::I32);
        Ok(())
    }

    fn ascend(&self, cx: &Launch, x: &[Dev<'_>], y: &[Dev<'_>]) -> Result<Counts> {
        let finished = x.get(1);
        if !self.renormalize {
            aclnn::moe_gating_top_k_softmax(cx, &x[0], finished, self.k, &y[0], &y[1], &y[2])?;
            return Ok(Counts::EXACT);
        }
        aclnn::moe_gating_top_k_softmax_v2(
            cx, &x[0], finished, self.k, 1, false, &y[0], &y[1], None,
        )?;
        let count = y[2].elements();
        let number = |value: usize| AclScalar::of(value as i64, DType::I32);
        let all = cx.temporary([count], DType::I32)?;
        aclnn::arange(cx, number(0), number(count), number(1), &all.dev())?;
        let [tokens, k] = matrix(NAME, "an output", y[2].shape())?;
        let turned = Layout::contiguous([k, tokens]).transpose(0, 1);
        aclnn::inplace_copy(cx, &y[2], &all.dev().with_layout(turned))?;
        Ok(Counts::EXACT)
    }

    fn compose(&self, x: &[Tensor]) -> Result<Outputs> {
        let [tokens, experts] = matrix(NAME, "an input", x[0].shape())?;
        let parts = softmax(&x[0])?;
        let (mut weights, indices) = parts.topk(self.k as usize, TopkOptions::new().dim(-1))?;
        if self.renormalize {
            weights = weights.div(&weights.sum(ReduceOptions::new().dim(-1).keepdim())?)?;
        }
        let indices = match x.get(1) {
            Some(finished) => finished
                .unsqueeze(-1)?
                .where_cond(experts as i64, &indices)?,
            None => indices,
        };
        Ok(smallvec![
            weights.to_dtype(x[0].dtype())?,
            indices.to_dtype(DType::I32)?,
            slots(tokens, self.k as usize, x[0].device())?,
        ])
    }

    fn is_composed(&self, _x: &[Meta], device: Device) -> bool {
        device.is_cpu()
    }

    fn gradient(&self) -> Gradient {
        Gradient::Compose
    }

    fn cast(&self) -> CastRule {
        CastRule::Full
    }

    fn boxed(&self) -> Box<dyn Op> {
        Box::new(*self)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: NAME,
    family: "moe",
    kernels: &["aclnnMoeGatingTopKSoftmax", "aclnnMoeGatingTopKSoftmaxV2"],
    samples,
};

fn samples() -> Vec<Sample> {
    let sample = |k, renormalize, finished: bool| {
        let mut inputs = vec![SampleInput::new([5, 4], -2.0, 2.0)];
        inputs.resize(
            1 + usize::from(finished),
            SampleInput::typed([5], DType::Bool, 0.0, 1.99),
        );
        Sample {
            op: Box::new(MoeGating { k, renormalize }),
            inputs,
            dtypes: &[DType::F32, DType::F16, DType::BF16],
        }
    };
    vec![
        sample(2, false, false),
        sample(1, false, true),
        sample(3, true, false),
    ]
}
