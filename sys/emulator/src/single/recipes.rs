//! Which kernel each type of operator runs, and how its inputs and attributes become that kernel's arguments.
//!
//! Knows CANN's operator types and their attributes; it must not know memory or streams.

use super::{Recipe, Request, Value, function, scalar, some, transposed, whole};
use super::{composed, recurrent};
use crate::dtype::DType;
use crate::failure::Refusal;
use crate::kernel::Arg;
use crate::tensor::Tensor;

/// Makes a recipe of a request.
pub(super) type Build = fn(&Request) -> Result<Recipe, Refusal>;

/// The recipe of an operator type.
pub(super) fn find(op: &str) -> Option<Build> {
    if PLAIN.iter().any(|(name, _)| *name == op) {
        return Some(plain);
    }
    let tables = [RECIPES, composed::RECIPES, recurrent::RECIPES];
    let mut entries = tables.into_iter().flatten();
    entries
        .find(|(name, _)| *name == op)
        .map(|(_, build)| *build)
}

/// Operators whose inputs and outputs are the arguments of an aclnn function, in the same order.
const PLAIN: &[(&str, &str)] = &[
    ("Abs", "aclnnAbs"),
    ("Acos", "aclnnAcos"),
    ("Asin", "aclnnAsin"),
    ("Atan", "aclnnAtan"),
    ("Atan2", "aclnnAtan2"),
    ("BitwiseAnd", "aclnnBitwiseAndTensor"),
    ("BitwiseOr", "aclnnBitwiseOrTensor"),
    ("BitwiseXor", "aclnnBitwiseXorTensor"),
    ("Ceil", "aclnnCeil"),
    ("Cos", "aclnnCos"),
    ("Cosh", "aclnnCosh"),
    ("Div", "aclnnDiv"),
    ("Equal", "aclnnEqTensor"),
    ("Erf", "aclnnErf"),
    ("Expm1", "aclnnExpm1"),
    ("Floor", "aclnnFloor"),
    ("FloorDiv", "aclnnFloorDivide"),
    ("FloorMod", "aclnnRemainderTensorTensor"),
    ("Gelu", "aclnnGelu"),
    ("Greater", "aclnnGtTensor"),
    ("GreaterEqual", "aclnnGeTensor"),
    ("HardSwish", "aclnnHardswish"),
    ("Less", "aclnnLtTensor"),
    ("LessEqual", "aclnnLeTensor"),
    ("Log1p", "aclnnLog1p"),
    ("LogicalAnd", "aclnnLogicalAnd"),
    ("LogicalNot", "aclnnLogicalNot"),
    ("LogicalOr", "aclnnLogicalOr"),
    ("Maximum", "aclnnMaximum"),
    ("Minimum", "aclnnMinimum"),
    ("Mish", "aclnnMish"),
    ("Mul", "aclnnMul"),
    ("Neg", "aclnnNeg"),
    ("NotEqual", "aclnnNeTensor"),
    ("Pow", "aclnnPowTensorTensor"),
    ("RealDiv", "aclnnDiv"),
    ("Reciprocal", "aclnnReciprocal"),
    ("Relu", "aclnnRelu"),
    ("Round", "aclnnRound"),
    ("Rsqrt", "aclnnRsqrt"),
    ("Select", "aclnnSWhere"),
    ("SelectV2", "aclnnSWhere"),
    ("Sigmoid", "aclnnSigmoid"),
    ("Sign", "aclnnSign"),
    ("Sin", "aclnnSin"),
    ("Sinh", "aclnnSinh"),
    ("Sqrt", "aclnnSqrt"),
    ("Square", "aclnnSquare"),
    ("Tan", "aclnnTan"),
    ("Tanh", "aclnnTanh"),
    ("Xlogy", "aclnnXLogYTensor"),
];

