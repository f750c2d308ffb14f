//! Attention on the NPU: CANN's fused kernels, and which calls they do not take.
//!
//! Knows the kernels' layout (batch, heads, rows, columns), their masks (true hides) and sparse modes. Must not know gradients'
//! formulas.

use super::frame::{Frame, NAME};
use super::scaled_dot_product_attention::Attention;
use crate::ascend::Ready;
use crate::ops::prelude::*;

/// The kernels' limits.
const HEADS: usize = 256;
const COLUMNS: usize = 768;
/// The side of the mask that stands for any causal one.
const COMPRESSED: usize = 2048;
/// The kind of shift that is added to scores that are scaled already.
const AFTER_SCALING: i64 = 0;
/// A window without an end.
const ALL: i64 = i32::MAX as i64;

/// The shape of the maxima and sums of each row, eight times each.
pub(super) fn statistics(frame: &Frame) -> Shape {
    let [batch, heads] = split(frame);
    Shape::from([batch, heads, frame.rows, 8])
}

/// The batch as batches and heads: the last dim is heads, unless there are more than the kernels take.
fn split(frame: &Frame) -> [usize; 2] {
    let (all, heads) = (
        frame.batch.elements(),
        frame.batch.dims().last().copied().unwrap_or(1),
    );
    if frame.group == 1 && (heads == 0 || heads > HEADS) {
        return [all, 1];
    }
    [all / heads.max(1), heads]
}

/// Why the kernels do not take a call, if they do not.
fn refusal(frame: &Frame, x: &[Dev<'_>]) -> Option<&'static str> {
    let [_, heads] = split(frame);
    let dtype = x[0].dtype();
    if dtype == DType::F64 {
        return Some("aclnnFlashAttentionScore takes no f64 by CANN's dtype table");
    }
    if heads > HEADS || frame.width > COLUMNS || frame.value_width > frame.width {
        return Some("the fused kernel takes 256 heads, 768 columns and no wider values");
    }
    if frame.keys == 0 || frame.width == 0 || frame.value_width == 0 {
        return Some("the fused kernel takes no empty operands");
    }
    None
}

/// A tensor, or a copy of it, in a layout of its own.
struct Laid<'a> {
    tensor: Ready<'a>,
    layout: Layout,
}

impl Laid<'_> {
    fn dev(&self) -> Dev<'_> {
        self.tensor.dev().with_layout(self.layout)
    }
}

/// A tensor broadcast to a shape, in four dims.
fn lay<'a>(cx: &Launch, x: &Dev<'a>, full: &Shape, four: [usize; 4]) -> Result<Laid<'a>> {
    let wide = x.layout().expand(NAME, full)?;
    let four = Shape::from(four);
    Ok(match wide.reshape(&four) {
        Some(layout) => Laid {
            tensor: Ready::Given(*x),
            layout,
        },
        None => Laid {
            tensor: cx.contiguous(&x.with_layout(wide))?,
            layout: Layout::contiguous(four),
        },
    })
}

/// The operands as the kernels want them.
struct Operands<'a> {
    query: Laid<'a>,
    key: Laid<'a>,
    value: Laid<'a>,
    mask: Option<Laid<'a>>,
    /// What is added to the scores.
    shift: Option<Laid<'a>>,
    sizes: [usize; 2],
    mode: i64,
    after: i64,
    precise: i64,
}

impl<'a> Operands<'a> {
    fn new(op: &Attention, frame: &Frame, cx: &Launch, x: &[Dev<'a>]) -> Result<Self> {
        if let Some(why) = refusal(frame, x) {
            let device = Device::Ascend(cx.device());
            return Err(Error::unsupported(NAME, device, x[0].dtype(), why));
        }
        let [batch, heads] = split(frame);
        let (rows, keys, shared) = (frame.rows, frame.keys, heads / frame.group.max(1));
        let own = |x: &Dev<'a>, rows, columns| {
            let full = frame.shape(rows, columns);
            lay(cx, x, &full, [batch, heads, rows, columns])
        };
        let common = |x: &Dev<'a>, columns| {
            let full = frame.shared_shape(keys, columns);
            lay(cx, x, &full, [batch, shared, keys, columns])
        };
        let (mut mask, mut shift, mut mode, mut after, mut precise) = (None, None, 0, ALL, 0);
        if op.causal {
            (mask, mode) = causal(cx, rows, keys)?;
            after = 0;
        } else if let Some(given) = x.get(3).filter(|_| op.masked) {
            precise = 2;
            if given.dtype() == DType::Bool {
                mask = Some(hidden(cx, frame, given)?);
            } else {
                let (hidden, added) = added(cx, frame, given)?;
                (mask, shift) = (Some(hidden), Some(added));
            }
        }
        Ok(Operands {
            query: own(&x[0], rows, frame.width)?,
            key: common(&x[1], frame.width)?,
            value: common(&x[2], frame.value_width)?,
            mask,
            shift,
            sizes: [batch, heads],
            mode,
            after,
            precise,
        })
    }
}

