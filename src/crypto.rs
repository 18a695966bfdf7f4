//! Secrets and personal data at rest: one type seals both.
//!
//! A [`Vault`] turns bytes into a [`Sealed`] envelope and back. The envelope names its version and key, so
//! keys can be rotated, and later kept per person, without touching a table. Each envelope is bound to its
//! [`Subject`]: a row copied to another tenant or person doesn't open.
//!
//! Format of an envelope, version 1: `0x01`, key id (1 byte), nonce (24 bytes), XChaCha20-Poly1305
//! ciphertext with tag (RFC 8439, draft-irtf-cfrg-xchacha). What must not live here: deciding who may read.

mod signing;

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chacha20poly1305::aead::{Aead, AeadCore, KeyInit, OsRng, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use serde::{Deserialize, Deserializer};

pub use signing::{SigningKey, SigningKeyError};

const VERSION: u8 = 1;
const NONCE_BYTES: usize = 24;
const KEY_BYTES: usize = 32;

/// A value that never shows itself in logs or `{:?}`; [`Secret::expose`] is the one way to it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret<T>(T);

impl<T> Secret<T> {
    /// Wraps `value`.
    pub fn new(value: T) -> Self {
        Self(value)
    }

    /// The value itself, for the one call that needs it.
    pub fn expose(&self) -> &T {
        &self.0
    }
}

impl<T> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("«redacted»")
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Secret<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::deserialize(deserializer).map(Self)
    }
}

/// Whom a sealed value is about. It is authenticated with the envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject<'a> {
    /// Personal data of one person (`user_id` within `tenant`).
    Person {
        /// The tenant.
        tenant: &'a str,
        /// The user id, or what stands for it when an event names none.
        person: &'a str,
    },
    /// A secret of a tenant: a webhook's signing secret, say.
    Tenant {
        /// The tenant.
        tenant: &'a str,
    },
}

impl Subject<'_> {
    /// Length-prefixed, so that no two subjects share their bytes.
    fn associated_data(&self) -> Vec<u8> {
        let (kind, parts): (u8, [&str; 2]) = match self {
            Self::Person { tenant, person } => (b'p', [tenant, person]),
            Self::Tenant { tenant } => (b't', [tenant, ""]),
        };
        let mut bytes = vec![kind];
        for part in parts {
            bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
            bytes.extend_from_slice(part.as_bytes());
        }
        bytes
    }
}

/// An envelope as it is stored.
#[derive(Clone, PartialEq, Eq)]
pub struct Sealed(Vec<u8>);

impl Sealed {
    /// An envelope read back from the store; whether it opens is seen when it is opened.
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The bytes to store.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "«sealed, {} bytes»", self.0.len())
    }
}

/// Why sealing or opening failed.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum CryptoError {
    /// The configured key isn't 32 bytes of base64.
    #[error("the encryption key must be 32 bytes in base64 (make one with: openssl rand -base64 32)")]
    BadKey,
    /// The envelope's version or key id isn't known here.
    #[error("the sealed value names version {version} and key {key_id}, which this program doesn't hold")]
    UnknownKey {
        /// Envelope version.
        version: u8,
        /// Key id.
        key_id: u8,
    },
    /// Cut, changed, or sealed for another subject or with another key.
    #[error(
        "the sealed value doesn't open: it was changed, or sealed with another key or for another subject"
    )]
    DoesNotOpen,
    /// The cipher refused the plaintext (only by size).
    #[error("the value is too large to seal")]
    TooLarge,
}

/// Seals and opens. Cheap enough to clone; the key never leaves it.
#[derive(Clone)]
pub struct Vault {
    key_id: u8,
    cipher: XChaCha20Poly1305,
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vault").field("key_id", &self.key_id).finish_non_exhaustive()
    }
}

impl Vault {
    /// A vault over the configured key (`store.encryption_key`: 32 bytes in base64).
    ///
    /// # Errors
    /// [`CryptoError::BadKey`] when it isn't that.
    pub fn from_base64(key: &Secret<String>) -> Result<Self, CryptoError> {
        let bytes = STANDARD.decode(key.expose().trim()).map_err(|_| CryptoError::BadKey)?;
        let key: [u8; KEY_BYTES] = bytes.try_into().map_err(|_| CryptoError::BadKey)?;
        Ok(Self::from_key(key))
    }

    /// A vault over a fresh key that is gone with the process: for `demo` and tests.
    pub fn ephemeral() -> Self {
        Self::from_key(XChaCha20Poly1305::generate_key(&mut OsRng).into())
    }

