use std::io;
use std::path::Path;

use proptest::prelude::*;
use tower_azure_openai::azure::operation::Operation;
use tower_azure_openai::capture::Pointers;
use tower_azure_openai::client::Proxy;
use tower_azure_openai::meter::SilentStreams;
use tower_azure_openai::pool::Priority;

use super::backends::{Credential, Kind, Processing, TokenSource};
use super::behaviour::{Condition, LogFormat, Policy};
use super::*;

const CONTRACT: &str = include_str!("../gateway.example.toml");

/// A valid file; the comments are places where tests put keys.
const BASE: &str = r#"
# top
[[backends]]
name = "a"
endpoint = "https://a.example"
credential = { api_key = "backend-key" }
# backend
[[backends.deployments]]
name = "m"
# deployment
[[clients]]
id = "c"
key = "key-of-a-client-0"
# client
# end
"#;

fn env(name: &str) -> Option<String> {
    match name {
        "PTU_EASTUS_KEY" | "TEAM_A_KEY" | "OTHER_KEY" => Some(format!("value-of-{name}")),
        "EMPTY" => Some(String::new()),
        "SHORT_KEY" => Some("x".repeat(15)),
        "SHORT" => Some("x".repeat(31)),
        "LONG" => Some("x".repeat(32)),
        "BROKEN_LINE" => Some("hunter2\n".to_owned()),
        _ => None,
    }
}

fn file(path: &Path) -> io::Result<Vec<u8>> {
    match path.to_str() {
        Some("key") => Ok(b"key-from-the-file\n".to_vec()),
        Some("short") => Ok(b"short\n".to_vec()),
        Some("empty") => Ok(b"\n".to_vec()),
        Some("ca.pem") => Ok(b"-----BEGIN CERTIFICATE-----\n".to_vec()),
        _ => Err(io::ErrorKind::NotFound.into()),
    }
}

fn load_bytes(bytes: &[u8]) -> Result<Loaded, Problems> {
    let read = |path: &Path| if path == Path::new("g.toml") { Ok(bytes.to_vec()) } else { file(path) };
    Config::load(Path::new("g.toml"), &Sources { env: &env, file: &read })
}

#[track_caller]
fn valid(text: &str) -> Loaded {
    load_bytes(text.as_bytes()).unwrap_or_else(|problems| panic!("{text}\nmust be valid:\n{problems}"))
}

/// The problems, one a line, without the name of the file.
#[track_caller]
fn problems(text: &str) -> String {
    let problems = load_bytes(text.as_bytes()).err().unwrap_or_else(|| panic!("{text}\nmust not be valid"));
    lines(&problems)
}

fn lines(problems: &Problems) -> String {
    let lines: Vec<_> =
        problems.to_string().lines().map(|line| line.strip_prefix("g.toml: ").unwrap().to_owned()).collect();
    lines.join("\n")
}

/// The valid file with one piece replaced.
fn with(piece: &str, replacement: &str) -> String {
    assert_eq!(BASE.matches(piece).count(), 1, "{piece}");
    BASE.replace(piece, replacement)
}

#[track_caller]
fn refuses(cases: &[(&str, &str, &str)]) {
    for (piece, replacement, expected) in cases {
        assert_eq!(problems(&with(piece, replacement)), *expected, "{piece} -> {replacement}");
    }
}

#[track_caller]
fn accepts(cases: &[(&str, &str)]) {
    for (piece, replacement) in cases {
        let warnings = valid(&with(piece, replacement)).warnings.to_string();
        assert_eq!(warnings, "", "{piece} -> {replacement}");
    }
}

const ENDPOINT: &str = "endpoint = \"https://a.example\"";
const CREDENTIAL: &str = "credential = { api_key = \"backend-key\" }";
const KEY: &str = "key = \"key-of-a-client-0\"";

#[test]
fn the_contract_is_valid() {
    let loaded = valid(CONTRACT);
    assert_eq!(loaded.warnings.to_string(), "");
    assert_eq!(
        loaded.config.served(),
        "gpt-4o gpt-4o 2024-08-06: ptu-eastus/gpt-4o-ptu (priority 0, weight 1), \
         paygo-westus/gpt-4o (priority 1, weight 1)\n"
    );
}

#[test]
fn defaults_are_those_of_the_contract() {
    let start = CONTRACT
        .find(
            "[[backends]]
name",
        )
        .unwrap();
    let (examples, _) = CONTRACT[start..].split_once("[selection]").unwrap();
    assert_eq!(format!("{:?}", valid(examples).config), format!("{:?}", valid(CONTRACT).config));
}

#[test]
fn every_key_is_read_into_its_own_field() {
    let backend = "priority = 3\nweight = 4\nregion = \"r\"\ngeography = \"g\"\nprocessing = \"global\"\nmax_in_flight = 5\n\
                   address = \"10.0.0.1:6\"\nca_file = \"ca.pem\"";
    let rest = r#"
[failover]
attempts = 11
replay_limit = "12B"
replay_memory = "13B"
budget = 0.14
on = ["connect"]
[stream]
preamble_events = 15
preamble_bytes = "16B"
preamble_time = "17s"
keep_alive = "18s"
[circuit]
min_open = "21s"
max_open = "22s"
default_open = "23s"
probe_interval = "24s"
consecutive_failures = 25
failure_ratio = 0.26
window = "27s"
min_requests = 28
[timeouts]
connect = "31s"
first_byte = "32s"
answer = "33s"
request_body = "34s"
idle = "35s"
head = "36s"
write = "37s"
[[aliases]]
name = "m"
first_byte = "36s"
answer = "37s"
idle = "38s"
[limits]
request_body = "41KiB"
request_head = "42KiB"
connections = 43
in_flight = 44
[priority]
normal = 0.45
low = 0.46
[capture]
sink = "jsonl"
directory = "captures"
clients = ["c"]
sample = 0.47
body = "48KiB"
redact = ["/a/*"]
rotate = "49MiB"
keep = "50d"
[api_version]
allow = ["v1", "v2"]
default = "v3"
[front_door]
ids = ["f1", "f2"]
[telemetry]
log = "warn"
log_format = "json"
otlp_endpoint = "http://127.0.0.1:3"
backend_header = true
"#;
    let top = "listen = \"127.0.0.1:1\"\nadmin = \"127.0.0.1:2\"\nshutdown_grace = \"3s\"";
    let text = with("# backend", backend).replace("# end", rest).replace("# top", top);
    let config = valid(
        &text.replace("# client", "priority = \"high\"\ngeography = \"g\"\nprocessing = [\"global\"]\nallow = [\"m\"]"),
    )
    .config;
    let seconds = Duration::from_secs;

    let admin = config.admin.map(|admin| admin.port());
    assert_eq!((config.listen.port(), admin, config.shutdown_grace), (1, Some(2), seconds(3)));
    assert_eq!(config.authentication, Authentication::Clients);

    let b = &config.backends[0];
    assert_eq!((&*b.name, b.endpoint.to_string()), ("a", "https://a.example/".to_owned()));
    assert_eq!((b.priority, b.weight, b.max_in_flight.map(|max| max.get())), (3, 4, Some(5)));
    assert_eq!((b.region.as_deref(), b.geography.as_deref()), (Some("r"), Some("g")));
    assert_eq!((b.processing, b.address), (Processing::Global, "10.0.0.1:6".parse().ok()));
    assert!(b.ca_pem.as_ref().is_some_and(|pem| pem.starts_with(b"-----BEGIN")));

    let c = &config.clients[0];
    assert_eq!((&*c.id, c.geography.as_deref(), c.allow.as_deref()), ("c", Some("g"), Some(&["m".to_owned()][..])));
    assert_eq!((c.processing.as_deref(), c.priority), (Some(&[Processing::Global][..]), Priority::High));

    let Failover { attempts, replay_limit, replay_memory, budget, on } = config.failover;
    assert_eq!((attempts, replay_limit, replay_memory, budget), (11, 12, 13, 0.14));
    assert_eq!(on, [Condition::Connect]);

    let Stream { preamble_events, preamble_bytes, preamble_time, keep_alive } = config.stream;
    assert_eq!((preamble_events, preamble_bytes, preamble_time, keep_alive), (15, 16, seconds(17), seconds(18)));

    let Circuit { min_open, max_open, default_open, probe_interval, window, .. } = config.circuit;
    assert_eq!([min_open, max_open, default_open, probe_interval, window], [21, 22, 23, 24, 27].map(seconds));
    let Circuit { consecutive_failures, failure_ratio, min_requests, .. } = config.circuit;
    assert_eq!((consecutive_failures, failure_ratio, min_requests), (25, 0.26, 28));

    let Timeouts { connect, head, first_byte, answer, request_body, idle, write } = config.timeouts;
    assert_eq!(
        [connect, first_byte, answer, request_body, idle, head, write],
        [31, 32, 33, 34, 35, 36, 37].map(seconds)
    );

    let own = config.aliases[0].timeouts;
    assert_eq!([own.first_byte, own.answer, own.idle], [36, 37, 38].map(|s| Some(seconds(s))));

    assert_eq!((config.priority.normal, config.priority.low), (0.45, 0.46));
    let Limits { request_body, request_head, connections, in_flight } = config.limits;
    assert_eq!(in_flight, 44);
    let Capture { sink, directory, clients, sample, body, redact, rotate, keep } = config.capture;
    assert_eq!((sink, directory.to_str(), clients), (capture::Sink::JsonLines, Some("captures"), vec!["c".to_owned()]));
    assert_eq!((sample, body, rotate, keep), (0.47, 48 << 10, 49 << 20, seconds(50 * 86_400)));
    assert_eq!(redact, Pointers::parse(["/a/*"]).unwrap());
    assert_eq!((request_body, request_head, connections), (41 << 10, 42 << 10, 43));

    let (ApiVersion { allow, default }, FrontDoor { ids }) = (config.api_version, config.front_door);
    assert_eq!((allow, default.as_deref()), (vec!["v1".to_owned(), "v2".to_owned()], Some("v3")));
    assert_eq!(ids, ["f1", "f2"]);

    let Telemetry { log, log_format, otlp_endpoint, backend_header } = config.telemetry;
    assert_eq!((&*log, log_format, backend_header), ("warn", LogFormat::Json, true));
    assert_eq!(otlp_endpoint.as_deref(), Some("http://127.0.0.1:3"));
}