const RECIPES: &[(&str, Build)] = &[
    ("Add", |request| sum(request, "aclnnAdd")),
    ("AddV2", |request| sum(request, "aclnnAdd")),
    ("Sub", |request| sum(request, "aclnnSub")),
    ("Adds", adds),
    ("Muls", muls),
    ("Axpy", axpy),
    ("Exp", |request| natural(request, "aclnnExp")),
    ("Log", |request| natural(request, "aclnnLog")),
    ("Swish", swish),
    ("LeakyRelu", leaky_relu),
    ("Elu", elu),
    ("Relu6", relu6),
    ("Cast", cast),
    ("SoftmaxV2", |request| softmax(request, "aclnnSoftmax")),
    ("LogSoftmaxV2", |request| {
        softmax(request, "aclnnLogSoftmax")
    }),
    ("Transpose", permute),
    ("TransposeD", permute),
    ("ReduceSum", |request| reduce(request, "aclnnReduceSum")),
    ("ReduceSumD", |request| reduce(request, "aclnnReduceSum")),
    ("ReduceMean", |request| reduce(request, "aclnnMean")),
    ("ReduceMeanD", |request| reduce(request, "aclnnMean")),
    ("ReduceMax", |request| reduce(request, "aclnnAmax")),
    ("ReduceMaxD", |request| reduce(request, "aclnnAmax")),
    ("ReduceMin", |request| reduce(request, "aclnnAmin")),
    ("ReduceMinD", |request| reduce(request, "aclnnAmin")),
    ("ReduceAll", |request| reduce(request, "aclnnAll")),
    ("ReduceAny", |request| reduce(request, "aclnnAny")),
    ("ArgMaxV2", |request| position(request, "aclnnArgMax")),
    ("ArgMaxD", |request| position(request, "aclnnArgMax")),
    ("ArgMin", |request| position(request, "aclnnArgMin")),
    ("ArgMinD", |request| position(request, "aclnnArgMin")),
    ("ConcatD", |request| join(request, "concat_dim", "aclnnCat")),
    ("ConcatV2D", |request| {
        join(request, "concat_dim", "aclnnCat")
    }),
    ("Pack", |request| join(request, "axis", "aclnnStack")),
    ("Tile", tile),
    ("TileD", tile),
    ("BroadcastTo", expand),
    ("BroadcastToD", expand),
    ("GatherV2", gather),
    ("GatherV2D", gather),
    ("Cumsum", cumsum),
    ("CumsumD", cumsum),
    ("MatMul", |request| {
        product(request, ["transpose_x1", "transpose_x2"])
    }),
    ("MatMulV2", |request| {
        product(request, ["transpose_x1", "transpose_x2"])
    }),
    ("BatchMatMul", |request| {
        product(request, ["adj_x1", "adj_x2"])
    }),
    ("BatchMatMulV2", |request| {
        product(request, ["adj_x1", "adj_x2"])
    }),
    ("Conv2D", convolution),
];

fn plain(request: &Request) -> Result<Recipe, Refusal> {
    let name = PLAIN
        .iter()
        .find(|(name, _)| *name == request.op)
        .map_or("", |(_, function)| function);
    let inputs = (0..request.inputs.len()).map(|index| request.input(index).map(some));
    let outputs = (0..request.outputs.len()).map(|index| request.output(index).map(some));
    let args = inputs.chain(outputs).collect::<Result<Vec<_>, _>>()?;
    let (op, _) =
        crate::executor::emulated(name).ok_or_else(|| Refusal::unsupported(request.op.clone()))?;
    if args.len() != op.parameters.len() {
        return Err(request.invalid(format!(
            "{} inputs and outputs, wanted {}",
            args.len(),
            op.parameters.len()
        )));
    }
    function(name, args)
}

fn sum(request: &Request, name: &str) -> Result<Recipe, Refusal> {
    let (a, b, y) = (request.input(0)?, request.input(1)?, request.output(0)?);
    function(name, vec![some(a), some(b), whole(1), some(y)])
}

fn adds(request: &Request) -> Result<Recipe, Refusal> {
    let value = scalar(request.float("value", 0.0)?);
    let (x, y) = (request.input(0)?, request.output(0)?);
    function("aclnnAdds", vec![some(x), value, whole(1), some(y)])
}

fn muls(request: &Request) -> Result<Recipe, Refusal> {
    let value = scalar(request.float("value", 1.0)?);
    let (x, y) = (request.input(0)?, request.output(0)?);
    function("aclnnMuls", vec![some(x), value, some(y)])
}

fn axpy(request: &Request) -> Result<Recipe, Refusal> {
    let alpha = scalar(request.float("alpha", 1.0)?);
    let (a, b, y) = (request.input(0)?, request.input(1)?, request.output(0)?);
    function("aclnnAdd", vec![some(a), some(b), alpha, some(y)])
}

/// Exp and Log can have another base, a factor and a shift: the defaults, or e, 1 and 0.
fn natural(request: &Request, name: &str) -> Result<Recipe, Refusal> {
    request.expect("base", &Value::Float(-1.0))?;
    request.expect("scale", &Value::Float(1.0))?;
    request.expect("shift", &Value::Float(0.0))?;
    let (x, y) = (request.input(0)?, request.output(0)?);
    function(name, vec![some(x), some(y)])
}