    fn from_key(key: [u8; KEY_BYTES]) -> Self {
        Self { key_id: 1, cipher: XChaCha20Poly1305::new(&key.into()) }
    }

    /// Seals `plaintext` for `subject`.
    ///
    /// # Errors
    /// [`CryptoError::TooLarge`] beyond the cipher's limit (256 GiB).
    pub fn seal(&self, subject: Subject<'_>, plaintext: &[u8]) -> Result<Sealed, CryptoError> {
        let nonce = XChaCha20Poly1305::generate_nonce(&mut OsRng);
        let payload = Payload { msg: plaintext, aad: &subject.associated_data() };
        let ciphertext = self.cipher.encrypt(&nonce, payload).map_err(|_| CryptoError::TooLarge)?;
        let mut envelope = Vec::with_capacity(2 + NONCE_BYTES + ciphertext.len());
        envelope.push(VERSION);
        envelope.push(self.key_id);
        envelope.extend_from_slice(&nonce);
        envelope.extend_from_slice(&ciphertext);
        Ok(Sealed(envelope))
    }

    /// Opens what [`Vault::seal`] sealed for the same `subject`.
    ///
    /// # Errors
    /// When the key isn't held, or the envelope was changed or is another subject's.
    pub fn open(&self, subject: Subject<'_>, sealed: &Sealed) -> Result<Vec<u8>, CryptoError> {
        let [version, key_id, rest @ ..] = sealed.0.as_slice() else {
            return Err(CryptoError::DoesNotOpen);
        };
        if *version != VERSION || *key_id != self.key_id {
            return Err(CryptoError::UnknownKey { version: *version, key_id: *key_id });
        }
        let (nonce, ciphertext) = rest.split_at_checked(NONCE_BYTES).ok_or(CryptoError::DoesNotOpen)?;
        let payload = Payload { msg: ciphertext, aad: &subject.associated_data() };
        self.cipher.decrypt(XNonce::from_slice(nonce), payload).map_err(|_| CryptoError::DoesNotOpen)
    }

    /// [`Vault::open`] for text.
    ///
    /// # Errors
    /// As [`Vault::open`]; also when what was sealed isn't UTF-8.
    pub fn open_text(&self, subject: Subject<'_>, sealed: &Sealed) -> Result<String, CryptoError> {
        String::from_utf8(self.open(subject, sealed)?).map_err(|_| CryptoError::DoesNotOpen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALICE: Subject<'_> = Subject::Person { tenant: "shop", person: "alice" };

    #[test]
    fn what_is_sealed_opens_for_its_subject_alone() {
        let vault = Vault::ephemeral();
        let sealed = vault.seal(ALICE, b"alice@example.com").unwrap();
        assert_eq!(vault.open(ALICE, &sealed).unwrap(), b"alice@example.com");
        for other in [
            Subject::Person { tenant: "other", person: "alice" },
            Subject::Person { tenant: "shopa", person: "lice" },
            Subject::Tenant { tenant: "shop" },
        ] {
            assert_eq!(vault.open(other, &sealed), Err(CryptoError::DoesNotOpen));
        }
        assert_eq!(Vault::ephemeral().open(ALICE, &sealed), Err(CryptoError::DoesNotOpen));
    }

    #[test]
    fn a_changed_byte_is_noticed_wherever_it_is() {
        let vault = Vault::ephemeral();
        let sealed = vault.seal(ALICE, b"x").unwrap();
        for at in 0..sealed.as_bytes().len() {
            let mut bytes = sealed.as_bytes().to_vec();
            bytes[at] ^= 1;
            assert!(vault.open(ALICE, &Sealed::from_bytes(bytes)).is_err(), "byte {at}");
        }
        for length in 0..sealed.as_bytes().len() {
            let cut = Sealed::from_bytes(sealed.as_bytes()[..length].to_vec());
            assert!(vault.open(ALICE, &cut).is_err(), "cut to {length}");
        }
    }

    #[test]
    fn secrets_do_not_show() {
        let vault = Vault::ephemeral();
        let sealed = vault.seal(ALICE, b"hunter2").unwrap();
        let shown = format!("{:?} {sealed:?} {vault:?}", Secret::new("hunter2"));
        assert!(!shown.contains("hunter2"), "{shown}");
        assert_eq!(Vault::from_base64(&Secret::new("short".to_owned())).err(), Some(CryptoError::BadKey));
    }
}