#[test]
fn every_key_of_the_contract_is_known() {
    let keys = CONTRACT.lines().filter_map(|line| line.trim().trim_start_matches("# ").split_once(" = "));
    let keys: Vec<_> = keys.map(|(key, _)| key.trim()).filter(|key| !key.contains([' ', '`', '{'])).collect();
    assert!(keys.len() > 90, "{keys:?}");

    let uncommented = CONTRACT.lines().map(|line| {
        let line = line.trim();
        let bare = line.trim_start_matches("# ");
        let is_key = bare.split_once('=').is_some_and(|(key, _)| keys.contains(&key.trim()))
            && !bare.starts_with("alias = \"gpt-4o\"  ");
        if is_key || bare.starts_with('[') { bare } else { line }
    });
    let found = problems(&uncommented.collect::<Vec<_>>().join("\n"));
    assert!(!found.contains("unknown key"), "{found}");
}

#[test]
fn a_file_that_cannot_be_read_says_so() {
    let sources = Sources { env: &env, file: &file };
    let error = Config::load(Path::new("missing.toml"), &sources).unwrap_err();
    assert_eq!(error.to_string(), "missing.toml: cannot be read: entity not found\n");
}

#[test]
fn syntax_errors_have_a_position() {
    for (text, place) in [
        ("listen = ", "line 1, column 10: "),
        ("\n\nlisten = nonsense", "line 3, column 10: "),
        ("a = 1\na = 2", "line 2, column 1: "),
        ("é = 1", "line 1, column 1: "),
        ("key = 99999999999999999999", "line 1, column 7: has a number out of range"),
        ("\n[tls", "line 2, column 5: "),
    ] {
        let found = problems(text);
        assert!(found.starts_with(place), "{text:?}: {found}");
    }
    assert_eq!(problems("a = 1 b\nc = \nd = 1").lines().count(), 2, "one for each wrong line");
    assert_eq!(lines(&load_bytes(b"a = 1\nbc\xff").unwrap_err()), "line 2, column 3: is not UTF-8");
}

#[test]
fn all_problems_are_reported_at_once() {
    let text = r#"
listen = 8080
authentication = "none"
[[backends]]
name = "a"
endpoint = "https://user:hunter2@a.example"
credential = { api_key_env = "NOT_SET" }
weight = -1
[[backends.deployments]]
alias = "m"
[[backends]]
name = "a"
endpoint = "https://b.example"
credential = {}
deployments = []
[failover]
budget = 1.5
bugdet = 0.1
[limits]
request_body = "64"
"#;
    assert_eq!(
        problems(text),
        "\
listen: must be a string, not an integer
backends[0].endpoint: must not carry credentials
backends[0].credential.api_key_env: environment variable NOT_SET is not set
backends[0].weight: must be from 0 to 1000000
backends[0].deployments[0].name: is missing
backends[1].deployments: is missing: at least one [[backends.deployments]] is needed
backends[1].credential: needs one of api_key, api_key_env, api_key_file, managed_identity, workload_identity, \
client_secret, developer_tools or pass_through
failover.budget: must be a number from 0 to 1
failover.bugdet: unknown key, did you mean budget?
limits.request_body: has no unit: B, KiB, MiB or GiB
backends[1].name: \"a\" is already backends[0].name"
    );
}

#[test]
fn an_empty_file_names_what_is_missing() {
    assert_eq!(
        problems(""),
        "\
authentication: there are no [[clients]] and no [entra]: write authentication = \"none\" to let everyone in
backends: is missing: at least one [[backends]] is needed"
    );
}

#[test]
fn unknown_keys_are_refused_everywhere() {
    refuses(&[
        ("# top", "lisen = 1", "lisen: unknown key, did you mean listen?"),
        ("# top", "\"a b\\n\" = 1", "\"a b\\n\": unknown key"),
        ("# top", "\"session.cookie\" = \"\"", "\"session.cookie\": unknown key"),
        ("# backend", "wait = 1", "backends[0].wait: unknown key"),
        ("# deployment", "region = \"x\"", "backends[0].deployments[0].region: unknown key"),
        ("# client", "weight = 1", "clients[0].weight: unknown key"),
        ("# end", "[sessions]\na = 1", "sessions: unknown key, did you mean session?"),
        ("# end", "[session]\na = 1", "session.a: unknown key"),
        ("# end", "[stream.x]\ny = 1", "stream.x: unknown key"),
        (CREDENTIAL, "credential = { api_key = \"k\", x = 1 }", "backends[0].credential.x: unknown key"),
        ("# backend", "Region = \"x\"", "backends[0].Region: unknown key, did you mean region?"),
        ("# deployment", "api-version = \"x\"", "backends[0].deployments[0].api-version: unknown key"),
        (
            CREDENTIAL,
            "credential = { workload_identity = { client_id = \"x\" } }",
            "backends[0].credential.workload_identity.client_id: unknown key",
        ),
    ]);
}

#[test]
fn types_are_checked() {
    refuses(&[
        ("# top", "admin = true", "admin: must be a string, not a boolean"),
        ("# top", "shutdown_grace = 30", "shutdown_grace: must be a string, not an integer"),
        ("# backend", "max_in_flight = 1.0", "backends[0].max_in_flight: must be an integer, not a float"),
        ("# backend", "weight = \"1\"", "backends[0].weight: must be an integer, not a string"),
        ("# client", "allow = \"m\"", "clients[0].allow: must be an array of strings, not a string"),
        ("# client", "allow = [\"m\", 1]", "clients[0].allow[1]: must be a string, not an integer"),
        ("# end", "[telemetry]\nbackend_header = 1", "telemetry.backend_header: must be true or false, not an integer"),
        ("# end", "[failover]\nbudget = \"0.2\"", "failover.budget: must be a number from 0 to 1, not a string"),
        ("# top", "circuit = 1979-05-27", "circuit: must be a table, not a datetime"),
        (CREDENTIAL, "credential = \"k\"", "backends[0].credential: must be a table, not a string"),
        (
            CREDENTIAL,
            "credential = { managed_identity = true }",
            "backends[0].credential.managed_identity: must be a table, not a boolean",
        ),
    ]);
    let client = "[[clients]]\nid = \"c\"\nkey = \"key-of-a-client-0\"\n";
    assert_eq!(problems(&with(client, "[clients]\n")), "clients: must be an array of tables, not a table");
    assert_eq!(
        problems("authentication = \"none\"\nbackends = [1]"),
        "backends: must be an array of tables, not of integers"
    );
}

