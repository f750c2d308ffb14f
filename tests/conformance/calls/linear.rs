//! The ops of the family `linear`.

use ascend_tensor::ops::linear::AddmmOptions;
use ascend_tensor::{Result, Tensor};

use super::{Args, Call, bad, one};

pub const CALLS: &[(&str, Call)] = &[
    ("matmul", |args| {
        one(args.tensor(0)?.matmul(args.tensor(1)?))
    }),
    ("mm", |args| one(args.tensor(0)?.mm(args.tensor(1)?))),
    ("bmm", |args| one(args.tensor(0)?.bmm(args.tensor(1)?))),
    ("mv", |args| one(args.tensor(0)?.mv(args.tensor(1)?))),
    ("dot", |args| one(args.tensor(0)?.dot(args.tensor(1)?))),
    ("outer", |args| one(args.tensor(0)?.outer(args.tensor(1)?))),
    ("linear", |args| {
        one(args.tensor(0)?.linear(args.tensor(1)?, args.optional(2)))
    }),
    ("addmm", |args| {
        one(args
            .tensor(0)?
            .addmm(args.tensor(1)?, args.tensor(2)?, factors(args)?))
    }),
    ("einsum", |args| {
        let equation = args
            .text("equation")
            .ok_or_else(|| bad("equation", "required"))?;
        one(Tensor::einsum(equation, &args.list(0)))
    }),
    ("baddbmm", |args| {
        one(args
            .tensor(0)?
            .baddbmm(args.tensor(1)?, args.tensor(2)?, factors(args)?))
    }),
];

/// `beta` and `alpha`.
fn factors(args: &Args) -> Result<AddmmOptions> {
    let mut options = AddmmOptions::new();
    if let Some(beta) = args.scalar("beta") {
        options = options.beta(beta);
    }
    if let Some(alpha) = args.scalar("alpha") {
        options = options.alpha(alpha);
    }
    Ok(options)
}
