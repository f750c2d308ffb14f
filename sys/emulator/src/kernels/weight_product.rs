//! Products with weights in FRACTAL_NZ: as the plain ones, but the second operand is read from its blocks.
//!
//! Knows which parameter is the weight; it must not know where its elements lie.

use super::matmul::{Product, added, addition, plain};
use super::quant::Quantised;
use super::weight_format::expect_blocks;
use crate::failure::Refusal;
use crate::kernel::{Call, Prepare, Work};

/// This family's ops.
pub(crate) const KERNELS: &[(&str, Prepare)] = &[
    ("aclnnMatmulWeightNz", matmul as Prepare),
    ("aclnnBatchMatMulWeightNz", matmul as Prepare),
    ("aclnnAddmmWeightNz", addmm as Prepare),
    ("aclnnQuantMatmulWeightNz", quantised as Prepare),
    ("aclnnQuantMatmulV5", quantised as Prepare),
];

/// `out = self @ mat2`; `mat2` lies in blocks, whatever format its handle tells.
fn matmul(call: &Call) -> Result<Work, Refusal> {
    let (x, y) = (call.tensor(0)?, call.tensor(1)?);
    expect_blocks(call, &y)?;
    if x.rank() != y.rank() {
        let (x, y) = (x.shape(), y.shape());
        return Err(call.invalid(format!("self has shape {x:?}, mat2 {y:?}")));
    }
    let mut product = Product::new(call, x, y, 3)?;
    product.blocked = true;
    plain(call, product, call.tensor(2)?)
}

/// `out = beta * self + alpha * mat1 @ mat2`; `mat2` lies in blocks.
fn addmm(call: &Call) -> Result<Work, Refusal> {
    expect_blocks(call, &call.tensor(2)?)?;
    let (addend, mut product, out) = addition(call, 2)?;
    product.blocked = true;
    added(call, addend, product, out)
}

/// x1, x2, x1Scale?, x2Scale, yScale?, x1Offset?, x2Offset?, yOffset?, bias?, transposeX1, transposeX2, groupSize, out. Only the
/// modes by tensor, channel and token, which all chips have. V5 has the same parameters and a plain weight.
fn quantised(call: &Call) -> Result<Work, Refusal> {
    let absent = [(4, "yScale"), (5, "x1Offset"), (7, "yOffset")];
    for (index, name) in absent {
        if call
            .optional_tensor(index)
            .is_some_and(|tensor| !tensor.is_empty())
        {
            return Err(call.unsupported(format!("a {name} has no kernel here")));
        }
    }
    if call.int(11)? != 0 {
        return Err(call.unsupported("scales by groups have no kernel here"));
    }
    let weight = call.tensor(1)?;
    let blocked = call.name().ends_with("WeightNz");
    if blocked {
        expect_blocks(call, &weight)?;
    }
    let given = |index| {
        call.optional_tensor(index)
            .filter(|tensor| !tensor.is_empty())
    };
    let product = Quantised {
        x: call.tensor(0)?,
        y: weight,
        blocked,
        scale: call.tensor(3)?,
        offset: given(6),
        per_token: given(2),
        bias: given(8),
        flips: (call.bool(9)?, call.bool(10)?),
        out: call.tensor(12)?,
    };
    product.work(call)
}
