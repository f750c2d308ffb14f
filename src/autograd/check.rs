//! Gradient checking: a backward pass against central differences.
//!
//! Knows functions of tensors only. Must not know ops or the tape's insides.

use crate::dtype::DType;
use crate::error::{BackwardFault, Error, Mismatch, Result};
use crate::mode::{enable_grad, no_grad};
use crate::op::Tolerance;
use crate::tensor::Tensor;

/// Settings of [`gradcheck`].
#[derive(Debug, Clone, Copy)]
#[must_use]
pub struct CheckOptions {
    step: f64,
    tolerance: Tolerance,
}

impl Default for CheckOptions {
    fn default() -> Self {
        CheckOptions {
            step: 1e-6,
            tolerance: Tolerance {
                rtol: 1e-4,
                atol: 1e-6,
            },
        }
    }
}

impl CheckOptions {
    /// Steps of 1e-6, and a tolerance of 1e-4 relative and 1e-6 absolute.
    pub fn new() -> Self {
        CheckOptions::default()
    }

    /// The distance by which each element is moved both ways.
    pub fn step(mut self, step: f64) -> Self {
        self.step = step;
        self
    }

    /// How close the gradients must come to the differences.
    pub fn tolerance(mut self, tolerance: Tolerance) -> Self {
        self.tolerance = tolerance;
        self
    }
}

/// Compares the gradients of `function` for its `f64` inputs with central differences.
///
/// The outputs are weighted with fixed irregular numbers and summed, so that errors of opposite sign do not cancel.
/// Inputs of other dtypes are held constant.
///
/// ```
/// use ascend_tensor::Tensor;
/// use ascend_tensor::autograd::check::{CheckOptions, gradcheck};
/// # fn main() -> ascend_tensor::Result<()> {
/// let x = Tensor::new([0.5f64, -1.5]);
/// gradcheck(|x| x[0].mul(&x[0]), &[x], CheckOptions::new())?;
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// [`Error::Mismatch`] with the worst element (its `output` is the input's number); errors of `function`.
pub fn gradcheck(
    function: impl Fn(&[Tensor]) -> Result<Tensor>,
    inputs: &[Tensor],
    options: CheckOptions,
) -> Result<()> {
    let leaves = inputs.iter().map(|input| {
        if input.dtype() == DType::F64 {
            input.requires_grad()
        } else {
            Ok(input.clone())
        }
    });
    let leaves: Vec<Tensor> = leaves.collect::<Result<_>>()?;
    let gradients = enable_grad(|| weighted(&function(&leaves)?)?.backward())?;
    for (number, leaf) in leaves
        .iter()
        .enumerate()
        .filter(|(_, leaf)| leaf.is_tracked())
    {
        let got = match gradients.get(leaf) {
            Some(gradient) => gradient.to_f64_vec()?,
            None => vec![0.0; leaf.elements()],
        };
        let want = no_grad(|| differences(&function, inputs, number, options.step))?;
        compare(number, leaf, &got, &want, options.tolerance)?;
    }
    Ok(())
}

/// As [`gradcheck`], for the gradients of the gradients.
///
/// # Errors
/// As [`gradcheck`], and where the backward pass cannot be recorded.
pub fn gradgradcheck(
    function: impl Fn(&[Tensor]) -> Result<Tensor>,
    inputs: &[Tensor],
    options: CheckOptions,
) -> Result<()> {
    let first = |x: &[Tensor]| -> Result<Tensor> {
        enable_grad(|| {
            let leaves = x.iter().map(|input| match input.dtype() {
                DType::F64 if !input.is_tracked() => input.requires_grad(),
                _ => Ok(input.clone()),
            });
            let leaves: Vec<Tensor> = leaves.collect::<Result<_>>()?;
            let gradients = weighted(&function(&leaves)?)?
                .backward_with(crate::BackwardOptions::new().create_graph())?;
            let mut total: Option<Tensor> = None;
            for gradient in leaves.iter().filter_map(|leaf| gradients.get(leaf)) {
                let sum = weighted(gradient)?;
                total = Some(total.map_or(Ok(sum.clone()), |total| total.add(&sum))?);
            }
            total.ok_or(Error::Backward {
                op: "gradgradcheck",
                why: BackwardFault::NotTracked,
            })
        })
    };
    gradcheck(first, inputs, options)
}

/// The sum of a tensor's elements with fixed irregular weights.
fn weighted(x: &Tensor) -> Result<Tensor> {
    let weights: Vec<f64> = (0..x.elements())
        .map(|index| (index as f64 * 0.7 + 0.3).sin() + 1.25)
        .collect();
    let weights = Tensor::from_vec(weights, *x.shape())?.to_device(x.device())?;
    x.to_dtype(DType::F64)?.mul(&weights)?.sum(())
}

fn differences(
    function: &impl Fn(&[Tensor]) -> Result<Tensor>,
    inputs: &[Tensor],
    number: usize,
    step: f64,
) -> Result<Vec<f64>> {
    let Some(input) = inputs.get(number) else {
        return Ok(Vec::new());
    };
    let values = input.to_f64_vec()?;
    let at = |position: usize, value: f64| -> Result<f64> {
        let mut moved = values.clone();
        if let Some(slot) = moved.get_mut(position) {
            *slot = value;
        }
        let mut all = inputs.to_vec();
        all[number] = Tensor::from_vec(moved, *input.shape())?.to_device(input.device())?;
        weighted(&function(&all)?)?.detach().item()
    };
    let slope = |(position, value): (usize, &f64)| {
        Ok((at(position, value + step)? - at(position, value - step)?) / (2.0 * step))
    };
    values.iter().enumerate().map(slope).collect()
}

fn compare(
    number: usize,
    leaf: &Tensor,
    got: &[f64],
    want: &[f64],
    tolerance: Tolerance,
) -> Result<()> {
    let excess = |(got, want): (&f64, &f64)| {
        (got - want).abs() - (tolerance.atol + tolerance.rtol * want.abs())
    };
    let wrong = |excess: &f64| *excess > 0.0 || excess.is_nan();
    let excesses: Vec<f64> = got.iter().zip(want).map(excess).collect();
    let count = excesses.iter().filter(|excess| wrong(excess)).count();
    let Some(position) = (0..excesses.len())
        .filter(|at| wrong(&excesses[*at]))
        .max_by(|a, b| excesses[*a].total_cmp(&excesses[*b]))
    else {
        return Ok(());
    };
    let Tolerance { rtol, atol } = tolerance;
    let (got, want) = (got[position], want[position]);
    Err(Error::Mismatch(Box::new(Mismatch {
        op: "gradcheck",
        inputs: format!("{} {}", leaf.dtype(), leaf.shape()).into(),
        output: number,
        position,
        device: leaf.device(),
        got,
        want,
        rtol,
        atol,
        count,
    })))
}
