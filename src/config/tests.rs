//! Layers, mistakes and secrets of the configuration.

use std::collections::BTreeSet;
use std::io::Write;

use figment::error::Kind;

use super::load::Loaded;
use super::*;

fn with(variables: &[(&str, &str)]) -> Result<Loaded, ConfigError> {
    with_file("", variables)
}

fn with_file(text: &str, variables: &[(&str, &str)]) -> Result<Loaded, ConfigError> {
    let mut file = tempfile::NamedTempFile::new().expect("temporary file");
    file.write_all(text.as_bytes()).expect("write");
    let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    load(Some(file.path()), variables)
}

fn refused(text: &str, variables: &[(&str, &str)]) -> String {
    with_file(text, variables).expect_err("the configuration must be refused").to_string()
}

fn shown(loaded: &Loaded, key: &str) -> Setting {
    let settings = settings(loaded).expect("settings");
    settings.into_iter().find(|setting| setting.key == key).expect("the setting is shown")
}

#[test]
fn variables_win_over_the_file_which_wins_over_the_defaults() {
    let file = "[kafka]\nbootstrap_servers = 'file:1'\n[runtime]\nbatch_records = 7\n";
    let loaded = with_file(file, &[("ORDERFLOW_KAFKA__BOOTSTRAP_SERVERS", "env:1")]).expect("configuration");
    assert_eq!(loaded.config.kafka.bootstrap_servers, "env:1");
    assert_eq!(loaded.config.runtime.batch_records, 7);
    assert_eq!(loaded.config.http.bind.to_string(), "127.0.0.1:8080");
    let source = |key| shown(&loaded, key).source;
    assert_eq!(source("kafka.bootstrap_servers"), "the variable ORDERFLOW_KAFKA__BOOTSTRAP_SERVERS");
    assert!(source("runtime.batch_records").starts_with("the file "));
    assert_eq!(source("http.bind"), "the built-in defaults");
}

#[test]
fn default_toml_lists_every_key_of_every_section() {
    let defaults: toml_keys::Keys = toml_keys::of(DEFAULTS);
    for section in SECTIONS {
        let error = with_file(&format!("[{section}]\n'?' = 1\n"), &[]).expect_err("`?` is no key");
        let known = fields_of(section);
        assert!(!known.is_empty(), "{section}: {error}");
        for key in known {
            assert!(defaults[*section].contains(key), "default.toml lacks `{key}` under [{section}]");
        }
    }
}

/// The fields that a section's type reads, as its own refusal of an unknown one names them.
fn fields_of(section: &str) -> Vec<&'static str> {
    let provider = figment::providers::Serialized::default(&format!("{section}.no-such-key"), 1);
    let figment =
        figment::Figment::from(figment::providers::Serialized::defaults(all_sections())).merge(provider);
    let refusal = figment.extract::<Config>().expect_err("an unknown key").kind;
    let Kind::UnknownField(_, known) = refusal else { panic!("{section} takes unknown keys: {refusal}") };
    known.to_vec()
}

fn all_sections() -> std::collections::BTreeMap<&'static str, std::collections::BTreeMap<String, String>> {
    SECTIONS.iter().map(|section| (*section, std::collections::BTreeMap::new())).collect()
}

mod toml_keys {
    //! The keys of a commented TOML text, per section.
    use std::collections::{BTreeMap, BTreeSet};

    use figment::providers::{Format, Toml};
    use figment::value::Dict;

    pub(super) type Keys = BTreeMap<String, BTreeSet<String>>;

    pub(super) fn of(text: &str) -> Keys {
        let values: Dict = Toml::from_str(text).expect("TOML");
        let keys = |value: figment::value::Value| value.into_dict().expect("section").into_keys().collect();
        values.into_iter().map(|(section, value)| (section, keys(value))).collect()
    }
}

