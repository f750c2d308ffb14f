//! `place`: elements put into zeros at a layout, the gradient of views; and its own gradient, a view by layout.

use super::Rule;
use super::unfold::window_sum;
use crate::ops::prelude::*;

/// Zeros of a shape with the input's elements where `layout` (over the row-major result) names them, each once.
#[derive(Debug, Clone, Copy)]
struct Place {
    shape: Shape,
    layout: Layout,
}

/// A row-major tensor under a layout relative to its first element.
#[derive(Debug, Clone, Copy)]
struct Window {
    layout: Layout,
}

impl Tensor {
    /// Zeros of a shape with this tensor's elements where `layout` names them; the layout has this tensor's shape.
    pub(crate) fn place(&self, shape: Shape, layout: Layout) -> Result<Tensor> {
        run_one(&Place { shape, layout }, &[self])
    }
}

/// Whether all that a layout names lies within so many elements; an empty one names nothing.
fn holds(elements: usize, layout: &Layout) -> bool {
    layout.shape().is_empty() || layout.end() <= elements
}

/// A view of a contiguous tensor under a layout relative to its first element, which may name places several times.
pub(super) fn window(x: &Tensor, layout: Layout) -> Result<Tensor> {
    x.viewed(Window { layout })
}

impl Op for Place {
    fn name(&self) -> &'static str {
        "place"
    }

    fn infer(&self, x: &[Meta], plan: &mut Plan) -> Result<()> {
        if *self.layout.shape() != x[0].shape || !holds(self.shape.elements(), &self.layout) {
            return Err(Error::shape(self.name(), x[0].shape, self.layout.shape()));
        }
        plan.output(self.shape, x[0].dtype);
        Ok(())
    }

    fn cpu(&self, x: &[Host<'_>], y: &mut [HostMut<'_>]) -> Result<Counts> {
        if x[0].elements() < y[0].elements() {
            with_lane!(y[0].dtype(), T => map::fill(&mut y[0], T::ZERO));
        }
        map::copy(&x[0], &mut y[0].with_layout(self.layout));
        Ok(Counts::EXACT)
    }

    fn ascend(&self, cx: &Launch, x: &[Dev<'_>], y: &[Dev<'_>]) -> Result<Counts> {
        if x[0].elements() < y[0].elements() {
            aclnn::inplace_zero(cx, &y[0])?;
        }
        if x[0].elements() > 0 {
            aclnn::inplace_copy(cx, &y[0].with_layout(self.layout), &x[0])?;
        }
        Ok(Counts::EXACT)
    }

    fn gradient(&self) -> Gradient {
        Gradient::Backward
    }

    fn saves(&self) -> Saves {
        Saves::NOTHING
    }

    fn backward(&self, cx: &GradCx<'_>) -> Result<Grads> {
        Ok(smallvec![Some(window(
            &cx.gradient()?.contiguous()?,
            self.layout
        )?)])
    }

    fn boxed(&self) -> Box<dyn Op> {
        Box::new(*self)
    }
}

impl Rule for Window {
    const NAME: &'static str = "window";
    const ONCE: bool = false;

    fn layout(&self, x: &Layout) -> Result<Layout> {
        if !x.is_contiguous() || !holds(x.elements(), &self.layout) {
            return Err(Error::shape(
                Self::NAME,
                x.shape(),
                "a contiguous tensor that holds the layout",
            ));
        }
        Ok(self.layout.with_offset(self.layout.offset() + x.offset()))
    }

    fn gradient(&self, dy: &Tensor, shape: &Shape) -> Result<Tensor> {
        if self.layout.overlaps_itself() {
            window_sum(dy, *shape, self.layout)
        } else {
            dy.place(*shape, self.layout)
        }
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "place",
    family: "view",
    kernels: &["aclnnInplaceZero", "aclnnInplaceCopy"],
    samples,
};

fn samples() -> Vec<Sample> {
    let layout = Layout::contiguous([2, 6]).slice(1, 1, 3, 2);
    let op = Box::new(Place {
        shape: Shape::from([2, 6]),
        layout,
    });
    vec![Sample {
        op,
        inputs: vec![SampleInput::new([2, 3], -2.0, 2.0)],
        dtypes: DType::ALL,
    }]
}
