//! `index`: advanced indexing by several tensors that broadcast together.

use smallvec::SmallVec;

use super::{Negative, host_indices, index_dtype, on_device};
use crate::cpu::alloc::workspace;
use crate::cpu::gather::{Path, Paths, gather};
use crate::ops::prelude::*;
use crate::shape::MAX_RANK;

/// Which dims of the tensor the indices are for, in rising order.
pub(super) type Dims = SmallVec<[usize; MAX_RANK]>;

#[derive(Debug, Clone)]
struct Index {
    dims: Dims,
}

impl Tensor {
    /// `self[i0, i1, ..]`: integer indices broadcast together and pick elements, a mask stands for the columns of its
    /// [`nonzero`](Tensor::nonzero), `None` is a full slice. Negative indices count from the end.
    ///
    /// Shapes: the dims of the indices replace the indexed dims where these are neighbours, else they come first. Dtypes: all;
    /// indices `i64`, `i32` or `bool`. PyTorch: `x[i0, i1, ..]`. NPU: `aclnnIndex`.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([[1i32, 2, 3], [4, 5, 6]]);
    /// let (rows, columns) = (Tensor::new([0i64, 1]), Tensor::new([2i64, -3]));
    /// assert_eq!(x.index(&[Some(&rows), Some(&columns)])?.to_vec::<i32>()?, [3, 4]);
    /// let mask = Tensor::new([true, false, true]);
    /// assert_eq!(x.index(&[None, Some(&mask)])?.to_vec::<i32>()?, [1, 3, 4, 6]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Index` for an index out of range (on the NPU under [`check_data`](crate::check_data) only), `Axis` for more indices
    /// than dims, `Broadcast` or `Shape` if they do not fit, `DType` for indices of another dtype.
    pub fn index(&self, indices: &[Option<&Tensor>]) -> Result<Tensor> {
        let (dims, indices) = resolved("index", self, indices)?;
        if dims.is_empty() {
            return Ok(self.clone());
        }
        let inputs: Vec<&Tensor> = [self].into_iter().chain(&indices).collect();
        run_one(&Index { dims }, &inputs)
    }
}

/// The indices without full slices and with masks as their coordinates; and their dims.
pub(super) fn resolved(
    op: &'static str,
    x: &Tensor,
    indices: &[Option<&Tensor>],
) -> Result<(Dims, Vec<Tensor>)> {
    let (mut dims, mut found, mut dim) = (Dims::new(), Vec::new(), 0usize);
    for index in indices {
        let width = index.map_or(1, |index| {
            if index.dtype() == DType::Bool {
                index.rank()
            } else {
                1
            }
        });
        if dim + width > x.rank() {
            return Err(Error::Axis {
                op,
                axis: (dim + width) as i64 - 1,
                rank: x.rank(),
            });
        }
        match index {
            Some(mask) if mask.dtype() == DType::Bool => {
                if mask.rank() == 0 || mask.dims() != &x.dims()[dim..dim + width] {
                    return Err(Error::shape(
                        op,
                        format!("a mask of {} for {}", mask.shape(), x.shape()),
                        "the sizes of the dims it covers",
                    ));
                }
                let places = mask.nonzero()?;
                for column in 0..width {
                    dims.push(dim + column);
                    found.push(places.select(1, column as i64)?);
                }
            }
            Some(index) => {
                index_dtype(op, &index.meta())?;
                dims.push(dim);
                found.push((*index).clone());
            }
            None => {}
        }
        dim += width;
    }
    Ok((dims, found))
}

/// Where the dims of the indices stand in the result, and what they broadcast to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Placement {
    /// The common shape of the indices.
    pub common: Shape,
    /// How many of the tensor's dims come before it in the result.
    pub lead: usize,
    /// The shape of the result.
    pub shape: Shape,
}

impl Placement {
    pub fn new(op: &'static str, x: &Shape, dims: &Dims, indices: &[Meta]) -> Result<Self> {
        let common = crate::dispatch::broadcast(op, indices)?;
        let neighbours = dims.windows(2).all(|pair| pair[1] == pair[0] + 1);
        let lead = if neighbours {
            dims.first().copied().unwrap_or(0)
        } else {
            0
        };
        let kept: Vec<usize> = (0..x.rank())
            .filter(|dim| !dims.contains(dim))
            .map(|dim| x.size(dim))
            .collect();
        let (before, after) = kept.split_at(lead.min(kept.len()));
        let shape: Shape = before
            .iter()
            .chain(common.dims())
            .chain(after)
            .copied()
            .collect();
        shape.check(op)?;
        Ok(Placement {
            common,
            lead,
            shape,
        })
    }

    /// The result's shape with the dims of the indices merged to one.
    pub fn merged(&self) -> Shape {
        let dims = self.shape.dims();
        let after = &dims[self.lead + self.common.rank()..];
        dims[..self.lead]
            .iter()
            .chain([&self.common.elements()])
            .chain(after)
            .copied()
            .collect()
    }
}

