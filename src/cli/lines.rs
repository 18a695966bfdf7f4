//! Lines of a file or of standard input, each of bounded length.

use std::path::Path;

use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncRead, BufReader};

use super::exit::Fault;

/// Longer lines are reported and skipped: no event is that large.
const LONGEST: usize = 16 * 1024 * 1024;

/// One line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// Its text, without the line break.
    Text(String),
    /// It can't be an event, for this reason.
    Unusable(&'static str),
}

/// Reads lines one by one.
pub(super) struct Lines {
    input: Box<dyn AsyncBufRead + Unpin + Send>,
}

impl Lines {
    /// The lines of `path`, or of standard input for `-`.
    pub(super) async fn open(path: &Path) -> Result<Self, Fault> {
        if path == Path::new("-") {
            return Ok(Self::of(tokio::io::stdin()));
        }
        let file = tokio::fs::File::open(path).await;
        let file =
            file.map_err(|error| Fault::usage(format!("{} can't be read: {error}", path.display())))?;
        Ok(Self::of(file))
    }

    fn of(input: impl AsyncRead + Unpin + Send + 'static) -> Self {
        Self { input: Box::new(BufReader::with_capacity(64 * 1024, input)) }
    }

    /// The next line; `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Line>, Fault> {
        let (mut line, mut too_long, mut any) = (Vec::new(), false, false);
        loop {
            let chunk = self.input.fill_buf().await;
            let chunk =
                chunk.map_err(|error| Fault::failures(format!("the input can't be read on: {error}")))?;
            if chunk.is_empty() {
                break;
            }
            any = true;
            let end = chunk.iter().position(|byte| *byte == b'\n');
            let text = &chunk[..end.unwrap_or(chunk.len())];
            too_long |= line.len() + text.len() > LONGEST;
            if !too_long {
                line.extend_from_slice(text);
            }
            let used = end.map_or(chunk.len(), |at| at + 1);
            self.input.consume(used);
            if end.is_some() {
                break;
            }
        }
        if !any {
            return Ok(None);
        }
        if too_long {
            return Ok(Some(Line::Unusable("the line is longer than 16 MiB")));
        }
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        Ok(Some(String::from_utf8(line).map_or(Line::Unusable("the line is not UTF-8"), Line::Text)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn lines(bytes: &'static [u8]) -> Vec<Line> {
        let (mut lines, mut all) = (Lines::of(bytes), Vec::new());
        while let Some(line) = lines.next().await.expect("bytes in memory can be read") {
            all.push(line);
        }
        all
    }

    #[tokio::test]
    async fn every_kind_of_line_end_ends_a_line() {
        let text = |text: &str| Line::Text(text.to_owned());
        assert_eq!(lines(b"a\r\n\nb").await, [text("a"), text(""), text("b")]);
        assert_eq!(lines(b"").await, []);
    }

    #[tokio::test]
    async fn what_is_no_text_is_told_and_the_rest_goes_on() {
        assert_eq!(
            lines(b"\xff\xfe\nb\n").await,
            [Line::Unusable("the line is not UTF-8"), Line::Text("b".to_owned())]
        );
        static LONG: [u8; LONGEST + 3] = {
            let mut bytes = [b'x'; LONGEST + 3];
            bytes[LONGEST + 1] = b'\n';
            bytes
        };
        let long = Line::Unusable("the line is longer than 16 MiB");
        assert_eq!(lines(&LONG).await, [long, Line::Text("x".to_owned())]);
    }
}