#[test]
fn numbers_durations_and_sizes_stay_in_range() {
    refuses(&[
        ("# backend", "weight = 1_000_001", "backends[0].weight: must be from 0 to 1000000"),
        ("# deployment", "priority = -1", "backends[0].deployments[0].priority: must be from 0 to 1000000"),
        (
            "# deployment",
            "weight = 9223372036854775807",
            "backends[0].deployments[0].weight: must be from 0 to 1000000",
        ),
        ("# end", "[failover]\nattempts = 0", "failover.attempts: must be from 1 to 4294967295"),
        ("# end", "[failover]\nbudget = -0.1", "failover.budget: must be a number from 0 to 1"),
        ("# end", "[failover]\nbudget = nan", "failover.budget: must be a number from 0 to 1"),
        ("# end", "[failover]\nbudget = inf", "failover.budget: must be a number from 0 to 1"),
        (
            "# end",
            "[capture]\nsink = \"jsonl\"",
            "capture.directory: is missing: captures are written into files there",
        ),
        ("# end", "[capture]\nclients = [\"x\"]", "capture.clients[0]: \"x\" is no client of this file"),
        (
            "# end",
            "[capture]\nredact = [\"/a\", \"b\"]",
            "capture.redact[1]: must be a JSON pointer, such as \"/messages/*/content\"",
        ),
        (
            "# end",
            "[capture]\nbody = \"all\"",
            "capture.body: must be a size such as \"512B\", \"64KiB\", \"4MiB\" or \"1GiB\", or \"none\"",
        ),
        ("# end", "[priority]\nlow = 1.5", "priority.low: must be a number from 0 to 1"),
        (
            "# client",
            "priority = \"urgent\"",
            "clients[0].priority: \"urgent\" is unknown, must be \"low\", \"normal\" or \"high\"",
        ),
        ("# end", "[circuit]\nfailure_ratio = 2", "circuit.failure_ratio: must be a number from 0 to 1"),
        ("# end", "[circuit]\nfailure_ratio = 1.0001", "circuit.failure_ratio: must be a number from 0 to 1"),
        ("# end", "[circuit]\nconsecutive_failures = 0", "circuit.consecutive_failures: must be from 1 to 4294967295"),
        ("# end", "[circuit]\nmin_open = \"2m\"", "circuit.min_open: must not be longer than max_open"),
        ("# end", "[circuit]\nwindow = \"0s\"", "circuit.window: must be longer than nothing"),
        ("# end", "[timeouts]\nidle = \"120\"", "timeouts.idle: has no unit: ms, s, m, h or d"),
        ("# end", "[timeouts]\nconnect = \"0ms\"", "timeouts.connect: must be longer than nothing"),
        ("# end", "[stream]\npreamble_time = \"30\"", "stream.preamble_time: has no unit: ms, s, m, h or d"),
        ("# end", "[stream]\npreamble_events = -1", "stream.preamble_events: must be from 0 to 4294967295"),
        ("# end", "[timeouts]\nanswer = \"999999999h\"", "timeouts.answer: is too long: at most \"8760h\""),
        (
            "# end",
            "[limits]\nrequest_body = \"99999999999GiB\"",
            "limits.request_body: is too large: at most \"1024GiB\"",
        ),
        ("# end", "[limits]\nrequest_head = \"1KiB\"", "limits.request_head: must be \"8KiB\" or more"),
    ]);
    accepts(&[
        ("# backend", "weight = 1_000_000\npriority = 1_000_000"),
        ("# deployment", "weight = 0\npriority = 0"),
        ("# end", "[failover]\nbudget = 0\nreplay_limit = \"0B\""),
        ("# end", "[failover]\nbudget = 1\n[circuit]\nfailure_ratio = 1.0\nmin_open = \"0s\""),
        ("# end", "[stream]\npreamble_events = 0\npreamble_bytes = \"0B\"\npreamble_time = \"0s\""),
        ("# top", "shutdown_grace = \"0s\""),
    ]);
}

#[test]
fn listeners_are_addresses() {
    refuses(&[
        ("# top", "listen = \"localhost:80\"", "listen: must be an IP address with a port, such as \"127.0.0.1:8080\""),
        ("# top", "listen = \"off\"", "listen: must be an IP address with a port, such as \"127.0.0.1:8080\""),
        (
            "# top",
            "admin = \"127.0.0.1\"",
            "admin: must be an IP address with a port, such as \"127.0.0.1:8080\", or \"off\"",
        ),
        ("# top", "admin = \"127.0.0.1:8080\"", "admin: is the same address as listen"),
    ]);
    accepts(&[
        ("# top", "listen = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\""),
        ("# top", "listen = \"[::]:8080\"\nadmin = \"off\""),
    ]);
    assert_eq!(valid(&with("# top", "admin = \"off\"")).config.admin, None);
}

#[test]
fn names_are_unique_and_printable() {
    let backend = |name| {
        format!(
            "[[backends]]\nname = \"{name}\"\nendpoint = \"https://b.example\"\ncredential = {{ developer_tools = {{}} }}\n"
        )
    };
    let deployment = |name| format!("[[backends.deployments]]\nname = \"{name}\"\n");
    let client = |id, key| format!("[[clients]]\nid = \"{id}\"\nkey = \"{key}\"\n");
    refuses(&[
        ("# end", &(backend("a") + &deployment("m")), "backends[1].name: \"a\" is already backends[0].name"),
        (
            "# deployment",
            &deployment("m"),
            "backends[0].deployments[1].name: \"m\" is already backends[0].deployments[0].name, for the same alias \"m\"",
        ),
        ("# end", &client("c", "key-of-a-client-1"), "clients[1].id: \"c\" is already clients[0].id"),
        ("# end", &client("d", "key-of-a-client-0"), "clients[1].key: is also a key of clients[0]"),
        ("name = \"a\"", "name = \"\"", "backends[0].name: must not be empty"),
        ("name = \"a\"", "name = \"ä\"", "backends[0].name: must be ASCII"),
        ("name = \"a\"", "", "backends[0].name: is missing"),
        ("id = \"c\"", "id = \" c\"", "clients[0].id: must have neither control characters nor space around it"),
        (
            "# deployment",
            "alias = \"a\\u001bb\"",
            "backends[0].deployments[0].alias: must have neither control characters nor space around it",
        ),
    ]);
    accepts(&[
        ("# end", &(backend("b") + &deployment("m"))),
        ("# deployment", &(deployment("n") + "alias = \"m\"\n")),
        ("# end", &client("d", "key-of-another-one")),
    ]);
}

#[test]
fn endpoints_are_checked() {
    let http = "endpoint = \"http://a.example\"";
    refuses(&[
        (ENDPOINT, "", "backends[0].endpoint: is missing"),
        (
            ENDPOINT,
            "endpoint = \"https://a.example?x\"",
            "backends[0].endpoint: must have neither a query nor a fragment",
        ),
        (
            ENDPOINT,
            "endpoint = \"a.example\"",
            "backends[0].endpoint: must be a URL such as \"https://contoso.openai.azure.com\"\
            , with http or https",
        ),
        (
            "# backend",
            "address = \"a.example:1\"",
            "backends[0].address: must be an IP address with a port, such as \"127.0.0.1:8080\"",
        ),
        ("# backend", "address = \"127.0.0.1:0\"", "backends[0].address: must have a port other than 0"),
        ("# backend", "ca_file = \"missing\"", "backends[0].ca_file: cannot read \"missing\": entity not found"),
        ("# backend", "ca_file = \"key\"", "backends[0].ca_file: file \"key\" holds no certificate in PEM form"),
    ]);
    accepts(&[
        (ENDPOINT, http),
        (ENDPOINT, "endpoint = \"https://a.example:8443/prefix/\""),
        ("# backend", "address = \"10.1.2.3:443\"\nca_file = \"ca.pem\""),
    ]);

    let token = with(CREDENTIAL, "credential = { managed_identity = {} }");
    let safe = "backends[0].endpoint: must be https: tokens go over plain http on loopback only";
    assert_eq!(problems(&token.replace(ENDPOINT, http)), safe);
    for host in ["127.0.0.1:1", "[::1]:1", "localhost:1"] {
        let endpoint = format!("endpoint = \"http://{host}\"");
        valid(&token.replace(ENDPOINT, &endpoint));
        valid(&token.replace(ENDPOINT, &format!("{endpoint}\naddress = \"127.0.0.1:2\"")));
        assert_eq!(problems(&token.replace(ENDPOINT, &format!("{endpoint}\naddress = \"10.0.0.1:2\""))), safe);
    }
    assert_eq!(problems(&token.replace(ENDPOINT, &format!("{http}\naddress = \"127.0.0.1:2\""))), safe);
}

#[test]
fn secrets_come_from_three_places_and_are_never_repeated() {
    let place = "backends[0].credential";
    for (credential, expected) in [
        ("api_key = \"\"", ".api_key: is empty"),
        ("api_key = 12345", ".api_key: must be a string, not an integer"),
        (
            "api_key = \"hunter2 hunter2\"",
            ".api_key: must hold visible ASCII characters only, without spaces or line breaks",
        ),
        ("api_key_env = \"NOT_SET\"", ".api_key_env: environment variable NOT_SET is not set"),
        ("api_key_env = \"EMPTY\"", ".api_key_env: environment variable EMPTY is empty"),
        ("api_key_env = \"sk-hunter2\"", ".api_key_env: must be the name of an environment variable"),
        ("api_key_env = \"\"", ".api_key_env: must be the name of an environment variable"),
        (
            "api_key_env = \"BROKEN_LINE\"",
            ".api_key_env: must hold visible ASCII characters only, without spaces or line breaks",
        ),
        ("api_key_file = \"missing\"", ".api_key_file: cannot read \"missing\": entity not found"),
        ("api_key_file = \"empty\"", ".api_key_file: file \"empty\" is empty"),
        ("api_key = \"k\", api_key_env = \"LONG\"", ": needs exactly one of api_key and api_key_env, not several"),
        ("client_secret = { tenant_id = \"t\", client_id = \"c\", secret = \"\" }", ".client_secret.secret: is empty"),
        (
            "client_secret = { tenant_id = \"t\", client_id = \"c\" }",
            ".client_secret: needs one of secret, secret_env or secret_file",
        ),
        (
            "client_secret = { tenant_id = \"t\", secret_env = \"NOT_SET\" }",
            ".client_secret.client_id: is missing\n\
             backends[0].credential.client_secret.secret_env: environment variable NOT_SET is not set",
        ),
    ] {
        let found = problems(&with(CREDENTIAL, &format!("credential = {{ {credential} }}")));
        assert_eq!(found, format!("{place}{expected}"), "{credential}");
        assert!(!found.contains("hunter2"), "{found}");
    }
    for (key, secret) in [
        ("api_key = \"k\"", "k"),
        ("api_key_env = \"OTHER_KEY\"", "value-of-OTHER_KEY"),
        ("api_key_file = \"key\"", "key-from-the-file"),
    ] {
        let config = valid(&with(CREDENTIAL, &format!("credential = {{ {key} }}"))).config;
        let Credential::ApiKey(read) = &config.backends[0].credential else { panic!("{config:?}") };
        assert_eq!(read.expose(), secret);
        assert!(!format!("{config:?}").contains(&format!("{secret:?}")));
    }
}