/// The paths from the merged result to elements of a layout of the indexed tensor.
pub(super) fn paths(
    op: &'static str,
    layout: &Layout,
    dims: &Dims,
    place: &Placement,
    indices: &[Host<'_>],
) -> Result<Paths> {
    let mut offsets = workspace(op, 0usize, place.common.elements())?;
    for (dim, index) in dims.iter().zip(indices) {
        let (size, stride) = layout.pairs().nth(*dim).unwrap_or((0, 0));
        let index = host_indices(op, &index.broadcast(&place.common), size, Negative::FromEnd)?;
        offsets
            .iter_mut()
            .zip(index.iter())
            .for_each(|(offset, index)| *offset += *index as usize * stride);
    }
    let mut paths = Paths::of(layout);
    let mut dim = 0;
    paths.dims.retain(|_| {
        dim += 1;
        !dims.contains(&(dim - 1))
    });
    paths
        .dims
        .insert(place.lead.min(paths.dims.len()), Path::Offsets(offsets));
    Ok(paths)
}

/// The list that CANN wants: an entry for each dim, an empty one of the dtype of `x` where it is not indexed; and the check of
/// the data.
pub(super) fn device_list<'a>(
    cx: &Launch,
    x: &Dev<'_>,
    dims: &Dims,
    indices: &[Dev<'a>],
    skip: Dev<'a>,
) -> Result<Vec<Dev<'a>>> {
    let mut list = vec![skip; dims.last().map_or(0, |last| last + 1)];
    for (dim, index) in dims.iter().zip(indices) {
        on_device(cx, index, x.shape().size(*dim), Negative::FromEnd)?;
        list[*dim] = *index;
    }
    Ok(list)
}

/// The indices of a call as the method takes them.
pub(super) fn as_given<'a>(
    dims: &Dims,
    indices: impl Iterator<Item = Result<&'a Tensor>>,
) -> Result<Vec<Option<&'a Tensor>>> {
    let mut given = vec![None; dims.last().map_or(0, |last| last + 1)];
    for (dim, index) in dims.iter().zip(indices) {
        given[*dim] = Some(index?);
    }
    Ok(given)
}

impl Op for Index {
    fn name(&self) -> &'static str {
        "index"
    }

    fn infer(&self, x: &[Meta], plan: &mut Plan) -> Result<()> {
        plan.output(
            Placement::new(self.name(), &x[0].shape, &self.dims, &x[1..])?.shape,
            x[0].dtype,
        );
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
        let place = Placement::new(self.name(), x[0].shape(), &self.dims, &metas[1..])?;
        let paths = paths(self.name(), x[0].layout(), &self.dims, &place, &x[1..])?;
        let merged = Layout::contiguous(place.merged()).with_offset(y[0].layout().offset());
        gather(&x[0], &paths, 0, &mut y[0].with_layout(merged));
        Ok(Counts::EXACT)
    }

    fn ascend(&self, cx: &Launch, x: &[Dev<'_>], y: &[Dev<'_>]) -> Result<Counts> {
        let skip = cx.temporary([0], x[0].dtype())?;
        let list = device_list(cx, &x[0], &self.dims, &x[1..], skip.dev())?;
        aclnn::index(cx, &x[0], &list, &y[0])?;
        Ok(Counts::EXACT)
    }

    fn gradient(&self) -> Gradient {
        Gradient::Backward
    }

    fn saves(&self) -> Saves {
        (1..=self.dims.len()).fold(Saves::NOTHING, Saves::and_input)
    }

    fn backward(&self, cx: &GradCx<'_>) -> Result<Grads> {
        let dy = cx.gradient()?;
        let dx = || {
            let indices = as_given(&self.dims, (1..cx.len()).map(|index| cx.input(index)))?;
            let zeros = Tensor::zeros(cx.meta(0)?.shape, dy.dtype(), dy.device())?;
            zeros.index_put(&indices, dy, super::IndexPutOptions::new().accumulate())
        };
        Ok(smallvec![cx.want(0, dx)?])
    }

    fn boxed(&self) -> Box<dyn Op> {
        Box::new(self.clone())
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "index",
    family: "index",
    kernels: &["aclnnIndex"],
    samples,
};

fn samples() -> Vec<Sample> {
    let one = |dims: &[usize]| {
        let indices = [
            SampleInput::typed([3, 1], DType::I64, 0.0, 1.9),
            SampleInput::typed([2], DType::I64, -2.0, 1.9),
        ];
        let inputs = [SampleInput::new([2, 3, 2], -2.0, 2.0)]
            .into_iter()
            .chain(indices)
            .collect();
        Sample {
            op: Box::new(Index { dims: dims.into() }),
            inputs,
            dtypes: DType::ALL,
        }
    };
    vec![one(&[1, 2]), one(&[0, 2])]
}
