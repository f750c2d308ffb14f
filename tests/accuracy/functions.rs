//! Every elementwise op of one float input: its call, its exact values, and the errors that the documentation states.
//!
//! Knows calls and figures. Must not know how errors are measured.

use ascend_tensor::{GeluApproximation, Result, Tensor};

use super::exact;

/// The largest error that is stated: in units in the last place, unless it is below an absolute one.
#[derive(Debug, Clone, Copy)]
pub struct Bound {
    pub units: f64,
    pub absolute: f64,
}

/// A function in double precision.
pub type Exact = fn(f64) -> f64;

/// A function, its exact values, and its bound.
pub struct Function {
    pub name: &'static str,
    pub call: fn(&Tensor) -> Result<Tensor>,
    pub exact: Exact,
    pub stated: Bound,
    /// The exact derivative, and the bound of the gradient.
    pub slope: Option<(Exact, Bound)>,
}

const fn function(
    name: &'static str,
    call: fn(&Tensor) -> Result<Tensor>,
    exact: Exact,
    units: f64,
) -> Function {
    Function {
        name,
        call,
        exact,
        stated: Bound {
            units,
            absolute: 0.0,
        },
        slope: None,
    }
}

impl Function {
    /// An error that does not count, however many units it is.
    const fn absolute(mut self, absolute: f64) -> Self {
        self.stated.absolute = absolute;
        self
    }

    const fn slope(mut self, exact: Exact, units: f64, absolute: f64) -> Self {
        self.slope = Some((exact, Bound { units, absolute }));
        self
    }
}

