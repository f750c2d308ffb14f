//! `moe_token_permute`: tokens in the order of the experts that they go to.

use super::matrix;
use crate::cpu::alloc::workspace;
use crate::cpu::experts::{Sums, ranks};
use crate::cpu::gather::{Paths, gather};
use crate::ops::elementwise::unary::may_fuse;
use crate::ops::index::any_indices;
use crate::ops::index::index_dtype;
use crate::ops::prelude::*;
use crate::ops::sort::SortOptions;

/// What [`Tensor::moe_token_permute`] gives.
#[derive(Debug, Clone)]
pub struct Permuted {
    /// The tokens, once for each of their experts, in the order of the experts.
    pub tokens: Tensor,
    /// The row of each slot, `i32 [n k]`: choice `j` of token `i` is at row `places[i k + j]`.
    pub places: Tensor,
}

#[derive(Debug, Clone, Copy)]
struct MoePermute {
    /// How many rows are kept.
    limit: Option<usize>,
}

const NAME: &str = "moe_token_permute";

impl Tensor {
    /// The rows of tokens in the order of a stable sort of their experts: a token with `k` experts comes `k` times.
    ///
    /// `limit` keeps that many rows (all by default). Shapes: tokens `[n, h]`, experts `[n, k]` or `[n]` -> `[n k, h]` and
    /// `[n k]`. Dtypes: all, experts `i32` or `i64`. PyTorch: none (Megablocks' and `torch_npu`'s permute).
    /// NPU: `aclnnMoeTokenPermute`, `aclnnMoeTokenPermuteGrad`.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let tokens = Tensor::new([[1.0f32], [2.0]]);
    /// let permuted = tokens.moe_token_permute(&Tensor::new([[1i64, 0], [0, 2]]), None)?;
    /// assert_eq!(permuted.tokens.to_vec::<f32>()?, [1.0, 2.0, 1.0, 2.0]);
    /// assert_eq!(permuted.places.to_vec::<i32>()?, [2, 0, 1, 3]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Shape` if the tokens are no matrix or the experts do not fit, `DType` for experts that are no integers.
    pub fn moe_token_permute(
        &self,
        experts: &Tensor,
        limit: impl Into<Option<usize>>,
    ) -> Result<Permuted> {
        let limit = limit.into();
        let (tokens, places) =
            crate::ops::reduce::run_two(&MoePermute { limit }, &[self, experts])?;
        Ok(Permuted { tokens, places })
    }
}

/// Tokens, their length, and experts of each.
fn sizes(tokens: &Shape, experts: &Shape) -> Result<[usize; 3]> {
    let [count, width] = matrix(NAME, "tokens", tokens)?;
    match experts.dims() {
        [own] if *own == count => Ok([count, width, 1]),
        [own, k] if *own == count => Ok([count, width, *k]),
        _ => Err(Error::shape(
            NAME,
            format!("experts of {experts} for tokens of {tokens}"),
            format!("[{count}, k] or [{count}]"),
        )),
    }
}

impl MoePermute {
    fn kept(&self, slots: usize) -> usize {
        self.limit.unwrap_or(slots).min(slots)
    }
}

impl Op for MoePermute {
    fn name(&self) -> &'static str {
        NAME
    }

    fn infer(&self, x: &[Meta], plan: &mut Plan) -> Result<()> {
        index_dtype(NAME, &x[1])?;
        let [count, width, k] = sizes(&x[0].shape, &x[1].shape)?;
        plan.output([self.kept(count * k), width].into(), x[0].dtype);
        plan.output([count * k].into(), DType::I32);
        Ok(())
    }

    fn cpu(&self, x: &[Host<'_>], y: &mut [HostMut<'_>]) -> Result<Counts> {
        let [count, _, k] = sizes(x[0].shape(), x[1].shape())?;
        let places = ranks(NAME, &any_indices(NAME, &x[1])?)?;
        let kept = self.kept(count * k);
        let mut sources = workspace(NAME, 0, kept)?;
        for (slot, place) in places.iter().enumerate() {
            if let Some(source) = sources.get_mut(*place as usize) {
                *source = slot / k;
            }
        }
        if let [tokens, rows] = y {
            let paths = Paths::of(x[0].layout()).with_indices(NAME, 0, sources.into_iter())?;
            gather(&x[0], &paths, 0, tokens);
            if let Some(rows) = rows.as_mut_slice::<i32>() {
                rows.copy_from_slice(&places);
            }
        }
        Ok(Counts::EXACT)
    }

    fn ascend(&self, cx: &Launch, x: &[Dev<'_>], y: &[Dev<'_>]) -> Result<Counts> {
        let [_, _, k] = sizes(x[0].shape(), x[1].shape())?;
        if y[0].is_empty() || k > 512 {
            let why = "aclnnMoeTokenPermute keeps at least one row and takes at most 512 experts per token";
            let device = Device::Ascend(cx.device());
            return Err(Error::unsupported(NAME, device, x[0].dtype(), why));
        }
        // 0 stands for all rows.
        let kept = self.limit.map_or(0, |_| y[0].shape().size(0));
        aclnn::moe_token_permute(cx, &x[0], &x[1], kept as i64, false, &y[0], &y[1])?;
        Ok(Counts::EXACT)
    }

    fn compose(&self, x: &[Tensor]) -> Result<Outputs> {
        let [count, _, k] = sizes(x[0].shape(), x[1].shape())?;
        let flat = x[1].reshape([count * k])?;
        let order = flat.argsort(SortOptions::new().stable())?;
        let places = order.argsort(())?.to_dtype(DType::I32)?;
        let sources = order.narrow(0, 0, self.kept(count * k) as i64)?;
        let sources = sources.floor_divide(k.max(1) as i64)?;
        Ok(smallvec![x[0].index_select(0, &sources)?, places])
    }

    fn gradient(&self) -> Gradient {
        Gradient::Backward
    }

    fn saves(&self) -> Saves {
        Saves::NOTHING.and_output(1)
    }

    fn backward(&self, cx: &GradCx<'_>) -> Result<Grads> {
        let [_, _, k] = sizes(&cx.meta(0)?.shape, &cx.meta(1)?.shape)?;
        let Some(dy) = cx.gradient_of(0) else {
            return Ok(smallvec![None, None]);
        };
        let op = MoePermuteBackward { k };
        let places = cx.output(1)?;
        let dx = if may_fuse() {
            run_one(&op, &[dy, places])?
        } else {
            op.formula(dy, places)?
        };
        Ok(smallvec![Some(dx), None])
    }

    fn boxed(&self) -> Box<dyn Op> {
        Box::new(*self)
    }
}

