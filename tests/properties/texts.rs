//! Files and texts that may hold anything: safetensors, names of devices and dtypes, and what tensors print.
//!
//! Knows formats from the outside. Must not know ops.

use std::io::Write;
use std::path::PathBuf;

use ascend_tensor::io::{load_safetensors, save_safetensors};
use ascend_tensor::{DType, Device, Tensor};
use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::test_runner::TestCaseError;

use crate::mutate::{Choices, DTYPES, tensor};

fn fail(error: impl ToString) -> TestCaseError {
    TestCaseError::fail(error.to_string())
}

/// A file of this process in the system's folder for such, gone when dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let name = format!("ascend-tensor-{}-{name}.safetensors", std::process::id());
        Scratch(std::env::temp_dir().join(name))
    }

    fn write(&self, bytes: &[u8]) -> Result<(), TestCaseError> {
        // Opened anew each time: an earlier content may still be mapped, and must not change under its readers.
        let _ = std::fs::remove_file(&self.0);
        let mut file = std::fs::File::create(&self.0).map_err(fail)?;
        file.write_all(bytes).map_err(fail)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Header texts that are nearly right.
fn header() -> impl Strategy<Value = String> {
    let number = prop_oneof![
        3 => (0u64..40).prop_map(|n| n.to_string()),
        1 => any::<u64>().prop_map(|n| n.to_string()),
        1 => Just(String::from("-1")),
        1 => Just(String::from("1.5")),
        1 => Just(String::from("null")),
    ];
    let dtype = proptest::sample::select(vec![
        "F32", "F64", "I64", "BOOL", "U8", "BF16", "F8_E4M3", "X", "C64", "F4",
    ]);
    let shape = proptest::collection::vec(number.clone(), 0..4).prop_map(|sizes| sizes.join(","));
    let entry = (dtype, shape, number.clone(), number, 0..8u8).prop_map(
        |(dtype, shape, start, end, odd)| match odd {
            0 => format!(r#"{{"dtype":"{dtype}","shape":[{shape}]}}"#),
            1 => format!(r#"{{"dtype":"{dtype}","data_offsets":[{start},{end}]}}"#),
            2 => format!(r#"{{"dtype":"{dtype}","shape":[{shape}],"data_offsets":[{start}]}}"#),
            _ => {
                format!(r#"{{"dtype":"{dtype}","shape":[{shape}],"data_offsets":[{start},{end}]}}"#)
            }
        },
    );
    proptest::collection::vec(("[a-c]{1,2}", entry), 0..4).prop_map(|entries| {
        let entries: Vec<String> = entries
            .iter()
            .map(|(name, entry)| format!(r#""{name}":{entry}"#))
            .collect();
        format!("{{{}}}", entries.join(","))
    })
}

/// What a file that was accepted holds can be read, printed and saved.
fn use_up(path: &std::path::Path) {
    if let Ok(tensors) = load_safetensors(path) {
        for tensor in tensors.values() {
            assert!(!tensor.to_string().is_empty());
            let _ = tensor.to_f64_vec();
        }
    }
}

#[test]
fn damaged_files_give_errors() {
    let scratch = Scratch::new("damaged");
    let parts = (
        header(),
        any::<u16>(),
        proptest::collection::vec(any::<u8>(), 0..64),
        0..6u8,
    );
    let tried = crate::runner(1500).run(&parts, |(header, length, data, odd)| {
        let length = match odd {
            0 => u64::from(length),
            1 => u64::MAX - u64::from(length),
            _ => header.len() as u64,
        };
        let bytes = [&length.to_le_bytes()[..], header.as_bytes(), &data].concat();
        scratch.write(&bytes)?;
        use_up(&scratch.0);
        Ok(())
    });
    assert!(tried.is_ok(), "{tried:?}");
}

#[test]
fn a_good_file_with_a_changed_byte_gives_an_error_or_tensors() {
    let (good, scratch) = (Scratch::new("good"), Scratch::new("changed"));
    let x = Tensor::new([[1.5f32, -2.0], [0.0, 4.0]]);
    let y = Tensor::new([true, false, true]);
    save_safetensors(&good.0, [("x", &x), ("y", &y)]).expect("a file can be written");
    let bytes = std::fs::read(&good.0).expect("the file can be read");
    let change = (
        any::<proptest::sample::Index>(),
        any::<u8>(),
        any::<proptest::sample::Index>(),
        any::<bool>(),
    );
    let tried = crate::runner(1500).run(&change, |(at, byte, end, cut)| {
        let mut changed = bytes.clone();
        let at = at.index(changed.len());
        changed[at] = byte;
        if cut {
            changed.truncate(end.index(bytes.len()));
        }
        scratch.write(&changed)?;
        use_up(&scratch.0);
        Ok(())
    });
    assert!(tried.is_ok(), "{tried:?}");
}

#[test]
fn names_are_read_or_refused() {
    let text = prop_oneof![
        any::<String>(),
        "(cpu|ascend|ascend:|ascend:-?[0-9]{1,12}|cuda:0)",
        "(f|F|i|I|u|bf|BF)(8|16|32|64)?",
    ];
    let tried = crate::runner(2000).run(&text, |text| {
        if let Ok(device) = text.parse::<Device>() {
            assert_eq!(device.to_string().parse::<Device>().map_err(fail)?, device);
        }
        if let Ok(dtype) = text.parse::<DType>() {
            assert_eq!(dtype.to_string().parse::<DType>().map_err(fail)?, dtype);
        }
        Ok(())
    });
    assert!(tried.is_ok(), "{tried:?}");
}

#[test]
fn every_tensor_prints_and_comes_back_from_a_file() {
    let scratch = Scratch::new("printed");
    let words = proptest::collection::vec(proptest::num::u64::ANY, 20);
    let tried = crate::runner(300).run(&words, |words| {
        let mut choices = Choices::new(&words);
        let dtype = DTYPES[choices.below(DTYPES.len())];
        let Ok(x) = tensor(&mut choices, dtype, Device::Cpu) else {
            return Ok(());
        };
        assert!(x.to_string().starts_with("tensor("));
        assert!(!format!("{x:?}").is_empty());
        save_safetensors(&scratch.0, [("x", &x)]).map_err(fail)?;
        let back = load_safetensors(&scratch.0).map_err(fail)?;
        let back = back.get("x").ok_or_else(|| fail("the tensor is lost"))?;
        let bits = |x: &Tensor| {
            x.to_f64_vec()
                .map(|all| all.iter().map(|x| x.to_bits()).collect::<Vec<_>>())
        };
        assert_eq!(bits(back).map_err(fail)?, bits(&x).map_err(fail)?);
        assert_eq!((back.dims(), back.dtype()), (x.dims(), x.dtype()));
        Ok(())
    });
    assert!(tried.is_ok(), "{tried:?}");
}
