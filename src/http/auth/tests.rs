//! Tokens that must be believed and tokens that must not.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{EncodingKey, Header, jwk::Jwk};
use serde_json::{Value, json};

use super::*;
use crate::crypto::Secret;
use crate::http::token::{Grant, issue};

const NOW_MS: i64 = 1_700_000_000_000;
const SECRET: &str = "a-secret-of-more-than-thirty-two-bytes";

fn options() -> HttpOptions {
    HttpOptions { jwt_secret: Some(Secret::new(SECRET.to_owned())), ..HttpOptions::default() }
}

fn claims() -> Value {
    json!({"iss": "orderflow", "aud": ["other", "orderflow"], "exp": NOW_MS / 1000 + 60, "sub": "ana",
           "tenant": "shop", "roles": ["buyer", "somebody-elses-role"]})
}

fn signed(algorithm: Algorithm, claims: &Value, key: &EncodingKey) -> String {
    jsonwebtoken::encode(&Header::new(algorithm), claims, key).unwrap()
}

fn hmac(claims: &Value) -> String {
    signed(Algorithm::HS256, claims, &EncodingKey::from_secret(SECRET.as_bytes()))
}

async fn check(auth: &Auth, token: &str) -> Result<Caller, TokenFault> {
    auth.check(token).await
}

#[tokio::test]
async fn a_good_token_tells_subject_roles_and_tenant() {
    let auth = Auth::new(&options(), Clock::manual(NOW_MS)).unwrap();
    let caller = check(&auth, &hmac(&claims())).await.unwrap();
    assert_eq!((caller.subject.as_str(), caller.tenant.as_str()), ("ana", "shop"));
    assert!(caller.is(Role::Buyer) && Role::ALL.iter().filter(|role| caller.is(**role)).count() == 1);

    let grant = Grant { subject: "x", roles: &[Role::Admin], tenant: "t", ttl: Duration::from_secs(5) };
    let issued = issue(&options(), &Clock::manual(NOW_MS), &grant).unwrap();
    assert!(check(&auth, issued.expose()).await.unwrap().is(Role::Admin));
}

#[tokio::test]
async fn every_claim_is_checked() {
    let auth = Auth::new(&options(), Clock::manual(NOW_MS)).unwrap();
    let now = NOW_MS / 1000;
    let cases = [
        ("iss", json!("elsewhere")),
        ("aud", json!("elsewhere")),
        ("aud", json!([])),
        ("sub", json!("")),
        ("sub", json!("a\u{0}b")),
        ("sub", json!("x".repeat(256))),
        ("tenant", json!(" ")),
        ("tenant", json!(7)),
        ("roles", json!("admin")),
        ("nbf", json!(now + 31)),
        ("exp", json!("tomorrow")),
    ];
    for (name, value) in cases {
        let mut changed = claims();
        changed[name] = value.clone();
        let refused = check(&auth, &hmac(&changed)).await;
        assert!(matches!(refused, Err(TokenFault::Invalid(_))), "{name} = {value}: {refused:?}");
    }
    for name in ["iss", "aud", "exp", "sub", "tenant", "roles"] {
        let mut cut = claims();
        cut.as_object_mut().unwrap().remove(name);
        assert!(matches!(check(&auth, &hmac(&cut)).await, Err(TokenFault::Invalid(_))), "without {name}");
    }
}

#[tokio::test]
async fn a_token_ends_with_its_time_and_a_small_leeway() {
    let clock = Clock::manual(NOW_MS);
    let auth = Auth::new(&options(), clock.clone()).unwrap();
    let token = hmac(&claims());
    clock.advance(Duration::from_secs(89));
    assert!(check(&auth, &token).await.is_ok());
    clock.advance(Duration::from_secs(1));
    assert_eq!(check(&auth, &token).await, Err(TokenFault::Expired));
}

#[tokio::test]
async fn forged_tokens_are_refused() {
    let auth = Auth::new(&options(), Clock::manual(NOW_MS)).unwrap();
    let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let good = hmac(&claims());
    let (message, signature) = good.rsplit_once('.').unwrap();
    let admin = {
        let mut c = claims();
        c["roles"] = json!(["admin"]);
        c
    };
    let forged = [
        format!("{}.{}.", part(json!({"alg": "none"})), part(claims())),
        format!("{}.{}.{signature}", part(json!({"alg": "none"})), part(claims())),
        format!("{}.{}.{signature}", part(json!({"alg": "HS256"})), part(admin)),
        format!("{message}."),
        format!("{message}.{}", "A".repeat(43)),
        signed(Algorithm::HS256, &claims(), &EncodingKey::from_secret(b"another secret")),
        signed(Algorithm::HS512, &claims(), &EncodingKey::from_secret(SECRET.as_bytes())),
        "a.b.c".to_owned(),
        String::new(),
        "x".repeat(MAX_TOKEN + 1),
    ];
    for token in forged {
        assert!(matches!(check(&auth, &token).await, Err(TokenFault::Invalid(_))), "{token}");
    }
}

/// A key set with one Ed25519 key, and what signs for it.
fn ed25519() -> (EncodingKey, Value) {
    const PKCS8: &[u8] = &[
        0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20, 0x9d,
        0x61, 0xb1, 0x9d, 0xef, 0xfd, 0x5a, 0x60, 0xba, 0x84, 0x4a, 0xf4, 0x92, 0xec, 0x2c, 0xc4, 0x44, 0x49,
        0xc5, 0x69, 0x7b, 0x32, 0x69, 0x19, 0x70, 0x3b, 0xac, 0x03, 0x1c, 0xae, 0x7f, 0x60,
    ];
    // RFC 8032, section 7.1, test 1: the public key of that secret.
    let x = hex::decode("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a").unwrap();
    let jwk =
        json!({"kty": "OKP", "crv": "Ed25519", "kid": "k1", "use": "sig", "x": URL_SAFE_NO_PAD.encode(x)});
    (EncodingKey::from_ed_der(PKCS8), jwk)
}

