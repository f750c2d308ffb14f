//! Every op of the catalog: layouts, devices, compositions and gradients, without a line about any one op.

use ascend_tensor::autograd::check::{CheckOptions, gradcheck, gradgradcheck};
use ascend_tensor::ops::view::SliceOptions;
use ascend_tensor::{
    DType, Device, Error, ErrorKind, Gradient, OpInfo, Result, Sample, SampleInput, Tensor,
    Tolerance, catalog, dispatch, no_grad,
};

/// A small generator of the test's own: the same inputs in every run.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> f64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }

    fn tensor(&mut self, input: &SampleInput, dtype: DType) -> Result<Tensor> {
        let dtype = input.dtype.unwrap_or(dtype);
        let low = if dtype == DType::U8 {
            input.low.max(0.0)
        } else {
            input.low
        };
        let value = |numbers: &mut Self| low + (input.high - low) * numbers.next();
        let values: Vec<f64> = (0..input.shape.elements()).map(|_| value(self)).collect();
        let values = if dtype.is_float() {
            values
        } else {
            values.iter().map(|value| value.floor()).collect()
        };
        Tensor::from_vec(values, input.shape)?.to_dtype(dtype)
    }
}

fn inputs(sample: &Sample, dtype: DType) -> Result<Vec<Tensor>> {
    let mut numbers = Numbers(42);
    sample
        .inputs
        .iter()
        .map(|input| numbers.tensor(input, dtype))
        .collect()
}

fn run(sample: &Sample, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
    let inputs: Vec<&Tensor> = inputs.iter().collect();
    Ok(dispatch::run(sample.op.as_ref(), &inputs)?.into_vec())
}

/// Whether the sample updates its inputs in place: those tests copy their inputs first.
fn fresh(inputs: &[Tensor]) -> Result<Vec<Tensor>> {
    inputs.iter().map(Tensor::copy).collect()
}

fn close(got: &Tensor, want: &Tensor, tolerance: Tolerance) -> std::result::Result<(), String> {
    if got.dtype() != want.dtype() || got.shape() != want.shape() {
        return Err(format!("{got:?} instead of {want:?}"));
    }
    let values = |tensor: &Tensor| tensor.to_f64_vec().map_err(|error| error.to_string());
    for (position, (got, want)) in values(got)?.into_iter().zip(values(want)?).enumerate() {
        let fits = got == want
            || got.is_nan() && want.is_nan()
            || (got - want).abs() <= tolerance.atol + tolerance.rtol * want.abs();
        if !fits {
            return Err(format!("element {position} is {got} instead of {want}"));
        }
    }
    Ok(())
}

/// Runs `check` over every sample and dtype, and reports all failures together.
fn for_all(check: impl Fn(&OpInfo, &Sample, DType) -> std::result::Result<(), String>) {
    let mut failures = Vec::new();
    let mut count = 0;
    for op in catalog() {
        for sample in (op.samples)() {
            for dtype in sample.dtypes {
                count += 1;
                if let Err(why) = check(op, &sample, *dtype) {
                    failures.push(format!("{} {:?} of {dtype}: {why}", op.name, sample.op));
                }
            }
        }
    }
    assert!(count > 100, "only {count} checks: is the catalog empty?");
    assert!(
        failures.is_empty(),
        "{} of {count} failed:\n{}",
        failures.len(),
        failures.join("\n")
    );
}

fn told<T>(result: Result<T>) -> std::result::Result<T, String> {
    result.map_err(|error| error.to_string())
}

/// The same values laid out in other ways.
fn layouts(x: &Tensor) -> Result<Vec<(&'static str, Tensor)>> {
    let reversed: Vec<i64> = (0..x.rank() as i64).rev().collect();
    let mut found = vec![(
        "permuted",
        x.permute(reversed.clone())?.copy()?.permute(reversed)?,
    )];
    if x.rank() > 0 {
        let mut doubled = x.dims().to_vec();
        doubled.iter_mut().for_each(|size| *size *= 2);
        let room = Tensor::zeros(doubled, x.dtype(), x.device())?;
        let mut stepped = room;
        for dim in 0..x.rank() as i64 {
            stepped = stepped.slice(dim, SliceOptions::new().start(1).step(2))?;
        }
        stepped.copy_(x)?;
        found.push(("stepped", stepped));
        let mut wide = x.dims().to_vec();
        wide[0] += 2;
        let mut offset =
            Tensor::zeros(wide, x.dtype(), x.device())?.narrow(0, 1, x.dims()[0] as i64)?;
        offset.copy_(x)?;
        found.push(("offset", offset));
    }
    Ok(found)
}

#[test]
fn a_layout_never_changes_the_meaning() {
    for_all(|_, sample, dtype| {
        let base = told(inputs(sample, dtype))?;
        let want = told(fresh(&base).and_then(|base| run(sample, &base)))?;
        for position in 0..base.len() {
            for (name, laid) in told(layouts(&base[position]))? {
                let mut all = told(fresh(&base))?;
                all[position] = laid;
                let got = told(run(sample, &all))?;
                for (got, want) in got.iter().zip(&want) {
                    close(
                        got,
                        want,
                        Tolerance {
                            rtol: 1e-6,
                            atol: 1e-6,
                        },
                    )
                    .map_err(|why| format!("input {position} {name}: {why}"))?;
                }
            }
        }
        Ok(())
    });
}

#[test]
fn a_fused_kernel_equals_its_composition() {
    for_all(|_, sample, dtype| {
        let base = told(inputs(sample, dtype))?;
        let views: Vec<&Tensor> = base.iter().collect();
        let composed = match no_grad(|| dispatch::compose(sample.op.as_ref(), &views)) {
            Err(Error::Unsupported { .. }) => return Ok(()),
            composed => told(composed)?,
        };
        let fused = told(run(sample, &told(fresh(&base))?))?;
        for (got, want) in fused.iter().zip(&composed) {
            close(got, want, Tolerance::of(got.dtype()))?;
        }
        Ok(())
    });
}

#[test]
fn gradients_agree_with_differences() {
    for_all(|_, sample, dtype| {
        if dtype != DType::F64 || sample.op.gradient() == Gradient::Constant {
            return Ok(());
        }
        let base = told(inputs(sample, dtype))?;
        if !told(fresh(&base).and_then(|x| run(sample, &x)))?
            .iter()
            .any(|output| output.dtype() == DType::F64)
        {
            return Ok(());
        }
        let first = |x: &[Tensor]| -> Result<Tensor> {
            let outputs = run(sample, &fresh(x)?)?;
            outputs
                .into_iter()
                .find(|output| output.dtype() == DType::F64)
                .ok_or(Error::NoGradient {
                    op: sample.op.name(),
                })
        };
        told(gradcheck(first, &base, CheckOptions::new()))?;
        match gradgradcheck(first, &base, CheckOptions::new()) {
            Err(error) if error.kind() == ErrorKind::Gradient => Ok(()),
            checked => told(checked),
        }
    });
}

#[test]
fn empty_tensors_do_not_panic() {
    for_all(|_, sample, dtype| {
        let mut empty: Vec<Tensor> = Vec::new();
        for input in &sample.inputs {
            let shape = if input.shape.rank() == 0 {
                input.shape
            } else {
                input.shape.dims().iter().map(|_| 0).collect()
            };
            empty.push(told(Tensor::zeros(
                shape,
                input.dtype.unwrap_or(dtype),
                Device::Cpu,
            ))?);
        }
        let _ = run(sample, &empty);
        Ok(())
    });
}
