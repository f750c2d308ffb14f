//! What the documentation states is what the tests hold, and no op is forgotten.
//!
//! Knows the chapter and the rooms as texts. `ASCEND_TENSOR_BLESS=1` writes the chapter anew.

use std::path::Path;

use ascend_tensor::{Sample, catalog};

use super::functions::{Bound, FUNCTIONS};
use super::halves;
use super::pairs::PAIRS;

fn file(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn told(bound: Bound) -> String {
    let Bound { units, absolute } = bound;
    if absolute > 0.0 {
        format!("{units}, or {absolute:e}")
    } else {
        format!("{units}")
    }
}

/// The chapter: what is measured, and the rows.
fn chapter() -> String {
    let mut text = String::from(
        "The largest errors of elementwise ops in `f32` on the CPU, in units in the last place of the exact result; a second figure is an
absolute error that does not count. `tests/accuracy.rs` holds all figures for every 9973rd number, and for all 2^32 on request; so
far all have been tried for `exp`, `log`, `tanh`, `erf`, `erfc`, `sigmoid`, `gelu`, `rsqrt` and `pow(-2)`. Subnormal results count as
the smallest normal number's. Steps are rounded alike with every set of vector instructions and any number of threads: the bits are
the same. `log1p`, `expm1`, `exp2`, `log2`, `log10`, `pow` and the trigonometric and hyperbolic functions are those of the
platform's C library; the figures hold for glibc. Gradients are those of a sum, at finite numbers.

",
    );
    let half = halves::STATED;
    text += &format!(
        "In `f16` and `bf16` every op of the table is computed in `f32` and rounded once: at most {half} unit of the dtype (half a unit, but \
         for ties that the first rounding makes), for all 65536 numbers.\n\n| op | result | gradient |\n|---|---|---|\n"
    );
    for function in FUNCTIONS {
        let slope = function
            .slope
            .map(|slope| told(slope.1))
            .unwrap_or_default();
        text += &format!(
            "| {} | {} | {slope} |\n",
            function.name,
            told(function.stated)
        );
    }
    text += "\nOf two numbers, by chance and special ones (those of `logaddexp` are units of the larger operand where terms cancel; \
             absolute errors are per unit of the larger operand above 1):\n\n| op | result |\n|---|---|\n";
    for pair in PAIRS {
        text += &format!("| {} | {} |\n", pair.name, told(pair.stated));
    }
    text
}

#[test]
fn the_chapter_states_what_is_held() {
    let (path, text) = (file("src/docs/accuracy.md"), chapter());
    if std::env::var_os("ASCEND_TENSOR_BLESS").is_some() {
        std::fs::write(&path, &text).unwrap_or_else(|error| panic!("{error}"));
    }
    let old = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{error}"));
    assert!(
        old == text,
        "not up to date (run with ASCEND_TENSOR_BLESS=1)"
    );
}

#[test]
fn the_rooms_state_the_same_figures() {
    let mut met = 0;
    for function in FUNCTIONS {
        let rooms = ["elementwise", "activation"]
            .map(|family| file(&format!("src/ops/{family}/{}.rs", function.name)));
        let text = rooms
            .iter()
            .find_map(|path| std::fs::read_to_string(path).ok());
        let Some(text) = text.filter(|_| function.stated.units > 0.0) else {
            continue;
        };
        let Bound { units, absolute } = function.stated;
        let name = if units > 1.0 { "units" } else { "unit" };
        let mut line = format!("it is at most {units} {name} in the last place off");
        if absolute > 0.0 {
            line += &format!(", or {absolute:e}");
        }
        assert!(text.contains(&line), "{}: {line}", function.name);
        met += 1;
    }
    assert!(met > 40, "only {met} rooms");
}

/// Ops of the two families whose single input is a float tensor, but for those whose results are no numbers.
#[test]
fn every_op_of_one_number_is_listed() {
    // Dtypes, truth values, and what is a choice among the numbers that are there.
    let others = [
        "to_dtype",
        "isfinite",
        "isinf",
        "isnan",
        "signbit",
        "logical_not",
        "nan_to_num",
        "glu",
        "swiglu",
    ];
    let lacking: Vec<&str> = catalog()
        .filter(|op| ["elementwise", "activation"].contains(&op.family))
        .filter(|op| {
            let samples = (op.samples)();
            let single = |sample: &Sample| sample.inputs.len() == 1;
            let floats = |sample: &Sample| sample.dtypes.iter().any(|dtype| dtype.is_float());
            samples.iter().all(single) && samples.iter().any(floats)
        })
        .map(|op| op.name)
        .filter(|name| !others.contains(name))
        .filter(|name| {
            let known = |own: &str| own == *name || own.starts_with(&format!("{name}("));
            let pair = PAIRS.iter().any(|pair| known(pair.name));
            !pair && !FUNCTIONS.iter().any(|function| known(function.name))
        })
        .collect();
    assert!(lacking.is_empty(), "{lacking:?}");
}
