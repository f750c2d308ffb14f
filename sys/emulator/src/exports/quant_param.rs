//! Scales of products as the words that the hardware takes, made on the host.
//!
//! Knows the bits of such a word; it must not know products.

use crate::failure::Failure;
use crate::guard::call;
use ascend_sys::*;

const INVALID: i32 = 161_002;
const NULL: i32 = 161_001;
/// CANN pads the list to a multiple of this, but for one word.
const GROUP: usize = 16;
const MOST: u64 = 1 << 20;

/// The bits of the scale as they are (CANN's own tests want those that its document masks), bit 46, and nine bits of the offset.
fn word(scale: f32, offset: Option<f32>) -> u64 {
    let word = u64::from(scale.to_bits()) | (1 << 46);
    let offset = offset.unwrap_or(0.0).round().clamp(-256.0, 255.0) as i64;
    word | ((offset & 0x1ff) as u64) << 37
}

/// # Safety
/// `values` must be null or valid for `count` reads.
unsafe fn list(values: *const f32, count: u64, what: &str) -> Result<Vec<f32>, Failure> {
    if values.is_null() != (count == 0) {
        return Err(Failure::new(
            INVALID,
            format!("{what} has {count} values at {values:p}"),
        ));
    }
    // SAFETY: null or valid by this function's contract.
    unsafe { crate::meta::copied(values, count, MOST) }
        .map_err(|failure| Failure::new(INVALID, failure.text))
}

/// The caller frees the list with C's `free`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aclnnTransQuantParam(
    scaleArray: *const f32,
    scaleSize: u64,
    offsetArray: *const f32,
    offsetSize: u64,
    quantParam: *mut *mut u64,
    quantParamSize: *mut u64,
) -> aclnnStatus {
    call("aclnnTransQuantParam", || {
        // SAFETY: the caller keeps the contract of the C function.
        let (scales, offsets) = unsafe {
            (
                list(scaleArray, scaleSize, "scaleArray")?,
                list(offsetArray, offsetSize, "offsetArray")?,
            )
        };
        if scales.is_empty() {
            return Err(Failure::new(INVALID, "scaleArray is empty"));
        }
        if quantParam.is_null() || quantParamSize.is_null() {
            return Err(Failure::new(NULL, "quantParam or quantParamSize is null"));
        }
        let count = scales.len().max(offsets.len());
        let padded = if count == 1 {
            1
        } else {
            count.next_multiple_of(GROUP)
        };
        // SAFETY: asks for memory of `padded` words, all of them 0.
        let words = unsafe { libc::calloc(padded, size_of::<u64>()) }.cast::<u64>();
        if words.is_null() {
            return Err(Failure::new(561_103, "the host has no memory"));
        }
        for at in 0..count {
            let offset = offsets.get(at).copied();
            let made = match scales.get(at) {
                Some(&scale) => word(scale, offset),
                None => word(0.0, offset) & !(1 << 46),
            };
            // SAFETY: `at` is below `padded`.
            unsafe { words.add(at).write(made) };
        }
        // SAFETY: not null, and valid for writes by the contract of the C function.
        unsafe {
            quantParam.write(words);
            quantParamSize.write(padded as u64);
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Words of CANN's own tests.
    #[test]
    fn words_are_those_of_cann() {
        let scales = [1.1f32, 2.2, 3.3, 4.4, 5.5];
        let wanted = [
            70_369_810_369_741,
            70_369_818_758_349,
            70_369_823_372_083,
            70_369_827_146_957,
            70_369_829_453_824,
        ];
        assert_eq!(scales.map(|scale| word(scale, None)), wanted);
        let wanted = [70_507_248_484_352, 70_644_687_437_824, 70_782_126_391_296];
        assert_eq!(
            [1.0, 2.0, 3.0].map(|offset| word(1.0, Some(offset))),
            wanted
        );
    }
}
