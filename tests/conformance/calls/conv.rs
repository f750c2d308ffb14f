//! The ops of the family `conv`.

use ascend_tensor::ops::conv::{ConvOptions, ConvTransposeOptions, Padding, PerDim};
use ascend_tensor::{Error, Result};

use super::{Args, Call, bad, one};

pub const CALLS: &[(&str, Call)] = &[
    ("conv1d", |args| {
        one(args.tensor(0)?.conv1d(args.tensor(1)?, plain(args)?))
    }),
    ("conv2d", |args| {
        one(args.tensor(0)?.conv2d(args.tensor(1)?, plain(args)?))
    }),
    ("conv3d", |args| {
        one(args.tensor(0)?.conv3d(args.tensor(1)?, plain(args)?))
    }),
    ("conv_transpose1d", |args| {
        let weight = args.tensor(1)?;
        one(args.tensor(0)?.conv_transpose1d(weight, transposed(args)?))
    }),
    ("conv_transpose2d", |args| {
        let weight = args.tensor(1)?;
        one(args.tensor(0)?.conv_transpose2d(weight, transposed(args)?))
    }),
];

/// A number for each dim: an integer or a list.
pub fn per_dim<const N: usize>(args: &Args, name: &'static str) -> Result<Option<PerDim<N>>> {
    let Some(numbers) = args.ints(name) else {
        return Ok(None);
    };
    let numbers: Option<Vec<usize>> = numbers
        .iter()
        .map(|number| usize::try_from(*number).ok())
        .collect();
    let numbers = numbers.ok_or_else(|| bad(name, "negative"))?;
    match (
        numbers.as_slice(),
        <[usize; N]>::try_from(numbers.as_slice()),
    ) {
        ([one], _) => Ok(Some(PerDim::from(*one))),
        (_, Ok(all)) => Ok(Some(PerDim::from(all))),
        (list, _) => Err(Error::Shape {
            op: "conformance",
            got: format!("{} numbers of {name}", list.len()).into(),
            want: format!("one or {N}").into(),
        }),
    }
}

fn plain<'a, const N: usize>(args: &Args<'a>) -> Result<ConvOptions<'a, N>> {
    let mut options = ConvOptions::new().groups(args.size("groups")?.unwrap_or(1));
    if let Some(bias) = args.optional(2) {
        options = options.bias(bias);
    }
    if let Some(stride) = per_dim(args, "stride")? {
        options = options.stride(stride);
    }
    if let Some(dilation) = per_dim(args, "dilation")? {
        options = options.dilation(dilation);
    }
    options = match args.text("padding") {
        Some("same") => options.padding(Padding::Same),
        Some("valid") => options.padding(Padding::Valid),
        Some(other) => return Err(bad("padding", other)),
        None => match per_dim::<N>(args, "padding")? {
            Some(padding) => options.padding(padding),
            None => options,
        },
    };
    Ok(options)
}

fn transposed<'a, const N: usize>(args: &Args<'a>) -> Result<ConvTransposeOptions<'a, N>> {
    let mut options = ConvTransposeOptions::new().groups(args.size("groups")?.unwrap_or(1));
    if let Some(bias) = args.optional(2) {
        options = options.bias(bias);
    }
    if let Some(stride) = per_dim(args, "stride")? {
        options = options.stride(stride);
    }
    if let Some(padding) = per_dim(args, "padding")? {
        options = options.padding(padding);
    }
    if let Some(output_padding) = per_dim(args, "output_padding")? {
        options = options.output_padding(output_padding);
    }
    if let Some(dilation) = per_dim(args, "dilation")? {
        options = options.dilation(dilation);
    }
    Ok(options)
}