/// The mask that hides the keys after a row's own position, and its sparse mode: the whole one while it is small, else the
/// compressed one from which the kernel reads any.
fn causal<'a>(cx: &Launch, rows: usize, keys: usize) -> Result<(Option<Laid<'a>>, i64)> {
    let small = rows <= COMPRESSED && keys <= COMPRESSED;
    let (sides, mode) = if small {
        ([rows, keys], 0)
    } else {
        ([COMPRESSED, COMPRESSED], 2)
    };
    let mask = cx.temporary(sides, DType::Bool)?;
    aclnn::inplace_one(cx, &mask.dev())?;
    let upper = cx.temporary(sides, DType::Bool)?;
    aclnn::triu(cx, &mask.dev(), 1, &upper.dev())?;
    let mask = Laid {
        tensor: Ready::Made(upper),
        layout: Layout::contiguous(sides),
    };
    Ok((Some(mask), mode))
}

/// The shape of a mask, and how the kernels see it: one for all heads, or one for each.
fn mask_shapes(frame: &Frame, mask: &Shape) -> (Shape, Shape) {
    let [batch, heads] = split(frame);
    let (rows, keys) = (frame.rows, frame.keys);
    if mask.rank() <= 2 {
        let one = Shape::from([rows, keys]);
        return (one, one);
    }
    let four = Shape::from([batch, heads, rows, keys]);
    (frame.shape(rows, keys), four)
}

/// A mask of seen keys as one of hidden keys.
fn hidden<'a>(cx: &Launch, frame: &Frame, mask: &Dev<'_>) -> Result<Laid<'a>> {
    let (full, four) = mask_shapes(frame, mask.shape());
    let wide = mask.with_layout(mask.layout().expand(NAME, &full)?);
    let made = cx.temporary(full, DType::Bool)?;
    aclnn::logical_not(cx, &wide, &made.dev())?;
    Ok(Laid {
        tensor: Ready::Made(made),
        layout: Layout::contiguous(four),
    })
}

/// A float mask as the keys that it hides, and what it adds to the scores of the others: minus infinity in a whole block of
/// scores, or in a whole row, is not for the kernels to subtract. They want the heads of what is added as they are.
fn added<'a>(cx: &Launch, frame: &Frame, mask: &Dev<'_>) -> Result<(Laid<'a>, Laid<'a>)> {
    let (full, four) = mask_shapes(frame, mask.shape());
    let wide = mask.with_layout(mask.layout().expand(NAME, &full)?);
    let hidden = cx.temporary(full, DType::Bool)?;
    let number = |value: f64| AclScalar::of(Scalar::Float(value), mask.dtype());
    aclnn::eq_scalar(cx, &wide, number(f64::NEG_INFINITY), &hidden.dev())?;
    let shape = match full.rank() {
        2 => Shape::from([1, split(frame)[1], frame.rows, frame.keys]),
        _ => four,
    };
    let shift = cx.temporary(shape, mask.dtype())?;
    let hidden_four = hidden.dev().with_layout(Layout::contiguous(four));
    let wide = match full.rank() {
        2 => wide.with_layout(wide.layout().expand(NAME, &shape)?),
        _ => wide,
    };
    let target = match full.rank() {
        2 => shift.dev(),
        _ => shift.dev().with_layout(Layout::contiguous(full)),
    };
    aclnn::inplace_copy(cx, &target, &wide)?;
    aclnn::inplace_masked_fill_scalar(cx, &shift.dev(), &hidden_four, number(0.0))?;
    let laid = |tensor, layout| Laid {
        tensor: Ready::Made(tensor),
        layout: Layout::contiguous(layout),
    };
    Ok((laid(hidden, four), laid(shift, shape)))
}

