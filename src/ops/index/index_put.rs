//! `index_put`: elements written, or added, where advanced indexing names them.

use super::index::{Dims, Placement, as_given, device_list, paths, resolved};
use crate::cpu::alloc::workspace;
use crate::cpu::gather::{in_lanes, scatter};
use crate::cpu::lane::Lane;
use crate::ops::prelude::*;

/// Settings of [`Tensor::index_put`]. Made from `()` for replacing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[must_use]
pub struct IndexPutOptions {
    accumulate: bool,
}

impl IndexPutOptions {
    /// Replaces.
    pub fn new() -> Self {
        IndexPutOptions::default()
    }

    /// Adds instead; a place named several times gets all values.
    pub fn accumulate(mut self) -> Self {
        self.accumulate = true;
        self
    }
}

impl From<()> for IndexPutOptions {
    fn from((): ()) -> Self {
        IndexPutOptions::new()
    }
}

#[derive(Debug, Clone)]
struct IndexPut {
    dims: Dims,
    accumulate: bool,
}

impl Tensor {
    /// This tensor with `self[i0, i1, ..]` (see [`Tensor::index`]) replaced by `values`, or with `values` added there.
    ///
    /// Shapes: `values` must broadcast to the shape that indexing gives. Dtypes: all, equal. PyTorch: `torch.index_put`.
    /// NPU: `aclnnInplaceCopy`, `aclnnIndexPutImpl`.
    ///
    /// ```
    /// use ascend_tensor::{Tensor, ops::index::IndexPutOptions};
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let (x, at) = (Tensor::new([1i32, 2, 3]), Tensor::new([0i64, 0, -1]));
    /// let y = x.index_put(&[Some(&at)], &Tensor::new(5i32), IndexPutOptions::new().accumulate())?;
    /// assert_eq!(y.to_vec::<i32>()?, [11, 2, 8]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Tensor::index`]; `DType` for values of another dtype, `Shape` if they do not broadcast.
    pub fn index_put(
        &self,
        indices: &[Option<&Tensor>],
        values: &Tensor,
        options: impl Into<IndexPutOptions>,
    ) -> Result<Tensor> {
        let (dims, indices) = resolved("index_put", self, indices)?;
        let inputs: Vec<&Tensor> = [self, values].into_iter().chain(&indices).collect();
        run_one(
            &IndexPut {
                dims,
                accumulate: options.into().accumulate,
            },
            &inputs,
        )
    }
}

