//! Running cases: inputs to a device, the call, values, gradients and errors.
//!
//! Knows the order of a case. Must not know any op (that is `calls`).

use std::panic::{AssertUnwindSafe, catch_unwind};

use ascend_tensor::{BackwardOptions, Device, Error, ErrorKind, Tensor};
use serde_json::Value;

use crate::calls::{self, Args, Input};
use crate::case::{Case, File};
use crate::compare::compare;
use crate::report::{Outcome, Report};

/// Gives the process its NPU: the emulator.
pub fn open_emulator() -> ascend_tensor::Result<()> {
    ascend_tensor::ascend::install(ascend_sys::Api::from_resolver(
        "ascend-emulator",
        ascend_emulator::resolve,
    ))
}

/// Runs every case of a file on every device.
pub fn file(file: &File, devices: &[Device], report: &mut Report) {
    let call = calls::find(&file.op);
    for case in &file.cases {
        for device in devices {
            let outcome = match call {
                None => Outcome::NotYet,
                Some(call) => {
                    let run = || ascend_tensor::check_data(|| one(file, case, *device, call));
                    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
                        Outcome::Failed(format!("panicked: {}", text(&panic)))
                    })
                }
            };
            report.add(&file.op, &case.name, *device, outcome);
        }
    }
}

fn text(panic: &Box<dyn std::any::Any + Send>) -> String {
    panic
        .downcast_ref::<String>()
        .cloned()
        .or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string))
        .unwrap_or_default()
}

fn one(file: &File, case: &Case, device: Device, call: calls::Call) -> Outcome {
    let prepared = match inputs(file, case, device) {
        Ok(prepared) => prepared,
        Err(why) => return Outcome::Failed(format!("inputs: {why}")),
    };
    let args = Args::new(&prepared, &case.attrs, device);
    let result = call(&args);
    if let Some(kind) = &case.error {
        return error(kind, result);
    }
    let outputs = match result {
        Ok(outputs) => outputs,
        Err(error) => return refused(error),
    };
    if let Err(why) = values(file, case, &outputs) {
        return Outcome::Failed(why);
    }
    if case.grad_inputs.is_empty() {
        return Outcome::Passed;
    }
    gradients(file, case, device, &prepared, &outputs)
}

/// A refusal of a valid case: allowed only where CANN's dtype table rules the dtype out.
fn refused(error: Error) -> Outcome {
    match &error {
        Error::Unsupported { device, why, .. }
            if device.is_ascend() && why.contains("dtype table") =>
        {
            Outcome::Ruled(why.to_string())
        }
        _ => Outcome::Failed(error.to_string()),
    }
}

/// The inputs on the device. Float inputs are leaves where the case checks gradients; views are taken on the device.
fn inputs(file: &File, case: &Case, device: Device) -> Result<Vec<Input>, String> {
    let mut position = 0;
    let mut one = |entry: &Value| -> Result<Option<Tensor>, String> {
        let wants = case.grad_inputs.get(position).is_some_and(Option::is_some);
        position += 1;
        if entry.is_null() {
            return Ok(None);
        }
        let tensor = file.input(entry, device)?;
        let tensor = if wants {
            tensor.requires_grad().map_err(|error| error.to_string())?
        } else {
            tensor
        };
        Ok(Some(tensor))
    };
    let mut inputs = Vec::new();
    for entry in &case.inputs {
        inputs.push(match entry.get("list").and_then(Value::as_array) {
            Some(list) => Input::List(list.iter().map(&mut one).collect::<Result<_, _>>()?),
            None => Input::One(one(entry)?),
        });
    }
    Ok(inputs)
}

fn error(kind: &str, result: ascend_tensor::Result<Vec<Tensor>>) -> Outcome {
    let wanted = match kind {
        "shape" => ErrorKind::Shape,
        "dtype" => ErrorKind::DType,
        "index" => ErrorKind::Index,
        _ => ErrorKind::Value,
    };
    match result {
        Err(error) if error.kind() == wanted => Outcome::Passed,
        Err(error) => Outcome::Failed(format!(
            "an error of kind {:?} instead of {kind}: {error}",
            error.kind()
        )),
        Ok(_) => Outcome::Failed(format!("no error, wanted one of kind {kind}")),
    }
}

fn values(file: &File, case: &Case, outputs: &[Tensor]) -> Result<(), String> {
    if outputs.len() != case.outputs.len() {
        return Err(format!(
            "{} outputs instead of {}",
            outputs.len(),
            case.outputs.len()
        ));
    }
    for (index, (got, key)) in outputs.iter().zip(&case.outputs).enumerate() {
        compare(
            &format!("output {index}"),
            got,
            &file.tensor(key)?,
            case.rtol,
            case.atol,
        )?;
    }
    Ok(())
}

fn gradients(
    file: &File,
    case: &Case,
    device: Device,
    inputs: &[Input],
    outputs: &[Tensor],
) -> Outcome {
    match backward(file, case, device, outputs) {
        Err(Failure::Text(why)) => Outcome::Failed(why),
        Err(Failure::Error(error)) => refused(error),
        Ok(gradients) => {
            let leaves = inputs.iter().flat_map(Input::tensors);
            for (index, (leaf, key)) in leaves.zip(&case.grad_inputs).enumerate() {
                let (Some(leaf), Some(key)) = (leaf, key) else {
                    continue;
                };
                let want = match file.tensor(key) {
                    Ok(want) => want,
                    Err(why) => return Outcome::Failed(why),
                };
                let got = gradients
                    .get(leaf)
                    .cloned()
                    .map_or_else(|| leaf.detach().zeros_like(), Ok);
                let checked = match got {
                    Ok(got) => compare(
                        &format!("gradient {index}"),
                        &got,
                        &want,
                        case.rtol,
                        case.atol,
                    ),
                    Err(error) => Err(error.to_string()),
                };
                if let Err(why) = checked {
                    return Outcome::Failed(why);
                }
            }
            Outcome::Passed
        }
    }
}

enum Failure {
    Text(String),
    Error(Error),
}

fn backward(
    file: &File,
    case: &Case,
    device: Device,
    outputs: &[Tensor],
) -> Result<ascend_tensor::Gradients, Failure> {
    let mut total = ascend_tensor::Gradients::default();
    for (output, key) in outputs.iter().zip(&case.grad_outputs) {
        let Some(key) = key else { continue };
        let seed = file
            .tensor(key)
            .map_err(Failure::Text)?
            .to_device(device)
            .map_err(Failure::Error)?;
        if !output.is_tracked() {
            return Err(Failure::Text("an output lost its gradient".to_string()));
        }
        let gradients = output
            .backward_with(BackwardOptions::new().gradient(&seed))
            .map_err(Failure::Error)?;
        total.accumulate(gradients).map_err(Failure::Error)?;
    }
    Ok(total)
}
