//! `scaled_dot_product_attention`: values weighted by a softmax over scaled products of queries and keys.

use super::flash;
use super::frame::{Frame, NAME};
use super::scaled_dot_product_attention_backward::AttentionBackward;
use crate::cpu::attention::{Kept, Mask, Problem, forward};
use crate::ops::elementwise::unary::may_fuse;
use crate::ops::prelude::*;
use crate::ops::reduce::ReduceOptions;

/// Settings of [`Tensor::scaled_dot_product_attention`]. Made from `()` or built up.
#[derive(Debug, Clone, Copy, Default)]
#[must_use]
pub struct AttentionOptions<'a> {
    mask: Option<&'a Tensor>,
    causal: bool,
    scale: Option<f64>,
    grouped: bool,
}

impl<'a> AttentionOptions<'a> {
    /// No mask, a scale of `1 / sqrt(e)`, a key head for each query head.
    pub fn new() -> Self {
        AttentionOptions::default()
    }

    /// A mask that broadcasts to `[.., l, s]`: of bools, true where a key is seen; or of the queries' dtype, added to scores.
    pub fn mask(mut self, mask: &'a Tensor) -> Self {
        self.mask = Some(mask);
        self
    }

    /// Position `i` sees the keys up to `i`, counted from the upper left corner.
    pub fn causal(mut self) -> Self {
        self.causal = true;
        self
    }

    /// What products are multiplied with before the softmax.
    pub fn scale(mut self, scale: f64) -> Self {
        self.scale = Some(scale);
        self
    }

    /// Query heads (dim -3) may be a multiple of the key heads: each key head serves as many query heads in a row.
    pub fn grouped(mut self) -> Self {
        self.grouped = true;
        self
    }
}

impl From<()> for AttentionOptions<'_> {
    fn from((): ()) -> Self {
        AttentionOptions::new()
    }
}

/// Attention with its options; a mask is the fourth input.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attention {
    pub causal: bool,
    pub scale: Option<f64>,
    pub grouped: bool,
    pub masked: bool,
}

impl Tensor {
    /// `softmax(q k^T scale + mask) v` over the last two dims: each row of this tensor, the queries, gets the values weighted by
    /// how well their keys fit. A row that sees no key is 0. Scores are never held as a whole; halves compute in f32.
    ///
    /// Shapes: queries `[.., l, e]`, keys `[.., s, e]`, values `[.., s, v]` -> `[.., l, v]`; the dims before broadcast.
    /// Dtypes: floats, equal ones. PyTorch: `torch.nn.functional.scaled_dot_product_attention` (there is no dropout).
    /// NPU: `aclnnFlashAttentionScore`, `aclnnFlashAttentionScoreGrad`, with a float mask their second forms; more than 768
    /// columns, values wider than keys, or a float mask that wants a gradient: matrix products and a softmax.
    ///
    /// ```
    /// use ascend_tensor::{Tensor, ops::attention::AttentionOptions};
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let q = Tensor::new([[0.0f32], [0.0]]);
    /// let v = Tensor::new([[1.0f32], [3.0]]);
    /// let even = q.scaled_dot_product_attention(&q, &v, ())?;
    /// assert_eq!(even.to_vec::<f32>()?, [2.0, 2.0]);
    /// let causal = q.scaled_dot_product_attention(&q, &v, AttentionOptions::new().causal())?;
    /// assert_eq!(causal.to_vec::<f32>()?, [1.0, 2.0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Shape` or `Broadcast` for sizes that do not fit, heads that do not divide, a mask that does not broadcast; `DType` for
    /// unequal or other dtypes; `Option` for a mask beside `causal`.
    pub fn scaled_dot_product_attention<'a>(
        &self,
        key: &Tensor,
        value: &Tensor,
        options: impl Into<AttentionOptions<'a>>,
    ) -> Result<Tensor> {
        let AttentionOptions {
            mask,
            causal,
            scale,
            grouped,
        } = options.into();
        let op = Attention {
            causal,
            scale,
            grouped,
            masked: mask.is_some(),
        };
        match mask {
            Some(mask) => run_one(&op, &[self, key, value, mask]),
            None => run_one(&op, &[self, key, value]),
        }
    }
}

impl Attention {
    pub fn frame(&self, query: &Shape, key: &Shape, value: &Shape) -> Result<Frame> {
        Frame::of(query, key, value, self.grouped)
    }

    /// The factor of products.
    pub fn factor(&self, frame: &Frame) -> f64 {
        self.scale
            .unwrap_or_else(|| 1.0 / (frame.width.max(1) as f64).sqrt())
    }

