//! The tape: what backward computes and what it refuses. Expected values are computed by hand.

use ascend_tensor::{
    BackwardFault, BackwardOptions, Counts, DType, Device, Error, ErrorKind, Gradient, Host,
    HostMut, Meta, Op, Plan, Result, Tensor, dispatch, no_grad,
};

fn gradient(gradients: &ascend_tensor::Gradients, leaf: &Tensor) -> Vec<f32> {
    gradients
        .get(leaf)
        .and_then(|gradient| gradient.to_vec().ok())
        .unwrap_or_default()
}

#[test]
fn a_tensor_used_twice_gets_both_gradients() -> Result<()> {
    let x = Tensor::new([2.0f32, -3.0]).requires_grad()?;
    let y = (x.mul(&x)? + &x)?.sum(())?;
    assert_eq!(gradient(&y.backward()?, &x), [5.0, -5.0]);
    Ok(())
}

#[test]
fn broadcast_gradients_are_summed_and_cast() -> Result<()> {
    let row = Tensor::new([1.0f32, 2.0])
        .to_dtype(DType::BF16)?
        .requires_grad()?;
    let table = Tensor::new([[1.0f32, 10.0], [2.0, 20.0], [3.0, 30.0]]);
    let gradients = table.mul(&row)?.sum(())?.backward()?;
    let gradient = gradients
        .get(&row)
        .map(|gradient| (gradient.dtype(), gradient.to_f64_vec()));
    assert!(matches!(gradient, Some((DType::BF16, Ok(values))) if values == [6.0, 60.0]));
    Ok(())
}

#[test]
fn runs_of_a_tensor_give_it_one_gradient() -> Result<()> {
    let x =
        Tensor::new([[1.0f32, 2.0, 3.0, 4.0, 5.0], [6.0, 7.0, 8.0, 9.0, 10.0]]).requires_grad()?;
    let part = |dim, start, length, factor: f32| -> Result<Tensor> {
        x.narrow(dim, start, length)?.square()?.mul(factor)?.sum(())
    };
    let whole = [2.0, 4.0, 6.0, 8.0, 10.0, 12.0, 14.0, 16.0, 18.0, 20.0];
    // Side by side, the last one first.
    let loss = part(1, 3, 2, 1.0)?.add(&part(1, 0, 3, 1.0)?)?;
    assert_eq!(gradient(&loss.backward()?, &x), whole);
    // With gaps between and behind them, and one run alone.
    let loss = part(1, 3, 1, 1.0)?.add(&part(1, 0, 2, 1.0)?)?;
    let want = [2.0, 4.0, 0.0, 8.0, 0.0, 12.0, 14.0, 0.0, 18.0, 0.0];
    assert_eq!(gradient(&loss.backward()?, &x), want);
    let want = [0.0, 0.0, 0.0, 0.0, 0.0, 12.0, 14.0, 16.0, 18.0, 20.0];
    assert_eq!(gradient(&part(0, 1, 1, 1.0)?.backward()?, &x), want);
    // Along both dims, one run twice, and one without elements.
    let loss = part(0, 0, 1, 1.0)?
        .add(&part(1, 4, 1, 1.0)?)?
        .add(&part(1, 4, 1, 2.0)?)?
        .add(&part(1, 2, 0, 1.0)?)?;
    let want = [2.0, 4.0, 6.0, 8.0, 40.0, 0.0, 0.0, 0.0, 0.0, 60.0];
    assert_eq!(gradient(&loss.backward()?, &x), want);
    // What is wider than the tensor is no run of it.
    let none = Tensor::from_vec(Vec::<f32>::new(), [1, 0])?.requires_grad()?;
    let gradients = none.expand([3, 0])?.sum(())?.backward()?;
    assert_eq!(gradients.get(&none).map(Tensor::dims), Some(&[1, 0][..]));
    Ok(())
}

/// `sum(h[:, :2]) + 2 sum(h[:, 1:]) + sum(h w) + sum(h c)`, its terms added in an order.
fn loss_of_parts(h: &Tensor, order: [usize; 4]) -> Result<Tensor> {
    let w = Tensor::new([[1.0f32, 2.0], [3.0, 4.0], [5.0, 6.0]]);
    let c = Tensor::new([[1.0f32, 2.0, 3.0], [4.0, 5.0, 6.0]]);
    let terms = [
        h.narrow(1, 0, 2)?.sum(())?,
        h.narrow(1, 1, 2)?.mul(2.0)?.sum(())?,
        h.matmul(&w)?.sum(())?,
        h.mul(&c)?.sum(())?,
    ];
    let [a, b, c, d] = order.map(|term| &terms[term]);
    a.add(b)?.add(c)?.add(d)
}

