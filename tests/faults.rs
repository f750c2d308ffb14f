//! Faults: every call of the C interface fails once in turn under a small training loop. Each time an error comes out, nothing
//! crashes, and nothing stays alive. Each run is a process of its own, since the emulator's state is the process's.

use std::process::Command;

use ascend_tensor::{DType, Device, Result, Tensor, ascend, no_grad};

/// The functions that the loop calls and that can fail, with a code each.
const FAULTS: &[(&str, i32)] = &[
    ("aclInit", 500_000),
    ("aclrtSetDevice", 507_033),
    ("aclrtGetCurrentContext", 107_002),
    ("aclrtCreateStreamWithConfig", 207_008),
    ("aclrtMalloc", 207_001),
    ("aclrtMallocHost", 207_001),
    ("aclrtMemcpyAsync", 507_013),
    ("aclrtSynchronizeStream", 507_015),
    ("aclrtSynchronizeStreamWithTimeout", 507_046),
    ("aclCreateTensor", 0),
    ("aclnnMatmulGetWorkspaceSize", 161_002),
    ("aclnnMatmul", 361_001),
    ("aclnnAddGetWorkspaceSize", 561_003),
    ("aclnnAdd", 507_015),
    ("aclnnReluGetWorkspaceSize", 161_001),
    ("aclnnMeanGetWorkspaceSize", 561_002),
    ("kernel", 507_015),
];

fn train() -> Result<f32> {
    let device = Device::ascend(0);
    let x = Tensor::new([[1.0f32, 2.0], [3.0, -4.0]]).to_device(device)?;
    let mut w = Tensor::new([[0.5f32, 1.0], [-0.5, 0.25]])
        .to_device(device)?
        .requires_grad()?;
    let mut last = 0.0;
    for _ in 0..3 {
        let loss = x.matmul(&w)?.relu()?.mean(())?;
        let gradients = loss.backward()?;
        if let Some(gradient) = gradients.get(&w) {
            let step = gradient.mul(-0.1)?;
            no_grad(|| w.add_(&step))?;
        }
        last = loss.item()?;
    }
    Ok(last)
}

/// One process: runs the loop with the faults of the environment and tells what happened.
fn child() -> i32 {
    if ascend::install(ascend_sys::Api::from_resolver(
        "ascend-emulator",
        ascend_emulator::resolve,
    ))
    .is_err()
    {
        return 3;
    }
    let result = train();
    let report = ascend::shutdown();
    match (&result, &report) {
        (Ok(loss), _) => println!("LOSS {loss}"),
        (Err(error), _) => println!("ERROR {error}"),
    }
    println!("SHUTDOWN {report:?}");
    println!("LEAKS {:?}", ascend_emulator::leaks());
    0
}

fn run(faults: &str) -> (Option<i32>, String) {
    let test = std::env::current_exe().unwrap_or_default();
    let output = Command::new(test)
        .args(["--exact", "every_call_may_fail", "--nocapture"])
        .env("ASCEND_TENSOR_FAULT_CHILD", "1")
        .env("ASCEND_EMULATOR_FAULTS", faults)
        .output();
    match output {
        Ok(output) => (
            output.status.code(),
            String::from_utf8_lossy(&output.stdout).into_owned(),
        ),
        Err(error) => (None, error.to_string()),
    }
}

#[test]
fn every_call_may_fail() {
    if std::env::var_os("ASCEND_TENSOR_FAULT_CHILD").is_some() {
        std::process::exit(child());
    }
    let (code, text) = run("");
    assert_eq!(code, Some(0), "the undisturbed loop: {text}");
    assert!(text.contains("LOSS"), "the undisturbed loop fails: {text}");
    let mut failures = Vec::new();
    let mut seen = 0;
    for (call, fault) in FAULTS.iter().filter(|(_, fault)| *fault != 0) {
        for use_number in [1, 2, 7] {
            let (code, text) = run(&format!("{call}:{use_number}={fault}"));
            let told = text.contains("ERROR");
            seen += usize::from(told);
            if code != Some(0) || !(told || text.contains("LOSS")) {
                failures.push(format!("{call} number {use_number}: exit {code:?}: {text}"));
            } else if told && !text.contains(&fault.to_string()) && !text.contains("out of memory")
            {
                failures.push(format!(
                    "{call} number {use_number}: the error does not name {fault}: {text}"
                ));
            }
        }
    }
    assert!(seen >= FAULTS.len() / 2, "only {seen} faults surfaced");
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn earlier_tensors_survive_a_refusal() -> Result<()> {
    if std::env::var_os("ASCEND_TENSOR_FAULT_CHILD").is_some() {
        return Ok(());
    }
    let x = Tensor::new([[1.0f32, 2.0]]);
    assert!(x.matmul(&x).is_err());
    assert_eq!(x.to_vec::<f32>()?, [1.0, 2.0]);
    assert_eq!(x.to_dtype(DType::F64)?.to_vec::<f64>()?, [1.0, 2.0]);
    Ok(())
}
