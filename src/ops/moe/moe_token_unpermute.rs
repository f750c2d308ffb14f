//! `moe_token_unpermute`: rows of experts back at their tokens, weighted.

use super::matrix;
use crate::cpu::alloc::collected;
use crate::cpu::dense::lanes;
use crate::cpu::experts::{Sums, dots};
use crate::cpu::gather::{Paths, gather};
use crate::ops::elementwise::unary::may_fuse;
use crate::ops::index::{Negative, host_indices, index_dtype, on_device};
use crate::ops::prelude::*;

#[derive(Debug, Clone, Copy)]
struct MoeUnpermute {
    weighted: bool,
}

const NAME: &str = "moe_token_unpermute";

impl Tensor {
    /// For each token, the sum over its experts of `weights[i][j] x[places[i k + j]]`; without weights, the rows at their slots.
    ///
    /// The way back from [`Tensor::moe_token_permute`]. Shapes: rows `[m, h]`, places `[n k]`, weights `[n, k]` -> `[n, h]`;
    /// without weights `[n k, h]`. Dtypes: floats, weights of the same or f32 beside halves, places `i32` or `i64`; halves
    /// compute in f32. PyTorch: none. NPU: `aclnnMoeTokenUnpermute`, `aclnnMoeTokenUnpermuteGrad`.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let rows = Tensor::new([[1.0f32], [2.0], [4.0], [8.0]]);
    /// let places = Tensor::new([2i32, 0, 1, 3]);
    /// let weights = Tensor::new([[0.5f32, 0.5], [1.0, 0.0]]);
    /// let y = rows.moe_token_unpermute(&places, Some(&weights))?;
    /// assert_eq!(y.to_vec::<f32>()?, [2.5, 2.0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Shape` for sizes that do not fit, `DType` for other dtypes, `Index` for a place out of range (on the NPU only under
    /// [`check_data`](crate::check_data)).
    pub fn moe_token_unpermute(&self, places: &Tensor, weights: Option<&Tensor>) -> Result<Tensor> {
        let op = MoeUnpermute {
            weighted: weights.is_some(),
        };
        match weights {
            Some(weights) => run_one(&op, &[self, places, weights]),
            None => run_one(&op, &[self, places]),
        }
    }
}

/// Rows, their length, slots, and slots of each token.
fn sizes(x: &Shape, places: &Shape, weights: Option<&Shape>) -> Result<[usize; 4]> {
    let [rows, width] = matrix(NAME, "rows", x)?;
    let [slots] = <[usize; 1]>::try_from(places.dims())
        .map_err(|_| Error::shape(NAME, format!("places of {places}"), "one dim"))?;
    let k = match weights {
        None => 1,
        Some(shape) => {
            let [tokens, k] = matrix(NAME, "weights", shape)?;
            if tokens * k != slots {
                return Err(Error::shape(
                    NAME,
                    format!("weights of {shape} for {slots} places"),
                    "one for each place",
                ));
            }
            k
        }
    };
    Ok([rows, width, slots, k])
}

fn weight_dtype(x: DType, weight: DType) -> Result<()> {
    if weight == x || x.is_half() && weight == DType::F32 {
        return Ok(());
    }
    Err(Error::dtype(
        NAME,
        format!("weights of {weight} beside {x}"),
        "the same dtype, or f32 beside halves",
    ))
}