#[test]
fn parts_products_and_sums_add_up_whichever_comes_first() -> Result<()> {
    for order in [[0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1], [1, 3, 0, 2]] {
        let x = Tensor::new([[1.0f32, -1.0, 2.0], [0.5, 3.0, -2.0]]).requires_grad()?;
        let want = [5.0, 12.0, 16.0, 8.0, 15.0, 19.0];
        assert_eq!(gradient(&loss_of_parts(&x, order)?.backward()?, &x), want);
        let inner = x.mul(1.0)?;
        let gradients = loss_of_parts(&inner, order)?.backward()?;
        assert_eq!(gradient(&gradients, &x), want, "{order:?}");
        // The gradient is a tensor like any other.
        let again = gradients
            .get(&x)
            .map(Tensor::requires_grad)
            .transpose()?
            .unwrap_or(x);
        let twice = again.mul(2.0)?.sum(())?.backward()?;
        assert_eq!(gradient(&twice, &again), [2.0; 6]);
    }
    Ok(())
}

#[test]
fn a_gradient_that_others_hold_is_not_added_to() -> Result<()> {
    let (a, b) = (Tensor::new([1.0f32, 2.0]), Tensor::new([3.0f32, 4.0]));
    let (a, b) = (a.requires_grad()?, b.requires_grad()?);
    // The sum hands the same gradient to both.
    let sum = a.add(&b)?.sum(())?;
    let part = a.narrow(0, 0, 1)?.mul(10.0)?.sum(())?;
    for loss in [sum.add(&part)?, part.add(&sum)?] {
        let gradients = loss.backward()?;
        assert_eq!(gradient(&gradients, &a), [11.0, 1.0]);
        assert_eq!(gradient(&gradients, &b), [1.0, 1.0]);
    }
    let seed = Tensor::new([5.0f32, 6.0]);
    let both = a.add(&a.mul(2.0)?)?;
    let gradients = both.backward_with(BackwardOptions::new().gradient(&seed))?;
    assert_eq!(gradient(&gradients, &a), [15.0, 18.0]);
    assert_eq!(seed.to_vec::<f32>()?, [5.0, 6.0]);
    Ok(())
}

#[test]
fn gradients_accumulate_over_passes() -> Result<()> {
    let x = Tensor::new([1.0f32, 2.0]).requires_grad()?;
    let mut total = x.mul(3.0)?.sum(())?.backward()?;
    total.accumulate(x.mul(&x)?.sum(())?.backward()?)?;
    assert_eq!(gradient(&total, &x), [5.0, 7.0]);
    Ok(())
}

#[test]
fn detached_and_no_grad_results_have_no_history() -> Result<()> {
    let x = Tensor::new([1.0f32]).requires_grad()?;
    assert!(!x.detach().is_tracked());
    assert!(!no_grad(|| x.mul(2.0))?.is_tracked());
    let y = x.mul(&x.detach())?.sum(())?;
    assert_eq!(gradient(&y.backward()?, &x), [1.0]);
    Ok(())
}

#[test]
fn second_derivatives() -> Result<()> {
    let x = Tensor::new([1.0f64, -2.0]).requires_grad()?;
    let cube = x.mul(&x)?.mul(&x)?.sum(())?;
    let first = cube.backward_with(BackwardOptions::new().create_graph())?;
    let slope = first
        .get(&x)
        .cloned()
        .ok_or(Error::NoGradient { op: "test" })?;
    assert_eq!(slope.to_vec::<f64>()?, [3.0, 12.0]);
    let second = slope.sum(())?.backward()?;
    assert_eq!(
        second.get(&x).map(Tensor::to_vec::<f64>).transpose()?,
        Some(vec![6.0, -12.0])
    );
    Ok(())
}

#[test]
fn a_stale_save_is_an_error() -> Result<()> {
    let x = Tensor::new([1.0f32, 2.0]).requires_grad()?;
    let mut factor = Tensor::new([3.0f32, 4.0]);
    let y = x.mul(&factor)?.sum(())?;
    factor.add_(1.0)?;
    assert!(matches!(
        y.backward(),
        Err(Error::Backward {
            why: BackwardFault::Stale,
            ..
        })
    ));
    Ok(())
}