/// Values broadcast to the result of indexing, its index dims merged, as lanes in a row where the layout does not merge.
fn with_merged<T: Lane>(
    op: &'static str,
    values: &Host<'_>,
    place: &Placement,
    body: impl FnOnce(&Host<'_>) -> Result<()>,
) -> Result<()> {
    let values = values.broadcast(&place.shape);
    if let Some(layout) = values.layout().reshape(&place.merged()) {
        return body(&values.with_layout(layout));
    }
    let mut row = workspace(op, T::ZERO, place.shape.elements())?;
    if let Some(mut row) = HostMut::from_slice(&mut row, &place.shape) {
        map::map1::<T, T>(&values, &mut row, |x| x);
    }
    Host::from_slice(&row, &place.merged()).map_or(Ok(()), |row| body(&row))
}

impl Op for IndexPut {
    fn name(&self) -> &'static str {
        "index_put"
    }

    fn infer(&self, x: &[Meta], plan: &mut Plan) -> Result<()> {
        if x[1].dtype != x[0].dtype {
            return Err(Error::dtype(
                self.name(),
                format!("values of {} for a tensor of {}", x[1].dtype, x[0].dtype),
                "equal dtypes",
            ));
        }
        let place = Placement::new(self.name(), &x[0].shape, &self.dims, &x[2..])?;
        Layout::contiguous(x[1].shape).expand(self.name(), &place.shape)?;
        plan.output(x[0].shape, x[0].dtype);
        Ok(())
    }

    fn cpu(&self, x: &[Host<'_>], y: &mut [HostMut<'_>]) -> Result<Counts> {
        let metas: Vec<Meta> = x
            .iter()
            .map(|x| Meta {
                shape: *x.shape(),
                dtype: x.dtype(),
            })
            .collect();
        let place = Placement::new(self.name(), x[0].shape(), &self.dims, &metas[2..])?;
        let paths = paths(
            self.name(),
            &Layout::contiguous(*x[0].shape()),
            &self.dims,
            &place,
            &x[2..],
        )?;
        map::copy(&x[0], &mut y[0]);
        with_lane!(x[0].dtype(), T => with_merged::<T>(self.name(), &x[1], &place, |values| {
            in_lanes::<T>(self.name(), &mut y[0], |target| match self.accumulate {
                true => scatter(values, &paths, target, |old, x| old.plus(x)),
                false => scatter(values, &paths, target, |_, x| x),
            })
        })?);
        Ok(Counts::EXACT)
    }

    fn ascend(&self, cx: &Launch, x: &[Dev<'_>], y: &[Dev<'_>]) -> Result<Counts> {
        aclnn::inplace_copy(cx, &y[0], &x[0])?;
        if x[2..].iter().any(|index| index.elements() == 0) {
            return Ok(Counts::EXACT);
        }
        if self.dims.is_empty() {
            return Err(Error::unsupported(
                self.name(),
                Device::Ascend(cx.device()),
                x[0].dtype(),
                "full slices alone are no index",
            ));
        }
        let skip = cx.temporary([0], x[0].dtype())?;
        let list = device_list(cx, &x[0], &self.dims, &x[2..], skip.dev())?;
        aclnn::index_put_impl(cx, &y[0], &list, &x[1], self.accumulate, false)?;
        Ok(Counts::EXACT)
    }

    /// Without an index: a plain copy or sum.
    fn compose(&self, x: &[Tensor]) -> Result<Outputs> {
        if !self.dims.is_empty() {
            return Err(Error::unsupported(
                self.name(),
                x[0].device(),
                x[0].dtype(),
                "the op is not composed of others",
            ));
        }
        let whole = if self.accumulate {
            x[0].add(&x[1])?
        } else {
            x[1].expand(*x[0].shape())?.copy()?
        };
        Ok(smallvec![whole])
    }

    fn gradient(&self) -> Gradient {
        Gradient::Backward
    }

    fn saves(&self) -> Saves {
        (0..self.dims.len()).fold(Saves::NOTHING, |saves, index| saves.and_input(index + 2))
    }

    fn backward(&self, cx: &GradCx<'_>) -> Result<Grads> {
        let dy = cx.gradient()?;
        let indices = as_given(&self.dims, (2..cx.len()).map(|index| cx.input(index)))?;
        let kept = || match self.accumulate {
            true => Ok(dy.clone()),
            false => dy.index_put(&indices, &Tensor::zeros((), dy.dtype(), dy.device())?, ()),
        };
        Ok(smallvec![
            cx.want(0, kept)?,
            cx.want(1, || dy.index(&indices))?
        ])
    }

    fn boxed(&self) -> Box<dyn Op> {
        Box::new(self.clone())
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "index_put",
    family: "index",
    kernels: &["aclnnInplaceCopy", "aclnnIndexPutImpl"],
    samples,
};

fn samples() -> Vec<Sample> {
    let one = |accumulate, count: usize| {
        let indices = [
            SampleInput::typed([count], DType::I64, 0.0, 1.9),
            SampleInput::typed([1], DType::I64, -2.0, 1.9),
        ];
        let inputs = [
            SampleInput::new([2, 3, 2], -2.0, 2.0),
            SampleInput::new([count, 3], -2.0, 2.0),
        ];
        let op = Box::new(IndexPut {
            dims: smallvec![0, 2],
            accumulate,
        });
        Sample {
            op,
            inputs: inputs.into_iter().chain(indices).collect(),
            dtypes: NUMBERS,
        }
    };
    vec![one(true, 4), one(false, 1)]
}
