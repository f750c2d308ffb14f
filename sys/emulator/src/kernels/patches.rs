//! Windows of images as columns and back, images put together from maxima and their places, channels shuffled.
//!
//! Knows the kernel interface; it must not know streams, handles or device memory.

use super::common::{checked_index, same_dtype, size_of, volume};
use crate::failure::{Fault, Refusal};
use crate::kernel::{Call, Prepare, Work};
use crate::tensor::Tensor;

/// This family's ops.
pub(crate) const KERNELS: &[(&str, Prepare)] = &[
    ("aclnnIm2col", im2col as Prepare),
    ("aclnnIm2colBackward", im2col_backward as Prepare),
    ("aclnnMaxUnpool2d", |call| unpool(call, 2, 3)),
    ("aclnnMaxUnpool3d", |call| unpool(call, 3, 5)),
    ("aclnnMaxUnpool2dBackward", |call| {
        unpool_backward(call, 2, 4)
    }),
    ("aclnnMaxUnpool3dBackward", |call| {
        unpool_backward(call, 3, 6)
    }),
    ("aclnnChannelShuffle", channel_shuffle as Prepare),
];

/// How windows slide over an image, one number for each of the two dims.
struct Windows {
    image: [usize; 2],
    kernel: [usize; 2],
    dilation: [usize; 2],
    padding: [usize; 2],
    stride: [usize; 2],
    /// How many windows fit.
    places: [usize; 2],
}

impl Windows {
    /// From the arrays kernel size, dilation, padding and stride at `first` and after.
    fn new(call: &Call, image: [usize; 2], first: usize) -> Result<Windows, Refusal> {
        let pair = |offset: usize, what: &str, lowest: usize| -> Result<[usize; 2], Refusal> {
            let values = call.ints(first + offset)?;
            let &[a, b] = values else {
                return Err(call.invalid(format!("{what} has {} numbers, wanted 2", values.len())));
            };
            Ok([
                size_of(call, what, a, lowest)?,
                size_of(call, what, b, lowest)?,
            ])
        };
        let (kernel, dilation) = (pair(0, "kernelSize", 1)?, pair(1, "dilation", 1)?);
        let (padding, stride) = (pair(2, "padding", 0)?, pair(3, "stride", 1)?);
        let mut places = [0; 2];
        for axis in 0..2 {
            let wide = image[axis] + 2 * padding[axis];
            let reach = dilation[axis] * (kernel[axis] - 1) + 1;
            if wide < reach {
                return Err(call.invalid(format!(
                    "a window of {reach} does not fit an image of {image:?} with padding {padding:?}"
                )));
            }
            places[axis] = (wide - reach) / stride[axis] + 1;
        }
        Ok(Windows {
            image,
            kernel,
            dilation,
            padding,
            stride,
            places,
        })
    }

    /// Rows of the column matrix for one channel, and its columns.
    fn size(&self) -> [usize; 2] {
        [volume(&self.kernel), volume(&self.places)]
    }

    /// For each element of the column matrix of one channel, the pixel that it holds; `None` in the padding.
    fn pixels(&self) -> Vec<Option<usize>> {
        let [rows, columns] = self.size();
        let coordinate = |axis: usize, tap: usize, place: usize| {
            (place * self.stride[axis] + tap * self.dilation[axis])
                .checked_sub(self.padding[axis])
                .filter(|&at| at < self.image[axis])
        };
        let mut pixels = Vec::with_capacity(rows * columns);
        for tap in 0..rows {
            for place in 0..columns {
                let y = coordinate(0, tap / self.kernel[1], place / self.places[1]);
                let x = coordinate(1, tap % self.kernel[1], place % self.places[1]);
                pixels.push(y.zip(x).map(|(y, x)| y * self.image[1] + x));
            }
        }
        pixels
    }
}

/// The image dims of a tensor `[N, C, H, W]` or `[C, H, W]`, and what stands before them.
fn image_of<'a>(call: &Call, x: &'a Tensor) -> Result<(&'a [usize], [usize; 2]), Refusal> {
    match x.shape().split_last_chunk::<2>() {
        Some((lead, &image)) if matches!(lead.len(), 1 | 2) => Ok((lead, image)),
        _ => Err(call.invalid(format!(
            "an image has shape {:?}, wanted 3 or 4 dims",
            x.shape()
        ))),
    }
}

