//! One operand: closed forms, and gradients against difference quotients of the forward op.
//!
//! Knows the kernels by name; it must not know how they compute.

use super::super::testing::{arg, empty, floats, long_scalar, run, scalar, tensor, text};
use super::*;
use std::f64::consts::{E, FRAC_PI_2, LN_2, PI};

#[test]
fn elementary_functions_at_known_points() {
    let inf = f64::INFINITY;
    let cases: [(&'static str, f64, f64); 34] = [
        ("aclnnExp", 1.0, E),
        ("aclnnExp2", 3.0, 8.0),
        ("aclnnExpm1", 1e-10, 1e-10),
        ("aclnnLog", 0.0, -inf),
        ("aclnnLog1p", 1.0, LN_2),
        ("aclnnLog2", 8.0, 3.0),
        ("aclnnLog10", 1000.0, 3.0),
        ("aclnnSqrt", -1.0, f64::NAN),
        ("aclnnRsqrt", 4.0, 0.5),
        ("aclnnReciprocal", -0.0, -inf),
        ("aclnnSquare", -3.0, 9.0),
        ("aclnnAsin", 1.0, FRAC_PI_2),
        ("aclnnAcos", -1.0, PI),
        ("aclnnAtan", 1.0, PI / 4.0),
        ("aclnnSinh", LN_2, 0.75),
        ("aclnnCosh", LN_2, 1.25),
        ("aclnnTanh", LN_2, 0.6),
        ("aclnnAsinh", 0.75, LN_2),
        ("aclnnAcosh", 1.25, LN_2),
        ("aclnnAtanh", 0.6, LN_2),
        ("aclnnErf", 0.5, 0.520_499_877_813_046_5),
        ("aclnnErfc", 0.5, 0.479_500_122_186_953_5),
        ("aclnnErfinv", 0.520_499_877_813_046_5, 0.5),
        ("aclnnErfinv", 1.0, inf),
        ("aclnnSinc", 0.5, 2.0 / PI),
        ("aclnnLgamma", 5.0, 3.178_053_830_347_946),
        ("aclnnDigamma", 1.0, -0.577_215_664_901_532_9),
        ("aclnnSigmoid", -1000.0, 0.0),
        ("aclnnFloor", -1.5, -2.0),
        ("aclnnCeil", -1.5, -1.0),
        ("aclnnTrunc", -1.5, -1.0),
        ("aclnnRound", 2.5, 2.0),
        ("aclnnFrac", -1.25, -0.25),
        ("aclnnSign", -0.5, -1.0),
    ];
    for (name, x, y) in cases {
        let x = tensor(DType::F64, &[1], &[x]);
        let out = result(name, &[arg(&x)], DType::F64, &[1]);
        assert_near(name, &out.load_vec::<f64>(), &[y]);
    }
}

#[test]
fn integers_give_floats_where_the_function_is_one() {
    let out = result("aclnnSqrt", &[arg(&words(&[4, 9]))], DType::F32, &[2]);
    assert_eq!(out.load_vec::<f32>(), [2., 3.]);
    let out = result(
        "aclnnAbs",
        &[arg(&tensor(DType::I8, &[2], &[-128i64, -5]))],
        DType::I8,
        &[2],
    );
    assert_eq!(out.load_vec::<i64>(), [-128, 5]);
    let out = result("aclnnBitwiseNot", &[arg(&words(&[0, 5]))], DType::I32, &[2]);
    assert_eq!(out.load_vec::<i64>(), [-1, -6]);
    let args = [arg(&floats(&[2], &[1.25, -1.35])), Arg::Int(1)];
    assert_near(
        "round",
        &values("aclnnRoundDecimals", &args, 2),
        &[1.2, -1.4],
    );
    let complex = tensor(DType::C64, &[1], &[crate::number::Complex::new(3.0, -4.0)]);
    assert_eq!(
        result("aclnnAbs", &[arg(&complex)], DType::F32, &[1]).load_vec::<f32>(),
        [5.0]
    );
    assert_eq!(
        result("aclnnReal", &[arg(&complex)], DType::F32, &[1]).load_vec::<f32>(),
        [3.0]
    );
    let root = result("aclnnSqrt", &[arg(&complex)], DType::C64, &[1]);
    assert_eq!(
        root.load_vec::<crate::number::Complex>(),
        [crate::number::Complex::new(2.0, -1.0)]
    );
}

#[test]
fn kinds_of_numbers() {
    let x = floats(
        &[5],
        &[1., f32::INFINITY, f32::NEG_INFINITY, f32::NAN, -0.0],
    );
    let truth = |name| result(name, &[arg(&x)], DType::Bool, &[5]).load_vec::<bool>();
    assert_eq!(truth("aclnnIsFinite"), [true, false, false, false, true]);
    assert_eq!(truth("aclnnIsInf"), [false, true, true, false, false]);
    assert_eq!(truth("aclnnIsNegInf"), [false, false, true, false, false]);
    assert!(truth("aclnnSignbit")[4]);
    assert_eq!(truth("aclnnLogicalNot"), [false, false, false, false, true]);
    let args = [arg(&x), Arg::Float(7.0), Arg::Float(8.0), Arg::Float(9.0)];
    assert_near(
        "nan_to_num",
        &values("aclnnNanToNum", &args, 5),
        &[1.0, 8.0, 9.0, 7.0, 0.0],
    );
}

#[test]
fn activations_at_known_points() {
    let one = || scalar(1.0);
    // σ(1) and Φ(1).
    let (sigma, normal) = (0.731_058_578_630_004_9, 0.841_344_746_068_542_9);
    let cases: [(&'static str, Vec<Arg>, f64, f64); 20] = [
        ("aclnnRelu", vec![], -2.0, 0.0),
        ("aclnnLeakyRelu", vec![scalar(0.5)], -2.0, -1.0),
        ("aclnnElu", vec![scalar(2.0), one(), one()], -LN_2, -1.0),
        ("aclnnSelu", vec![], 2.0, 2.101_401_974_710_961),
        ("aclnnCelu", vec![scalar(2.0)], -2.0 * LN_2, -1.0),
        ("aclnnGeluV2", vec![Arg::Int(0)], 1.0, normal),
        // 0.5 (1 + tanh(0.044715 + 1) sqrt(2/pi))
        (
            "aclnnGeluV2",
            vec![Arg::Int(1)],
            1.0,
            0.841_191_990_608_276_6,
        ),
        ("aclnnGelu", vec![], 1.0, 0.841_191_990_608_276_6),
        ("aclnnSilu", vec![], 1.0, sigma),
        ("aclnnSwish", vec![scalar(0.5)], 2.0, 2.0 * sigma),
        ("aclnnSwish", vec![Arg::Scalar(None)], 1.0, sigma),
        ("aclnnMish", vec![], 0.0, 0.0),
        ("aclnnSoftplus", vec![one(), scalar(20.0)], 0.0, LN_2),
        ("aclnnSoftplus", vec![scalar(2.0), scalar(1.0)], 3.0, 3.0),
        ("aclnnHardsigmoid", vec![], 1.5, 0.75),
        ("aclnnHardswish", vec![], 1.0, 2.0 / 3.0),
        ("aclnnHardtanh", vec![scalar(-0.5), scalar(0.5)], 1.0, 0.5),
        ("aclnnLogSigmoid", vec![], -1000.0, -1000.0),
        ("aclnnThreshold", vec![one(), scalar(9.0)], 1.0, 9.0),
        ("aclnnSoftshrink", vec![scalar(0.5)], -2.0, -1.5),
    ];
    for (name, attributes, x, y) in cases {
        let mut args = vec![arg(&floats(&[1], &[x as f32]))];
        args.extend(attributes);
        assert_near(name, &values(name, &args, 1), &[y]);
    }
    let (x, w) = (floats(&[1, 2], &[-2., -3.]), floats(&[2], &[0.5, 0.25]));
    let out = result("aclnnPrelu", &[arg(&x), arg(&w)], DType::F32, &[1, 2]);
    assert_eq!(out.load_vec::<f32>(), [-1.0, -0.75]);
    assert_eq!(
        refusal("aclnnCelu", &[arg(&x), scalar(0.0), arg(&x)]),
        161002
    );
    assert_eq!(
        refusal("aclnnGeluV2", &[arg(&x), Arg::Int(2), arg(&x)]),
        161002
    );
}

/// A forward op, its attributes, its gradient op, and the gradient's attributes.
type Differentiable = (&'static str, Vec<Arg>, &'static str, Vec<Arg>);

/// The ops whose gradients take the forward's input.
fn differentiable() -> Vec<Differentiable> {
    vec![
        ("aclnnGelu", vec![], "aclnnGeluBackward", vec![]),
        (
            "aclnnGeluV2",
            vec![Arg::Int(0)],
            "aclnnGeluBackwardV2",
            vec![text("none")],
        ),
        (
            "aclnnGeluV2",
            vec![Arg::Int(1)],
            "aclnnGeluBackwardV2",
            vec![text("tanh")],
        ),
        ("aclnnFastGelu", vec![], "aclnnFastGeluBackward", vec![]),
        ("aclnnSilu", vec![], "aclnnSiluBackward", vec![]),
        (
            "aclnnSwish",
            vec![scalar(0.5)],
            "aclnnSwishBackward",
            vec![scalar(0.5)],
        ),
        ("aclnnMish", vec![], "aclnnMishBackward", vec![]),
        (
            "aclnnSoftplus",
            vec![scalar(2.0), scalar(2.0)],
            "aclnnSoftplusBackward",
            vec![scalar(2.0), scalar(2.0)],
        ),
        (
            "aclnnHardsigmoid",
            vec![],
            "aclnnHardsigmoidBackward",
            vec![],
        ),
        ("aclnnHardswish", vec![], "aclnnHardswishBackward", vec![]),
        ("aclnnHardswish", vec![], "aclnnHardswishBackwardV2", vec![]),
        (
            "aclnnHardshrink",
            vec![scalar(0.5)],
            "aclnnHardshrinkBackward",
            vec![scalar(0.5)],
        ),
        (
            "aclnnSoftshrink",
            vec![scalar(0.5)],
            "aclnnSoftshrinkBackward",
            vec![scalar(0.5)],
        ),
        (
            "aclnnLeakyRelu",
            vec![scalar(0.25)],
            "aclnnLeakyReluBackward",
            vec![scalar(0.25), Arg::Bool(false)],
        ),
        (
            "aclnnRelu",
            vec![],
            "aclnnThresholdBackward",
            vec![scalar(0.0)],
        ),
    ]
}

/// Both as functions of one f64 input, where the ops are checked by f32 tables elsewhere.
#[test]
fn gradients_are_the_slopes_of_their_functions() {
    let unit = || vec![scalar(2.0), scalar(1.5), scalar(0.5)];
    let cases = differentiable();
    let (points, step) = ([-4.0f64, -1.3, -0.2, 0.3, 0.9, 4.5], 1e-5);
    let wide = |values: &[f64]| tensor(DType::F64, &[values.len()], values);
    let call = |name, attributes: &[Arg], x: Vec<f64>, first: Option<Arg>| {
        let mut args: Vec<Arg> = first.into_iter().collect();
        args.push(arg(&wide(&x)));
        args.extend_from_slice(attributes);
        result(name, &args, DType::F64, &[x.len()]).load_vec::<f64>()
    };
    let check = |name: &str, above: Vec<f64>, below: Vec<f64>, slopes: Vec<f64>| {
        for ((a, b), slope) in above.iter().zip(below).zip(slopes) {
            let quotient = (a - b) / (2.0 * step);
            assert!(
                (2.0 * quotient - slope).abs() < 1e-6,
                "{name}: {slope}, wanted {}",
                2.0 * quotient
            );
        }
    };
    let shifted = |by: f64| points.iter().map(|x| x + by).collect::<Vec<f64>>();
    let twice = || Some(arg(&wide(&[2.0; 6])));
    for (name, attributes, gradient, rest) in cases {
        let above = call(name, &attributes, shifted(step), None);
        let below = call(name, &attributes, shifted(-step), None);
        check(
            gradient,
            above,
            below,
            call(gradient, &rest, points.to_vec(), twice()),
        );
    }
    // From the forward's result.
    for (name, gradient) in [
        ("aclnnSigmoid", "aclnnSigmoidBackward"),
        ("aclnnTanh", "aclnnTanhBackward"),
        ("aclnnSelu", "aclnnSeluBackward"),
    ] {
        let (above, below) = (
            call(name, &[], shifted(step), None),
            call(name, &[], shifted(-step), None),
        );
        let y = call(name, &[], points.to_vec(), None);
        check(gradient, above, below, call(gradient, &[], y, twice()));
    }
    for from_result in [false, true] {
        let (above, below) = (
            call("aclnnElu", &unit(), shifted(step), None),
            call("aclnnElu", &unit(), shifted(-step), None),
        );
        let y = call("aclnnElu", &unit(), points.to_vec(), None);
        let input = wide(&if from_result { y } else { points.to_vec() });
        let mut args = vec![arg(&wide(&[2.0; 6]))];
        args.extend(unit());
        args.extend([Arg::Bool(from_result), arg(&input)]);
        check(
            "aclnnEluBackward",
            above,
            below,
            result("aclnnEluBackward", &args, DType::F64, &[6]).load_vec(),
        );
    }
}

#[test]
fn gated_units_and_their_gradients() {
    let x = floats(&[1, 4], &[0., 0., 3., 5.]);
    let out = result(
        "aclnnSwiGlu",
        &[arg(&floats(&[1, 2], &[1., 4.])), Arg::Int(-1)],
        DType::F32,
        &[1, 1],
    );
    // silu(1) · 4
    assert_near(
        "swiglu",
        &out.load_vec::<f64>(),
        &[4.0 * 0.731_058_578_630_004_9],
    );
    let out = result(
        "aclnnGlu",
        &[arg(&floats(&[2], &[6., 0.])), Arg::Int(0)],
        DType::F32,
        &[1],
    );
    assert_eq!(out.load_vec::<f32>(), [3.0]);
    // silu'(0) = 1/2, silu(0) = 0.
    let dy = floats(&[1, 2], &[2., 4.]);
    let out = result(
        "aclnnSwiGluGrad",
        &[arg(&dy), arg(&x), Arg::Int(1)],
        DType::F32,
        &[1, 4],
    );
    assert_eq!(out.load_vec::<f32>(), [3., 10., 0., 0.]);
    let glu = floats(&[2], &[6., 0.]);
    let out = result(
        "aclnnGluBackward",
        &[arg(&floats(&[1], &[1.])), arg(&glu), Arg::Int(0)],
        DType::F32,
        &[2],
    );
    assert_eq!(out.load_vec::<f32>(), [0.5, 1.5]);
    let (out, gelu) = (empty(DType::F32, &[1]), empty(DType::F32, &[1]));
    let halves = floats(&[2], &[2., 1.]);
    run(
        "aclnnGeGlu",
        &[
            arg(&halves),
            Arg::Int(0),
            Arg::Int(0),
            arg(&out),
            arg(&gelu),
        ],
    )
    .expect("geglu");
    assert_near("geglu", &gelu.load_vec::<f64>(), &[0.841_344_746_068_542_9]);
    assert_near(
        "geglu",
        &out.load_vec::<f64>(),
        &[2.0 * 0.841_344_746_068_542_9],
    );
    let odd = floats(&[3], &[0.; 3]);
    assert_eq!(
        refusal("aclnnSwiGlu", &[arg(&odd), Arg::Int(0), arg(&odd)]),
        161002
    );
}

#[test]
fn parametric_and_clamped_gradients() {
    let (dy, x) = (
        floats(&[2, 2], &[1., 2., 3., 4.]),
        floats(&[2, 2], &[-1., 5., -3., -4.]),
    );
    let w = floats(&[2], &[0.5, 0.25]);
    let (dx, dw) = (empty(DType::F32, &[2, 2]), empty(DType::F32, &[2]));
    run(
        "aclnnPreluBackward",
        &[arg(&dy), arg(&x), arg(&w), arg(&dx), arg(&dw)],
    )
    .expect("a gradient");
    assert_eq!(dx.load_vec::<f32>(), [0.5, 2., 1.5, 1.]);
    assert_eq!(dw.load_vec::<f32>(), [-10., -16.]);
    let (ones, x) = (floats(&[3], &[1.; 3]), floats(&[3], &[-1., 0., 1.]));
    let args = [arg(&ones), arg(&x), scalar(-1.0), scalar(1.0)];
    assert_near(
        "hardtanh",
        &values("aclnnHardtanhBackward", &args, 3),
        &[0.0, 1.0, 0.0],
    );
    let args = [arg(&words(&[5, 6])), arg(&words(&[0, 1])), long_scalar(0)];
    let out = result("aclnnThresholdBackward", &args, DType::I32, &[2]);
    assert_eq!(out.load_vec::<i64>(), [0, 6]);
    let args = [
        arg(&floats(&[2], &[0.5, 0.01])),
        arg(&floats(&[2], &[1., 1.])),
        Arg::Float(0.1),
    ];
    assert_near("logit", &values("aclnnLogitGrad", &args, 2), &[4.0, 0.0]);
}

#[test]
fn fatrelu_takes_its_threshold_as_a_tensor() {
    let x = floats(&[2, 4], &[1., 3., 10., 10., 2., -1., 10., 10.]);
    let threshold = floats(&[1], &[2.]);
    let out = result(
        "aclnnFatreluMul",
        &[arg(&x), arg(&threshold)],
        DType::F32,
        &[2, 2],
    );
    assert_eq!(out.load_vec::<f32>(), [0., 30., 20., 0.]);
}

#[test]
fn sigmoid_of_integers_and_complex_numbers() {
    use crate::number::Complex;
    let x = tensor(DType::I32, &[2], &[0i64, 2]);
    let out = result("aclnnSigmoid", &[arg(&x)], DType::F32, &[2]);
    assert_eq!(out.load_vec::<f32>(), [0.5, 0.880_797_1]);
    // 1 / (1 + exp(-(1 + 2 i))) by Python's cmath.
    let z = tensor(DType::C64, &[1], &[Complex::new(1.0, 2.0)]);
    let out = result("aclnnSigmoid", &[arg(&z)], DType::C64, &[1]);
    let value = out.load_one::<Complex>();
    assert!((value.re - 1.021_415_364).abs() < 1e-6 && (value.im - 0.403_438_706).abs() < 1e-6);
}
