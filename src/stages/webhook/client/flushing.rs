//! A stream that has whoever drives it look once more after it took what it had refused before.
//!
//! hyper asks for the next request before it flushes the last one. When the answer is there first (the other side didn't
//! wait for all of the request) and the socket was full, the flush that ends the exchange is the last thing of that look:
//! nothing wakes hyper afterwards, the connection never says that it takes a request, and its owner would open another.

use std::io::{IoSlice, Result};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Wakes its driver when a flush succeeds that had to wait. Costs nothing while the socket takes everything at once.
#[derive(Debug)]
pub(super) struct Flushing<S> {
    stream: S,
    /// Something was refused since the last flush.
    refused: bool,
}

impl<S> Flushing<S> {
    /// Wraps `stream`.
    pub(super) fn new(stream: S) -> Self {
        Self { stream, refused: false }
    }

    fn note<T>(&mut self, result: Poll<T>) -> Poll<T> {
        self.refused |= result.is_pending();
        result
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Flushing<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, to)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Flushing<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.note(result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(cx, parts);
        self.note(result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let result = Pin::new(&mut self.stream).poll_flush(cx);
        if result.is_ready() && std::mem::take(&mut self.refused) {
            cx.waker().wake_by_ref();
        }
        self.note(result)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use http_body_util::Full;
    use hyper::Request;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

    use super::super::connect::handshake;

    /// Less than what hyper flushes while it writes, more than the stream takes at once.
    const BODY: usize = 32 * 1024;

    async fn read_head(stream: &mut DuplexStream) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
    }

    #[tokio::test]
    async fn a_connection_answered_before_its_request_was_read_takes_the_next() {
        let (ours, mut theirs) = tokio::io::duplex(1024);
        let mut connection = handshake(ours).await.unwrap();
        let mut body = vec![0; BODY];
        for _ in 0..3 {
            assert!(connection.is_settled(Duration::from_secs(30)).await);
            let request = Request::new(Full::new(Bytes::from(vec![7; BODY])));
            let mut answer = std::pin::pin!(connection.sender.try_send_request(request));
            tokio::select! {
                _ = &mut answer => panic!("it is answered before it was asked"),
                () = read_head(&mut theirs) => {}
            }
            theirs.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
            assert_eq!(answer.await.unwrap().status(), 204);
            assert!(!connection.sender.is_ready(), "the body is not written yet");
            theirs.read_exact(&mut body).await.unwrap();
        }
    }
}
