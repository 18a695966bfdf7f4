//! A partner's server: takes webhooks over real TCP, answers as the test says and remembers everything.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// A request as it came, and the status it was answered with.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
    pub(crate) status: u16,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }

    pub(crate) fn order_id(&self) -> String {
        self.json()["data"]["orderId"].as_str().expect("an order id").to_owned()
    }
}

/// What a request is answered with.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    status: Option<u16>,
    headers: Vec<(&'static str, &'static str)>,
}

impl Answer {
    pub(crate) fn status(status: u16) -> Self {
        Self { status: Some(status), headers: Vec::new() }
    }

    /// None at all, while the connection stays open.
    pub(crate) fn never() -> Self {
        Self { status: None, headers: Vec::new() }
    }

    pub(crate) fn with(mut self, name: &'static str, value: &'static str) -> Self {
        self.headers.push((name, value));
        self
    }
}

type Decide = Arc<dyn Fn(&Request) -> Answer + Send + Sync>;

/// The server. It ends when it is dropped.
pub(crate) struct Receiver {
    port: u16,
    seen: Arc<Mutex<Vec<Request>>>,
    serving: JoinHandle<()>,
}

impl Receiver {
    pub(crate) async fn start(decide: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Self {
        let seen: Arc<Mutex<Vec<Request>>> = Arc::default();
        let decide: Decide = Arc::new(decide);
        let app = Router::new().fallback(take).with_state((Arc::clone(&seen), decide));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let serving = orderflow::task::spawn("receiver", async move {
            axum::serve(listener, app).await.expect("it serves");
        });
        Self { port, seen, serving }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}/hooks?from=orderflow", self.port)
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.seen.lock().expect("no panic").clone()
    }

    /// As if nothing had come so far.
    pub(crate) fn forget(&self) {
        self.seen.lock().expect("no panic").clear();
    }

    pub(crate) fn count(&self) -> usize {
        self.seen.lock().expect("no panic").len()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn take(
    State((seen, decide)): State<(Arc<Mutex<Vec<Request>>>, Decide)>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let mut request = Request { headers, body: body.to_vec(), status: 0 };
    let answer = decide(&request);
    request.status = answer.status.unwrap_or_default();
    seen.lock().expect("no panic").push(request);
    let Some(status) = answer.status else { return std::future::pending().await };
    let mut response = StatusCode::from_u16(status).expect("a status").into_response();
    for (name, value) in answer.headers {
        response.headers_mut().insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    response
}

/// Fails unless the Python library takes the request under `secret`, and refuses it with one byte changed.
pub(crate) fn verified_in_python(secret: &str, request: &Request) {
    const SCRIPT: &str = "
import json, sys
from standardwebhooks.webhooks import Webhook, WebhookVerificationError
given = json.load(sys.stdin)
hook = Webhook(given['secret'])
hook.verify(given['body'], given['headers'])
try:
    hook.verify(given['body'].replace('JD01', 'JD02'), given['headers'])
except WebhookVerificationError:
    print('verified')
";
    use std::io::Write as _;
    let python = super::service("ORDERFLOW_TEST_PYTHON");
    let headers: std::collections::BTreeMap<&str, &str> =
        ["webhook-id", "webhook-timestamp", "webhook-signature"]
            .into_iter()
            .map(|name| (name, request.header(name)))
            .collect();
    let body = std::str::from_utf8(&request.body).expect("text");
    let given = serde_json::json!({"secret": secret, "body": body, "headers": headers}).to_string();
    let mut child = std::process::Command::new(python)
        .args(["-c", SCRIPT])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("python starts");
    child.stdin.take().expect("piped").write_all(given.as_bytes()).expect("it reads");
    let told = child.wait_with_output().expect("it ends");
    assert_eq!(String::from_utf8_lossy(&told.stdout).trim(), "verified");
}
