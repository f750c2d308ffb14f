//! `searchsorted`: where values would go in sorted rows.

use std::cmp::Ordering;

use crate::cpu::alloc::workspace;
use crate::cpu::dense::lanes;
use crate::cpu::lane::Lane;
use crate::ops::prelude::*;

/// Settings of [`Tensor::searchsorted`]. Made from `()`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[must_use]
pub struct SearchOptions {
    right: bool,
    narrow: bool,
}

impl SearchOptions {
    /// Before equal elements, as `i64`.
    pub fn new() -> Self {
        SearchOptions::default()
    }

    /// After equal elements.
    pub fn right(mut self) -> Self {
        self.right = true;
        self
    }

    /// Positions as `i32`.
    pub fn i32(mut self) -> Self {
        self.narrow = true;
        self
    }
}

impl From<()> for SearchOptions {
    fn from((): ()) -> Self {
        SearchOptions::new()
    }
}

#[derive(Debug, Clone, Copy)]
struct SearchSorted {
    options: SearchOptions,
}

impl Tensor {
    /// For each value, the first position in the ascending rows of this tensor before which it could stand (`right`: the
    /// last).
    ///
    /// Shapes: rows `[n]` and values of any shape, or rows `[.., n]` and values `[.., m]` with equal leading dims; the result
    /// has the values' shape. Dtypes: all, promoted -> `i64` (or `i32`). PyTorch: `torch.searchsorted`. NPU: `aclnnSearchSorted`.
    ///
    /// ```
    /// use ascend_tensor::{Tensor, ops::sort::SearchOptions};
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let (rows, values) = (Tensor::new([1i32, 3, 5]), Tensor::new([3i32, 6]));
    /// assert_eq!(rows.searchsorted(&values, ())?.to_vec::<i64>()?, [1, 3]);
    /// assert_eq!(rows.searchsorted(&values, SearchOptions::new().right())?.to_vec::<i64>()?, [2, 3]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Shape` if the shapes do not fit.
    pub fn searchsorted(
        &self,
        values: &Tensor,
        options: impl Into<SearchOptions>,
    ) -> Result<Tensor> {
        run_one(
            &SearchSorted {
                options: options.into(),
            },
            &[self, values],
        )
    }
}

impl SearchSorted {
    fn search<T: Lane>(&self, x: &[Host<'_>], width: usize, each: usize) -> Result<Vec<i64>> {
        let (rows, values) = (lanes::<T>(self.name(), &x[0])?, lanes(self.name(), &x[1])?);
        let mut places = workspace(self.name(), 0i64, values.len())?;
        for ((index, value), place) in values.iter().enumerate().zip(&mut places) {
            let start = index.checked_div(each).unwrap_or(0) * width;
            let row = rows.get(start..start + width).unwrap_or_default();
            let right = self.options.right;
            let before = |x: &T| match x.partial_cmp(value) {
                Some(Ordering::Greater) => false,
                Some(Ordering::Equal) => right,
                Some(Ordering::Less) | None => true,
            };
            *place = row.partition_point(before) as i64;
        }
        Ok(places)
    }
}

impl Op for SearchSorted {
    fn name(&self) -> &'static str {
        "searchsorted"
    }

    fn infer(&self, x: &[Meta], plan: &mut Plan) -> Result<()> {
        let (rows, values) = (&x[0].shape, &x[1].shape);
        let lead = |shape: &Shape| shape.dims().split_last().map(|(_, lead)| lead.to_vec());
        if rows.rank() == 0 || rows.rank() > 1 && lead(rows) != lead(values) {
            return Err(Error::shape(
                self.name(),
                format!("rows of {rows} for values of {values}"),
                "one row, or equal leading dims",
            ));
        }
        let dtype = x[0].dtype.promote(x[1].dtype);
        plan.cast(0, dtype);
        plan.cast(1, dtype);
        plan.output(
            *values,
            if self.options.narrow {
                DType::I32
            } else {
                DType::I64
            },
        );
        Ok(())
    }

    fn cpu(&self, x: &[Host<'_>], y: &mut [HostMut<'_>]) -> Result<Counts> {
        let width = x[0].shape().dims().last().copied().unwrap_or(0);
        let each = if x[0].shape().rank() == 1 {
            0
        } else {
            x[1].shape().dims().last().copied().unwrap_or(0)
        };
        let places = with_lane!(x[0].dtype(), T => self.search::<T>(x, width, each)?);
        let Some(places) = Host::from_slice(&places, x[1].shape()) else {
            return Ok(Counts::EXACT);
        };
        map::copy(&places, &mut y[0]);
        Ok(Counts::EXACT)
    }

    fn ascend(&self, cx: &Launch, x: &[Dev<'_>], y: &[Dev<'_>]) -> Result<Counts> {
        if x[0].elements() == 0 {
            aclnn::inplace_zero(cx, &y[0])?;
            return Ok(Counts::EXACT);
        }
        let lifted = |x: &Dev<'_>| {
            if x.shape().rank() == 0 {
                x.layout().unsqueeze(0)
            } else {
                *x.layout()
            }
        };
        let (values, to) = (
            x[1].with_layout(lifted(&x[1])),
            y[0].with_layout(lifted(&y[0])),
        );
        aclnn::search_sorted(
            cx,
            &x[0],
            &values,
            self.options.narrow,
            self.options.right,
            None,
            &to,
        )?;
        Ok(Counts::EXACT)
    }

    fn gradient(&self) -> Gradient {
        Gradient::Constant
    }

    fn boxed(&self) -> Box<dyn Op> {
        Box::new(*self)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "searchsorted",
    family: "sort",
    kernels: &["aclnnSearchSorted"],
    samples,
};

fn samples() -> Vec<Sample> {
    let op = Box::new(SearchSorted {
        options: SearchOptions::new(),
    });
    vec![Sample {
        op,
        inputs: vec![
            SampleInput::new([1], 0.0, 1.0),
            SampleInput::new([2, 3], -2.0, 2.0),
        ],
        dtypes: NUMBERS,
    }]
}
