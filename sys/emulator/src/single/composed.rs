//! Operators of the older interface that no aclnn function computes: products with other sums, parts of norms.
//!
//! Knows the kernel interface; it must not know streams, handles or device memory.

use super::recipes::Build;
use super::{Recipe, Request, expect_real, scalar, some};
use crate::failure::{Fault, Refusal};
use crate::kernel::{Arg, Call, Work};
use crate::kernels::common::{broadcast_positions, load_broadcast, volume};
use crate::shims::Op;
use crate::tensor::Tensor;
use ndarray::{ArrayView2, ArrayViewMut2, linalg::general_mat_mul};

pub(super) const RECIPES: &[(&str, Build)] = &[
    ("GEMM", gemm),
    ("LpNormReduceV2", norm_sum),
    ("LpNormUpdateV2", norm_root),
];

static PRODUCT: Op = Op {
    name: "MatMul",
    first: "MatMul",
    parameters: &["x1", "x2", "bias", "y"],
    outputs: &[3],
};

static GEMM: Op = Op {
    name: "GEMM",
    first: "GEMM",
    parameters: &["a", "b", "c", "alpha", "beta", "y"],
    outputs: &[5],
};

static NORM_SUM: Op = Op {
    name: "LpNormReduceV2",
    first: "LpNormReduceV2",
    parameters: &["x", "p", "axes", "keepdim", "y"],
    outputs: &[4],
};

static NORM_ROOT: Op = Op {
    name: "LpNormUpdateV2",
    first: "LpNormUpdateV2",
    parameters: &["x", "p", "epsilon", "y"],
    outputs: &[3],
};

/// A product of matrices whose sums have another type than the operands, or that gets a bias.
pub(super) fn product(
    request: &Request,
    a: Tensor,
    b: Tensor,
    bias: Option<Tensor>,
    y: Tensor,
) -> Result<Recipe, Refusal> {
    if request.inputs.get(3).is_some_and(Option::is_some) {
        return Err(Refusal::unsupported("products with an offset"));
    }
    Ok(Recipe {
        op: &PRODUCT,
        prepare: multiply,
        args: vec![some(a), some(b), Arg::Tensor(bias), some(y)],
    })
}

/// Where each matrix of a product lies in its operands, and the sizes of one.
struct Batches {
    sizes: [usize; 3],
    places: [Vec<usize>; 2],
}

fn batches(call: &Call, a: &Tensor, b: &Tensor, y: &Tensor) -> Result<Batches, Refusal> {
    expect_real(call, &[a, b, y])?;
    call.expect_dtype("the second operand", b, &[a.dtype()])?;
    let ([lead_a @ .., m, k], [lead_b @ .., other, n]) = (a.shape(), b.shape()) else {
        return Err(call.invalid(format!(
            "shapes {:?} and {:?}, wanted matrices",
            a.shape(),
            b.shape()
        )));
    };
    if k != other {
        return Err(call.invalid(format!("{:?} and {:?} share no dim", a.shape(), b.shape())));
    }
    let lead = call.broadcast(&[lead_a, lead_b])?;
    call.expect_shape("y", y, &[&lead[..], &[*m, *n]].concat())?;
    Ok(Batches {
        sizes: [*m, *k, *n],
        places: [
            broadcast_positions(lead_a, &lead),
            broadcast_positions(lead_b, &lead),
        ],
    })
}

/// All matrices of a product, in f64: whole for integers, and no rounding of its own for the rest.
fn products(batches: &Batches, a: &Tensor, b: &Tensor) -> Result<Vec<f64>, Fault> {
    let [m, k, n] = batches.sizes;
    let (left, right) = (a.load_vec::<f64>(), b.load_vec::<f64>());
    let mut result = vec![0f64; batches.places[0].len() * m * n];
    let places = batches.places[0].iter().zip(&batches.places[1]);
    let shape = |error: ndarray::ShapeError| Fault::exception(error.to_string());
    for ((&at, &other), out) in places.zip(result.chunks_exact_mut((m * n).max(1))) {
        let x = ArrayView2::from_shape((m, k), &left[at * m * k..][..m * k]).map_err(shape)?;
        let y = ArrayView2::from_shape((k, n), &right[other * k * n..][..k * n]).map_err(shape)?;
        let mut out = ArrayViewMut2::from_shape((m, n), out).map_err(shape)?;
        general_mat_mul(1.0, &x, &y, 0.0, &mut out);
    }
    Ok(result)
}

fn multiply(call: &Call) -> Result<Work, Refusal> {
    let (a, b, y) = (call.tensor(0)?, call.tensor(1)?, call.tensor(3)?);
    let bias = call.optional_tensor(2);
    let plan = batches(call, &a, &b, &y)?;
    let n = plan.sizes[2];
    if let Some(bias) = &bias
        && bias.count() != n
    {
        return Err(call.invalid(format!("bias has shape {:?}, wanted [{n}]", bias.shape())));
    }
    if y.is_empty() {
        return Ok(Work::nothing());
    }
    Ok(Work::new(move || {
        let mut result = products(&plan, &a, &b)?;
        if let Some(bias) = &bias {
            let bias = bias.load_vec::<f64>();
            for line in result.chunks_exact_mut(n) {
                line.iter_mut()
                    .zip(&bias)
                    .for_each(|(value, own)| *value += own);
            }
        }
        y.store_slice(&result)
    }))
}