#[test]
fn a_credential_is_of_exactly_one_kind() {
    refuses(&[
        (CREDENTIAL, "", "backends[0].credential: is missing"),
        (
            CREDENTIAL,
            "credential = { api_key_env = \"LONG\", managed_identity = {} }",
            "backends[0].credential: needs exactly one of api_key_env and managed_identity, not several",
        ),
        (
            CREDENTIAL,
            "credential = { api_key = \"k\", scope = \"x\" }",
            "backends[0].credential.scope: goes with a token, not with a key",
        ),
        (
            CREDENTIAL,
            "credential = { developer_tools = {}, scope = \"\" }",
            "backends[0].credential.scope: must not be empty",
        ),
        (
            CREDENTIAL,
            "credential = { pass_through = true }",
            "backends[0].credential.pass_through: needs [entra]: only a client known by its token has one",
        ),
        (
            CREDENTIAL,
            "kind = \"openai\"\ncredential = { pass_through = true }",
            "backends[0].credential: with pass_through, kind must be \"azure\": tokens of clients are for nobody else\n\
             backends[0].credential.pass_through: needs [entra]: only a client known by its token has one",
        ),
        (
            CREDENTIAL,
            "credential = { pass_through = true, api_key = \"k\" }",
            "backends[0].credential: needs exactly one of api_key and pass_through, not several",
        ),
    ]);
    let token = |credential: &str| {
        let config = valid(&with(CREDENTIAL, &format!("credential = {{ {credential} }}"))).config;
        match config.backends.into_iter().next().unwrap().credential {
            Credential::Token { source, scope } => (source, scope),
            other => panic!("{other:?}"),
        }
    };
    let (source, scope) = token("managed_identity = {}");
    assert!(matches!(source, TokenSource::ManagedIdentity { client_id: None }));
    assert_eq!(scope, "https://cognitiveservices.azure.com/.default");
    let (source, scope) = token("managed_identity = { client_id = \"i\" }, scope = \"https://ai.azure.com/.default\"");
    assert!(matches!(source, TokenSource::ManagedIdentity { client_id: Some(id) } if id == "i"));
    assert_eq!(scope, "https://ai.azure.com/.default");
    assert!(matches!(token("workload_identity = {}").0, TokenSource::WorkloadIdentity));
    assert!(matches!(token("developer_tools = {}").0, TokenSource::DeveloperTools));
    let (source, _) = token("client_secret = { tenant_id = \"t\", client_id = \"c\", secret_file = \"key\" }");
    let TokenSource::ClientSecret { tenant_id, client_id, secret } = source else { panic!("{source:?}") };
    assert_eq!((&*tenant_id, &*client_id, secret.expose()), ("t", "c", "key-from-the-file"));
}

#[test]
fn a_client_has_one_form_of_key_and_any_number_of_them() {
    let sha256 = "7a2796cf8e75280651da4fbf32e5f349a6787d1533e0c884515f15ed60f99f6a";
    refuses(&[
        (KEY, "", "clients[0]: client \"c\" needs one of key, key_env, key_file, key_sha256 or entra"),
        (KEY, "key = \"k\"\nkey_env = \"LONG\"", "clients[0]: needs exactly one of key and key_env, not several"),
        (KEY, "key = []", "clients[0].key: must not be empty"),
        (KEY, "key = 1", "clients[0].key: must be a string or an array of strings, not an integer"),
        (KEY, "key = [\"key-of-a-client-1\", \"\"]", "clients[0].key[1]: is empty"),
        (KEY, "key_env = [\"LONG\", \"NOT_SET\"]", "clients[0].key_env[1]: environment variable NOT_SET is not set"),
        (KEY, "key_sha256 = \"abc\"", "clients[0].key_sha256: must be 64 hexadecimal digits"),
        (
            "# end",
            "[[clients]]\nid = \"d\"\nkey = [\"key-of-a-client-1\", \"key-of-a-client-0\"]",
            "clients[1].key[1]: is also a key of clients[0]",
        ),
    ]);
    for (keys, expected) in [
        ("key = \"sixteen--letters\"", 1),
        ("key = [\"key-of-a-client-1\", \"key-of-a-client-2\", \"key-of-a-client-1\"]", 3),
        ("key_env = [\"TEAM_A_KEY\", \"OTHER_KEY\"]", 2),
        ("key_file = [\"key\"]", 1),
        (&format!("key_sha256 = \"{sha256}\""), 1),
    ] {
        let config = valid(&with(KEY, keys)).config;
        assert_eq!(config.clients[0].keys.len(), expected, "{keys}");
    }
    for (keys, place) in [
        ("key = \"fifteen-letters\"", "key"),
        ("key_env = [\"LONG\", \"SHORT_KEY\"]", "key_env[1]"),
        ("key_file = \"short\"", "key_file"),
    ] {
        let weak = valid(&with(KEY, keys));
        assert_eq!(lines(&weak.weaknesses), format!("clients[0].{place}: must be 16 characters or more"));
        assert!(!weak.config.clients[0].keys.is_empty(), "whoever runs with it goes on");
    }
    let both = with(KEY, "key = \"password-password\"")
        .replace("# end", &format!("[[clients]]\nid = \"d\"\nkey_sha256 = \"{sha256}\""));
    assert_eq!(problems(&both), "clients[1].key_sha256: is also a key of clients[0]");
}

#[test]
fn running_without_clients_is_written_out() {
    let clients = "[[clients]]\nid = \"c\"\nkey = \"key-of-a-client-0\"\n";
    let none = with(clients, "").replace("# top", "authentication = \"none\"");
    assert_eq!(valid(&none).config.authentication, Authentication::None);
    let missing =
        "authentication: there are no [[clients]] and no [entra]: write authentication = \"none\" to let everyone in";
    assert_eq!(problems(&with(clients, "")), missing);
    assert_eq!(problems(&with(clients, "").replace("# top", "clients = []")), missing);
    let entra = valid(&with(clients, "[entra]\ntenant_id = \"t\"\naudience = [\"a\"]\n"));
    assert_eq!(
        entra.warnings.to_string(),
        "g.toml: entra: warning: tokens let nobody in: none of the [[clients]] has an `entra`\n"
    );
    assert_eq!(
        valid(&with("# top", "authentication = \"none\"")).warnings.to_string(),
        "g.toml: authentication: warning: \"none\" lets everyone in, whatever [[clients]] says\n"
    );
    refuses(&[(
        "# top",
        "authentication = \"keys\"",
        "authentication: \"keys\" is unknown, must be \"clients\" or \"none\"",
    )]);
}

#[test]
fn an_alias_serves_one_model_and_version() {
    let second = |deployment: &str| {
        let text = format!(
            "[[backends]]\nname = \"b\"\nendpoint = \"https://b.example\"\ncredential = {{ developer_tools = {{}} }}\n\
             [[backends.deployments]]\nname = \"n\"\nalias = \"m\"\n{deployment}"
        );
        with("# end", &text)
    };
    let with_version = |text: String| text.replace("# deployment", "version = \"1\"");
    valid(&second(""));
    valid(&second("model = \"m\""));
    valid(&with_version(second("version = \"1\"")));
    for (text, expected) in [
        (
            second("model = \"x\""),
            "model: alias \"m\" mixes models or versions: a/m is m with no version and b/n is x with no version",
        ),
        (
            second("version = \"2\""),
            "version: alias \"m\" mixes models or versions: a/m is m with no version and b/n is m with version 2",
        ),
        (
            with_version(second("")),
            "version: alias \"m\" mixes models or versions: a/m is m with version 1 and b/n is m with no version",
        ),
        (
            with_version(second("version = \"2\"")),
            "version: alias \"m\" mixes models or versions: a/m is m with version 1 and b/n is m with version 2",
        ),
    ] {
        assert_eq!(problems(&text), format!("backends[1].deployments[0].{expected}"));
    }
}