#[test]
fn a_mistyped_key_names_the_nearest_one_and_its_place() {
    let message = refused("[kafka]\nbootstrap_server = 'x'\n", &[]);
    assert!(message.contains("unknown key `kafka.bootstrap_server` in the file "), "{message}");
    assert!(message.contains("nearest known key is `bootstrap_servers`"), "{message}");

    let message = refused("", &[("ORDERFLOW_KAFKA__BOOTSTRAP_SERVRS", "x")]);
    assert!(message.contains("in the variable ORDERFLOW_KAFKA__BOOTSTRAP_SERVRS"), "{message}");

    let message = refused("[kafak]\n", &[]);
    assert!(message.contains("unknown section `kafak`") && message.contains("`kafka`"), "{message}");
}

#[test]
fn a_variable_with_one_underscore_is_answered_with_the_form_that_works() {
    let message = refused("", &[("ORDERFLOW_HTTP_BIND", "0.0.0.0:80")]);
    assert!(message.contains("as in ORDERFLOW_HTTP__BIND"), "{message}");
    with(&[("ORDERFLOW_SERVICE_HOST", "10.0.0.1"), ("ORDERFLOW_HTTP_SERVICE_HOST", "10.0.0.1")])
        .expect("a platform's variables are no settings");
}

#[test]
fn wrong_values_say_where_and_what() {
    let message = refused("", &[("ORDERFLOW_RUNTIME__BATCH_RECORDS", "many")]);
    assert_eq!(message, "the variable ORDERFLOW_RUNTIME__BATCH_RECORDS must be a whole number, not `many`");
    let message = refused("[start]\nwait_for_services = '10'\n", &[]);
    assert!(message.contains("`start.wait_for_services`") && message.contains("in the file"), "{message}");
    let message = refused("[log]\nformat = 'xml'\n", &[]);
    assert!(message.contains("`log.format` can't be `xml`") && message.contains("json"), "{message}");
    assert!(refused("[kafka\n", &[]).contains("is not valid TOML"));
}

#[test]
fn kafka_properties_pass_through_dotted_and_as_text() {
    let file = "[kafka.properties]\nsasl.username = 'u'\n'fetch.min.bytes' = 10\n";
    let variables = [
        ("ORDERFLOW_KAFKA__PROPERTIES__SECURITY_PROTOCOL", "ssl"),
        ("ORDERFLOW_KAFKA__PROPERTIES__SASL_PASSWORD", "pw"),
    ];
    let loaded = with_file(file, &variables).expect("configuration");
    let properties = &loaded.config.kafka.properties;
    let pairs: BTreeSet<_> = properties.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let expected = ["sasl.username=u", "fetch.min.bytes=10", "security.protocol=ssl", "sasl.password=pw"];
    assert_eq!(pairs, expected.map(str::to_owned).into());
    assert_eq!(shown(&loaded, "kafka.properties.sasl.password").value, "«redacted»");
}

#[test]
fn secrets_come_from_files_and_are_never_shown() {
    let mut file = tempfile::NamedTempFile::new().expect("temporary file");
    file.write_all(b"0123456789abcdef0123456789abcdef\n").expect("write");
    let path = file.path().display().to_string();
    let variables = [
        ("ORDERFLOW_HTTP__JWT_SECRET_FILE", path.as_str()),
        ("ORDERFLOW_STORE__URL", "postgres://me:hidden@db/x"),
    ];
    let loaded = with(&variables).expect("configuration");
    let secret = loaded.config.http.jwt_secret.as_ref().expect("secret");
    assert_eq!(secret.expose(), "0123456789abcdef0123456789abcdef");
    assert_eq!(shown(&loaded, "http.jwt_secret").value, "«redacted»");
    assert_eq!(shown(&loaded, "store.url").value, "postgres://me:***@db/x");
    let everything = format!("{:?} {:?}", loaded.config, settings(&loaded).expect("settings"));
    assert!(!everything.contains("hidden") && !everything.contains("0123456789abcdef"), "{everything}");

    let message = refused("", &[("ORDERFLOW_HTTP__JWT_SECRET_FILE", "/no/such/file")]);
    assert!(message.contains("/no/such/file") && message.contains("http.jwt_secret_file"), "{message}");
    let both = format!("[http]\njwt_secret = 'x'\njwt_secret_file = '{path}'\n");
    assert!(refused(&both, &[]).contains("keep one"));
}

