//! The ops of the family `elementwise`, and casts.

use ascend_tensor::ops::elementwise::{
    AddOptions, ClampOptions, IscloseOptions, NanToNumOptions, Rounding, SubOptions,
};
use ascend_tensor::{Operand, Result, Scalar, Tensor};

use super::{Args, Call, bad, one};

pub const CALLS: &[(&str, Call)] = &[
    ("add", add),
    ("clamp", clamp),
    ("div", div),
    ("masked_fill", |args| {
        one(args
            .tensor(0)?
            .masked_fill(args.tensor(1)?, args.operand(2, "value")?))
    }),
    ("pow", |args| {
        either(args, "exponent", Tensor::pow, Tensor::pow_of)
    }),
    ("remainder", |args| {
        either(args, "other", Tensor::remainder, Tensor::remainder_of)
    }),
    ("addcdiv", |args| {
        one(args
            .tensor(0)?
            .addcdiv(args.tensor(1)?, args.tensor(2)?, value(args)))
    }),
    ("addcmul", |args| {
        one(args
            .tensor(0)?
            .addcmul(args.tensor(1)?, args.tensor(2)?, value(args)))
    }),
    ("isclose", isclose),
    ("lerp", |args| {
        one(args
            .tensor(0)?
            .lerp(args.tensor(1)?, args.operand(2, "weight")?))
    }),
    ("logit", |args| {
        one(args.tensor(0)?.logit(args.float("eps")))
    }),
    ("nan_to_num", nan_to_num),
    ("round", |args| {
        one(args.tensor(0)?.round_to(args.int("decimals").unwrap_or(0)))
    }),
    ("xlogy", |args| {
        either(args, "other", Tensor::xlogy, Tensor::xlogy_of)
    }),
    ("sub", sub),
    ("to_dtype", |args| {
        one(args.tensor(0)?.to_dtype(
            args.dtype("dtype")?
                .ok_or_else(|| bad("dtype", "required"))?,
        ))
    }),
    ("where", |args| {
        let input = if args.optional(1).is_some() {
            args.operand(1, "input")?
        } else {
            args.operand(1, "self")?
        };
        one(args.tensor(0)?.where_cond(input, args.operand(2, "other")?))
    }),
    ("abs", |args| one(args.tensor(0)?.abs())),
    ("acos", |args| one(args.tensor(0)?.acos())),
    ("acosh", |args| one(args.tensor(0)?.acosh())),
    ("asin", |args| one(args.tensor(0)?.asin())),
    ("asinh", |args| one(args.tensor(0)?.asinh())),
    ("atan", |args| one(args.tensor(0)?.atan())),
    ("atanh", |args| one(args.tensor(0)?.atanh())),
    ("bitwise_not", |args| one(args.tensor(0)?.bitwise_not())),
    ("ceil", |args| one(args.tensor(0)?.ceil())),
    ("cos", |args| one(args.tensor(0)?.cos())),
    ("cosh", |args| one(args.tensor(0)?.cosh())),
    ("erf", |args| one(args.tensor(0)?.erf())),
    ("erfc", |args| one(args.tensor(0)?.erfc())),
    ("erfinv", |args| one(args.tensor(0)?.erfinv())),
    ("exp", |args| one(args.tensor(0)?.exp())),
    ("exp2", |args| one(args.tensor(0)?.exp2())),
    ("expm1", |args| one(args.tensor(0)?.expm1())),
    ("floor", |args| one(args.tensor(0)?.floor())),
    ("frac", |args| one(args.tensor(0)?.frac())),
    ("isfinite", |args| one(args.tensor(0)?.isfinite())),
    ("isinf", |args| one(args.tensor(0)?.isinf())),
    ("isnan", |args| one(args.tensor(0)?.isnan())),
    ("log", |args| one(args.tensor(0)?.log())),
    ("log10", |args| one(args.tensor(0)?.log10())),
    ("log1p", |args| one(args.tensor(0)?.log1p())),
    ("log2", |args| one(args.tensor(0)?.log2())),
    ("logical_not", |args| one(args.tensor(0)?.logical_not())),
    ("neg", |args| one(args.tensor(0)?.neg())),
    ("reciprocal", |args| one(args.tensor(0)?.reciprocal())),
    ("rsqrt", |args| one(args.tensor(0)?.rsqrt())),
    ("sigmoid", |args| one(args.tensor(0)?.sigmoid())),
    ("sign", |args| one(args.tensor(0)?.sign())),
    ("signbit", |args| one(args.tensor(0)?.signbit())),
    ("sin", |args| one(args.tensor(0)?.sin())),
    ("sinh", |args| one(args.tensor(0)?.sinh())),
    ("sqrt", |args| one(args.tensor(0)?.sqrt())),
    ("square", |args| one(args.tensor(0)?.square())),
    ("tan", |args| one(args.tensor(0)?.tan())),
    ("tanh", |args| one(args.tensor(0)?.tanh())),
    ("trunc", |args| one(args.tensor(0)?.trunc())),
    ("atan2", |args| {
        one(args.tensor(0)?.atan2(args.operand(1, "other")?))
    }),
    ("bitwise_and", |args| {
        one(args.tensor(0)?.bitwise_and(args.operand(1, "other")?))
    }),
    ("bitwise_left_shift", |args| {
        one(args
            .tensor(0)?
            .bitwise_left_shift(args.operand(1, "other")?))
    }),
    ("bitwise_or", |args| {
        one(args.tensor(0)?.bitwise_or(args.operand(1, "other")?))
    }),
    ("bitwise_right_shift", |args| {
        one(args
            .tensor(0)?
            .bitwise_right_shift(args.operand(1, "other")?))
    }),
    ("bitwise_xor", |args| {
        one(args.tensor(0)?.bitwise_xor(args.operand(1, "other")?))
    }),
    ("copysign", |args| {
        one(args.tensor(0)?.copysign(args.operand(1, "other")?))
    }),
    ("eq", |args| {
        one(args.tensor(0)?.eq(args.operand(1, "other")?))
    }),
    ("floor_divide", |args| {
        one(args.tensor(0)?.floor_divide(args.operand(1, "other")?))
    }),
    ("fmax", |args| {
        one(args.tensor(0)?.fmax(args.operand(1, "other")?))
    }),
    ("fmin", |args| {
        one(args.tensor(0)?.fmin(args.operand(1, "other")?))
    }),
    ("fmod", |args| {
        one(args.tensor(0)?.fmod(args.operand(1, "other")?))
    }),
    ("ge", |args| {
        one(args.tensor(0)?.ge(args.operand(1, "other")?))
    }),
    ("gt", |args| {
        one(args.tensor(0)?.gt(args.operand(1, "other")?))
    }),
    ("le", |args| {
        one(args.tensor(0)?.le(args.operand(1, "other")?))
    }),
    ("logical_and", |args| {
        one(args.tensor(0)?.logical_and(args.operand(1, "other")?))
    }),
    ("logical_or", |args| {
        one(args.tensor(0)?.logical_or(args.operand(1, "other")?))
    }),
    ("logical_xor", |args| {
        one(args.tensor(0)?.logical_xor(args.operand(1, "other")?))
    }),
    ("lt", |args| {
        one(args.tensor(0)?.lt(args.operand(1, "other")?))
    }),
    ("maximum", |args| {
        one(args.tensor(0)?.maximum(args.operand(1, "other")?))
    }),
    ("minimum", |args| {
        one(args.tensor(0)?.minimum(args.operand(1, "other")?))
    }),
    ("mul", |args| {
        one(args.tensor(0)?.mul(args.operand(1, "other")?))
    }),
    ("ne", |args| {
        one(args.tensor(0)?.ne(args.operand(1, "other")?))
    }),
    ("hypot", |args| one(args.tensor(0)?.hypot(args.tensor(1)?))),
    ("logaddexp", |args| {
        one(args.tensor(0)?.logaddexp(args.tensor(1)?))
    }),
];

