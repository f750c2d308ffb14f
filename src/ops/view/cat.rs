//! `cat`: tensors one after another along a dim.

use crate::ops::prelude::*;

#[derive(Debug, Clone, Copy)]
struct Cat {
    dim: i64,
}

impl Tensor {
    /// The tensors one after another along a dim; dtypes promote.
    ///
    /// Shapes: equal but for `dim`; one-dimensional tensors without elements are skipped. Dtypes: all. PyTorch: `torch.cat`.
    /// NPU: `aclnnCat`.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let (x, y) = (Tensor::new([[1i32, 2]]), Tensor::new([[3i32, 4], [5, 6]]));
    /// assert_eq!(Tensor::cat(&[&x, &y], 0)?.to_vec::<i32>()?, [1, 2, 3, 4, 5, 6]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Option` for no tensors, `Shape` if they do not fit or have no dims, `Axis` for a dim out of range.
    pub fn cat(tensors: &[&Tensor], dim: i64) -> Result<Tensor> {
        run_one(&Cat { dim }, tensors)
    }
}

/// Whether a tensor of this shape is left out.
fn is_skipped(shape: &Shape) -> bool {
    shape.dims() == [0]
}

impl Cat {
    /// The dim and the shape of the result.
    fn result(&self, shapes: impl Iterator<Item = Shape> + Clone) -> Result<(usize, Shape)> {
        let (op, mut all) = (self.name(), shapes.clone());
        if shapes.clone().any(|shape| shape.rank() == 0) {
            return Err(Error::shape(
                op,
                "a tensor without dims",
                "tensors with at least one dim",
            ));
        }
        let first = all
            .clone()
            .find(|shape| !is_skipped(shape))
            .or_else(|| all.next());
        let first =
            first.ok_or_else(|| Error::option(op, "tensors", "got none, wanted at least one"))?;
        let dim = first.axis(op, self.dim)?;
        let mut size = 0usize;
        for shape in shapes.filter(|shape| !is_skipped(shape)) {
            if shape.rank() != first.rank() || shape.with(dim, 0) != first.with(dim, 0) {
                return Err(Error::shape(
                    op,
                    format!("{first} and {shape}"),
                    "equal sizes in all other dims",
                ));
            }
            size = size.saturating_add(shape.size(dim));
        }
        Ok((dim, first.with(dim, size)))
    }
}

impl Op for Cat {
    fn name(&self) -> &'static str {
        "cat"
    }

    fn infer(&self, x: &[Meta], plan: &mut Plan) -> Result<()> {
        let (_, shape) = self.result(x.iter().map(|meta| meta.shape))?;
        let dtype = result_type(x, &[]);
        for (index, _) in x.iter().enumerate().filter(|(_, meta)| meta.dtype != dtype) {
            plan.cast(index, dtype);
        }
        plan.output(shape, dtype);
        Ok(())
    }

    fn cpu(&self, x: &[Host<'_>], y: &mut [HostMut<'_>]) -> Result<Counts> {
        let (dim, _) = self.result(x.iter().map(|x| *x.shape()))?;
        let whole = *y[0].layout();
        let mut start = 0;
        for x in x.iter().filter(|x| !is_skipped(x.shape())) {
            let size = x.shape().size(dim);
            map::copy(x, &mut y[0].with_layout(whole.slice(dim, start, size, 1)));
            start += size;
        }
        Ok(Counts::EXACT)
    }

    fn ascend(&self, cx: &Launch, x: &[Dev<'_>], y: &[Dev<'_>]) -> Result<Counts> {
        let (dim, _) = self.result(x.iter().map(|x| *x.shape()))?;
        let parts: Vec<Dev<'_>> = x.iter().filter(|x| x.elements() > 0).copied().collect();
        aclnn::cat(cx, &parts, dim as i64, &y[0])?;
        Ok(Counts::EXACT)
    }

    fn gradient(&self) -> Gradient {
        Gradient::Backward
    }

    fn saves(&self) -> Saves {
        Saves::NOTHING
    }

    fn backward(&self, cx: &GradCx<'_>) -> Result<Grads> {
        let dy = cx.gradient()?;
        let metas = (0..cx.len())
            .map(|index| cx.meta(index))
            .collect::<Result<Vec<Meta>>>()?;
        let (dim, _) = self.result(metas.iter().map(|meta| meta.shape))?;
        let mut start = 0;
        let mut part = |(index, meta): (usize, &Meta)| {
            if is_skipped(&meta.shape) {
                return cx.want(index, || Tensor::zeros(meta.shape, dy.dtype(), dy.device()));
            }
            let (from, size) = (start, meta.shape.size(dim));
            start += size;
            cx.want(index, || dy.narrow(dim as i64, from as i64, size as i64))
        };
        metas.iter().enumerate().map(&mut part).collect()
    }

    fn cast(&self) -> CastRule {
        CastRule::Widest
    }

    fn boxed(&self) -> Box<dyn Op> {
        Box::new(*self)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "cat",
    family: "view",
    kernels: &["aclnnCat"],
    samples,
};

fn samples() -> Vec<Sample> {
    let inputs = [2, 1, 3].map(|size| SampleInput::new([2, size, 3], -2.0, 2.0));
    vec![Sample {
        op: Box::new(Cat { dim: -2 }),
        inputs: inputs.to_vec(),
        dtypes: DType::ALL,
    }]
}
