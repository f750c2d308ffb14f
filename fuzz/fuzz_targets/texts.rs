//! Any text as a device, a dtype or an einsum equation; any numbers as a tensor to print.
#![no_main]

use ascend_tensor::{DType, Device, Tensor};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (String, Vec<f64>, u8, u8)| {
    let (text, values, dtype, split) = input;
    if let Ok(device) = text.parse::<Device>() {
        assert_eq!(device.to_string().parse::<Device>().ok(), Some(device));
    }
    if let Ok(dtype) = text.parse::<DType>() {
        assert_eq!(dtype.to_string().parse::<DType>().ok(), Some(dtype));
    }
    let count = values.len();
    let rows = 1 + usize::from(split) % 4;
    let dtype = DType::ALL[usize::from(dtype) % DType::ALL.len()];
    let shape = if count.is_multiple_of(rows) { vec![rows, count / rows] } else { vec![count] };
    if let Ok(x) = Tensor::from_vec(values, shape).and_then(|x| x.to_dtype(dtype)) {
        assert!(x.to_string().starts_with("tensor("));
        let _ = Tensor::einsum(&text, &[&x, &x]);
    }
});
