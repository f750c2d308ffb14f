//! `tril` and `triu`: one triangle of the last two dims, the rest zero.

use crate::cpu::gather::clear_rows;
use crate::ops::prelude::*;

#[derive(Debug, Clone, Copy)]
struct Triangle {
    upper: bool,
    diagonal: i64,
}

impl Tensor {
    /// The lower triangle of the last two dims: elements above the diagonal `diagonal` (0 the main one, positive above it)
    /// become zero.
    ///
    /// Shapes: `[.., m, n]`. Dtypes: all. PyTorch: `torch.tril`. NPU: `aclnnTril`.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([[1i32, 2], [3, 4]]);
    /// assert_eq!(x.tril(0)?.to_vec::<i32>()?, [1, 0, 3, 4]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Shape` for fewer than two dims.
    pub fn tril(&self, diagonal: i64) -> Result<Tensor> {
        run_one(
            &Triangle {
                upper: false,
                diagonal,
            },
            &[self],
        )
    }

    /// The upper triangle of the last two dims: elements below the diagonal `diagonal` become zero.
    ///
    /// Shapes: `[.., m, n]`. Dtypes: all. PyTorch: `torch.triu`. NPU: `aclnnTriu`.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([[1i32, 2], [3, 4]]);
    /// assert_eq!(x.triu(1)?.to_vec::<i32>()?, [0, 2, 0, 0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Shape` for fewer than two dims.
    pub fn triu(&self, diagonal: i64) -> Result<Tensor> {
        run_one(
            &Triangle {
                upper: true,
                diagonal,
            },
            &[self],
        )
    }
}

impl Op for Triangle {
    fn name(&self) -> &'static str {
        if self.upper { "triu" } else { "tril" }
    }

    fn infer(&self, x: &[Meta], plan: &mut Plan) -> Result<()> {
        if x[0].shape.rank() < 2 {
            return Err(Error::shape(self.name(), x[0].shape, "at least two dims"));
        }
        plan.output(x[0].shape, x[0].dtype);
        Ok(())
    }

    fn cpu(&self, x: &[Host<'_>], y: &mut [HostMut<'_>]) -> Result<Counts> {
        let dims = x[0].shape().dims();
        let [.., rows, columns] = *dims else {
            return Ok(Counts::EXACT);
        };
        map::copy(&x[0], &mut y[0]);
        let cut = |row: usize| {
            let edge = ((row % rows.max(1)) as i64)
                .saturating_add(self.diagonal)
                .saturating_add(i64::from(!self.upper));
            edge.clamp(0, columns as i64) as usize
        };
        clear_rows(&mut y[0], columns, |row| {
            if self.upper {
                0..cut(row)
            } else {
                cut(row)..columns
            }
        });
        Ok(Counts::EXACT)
    }

    fn ascend(&self, cx: &Launch, x: &[Dev<'_>], y: &[Dev<'_>]) -> Result<Counts> {
        let kernel = if self.upper { aclnn::triu } else { aclnn::tril };
        kernel(cx, &x[0], self.diagonal, &y[0])?;
        Ok(Counts::EXACT)
    }

    fn gradient(&self) -> Gradient {
        Gradient::Backward
    }

    fn saves(&self) -> Saves {
        Saves::NOTHING
    }

    fn backward(&self, cx: &GradCx<'_>) -> Result<Grads> {
        Ok(smallvec![Some(run_one(self, &[cx.gradient()?])?)])
    }

    fn boxed(&self) -> Box<dyn Op> {
        Box::new(*self)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "tril",
    family: "view",
    kernels: &["aclnnTril", "aclnnTriu"],
    samples,
};

fn samples() -> Vec<Sample> {
    let one = |upper, diagonal| {
        let op = Box::new(Triangle { upper, diagonal });
        Sample {
            op,
            inputs: vec![SampleInput::new([2, 3, 4], -2.0, 2.0)],
            dtypes: DType::ALL,
        }
    };
    vec![one(false, 0), one(true, 1)]
}
