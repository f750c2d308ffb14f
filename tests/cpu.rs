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

/// Set in the processes that run an op under variables of the environment.
const CHILD: &str = "ASCEND_TENSOR_TEST_ENVIRONMENT";

#[test]
fn variables_that_mean_nothing_fail_the_first_op() -> Result<()> {
    if std::env::var_os(CHILD).is_some() {
        let x = Tensor::new([1.0f32, 2.0]);
        match x.exp() {
            Ok(_) => println!("an op ran"),
            Err(error) => println!("refused: {error}"),
        }
        // A setting of the program goes before the variable, which is still no setting.
        println!("again: {}", x.exp().is_err());
        return Ok(());
    }
    let run = |name: &str, value: &str| {
        let own = std::env::current_exe().expect("a test has a path");
        let output = std::process::Command::new(own)
            .args(["--exact", "variables_that_mean_nothing_fail_the_first_op"])
            .arg("--nocapture")
            .env(CHILD, "1")
            .env(name, value)
            .output()
            .expect("a child");
        assert!(output.status.success(), "{name}={value}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let lacking = if cfg!(target_arch = "x86_64") {
        "neon"
    } else {
        "avx2"
    };
    for (name, value, told) in [
        (
            "ASCEND_TENSOR_THREADS",
            "0",
            "wanted a whole number from 1 on",
        ),
        (
            "ASCEND_TENSOR_THREADS",
            "many",
            "wanted a whole number from 1 on",
        ),
        (
            "ASCEND_TENSOR_SIMD",
            "sse9",
            "wanted off, avx2, avx512 or neon",
        ),
        ("ASCEND_TENSOR_SIMD", lacking, "which this CPU lacks"),
    ] {
        let text = run(name, value);
        let fits = text.contains("refused: exp: ") && text.contains(name) && text.contains(told);
        assert!(
            fits && text.contains("again: true"),
            "{name}={value}: {text}"
        );
    }
    for (name, value) in [
        ("ASCEND_TENSOR_THREADS", "1"),
        ("ASCEND_TENSOR_SIMD", "off"),
    ] {
        let text = run(name, value);
        assert!(text.contains("an op ran"), "{name}={value}: {text}");
    }
    Ok(())
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
fn more_heads_than_memory_could_list_are_nothing_where_nothing_is_written() -> Result<()> {
    for heads in [1usize << 40, 1 << 56] {
        let query = Tensor::zeros([heads, 1, 0, 8], DType::F32, Device::Cpu)?.requires_grad()?;
        let y = query.scaled_dot_product_attention(&query, &query, ())?;
        assert_eq!(y.dims(), [heads, 1, 0, 8]);
        let gradients = y.sum(())?.backward()?;
        assert_eq!(
            gradients.get(&query).map(Tensor::dims),
            Some(&[heads, 1, 0, 8][..])
        );
        let narrow = Tensor::zeros([heads, 1, 2, 0], DType::F32, Device::Cpu)?;
        let y = narrow.scaled_dot_product_attention(&narrow, &narrow, ())?;
        assert_eq!(y.dims(), [heads, 1, 2, 0]);
        // A gradient needs a number for each row.
        let narrow = narrow.requires_grad()?;
        let made = narrow.scaled_dot_product_attention(&narrow, &narrow, ());
        assert!(made.is_err_and(|error| error.is_out_of_memory()));
    }
    Ok(())
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

#[test]
fn columns_that_turn_have_to_be_there() -> Result<()> {
    use ascend_tensor::ops::attention::RotaryEmbeddingOptions;
    let turned = |x: &Tensor, columns| {
        let table = Tensor::zeros([2], DType::F32, Device::Cpu)?;
        x.rotary_embedding(
            &table,
            &table,
            RotaryEmbeddingOptions::new().columns(columns),
        )
    };
    let (line, number) = (Tensor::new([1.0f32, 2.0, 3.0, 4.0]), Tensor::new(1.0f32));
    assert_eq!(turned(&line, 1..3)?.to_vec::<f32>()?, [1.0, 0.0, 0.0, 4.0]);
    #[expect(
        clippy::reversed_empty_ranges,
        reason = "a range that callers may get wrong"
    )]
    for columns in [3..5, 3..1, 0..usize::MAX, 0..3] {
        assert!(turned(&line, columns).is_err());
    }
    for columns in [0..0, 0..1, 0..2] {
        assert!(turned(&number, columns).is_err());
    }
    Ok(())
}