#[test]
fn deployments_inherit_from_their_backend() {
    let text = with("# backend", "priority = 3\nweight = 4\nquota_group = \"q\"\nprocessing = \"data-zone\"\nmax_in_flight = 5")
        .replace("# deployment", "[[backends.deployments]]\nname = \"n\"\nalias = \"o\"\nversion = \"1\"\npriority = 1\nweight = 0\nquota_group = \"r\"");
    let config = valid(&text).config;
    let [backend] = &config.backends[..] else { panic!("{config:?}") };
    let [first, second] = &backend.deployments[..] else { panic!("{config:?}") };
    assert_eq!((first.quota_group.as_deref(), second.quota_group.as_deref()), (Some("q"), Some("r")));
    assert_eq!((backend.processing, backend.max_in_flight.map(|max| max.get())), (Processing::DataZone, Some(5)));
    assert_eq!(config.served(), "m m -: a/m (priority 3, weight 4)\no o 1: a/n (priority 1, weight 0)\n");
}

#[test]
fn allowed_aliases_must_be_served() {
    refuses(&[
        ("# client", "allow = [\"m\", \"x\"]", "clients[0].allow[1]: no backend serves the alias \"x\""),
        // The model is not what clients name.
        (
            "# deployment",
            "model = \"x\"\n[[clients]]\nid = \"d\"\nkey = \"key-of-a-client-1\"\nallow = [\"x\"]",
            "clients[0].allow[0]: no backend serves the alias \"x\"",
        ),
        (
            "name = \"m\"",
            "[[clients]]\nid = \"d\"\nkey = \"key-of-a-client-1\"\nallow = [\"x\"]",
            "backends[0].deployments[0].name: is missing",
        ),
    ]);
    accepts(&[("# client", "allow = [\"m\"]"), ("# client", "allow = []")]);
}

#[test]
fn clients_whose_constraints_nothing_meets_are_warned_of() {
    for (backend, client, key) in [
        ("", "geography = \"eu\"", "geography"),
        ("geography = \"us\"", "geography = \"eu\"", "geography"),
        ("processing = \"global\"", "processing = [\"regional\", \"data-zone\"]", "processing"),
        (
            "geography = \"eu\"\nprocessing = \"global\"",
            "geography = \"eu\"\nprocessing = [\"regional\"]",
            "processing",
        ),
        ("", "processing = []\nallow = [\"m\"]", "processing"),
    ] {
        let loaded = valid(&with("# backend", backend).replace("# client", client));
        assert_eq!(
            loaded.warnings.to_string(),
            format!(
                "g.toml: clients[0].{key}: warning: no backend that serves \"m\" meets the constraints of client \"c\"\n"
            ),
            "{backend} {client}"
        );
    }
    for (backend, client) in [
        ("geography = \"eu\"", "geography = \"eu\"\nprocessing = [\"regional\"]"),
        ("", "geography = \"eu\"\nallow = []"),
        ("processing = \"global\"", ""),
    ] {
        let loaded = valid(&with("# backend", backend).replace("# client", client));
        assert_eq!(loaded.warnings.to_string(), "", "{backend} {client}");
    }
}

#[test]
fn a_name_of_a_client_may_stand_for_another_alias() {
    assert_eq!(valid(BASE).config.clients[0].route, []);
    let loaded = valid(&with("# client", "route = { \"gpt 4\" = \"m\" }\nallow = [\"gpt 4\"]"));
    assert_eq!(loaded.config.clients[0].route, [("gpt 4".to_owned(), "m".to_owned())]);
    refuses(&[
        ("# client", "route = { x = \"y\" }", "clients[0].route.x: no backend serves the alias \"y\""),
        (
            "# client",
            "route = { \"gpt 4\" = \"y\" }\nallow = [\"gpt 4\"]",
            "clients[0].route.\"gpt 4\": no backend serves the alias \"y\"",
        ),
        ("# client", "route = { x = \"\" }", "clients[0].route.x: must not be empty"),
        ("# client", "route = { x = 1 }", "clients[0].route.x: must be a string, not an integer"),
        ("# client", "route = true", "clients[0].route: must be a table, not a boolean"),
    ]);
}

#[test]
fn constraints_are_checked_for_what_a_client_reaches() {
    let abroad = "geography = \"eu\"";
    for (client, warned) in [
        ("allow = [\"x\"]\nroute = { x = \"m\" }", true),
        ("allow = []\nroute = { x = \"m\" }", false),
        ("allow = [\"x\", \"m\"]\nroute = { x = \"m\" }", true),
    ] {
        let loaded = valid(&with("# client", &format!("{abroad}\n{client}")));
        assert_eq!(loaded.warnings.to_string().lines().count(), usize::from(warned), "{client}");
    }
}

/// Two versions behind one alias.
const RELEASED: &str = r#"
[[backends.deployments]]
name = "m2"
alias = "m"
version = "2"
[[releases]]
alias = "m"
model = "m"
version = "1"
share = 90
[[releases]]
alias = "m"
model = "m"
version = "2"
share = 10
"#;

fn released(from: &str, to: &str) -> String {
    assert!(RELEASED.contains(from), "{from}");
    with("# deployment", &format!("version = \"1\"\n{}", RELEASED.replacen(from, to, 1)))
}

#[test]
fn an_alias_may_have_releases() {
    assert_eq!(valid(BASE).config.releases, []);
    let config = valid(&released("", "")).config;
    assert_eq!(config.releases.iter().map(|release| release.share).collect::<Vec<_>>(), [90, 10]);
    assert_eq!(
        config.served(),
        "m m 1 (share 90): a/m (priority 0, weight 1)\nm m 2 (share 10): a/m2 (priority 0, weight 1)\n"
    );
}

#[test]
fn releases_and_deployments_must_fit_each_other() {
    for (from, to, problem) in [
        (
            "version = \"2\"\n[[releases]]",
            "version = \"3\"\n[[releases]]",
            "releases[1]: no backend serves \"m\" in version \"2\" as \"m\"\n\
             backends[0].deployments[1].version: a/m2 is m with version 3, which is no release of \"m\"",
        ),
        ("share = 10", "", "releases[1].share: is missing"),
        ("share = 10", "share = 1000001", "releases[1].share: must be from 0 to 1000000"),
        (
            "share = 10",
            "share = 10\n[[releases]]\nalias = \"m\"\nmodel = \"m\"\nversion = \"2\"\nshare = 0",
            "releases[2]: is already releases[1]",
        ),
        (
            "90\n[[releases]]\nalias = \"m\"\nmodel = \"m\"\nversion = \"2\"\nshare = 10",
            "0\n[[releases]]\nalias = \"m\"\nmodel = \"m\"\nversion = \"2\"\nshare = 0",
            "releases[0].share: no release of \"m\" has a share",
        ),
        ("[[releases]]\nalias = \"m\"", "[[releases]]", "releases[0].alias: is missing"),
    ] {
        let found = problems(&released(from, to));
        assert!(found.contains(problem), "{to}: {found}");
    }
}

#[test]
fn a_release_without_a_share_serves_no_client() {
    let eu = "name = \"b\"\nendpoint = \"https://b.example\"\ncredential = { api_key = \"k\" }\ngeography = \"eu\"\n\
              deployments = [{ name = \"m\", version = \"1\" }]";
    for (share, warned) in [(1, false), (0, true)] {
        let text = released("share = 90", &format!("share = {share}\n[[backends]]\n{eu}"));
        let loaded = valid(&text.replace("# client", "geography = \"eu\""));
        let warning =
            "clients[0].geography: warning: no backend that serves \"m\" meets the constraints of client \"c\"";
        assert_eq!(loaded.warnings.to_string().contains(warning), warned, "{}", loaded.warnings);
    }
}

#[test]
fn an_alias_may_have_further_names() {
    let text = with("# end", "[[aliases]]\nname = \"m\"\nalso = [\"m-2024\", \"m-latest\"]")
        .replace("# client", "allow = [\"m-2024\"]\nroute = { x = \"m-latest\" }");
    let loaded = valid(&text);
    assert_eq!(loaded.warnings.list.len(), 0, "{}", loaded.warnings);
    let client = &loaded.config.clients[0];
    assert_eq!(client.allow.as_deref().unwrap(), ["m-2024", "m", "m-latest"]);
    assert_eq!(client.route, [("x".to_owned(), "m".to_owned())]);

    let routed = text.replace("route = { x =", "route = { m-2024 =");
    let names: Vec<_> = valid(&routed).config.clients.remove(0).route.into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["m-2024", "m", "m-latest"], "a route of one name is a route of all");
}

#[test]
fn further_names_belong_to_one_alias_that_is_served() {
    refuses(&[
        ("# end", "[[aliases]]\nname = \"n\"", "aliases[0].name: no backend serves the alias \"n\""),
        ("# end", "[[aliases]]\nalso = [\"n\"]", "aliases[0].name: is missing"),
        ("# end", "[[aliases]]\nname = \"m\"\nalso = [\"m\"]", "aliases[0].also[0]: \"m\" is an alias itself"),
        (
            "# end",
            "[[aliases]]\nname = \"m\"\nalso = [\"n\", \"n\"]",
            "aliases[0].also[1]: \"n\" is already aliases[0].also[0]",
        ),
        (
            "# end",
            "[[aliases]]\nname = \"m\"\n[[aliases]]\nname = \"m\"",
            "aliases[1].name: \"m\" is already aliases[0].name",
        ),
        ("# end", "[[aliases]]\nname = \"m\"\nalias = \"n\"", "aliases[0].alias: unknown key"),
        ("# end", "[[aliases]]\nname = \"m\"\nidle = \"0s\"", "aliases[0].idle: must be longer than nothing"),
        ("# end", "[[aliases]]\nname = \"m\"\nanswer = \"9\"", "aliases[0].answer: has no unit: ms, s, m, h or d"),
    ]);
}

