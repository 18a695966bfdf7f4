//! Connections that waste the server's time are cut, and hold nobody else up.

use std::time::Duration;

use orderflow::http::HttpOptions;
use orderflow::http::live::LiveOptions;
use orderflow::stages::StageOptions;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::TestApi;
use crate::harness::program::TestProgram;

/// Much longer than the server may take to cut a connection, and the pause between two dripped bytes.
const PATIENCE: Duration = Duration::from_secs(60);
const DRIP: Duration = Duration::from_millis(50);

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_drips_its_header_is_cut_and_its_place_is_free_again() {
    let program = TestProgram::new("http-drip", StageOptions::default()).await;
    let options =
        HttpOptions { header_timeout: Duration::from_secs(3), max_connections: 1, ..HttpOptions::default() };
    let api = TestApi::with(&program, LiveOptions::default(), options).await;
    let mut dripping = TcpStream::connect(api.address).await.expect("the server listens");
    let (mut from, mut to) = dripping.split();
    let drip = async {
        let header = b"GET /health/live HTTP/1.1\r\nx: ".iter().chain(std::iter::repeat(&b'x'));
        let mut pace = tokio::time::interval(DRIP);
        for byte in header {
            pace.tick().await;
            if to.write_all(&[*byte]).await.is_err() {
                break;
            }
        }
    };
    let cut = async {
        let mut answer = Vec::new();
        // An error is an end, too: the server needn't wait for what else was dripped.
        let _ = from.read_to_end(&mut answer).await;
        answer
    };
    let ended = tokio::time::timeout(PATIENCE, async {
        tokio::select! {
            () = drip => Vec::new(),
            answer = cut => answer,
        }
    });
    let answer = ended.await.expect("the server cuts the connection");
    assert!(!String::from_utf8_lossy(&answer).contains(" 200 "), "no request was ever complete");
    let asked = tokio::time::timeout(PATIENCE, api.client.get(api.url("/health/live")).send());
    assert_eq!(asked.await.expect("the only place is free").expect("an answer").status(), 200);
    api.end().await;
}