/// `aclnnFlashAttentionScore`, with something to add its second form: results, maxima and sums.
pub(super) fn forward(
    op: &Attention,
    frame: &Frame,
    cx: &Launch,
    x: &[Dev<'_>],
    y: &[Dev<'_>],
) -> Result<()> {
    let operands = Operands::new(op, frame, cx, x)?;
    let [batch, heads] = operands.sizes;
    let four = Shape::from([batch, heads, frame.rows, frame.value_width]);
    let mask = operands.mask.as_ref().map(Laid::dev);
    let unused = cx.temporary([0], x[0].dtype())?;
    if let Some(shift) = operands.shift.as_ref().map(Laid::dev) {
        return aclnn::flash_attention_score_v2(
            cx,
            &operands.query.dev(),
            &operands.key.dev(),
            &operands.value.dev(),
            Some(&shift),
            None,
            None,
            mask.as_ref(),
            None,
            None,
            None,
            op.factor(frame),
            1.0,
            ALL,
            operands.after,
            heads as i64,
            c"BNSD",
            operands.precise,
            operands.mode,
            AFTER_SCALING,
            &y[1],
            &y[2],
            &unused.dev(),
            &y[0].with_layout(Layout::contiguous(four)),
        );
    }
    aclnn::flash_attention_score(
        cx,
        &operands.query.dev(),
        &operands.key.dev(),
        &operands.value.dev(),
        None,
        None,
        None,
        mask.as_ref(),
        None,
        op.factor(frame),
        1.0,
        ALL,
        operands.after,
        heads as i64,
        c"BNSD",
        operands.precise,
        operands.mode,
        &y[1],
        &y[2],
        &unused.dev(),
        &y[0].with_layout(Layout::contiguous(four)),
    )
}

/// The gradients of queries, keys and values as the kernels write them.
fn in_four_dims<'a>(frame: &Frame, y: &[Dev<'a>]) -> [Dev<'a>; 3] {
    let [batch, heads] = split(frame);
    let shared = heads / frame.group.max(1);
    let four = |y: &Dev<'a>, heads, rows, columns| {
        let shape: [usize; 4] = [batch, heads, rows, columns];
        y.with_layout(Layout::contiguous(shape).with_offset(y.layout().offset()))
    };
    [
        four(&y[0], heads, frame.rows, frame.width),
        four(&y[1], shared, frame.keys, frame.width),
        four(&y[2], shared, frame.keys, frame.value_width),
    ]
}

/// `aclnnFlashAttentionScoreGrad`, with something to add its second form: from the operands, `dy`, `y`, maxima and sums to the gradients of the operands.
pub(super) fn backward(
    op: &Attention,
    frame: &Frame,
    cx: &Launch,
    x: &[Dev<'_>],
    y: &[Dev<'_>],
) -> Result<()> {
    let operands = Operands::new(op, frame, cx, x)?;
    let [batch, heads] = operands.sizes;
    let mask = operands.mask.as_ref().map(Laid::dev);
    let full = frame.result();
    let results = [batch, heads, frame.rows, frame.value_width];
    let at = 3 + usize::from(op.masked);
    let (dy, result) = (
        lay(cx, &x[at], &full, results)?,
        lay(cx, &x[at + 1], &full, results)?,
    );
    let [dq, dk, dv] = in_four_dims(frame, y);
    if let Some(shift) = operands.shift.as_ref().map(Laid::dev) {
        return aclnn::flash_attention_score_grad_v2(
            cx,
            &operands.query.dev(),
            &operands.key.dev(),
            &operands.value.dev(),
            &dy.dev(),
            Some(&shift),
            None,
            None,
            mask.as_ref(),
            Some(&x[at + 2]),
            Some(&x[at + 3]),
            None,
            Some(&result.dev()),
            None,
            None,
            None,
            op.factor(frame),
            1.0,
            ALL,
            operands.after,
            heads as i64,
            c"BNSD",
            operands.precise,
            operands.mode,
            AFTER_SCALING,
            &dq,
            &dk,
            &dv,
            None,
        );
    }
    aclnn::flash_attention_score_grad(
        cx,
        &operands.query.dev(),
        &operands.key.dev(),
        &operands.value.dev(),
        &dy.dev(),
        None,
        None,
        None,
        mask.as_ref(),
        Some(&x[at + 2]),
        Some(&x[at + 3]),
        None,
        Some(&result.dev()),
        None,
        op.factor(frame),
        1.0,
        ALL,
        operands.after,
        heads as i64,
        c"BNSD",
        operands.precise,
        operands.mode,
        &dq,
        &dk,
        &dv,
        None,
    )
}