    /// The host kernel's problem.
    pub fn problem<'a>(&self, x: &'a [Host<'a>]) -> Result<(Problem<'a>, Frame)> {
        let frame = self.frame(x[0].shape(), x[1].shape(), x[2].shape())?;
        let mask = match x.get(3).filter(|_| self.masked) {
            _ if self.causal => Mask::Causal,
            None => Mask::None,
            Some(mask) if mask.dtype() == DType::Bool => {
                Mask::Seen(frame.own(mask, frame.rows, frame.keys)?)
            }
            Some(mask) => Mask::Added(frame.own(mask, frame.rows, frame.keys)?),
        };
        let problem = Problem {
            op: NAME,
            query: frame.own(&x[0], frame.rows, frame.width)?,
            key: frame.shared(&x[1], frame.width)?,
            value: frame.shared(&x[2], frame.value_width)?,
            mask,
            sizes: frame.sizes(),
            scale: self.factor(&frame),
        };
        Ok((problem, frame))
    }

    /// The weights of all keys as one tensor; halves in f32.
    pub fn weights(&self, frame: &Frame, x: &[Tensor]) -> Result<Tensor> {
        let wide = |x: &Tensor| x.to_dtype(x.dtype().compute());
        let keys = spread(&wide(&x[1])?, frame.group)?;
        let query = wide(&x[0])?.mul(self.factor(frame))?;
        let scores = query.matmul(&keys.transpose(-2, -1)?)?;
        let hidden = f64::NEG_INFINITY;
        let scores = match x.get(3).filter(|_| self.masked) {
            None if !self.causal => return scores.softmax(-1),
            None => {
                let seen = Tensor::ones([frame.rows, frame.keys], DType::Bool, scores.device())?;
                return seen.tril(0)?.where_cond(&scores, hidden)?.softmax(-1);
            }
            Some(mask) if mask.dtype() == DType::Bool => mask.where_cond(&scores, hidden)?,
            Some(mask) => scores.add(&wide(mask)?)?,
        };
        if scores.elements() == 0 {
            return Ok(scores);
        }
        // A row that sees nothing would be NaN: it goes through the softmax as zeros and has no weights.
        let highest = scores
            .detach()
            .amax(ReduceOptions::new().dim(-1).keepdim())?;
        let blind = highest.eq(hidden)?;
        let safe = blind.where_cond(0.0, &scores)?;
        blind.where_cond(0.0, &safe.softmax(-1)?)
    }
}

/// Heads (dim -3) repeated for each query head that they serve.
pub(super) fn spread(x: &Tensor, group: usize) -> Result<Tensor> {
    if group <= 1 {
        return Ok(x.clone());
    }
    x.repeat_interleave(group as i64, -3)
}

