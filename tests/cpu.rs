//! The CPU backend's promises: settings, memory, and results that depend on neither threads nor vector instructions.

use ascend_tensor::{
    CpuOptions, DType, Device, Generator, LayerNormOptions, RandomOptions, Result, SimdLevel,
    Tensor, cpu_memory,
};

fn numbers(shape: &[usize]) -> Result<Tensor> {
    let generator = Generator::new(11);
    Tensor::randn(shape, RandomOptions::new().generator(&generator))
}

fn bits(x: &Tensor) -> Result<Vec<u32>> {
    Ok(x.to_vec::<f32>()?.into_iter().map(f32::to_bits).collect())
}

/// Results of each kind of driver, large enough for several threads.
fn results() -> Result<Vec<Vec<u32>>> {
    let x = numbers(&[300, 1000])?.requires_grad()?;
    let weight = numbers(&[1000])?.requires_grad()?;
    let bias = numbers(&[1000])?.requires_grad()?;
    let normed = x.layer_norm(LayerNormOptions::new([1000]).weight(&weight).bias(&bias))?;
    let gradients = normed.square()?.sum(())?.backward()?;
    let mut all = vec![
        bits(&x.detach().exp()?)?,
        bits(&x.detach().sum(())?)?,
        bits(&x.detach().sum(0)?)?,
        bits(&x.detach().var(1)?)?,
        bits(&x.detach().softmax(0)?)?,
        bits(&x.detach().softmax(1)?)?,
        bits(&x.detach().dropout(0.3, &Generator::new(5))?)?,
    ];
    for leaf in [&x, &weight, &bias] {
        all.push(
            gradients
                .get(leaf)
                .map(bits)
                .transpose()?
                .unwrap_or_default(),
        );
    }
    Ok(all)
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() -> Result<()> {
    CpuOptions::new().threads(1).apply()?;
    let alone = results()?;
    for threads in [2, 3, 8] {
        CpuOptions::new().threads(threads).apply()?;
        assert_eq!(results()?, alone, "{threads} threads");
    }
    Ok(())
}

#[test]
fn elementary_functions_do_not_depend_on_vector_instructions() -> Result<()> {
    let x = numbers(&[40_000])?.mul(4.0)?;
    let functions = || -> Result<Vec<Vec<u32>>> {
        let made = [
            x.exp()?,
            x.tanh()?,
            x.erf()?,
            x.gelu(())?,
            x.silu()?,
            x.abs()?.log()?,
        ];
        made.iter().map(bits).collect()
    };
    let best = functions()?;
    for level in [SimdLevel::Off, SimdLevel::Avx2, SimdLevel::Avx512] {
        if level.is_available() {
            CpuOptions::new().simd(level).apply()?;
            assert_eq!(functions()?, best, "{level}");
        } else {
            assert!(CpuOptions::new().simd(level).apply().is_err());
        }
    }
    CpuOptions::new().simd(SimdLevel::detect()).apply()
}

#[test]
fn settings_that_mean_nothing_are_refused() {
    let error = CpuOptions::new().threads(0).apply();
    assert!(error.is_err_and(|error| error.to_string().contains("threads: got 0")));
    assert!("sse9".parse::<SimdLevel>().is_err());
    assert!(
        "avx2"
            .parse::<SimdLevel>()
            .is_ok_and(|level| level == SimdLevel::Avx2)
    );
}

#[test]
fn more_memory_than_there_is_is_an_error() {
    for elements in [1usize << 40, 1 << 44, 1 << 58] {
        let made = Tensor::zeros([elements], DType::F32, Device::Cpu);
        assert!(
            made.is_err_and(|error| error.is_out_of_memory()),
            "{elements}"
        );
    }
    assert!(Tensor::zeros([usize::MAX / 2, 4], DType::F64, Device::Cpu).is_err());
}

#[test]
fn freed_blocks_are_used_again() -> Result<()> {
    let x = Tensor::zeros([5_000_003], DType::F32, Device::Cpu)?;
    drop(x.add(1.0)?);
    let before = cpu_memory();
    for _ in 0..100 {
        drop(x.add(1.0)?);
    }
    let after = cpu_memory();
    assert!(after.hits >= before.hits + 100, "{before:?} {after:?}");
    assert!(after.misses < before.misses + 50, "{before:?} {after:?}");
    assert!(after.cached <= after.limit);
    Ok(())
}
