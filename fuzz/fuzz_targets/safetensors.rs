//! Any bytes as a safetensors file: tensors that can be read and printed, or an error.
#![no_main]

use std::io::Write;

use ascend_tensor::io::load_safetensors;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let name = format!("ascend-tensor-fuzz-{}.safetensors", std::process::id());
    let path = std::env::temp_dir().join(name);
    // A new file each time: the old one may still be mapped.
    let _ = std::fs::remove_file(&path);
    let written = std::fs::File::create(&path).and_then(|mut file| file.write_all(bytes));
    if written.is_err() {
        return;
    }
    if let Ok(tensors) = load_safetensors(&path) {
        for tensor in tensors.values() {
            assert!(tensor.to_string().starts_with("tensor("));
            let _ = tensor.to_f64_vec();
        }
    }
});
