//! `roll`: cyclic shifts along dims.

use crate::cpu::gather::{Paths, gather};
use crate::ops::prelude::*;

#[derive(Debug, Clone)]
struct Roll {
    shifts: Vec<i64>,
    dims: Vec<i64>,
}

impl Tensor {
    /// Shifts elements along dims, those that leave one end entering at the other; without dims (`()`), along the flattened
    /// tensor.
    ///
    /// Element `i` moves to `(i + shift) mod n`. Dtypes: all. PyTorch: `torch.roll`. NPU: `aclnnRoll`.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([[1i32, 2, 3], [4, 5, 6]]);
    /// assert_eq!(x.roll(&[1], 1)?.to_vec::<i32>()?, [3, 1, 2, 6, 4, 5]);
    /// assert_eq!(x.roll(&[1], ())?.to_vec::<i32>()?, [6, 1, 2, 3, 4, 5]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Axis` for a dim out of range, `Option` if there are not as many shifts as dims.
    pub fn roll(&self, shifts: &[i64], dims: impl Into<Axes>) -> Result<Tensor> {
        let (shifts, dims) = (shifts.to_vec(), dims.into().as_slice().to_vec());
        if dims.is_empty() && shifts.len() == 1 {
            return run_one(
                &Roll {
                    shifts,
                    dims: vec![0],
                },
                &[&self.reshape([self.elements()])?],
            )?
            .reshape(*self.shape());
        }
        run_one(&Roll { shifts, dims }, &[self])
    }
}

impl Roll {
    /// The dims with their shifts in `0..size`.
    fn turns(&self, shape: &Shape) -> Result<Vec<(usize, usize)>> {
        if self.shifts.len() != self.dims.len() || self.shifts.is_empty() {
            let why = format!(
                "got {} shifts for {} dims, wanted one for each",
                self.shifts.len(),
                self.dims.len()
            );
            return Err(Error::option(self.name(), "shifts", why));
        }
        let turn = |(dim, shift): (&i64, &i64)| {
            let dim = shape.axis(self.name(), *dim)?;
            Ok((
                dim,
                shift.rem_euclid(shape.size(dim).max(1) as i64) as usize,
            ))
        };
        self.dims.iter().zip(&self.shifts).map(turn).collect()
    }
}

impl Op for Roll {
    fn name(&self) -> &'static str {
        "roll"
    }

    fn infer(&self, x: &[Meta], plan: &mut Plan) -> Result<()> {
        self.turns(&x[0].shape)?;
        plan.output(x[0].shape, x[0].dtype);
        Ok(())
    }

    fn cpu(&self, x: &[Host<'_>], y: &mut [HostMut<'_>]) -> Result<Counts> {
        let mut shifts = [0usize; crate::shape::MAX_RANK];
        for (dim, shift) in self.turns(x[0].shape())? {
            shifts[dim] += shift;
        }
        if y[0].elements() == 0 {
            // A dim may be of any size beside an empty one: no table of it.
            return Ok(Counts::EXACT);
        }
        let turn = |paths: Paths, dim: usize| {
            let size = x[0].shape().size(dim);
            paths.with_indices(
                self.name(),
                dim,
                (0..size).map(|index| (index + size - shifts[dim] % size) % size),
            )
        };
        let paths = (0..x[0].shape().rank())
            .filter(|dim| shifts[*dim] != 0)
            .try_fold(Paths::of(x[0].layout()), turn)?;
        gather(&x[0], &paths, 0, &mut y[0]);
        Ok(Counts::EXACT)
    }

    fn ascend(&self, cx: &Launch, x: &[Dev<'_>], y: &[Dev<'_>]) -> Result<Counts> {
        let (dims, shifts): (Vec<i64>, Vec<i64>) = self
            .turns(x[0].shape())?
            .into_iter()
            .map(|(dim, shift)| (dim as i64, shift as i64))
            .unzip();
        aclnn::roll(cx, &x[0], &shifts, &dims, &y[0])?;
        Ok(Counts::EXACT)
    }

    fn gradient(&self) -> Gradient {
        Gradient::Backward
    }

    fn saves(&self) -> Saves {
        Saves::NOTHING
    }

    fn backward(&self, cx: &GradCx<'_>) -> Result<Grads> {
        let back = Roll {
            shifts: self
                .shifts
                .iter()
                .map(|shift| shift.saturating_neg())
                .collect(),
            dims: self.dims.clone(),
        };
        Ok(smallvec![Some(run_one(&back, &[cx.gradient()?])?)])
    }

    fn boxed(&self) -> Box<dyn Op> {
        Box::new(self.clone())
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "roll",
    family: "view",
    kernels: &["aclnnRoll"],
    samples,
};

fn samples() -> Vec<Sample> {
    let op = Box::new(Roll {
        shifts: vec![1, -2],
        dims: vec![0, 2],
    });
    vec![Sample {
        op,
        inputs: vec![SampleInput::new([2, 3, 5], -2.0, 2.0)],
        dtypes: DType::ALL,
    }]
}