fn swish(request: &Request) -> Result<Recipe, Refusal> {
    request.expect("scale", &Value::Float(1.0))?;
    let (x, y) = (request.input(0)?, request.output(0)?);
    function("aclnnSilu", vec![some(x), some(y)])
}

fn leaky_relu(request: &Request) -> Result<Recipe, Refusal> {
    let slope = scalar(request.float("negative_slope", 0.0)?);
    let (x, y) = (request.input(0)?, request.output(0)?);
    function("aclnnLeakyRelu", vec![some(x), slope, some(y)])
}

fn elu(request: &Request) -> Result<Recipe, Refusal> {
    let alpha = scalar(request.float("alpha", 1.0)?);
    let scale = scalar(request.float("scale", 1.0)?);
    let input_scale = scalar(request.float("input_scale", 1.0)?);
    let (x, y) = (request.input(0)?, request.output(0)?);
    function(
        "aclnnElu",
        vec![some(x), alpha, scale, input_scale, some(y)],
    )
}

fn relu6(request: &Request) -> Result<Recipe, Refusal> {
    let (x, y) = (request.input(0)?, request.output(0)?);
    function(
        "aclnnHardtanh",
        vec![some(x), scalar(0.0), scalar(6.0), some(y)],
    )
}

/// The target type is that of the output.
fn cast(request: &Request) -> Result<Recipe, Refusal> {
    let (x, y) = (request.input(0)?, request.output(0)?);
    let target = y.dtype() as i64;
    match request.attributes.get("dst_type") {
        Some(Value::Int(code)) if *code != target => {
            return Err(request.invalid(format!("dst_type is {code}, the output's is {target}")));
        }
        Some(Value::DType(code)) if i64::from(*code) != target => {
            return Err(request.invalid(format!("dst_type is {code}, the output's is {target}")));
        }
        _ => {}
    }
    function("aclnnCast", vec![some(x), Arg::Int(target), some(y)])
}

fn softmax(request: &Request, name: &str) -> Result<Recipe, Refusal> {
    let axes = match request.attributes.contains_key("axis") {
        true => request.list("axis", &[-1])?,
        false => request.list("axes", &[-1])?,
    };
    let [axis] = axes.as_slice() else {
        return Err(Refusal::unsupported(format!("softmax along {axes:?}")));
    };
    let (x, y) = (request.input(0)?, request.output(0)?);
    function(name, vec![some(x), Arg::Int(*axis), some(y)])
}

fn permute(request: &Request) -> Result<Recipe, Refusal> {
    let order = request.numbers("perm", 1)?;
    let (x, y) = (request.input(0)?, request.output(0)?);
    function(
        "aclnnPermute",
        vec![some(x), Arg::Ints(Some(order)), some(y)],
    )
}

/// Reductions along the axes that a constant or an attribute names, all of them where it is empty.
fn reduce(request: &Request, name: &str) -> Result<Recipe, Refusal> {
    let (x, y) = (request.input(0)?, request.output(0)?);
    let mut axes = request.numbers("axes", 1)?;
    if axes.is_empty() {
        axes = (0..x.rank() as i64).collect();
    }
    let keep = Arg::Bool(request.flag("keep_dims", false)?);
    let mut args = vec![some(x), Arg::Ints(Some(axes)), keep];
    if matches!(name, "aclnnReduceSum" | "aclnnMean") {
        args.push(Arg::Int(y.dtype() as i64));
    }
    args.push(some(y));
    function(name, args)
}

fn position(request: &Request, name: &str) -> Result<Recipe, Refusal> {
    let (x, y) = (request.input(0)?, request.output(0)?);
    let dim = request.numbers("dimension", 1)?;
    let [dim] = dim.as_slice() else {
        return Err(request.invalid(format!("dimension is {dim:?}, wanted one number")));
    };
    function(
        name,
        vec![some(x), Arg::Int(*dim), Arg::Bool(false), some(y)],
    )
}

fn join(request: &Request, name: &str, kernel: &str) -> Result<Recipe, Refusal> {
    let parts = (0..request.inputs.len())
        .map(|index| request.input(index).map(Some))
        .collect::<Result<Vec<_>, _>>()?;
    let dim = request.int(name, 0)?;
    let y = request.output(0)?;
    function(
        kernel,
        vec![Arg::Tensors(Some(parts)), Arg::Int(dim), some(y)],
    )
}

