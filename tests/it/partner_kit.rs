//! The partner's kit against the real program: the receivers of `docs/partners/`, as they are printed there, verify what
//! is sent, before, during and after a rotation, recognise repeats and refuse what was changed; and the bodies are what
//! the published schemas say.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use orderflow::admin::webhooks::{Registered, Registration, Rotation};
use orderflow::crypto::Secret;
use orderflow::event::{Event, Factory, Money};
use orderflow::stages::StageOptions;
use orderflow::stages::webhook::WebhookOptions;
use orderflow::task;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::harness::program::TestProgram;
use crate::harness::receiver::{Answer, Receiver, Request};
use crate::harness::{eventually, service};

#[path = "../../docs/partners/verify.rs"]
mod verify;

const SOON: Duration = Duration::from_secs(60);
const NOW: i64 = 1_760_000_000_000;
const SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
const NEXT: &str = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

/// A partner's receiver in some language.
struct Partner {
    port: u16,
    lines: Arc<Mutex<Vec<String>>>,
    running: Running,
}

enum Running {
    Process { child: Child, reading: JoinHandle<()> },
    Task { serving: JoinHandle<()>, stop: CancellationToken },
}

impl Partner {
    /// Starts `command` with the port as its last argument; 0 is any that is free.
    async fn start(mut command: Command, secret: &str, port: u16) -> Self {
        command.arg(port.to_string()).env("WEBHOOK_SECRET", secret);
        let mut child =
            command.stdout(Stdio::piped()).kill_on_drop(true).spawn().expect("the receiver starts");
        let mut out = BufReader::new(child.stdout.take().expect("piped")).lines();
        let first = tokio::time::timeout(SOON, out.next_line()).await.expect("it says where it listens");
        let first = first.expect("text").expect("a line");
        let port = first.strip_prefix("listening on ").expect("a port").parse().expect("a number");
        let lines: Arc<Mutex<Vec<String>>> = Arc::default();
        let told = Arc::clone(&lines);
        let reading = task::spawn("partner", async move {
            while let Ok(Some(line)) = out.next_line().await {
                told.lock().expect("no panic").push(line);
            }
        });
        Self { port, lines, running: Running::Process { child, reading } }
    }

    /// The receiver in Rust, which is part of this binary.
    async fn in_rust(secret: &str, port: u16) -> Self {
        let lines: Arc<Mutex<Vec<String>>> = Arc::default();
        let told = Arc::clone(&lines);
        let router = verify::router(secret, move |event, verdict| {
            let line = json!({"id": event["id"], "event": event["event"], "verdict": verdict});
            told.lock().expect("no panic").push(line.to_string());
        });
        let listener = TcpListener::bind(("127.0.0.1", port)).await.expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let stop = CancellationToken::new();
        let serve = axum::serve(listener, router.expect("a secret"));
        let serve = serve.with_graceful_shutdown(stop.clone().cancelled_owned());
        let serving = task::spawn("partner", async move { serve.await.expect("it serves") });
        Self { port, lines, running: Running::Task { serving, stop } }
    }

    /// Ends it: its port is free then, and its connections are closed.
    async fn end(self) {
        match self.running {
            Running::Process { mut child, reading } => {
                child.kill().await.expect("it runs");
                reading.await.expect("no panic");
            }
            Running::Task { serving, stop } => {
                stop.cancel();
                serving.await.expect("no panic");
            }
        }
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}/hooks", self.port)
    }

    /// The ids that were told, with what they were to the receiver.
    fn told(&self) -> Vec<(String, String)> {
        let lines = self.lines.lock().expect("no panic").clone();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let read = |line: &String| serde_json::from_str::<Value>(line).expect("JSON");
        lines.iter().map(read).map(|line| (text(&line["id"]), text(&line["verdict"]))).collect()
    }
}

async fn register(program: &TestProgram, url: String) -> Registered {
    let registration = Registration {
        url,
        secret: Some(Secret::new(SECRET.to_owned())),
        retry_attempts: Some(8),
        retry_delay: Some(200),
        timeout: Some(5_000),
        ..Registration::default()
    };
    program.registrar().register("shop", None, &registration).await.expect("it is allowed")
}

fn id(event: &Event) -> String {
    format!("evt_{}", event.meta().event_id)
}

fn as_new(events: &[Event]) -> Vec<(String, String)> {
    events.iter().map(|event| (id(event), "new".to_owned())).collect()
}

/// Sends `request` to the partner as it came elsewhere, with its body as it is or changed.
async fn send_again(partner: &Partner, request: &Request, body: Vec<u8>) -> u16 {
    let mut again = reqwest::Client::new().post(partner.url()).body(body);
    for name in ["webhook-id", "webhook-timestamp", "webhook-signature", "x-webhook-sequence", "content-type"]
    {
        again = again.header(name, request.header(name));
    }
    again.send().await.expect("the receiver answers").status().as_u16()
}

