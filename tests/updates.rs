//! Updates in place: optimiser steps and slice assignment, against their functional forms and under the tape.

use ascend_tensor::ops::update::{AdamOptions, AdamState, SgdOptions};
use ascend_tensor::{BackwardOptions, DType, Device, ErrorKind, Result, Tensor, no_grad};

fn values(scale: f64) -> Result<Tensor> {
    Tensor::from_vec(
        (0..2000)
            .map(|x| scale * (f64::from(x) * 0.37).sin())
            .collect::<Vec<f64>>(),
        [40, 50],
    )
}

#[test]
fn steps_in_place_equal_functional_steps() -> Result<()> {
    for dtype in [DType::F64, DType::F32, DType::BF16] {
        let (start, gradient) = (
            values(1.0)?.to_dtype(dtype)?,
            values(-0.3)?.to_dtype(dtype)?,
        );
        let options = AdamOptions::new().lr(0.05).weight_decay(0.1);
        let (mut own, mut state) = (start.copy()?, AdamState::zeros(&start)?);
        let (mut other, mut other_state) = (start.clone(), AdamState::zeros(&start)?);
        let alias = own.clone();
        for step in 1..4 {
            own.adamw_step_(&gradient, &mut state, step, options)?;
            (other, other_state) = other.adamw_step(&gradient, &other_state, step, options)?;
        }
        assert_eq!(own.to_f64_vec()?, other.to_f64_vec()?);
        assert_eq!(alias.to_f64_vec()?, other.to_f64_vec()?);
        assert_eq!(
            state.exp_avg_sq.to_f64_vec()?,
            other_state.exp_avg_sq.to_f64_vec()?
        );

        let options = SgdOptions::new(0.1).momentum(0.9).dampening(0.2);
        let (mut own, mut buffer, mut other, mut other_buffer) =
            (start.copy()?, None, start.clone(), None);
        for _ in 0..3 {
            own.sgd_step_(&gradient, &mut buffer, options)?;
            (other, other_buffer) = other.sgd_step(&gradient, other_buffer.as_ref(), options)?;
        }
        assert_eq!(own.to_f64_vec()?, other.to_f64_vec()?);
        assert_eq!(
            buffer.map(|x| x.to_f64_vec()).transpose()?,
            other_buffer.map(|x| x.to_f64_vec()).transpose()?
        );
    }
    Ok(())
}

#[test]
fn a_half_parameter_may_have_a_wide_state() -> Result<()> {
    let (mut param, gradient) = (
        values(1.0)?.to_dtype(DType::BF16)?,
        values(0.5)?.to_dtype(DType::BF16)?,
    );
    let mut state = AdamState::zeros(&param.to_dtype(DType::F32)?)?;
    let (want, _) = param.to_dtype(DType::F32)?.adamw_step(
        &gradient.to_dtype(DType::F32)?,
        &state,
        1,
        AdamOptions::new().lr(0.1),
    )?;
    param.adamw_step_(&gradient, &mut state, 1, AdamOptions::new().lr(0.1))?;
    assert_eq!(state.exp_avg.dtype(), DType::F32);
    assert_eq!(
        param.to_f64_vec()?,
        want.to_dtype(DType::BF16)?.to_f64_vec()?
    );
    Ok(())
}

#[test]
fn a_slice_assignment_splits_the_gradient() -> Result<()> {
    let (x, part) = (
        values(1.0)?.requires_grad()?,
        values(2.0)?.narrow(1, 0, 3)?.requires_grad()?,
    );
    let mut y = x.mul(2.0)?;
    y.slice_assign_(1, 10..13, &part)?;
    let seed = Tensor::ones([40, 50], DType::F64, Device::Cpu)?;
    let gradients = y.backward_with(BackwardOptions::new().gradient(&seed))?;
    let dx = gradients
        .get(&x)
        .map(Tensor::to_f64_vec)
        .transpose()?
        .unwrap_or_default();
    assert!(dx.chunks(50).all(|row| {
        row.iter()
            .enumerate()
            .all(|(at, dx)| *dx == if (10..13).contains(&at) { 0.0 } else { 2.0 })
    }));
    assert_eq!(
        gradients.get(&part).map(Tensor::to_f64_vec).transpose()?,
        Some(vec![1.0; 120])
    );
    Ok(())
}

#[test]
fn a_view_writes_through_and_overlap_is_refused() -> Result<()> {
    let mut x = Tensor::new([1i64, 2, 3, 4, 5]);
    let early = x.slice(0, 0..4)?;
    x.slice_assign_(0, 1.., &early)?;
    assert_eq!(x.to_vec::<i64>()?, [1, 1, 2, 3, 4]);
    let mut wide = Tensor::new([1i64]).expand([3])?;
    assert_eq!(
        wide.slice_assign_(0, .., &Tensor::new([1i64, 2, 3]))
            .map_err(|error| error.kind()),
        Err(ErrorKind::Value)
    );
    no_grad(|| x.narrow(0, 0, 2)?.copy_(&Tensor::new([9i64])))?;
    assert_eq!(x.to_vec::<i64>()?, [9, 9, 2, 3, 4]);
    Ok(())
}