impl Op for MoeUnpermute {
    fn name(&self) -> &'static str {
        NAME
    }

    fn infer(&self, x: &[Meta], plan: &mut Plan) -> Result<()> {
        index_dtype(NAME, &x[1])?;
        let weights = x.get(2);
        if let Some(weights) = weights {
            crate::ops::norm::float_only(NAME, x[0].dtype)?;
            weight_dtype(x[0].dtype, weights.dtype)?;
        }
        let weights = weights.map(|weights| &weights.shape);
        let [_, width, slots, k] = sizes(&x[0].shape, &x[1].shape, weights)?;
        let tokens = weights.map_or(slots, |weights| weights.size(0));
        debug_assert!(tokens * k == slots);
        plan.output([tokens, width].into(), x[0].dtype);
        Ok(())
    }

    fn cpu(&self, x: &[Host<'_>], y: &mut [HostMut<'_>]) -> Result<Counts> {
        let rows = x[0].shape().size(0);
        let places = host_indices(NAME, &x[1], rows, Negative::Refused)?;
        let places = places.iter().map(|place| *place as usize);
        let Some(weights) = x.get(2) else {
            let paths = Paths::of(x[0].layout()).with_indices(NAME, 0, places)?;
            gather(&x[0], &paths, 0, &mut y[0]);
            return Ok(Counts::EXACT);
        };
        let k = weights.shape().size(1);
        let rows = (weights.shape().size(0), k);
        with_float!(x[0].dtype(), T => {
            let weights = lanes::<T>(NAME, weights)?;
            Sums::in_turn(NAME, rows, places.zip(weights))?.run(&x[0], &mut y[0]);
        });
        Ok(Counts::EXACT)
    }

    fn ascend(&self, cx: &Launch, x: &[Dev<'_>], y: &[Dev<'_>]) -> Result<Counts> {
        on_device(cx, &x[1], x[0].shape().size(0), Negative::Refused)?;
        let places = cx.cast(&x[1], DType::I32)?;
        let places = places.dev();
        aclnn::moe_token_unpermute(cx, &x[0], &places, x.get(2), false, None, &y[0])?;
        Ok(Counts::EXACT)
    }

    fn compose(&self, x: &[Tensor]) -> Result<Outputs> {
        let weights = x.get(2).map(Tensor::shape);
        let [_, width, _, k] = sizes(x[0].shape(), x[1].shape(), weights)?;
        let rows = x[0].index_select(0, &x[1])?;
        let Some(weights) = x.get(2) else {
            return Ok(smallvec![rows]);
        };
        let tokens = weights.shape().size(0);
        let wide = |x: &Tensor| x.to_dtype(x.dtype().compute());
        let weighted = wide(&rows)?
            .reshape([tokens, k, width])?
            .mul(&wide(weights)?.unsqueeze(-1)?)?;
        Ok(smallvec![weighted.sum(1)?.to_dtype(x[0].dtype())?])
    }

    fn gradient(&self) -> Gradient {
        Gradient::Backward
    }

    fn backward(&self, cx: &GradCx<'_>) -> Result<Grads> {
        let op = MoeUnpermuteBackward;
        let mut inputs = vec![cx.gradient()?, cx.input(0)?, cx.input(1)?];
        if self.weighted {
            inputs.push(cx.input(2)?);
        }
        let made = if may_fuse() {
            run(&op, &inputs)?
        } else {
            let inputs: Vec<Tensor> = inputs.into_iter().cloned().collect();
            op.compose(&inputs)?
        };
        let mut made = made.into_iter();
        let (dx, dweights) = (made.next(), made.next());
        if self.weighted {
            Ok(smallvec![dx, None, dweights])
        } else {
            Ok(smallvec![dx, None])
        }
    }

    fn boxed(&self) -> Box<dyn Op> {
        Box::new(*self)
    }
}

/// From `dy`, the rows, the places and the weights: `dx[places[s]] += weights[s] dy[s / k]`, `dweights[s] = dy[s / k] . x[places[s]]`.
#[derive(Debug, Clone, Copy)]
struct MoeUnpermuteBackward;

