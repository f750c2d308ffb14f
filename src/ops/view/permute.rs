//! `permute` and `movedim`: the dims in another order, without a copy.

use super::{Rule, view_sample};
use crate::ops::prelude::*;
use crate::shape::MAX_RANK;

#[derive(Debug, Clone)]
struct Permute {
    dims: Axes,
}

impl Tensor {
    /// A view with the dims in another order: dim `i` of the result is dim `dims[i]` of this tensor.
    ///
    /// Dtypes: all. PyTorch: `torch.permute`. NPU: no kernel.
    ///
    /// ```
    /// use ascend_tensor::{DType, Device, Tensor};
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::zeros([2, 3, 4], DType::F32, Device::Cpu)?;
    /// assert_eq!(x.permute([2, 0, 1])?.dims(), [4, 2, 3]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Shape` if there are not as many dims as the tensor has, `Axis` for one out of range, `Option` for one given twice.
    pub fn permute(&self, dims: impl Into<Axes>) -> Result<Tensor> {
        self.viewed(Permute { dims: dims.into() })
    }

    /// A view with dims moved to other places; the others keep their order.
    ///
    /// Dtypes: all. PyTorch: `torch.movedim`. NPU: no kernel.
    ///
    /// ```
    /// use ascend_tensor::{DType, Device, Tensor};
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::zeros([2, 3, 4], DType::F32, Device::Cpu)?;
    /// assert_eq!(x.movedim(0, -1)?.dims(), [3, 4, 2]);
    /// assert_eq!(x.movedim([0, 1], [1, 2])?.dims(), [4, 2, 3]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Axis` for a dim out of range, `Option` for dims given twice or lists of different lengths.
    pub fn movedim(&self, source: impl Into<Axes>, destination: impl Into<Axes>) -> Result<Tensor> {
        let (source, destination) = (source.into(), destination.into());
        self.permute(moved(
            "movedim",
            self.shape(),
            source.as_slice(),
            destination.as_slice(),
        )?)
    }
}

/// The order of dims after moving some.
fn moved(op: &'static str, shape: &Shape, source: &[i64], destination: &[i64]) -> Result<Vec<i64>> {
    if source.len() != destination.len() {
        let why = format!(
            "got {} dims to move to {} places, wanted as many places as dims",
            source.len(),
            destination.len()
        );
        return Err(Error::option(op, "destination", why));
    }
    let mut taken = [false; MAX_RANK];
    let mut order: Vec<Option<usize>> = vec![None; shape.rank()];
    for (from, to) in source.iter().zip(destination) {
        let (from, to) = (
            shape.axis_or_scalar(op, *from)?,
            shape.axis_or_scalar(op, *to)?,
        );
        if std::mem::replace(&mut taken[from], true) {
            return Err(Error::option(
                op,
                "source",
                format!("dim {from} appears twice"),
            ));
        }
        if let Some(slot) = order.get_mut(to)
            && slot.replace(from).is_some()
        {
            return Err(Error::option(
                op,
                "destination",
                format!("dim {to} appears twice"),
            ));
        }
    }
    let mut rest = (0..shape.rank()).filter(|dim| !taken[*dim]);
    Ok(order
        .into_iter()
        .filter_map(|slot| slot.or_else(|| rest.next()))
        .map(|dim| dim as i64)
        .collect())
}

impl Permute {
    fn order(&self, shape: &Shape) -> Result<Vec<usize>> {
        let dims = self.dims.as_slice();
        if dims.len() != shape.rank() {
            return Err(Error::shape(
                Self::NAME,
                format!("{dims:?} for a tensor of {shape}"),
                "as many dims as the tensor has",
            ));
        }
        let order = dims
            .iter()
            .map(|dim| shape.axis(Self::NAME, *dim))
            .collect::<Result<Vec<usize>>>()?;
        match order
            .iter()
            .enumerate()
            .find(|(place, dim)| order[..*place].contains(dim))
        {
            Some((_, dim)) => Err(Error::option(
                Self::NAME,
                "dims",
                format!("dim {dim} appears twice"),
            )),
            None => Ok(order),
        }
    }
}

impl Rule for Permute {
    const NAME: &'static str = "permute";

    fn layout(&self, x: &Layout) -> Result<Layout> {
        Ok(x.permute(&self.order(x.shape())?))
    }

    fn gradient(&self, dy: &Tensor, shape: &Shape) -> Result<Tensor> {
        let mut back = vec![0; shape.rank()];
        for (place, dim) in self.order(shape)?.into_iter().enumerate() {
            back[dim] = place as i64;
        }
        dy.permute(back)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "permute",
    family: "view",
    kernels: &[],
    samples,
};

fn samples() -> Vec<Sample> {
    vec![view_sample(
        Permute {
            dims: [2, 0, 1].into(),
        },
        [2, 3, 4],
    )]
}