/// The shape of the column matrix of images with the leading dims `lead`.
fn columns_shape(lead: &[usize], windows: &Windows) -> Vec<usize> {
    let [rows, columns] = windows.size();
    let mut shape = lead.to_vec();
    if let Some(channels) = shape.last_mut() {
        *channels *= rows;
    }
    shape.push(columns);
    shape
}

/// Each window of each channel as a column.
fn im2col(call: &Call) -> Result<Work, Refusal> {
    let (x, out) = (call.tensor(0)?, call.tensor(5)?);
    let (lead, image) = image_of(call, &x)?;
    let windows = Windows::new(call, image, 1)?;
    same_dtype(call, "out", &out, &x)?;
    call.expect_shape("out", &out, &columns_shape(lead, &windows))?;
    Ok(Work::new(move || {
        let values = x.load_vec::<f64>();
        let pixels = windows.pixels();
        let columns: Vec<f64> = values
            .chunks(volume(&windows.image).max(1))
            .flat_map(|plane| pixels.iter().map(|pixel| pixel.map_or(0.0, |at| plane[at])))
            .collect();
        out.store_slice(&columns)
    }))
}

/// The sum of all columns that hold a pixel.
fn im2col_backward(call: &Call) -> Result<Work, Refusal> {
    let (dy, dx) = (call.tensor(0)?, call.tensor(6)?);
    let (lead, image) = image_of(call, &dx)?;
    if call.ints(1)?.iter().map(|&dim| dim as usize).ne(image) {
        return Err(call.invalid(format!(
            "inputSize is {:?}, but out has shape {:?}",
            call.ints(1)?,
            dx.shape()
        )));
    }
    let windows = Windows::new(call, image, 2)?;
    call.expect_shape("gradOutput", &dy, &columns_shape(lead, &windows))?;
    Ok(Work::new(move || {
        let columns = dy.load_vec::<f32>();
        let pixels = windows.pixels();
        let mut sums = vec![0f32; dx.count()];
        let planes = sums.chunks_mut(volume(&windows.image).max(1));
        for (plane, columns) in planes.zip(columns.chunks(pixels.len().max(1))) {
            for (pixel, value) in pixels.iter().zip(columns) {
                if let Some(at) = pixel {
                    plane[*at] += value;
                }
            }
        }
        dx.store_slice(&sums)
    }))
}

/// The planes of an unpooling: how many, and the sizes of the pooled and of the full one.
struct Planes {
    small: usize,
    large: usize,
}

fn planes(call: &Call, pooled: &Tensor, full: &Tensor, dims: usize) -> Result<Planes, Refusal> {
    let fits = |tensor: &Tensor| tensor.rank() == dims + 1 || tensor.rank() == dims + 2;
    let lead = pooled.rank().saturating_sub(dims);
    let named: Vec<usize> = call
        .ints(place_of_sizes(call))?
        .iter()
        .map(|&dim| dim as usize)
        .collect();
    if !fits(pooled)
        || full.rank() != pooled.rank()
        || full.shape()[..lead] != pooled.shape()[..lead]
        || full.shape()[lead..] != named
    {
        return Err(call.invalid(format!(
            "pooled shape {:?}, full shape {:?} and outputSize {named:?} do not belong together",
            pooled.shape(),
            full.shape()
        )));
    }
    Ok(Planes {
        small: volume(&pooled.shape()[lead..]),
        large: volume(&full.shape()[lead..]),
    })
}

/// Where outputSize stands: after self and indices, and in gradients after gradOutput as well.
fn place_of_sizes(call: &Call) -> usize {
    if call.name().ends_with("Backward") {
        3
    } else {
        2
    }
}

/// Zeros, and each maximum at the place that its index names in its plane.
fn unpool(call: &Call, dims: usize, last: usize) -> Result<Work, Refusal> {
    let (x, indices, out) = (call.tensor(0)?, call.tensor(1)?, call.tensor(last)?);
    call.expect_shape("indices", &indices, x.shape())?;
    same_dtype(call, "out", &out, &x)?;
    let planes = planes(call, &x, &out, dims)?;
    let op = call.name();
    Ok(Work::new(move || {
        let mut full = vec![0f64; out.count()];
        let (values, places) = (x.load_vec::<f64>(), indices.load_vec::<i64>());
        for (at, (value, place)) in values.into_iter().zip(places).enumerate() {
            let place = checked_index(op, place, planes.large)?;
            full[at / planes.small.max(1) * planes.large + place] = value;
        }
        out.store_slice(&full)
    }))
}

