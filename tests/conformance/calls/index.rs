//! The ops of the family `index`.

use ascend_tensor::ops::index::{
    EmbeddingOptions, IndexAddOptions, IndexPutOptions, ScatterReduceOptions, ScatterReduction,
};
use ascend_tensor::{Result, Tensor};

use super::{Args, Call, bad, one};

pub const CALLS: &[(&str, Call)] = &[
    ("embedding", embedding),
    ("index_select", |args| {
        one(args
            .tensor(0)?
            .index_select(args.need_int("dim")?, args.tensor(1)?))
    }),
    ("index", |args| {
        one(args.tensor(0)?.index(&args.optional_list(1)))
    }),
    ("gather", |args| {
        one(args
            .tensor(0)?
            .gather(args.need_int("dim")?, args.tensor(1)?))
    }),
    ("take_along_dim", |args| {
        one(args
            .tensor(0)?
            .take_along_dim(args.tensor(1)?, args.int("dim")))
    }),
    ("take", |args| one(args.tensor(0)?.take(args.tensor(1)?))),
    ("scatter", |args| {
        one(args.tensor(0)?.scatter(
            args.need_int("dim")?,
            args.tensor(1)?,
            args.operand(2, "value")?,
        ))
    }),
    ("scatter_add", |args| {
        one(args
            .tensor(0)?
            .scatter_add(args.need_int("dim")?, args.tensor(1)?, args.tensor(2)?))
    }),
    ("scatter_reduce", scatter_reduce),
    ("index_add", index_add),
    ("index_copy", |args| {
        one(args
            .tensor(0)?
            .index_copy(args.need_int("dim")?, args.tensor(1)?, args.tensor(2)?))
    }),
    ("index_fill", index_fill),
    ("index_put", index_put),
    ("masked_select", |args| {
        one(args.tensor(0)?.masked_select(args.tensor(1)?))
    }),
    ("masked_scatter", |args| {
        one(args
            .tensor(0)?
            .masked_scatter(args.tensor(1)?, args.tensor(2)?))
    }),
    ("nonzero", |args| one(args.tensor(0)?.nonzero())),
];

fn embedding(args: &Args) -> Result<Vec<Tensor>> {
    let options = args
        .int("padding_idx")
        .map_or(EmbeddingOptions::new(), |row| {
            EmbeddingOptions::new().padding_index(row)
        });
    one(args.tensor(1)?.embedding(args.tensor(0)?, options))
}

fn scatter_reduce(args: &Args) -> Result<Vec<Tensor>> {
    let reduction = match args.text("reduce") {
        Some("sum") => ScatterReduction::Sum,
        Some("prod") => ScatterReduction::Prod,
        Some("mean") => ScatterReduction::Mean,
        Some("amax") => ScatterReduction::Amax,
        Some("amin") => ScatterReduction::Amin,
        other => return Err(bad("reduce", format!("{other:?}"))),
    };
    let options = ScatterReduceOptions::new(reduction);
    let options = if args.bool_or("include_self", true) {
        options
    } else {
        options.exclude_self()
    };
    one(args.tensor(0)?.scatter_reduce(
        args.need_int("dim")?,
        args.tensor(1)?,
        args.tensor(2)?,
        options,
    ))
}

fn index_add(args: &Args) -> Result<Vec<Tensor>> {
    let options = args
        .scalar("alpha")
        .map_or(IndexAddOptions::new(), |alpha| {
            IndexAddOptions::new().alpha(alpha)
        });
    one(args.tensor(0)?.index_add(
        args.need_int("dim")?,
        args.tensor(1)?,
        args.tensor(2)?,
        options,
    ))
}

fn index_fill(args: &Args) -> Result<Vec<Tensor>> {
    let value = args
        .scalar("value")
        .ok_or_else(|| bad("value", "required"))?;
    one(args
        .tensor(0)?
        .index_fill(args.need_int("dim")?, args.tensor(1)?, value))
}

fn index_put(args: &Args) -> Result<Vec<Tensor>> {
    let options = if args.bool("accumulate") {
        IndexPutOptions::new().accumulate()
    } else {
        IndexPutOptions::new()
    };
    one(args
        .tensor(0)?
        .index_put(&args.optional_list(1), args.tensor(2)?, options))
}
