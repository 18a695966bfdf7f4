//! What is kept of a mail: who, to whom, and the head lines that name it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// A mail that was accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mail {
    /// The envelope's sender.
    pub from: String,
    /// The envelope's recipients.
    pub to: Vec<String>,
    /// `Message-ID` without its angle brackets; empty when there was none.
    pub message_id: String,
    /// `Subject`, decoded.
    pub subject: String,
    /// Head and body as they came, line ends as `\r\n`, without the dots of the protocol.
    pub text: String,
}

impl Mail {
    /// Reads the head lines out of `text`.
    pub(super) fn new(from: String, to: Vec<String>, text: String) -> Self {
        let message_id = header(&text, "message-id").unwrap_or_default();
        let subject = decoded(&header(&text, "subject").unwrap_or_default());
        let message_id = message_id.trim_matches(['<', '>']).to_owned();
        Self { from, to, message_id, subject, text }
    }

    /// Two mails with the same identity are one mail sent twice.
    pub(super) fn identity(&self) -> (String, Vec<String>) {
        (self.message_id.clone(), self.to.clone())
    }

    /// The first head line called `name` (in lower case), unfolded.
    pub fn header(&self, name: &str) -> Option<String> {
        header(&self.text, name)
    }
}

fn header(text: &str, name: &str) -> Option<String> {
    let head = text.split("\r\n\r\n").next().unwrap_or_default().replace("\r\n ", " ").replace("\r\n\t", " ");
    head.split("\r\n").find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
    })
}

/// Decodes the base64 words of RFC 2047 (`=?utf-8?b?…?=`), which is how senders write what isn't ASCII. White
/// space between two such words belongs to the folding, not to the text.
fn decoded(value: &str) -> String {
    let mut text = String::new();
    let mut after_word = false;
    for word in value.split(' ') {
        let encoded = word
            .strip_prefix("=?")
            .and_then(|rest| rest.strip_suffix("?="))
            .and_then(|rest| rest.split_once('?'))
            .filter(|(charset, _)| charset.eq_ignore_ascii_case("utf-8"))
            .and_then(|(_, rest)| rest.strip_prefix("b?").or(rest.strip_prefix("B?")))
            .and_then(|base64| STANDARD.decode(base64).ok())
            .and_then(|bytes| String::from_utf8(bytes).ok());
        let is_word = encoded.is_some();
        let joined = after_word && is_word;
        if !joined && !text.is_empty() {
            text.push(' ');
        }
        text.push_str(encoded.as_deref().unwrap_or(word));
        after_word = is_word;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn head_lines_are_unfolded_and_decoded() {
        let text = "Message-ID: <a@b>\r\nSubject: Your order\r\n =?utf-8?b?w7xiZXI=?= =?utf-8?b?IGFsbA==?= 12\r\n\
                    To: x@y\r\n\r\nSubject: not this\r\n";
        let mail = Mail::new("f@g".to_owned(), vec!["x@y".to_owned()], text.to_owned());
        assert_eq!(mail.message_id, "a@b");
        assert_eq!(mail.subject, "Your order über all 12");
        assert_eq!(mail.header("to").as_deref(), Some("x@y"));
        assert_eq!(mail.header("cc"), None);
    }
}
