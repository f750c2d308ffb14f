//! Random numbers: the same on every device, from every thread accounted for, and of the right distribution.

use ascend_tensor::ops::random::{Generator, RandomOptions, default_generator, manual_seed};
use ascend_tensor::{BackwardOptions, DType, Device, Result, Tensor};

/// The emulated NPU, opened once for the process.
fn npu() -> Device {
    static OPEN: std::sync::Once = std::sync::Once::new();
    OPEN.call_once(|| {
        let api = ascend_sys::Api::from_resolver("ascend-emulator", ascend_emulator::resolve);
        assert!(ascend_tensor::ascend::install(api).is_ok());
    });
    Device::ascend(0)
}

fn options(seed: u64, device: Device) -> RandomOptions {
    RandomOptions::new()
        .generator(&Generator::new(seed))
        .device(device)
}

#[test]
fn a_portable_generator_gives_every_device_the_same_numbers() -> Result<()> {
    for seed in [0, 1, u64::MAX] {
        let (host, device) = (options(seed, Device::Cpu), options(seed, npu()));
        assert_eq!(
            Tensor::rand([1000], host.clone())?.to_vec::<f32>()?,
            Tensor::rand([1000], device.clone())?.to_vec::<f32>()?
        );
        assert_eq!(
            Tensor::randn([7, 11], host.clone())?.to_vec::<f32>()?,
            Tensor::randn([7, 11], device.clone())?.to_vec::<f32>()?
        );
        assert_eq!(
            Tensor::randint(-5..90, [33], host)?.to_vec::<i64>()?,
            Tensor::randint(-5..90, [33], device)?.to_vec::<i64>()?
        );
    }
    let x = Tensor::ones([500], DType::F32, Device::Cpu)?;
    let drop = |x: &Tensor| x.dropout(0.25, &Generator::new(3))?.to_vec::<f32>();
    assert_eq!(drop(&x)?, drop(&x.to_device(npu())?)?);
    Ok(())
}

#[test]
fn a_state_brings_the_numbers_back() -> Result<()> {
    let generator = Generator::new(9);
    let _ = Tensor::rand([5], &generator)?;
    let state = generator.state();
    let first = Tensor::randn([100], &generator)?.to_vec::<f32>()?;
    let next = Tensor::randn([100], &generator)?.to_vec::<f32>()?;
    generator.set_state(state);
    assert_eq!(first, Tensor::randn([100], &generator)?.to_vec::<f32>()?);
    assert_ne!(first, next);
    Ok(())
}

#[test]
fn moments_are_those_of_the_distributions() -> Result<()> {
    let generator = Generator::new(1);
    let count = 200_000;
    let moments = |x: &Tensor| -> Result<(f64, f64)> {
        let x = x.to_f64_vec()?;
        let mean = x.iter().sum::<f64>() / x.len() as f64;
        Ok((
            mean,
            x.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / x.len() as f64,
        ))
    };
    for dtype in [DType::F64, DType::F32, DType::F16, DType::BF16] {
        let options = || RandomOptions::new().generator(&generator).dtype(dtype);
        let (mean, variance) = moments(&Tensor::rand([count], options())?)?;
        assert!(
            (mean - 0.5).abs() < 0.005 && (variance - 1.0 / 12.0).abs() < 0.003,
            "rand of {dtype}: {mean}, {variance}"
        );
        assert!(
            Tensor::rand([count], options())?
                .to_f64_vec()?
                .iter()
                .all(|x| (0.0..1.0).contains(x)),
            "rand of {dtype} leaves [0, 1)"
        );
        let (mean, variance) = moments(&Tensor::randn([count], options())?)?;
        assert!(
            mean.abs() < 0.01 && (variance - 1.0).abs() < 0.02,
            "randn of {dtype}: {mean}, {variance}"
        );
    }
    let ones = Tensor::full([count], 0.3, Device::Cpu)?.bernoulli(&generator)?;
    assert!((moments(&ones)?.0 - 0.3).abs() < 0.005);
    let mut order = Tensor::randperm(1000, &generator)?.to_vec::<i64>()?;
    assert_ne!(order, (0..1000).collect::<Vec<i64>>());
    order.sort_unstable();
    assert_eq!(order, (0..1000).collect::<Vec<i64>>());
    Ok(())
}

#[test]
fn dropout_sends_the_gradient_the_way_of_the_value() -> Result<()> {
    for generator in [Generator::new(4), Generator::device(4)] {
        for device in [Device::Cpu, npu()] {
            let x = Tensor::ones([64, 33], DType::F32, device)?.requires_grad()?;
            let y = x.dropout(0.4, &generator)?;
            let gradients = y.backward_with(BackwardOptions::new().gradient(&Tensor::ones(
                [64, 33],
                DType::F32,
                device,
            )?))?;
            let dx = gradients.get(&x).map(Tensor::to_vec::<f32>).transpose()?;
            assert_eq!(dx, Some(y.to_vec::<f32>()?));
            let kept = y.to_vec::<f32>()?.iter().filter(|y| **y != 0.0).count() as f64
                / y.elements() as f64;
            assert!((kept - 0.6).abs() < 0.05, "{kept} kept on {device}");
        }
    }
    Ok(())
}

#[test]
fn threads_never_draw_the_same_numbers() -> Result<()> {
    manual_seed(11);
    let draw = || Tensor::rand([64], ()).and_then(|x| x.to_vec::<f32>());
    let drawn: Vec<Vec<f32>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| (0..50).map(|_| draw()).collect::<Result<Vec<_>>>()))
            .collect();
        threads
            .into_iter()
            .filter_map(|thread| thread.join().ok().and_then(Result::ok))
            .flatten()
            .collect()
    });
    assert_eq!(drawn.len(), 200);
    let distinct: std::collections::HashSet<Vec<u32>> = drawn
        .iter()
        .map(|x| x.iter().map(|x| x.to_bits()).collect())
        .collect();
    assert_eq!(distinct.len(), 200);
    assert_eq!(default_generator().state().seed, 11);
    Ok(())
}