#[test]
fn words_are_those_of_the_contract() {
    refuses(&[
        (
            "# backend",
            "processing = \"zone\"",
            "backends[0].processing: \"zone\" is unknown, must be \"regional\", \"data-zone\" or \"global\"",
        ),
        (
            "# client",
            "processing = [\"global\", \"zone\"]",
            "clients[0].processing[1]: \"zone\" is unknown, must be \"regional\", \"data-zone\" or \"global\"",
        ),
        (
            "# end",
            "[selection]\npolicy = \"random\"",
            "selection.policy: \"random\" is unknown, must be \"round-robin\", \"weighted\", \"least-load\", \
             \"lowest-latency\" or \"prompt-cache\"",
        ),
        (
            "# end",
            "[telemetry]\nlog_format = \"xml\"",
            "telemetry.log_format: \"xml\" is unknown, must be \"text\" or \"json\"",
        ),
        (
            "# end",
            "[telemetry]\nlog = \"a=b=c\"",
            "telemetry.log: must be a filter as in RUST_LOG, such as \"info\" or \"warn,tower_azure_openai=debug\"",
        ),
        (
            "# end",
            "[failover]\non = [\"429\", \"418\"]",
            "failover.on[1]: \"418\" is unknown, must be \"401\", \"403\", \"404-deployment\", \"408\", \"429\", \"500\", \"502\", \
             \"503\", \"504\", \"connect\", \"first-byte-timeout\", \"stream-preamble\", \"409-retry-after\", \"424\" or \
             \"answer-timeout\"",
        ),
    ]);
    let config = valid(&with(
        "# end",
        "[failover]\non = [\"409-retry-after\", \"424\", \"answer-timeout\"]\n[selection]\npolicy = \"weighted\"",
    ));
    assert_eq!(
        config.config.failover.on,
        [Condition::RetryableConflict, Condition::Status(424), Condition::AnswerTimeout]
    );
    assert_eq!(config.config.selection.policy, Policy::Weighted);
}

const ENTRA: &str = "[entra]\ntenant_id = \"t\"\naudience = [\"a\", \"b\"]\n";

#[test]
fn entra_has_the_defaults_of_the_public_cloud() {
    let config = valid(&with("# client", "entra = { app_id = \"ABC\" }").replace("# end", ENTRA)).config;
    let entra = config.entra.unwrap();
    assert_eq!((&*entra.tenant_id, &entra.audience[..]), ("t", &["a".to_owned(), "b".to_owned()][..]));
    assert_eq!(entra.issuer, "https://login.microsoftonline.com/t/v2.0");
    assert_eq!(entra.jwks_url, "https://login.microsoftonline.com/t/discovery/v2.0/keys");
    assert_eq!(config.clients[0].entra, Some(entra::Caller::AppId("abc".to_owned())));
    assert_eq!(config.clients[0].keys.len(), 1, "known by a key as well");

    let own =
        format!("{ENTRA}issuer = \"https://sts.example/{{tenant_id}}\"\njwks_url = \"http://[::1]:7/{{tenant_id}}\"");
    let entra = valid(&with(KEY, "entra = { role = \"R\" }").replace("# end", &own)).config.entra.unwrap();
    assert_eq!((&*entra.issuer, &*entra.jwks_url), ("https://sts.example/t", "http://[::1]:7/t"));
}

#[test]
fn entra_is_checked() {
    let url = "entra.jwks_url: must be an https URL without credentials; plain http is for loopback only";
    let refuses = |piece: &str, replacement: &str, expected: &str| {
        let text = with(piece, replacement).replace("# client", "entra = { object_id = \"x\" }");
        assert_eq!(problems(&text), expected, "{piece} -> {replacement}");
    };
    refuses("# end", "", "clients[0].entra: needs [entra]");
    refuses("# end", "[entra]", "entra.audience: is missing\nentra.tenant_id: is missing");
    refuses("# end", "[entra]\ntenant_id = \"t\"\naudience = []", "entra.audience: must not be empty");
    refuses("# end", "[entra]\ntenant_id = \"t\"\naudience = [\"\"]", "entra.audience[0]: must not be empty");
    refuses(
        "# end",
        "[entra]\ntenant_id = \"t\"\naudience = \"a\"",
        "entra.audience: must be an array of strings, not a string",
    );
    for wrong in ["", "a b", "a/b", "{tenant_id}"] {
        let text = ENTRA.replace("\"t\"", &format!("{wrong:?}"));
        refuses("# end", &text, "entra.tenant_id: must be the id of a tenant, a GUID");
    }
    for wrong in ["", "keys", "http://login.example/keys", "https://a:b@login.example/", "ftp://localhost/"] {
        refuses("# end", &format!("{ENTRA}jwks_url = \"{wrong}\""), url);
    }
    refuses(
        "# end",
        &format!("{ENTRA}[[clients]]\nid = \"d\"\nentra = {{ object_id = \"X\" }}"),
        "clients[1].entra: is also that of clients[0]",
    );
    for (entra, expected) in [
        ("{}", "clients[1].entra: needs one of app_id, object_id or role"),
        ("{ role = \"\" }", "clients[1].entra.role: must not be empty"),
        ("{ role = \"r\", app_id = \"a\" }", "clients[1].entra: needs exactly one of app_id and role, not several"),
        (
            "{ user = \"u\" }",
            "clients[1].entra: needs one of app_id, object_id or role\nclients[1].entra.user: unknown key",
        ),
    ] {
        refuses("# end", &format!("{ENTRA}[[clients]]\nid = \"d\"\nentra = {entra}"), expected);
    }
}

#[test]
fn tls_needs_a_certificate_and_its_key() {
    let pem = |key: &rcgen::KeyPair| {
        let certificate = rcgen::CertificateParams::new(vec!["gateway.example".to_owned()]).unwrap();
        certificate.self_signed(key).unwrap().pem().into_bytes()
    };
    let (key, other) = (rcgen::KeyPair::generate().unwrap(), rcgen::KeyPair::generate().unwrap());
    let (certificate, key, other) = (pem(&key), key.serialize_pem().into_bytes(), other.serialize_pem().into_bytes());
    let load = |tls: &str| {
        let text = with("# top", &format!("tls = {tls}"));
        let read = |path: &Path| match path.to_str() {
            Some("g.toml") => Ok(text.clone().into_bytes()),
            Some("cert.pem") => Ok(certificate.clone()),
            Some("key.pem") => Ok(key.clone()),
            Some("other.pem") => Ok(other.clone()),
            Some("broken.pem") => Ok(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_vec()),
            _ => file(path),
        };
        Config::load(Path::new("g.toml"), &Sources { env: &env, file: &read })
    };
    let loaded = load("{ cert_file = \"cert.pem\", key_file = \"key.pem\" }").unwrap();
    assert_eq!(format!("{:?}", loaded.config.tls), "Some(Tls)");
    for (tls, expected) in [
        ("{}", "tls.cert_file: is missing\ntls.key_file: is missing"),
        ("{ cert_file = \"cert.pem\" }", "tls.key_file: is missing"),
        (
            "{ cert_file = \"missing\", key_file = \"key.pem\" }",
            "tls.cert_file: cannot read \"missing\": entity not found",
        ),
        ("{ cert_file = \"key.pem\", key_file = \"key.pem\" }", "tls.cert_file: holds no certificate in PEM form"),
        ("{ cert_file = \"cert.pem\", key_file = \"cert.pem\" }", "tls.key_file: holds no private key in PEM form"),
        (
            "{ cert_file = \"broken.pem\", key_file = \"key.pem\" }",
            "tls.cert_file: holds a certificate that cannot be served",
        ),
        (
            "{ cert_file = \"cert.pem\", key_file = \"other.pem\" }",
            "tls.key_file: is not the key of the certificate in cert_file",
        ),
    ] {
        assert_eq!(lines(&load(tls).unwrap_err()), expected, "{tls}");
    }
}

#[test]
fn what_is_compared_with_requests_is_never_empty() {
    refuses(&[
        ("# end", "[front_door]\nids = [\"x\", \"\"]", "front_door.ids[1]: must not be empty"),
        ("# end", "[front_door]\nids = \"x\"", "front_door.ids: must be an array of strings, not a string"),
        ("# end", "[api_version]\nallow = [\"\"]", "api_version.allow[0]: must not be empty"),
        (
            "# end",
            "[api_version]\ndefault = \" v\"",
            "api_version.default: must have neither control characters nor space around it",
        ),
    ]);
    accepts(&[("# end", "[front_door]\nids = []\n[api_version]\nallow = []\ndefault = \"\"")]);
}