/// y = alpha a b + beta c, the factors being tensors of one element.
fn gemm(request: &Request) -> Result<Recipe, Refusal> {
    let turned = |tensor: Tensor, name: &str| match request.flag(name, false)? {
        true => super::transposed(&tensor),
        false => Ok(tensor),
    };
    let a = turned(request.input(0)?, "transpose_a")?;
    let b = turned(request.input(1)?, "transpose_b")?;
    let [c, alpha, beta] = [request.input(2)?, request.input(3)?, request.input(4)?];
    Ok(Recipe {
        op: &GEMM,
        prepare: scaled_product,
        args: [a, b, c, alpha, beta, request.output(0)?]
            .into_iter()
            .map(some)
            .collect(),
    })
}

fn scaled_product(call: &Call) -> Result<Work, Refusal> {
    let (a, b, c, y) = (
        call.tensor(0)?,
        call.tensor(1)?,
        call.tensor(2)?,
        call.tensor(5)?,
    );
    let factors = [call.tensor(3)?, call.tensor(4)?];
    let plan = batches(call, &a, &b, &y)?;
    call.expect_shape("c", &c, y.shape())?;
    for factor in &factors {
        if factor.count() != 1 {
            return Err(call.invalid(format!("a factor has shape {:?}", factor.shape())));
        }
    }
    if y.is_empty() {
        return Ok(Work::nothing());
    }
    Ok(Work::new(move || {
        let (alpha, beta) = (factors[0].load_one::<f64>(), factors[1].load_one::<f64>());
        let mut result = products(&plan, &a, &b)?;
        // As in BLAS: where beta is 0, what c holds does not count.
        let more = match beta == 0.0 {
            true => vec![0.0; result.len()],
            false => load_broadcast::<f64>(&c, y.shape()),
        };
        for (value, c) in result.iter_mut().zip(more) {
            *value = alpha * *value + if beta == 0.0 { 0.0 } else { beta * c };
        }
        y.store_slice(&result)
    }))
}

/// The order of a norm: a number, or an integer attribute whose ends mean infinity.
fn order(request: &Request) -> Result<f32, Refusal> {
    match request.float("p", 2.0)? {
        p if p >= i32::MAX as f32 => Ok(f32::INFINITY),
        p if p <= i32::MIN as f32 => Ok(f32::NEG_INFINITY),
        p => Ok(p),
    }
}

fn norm_sum(request: &Request) -> Result<Recipe, Refusal> {
    let x = request.input(0)?;
    let axes = request.list("axes", &[])?;
    let keep = request.flag("keepdim", false)?;
    Ok(Recipe {
        op: &NORM_SUM,
        prepare: power_sum,
        args: vec![
            some(x),
            Arg::Float(f64::from(order(request)?)),
            Arg::Ints(Some(axes)),
            Arg::Bool(keep),
            some(request.output(0)?),
        ],
    })
}

/// The sum of |x|^p along some axes; the greatest or smallest |x|, or the number of those that are not 0, for p = inf, -inf, 0.
fn power_sum(call: &Call) -> Result<Work, Refusal> {
    let (x, p, axes) = (call.tensor(0)?, call.float(1)?, call.ints(2)?);
    let (keep, y) = (call.bool(3)?, call.tensor(4)?);
    expect_real(call, &[&x, &y])?;
    let mut gone = vec![axes.is_empty(); x.rank()];
    for &axis in axes {
        let axis = call.axis(axis, x.rank())?;
        gone.get_mut(axis).into_iter().for_each(|flag| *flag = true);
    }
    let dims = || x.shape().iter().zip(&gone);
    let folded: Vec<usize> = dims()
        .map(|(&dim, &gone)| if gone { 1 } else { dim })
        .collect();
    let shape: Vec<usize> = match keep {
        true => folded.clone(),
        false => dims()
            .filter(|(_, gone)| !**gone)
            .map(|(&dim, _)| dim)
            .collect(),
    };
    call.expect_shape_or_one_element("y", &y, &shape)?;
    Ok(Work::new(move || {
        let places = broadcast_positions(&folded, x.shape());
        let start = if p == f64::NEG_INFINITY {
            f64::INFINITY
        } else {
            0.0
        };
        let mut sums = vec![start; volume(&folded)];
        for (value, place) in x.load_vec::<f64>().into_iter().zip(places) {
            let size = value.abs();
            let sum = &mut sums[place];
            *sum = match p {
                _ if size.is_nan() || sum.is_nan() => f64::NAN,
                f64::INFINITY => sum.max(size),
                f64::NEG_INFINITY => sum.min(size),
                _ if p == 0.0 => *sum + f64::from(u8::from(size != 0.0)),
                _ => *sum + size.powf(p),
            };
        }
        y.store_slice(&sums)
    }))
}

fn norm_root(request: &Request) -> Result<Recipe, Refusal> {
    let epsilon = request.float("epsilon", 1e-12)?;
    Ok(Recipe {
        op: &NORM_ROOT,
        prepare: root,
        args: vec![
            some(request.input(0)?),
            Arg::Float(f64::from(order(request)?)),
            scalar(epsilon),
            some(request.output(0)?),
        ],
    })
}

/// The p-th root of such a sum, at least epsilon.
fn root(call: &Call) -> Result<Work, Refusal> {
    let (x, p, epsilon) = (call.tensor(0)?, call.float(1)?, call.scalar(2)?.f64());
    let y = call.tensor(3)?;
    expect_real(call, &[&x, &y])?;
    call.expect_shape_or_one_element("y", &y, x.shape())?;
    Ok(Work::new(move || {
        let values: Vec<f64> = x
            .load_vec::<f64>()
            .into_iter()
            .map(|sum| {
                let root = if p.is_infinite() || p == 0.0 {
                    sum
                } else {
                    sum.powf(1.0 / p)
                };
                if root < epsilon { epsilon } else { root }
            })
            .collect();
        y.store_slice(&values)
    }))
}
