use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::*;

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Config {
    roles: Vec<String>,
    node_name: String,
    gateway: Gateway,
    provider: Provider,
    budgets: BTreeMap<String, u32>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Gateway {
    listen: SocketAddr,
    certificate: Option<PathBuf>,
    #[serde(with = "humantime_serde")]
    drain: Duration,
    streams_max: u16,
}

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Provider {
    #[default]
    Sandbox,
    Http {
        url: String,
    },
}

impl Default for Gateway {
    fn default() -> Self {
        let listen = SocketAddr::from(([127, 0, 0, 1], 7000));
        Self { listen, certificate: None, drain: Duration::from_secs(20), streams_max: 1000 }
    }
}

fn load_from(text: &str, env: &[(&str, &str)]) -> Result<Config, String> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("spillway.toml");
    fs::write(&path, text).unwrap();
    let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let name = format!("{}/", directory.path().display());
    load(Some(&path), env, "SPILLWAY").map_err(|error| error.to_string().replace(&name, ""))
}

#[test]
fn environment_wins_over_file_wins_over_default() {
    let config = load_from(
        "node_name = 'file'\n[gateway]\nstreams_max = 5\ndrain = '1m'\n[provider]\nkind = 'http'\nurl = 'http://sms'",
        &[
            ("SPILLWAY_GATEWAY__STREAMS_MAX", "6"),
            ("SPILLWAY_GATEWAY__CERTIFICATE", "tls.pem"),
            ("SPILLWAY_NODE_NAME", "007"),
            ("SPILLWAY_ROLES", r#"["gateway", "mailbox"]"#),
            ("SPILLWAY_BUDGETS__DE", "12"),
            ("HOME", "/nowhere"),
        ],
    )
    .unwrap();
    let gateway = Gateway {
        certificate: Some("tls.pem".into()),
        drain: Duration::from_secs(60),
        streams_max: 6,
        ..Gateway::default()
    };
    let expected = Config {
        roles: vec!["gateway".to_owned(), "mailbox".to_owned()],
        node_name: "007".to_owned(),
        gateway,
        provider: Provider::Http { url: "http://sms".to_owned() },
        budgets: BTreeMap::from([("de".to_owned(), 12)]),
    };
    assert_eq!(config, expected);
    assert_eq!(load::<Config>(None, std::iter::empty(), "SPILLWAY").unwrap(), Config::default());
}

#[test]
fn digits_in_the_environment_can_be_a_string() {
    let config =
        load_from("", &[("SPILLWAY_NODE_NAME", "7"), ("SPILLWAY_GATEWAY__STREAMS_MAX", "7")]).unwrap();
    assert_eq!((config.node_name.as_str(), config.gateway.streams_max), ("7", 7));
}

#[test]
fn a_printed_configuration_loads_as_itself() {
    let config = load_from("roles = ['gateway']\n[gateway]\ndrain = '90s'\n[budgets]\nde = 3", &[]).unwrap();
    let printed = to_toml(&config);
    assert!(printed.contains("drain = \"1m 30s\""), "{printed}");
    assert_eq!(load_from(&printed, &[]), Ok(config));
}

#[test]
fn foreign_variables_with_the_prefix_are_left_alone() {
    let env = [
        ("SPILLWAY_CONFIG", "spillway.toml"),
        ("SPILLWAY_TEST_NATS", "127.0.0.1:4222"),
        ("SPILLWAY_SERVICE_HOST", "10.0.0.1"),
        ("SPILLWAY_SERVICE_PORT_GRPC", "7000"),
        ("SPILLWAY_PORT", "tcp://10.0.0.1:7000"),
        ("SPILLWAY_GATEWAY_PORT_7000_TCP_ADDR", "10.0.0.1"),
        ("SPILLWAYS_ELSEWHERE", "1"),
    ];
    assert_eq!(load_from("", &env), Ok(Config::default()));
}

#[test]
fn mistakes_are_named_located_and_mended() {
    type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a str);
    let cases: &[Case<'_>] = &[
        (
            "[gateway]\n\nlisen = '0.0.0.0:1'",
            &[],
            r#"unknown key "gateway.lisen" in spillway.toml (line 3); did you mean "gateway.listen"?"#,
        ),
        (
            "node_name = 'a'\ngateway.certifcate = 'x'",
            &[],
            r#"unknown key "gateway.certifcate" in spillway.toml (line 2); did you mean "gateway.certificate"?"#,
        ),
        (
            "[gatway]\nlisten = '0.0.0.0:1'",
            &[],
            r#"unknown key "gatway" in spillway.toml (line 1); did you mean "gateway"?"#,
        ),
        (
            "streams_max = 4",
            &[],
            r#"unknown key "streams_max" in spillway.toml (line 1); did you mean "gateway.streams_max"?"#,
        ),
        (
            "[gateway]\ncolour = 'red'",
            &[],
            "unknown key \"gateway.colour\" in spillway.toml (line 2); \
             the keys here are listen, certificate, drain, streams_max",
        ),
        (
            "node_name = 'a'",
            &[("SPILLWAY_GATEWAY__LISEN", "x")],
            "unknown key \"gateway.lisen\" in environment variable SPILLWAY_GATEWAY__LISEN; \
             did you mean \"gateway.listen\"?",
        ),
        (
            "",
            &[("SPILLWAY_GATWAY__LISTEN", "x")],
            "unknown key \"gatway\" in environment variable SPILLWAY_GATWAY__LISTEN; did you mean \"gateway\"?",
        ),
        (
            "[gateway]\nstreams_max = 70000",
            &[],
            "wrong value for \"gateway.streams_max\" in spillway.toml (line 2): \
             invalid value: integer `70000`, expected u16",
        ),
        (
            "roles = ['a', 3]",
            &[],
            "wrong value for \"roles[1]\" in spillway.toml (line 1): invalid type: integer `3`, expected a string",
        ),
        (
            "",
            &[("SPILLWAY_GATEWAY__STREAMS_MAX", "70000")],
            "wrong value for \"gateway.streams_max\" in environment variable SPILLWAY_GATEWAY__STREAMS_MAX: \
             invalid value: integer `70000`, expected u16",
        ),
        (
            "[gateway]\ndrain = '20 parsecs'",
            &[],
            "wrong value for \"gateway.drain\" in spillway.toml (line 2): \
             invalid value: string \"20 parsecs\", expected a duration",
        ),
        (
            "node_name = 'a'\n[provider]\nkind = 'pigeon'",
            &[],
            "wrong value for \"provider.kind\" in spillway.toml (line 3): \
             unknown variant `pigeon`, expected `sandbox` or `http`",
        ),
        (
            "",
            &[("SPILLWAY_GATEWAY", "3"), ("SPILLWAY_GATEWAY__LISTEN", "x")],
            "wrong value for \"gateway.listen\" in environment variable SPILLWAY_GATEWAY__LISTEN: \
             \"gateway\" is set to a value elsewhere, so nothing can be set below it",
        ),
        ("a = 1\nb = = 2", &[], "spillway.toml (line 2) is not valid TOML: "),
    ];
    for (text, env, expected) in cases {
        let message = load_from(text, env).unwrap_err();
        assert!(message.starts_with(expected), "\n     got: {message}\nexpected: {expected}");
    }
}

#[test]
fn a_missing_file_is_named() {
    let path = Path::new("no-such-directory/spillway.toml");
    let error = load::<Config>(Some(path), std::iter::empty(), "SPILLWAY").unwrap_err();
    assert_eq!(error.to_string(), "cannot read the configuration file no-such-directory/spillway.toml");
}
