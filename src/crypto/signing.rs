//! Key pairs that sign for others to verify: ed25519 in the text forms of Standard Webhooks 1.0.
//!
//! The private key is `whsk_` and the base64 of its 32 bytes; it never leaves the program but sealed. The public key is
//! `whpk_` and the base64 of its 32 bytes. Nobody brings a private key of their own: it would have travelled.

use std::fmt;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::Secret;

/// What stands in front of a private key.
const PRIVATE: &str = "whsk_";
/// What stands in front of a public key.
const PUBLIC: &str = "whpk_";

/// Why there is no key pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SigningKeyError {
    /// The text isn't a private key.
    #[error("the private key isn't one that this program made")]
    NotAKey,
    /// None could be made.
    #[error("no key pair could be made")]
    NotMade,
}

/// A key pair.
pub struct SigningKey(Ed25519KeyPair);

impl SigningKey {
    /// A fresh one.
    ///
    /// # Errors
    /// When the operating system gives no random bytes.
    pub fn generate() -> Result<Self, SigningKeyError> {
        Ed25519KeyPair::generate().map(Self).map_err(|_| SigningKeyError::NotMade)
    }

    /// Whether `text` has the form of a private key: what begins so is never a shared secret.
    pub fn is_private(text: &str) -> bool {
        text.starts_with(PRIVATE)
    }

    /// The key pair whose [`SigningKey::private`] is `text`.
    ///
    /// # Errors
    /// When it is none.
    pub fn read(text: &Secret<String>) -> Result<Self, SigningKeyError> {
        let encoded = text.expose().strip_prefix(PRIVATE).ok_or(SigningKeyError::NotAKey)?;
        let seed = STANDARD.decode(encoded).map_err(|_| SigningKeyError::NotAKey)?;
        Ed25519KeyPair::from_seed_unchecked(&seed).map(Self).map_err(|_| SigningKeyError::NotAKey)
    }

    /// The private key, to be sealed.
    ///
    /// # Errors
    /// When the library doesn't give it.
    pub fn private(&self) -> Result<Secret<String>, SigningKeyError> {
        let seed = self.0.seed().map_err(|_| SigningKeyError::NotMade)?;
        use aws_lc_rs::encoding::AsBigEndian as _;
        let bytes: aws_lc_rs::encoding::Curve25519SeedBin<'_> =
            seed.as_be_bytes().map_err(|_| SigningKeyError::NotMade)?;
        Ok(Secret::new(format!("{PRIVATE}{}", STANDARD.encode(bytes.as_ref()))))
    }

    /// The public key, for everybody.
    pub fn public(&self) -> String {
        format!("{PUBLIC}{}", STANDARD.encode(self.0.public_key().as_ref()))
    }

    /// The 64 bytes of the signature over `message`.
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.0.sign(message).as_ref().to_vec()
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SigningKey").field(&self.public()).finish()
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};

    use super::*;

    #[test]
    fn a_key_read_back_signs_as_the_one_that_was_made() {
        let made = SigningKey::generate().unwrap();
        let private = made.private().unwrap();
        let read = SigningKey::read(&private).unwrap();
        assert_eq!(read.public(), made.public());
        assert!(SigningKey::is_private(private.expose()));
        let public = STANDARD.decode(made.public().strip_prefix(PUBLIC).unwrap()).unwrap();
        assert_eq!(public.len(), 32);
        let verified = UnparsedPublicKey::new(&ED25519, public).verify(b"told", &read.sign(b"told"));
        assert!(verified.is_ok());
        let shown = private.expose().strip_prefix(PRIVATE).unwrap();
        assert!(!format!("{made:?} {private:?}").contains(shown));
        for bad in ["whsk_", "whsk_AAAA", "whsec_AAAA", "whsk_!"] {
            assert!(SigningKey::read(&Secret::new(bad.to_owned())).is_err(), "{bad}");
        }
    }
}
