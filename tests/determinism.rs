//! Run-to-run determinism on the emulated NPU: the option reaches every context, and what it does not reach is refused.
//!
//! All in one test: the setting and the emulator's state are the process's.

use ascend_sys::{Api, f};
use ascend_tensor::ascend::{self, Determinism, determinism, set_determinism};
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