/// What every receiver must do, whatever it is written in. `start` starts it with a secret on a port.
async fn check(name: &str, start: impl AsyncFn(&'static str, u16) -> Partner) {
    let webhook =
        WebhookOptions { allow_http: true, allow_private_networks: true, ..WebhookOptions::default() };
    let options = StageOptions { webhook, ..StageOptions::default() };
    let mut program = TestProgram::new(&format!("kit-{name}"), options).await;
    let beside = Receiver::start(|_| Answer::status(200)).await;
    let partner = start(SECRET, 0).await;
    register(&program, beside.url()).await;
    let registered = register(&program, partner.url()).await;
    program.start(&["webhook"]);

    let factory = Factory::new("shop", "it").correlated("r-1");
    let events: Vec<Event> = vec![
        factory.order_paid("o-1", NOW, "pay-1", "card", Money::new(1_999, "EUR")).into(),
        factory.order_shipped("o-1", NOW + 1, "DHL", "JD01").into(),
        factory.order_completed("o-1", NOW + 2).into(),
    ];
    for event in &events {
        program.publish(event).await;
    }
    let told = || partner.told();
    eventually("all of the order is taken, in order", SOON, async || told() == as_new(&events)).await;

    eventually("the other endpoint is told as well", SOON, async || beside.count() == 3).await;
    let request = beside.requests().remove(0);
    assert_eq!(send_again(&partner, &request, request.body.clone()).await, 204, "a repeat is accepted");
    let mut changed = request.body.clone();
    let at = changed.iter().position(|byte| *byte == b'9').expect("an amount");
    changed[at] = b'8';
    assert_eq!(send_again(&partner, &request, changed).await, 401, "what was changed is refused");
    let repeat = (request.header("webhook-id").to_owned(), "repeat".to_owned());
    eventually("the repeat is recognised", SOON, async || told().last() == Some(&repeat)).await;
    assert_eq!(told().len(), 4, "and nothing else was taken");

    // While both secrets sign, a receiver with the old one verifies, and afterwards one with the new one.
    let rotation = Rotation {
        secret: Some(Secret::new(NEXT.to_owned())),
        signature: None,
        overlap: Some(3_600_000),
        request: None,
    };
    let rotated = program.registrar().rotate("shop", None, &registered.endpoint.id, &rotation).await;
    rotated.expect("it may be rotated");
    let during: Event = factory.order_completed("o-2", NOW).into();
    program.publish(&during).await;
    let expected = (id(&during), "new".to_owned());
    eventually("the old secret verifies", SOON, async || told().last() == Some(&expected)).await;
    let port = partner.port;
    partner.end().await;
    let partner = start(NEXT, port).await;
    let after: Event = factory.order_completed("o-3", NOW).into();
    program.publish(&after).await;
    eventually("the new secret verifies", SOON, async || {
        partner.told() == as_new(std::slice::from_ref(&after))
    })
    .await;
    eventually("the other endpoint is told of all", SOON, async || beside.count() == 5).await;
    follow_their_schemas(&beside.requests()).await;
    partner.end().await;
    program.end().await;
}

/// Checks every body by the schema that is published for its type.
async fn follow_their_schemas(requests: &[Request]) {
    const SCRIPT: &str = "
import json, sys
from jsonschema import Draft202012Validator
folder = sys.argv[1]
for line in sys.stdin:
    body = json.loads(line)
    with open(f'{folder}/{body[\"event\"]}.json') as schema:
        Draft202012Validator(json.load(schema)).validate(body)
print('valid')
";
    use tokio::io::AsyncWriteExt as _;
    let mut child = Command::new(service("ORDERFLOW_TEST_PYTHON"))
        .args(["-c", SCRIPT])
        .arg(kit().join("schemas"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python starts");
    let mut lines = Vec::new();
    for request in requests {
        lines.extend_from_slice(&request.body);
        lines.push(b'\n');
    }
    child.stdin.take().expect("piped").write_all(&lines).await.expect("it reads");
    let told = child.wait_with_output().await.expect("it ends");
    assert_eq!(String::from_utf8_lossy(&told.stdout).trim(), "valid");
}

fn kit() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/partners")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_receiver_in_python_takes_what_is_signed_once_and_in_order() {
    let python = service("ORDERFLOW_TEST_PYTHON");
    check("python", async |secret, port| {
        let mut command = Command::new(&python);
        command.arg(kit().join("verify.py"));
        Partner::start(command, secret, port).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_receiver_in_node_takes_what_is_signed_once_and_in_order() {
    // A module finds its packages by its own place.
    let (packages, folder) = (service("ORDERFLOW_TEST_NODE"), tempfile::tempdir().expect("a folder"));
    std::os::unix::fs::symlink(Path::new(&packages).join("node_modules"), folder.path().join("node_modules"))
        .expect("a link");
    std::fs::copy(kit().join("verify.mjs"), folder.path().join("verify.mjs")).expect("it is copied");
    check("node", async |secret, port| {
        let mut command = Command::new("node");
        command.arg(folder.path().join("verify.mjs"));
        Partner::start(command, secret, port).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_receiver_in_go_takes_what_is_signed_once_and_in_order() {
    let go = service("ORDERFLOW_TEST_GO");
    if go == "absent" {
        eprintln!("Go isn't here: the receiver in Go was NOT tested (ops/dev/test said so)");
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let receiver = folder.path().join("receiver");
    let built = Command::new(go)
        .args(["build", "-mod=readonly", "-o"])
        .arg(&receiver)
        .arg(".")
        .current_dir(kit().join("go"))
        .status()
        .await
        .expect("go starts");
    assert!(built.success(), "it is built");
    check("go", async |secret, port| Partner::start(Command::new(&receiver), secret, port).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_receiver_in_rust_takes_what_is_signed_once_and_in_order() {
    check("rust", Partner::in_rust).await;
}
