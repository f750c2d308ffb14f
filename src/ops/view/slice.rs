//! `slice`: every k-th index of a range along a dim, without a copy.

use std::ops::{Range, RangeFrom, RangeFull, RangeTo};

use super::{Rule, view_sample};
use crate::ops::prelude::*;

/// Which indices of a dim: as Python's `start:end:step`.
///
/// Made from a range (`1..3`, `..-1`, `2..`, `..`), or built up. Negative numbers count from the end; ends beyond the dim
/// are cut to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct SliceOptions {
    start: Option<i64>,
    end: Option<i64>,
    step: i64,
}

impl Default for SliceOptions {
    fn default() -> Self {
        SliceOptions {
            start: None,
            end: None,
            step: 1,
        }
    }
}

impl SliceOptions {
    /// All indices.
    pub fn new() -> Self {
        SliceOptions::default()
    }

    /// The first index.
    pub fn start(mut self, start: i64) -> Self {
        self.start = Some(start);
        self
    }

    /// The index before which to stop.
    pub fn end(mut self, end: i64) -> Self {
        self.end = Some(end);
        self
    }

    /// The distance between two indices, at least 1.
    pub fn step(mut self, step: i64) -> Self {
        self.step = step;
        self
    }

    /// The slice of a layout along a dim.
    pub(super) fn layout(&self, op: &'static str, dim: i64, x: &Layout) -> Result<Layout> {
        let dim = x.shape().axis(op, dim)?;
        let size = x.shape().size(dim);
        let step = usize::try_from(self.step).ok().filter(|step| *step > 0);
        let step = step.ok_or_else(|| {
            Error::option(
                op,
                "step",
                format!("got {}, wanted one of at least 1", self.step),
            )
        })?;
        let clamped = |place: Option<i64>, default: usize| match place {
            None => default,
            Some(place) if place < 0 => {
                usize::try_from(place.saturating_add(size as i64)).unwrap_or(0)
            }
            Some(place) => usize::try_from(place).unwrap_or(size).min(size),
        };
        let (start, end) = (clamped(self.start, 0), clamped(self.end, size));
        Ok(x.slice(dim, start, end.saturating_sub(start).div_ceil(step), step))
    }
}

impl From<Range<i64>> for SliceOptions {
    fn from(range: Range<i64>) -> Self {
        SliceOptions::new().start(range.start).end(range.end)
    }
}

impl From<RangeFrom<i64>> for SliceOptions {
    fn from(range: RangeFrom<i64>) -> Self {
        SliceOptions::new().start(range.start)
    }
}

impl From<RangeTo<i64>> for SliceOptions {
    fn from(range: RangeTo<i64>) -> Self {
        SliceOptions::new().end(range.end)
    }
}

impl From<RangeFull> for SliceOptions {
    fn from(_: RangeFull) -> Self {
        SliceOptions::new()
    }
}

#[derive(Debug, Clone, Copy)]
struct Slice {
    dim: i64,
    options: SliceOptions,
}

impl Tensor {
    /// A view of the indices `start:end:step` along a dim.
    ///
    /// Dtypes: all. PyTorch: `x[start:end:step]`. NPU: no kernel.
    ///
    /// ```
    /// use ascend_tensor::{Tensor, ops::view::SliceOptions};
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([0i32, 1, 2, 3, 4]);
    /// assert_eq!(x.slice(0, 1..-1)?.to_vec::<i32>()?, [1, 2, 3]);
    /// assert_eq!(x.slice(0, SliceOptions::from(1..).step(2))?.to_vec::<i32>()?, [1, 3]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Axis` for a dim out of range, `Option` for a step below 1.
    pub fn slice(&self, dim: i64, options: impl Into<SliceOptions>) -> Result<Tensor> {
        self.viewed(Slice {
            dim,
            options: options.into(),
        })
    }
}

impl Rule for Slice {
    const NAME: &'static str = "slice";

    fn layout(&self, x: &Layout) -> Result<Layout> {
        self.options.layout(Self::NAME, self.dim, x)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "slice",
    family: "view",
    kernels: &[],
    samples,
};

fn samples() -> Vec<Sample> {
    vec![view_sample(
        Slice {
            dim: 1,
            options: SliceOptions::from(1..).step(2),
        },
        [2, 5, 3],
    )]
}
