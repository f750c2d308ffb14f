//! `meshgrid`: the coordinates of a grid from those along each side. Views only: no op of its own.

use crate::ops::prelude::*;

/// The order of the sides in [`Tensor::meshgrid`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Indexing {
    /// Matrix order: the first input runs along dim 0.
    #[default]
    Ij,
    /// Plane order: the first input runs along dim 1, the second along dim 0.
    Xy,
}

impl Tensor {
    /// One grid per input: its elements along its own dim, repeated along the others.
    ///
    /// Shapes: `[n1], [n2], .. -> [n1, n2, ..]` each (the first two swapped for `Xy`); an input without dims counts as one
    /// element. Dtypes: all, all the same. PyTorch: `torch.meshgrid`. NPU: a view.
    ///
    /// ```
    /// use ascend_tensor::{Tensor, ops::creation::Indexing};
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let (x, y) = (Tensor::new([1i64, 2]), Tensor::new([3i64, 4, 5]));
    /// let grids = Tensor::meshgrid(&[&x, &y], Indexing::Ij)?;
    /// assert_eq!(grids[0].to_vec::<i64>()?, [1, 1, 1, 2, 2, 2]);
    /// assert_eq!(grids[1].to_vec::<i64>()?, [3, 4, 5, 3, 4, 5]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Shape` for an input with two dims or more and for more than eight inputs, `DType` if the dtypes differ.
    pub fn meshgrid(tensors: &[&Tensor], indexing: Indexing) -> Result<Vec<Tensor>> {
        if let Some(wide) = tensors.iter().find(|tensor| tensor.rank() > 1) {
            return Err(Error::shape(
                "meshgrid",
                wide.shape(),
                "inputs with one dim or none",
            ));
        }
        if let [first, rest @ ..] = tensors
            && let Some(other) = rest.iter().find(|other| other.dtype() != first.dtype())
        {
            return Err(Error::dtype(
                "meshgrid",
                format!("{} and {}", first.dtype(), other.dtype()),
                "one dtype",
            ));
        }
        let grid: Shape = tensors.iter().map(|tensor| tensor.elements()).collect();
        grid.check("meshgrid")?;
        let along = |(own, tensor): (usize, &&Tensor)| {
            let line: Shape = (0..tensors.len())
                .map(|dim| if dim == own { tensor.elements() } else { 1 })
                .collect();
            let full = tensor.reshape(line)?.expand(grid)?;
            if indexing == Indexing::Xy && tensors.len() > 1 {
                full.transpose(0, 1)
            } else {
                Ok(full)
            }
        };
        tensors.iter().enumerate().map(along).collect()
    }
}
