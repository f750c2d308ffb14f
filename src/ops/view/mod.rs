//! Views and copies: the same elements looked at differently, moved, or written into place.
//!
//! Knows axis rules that the family shares. Must not know arithmetic.

rooms! {
    cat,
    copy,
    copy_,
    diagonal,
    expand,
    flip,
    narrow,
    pad,
    permute,
    place,
    repeat,
    reshape,
    roll,
    select,
    slice,
    slice_assign_,
    squeeze,
    to_device,
    transpose,
    tril,
    unfold,
    unsqueeze,
}

mod flatten;
mod one_hot;
mod pad_inside;
mod pixel_shuffle;
mod repeat_interleave;
mod split;
mod stack;

pub use repeat_interleave::Repeats;
pub use split::SplitSizes;

pub(crate) use to_device::ToDevice;

use crate::ops::prelude::*;

/// A view as a rule for layouts: all that such an op's room has to say.
pub(crate) trait Rule: std::fmt::Debug + Clone + Send + Sync + 'static {
    /// The op's name.
    const NAME: &'static str;

    /// Whether the view names each element at most once.
    const ONCE: bool = true;

    /// The layout of the result.
    fn layout(&self, x: &Layout) -> Result<Layout>;

    /// The gradient of an input of this shape. A view that names each element at most once ([`Rule::ONCE`]) puts it where it came
    /// from.
    fn gradient(&self, dy: &Tensor, shape: &Shape) -> Result<Tensor> {
        dy.place(*shape, self.layout(&Layout::contiguous(*shape))?)
    }
}

/// The op of a [`Rule`]: no kernel runs.
#[derive(Debug, Clone)]
pub(crate) struct View<R>(pub R);

impl<R: Rule> Op for View<R> {
    fn name(&self) -> &'static str {
        R::NAME
    }

    fn view(&self, x: &Layout) -> Result<Option<Layout>> {
        self.0.layout(x).map(Some)
    }

    fn infer(&self, x: &[Meta], plan: &mut Plan) -> Result<()> {
        plan.output(
            *self.0.layout(&Layout::contiguous(x[0].shape))?.shape(),
            x[0].dtype,
        );
        Ok(())
    }

    fn gradient(&self) -> Gradient {
        Gradient::Backward
    }

    fn saves(&self) -> Saves {
        Saves::NOTHING
    }

    fn backward(&self, cx: &GradCx<'_>) -> Result<Grads> {
        let (dy, shape) = (cx.gradient()?, cx.meta(0)?.shape);
        if R::ONCE
            && dy.elements() < shape.elements()
            && let Some(whole) = cx.before(0)
        {
            return self.add_to(whole, dy);
        }
        Ok(smallvec![Some(self.0.gradient(dy, &shape)?)])
    }

    fn boxed(&self) -> Box<dyn Op> {
        Box::new(self.clone())
    }
}

impl<R: Rule> View<R> {
    /// The gradient of a part of a tensor, added to what there is of the whole's gradient.
    fn add_to(&self, whole: Tensor, dy: &Tensor) -> Result<Grads> {
        let whole = whole.into_sole()?;
        whole.viewed(self.0.clone())?.add_(dy)?;
        Ok(smallvec![Some(whole)])
    }
}

impl Tensor {
    /// This tensor under a rule.
    pub(crate) fn viewed(&self, rule: impl Rule) -> Result<Tensor> {
        run_one(&View(rule), &[self])
    }
}

/// A sample call of a view.
pub(crate) fn view_sample(rule: impl Rule, shape: impl Into<Shape>) -> Sample {
    Sample {
        op: Box::new(View(rule)),
        inputs: vec![SampleInput::new(shape, -2.0, 2.0)],
        dtypes: DType::ALL,
    }
}