/// The gradients at the places that the indices name.
fn unpool_backward(call: &Call, dims: usize, last: usize) -> Result<Work, Refusal> {
    let (dy, x, indices) = (call.tensor(0)?, call.tensor(1)?, call.tensor(2)?);
    let dx = call.tensor(last)?;
    call.expect_shape("indices", &indices, x.shape())?;
    call.expect_shape("out", &dx, x.shape())?;
    let planes = planes(call, &x, &dy, dims)?;
    let op = call.name();
    Ok(Work::new(move || {
        let full = dy.load_vec::<f64>();
        let picked = indices
            .load_vec::<i64>()
            .into_iter()
            .enumerate()
            .map(|(at, place)| {
                let place = checked_index(op, place, planes.large)?;
                Ok(full[at / planes.small.max(1) * planes.large + place])
            })
            .collect::<Result<Vec<f64>, Fault>>()?;
        dx.store_slice(&picked)
    }))
}

/// Channel g c' + k goes to k groups + g, where each of the groups has c' channels.
fn channel_shuffle(call: &Call) -> Result<Work, Refusal> {
    let (x, out) = (call.tensor(0)?, call.tensor(2)?);
    let groups = size_of(call, "groups", call.int(1)?, 1)?;
    let &[_, channels, ref rest @ ..] = x.shape() else {
        return Err(call.invalid(format!("self has shape {:?}, wanted channels", x.shape())));
    };
    if !channels.is_multiple_of(groups) {
        return Err(call.invalid(format!("{channels} channels in {groups} groups")));
    }
    call.expect_shape("out", &out, x.shape())?;
    same_dtype(call, "out", &out, &x)?;
    let (inner, each) = (volume(rest), channels / groups);
    Ok(Work::new(move || {
        let values = x.load_vec::<f64>();
        let mut shuffled = Vec::with_capacity(values.len());
        for sample in values.chunks((channels * inner).max(1)) {
            for channel in 0..channels {
                let from = (channel % groups * each + channel / groups) * inner;
                shuffled.extend_from_slice(&sample[from..from + inner]);
            }
        }
        out.store_slice(&shuffled)
    }))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{arg, assert_close, floats, ints, longs, run};
    use crate::kernel::Arg;

    #[test]
    fn windows_become_columns_and_come_back() {
        let x = floats(&[1, 2, 3], &[1., 2., 3., 4., 5., 6.]);
        let columns = floats(&[4, 2], &[0.; 8]);
        let windows = [ints(&[2, 2]), ints(&[1, 1]), ints(&[0, 0]), ints(&[1, 1])];
        let mut call = vec![arg(&x)];
        call.extend(windows.clone());
        call.push(arg(&columns));
        run("aclnnIm2col", &call).expect("im2col");
        assert_close(&columns, &[1., 2., 2., 3., 4., 5., 5., 6.], 0.);
        let dx = floats(&[1, 2, 3], &[0.; 6]);
        let mut call = vec![arg(&columns), ints(&[2, 3])];
        call.extend(windows);
        call.push(arg(&dx));
        run("aclnnIm2colBackward", &call).expect("the gradient");
        assert_close(&dx, &[1., 4., 3., 4., 10., 6.], 0.);
    }

    #[test]
    fn maxima_return_to_their_places() {
        let x = floats(&[1, 1, 2], &[5., 7.]);
        let places = longs(&[1, 1, 2], &[3, 0]);
        let out = floats(&[1, 2, 2], &[9.; 4]);
        let call = [arg(&x), arg(&places), ints(&[2, 2]), arg(&out)];
        run("aclnnMaxUnpool2d", &call).expect("unpool");
        assert_close(&out, &[7., 0., 0., 5.], 0.);
        let dx = floats(&[1, 1, 2], &[0.; 2]);
        let call = [arg(&out), arg(&x), arg(&places), ints(&[2, 2]), arg(&dx)];
        run("aclnnMaxUnpool2dBackward", &call).expect("the gradient");
        assert_close(&dx, &[5., 7.], 0.);
    }

    #[test]
    fn channels_are_shuffled() {
        let x = floats(&[1, 4, 1], &[0., 1., 2., 3.]);
        let out = floats(&[1, 4, 1], &[0.; 4]);
        run("aclnnChannelShuffle", &[arg(&x), Arg::Int(2), arg(&out)]).expect("shuffle");
        assert_close(&out, &[0., 2., 1., 3.], 0.);
    }
}
