//! One SMTP conversation, as RFC 5321 orders it, bounded in time, line length and message size.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

use super::Room;
use super::message::Mail;

/// A line without its end; RFC 5321 asks for at least 512 in commands and 1,000 in text.
const MAX_LINE_BYTES: u64 = 4096;
const MAX_MESSAGE_BYTES: usize = 2 * 1024 * 1024;
const MAX_RECIPIENTS: usize = 100;
const IDLE: Duration = Duration::from_secs(120);

type Lines = BufReader<TcpStream>;

#[derive(Debug, Default)]
struct Envelope {
    from: Option<String>,
    to: Vec<String>,
}

/// Talks until the client quits, goes away or misbehaves.
pub(super) async fn run(stream: TcpStream, room: &Room) -> io::Result<()> {
    let mut lines = BufReader::new(stream);
    say(&mut lines, "220 mailbox.orderflow.test ESMTP").await?;
    let mut envelope = Envelope::default();
    while let Some(line) = read_line(&mut lines).await? {
        let line = String::from_utf8_lossy(&line).into_owned();
        let verb = line.split([' ', ':']).next().unwrap_or_default().to_ascii_uppercase();
        let answer = match verb.as_str() {
            "EHLO" => "250-mailbox.orderflow.test\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250 SIZE 2097152",
            "HELO" | "NOOP" => "250 fine",
            "RSET" => {
                envelope = Envelope::default();
                "250 forgotten"
            }
            "MAIL" => {
                envelope = Envelope { from: Some(address(&line)), to: Vec::new() };
                "250 sender noted"
            }
            "RCPT" => recipient(&mut envelope, address(&line), room),
            "DATA" if envelope.to.is_empty() => "503 MAIL and RCPT come first",
            "DATA" => {
                say(&mut lines, "354 go on, end with a dot").await?;
                let Some(text) = read_text(&mut lines).await? else { return Ok(()) };
                let Envelope { from, to } = std::mem::take(&mut envelope);
                match text {
                    Text::Whole(text) => {
                        room.accept(Mail::new(from.unwrap_or_default(), to, text));
                        "250 accepted"
                    }
                    Text::TooLarge => "552 too large",
                }
            }
            "QUIT" => return say(&mut lines, "221 bye").await,
            _ => "502 not here",
        };
        say(&mut lines, answer).await?;
    }
    Ok(())
}

fn recipient(envelope: &mut Envelope, address: String, room: &Room) -> &'static str {
    if envelope.from.is_none() {
        "503 MAIL comes first"
    } else if envelope.to.len() >= MAX_RECIPIENTS {
        "452 too many recipients"
    } else if room.puts_off(&address) {
        "451 try again in a moment"
    } else {
        envelope.to.push(address);
        "250 recipient noted"
    }
}

/// What stands between the angle brackets of `MAIL FROM:<…>` or `RCPT TO:<…>`.
fn address(line: &str) -> String {
    let inner = line.split_once('<').map_or("", |(_, rest)| rest);
    inner.split('>').next().unwrap_or_default().to_owned()
}

enum Text {
    Whole(String),
    TooLarge,
}

/// Reads up to the lone dot and takes the dots away that the protocol added. `None` when the client left.
async fn read_text(lines: &mut Lines) -> io::Result<Option<Text>> {
    let mut text = Vec::new();
    let mut too_large = false;
    while let Some(line) = read_line(lines).await? {
        if line == b"." {
            let whole = Text::Whole(String::from_utf8_lossy(&text).into_owned());
            return Ok(Some(if too_large { Text::TooLarge } else { whole }));
        }
        if text.len() + line.len() > MAX_MESSAGE_BYTES {
            too_large = true;
            continue;
        }
        text.extend_from_slice(line.strip_prefix(b".").unwrap_or(&line));
        text.extend_from_slice(b"\r\n");
    }
    Ok(None)
}

/// The next line without its end; `None` at the end of the stream.
async fn read_line(lines: &mut Lines) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    let mut bounded = lines.take(MAX_LINE_BYTES);
    let read = tokio::time::timeout(IDLE, bounded.read_until(b'\n', &mut line)).await??;
    if read == 0 {
        return Ok(None);
    }
    if line.pop() != Some(b'\n') {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a line is too long or cut off"));
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    Ok(Some(line))
}

async fn say(lines: &mut Lines, answer: &str) -> io::Result<()> {
    lines.get_mut().write_all(format!("{answer}\r\n").as_bytes()).await
}
