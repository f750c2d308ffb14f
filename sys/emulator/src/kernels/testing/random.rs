//! Random kernels: a known answer of the generator, repeatability, ranges and moments.
//!
//! Knows the kernels by name; it must not know how they compute.

use super::*;
use crate::kernels::random::Philox;

#[test]
fn philox_gives_the_published_words() {
    // Known answers of the generator's authors: all zero, and all ones.
    let mut zero = Philox::new(0, 0);
    let words: Vec<u32> = (0..4).map(|_| zero.word()).collect();
    assert_eq!(words, [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
}

#[test]
fn masks_keep_the_share_and_scale_it() {
    let mask = empty(DType::U8, &[128]);
    let call = [
        ints(&[1000]),
        Arg::Float(0.25),
        Arg::Int(7),
        Arg::Int(0),
        arg(&mask),
    ];
    run("aclnnDropoutGenMask", &call).expect("a mask");
    let kept: u32 = mask
        .load_vec::<u8>()
        .iter()
        .map(|byte| byte.count_ones())
        .sum();
    assert!((680..820).contains(&kept), "{kept} of 1000 kept");
    let (x, out) = (floats(&[9], &[1.; 9]), empty(DType::F32, &[9]));
    let mut bits = vec![0u8; 16];
    bits[0] = 0b10;
    bits[1] = 1;
    let mask = tensor(DType::U8, &[16], &bits);
    run(
        "aclnnDropoutDoMask",
        &[arg(&x), arg(&mask), Arg::Float(0.5), arg(&out)],
    )
    .expect("a product");
    assert_close(&out, &[0., 2., 0., 0., 0., 0., 0., 0., 2.], 0.0);
    let short = tensor(DType::U8, &[2], &[1u8, 1]);
    let refused = run(
        "aclnnDropoutDoMask",
        &[arg(&x), arg(&short), Arg::Float(0.5), arg(&out)],
    );
    assert_eq!(refused.expect_err("128 bits are needed").code, 161002);
}

#[test]
fn normal_and_uniform_have_their_moments() {
    let x = empty(DType::F32, &[10000]);
    let call = [
        arg(&x),
        Arg::Float(2.0),
        Arg::Float(3.0),
        Arg::Int(1),
        Arg::Int(0),
    ];
    run("aclnnInplaceNormal", &call).expect("numbers");
    let first = x.load_vec::<f32>();
    let mean = first.iter().sum::<f32>() / 1e4;
    let variance = first.iter().map(|x| (x - mean) * (x - mean)).sum::<f32>() / 1e4;
    assert!(
        (mean - 2.0).abs() < 0.15 && (variance - 9.0).abs() < 0.5,
        "{mean} {variance}"
    );
    run("aclnnInplaceNormal", &call).expect("numbers");
    assert_eq!(first, x.load_vec::<f32>());
    let call = [
        arg(&x),
        Arg::Float(-1.0),
        Arg::Float(1.0),
        Arg::Int(1),
        Arg::Int(5),
    ];
    run("aclnnInplaceUniform", &call).expect("numbers");
    let values = x.load_vec::<f32>();
    assert!(values.iter().all(|x| (-1.0..1.0).contains(x)));
    assert!(values.iter().sum::<f32>().abs() < 300.0);
}

#[test]
fn permutations_and_draws() {
    let out = longs(&[100], &[0; 100]);
    run(
        "aclnnRandperm",
        &[Arg::Int(100), Arg::Int(3), Arg::Int(0), arg(&out)],
    )
    .expect("an order");
    let mut values = out.load_vec::<i64>();
    assert_ne!(values, (0..100).collect::<Vec<_>>());
    values.sort_unstable();
    assert_eq!(values, (0..100).collect::<Vec<_>>());
    let weights = floats(&[3], &[1., 0., 1.]);
    let out = longs(&[2], &[0; 2]);
    let call = [
        arg(&weights),
        Arg::Int(2),
        Arg::Bool(false),
        Arg::Int(1),
        Arg::Int(0),
        arg(&out),
    ];
    run("aclnnMultinomial", &call).expect("two of three");
    let mut drawn = out.load_vec::<i64>();
    drawn.sort_unstable();
    assert_eq!(drawn, [0, 2]);
}
