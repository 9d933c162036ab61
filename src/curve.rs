//! X25519, by which two ends that know each other's public key find a secret that no third one knows.

use curve25519_dalek::MontgomeryPoint;
use zeroize::Zeroizing;

/// How many bytes a private key, a public key and a secret have.
pub(crate) const CURVE_BYTES: usize = 32;

/// The public half of a private key.
pub(crate) fn public_half(private: &[u8; CURVE_BYTES]) -> [u8; CURVE_BYTES] {
    MontgomeryPoint::mul_base_clamped(*private).to_bytes()
}

/// What both ends find; `None` if the public key is one of the few (of low order) by which everyone would.
pub(crate) fn shared_secret(
    private: &[u8; CURVE_BYTES],
    public: &[u8; CURVE_BYTES],
) -> Option<Zeroizing<[u8; CURVE_BYTES]>> {
    let secret = Zeroizing::new(MontgomeryPoint(*public).mul_clamped(*private).to_bytes());
    // Without a branch on a byte of it: all are looked at.
    let is_known = secret.iter().fold(0, |all, byte| all | byte) == 0;
    (!is_known).then_some(secret)
}

/// Whether something is kept secret by this public key.
pub(crate) fn is_of_use(public: &[u8; CURVE_BYTES]) -> bool {
    // A point of low order is one for each private key.
    shared_secret(&[1; CURVE_BYTES], public).is_some()
}

/// The points of low order, of which the last ones are written in a way that no honest end would.
#[cfg(test)]
pub(crate) const LOW_ORDER: [&str; 7] = [
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(hex: &str) -> [u8; CURVE_BYTES] {
        let digit = |index: usize| u8::from_str_radix(&hex[2 * index..2 * index + 2], 16).unwrap();
        std::array::from_fn(digit)
    }

    #[test]
    fn two_ends_find_the_secret_of_the_standard() {
        // RFC 7748, section 6.1.
        let bob = bytes("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb");
        let public = bytes("de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f");
        let alices = bytes("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a");
        let secret = bytes("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742");
        assert_eq!(public_half(&bob), public);
        assert_eq!(*shared_secret(&bob, &alices).unwrap(), secret);
        let (one, other) = ([3; CURVE_BYTES], [4; CURVE_BYTES]);
        let [at_one, at_other] = [(one, other), (other, one)]
            .map(|(own, other)| *shared_secret(&own, &public_half(&other)).unwrap());
        assert_eq!(at_one, at_other);
    }

    #[test]
    fn a_point_of_low_order_is_of_no_use() {
        for point in LOW_ORDER {
            assert!(!is_of_use(&bytes(point)), "{point}");
            let mut high = bytes(point);
            // The highest bit does not count.
            high[31] |= 0x80;
            assert!(!is_of_use(&high), "{point}");
        }
        assert!(is_of_use(&public_half(&[7; CURVE_BYTES])));
    }
}
