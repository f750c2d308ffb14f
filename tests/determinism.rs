//! Run-to-run determinism on the emulated NPU: the option reaches every context and the kernels that add in any order, and a
//! kernel that it does not reach is refused.
//!
//! The setting and the emulator's state are the process's: each test but the first runs in a child of its own.

use std::process::Command;

use ascend_sys::{Api, f};
use ascend_tensor::ascend::{self, Determinism, determinism, set_determinism};
use ascend_tensor::nn::{Embedding, Place};
use ascend_tensor::ops::index::IndexPutOptions;
use ascend_tensor::{Device, Error, Result, Tensor};

/// CANN's option in the context of this thread, once a tensor was there.
fn option(api: &Api) -> Result<Option<i64>> {
    Tensor::new([1.0f32, 2.0])
        .to_device(Device::ascend(0))?
        .sum(())?
        .item::<f32>()?;
    let get = api
        .function(f::aclrtCtxGetSysParamOpt)
        .expect("the function");
    let mut value = -1;
    // SAFETY: the number is writable for the call.
    let code = unsafe { get(ascend_sys::ACL_OPT_DETERMINISTIC, &mut value) };
    Ok((code == 0).then_some(value))
}

#[test]
fn the_option_is_set_wherever_kernels_start() -> Result<()> {
    let api = Api::from_resolver("ascend-emulator", ascend_emulator::resolve);
    ascend::install(Api::from_resolver(
        "ascend-emulator",
        ascend_emulator::resolve,
    ))?;
    assert_eq!((option(&api)?, determinism()), (None, Determinism::Fast));
    set_determinism(Determinism::RunToRun)?;
    assert_eq!(
        (option(&api)?, determinism()),
        (Some(1), Determinism::RunToRun)
    );
    // A context that is opened later has it too.
    ascend::reset(0)?;
    assert_eq!(option(&api)?, Some(1));
    set_determinism(Determinism::Fast)?;
    assert_eq!(option(&api)?, Some(0));

    // An option that cannot be set is an error, never a run that is not deterministic.
    ascend_emulator::set_faults("aclrtCtxSetSysParamOpt:1=207000").expect("a schedule of faults");
    let told = set_determinism(Determinism::RunToRun).unwrap_err();
    assert!(matches!(&told, Error::Acl(_)), "{told}");
    assert_eq!(determinism(), Determinism::Fast);
    ascend_emulator::set_faults("").expect("no faults");

    // Sums over rows that are added to one another have the same bits each time.
    set_determinism(Determinism::RunToRun)?;
    let device = Device::ascend(0);
    let x = Tensor::new((0..600).map(|i| (i as f32).sin()).collect::<Vec<f32>>());
    let x = x.reshape([200, 3])?.to_device(device)?;
    let index = Tensor::new((0..200).map(|i| i % 7).collect::<Vec<i64>>()).to_device(device)?;
    let run = || -> Result<Vec<f32>> {
        let zeros = x.narrow(0, 0, 7)?.zeros_like()?;
        zeros.index_add(0, &index, &x, ())?.to_vec()
    };
    assert_eq!(run()?, run()?);
    Ok(())
}

/// Runs `body` in a child process whose emulator has these settings.
fn in_child(
    test: &str,
    settings: &[(&str, &str)],
    body: impl FnOnce() -> Result<()>,
) -> Result<()> {
    const CHILD: &str = "ASCEND_TENSOR_DETERMINISM_CHILD";
    if std::env::var(CHILD).is_ok_and(|name| name == test) {
        ascend::install(Api::from_resolver(
            "ascend-emulator",
            ascend_emulator::resolve,
        ))?;
        return body();
    }
    let own = std::env::current_exe().expect("the test's own file");
    let mut child = Command::new(own);
    child
        .args(["--exact", test, "--nocapture"])
        .env(CHILD, test);
    child.envs(settings.iter().copied());
    let output = child.output().expect("a child");
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

/// What is run several times.
type Run<'a> = &'a dyn Fn() -> Result<Vec<f32>>;

/// How many different results five runs have.
fn results(run: impl Fn() -> Result<Vec<f32>>) -> Result<usize> {
    let mut all = Vec::new();
    for _ in 0..5 {
        let bits: Vec<u32> = run()?.into_iter().map(f32::to_bits).collect();
        all.push(bits);
    }
    all.sort();
    all.dedup();
    Ok(all.len())
}

#[test]
fn kernels_that_add_in_any_order_are_replaced() -> Result<()> {
    let test = "kernels_that_add_in_any_order_are_replaced";
    in_child(test, &[("ASCEND_EMULATOR_DISORDER", "1")], || {
        let device = Device::ascend(0);
        let x = Tensor::new((0..600).map(|i| (i as f32).sin()).collect::<Vec<f32>>());
        let x = x.reshape([200, 3])?.to_device(device)?;
        let index = Tensor::new((0..200).map(|i| i % 7).collect::<Vec<i64>>()).to_device(device)?;
        let zeros = || x.narrow(0, 0, 7)?.zeros_like();
        let index_add = || zeros()?.index_add(0, &index, &x, ())?.to_vec::<f32>();
        let index_put = || {
            zeros()?
                .index_put(&[Some(&index)], &x, IndexPutOptions::new().accumulate())?
                .to_vec::<f32>()
        };
        // A table whose rows are met many times.
        let table = Embedding::new([7, 3], None, &Place::new(device))?;
        let embedding = || {
            let loss = table.forward(&index)?.mul(&x)?.sum(())?;
            let gradients = loss.backward()?;
            let found = gradients.get(&table.weight().tensor());
            found.expect("the table's gradient").to_vec::<f32>()
        };
        let runs: [(&str, Run<'_>); 3] = [
            ("index_add", &index_add),
            ("index_put", &index_put),
            ("embedding", &embedding),
        ];
        for (name, run) in runs {
            set_determinism(Determinism::Fast)?;
            assert!(results(run)? > 1, "{name}: nothing to prove here");
            set_determinism(Determinism::RunToRun)?;
            assert_eq!(results(run)?, 1, "{name}");
        }
        Ok(())
    })
}

#[test]
fn a_kernel_that_the_option_does_not_reach_is_not_started() -> Result<()> {
    let test = "a_kernel_that_the_option_does_not_reach_is_not_started";
    let settings = [
        ("ASCEND_EMULATOR_SOC", "Ascend950PR"),
        ("ASCEND_EMULATOR_LOG", "1"),
    ];
    in_child(test, &settings, || {
        let device = Device::ascend(0);
        let x = Tensor::new([1.0f32, 2.0, 3.0, 4.0]).to_device(device)?;
        let index = Tensor::new([0i64, 1, 0, 1]).to_device(device)?;
        let zeros = x.narrow(0, 0, 2)?.zeros_like()?;
        let starts = || {
            let log = ascend_emulator::call_log();
            log.iter()
                .filter(|call| call.contains("aclnnScatterAdd"))
                .count()
        };
        let run = || zeros.scatter_add(0, &index, &x)?.to_vec::<f32>();
        assert_eq!(run()?, [4.0, 6.0]);
        let before = starts();
        assert!(before > 0, "the kernel that is refused below runs here");
        set_determinism(Determinism::RunToRun)?;
        match run() {
            Ok(sums) => assert_eq!(sums, [4.0, 6.0]),
            Err(told) => assert!(told.to_string().contains("scatter_add"), "{told}"),
        }
        assert_eq!(starts(), before, "it was started again");
        Ok(())
    })
}
