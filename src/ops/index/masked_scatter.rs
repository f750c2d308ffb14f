//! `masked_scatter`: the places where a mask is true filled from a list of elements.

use super::check::read_back;
use super::masked_select::{positions, wants_mask};
use crate::cpu::gather::{Path, Paths, in_lanes, scatter};
use crate::mode::{Modes, current};
use crate::ops::prelude::*;

#[derive(Debug, Clone, Copy)]
struct MaskedScatter;

impl Tensor {
    /// This tensor with the places where a mask is true filled, in row-major order, from consecutive elements of `source`.
    ///
    /// Shapes: tensor and mask broadcast together; the source has any shape with enough elements. Dtypes: all, the source's
    /// equal to this tensor's; the mask `bool`. PyTorch: `torch.masked_scatter`. NPU: `aclnnInplaceCopy`,
    /// `aclnnInplaceMaskedScatter`.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([1i32, 2, 3]);
    /// let y = x.masked_scatter(&Tensor::new([true, false, true]), &Tensor::new([8i32, 9]))?;
    /// assert_eq!(y.to_vec::<i32>()?, [8, 2, 9]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Option` for too few elements (on the NPU under [`check_data`](crate::check_data) only), `DType`, `Broadcast`.
    pub fn masked_scatter(&self, mask: &Tensor, source: &Tensor) -> Result<Tensor> {
        let shape = self.shape().broadcast("masked_scatter", mask.shape())?;
        run_one(
            &MaskedScatter,
            &[
                &self.expand(shape)?,
                &mask.expand(shape)?,
                &source.reshape([source.elements()])?,
            ],
        )
    }
}

impl MaskedScatter {
    fn enough(&self, wanted: usize, given: usize) -> Result<()> {
        if wanted <= given {
            return Ok(());
        }
        Err(Error::option(
            self.name(),
            "source",
            format!("got {given} elements, wanted {wanted}, one for each place of the mask"),
        ))
    }
}

impl Op for MaskedScatter {
    fn name(&self) -> &'static str {
        "masked_scatter"
    }

    fn infer(&self, x: &[Meta], plan: &mut Plan) -> Result<()> {
        wants_mask(self.name(), &x[1])?;
        if x[2].dtype != x[0].dtype {
            return Err(Error::dtype(
                self.name(),
                format!("a source of {} for a tensor of {}", x[2].dtype, x[0].dtype),
                "equal dtypes",
            ));
        }
        plan.output(x[0].shape, x[0].dtype);
        Ok(())
    }

    fn cpu(&self, x: &[Host<'_>], y: &mut [HostMut<'_>]) -> Result<Counts> {
        let positions = positions(self.name(), &x[1])?;
        self.enough(positions.len(), x[2].elements())?;
        let source = x[2].with_layout(x[2].layout().slice(0, 0, positions.len(), 1));
        let paths = Paths {
            dims: smallvec![Path::Offsets(positions)],
            base: 0,
        };
        map::copy(&x[0], &mut y[0]);
        with_lane!(x[0].dtype(), T => in_lanes::<T>(self.name(), &mut y[0], |target| scatter(&source, &paths, target, |_, x| x))?);
        Ok(Counts::EXACT)
    }

    fn ascend(&self, cx: &Launch, x: &[Dev<'_>], y: &[Dev<'_>]) -> Result<Counts> {
        if current().has(Modes::CHECK_DATA) {
            let set = read_back(cx, &x[1])?
                .iter()
                .filter(|set| **set != 0)
                .count();
            self.enough(set, x[2].elements())?;
        }
        aclnn::inplace_copy(cx, &y[0], &x[0])?;
        if x[2].elements() > 0 {
            aclnn::inplace_masked_scatter(cx, &y[0], &x[1], &x[2])?;
        }
        Ok(Counts::EXACT)
    }

    fn gradient(&self) -> Gradient {
        Gradient::Backward
    }

    fn saves(&self) -> Saves {
        Saves::NOTHING.and_input(1)
    }

    /// The source's elements beyond those used have no influence.
    fn backward(&self, cx: &GradCx<'_>) -> Result<Grads> {
        let (dy, mask) = (cx.gradient()?, cx.input(1)?);
        let source = || {
            let shape = cx.meta(2)?.shape;
            let used = dy.masked_select(mask)?;
            used.place(shape, Layout::contiguous(*used.shape()))
        };
        Ok(smallvec![
            cx.want(0, || dy.masked_scatter(mask, &dy.zeros_like()?))?,
            None,
            cx.want(2, source)?
        ])
    }

    fn boxed(&self) -> Box<dyn Op> {
        Box::new(*self)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "masked_scatter",
    family: "index",
    kernels: &["aclnnInplaceCopy", "aclnnInplaceMaskedScatter"],
    samples,
};

fn samples() -> Vec<Sample> {
    let mask = SampleInput::typed([3, 4], DType::Bool, 0.0, 1.9);
    let inputs = vec![
        SampleInput::new([3, 4], -2.0, 2.0),
        mask,
        SampleInput::new([12], -2.0, 2.0),
    ];
    vec![Sample {
        op: Box::new(MaskedScatter),
        inputs,
        dtypes: DType::ALL,
    }]
}
