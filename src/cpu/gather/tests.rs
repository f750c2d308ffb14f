//! Gathers and scatters on small examples. Knows the room's inner parts.

use super::*;
use crate::shape::Shape;

#[test]
fn rows_start_anywhere() {
    let paths = Paths::of(&Layout::contiguous([3, 4, 2]))
        .with_indices("test", 1, [2usize, 0, 1, NOWHERE].into_iter())
        .expect("memory");
    let layout = Layout::contiguous([3, 4, 2]);
    let dims = merged(&paths, &layout);
    let mut all = vec![];
    rows(&dims[..2], (0, 0), 0..12, |from, to, _| {
        all.push((from, to))
    });
    assert_eq!(all[..4], [(4, 0), (0, 2), (2, 4), (NOWHERE, 6)]);
    let mut some = vec![];
    rows(&dims[..2], (0, 0), 5..9, |from, to, _| {
        some.push((from, to))
    });
    assert_eq!(some, all[5..9]);
}

#[test]
fn scatters_add_what_meets() {
    let values: Vec<f32> = (0..6).map(|x| x as f32).collect();
    let x = Host::from_slice(&values, &Shape::from([3, 2])).expect("enough values");
    let paths = Paths::of(&Layout::contiguous([2, 2]))
        .with_indices("test", 0, [1usize, 1, 0].into_iter())
        .expect("memory");
    let mut target = [10.0f32; 4];
    scatter(&x, &paths, &mut target, |x, y| x + y);
    assert_eq!(target, [14.0, 15.0, 12.0, 14.0]);
}