fn tile(request: &Request) -> Result<Recipe, Refusal> {
    let times = request.numbers("multiples", 1)?;
    let (x, y) = (request.input(0)?, request.output(0)?);
    function(
        "aclnnRepeat",
        vec![some(x), Arg::Ints(Some(times)), some(y)],
    )
}

fn expand(request: &Request) -> Result<Recipe, Refusal> {
    let shape = request.numbers("shape", 1)?;
    let (x, y) = (request.input(0)?, request.output(0)?);
    function(
        "aclnnExpand",
        vec![some(x), Arg::Ints(Some(shape)), some(y)],
    )
}

fn gather(request: &Request) -> Result<Recipe, Refusal> {
    let axis = request.numbers("axis", 2)?;
    let [axis] = axis.as_slice() else {
        return Err(request.invalid(format!("axis is {axis:?}, wanted one number")));
    };
    request.expect("batch_dims", &Value::Int(0))?;
    let (x, indices, y) = (request.input(0)?, request.input(1)?, request.output(0)?);
    function(
        "aclnnGatherV2",
        vec![some(x), Arg::Int(*axis), some(indices), some(y)],
    )
}

fn cumsum(request: &Request) -> Result<Recipe, Refusal> {
    request.expect("exclusive", &Value::Bool(false))?;
    request.expect("reverse", &Value::Bool(false))?;
    let axis = request.numbers("axis", 1)?;
    let [axis] = axis.as_slice() else {
        return Err(request.invalid(format!("axis is {axis:?}, wanted one number")));
    };
    let (x, y) = (request.input(0)?, request.output(0)?);
    let dtype = Arg::Int(y.dtype() as i64);
    function(
        "aclnnCumsum",
        vec![some(x), Arg::Int(*axis), dtype, some(y)],
    )
}

fn turned(tensor: Tensor, turn: bool) -> Result<Tensor, Refusal> {
    if turn {
        transposed(&tensor)
    } else {
        Ok(tensor)
    }
}

/// A product of matrices, plus a bias.
fn product(request: &Request, flags: [&str; 2]) -> Result<Recipe, Refusal> {
    let a = turned(request.input(0)?, request.flag(flags[0], false)?)?;
    let b = turned(request.input(1)?, request.flag(flags[1], false)?)?;
    let y = request.output(0)?;
    // Sums of another kind than the operands' (f16 into f32) are the older interface's own.
    let exact = a.dtype() == b.dtype() && a.dtype() == y.dtype();
    match (request.optional(2)?, a.rank()) {
        (None, _) if exact => function("aclnnMatmul", vec![some(a), some(b), some(y), Arg::Int(0)]),
        (bias, _) => composed::product(request, a, b, bias, y),
    }
}

/// Two-dimensional convolution of NCHW tensors.
fn convolution(request: &Request) -> Result<Recipe, Refusal> {
    let layout = request.text("data_format", "NHWC")?;
    if layout != "NCHW" {
        return Err(Refusal::unsupported(format!("data_format is {layout}")));
    }
    let (x, weight, bias) = (request.input(0)?, request.input(1)?, request.optional(2)?);
    let y = request.output(0)?;
    if request.inputs.get(3).is_some_and(Option::is_some) || x.dtype() == DType::I8 {
        return Err(Refusal::unsupported("quantised convolutions"));
    }
    let pair = |name: &str, otherwise: &[i64]| match request.list(name, otherwise)?.as_slice() {
        &[_, _, height, width] => Ok(vec![height, width]),
        other => Err(request.invalid(format!("{name} is {other:?}, wanted 4 numbers"))),
    };
    let (stride, dilation) = (pair("strides", &[])?, pair("dilations", &[1; 4])?);
    let pads = request.list("pads", &[0; 4])?;
    let &[top, bottom, left, right] = pads.as_slice() else {
        return Err(request.invalid(format!("pads are {pads:?}, wanted 4 numbers")));
    };
    if top != bottom || left != right {
        return Err(Refusal::unsupported(format!("pads {pads:?} of two sides")));
    }
    let args = vec![
        some(x),
        some(weight),
        Arg::Tensor(bias),
        Arg::Ints(Some(stride)),
        Arg::Ints(Some(vec![top, left])),
        Arg::Ints(Some(dilation)),
        Arg::Bool(false),
        Arg::Ints(Some(vec![0, 0])),
        Arg::Int(request.int("groups", 1)?),
        some(y),
        Arg::Int(0),
    ];
    function("aclnnConvolution", args)
}