#[tokio::test]
async fn a_public_key_checks_its_own_algorithm_and_is_no_secret() {
    let (key, jwk) = ed25519();
    let secret_in_set = json!({"kty": "oct", "kid": "k2", "k": URL_SAFE_NO_PAD.encode(SECRET)});
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), json!({"keys": [jwk, secret_in_set]}).to_string()).unwrap();
    let options = HttpOptions { jwks_file: Some(file.path().to_owned()), ..HttpOptions::default() };
    let clock = Clock::manual(NOW_MS);
    let auth = Auth::new(&options, clock.clone()).unwrap();

    assert!(check(&auth, &signed(Algorithm::EdDSA, &claims(), &key)).await.is_ok());
    let public: Jwk = serde_json::from_value(jwk.clone()).unwrap();
    let public_bytes = DecodingKeyBytes::of(&public);
    for secret in [public_bytes.as_slice(), jwk["x"].as_str().unwrap().as_bytes(), SECRET.as_bytes()] {
        let confused = signed(Algorithm::HS256, &claims(), &EncodingKey::from_secret(secret));
        assert!(matches!(check(&auth, &confused).await, Err(TokenFault::Invalid(_))));
    }

    let mut named = Header::new(Algorithm::EdDSA);
    named.kid = Some("k9".to_owned());
    let unknown = jsonwebtoken::encode(&named, &claims(), &key).unwrap();
    assert!(matches!(check(&auth, &unknown).await, Err(TokenFault::Invalid(_))), "no such key yet");
    let mut renamed = jwk.clone();
    renamed["kid"] = json!("k9");
    std::fs::write(file.path(), json!({"keys": [renamed]}).to_string()).unwrap();
    assert!(check(&auth, &unknown).await.is_err(), "the set was read a moment ago");
    clock.advance(Duration::from_secs(31));
    assert!(check(&auth, &unknown).await.is_ok(), "the set is read again for a key it didn't hold");
}

#[tokio::test]
async fn rsa_and_elliptic_curve_keys_check_what_they_signed_and_nothing_else() {
    use aws_lc_rs::encoding::AsDer as _;
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::rsa::{KeyPair, KeySize};
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};

    let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).unwrap();
    let curve = EncodingKey::from_ec_der(pkcs8.as_ref());
    let pair = KeyPair::generate(KeySize::Rsa2048).unwrap();
    let pkcs8: aws_lc_rs::encoding::Pkcs8V1Der<'_> = pair.as_der().unwrap();
    // PKCS#1, what the library signs with, is the tail of PKCS#8 (RFC 5208) behind 26 bytes of header.
    let rsa = EncodingKey::from_rsa_der(&pkcs8.as_ref()[26..]);
    let mut keys = Vec::new();
    for (key, algorithm, id) in [(&curve, Algorithm::ES256, "ec"), (&rsa, Algorithm::RS256, "rsa")] {
        let mut jwk = Jwk::from_encoding_key(key, algorithm).unwrap();
        jwk.common.key_id = Some(id.to_owned());
        keys.push(serde_json::to_value(jwk).unwrap());
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), json!({"keys": keys}).to_string()).unwrap();
    let options = HttpOptions { jwks_file: Some(file.path().to_owned()), ..HttpOptions::default() };
    let auth = Auth::new(&options, Clock::manual(NOW_MS)).unwrap();

    for (algorithm, id, key, good) in [
        (Algorithm::ES256, "ec", &curve, true),
        (Algorithm::RS256, "rsa", &rsa, true),
        (Algorithm::RS256, "ec", &rsa, false),
        (Algorithm::RS512, "rsa", &rsa, false),
        (Algorithm::PS256, "rsa", &rsa, false),
    ] {
        let mut header = Header::new(algorithm);
        header.kid = Some(id.to_owned());
        let token = jsonwebtoken::encode(&header, &claims(), key).unwrap();
        assert_eq!(check(&auth, &token).await.is_ok(), good, "{algorithm:?} by {id}");
    }
}

/// The raw bytes of a public key, as an attacker has them.
struct DecodingKeyBytes;

impl DecodingKeyBytes {
    fn of(jwk: &Jwk) -> Vec<u8> {
        jsonwebtoken::DecodingKey::from_jwk(jwk).unwrap().as_bytes().to_vec()
    }
}

#[tokio::test]
async fn setups_that_check_nothing_are_refused() {
    let short = HttpOptions { jwt_secret: Some(Secret::new("short".to_owned())), ..HttpOptions::default() };
    let missing = HttpOptions { jwks_file: Some("/no/such/file".into()), ..HttpOptions::default() };
    let in_the_clear =
        HttpOptions { jwks_url: Some("http://keys.example/jwks".parse().unwrap()), ..HttpOptions::default() };
    for options in [HttpOptions::default(), short, missing, in_the_clear] {
        assert!(Auth::new(&options, Clock::system()).is_err());
    }
    let away =
        HttpOptions { jwks_url: Some("http://127.0.0.1:9/jwks".parse().unwrap()), ..HttpOptions::default() };
    let auth = Auth::new(&away, Clock::manual(NOW_MS)).unwrap();
    let token = signed(Algorithm::EdDSA, &claims(), &ed25519().0);
    for _ in 0..2 {
        assert!(matches!(check(&auth, &token).await, Err(TokenFault::NoKeys(_))));
    }
}