#[test]
fn in_place_ops_carry_the_gradient() -> Result<()> {
    let x = Tensor::new([2.0f32, 3.0]).requires_grad()?;
    let mut y = x.mul(1.0)?;
    y.mul_(&x)?;
    y.add_(&x)?;
    assert_eq!(gradient(&y.sum(())?.backward()?, &x), [5.0, 7.0]);
    Ok(())
}

#[test]
fn another_handle_of_changed_memory_is_refused() -> Result<()> {
    let x = Tensor::new([2.0f32]).requires_grad()?;
    let mut y = Tensor::new([1.0f32]);
    let old = y.clone();
    y.mul_(&x)?;
    let used = old.mul(&x);
    assert!(matches!(
        used,
        Err(Error::Backward {
            why: BackwardFault::History,
            ..
        })
    ));
    Ok(())
}

#[test]
fn a_leaf_changes_in_place_only_without_the_tape() -> Result<()> {
    let mut x = Tensor::new([1.0f32]).requires_grad()?;
    assert!(matches!(
        x.add_(1.0),
        Err(Error::Backward {
            why: BackwardFault::LeafInPlace,
            ..
        })
    ));
    no_grad(|| x.add_(1.0))?;
    assert_eq!(x.to_vec::<f32>()?, [2.0]);
    assert!(x.is_tracked());
    assert_eq!(gradient(&x.mul(&x)?.sum(())?.backward()?, &x), [4.0]);
    Ok(())
}

#[test]
fn a_long_chain_neither_overflows_nor_recurses() -> Result<()> {
    let x = Tensor::new([1.0f32]).requires_grad()?;
    let mut y = x.clone();
    for _ in 0..200_000 {
        y = y.add(1.0)?;
    }
    assert_eq!(gradient(&y.backward()?, &x), [1.0]);
    drop(y);
    Ok(())
}

#[test]
fn wrong_uses_are_typed_errors() -> Result<()> {
    let x = Tensor::new([1.0f32, 2.0]).requires_grad()?;
    assert!(matches!(
        x.mul(2.0)?.backward(),
        Err(Error::Backward {
            why: BackwardFault::NotScalar,
            ..
        })
    ));
    assert!(matches!(
        Tensor::new(1.0f32).backward(),
        Err(Error::Backward {
            why: BackwardFault::NotTracked,
            ..
        })
    ));
    assert!(matches!(
        Tensor::new([1i64]).requires_grad(),
        Err(Error::Backward {
            why: BackwardFault::NotFloat,
            ..
        })
    ));
    let seed = Tensor::zeros([3], DType::F32, Device::Cpu)?;
    let seeded = x
        .mul(2.0)?
        .backward_with(BackwardOptions::new().gradient(&seed));
    assert!(matches!(
        seeded,
        Err(Error::Backward {
            why: BackwardFault::Seed,
            ..
        })
    ));
    Ok(())
}

/// An op whose author forgot the gradient.
#[derive(Debug, Clone, Copy)]
struct Forgotten;

impl Op for Forgotten {
    fn name(&self) -> &'static str {
        "forgotten"
    }

    fn infer(&self, inputs: &[Meta], plan: &mut Plan) -> Result<()> {
        plan.output(inputs[0].shape, inputs[0].dtype);
        Ok(())
    }

    fn cpu(&self, _inputs: &[Host<'_>], outputs: &mut [HostMut<'_>]) -> Result<Counts> {
        if let Some(y) = outputs[0].as_mut_slice::<f32>() {
            y.fill(1.0);
        }
        Ok(Counts::EXACT)
    }

    fn gradient(&self) -> Gradient {
        Gradient::Missing
    }

    fn boxed(&self) -> Box<dyn Op> {
        Box::new(*self)
    }
}

#[test]
fn a_missing_gradient_fails_at_forward_time() -> Result<()> {
    let x = Tensor::new([1.0f32]);
    assert_eq!(
        dispatch::run_one(&Forgotten, &[&x])?.to_vec::<f32>()?,
        [1.0]
    );
    let tracked = dispatch::run_one(&Forgotten, &[&x.requires_grad()?]);
    assert_eq!(
        tracked.map(|_| ()).map_err(|error| error.kind()),
        Err(ErrorKind::Gradient)
    );
    Ok(())
}