impl Op for Attention {
    fn name(&self) -> &'static str {
        NAME
    }

    fn infer(&self, x: &[Meta], plan: &mut Plan) -> Result<()> {
        let dtype = x[0].dtype;
        if !dtype.is_float() || x[1].dtype != dtype || x[2].dtype != dtype {
            return Err(Error::dtype(
                NAME,
                format!("{dtype}, {} and {}", x[1].dtype, x[2].dtype),
                "equal float dtypes",
            ));
        }
        let frame = self.frame(&x[0].shape, &x[1].shape, &x[2].shape)?;
        if let Some(mask) = x.get(3).filter(|_| self.masked) {
            if self.causal {
                return Err(Error::option(
                    NAME,
                    "mask",
                    "got a mask and causal, wanted one of them",
                ));
            }
            if mask.dtype != DType::Bool && mask.dtype != dtype {
                return Err(Error::dtype(
                    NAME,
                    format!("a mask of {}", mask.dtype),
                    format!("bool or {dtype}"),
                ));
            }
            let scores = frame.shape(frame.rows, frame.keys);
            if Layout::contiguous(mask.shape)
                .expand(NAME, &scores)
                .is_err()
            {
                return Err(Error::shape(
                    NAME,
                    format!("a mask of {}", mask.shape),
                    format!("one that broadcasts to {scores}"),
                ));
            }
        }
        plan.output(frame.result(), dtype);
        if plan.is_on_ascend() {
            let statistics = flash::statistics(&frame);
            plan.auxiliary(statistics, DType::F32);
            plan.auxiliary(statistics, DType::F32);
        } else if plan.is_taped() {
            plan.auxiliary(frame.shape(frame.rows, 1), dtype.compute());
            if dtype.is_half() {
                plan.auxiliary(frame.result(), dtype.compute());
            }
        }
        Ok(())
    }

    fn cpu(&self, x: &[Host<'_>], y: &mut [HostMut<'_>]) -> Result<Counts> {
        if y.iter().all(|y| y.elements() == 0) {
            return Ok(Counts::EXACT);
        }
        let (problem, _) = self.problem(x)?;
        if let [y, rest @ ..] = y {
            let kept = match rest {
                [logs, exact @ ..] => Some(Kept {
                    logs,
                    exact: exact.first_mut(),
                }),
                [] => None,
            };
            with_float!(x[0].dtype(), T => forward::<T>(&problem, y, kept)?);
        }
        Ok(Counts::EXACT)
    }

    fn ascend(&self, cx: &Launch, x: &[Dev<'_>], y: &[Dev<'_>]) -> Result<Counts> {
        let frame = self.frame(x[0].shape(), x[1].shape(), x[2].shape())?;
        flash::forward(self, &frame, cx, x, y)?;
        Ok(Counts::EXACT)
    }

    fn compose(&self, x: &[Tensor]) -> Result<Outputs> {
        let frame = self.frame(x[0].shape(), x[1].shape(), x[2].shape())?;
        let values = spread(&x[2].to_dtype(x[2].dtype().compute())?, frame.group)?;
        let y = self.weights(&frame, x)?.matmul(&values)?;
        Ok(smallvec![y.to_dtype(x[0].dtype())?])
    }

    fn gradient(&self) -> Gradient {
        Gradient::Backward
    }

    fn saves(&self) -> Saves {
        Saves::INPUTS.and_output(0).and_output(1).and_output(2)
    }

    fn backward(&self, cx: &GradCx<'_>) -> Result<Grads> {
        let op = AttentionBackward(*self);
        let mut inputs = vec![cx.input(0)?, cx.input(1)?, cx.input(2)?];
        if self.masked {
            inputs.push(cx.input(3)?);
        }
        inputs.push(cx.gradient()?);
        let rounded = cx.device().is_ascend() || !cx.meta(0)?.dtype.is_half();
        inputs.push(cx.output(if rounded { 0 } else { 2 })?);
        if may_fuse() && !cx.needs(3) {
            inputs.push(cx.output(1)?);
            if cx.device().is_ascend() {
                inputs.push(cx.output(2)?);
            }
            let made = run(&op, &inputs)?.into_iter().map(Some);
            return Ok(made.chain(self.masked.then_some(None)).collect());
        }
        let inputs: Vec<Tensor> = inputs.into_iter().cloned().collect();
        let made = op.formula(&inputs, self.masked && cx.needs(3))?;
        let made = made.into_iter().map(Some);
        let none = (self.masked && !cx.needs(3)).then_some(None);
        Ok(made.chain(none).collect())
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
    family: "attention",
    kernels: &[
        "aclnnFlashAttentionScore",
        "aclnnFlashAttentionScoreV2",
        "aclnnFlashAttentionScoreGrad",
        "aclnnFlashAttentionScoreGradV2",
    ],
    samples,
};

fn samples() -> Vec<Sample> {
    let sample = |op: Attention, shapes: [&[usize]; 3], mask: Option<SampleInput>| {
        let inputs = shapes
            .iter()
            .map(|shape| SampleInput::new(*shape, -2.0, 2.0));
        Sample {
            op: Box::new(op),
            inputs: inputs.chain(mask).collect(),
            dtypes: FLOATS,
        }
    };
    let plain = Attention {
        causal: false,
        scale: None,
        grouped: false,
        masked: false,
    };
    let causal = Attention {
        causal: true,
        ..plain
    };
    let grouped = Attention {
        grouped: true,
        scale: Some(0.5),
        ..causal
    };
    let masked = Attention {
        masked: true,
        ..plain
    };
    let square: [&[usize]; 3] = [&[2, 2, 5, 4], &[2, 2, 5, 4], &[2, 2, 5, 4]];
    let seen = SampleInput::typed([2, 1, 5, 5], DType::Bool, 0.0, 1.99);
    vec![
        sample(plain, [&[2, 3, 4], &[2, 5, 4], &[2, 5, 3]], None),
        sample(plain, [&[3, 4], &[5, 4], &[5, 6]], None),
        sample(causal, square, None),
        sample(grouped, [&[4, 3, 4], &[2, 5, 4], &[2, 5, 4]], None),
        sample(masked, square, Some(seen)),
        sample(masked, square, Some(SampleInput::new([5, 5], -2.0, 2.0))),
    ]
}