/// Each token's gradient: the sum over its rows, of which those past the end were not kept.
#[derive(Debug, Clone, Copy)]
struct MoePermuteBackward {
    k: usize,
}

impl MoePermuteBackward {
    fn formula(&self, dy: &Tensor, places: &Tensor) -> Result<Tensor> {
        let [kept, width] = matrix(NAME, "a gradient", dy.shape())?;
        let slots = places.elements();
        let missing = [slots.saturating_sub(kept), width];
        let wide = dy.to_dtype(dy.dtype().compute())?;
        let rest = Tensor::zeros(missing, wide.dtype(), dy.device())?;
        let rows = Tensor::cat(&[&wide, &rest], 0)?.index_select(0, places)?;
        rows.reshape([slots / self.k.max(1), self.k, width])?
            .sum(1)?
            .to_dtype(dy.dtype())
    }
}

impl Op for MoePermuteBackward {
    fn name(&self) -> &'static str {
        "moe_token_permute_backward"
    }

    fn infer(&self, x: &[Meta], plan: &mut Plan) -> Result<()> {
        let tokens = x[1].shape.elements() / self.k.max(1);
        plan.output([tokens, x[0].shape.size(1)].into(), x[0].dtype);
        Ok(())
    }

    fn cpu(&self, x: &[Host<'_>], y: &mut [HostMut<'_>]) -> Result<Counts> {
        let rows = (y[0].shape().size(0), self.k.max(1));
        let places = any_indices(NAME, &x[1])?;
        with_lane!(x[0].dtype(), T => {
            // Rows that were not kept are past the end, and left out.
            let source = |place: &i64| usize::try_from(*place).unwrap_or(usize::MAX);
            let terms = places.iter().map(|place| (source(place), T::ONE));
            Sums::in_turn(NAME, rows, terms)?.run(&x[0], &mut y[0]);
        });
        Ok(Counts::EXACT)
    }

    fn ascend(&self, cx: &Launch, x: &[Dev<'_>], y: &[Dev<'_>]) -> Result<Counts> {
        aclnn::moe_token_permute_grad(cx, &x[0], &x[1], self.k as i64, false, &y[0])?;
        Ok(Counts::EXACT)
    }

    fn compose(&self, x: &[Tensor]) -> Result<Outputs> {
        Ok(smallvec![self.formula(&x[0], &x[1])?])
    }

    fn gradient(&self) -> Gradient {
        Gradient::Compose
    }

    fn boxed(&self) -> Box<dyn Op> {
        Box::new(*self)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: NAME,
    family: "moe",
    kernels: &["aclnnMoeTokenPermute", "aclnnMoeTokenPermuteGrad"],
    samples,
};

fn samples() -> Vec<Sample> {
    let sample = |limit, experts: &[usize], dtypes| Sample {
        op: Box::new(MoePermute { limit }),
        inputs: vec![
            SampleInput::new([5, 4], -2.0, 2.0),
            SampleInput::typed(experts, DType::I64, 0.0, 3.9),
        ],
        dtypes,
    };
    vec![
        sample(None, &[5, 2], NUMBERS),
        sample(Some(7), &[5, 2], FLOATS),
        sample(None, &[5], FLOATS),
    ]
}
