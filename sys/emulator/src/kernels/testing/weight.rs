//! Weights in FRACTAL_NZ: where elements lie, padding, both ways, and products with them.
//!
//! Knows hand-made values; it must not know how the kernels walk.

use super::*;
use crate::dtype::DType;

/// A tensor over fresh memory of the size of its storage.
fn described(dtype: DType, format: i32, shape: &[i64], strides: &[i64], storage: &[i64]) -> Tensor {
    let count: i64 = storage.iter().product();
    let memory: &'static mut [u64] = Box::leak(vec![0u64; count as usize + 1].into_boxed_slice());
    let description = Description {
        dtype: dtype.code(),
        format,
        shape: shape.to_vec(),
        strides: strides.to_vec(),
        offset: 0,
        storage: storage.to_vec(),
    };
    let object = TensorObject::new(description, memory.as_mut_ptr() as usize);
    Tensor::snapshot(&Arc::new(object), "test").expect("a tensor")
}

#[test]
fn a_cast_pads_blocks_and_finds_back() {
    // 2 by 10 f32: two columns of blocks of 16 by 8.
    let values: Vec<f32> = (1..=20).map(|at| at as f32).collect();
    let plain = floats(&[2, 10], &values);
    let packed = described(DType::F32, 29, &[2, 10], &[10, 1], &[2, 1, 16, 8]);
    run("aclnnNpuFormatCast", &[arg(&plain), arg(&packed)]).expect("blocks");
    let raw = packed.row(256).load_vec::<f32>();
    // Rows of the first block, the padding of rows, the second block with its two columns.
    assert_eq!(raw[..10], [1., 2., 3., 4., 5., 6., 7., 8., 11., 12.]);
    assert_eq!((raw[15], raw[16], raw[127]), (18., 0., 0.));
    assert_eq!(raw[128..138], [9., 10., 0., 0., 0., 0., 0., 0., 19., 20.]);
    let back = empty(DType::F32, &[2, 10]);
    run("aclnnNpuFormatCast", &[arg(&packed), arg(&back)]).expect("rows");
    assert_close(&back, &values.map_to(), 0.0);
    let narrow = described(DType::F32, 29, &[2, 10], &[10, 1], &[1, 1, 16, 8]);
    assert!(run("aclnnNpuFormatCast", &[arg(&plain), arg(&narrow)]).is_err());
}

trait Wide {
    fn map_to(&self) -> Vec<f64>;
}

impl Wide for Vec<f32> {
    fn map_to(&self) -> Vec<f64> {
        self.iter().map(|&value| f64::from(value)).collect()
    }
}

#[test]
fn products_read_blocks_of_both_orders() {
    // [1 2 3] times [[1 2] [3 4] [5 6]] = [22 28].
    let x = tensor(DType::F16, &[1, 3], &[1f32, 2., 3.]);
    let straight = described(DType::F16, 2, &[3, 2], &[2, 1], &[256]);
    straight
        .store_slice(&[1f32, 2., 3., 4., 5., 6.])
        .expect("six");
    let turned = described(DType::F16, 2, &[3, 2], &[1, 3], &[256]);
    turned
        .store_slice(&[1f32, 2., 3., 4., 5., 6.])
        .expect("six");
    for weight in [straight, turned] {
        run("aclnnTransMatmulWeight", &[arg(&weight)]).expect("blocks");
        let out = empty(DType::F16, &[1, 2]);
        let call = [arg(&x), arg(&weight), arg(&out), Arg::Int(0)];
        run("aclnnMatmulWeightNz", &call).expect("a product");
        assert_close(&out, &[22., 28.], 0.0);
        let (one, two) = (scalar(2.0), scalar(0.5));
        let added = empty(DType::F16, &[1, 2]);
        let bias = tensor(DType::F16, &[2], &[1f32, -1.]);
        let call = [
            arg(&bias),
            arg(&x),
            arg(&weight),
            one,
            two,
            arg(&added),
            Arg::Int(0),
        ];
        run("aclnnAddmmWeightNz", &call).expect("a sum");
        assert_close(&added, &[13., 12.], 0.0);
    }
}

#[test]
fn batches_have_blocks_of_their_own() {
    let x = tensor(DType::F16, &[2, 1, 2], &[1f32, 2., 3., 4.]);
    let weight = described(DType::F16, 2, &[2, 2, 1], &[2, 1, 1], &[512]);
    weight.store_slice(&[1f32, 10., 100., 1000.]).expect("four");
    run("aclnnTransMatmulWeight", &[arg(&weight)]).expect("blocks");
    let out = empty(DType::F16, &[2, 1, 1]);
    let call = [arg(&x), arg(&weight), arg(&out), Arg::Int(0)];
    run("aclnnBatchMatMulWeightNz", &call).expect("products");
    assert_close(&out, &[21., 4300.], 2e-3);
}

#[test]
fn quantised_products_read_blocks() {
    // [[1 2] [3 -4]] times [[5 -6] [7 8]] = [[19 10] [-13 -50]].
    let x = tensor(DType::I8, &[2, 2], &[1f32, 2., 3., -4.]);
    let weight = described(DType::I8, 2, &[2, 2], &[2, 1], &[512]);
    weight.store_slice(&[5f32, -6., 7., 8.]).expect("four");
    run("aclnnTransMatmulWeight", &[arg(&weight)]).expect("blocks");
    let scale = floats(&[2], &[0.5, 2.0]);
    let tokens = floats(&[2], &[1.0, 10.0]);
    let out = empty(DType::Bf16, &[2, 2]);
    let call = |group: i64| {
        [
            arg(&x),
            arg(&weight),
            arg(&tokens),
            arg(&scale),
            null(),
            null(),
            null(),
            null(),
            null(),
            Arg::Bool(false),
            Arg::Bool(false),
            Arg::Int(group),
            arg(&out),
        ]
    };
    run("aclnnQuantMatmulWeightNz", &call(0)).expect("a product");
    assert_close(&out, &[9.5, 20., -65., -1000.], 0.0);
    assert!(run("aclnnQuantMatmulWeightNz", &call(32)).is_err());
}

#[test]
fn quantised_products_by_named_scales() {
    let x = tensor(DType::I8, &[2, 2], &[1i64, 2, -1, 0]);
    let weight = tensor(DType::I8, &[2, 1], &[3i64, 4]);
    let (tokens, scale) = (floats(&[2], &[2., 1.]), floats(&[1], &[0.5]));
    let out = empty(DType::Bf16, &[2, 1]);
    let (no, off) = (null(), Arg::Bool(false));
    let call = [
        &[arg(&x), arg(&weight), arg(&tokens), arg(&scale)][..],
        &[no.clone(), no.clone(), no.clone(), no.clone(), no][..],
        &[off.clone(), off, Arg::Int(0), arg(&out)][..],
    ];
    run("aclnnQuantMatmulV5", &call.concat()).expect("a product");
    // (1 3 + 2 4) 0.5 2 and -3 0.5 1.
    assert_eq!(out.load_vec::<f32>(), [11., -1.5]);
}