#[test]
fn demo_secrets_and_guessable_ones_are_refused() {
    for secret in ["demo-secret-0123456789abcdef0123456789", "changeme"] {
        assert!(refused("", &[("ORDERFLOW_HTTP__JWT_SECRET", secret)]).contains("demo secret"), "{secret}");
    }
    assert!(refused("", &[("ORDERFLOW_HTTP__JWT_SECRET", "short-but-mine")]).contains("fewer than 32"));
    assert!(
        refused("", &[("ORDERFLOW_STORE__ENCRYPTION_KEY", "bm90IDMyIGJ5dGVz")])
            .contains("store.encryption_key")
    );
}

#[test]
fn an_empty_variable_means_not_set() {
    let loaded =
        with(&[("ORDERFLOW_HTTP__JWT_SECRET", ""), ("ORDERFLOW_STORE__URL", "")]).expect("configuration");
    assert!(loaded.config.http.jwt_secret.is_none());
    assert!(loaded.config.store.url.expose().starts_with("postgres://"));
}

#[test]
fn the_topology_is_read_with_overlays_and_prefix() {
    let mut overlay = tempfile::NamedTempFile::new().expect("temporary file");
    overlay.write_all(b"defaults: { partitions: 3 }\n").expect("write");
    let path = overlay.path().display().to_string();
    let variables =
        [("ORDERFLOW_TOPOLOGY__OVERLAYS", path.as_str()), ("ORDERFLOW_TOPOLOGY__TOPIC_PREFIX", "t7.")];
    let topology = with(&variables).expect("configuration").config.topology.load().expect("topology");
    let topic = topology.topic("orders.events").expect("topic");
    assert_eq!((&*topic.name, topic.partitions), ("t7.orders.events", 3));
}

#[test]
fn senders_come_from_the_file_or_from_variables_and_their_secrets_are_hidden() {
    let mut secrets = tempfile::NamedTempFile::new().expect("temporary file");
    secrets.write_all(b"one-secret-of-the-workers\nwhsec_MDEyMzQ1Njc4OWFiY2RlZg==\n").expect("write");
    let file = "[inbound.sources.erp]\ntenant = 'shop'\nendpoints = ['order-status']\nsecrets = ['0123456789abcdef-old']\n";
    let loaded = with_file(file, &[]).expect("configuration");
    assert_eq!(shown(&loaded, "inbound.sources.erp.secrets").value, "«redacted»");
    assert_eq!(shown(&loaded, "inbound.sources.erp.tenant").value, "shop");

    let path = secrets.path().display().to_string();
    let variables = [
        ("ORDERFLOW_INBOUND__SOURCES__WORKERS__TENANT", "shop"),
        ("ORDERFLOW_INBOUND__SOURCES__WORKERS__ENDPOINTS", "worker-status,order-status"),
        ("ORDERFLOW_INBOUND__SOURCES__WORKERS__SECRETS_FILE", path.as_str()),
    ];
    let loaded = with(&variables).expect("configuration");
    let workers = &loaded.config.inbound.sources["workers"];
    let secrets: Vec<_> = workers.secrets.iter().map(|secret| secret.expose().as_str()).collect();
    assert_eq!(secrets, ["one-secret-of-the-workers", "whsec_MDEyMzQ1Njc4OWFiY2RlZg=="]);
    assert_eq!(workers.endpoints.len(), 2);

    let message = refused(
        &format!(
            "{file}[inbound.sources.wms]\ntenant = 'x'\nendpoints = 'order-status'\nsecrets = '0123456789abcdef-old'\n"
        ),
        &[],
    );
    assert!(message.contains("inbound.sources.wms") && message.contains("inbound.sources.erp"), "{message}");
    let message = refused("[inbound.sources.erp]\nsecret = 'x'\n", &[]);
    assert!(message.contains("inbound.sources.erp.secret") && message.contains("`secrets`"), "{message}");
    let message = refused(&file.replace("0123456789abcdef-old", "demo-secret-of-somebody"), &[]);
    assert!(message.contains("demo secret"), "{message}");
    let both = format!("{file}secrets_file = '{path}'\n");
    assert!(refused(&both, &[]).contains("keep one"));
}