pub const FUNCTIONS: &[Function] = &[
    function("exp", |x| x.exp(), f64::exp, 1.1),
    function("log", |x| x.log(), f64::ln, 1.0),
    function("tanh", |x| x.tanh(), f64::tanh, 1.5).slope(|x| x.cosh().powi(-2), 4.0, 1.3e-7),
    function("erf", |x| x.erf(), libm::erf, 2.5),
    function("erfc", |x| x.erfc(), libm::erfc, 6.0),
    function("sigmoid", |x| x.sigmoid(), exact::sigmoid, 3.0)
        .absolute(1.2e-38)
        .slope(|x| exact::sigmoid(x) * exact::sigmoid(-x), 4.0, 1e-7),
    function("silu", |x| x.silu(), exact::silu, 3.5)
        .absolute(3e-37)
        .slope(exact::silu_slope, 4.0, 2e-7),
    function("gelu", |x| x.gelu(()), exact::gelu, 8.0)
        .absolute(2e-37)
        .slope(exact::gelu_slope, 8.0, 2e-7),
    function(
        "gelu_tanh",
        |x| x.gelu(GeluApproximation::Tanh),
        exact::gelu_tanh,
        2.0,
    )
    .absolute(4e-7)
    .slope(exact::gelu_tanh_slope, 8.0, 2e-7),
    function(
        "gelu_tanh (left)",
        |x| x.gelu(GeluApproximation::Tanh),
        exact::gelu_tanh,
        8.0,
    )
    .absolute(1e-8),
    function("log1p", |x| x.log1p(), f64::ln_1p, 1.0),
    function("expm1", |x| x.expm1(), f64::exp_m1, 1.0),
    function("exp2", |x| x.exp2(), f64::exp2, 1.0),
    function("log2", |x| x.log2(), f64::log2, 1.0),
    function("log10", |x| x.log10(), f64::log10, 2.5),
    function("sin", |x| x.sin(), f64::sin, 1.0),
    function("cos", |x| x.cos(), f64::cos, 1.0),
    function("tan", |x| x.tan(), f64::tan, 1.0),
    function("asin", |x| x.asin(), f64::asin, 1.0),
    function("acos", |x| x.acos(), f64::acos, 1.0),
    function("atan", |x| x.atan(), f64::atan, 1.0),
    function("sinh", |x| x.sinh(), f64::sinh, 2.0),
    function("cosh", |x| x.cosh(), f64::cosh, 2.0),
    function("asinh", |x| x.asinh(), libm::asinh, 2.0),
    function("acosh", |x| x.acosh(), exact::acosh, 2.0),
    function("atanh", |x| x.atanh(), libm::atanh, 2.0),
    function("erfinv", |x| x.erfinv(), exact::erfinv, 0.51),
    function("logit", |x| x.logit(None), exact::logit, 4.0).absolute(2e-7),
    function("rsqrt", |x| x.rsqrt(), |x| 1.0 / x.sqrt(), 1.5),
    function("sqrt", |x| x.sqrt(), f64::sqrt, 0.5),
    function("reciprocal", |x| x.reciprocal(), |x| 1.0 / x, 0.5),
    function("square", |x| x.square(), |x| x * x, 0.5),
    function("pow(3)", |x| x.pow(3i64), |x| x * x * x, 1.5),
    function("pow(0.5)", |x| x.pow(0.5), f64::sqrt, 0.5),
    function("pow(-0.5)", |x| x.pow(-0.5), |x| 1.0 / x.sqrt(), 1.5),
    function("pow(-2)", |x| x.pow(-2i64), |x| 1.0 / (x * x), 2.0),
    function("pow(2.5)", |x| x.pow(2.5), |x| x.powf(2.5), 1.0),
    function(
        "celu",
        |x| x.celu(1.5),
        |x| exact::elu(x, 1.5, 1.0 / 1.5),
        3.0,
    )
    .slope(|x| exact::elu_slope(x, 1.5, 1.0 / 1.5), 4.0, 1e-7),
    function("elu", |x| x.elu(1.5), |x| exact::elu(x, 1.5, 1.0), 2.0).slope(
        |x| exact::elu_slope(x, 1.5, 1.0),
        4.0,
        1e-7,
    ),
    function("selu", |x| x.selu(), exact::selu, 2.0).slope(exact::selu_slope, 4.0, 1e-7),
    function("softplus", |x| x.softplus(()), exact::softplus, 3.0).slope(exact::sigmoid, 4.0, 1e-7),
    function("logsigmoid", |x| x.logsigmoid(), exact::logsigmoid, 3.0).slope(
        |x| exact::sigmoid(-x),
        4.0,
        1e-7,
    ),
    function("mish", |x| x.mish(), exact::mish, 5.0)
        .absolute(1e-37)
        .slope(exact::mish_slope, 8.0, 2e-7),
    function("tanhshrink", |x| x.tanhshrink(), exact::tanhshrink, 12.0).slope(
        |x| x.tanh().powi(2),
        4.0,
        0.0,
    ),
    function("softsign", |x| x.softsign(), exact::softsign, 1.5).slope(
        exact::softsign_slope,
        4.0,
        3e-39,
    ),
    function("hardsigmoid", |x| x.hardsigmoid(), exact::hardsigmoid, 1.5).slope(
        |x| if x.abs() < 3.0 { 1.0 / 6.0 } else { 0.0 },
        1.0,
        0.0,
    ),
    function("hardswish", |x| x.hardswish(), exact::hardswish, 2.0).slope(
        exact::hardswish_slope,
        1.0,
        2e-7,
    ),
    function(
        "leaky_relu",
        |x| x.leaky_relu(0.01),
        |x| if x > 0.0 { x } else { 0.01 * x },
        1.0,
    )
    .slope(|x| if x > 0.0 { 1.0 } else { 0.01 }, 0.5, 0.0),
    function(
        "softshrink",
        |x| x.softshrink(0.5),
        |x| exact::shrunk(x, 0.5, 0.5),
        0.5,
    ),
    function(
        "hardshrink",
        |x| x.hardshrink(0.5),
        |x| exact::shrunk(x, 0.5, 0.0),
        0.0,
    ),
    function(
        "hardtanh",
        |x| x.hardtanh(-1.0..=1.0),
        |x| exact::held(x, -1.0, 1.0),
        0.0,
    ),
    function(
        "relu",
        |x| x.relu(),
        |x| exact::held(x, 0.0, f64::INFINITY),
        0.0,
    ),
    function("relu6", |x| x.relu6(), |x| exact::held(x, 0.0, 6.0), 0.0),
    function(
        "threshold",
        |x| x.threshold(0.5, 2.0),
        |x| if x <= 0.5 { 2.0 } else { x },
        0.0,
    ),
    function("abs", |x| x.abs(), f64::abs, 0.0),
    function("neg", |x| x.neg(), |x| -x, 0.0),
    function("sign", |x| x.sign(), exact::sign, 0.0),
    function("ceil", |x| x.ceil(), f64::ceil, 0.0),
    function("floor", |x| x.floor(), f64::floor, 0.0),
    function("round", |x| x.round(), f64::round_ties_even, 0.0),
    function("trunc", |x| x.trunc(), f64::trunc, 0.0),
    function("frac", |x| x.frac(), f64::fract, 0.0),
    function(
        "clamp",
        |x| x.clamp(-1.5..=2.5),
        |x| exact::held(x, -1.5, 2.5),
        0.0,
    ),
];