fn add(args: &Args) -> Result<Vec<Tensor>> {
    let options = args
        .scalar("alpha")
        .map_or(AddOptions::new(), |alpha| AddOptions::new().alpha(alpha));
    one(args.tensor(0)?.add_with(args.operand(1, "other")?, options))
}

fn sub(args: &Args) -> Result<Vec<Tensor>> {
    let options = args
        .scalar("alpha")
        .map_or(SubOptions::new(), |alpha| SubOptions::new().alpha(alpha));
    one(args.tensor(0)?.sub_with(args.operand(1, "other")?, options))
}

fn div(args: &Args) -> Result<Vec<Tensor>> {
    let (x, other) = (args.tensor(0)?, args.operand(1, "other")?);
    match args.text("rounding_mode") {
        None => one(x.div(other)),
        Some("trunc") => one(x.div_with(other, Rounding::Trunc)),
        Some("floor") => one(x.div_with(other, Rounding::Floor)),
        Some(mode) => Err(bad("rounding_mode", mode)),
    }
}

/// The factor of a fused product or quotient.
fn value(args: &Args) -> Scalar {
    args.scalar("value").unwrap_or(Scalar::Int(1))
}

fn isclose(args: &Args) -> Result<Vec<Tensor>> {
    let mut options = IscloseOptions::new();
    if let Some(rtol) = args.float("rtol") {
        options = options.rtol(rtol);
    }
    if let Some(atol) = args.float("atol") {
        options = options.atol(atol);
    }
    if args.bool("equal_nan") {
        options = options.equal_nan();
    }
    one(args.tensor(0)?.isclose(args.tensor(1)?, options))
}

fn nan_to_num(args: &Args) -> Result<Vec<Tensor>> {
    let mut options = NanToNumOptions::new().nan(args.float("nan").unwrap_or(0.0));
    if let Some(posinf) = args.float("posinf") {
        options = options.posinf(posinf);
    }
    if let Some(neginf) = args.float("neginf") {
        options = options.neginf(neginf);
    }
    one(args.tensor(0)?.nan_to_num(options))
}

fn clamp(args: &Args) -> Result<Vec<Tensor>> {
    let mut options = ClampOptions::new();
    let bound = |slot: usize, name: &str| match (args.optional(slot), args.scalar(name)) {
        (Some(tensor), _) => Some(Operand::Tensor(tensor)),
        (None, scalar) => scalar.map(Operand::Scalar),
    };
    if let Some(min) = bound(1, "min") {
        options = options.min(min);
    }
    if let Some(max) = bound(2, "max") {
        options = options.max(max);
    }
    one(args.tensor(0)?.clamp(options))
}

/// An op of two operands of which either may be a number: the left one is the attribute `self`.
fn either<'a>(
    args: &'a Args,
    right: &'static str,
    op: fn(&Tensor, Operand<'a>) -> Result<Tensor>,
    op_of: fn(&Tensor, Scalar) -> Result<Tensor>,
) -> Result<Vec<Tensor>> {
    match (args.optional(0), args.scalar("self")) {
        (None, Some(left)) => one(op_of(args.tensor(1)?, left)),
        _ => one(op(args.tensor(0)?, args.operand(1, right)?)),
    }
}