#[test]
fn every_policy_of_the_contract_can_be_chosen() {
    for (name, policy) in [
        ("round-robin", Policy::RoundRobin),
        ("weighted", Policy::Weighted),
        ("least-load", Policy::LeastLoad),
        ("lowest-latency", Policy::LowestLatency),
        ("prompt-cache", Policy::PromptCache),
    ] {
        let selection = valid(&with("# end", &format!("[selection]\npolicy = {name:?}"))).config.selection;
        assert_eq!((selection.policy, selection.slow_start), (policy, Duration::from_secs(10)));
    }
    let at_once = valid(&with("# end", "[selection]\nslow_start = \"0s\"")).config.selection;
    assert_eq!((at_once.policy, at_once.slow_start), (Policy::RoundRobin, Duration::ZERO));
}

#[test]
fn a_backend_may_speak_openais_own_form() {
    assert_eq!(valid(&with("# backend", "kind = \"azure\"")).config.backends[0].kind, Kind::Azure);
    assert_eq!(valid(&with("# backend", "kind = \"openai\"")).config.backends[0].kind, Kind::OpenAi);
    refuses(&[(
        "# backend",
        "kind = \"other\"",
        "backends[0].kind: \"other\" is unknown, must be \"azure\" or \"openai\"",
    )]);
    let twice = with("# backend", "kind = \"openai\"").replace("https://a.example", "https://a.example/v1/");
    assert_eq!(problems(&twice), "backends[0].endpoint: must not end in /v1, which is put there");
}

#[test]
fn an_endpoint_that_leads_too_far_is_told() {
    refuses(&[
        (
            ENDPOINT,
            "endpoint = \"https://contoso.openai.azure.com/openai/v1/\"",
            "backends[0].endpoint: must end before /openai: requests bring that part of their path along",
        ),
        (
            ENDPOINT,
            "endpoint = \"https://contoso.services.ai.azure.com/api/projects/chat\"",
            "backends[0].endpoint: is that of a project, must be the resource's: leave out /api/projects and what follows",
        ),
    ]);
}

#[test]
fn a_gateway_may_know_where_it_runs() {
    assert_eq!(valid(BASE).config.region, None);
    assert_eq!(valid(&with("# top", "region = \"eastus\"")).config.region.as_deref(), Some("eastus"));
}

#[test]
fn the_base_path_is_a_plain_path_or_nothing() {
    accepts(&[("# top", "base_path = \"\"")]);
    let config = valid(&with("# top", "base_path = \"/azure-openai\"")).config;
    assert_eq!(config.base_path.expect("a base path").as_str(), "/azure-openai");
    let wrong = "base_path: a base path starts with a slash, does not end with one, and holds nothing but a plain path";
    refuses(&[("# top", "base_path = \"/a/\"", wrong), ("# top", "base_path = \"a\"", wrong)]);
}

#[test]
fn operations_are_read() {
    let config = valid(&with("# client", "operations = [\"batches\", \"fine_tuning\", \"evals\", \"other\"]")).config;
    let expected = [Operation::Batches, Operation::FineTuning, Operation::Evals, Operation::Other];
    assert_eq!(config.clients[0].operations, expected);
}

#[test]
fn limits_of_clients_are_read() {
    assert!(valid(&with("# end", "")).config.clients[0].limits.is_none());
    let keys = "tokens_per_minute = 90000\nrequests_per_minute = 60\ntokens_per_day = 5000000000";
    let loaded = valid(&with("# client", keys));
    let limits = loaded.config.clients[0].limits;
    assert_eq!((limits.tokens_per_minute, limits.requests_per_minute), (90_000, 60));
    assert_eq!(limits.tokens_per_day, 5_000_000_000, "a day has room for more than 32 bits");
    let warnings = loaded.warnings.to_string();
    assert!(warnings.contains("clients[0].tokens_per_day: warning: is kept in memory"), "{warnings}");
}

#[test]
fn how_the_usage_of_streams_is_found_is_read() {
    assert_eq!(valid(&with("# end", "")).config.usage.streams, SilentStreams::Estimate);
    assert_eq!(valid(&with("# end", "[usage]\nstreams = \"ask\"")).config.usage.streams, SilentStreams::Ask);
}

#[test]
fn headers_of_requests_that_backends_get_are_read() {
    assert!(valid(&with("# end", "")).config.forward.headers.is_empty());
    let config = valid(&with("# end", "[forward]\nheaders = [\"x-custom\", \"x-team-*\"]")).config;
    assert_eq!(config.forward.headers, ["x-custom", "x-team-*"]);
    for name in ["api-key", "Authorization", "connection", "*", "x y"] {
        let found = problems(&with("# end", &format!("[forward]\nheaders = [\"x-a\", \"{name}\"]")));
        assert!(found.starts_with("forward.headers[1]: "), "{found}");
    }
}

#[test]
fn a_proxy_is_of_the_file_or_of_the_environment() {
    let load = |text: &str, set: &'static [(&'static str, &'static str)]| {
        let env = |name: &str| Some(set.iter().find(|(set, _)| *set == name)?.1.to_owned());
        let read = |_: &Path| Ok(with("# end", text).into_bytes());
        Config::load(Path::new("g.toml"), &Sources { env: &env, file: &read })
    };
    let proxy = |text, set| load(text, set).unwrap().config.forward.proxy;
    let (none, other) = ("", "[forward]\nproxy = \"http://other.example:3128\"");
    let set = &[("https_proxy", "http://u:hunter2@p.example:3128"), ("NO_PROXY", "a.example")];
    assert_eq!(proxy(none, &[]), None);
    assert_eq!(
        proxy(none, set),
        Proxy::from_variables(|name| Some(set.iter().find(|(set, _)| *set == name)?.1.into())).unwrap()
    );
    assert_eq!(proxy(other, set), Some(Proxy::new("http://other.example:3128").unwrap().except("a.example")));
    assert_eq!(proxy("[forward]\nproxy = \"\"", set), None);
    let wrong = |text, set| lines(&load(text, set).unwrap_err());
    let found = wrong(none, &[("HTTPS_PROXY", "socks5://u:hunter2@p.example")]);
    assert_eq!(
        found,
        "forward.proxy: is absent, and HTTPS_PROXY is not an HTTP proxy: it must begin with http:// or https://"
    );
    let found = wrong("[forward]\nproxy = \"http://u:hunter2@p.example/x\"", &[]);
    assert_eq!(found, "forward.proxy: must end after host and port");
    assert!(!format!("{:?}", load(none, set).unwrap().config).contains("hunter2"));
}

#[test]
fn origins_are_exact() {
    let origins = |list: &str| valid(&with("# end", &format!("[cors]\norigins = [{list}]"))).config.cors;
    assert_eq!(origins(""), Origins::None);
    assert_eq!(origins("\"*\""), Origins::Any);
    for text in
        ["https://app.example", "http://localhost:3000", "tauri://localhost", "http://[::1]:5173", "https://a:80"]
    {
        assert_eq!(origins(&format!("{text:?}")), Origins::These(vec![text.parse().unwrap()]));
    }
    for (text, expected) in [
        ("*", "\"*\" is every origin: it must stand alone"),
        ("null", "\"null\" is the origin of every sandboxed page and every local file"),
        ("https://*.example", "must be one exact origin"),
        ("app.example", "must be an origin as browsers send it"),
        ("", "must be an origin as browsers send it"),
        ("https://", "must be an origin as browsers send it"),
        ("https://user@app.example", "must be an origin as browsers send it"),
        ("https://app.example/", "must end after the host and its port"),
        ("https://app.example/page?x#y", "must end after the host and its port"),
        ("https://app.example:", "must have a port from 1 to 65535"),
        ("https://App.example", "must be in lower case, as browsers send it: \"https://app.example\""),
        ("https://app.example:443", "must be without its port, which browsers leave out: \"https://app.example\""),
        ("http://app.example:80", "must be without its port"),
        ("https://b\u{fc}cher.example", "must be an origin as browsers send it"),
    ] {
        let found = problems(&with("# end", &format!("[cors]\norigins = [\"https://a\", {text:?}]")));
        assert!(found.starts_with(&format!("cors.origins[1]: {expected}")), "{text}: {found}");
        assert_eq!(found.lines().count(), 1, "{found}");
    }
}

#[test]
fn a_collector_has_an_endpoint_to_which_paths_can_be_added() {
    let with_endpoint = |endpoint: &str| with("# end", &format!("[telemetry]\notlp_endpoint = {endpoint:?}"));
    for endpoint in ["http://127.0.0.1:4318", "https://otlp.example/of/team-a/"] {
        assert_eq!(valid(&with_endpoint(endpoint)).config.telemetry.otlp_endpoint.as_deref(), Some(endpoint));
    }
    for wrong in ["127.0.0.1:4318", "grpc://otlp.example", "https://user:s3cr3t@otlp.example", "https://a?key=s3cr3t"] {
        let found = problems(&with_endpoint(wrong));
        assert!(found.starts_with("telemetry.otlp_endpoint: must be an http or https URL"), "{wrong}: {found}");
        assert!(!found.contains("s3cr3t"), "{found}");
    }
    let warned = valid(&with_endpoint("http://127.0.0.1:4317")).warnings.to_string();
    assert!(warned.contains("telemetry.otlp_endpoint: warning: 4317 is the port of collectors for gRPC"), "{warned}");
    let nowhere = with("# end", "[capture]\nsink = \"otlp\"");
    assert_eq!(problems(&nowhere), "capture.sink: is \"otlp\", and telemetry.otlp_endpoint names no collector");
}

