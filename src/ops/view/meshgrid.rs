//! `meshgrid`: coordinates as grids; expanded views, so without an op of its own.

use crate::ops::prelude::*;

/// The order of the first two dims of [`Tensor::meshgrid`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
#[non_exhaustive]
pub enum MeshIndexing {
    /// The first tensor runs along dim 0: rows, then columns.
    #[default]
    Matrix,
    /// The first tensor runs along dim 1: x, then y.
    Cartesian,
}

impl Tensor {
    /// For vectors of coordinates, one grid each, which repeats it along all other dims.
    ///
    /// Shapes: `k` vectors (or numbers, taken as vectors of one) -> `k` views `[n0, .., n(k-1)]`. Dtypes: all, equal.
    /// PyTorch: `torch.meshgrid`. NPU: no kernel.
    ///
    /// ```
    /// use ascend_tensor::{Tensor, ops::view::MeshIndexing};
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let (x, y) = (Tensor::new([1i32, 2]), Tensor::new([3i32, 4, 5]));
    /// let grids = Tensor::meshgrid(&[&x, &y], MeshIndexing::Matrix)?;
    /// assert_eq!(grids[0].to_vec::<i32>()?, [1, 1, 1, 2, 2, 2]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Shape` for a tensor of two dims or more, `DType` if dtypes differ, `Option` for no tensors.
    pub fn meshgrid(tensors: &[&Tensor], indexing: MeshIndexing) -> Result<Vec<Tensor>> {
        let op = "meshgrid";
        let Some(first) = tensors.first() else {
            return Err(Error::option(op, "tensors", "got none, wanted at least one"));
        };
        if let Some(other) = tensors.iter().find(|other| other.rank() > 1) {
            return Err(Error::shape(op, other.shape(), "vectors"));
        }
        if let Some(other) = tensors.iter().find(|other| other.dtype() != first.dtype()) {
            return Err(Error::dtype(op, format!("{} and {}", first.dtype(), other.dtype()), "equal dtypes"));
        }
        let swap = |place: usize| match (indexing, place) {
            (MeshIndexing::Cartesian, 0 | 1) if tensors.len() > 1 => 1 - place,
            _ => place,
        };
        let shape: Shape = (0..tensors.len()).map(|place| tensors[swap(place)].elements()).collect();
        shape.check(op)?;
        let grid = |(place, tensor): (usize, &&Tensor)| {
            let along: Shape = (0..tensors.len()).map(|dim| if dim == swap(place) { tensor.elements() } else { 1 }).collect();
            tensor.reshape(along)?.expand(shape)
        };
        tensors.iter().enumerate().map(grid).collect()
    }
}