impl Op for MoeUnpermuteBackward {
    fn name(&self) -> &'static str {
        "moe_token_unpermute_backward"
    }

    fn infer(&self, x: &[Meta], plan: &mut Plan) -> Result<()> {
        plan.output(x[1].shape, x[1].dtype);
        if let Some(weights) = x.get(3) {
            plan.output(weights.shape, weights.dtype);
        }
        Ok(())
    }

    fn cpu(&self, x: &[Host<'_>], y: &mut [HostMut<'_>]) -> Result<Counts> {
        let weights = x.get(3);
        let [rows, _, _, k] = sizes(x[1].shape(), x[2].shape(), weights.map(Host::shape))?;
        let places = host_indices(NAME, &x[2], rows, Negative::Refused)?;
        with_lane!(x[1].dtype(), T => {
            let weights = weights.map(|own| lanes::<T>(NAME, own)).transpose()?;
            let weight = |slot: usize| weights.as_ref().and_then(|all| all.get(slot).copied());
            let term = |slot: usize| (slot / k.max(1), weight(slot).unwrap_or(T::ONE));
            Sums::by_place(NAME, (&places, rows), term)?.run(&x[0], &mut y[0]);
            if let Some(dweights) = y.get_mut(1) {
                let pairs = places.iter().enumerate();
                let pairs = pairs.map(|(slot, place)| (slot / k.max(1), *place as usize));
                dots::<T>(NAME, &x[0], &x[1], &collected(NAME, pairs)?, dweights)?;
            }
        });
        Ok(Counts::EXACT)
    }

    fn ascend(&self, cx: &Launch, x: &[Dev<'_>], y: &[Dev<'_>]) -> Result<Counts> {
        let places = cx.cast(&x[2], DType::I32)?;
        let unused = cx.temporary([0], x[1].dtype())?;
        let unused = unused.dev();
        let dweights = y.get(1).unwrap_or(&unused);
        let places = places.dev();
        aclnn::moe_token_unpermute_grad(
            cx,
            &x[1],
            &x[0],
            &places,
            x.get(3),
            false,
            None,
            &y[0],
            dweights,
        )?;
        Ok(Counts::EXACT)
    }

    fn compose(&self, x: &[Tensor]) -> Result<Outputs> {
        let wide = |x: &Tensor| x.to_dtype(x.dtype().compute());
        let (dy, rows) = (wide(&x[0])?, wide(&x[1])?);
        let zeros = rows.detach().zeros_like()?;
        let Some(weights) = x.get(3) else {
            let dx = zeros.index_add(0, &x[2], &dy, ())?;
            return Ok(smallvec![dx.to_dtype(x[1].dtype())?]);
        };
        let (tokens, k, width) = (
            weights.shape().size(0),
            weights.shape().size(1),
            rows.shape().size(1),
        );
        let each = dy.unsqueeze(1)?;
        let spread = wide(weights)?.unsqueeze(-1)?.mul(&each)?;
        let dx = zeros.index_add(0, &x[2], &spread.reshape([tokens * k, width])?, ())?;
        let own = rows.index_select(0, &x[2])?.reshape([tokens, k, width])?;
        Ok(smallvec![
            dx.to_dtype(x[1].dtype())?,
            own.mul(&each)?.sum(-1)?.to_dtype(weights.dtype())?,
        ])
    }

    fn gradient(&self) -> Gradient {
        Gradient::Compose
    }

    fn boxed(&self) -> Box<dyn Op> {
        Box::new(*self)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: NAME,
    family: "moe",
    kernels: &["aclnnMoeTokenUnpermute", "aclnnMoeTokenUnpermuteGrad"],
    samples,
};

fn samples() -> Vec<Sample> {
    let sample = |weighted: bool| {
        let mut inputs = vec![
            SampleInput::new([6, 4], -2.0, 2.0),
            SampleInput::typed([6], DType::I32, 0.0, 5.9),
        ];
        inputs.resize(
            2 + usize::from(weighted),
            SampleInput::new([3, 2], 0.1, 1.0),
        );
        Sample {
            op: Box::new(MoeUnpermute { weighted }),
            inputs,
            dtypes: FLOATS,
        }
    };
    vec![sample(true), sample(false)]
}