#[test]
fn what_is_recorded_is_read() {
    let recorder = |text: &str| valid(&with("# end", text)).config.recorder;
    assert_eq!(recorder(""), Recorder { memory: 16 << 20, directory: None });
    let given = recorder("[recorder]\nmemory = \"0\"\ndirectory = \"/\"");
    assert_eq!(given, Recorder { memory: 0, directory: Some("/".into()) });
    refuses(&[
        ("# end", "[recorder]\nmemory = \"1\"", "recorder.memory: has no unit: B, KiB, MiB or GiB"),
        ("# end", "[recorder]\ndirectory = \"/no/such\"", "recorder.directory: is no directory"),
    ]);
}

#[test]
fn features_that_are_not_built_accept_their_defaults_in_any_spelling() {
    accepts(&[("# client", "tokens_per_day = 0"), ("# end", "[session]\n[front_door]")]);
}

#[test]
fn features_that_are_not_built_are_typed() {
    refuses(&[
        ("# top", "redis = true", "redis: must be a table, not a boolean"),
        ("# top", "releases = 1", "releases: must be an array of tables, not an integer"),
        ("# backend", "kind = \"aws\"", "backends[0].kind: \"aws\" is unknown, must be \"azure\" or \"openai\""),
        (
            "# client",
            "operations = [\"x\"]",
            "clients[0].operations[0]: \"x\" is unknown, must be \"assistants\", \"batches\", \"chatkit\", \"evals\", \"fine_tuning\", \
             \"ingestion\", \"models\", \"realtime\", \"responses\", \"threads\", \"videos\" or \"other\"",
        ),
        ("# client", "tokens_per_day = -1", "clients[0].tokens_per_day: must be 0 or more"),
        ("# client", "tokens_per_minute = \"9\"", "clients[0].tokens_per_minute: must be an integer, not a string"),
        ("# end", "[usage]\nstreams = \"x\"", "usage.streams: \"x\" is unknown, must be \"estimate\" or \"ask\""),
        ("# end", "[stream]\npreamble_time = \"30\"", "stream.preamble_time: has no unit: ms, s, m, h or d"),
    ]);
}

#[test]
fn session_keys_are_checked() {
    let too_short = "must be 32 bytes or more";
    refuses(&[
        ("# end", "[session]\nkey = \"x\"", &format!("session.key: {too_short}")),
        ("# end", "[session]\nkey_env = \"SHORT\"", &format!("session.key_env: {too_short}")),
        ("# end", "[session]\nkey_file = \"missing\"", "session.key_file: cannot read \"missing\": entity not found"),
        ("# end", "[session]\ncookie = \"a b\"", "session.cookie: must be the name of a cookie, or \"\" for none"),
        ("# end", "[session]\nheader = \"a b\"", "session.header: must be the name of a header, or \"\" for none"),
        ("# end", "[session]\nremember = 0", "session.remember: must be from 1 to 4294967295"),
        (
            "# end",
            "[session]\nownership = \"on\"",
            "session.ownership: \"on\" is unknown, must be \"off\" or \"enforce\"",
        ),
    ]);
    accepts(&[
        ("# end", "[session]\ncookie = \"\"\nheader = \"\"\nkey_env = \"LONG\"\ndiscover = false"),
        ("# end", "[session]\nwhen_unavailable = \"move\"\nownership = \"off\"\nremember = 1"),
    ]);
    let warnings = valid(&with("# end", "[session]\nownership = \"enforce\"")).warnings;
    assert_eq!(
        lines(&warnings),
        "session.ownership: warning: owners are kept in memory: a restart forgets them, and their objects"
    );
}

/// Lines that are likely to lie about the reader's assumptions.
fn odd_toml() -> impl Strategy<Value = String> {
    let key = prop_oneof![
        prop::sample::select(vec![
            "listen",
            "admin",
            "backends",
            "clients",
            "credential",
            "endpoint",
            "deployments",
            "name",
            "alias",
            "key",
            "allow",
            "on",
            "failover",
            "circuit",
            "session",
            "route",
            "weight",
            "budget",
            "idle",
            "timeouts",
            "processing",
            "api_key_env",
        ])
        .prop_map(str::to_owned),
        "\"[^\"\\\\\\p{Cc}]{0,4}\"",
    ];
    let leaf = prop::sample::select(vec![
        "1",
        "-1",
        "nan",
        "\"\"",
        "\"10s\"",
        "\"64KiB\"",
        "\"http://h:\"",
        "true",
        "[]",
        "{}",
        "[1]",
        "[[{}]]",
        "[\"a\"]",
        "1979-05-27",
        "[{ name = \"x\" }]",
        "9223372036854775807",
        "\"é\"",
    ]);
    let line = (key.clone(), key, leaf, 0..5).prop_map(|(a, b, value, form)| match form {
        0 => format!("[{a}]"),
        1 => format!("[[{a}]]"),
        2 => format!("[[{a}.{b}]]"),
        3 => format!("{a} = {{ {b} = {value} }}"),
        _ => format!("{a} = {value}"),
    });
    prop::collection::vec(line, 0..12).prop_map(|lines| lines.join("\n"))
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = load_bytes(&bytes).map_err(|problems| problems.to_string());
    }

    #[test]
    fn no_table_panics_and_every_problem_is_one_line(text in odd_toml()) {
        if let Err(problems) = load_bytes(text.as_bytes()) {
            prop_assert_eq!(problems.to_string().lines().count(), problems.list.len());
        }
    }

    #[test]
    fn no_cut_or_flipped_contract_panics(at in 0..CONTRACT.len(), byte in any::<u8>(), cut in any::<bool>()) {
        let mut bytes = CONTRACT.as_bytes().to_vec();
        bytes[at] = byte;
        bytes.truncate(if cut { at } else { bytes.len() });
        let _ = load_bytes(&bytes).map_err(|problems| problems.to_string());
    }
}

#[test]
fn what_replicas_share_is_read() {
    use tower_azure_openai::shared::OnFailure;

    use super::redis::Credential;

    assert!(valid(&with("# end", "")).config.redis.is_none());
    let read = |keys: &str| valid(&with("# end", &format!("[redis]\n{keys}"))).config.redis.unwrap();
    let plain = read("url = \"redis://127.0.0.1:6379\"");
    assert_eq!((plain.credential, plain.on_failure), (Credential::Nobody, OnFailure::Local));
    let secret = read("url = \"rediss://a:1\"\ncredential = { password = \"hunter2\" }\non_failure = \"refuse\"");
    assert!(matches!(secret.credential, Credential::Password { user: None, .. }));
    assert_eq!(secret.on_failure, OnFailure::Refuse);
    assert!(!format!("{:?}", secret.credential).contains("hunter2"));
    let identity = read("url = \"rediss://a:1\"\ncredential = { managed_identity = {} }");
    let Credential::Token { scope, .. } = identity.credential else { panic!("{:?}", identity.credential) };
    assert_eq!(scope, "https://redis.azure.com/.default");

    let daily = with("# client", "tokens_per_day = 1").replace("# end", "[redis]\nurl = \"redis://localhost\"");
    assert!(!valid(&daily).warnings.to_string().contains("kept in memory"), "it outlasts a restart");
}

#[test]
fn what_replicas_share_is_checked() {
    for (keys, expected) in [
        ("", "redis.url: is missing"),
        ("url = \"http://a\"", "redis.url: must be a URL such as \"rediss://name.region.redis.azure.net:10000\""),
        ("url = \"redis://:hunter2@a\"", "redis.url: must not carry credentials: they go into `credential`"),
        (
            "url = \"redis://a\"\non_failure = \"x\"",
            "redis.on_failure: \"x\" is unknown, must be \"local\" or \"refuse\"",
        ),
        ("url = \"redis://a\"\ncolour = 1", "redis.colour: unknown key"),
        (
            "url = \"redis://a\"\ncredential = { password = \"hunter2\" }",
            "redis.url: must be rediss: passwords and tokens go without TLS on loopback only",
        ),
        ("url = \"redis://localhost\"\nca_file = \"ca.pem\"", "redis.ca_file: is of use with rediss:// only"),
        ("url = \"rediss://a\"\nca_file = \"key\"", "redis.ca_file: file \"key\" holds no certificate in PEM form"),
        (
            "url = \"rediss://a\"\ncredential = { password = \"hunter2\", scope = \"x\" }",
            "redis.credential.scope: goes with a token, not with a password",
        ),
    ] {
        assert_eq!(problems(&with("# end", &format!("[redis]\n{keys}"))), expected, "{keys}");
    }
}
