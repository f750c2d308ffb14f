//! Eight-bit floats: what each byte means.
//!
//! Knows the format E4M3 without infinities (OCP 8-bit floating point, 2023). Must not know files.

/// The value of an E4M3 byte: a sign, four bits of exponent with bias 7, three of fraction. All ones but the sign is NaN.
pub(super) fn e4m3(byte: u8) -> f32 {
    let (exponent, fraction) = (i32::from(byte >> 3 & 0xf), f32::from(byte & 7));
    let size = match (exponent, byte & 7) {
        (15, 7) => f32::NAN,
        (0, _) => fraction * 2f32.powi(-9),
        _ => (1.0 + fraction / 8.0) * 2f32.powi(exponent - 7),
    };
    if byte & 0x80 == 0 { size } else { -size }
}

#[cfg(test)]
mod tests {
    use super::e4m3;

    /// The extremes that the standard lists.
    #[test]
    fn extremes_are_the_standards() {
        assert_eq!(e4m3(0b0111_1110), 448.0);
        assert_eq!(e4m3(0b0000_1000), 2f32.powi(-6));
        assert_eq!(e4m3(0b0000_0111), 0.875 * 2f32.powi(-6));
        assert_eq!(e4m3(0b1000_0001), -(2f32.powi(-9)));
        assert!(e4m3(0b1111_1111).is_nan());
        assert_eq!(e4m3(0b0011_1000), 1.0);
    }
}
