//! The e-mail channel: SMTP (RFC 5321) over a small pool of connections, text and HTML in one message.
//!
//! The message id is made of the notification's id, so that a repeat after a crash is recognised by mail
//! programs. Addresses are parsed before use and subjects have no line breaks, so no event can add a header or a
//! recipient.

use std::time::{Duration, SystemTime};

use lettre::message::header::{HeaderName, HeaderValue};
use lettre::message::{Mailbox, MultiPart};
use lettre::transport::smtp::AsyncSmtpTransportBuilder;
use lettre::transport::smtp::PoolConfig;
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Tls, TlsParameters};
use lettre::{Address, AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};
use serde::Deserialize;

use super::channel::{Accepted, Carrier, Refusal};
use crate::clock::Clock;
use crate::crypto::Secret;
use crate::event::OutboundNotification;
use crate::runtime::{ErrorClass, Failure};

/// `[smtp]` in the configuration.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SmtpOptions {
    /// The server's name; with TLS its certificate must be for it.
    pub host: String,
    /// The server's port: 25, 587 with `starttls`, 465 with `tls`.
    pub port: u16,
    /// How the connection is protected.
    pub tls: SmtpTls,
    /// The user, if the server asks for one.
    pub user: Option<String>,
    /// The user's password.
    pub password: Option<Secret<String>>,
    /// Who the mail is from: `Name <address>`.
    pub from: String,
    /// How long connecting and handing over one mail may take together.
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
    /// How many connections one member opens at most.
    pub connections: u32,
}

/// How a connection to the mail server is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SmtpTls {
    /// Not at all: only for a server on the same machine or network.
    None,
    /// It begins in the clear and must change to TLS before anything is said.
    StartTls,
    /// TLS from the first byte.
    Tls,
}

impl Default for SmtpOptions {
    fn default() -> Self {
        Self {
            host: "127.0.0.1".to_owned(),
            port: 1025,
            tls: SmtpTls::None,
            user: None,
            password: None,
            from: "orderflow <orderflow@localhost>".to_owned(),
            timeout: Duration::from_secs(30),
            connections: 4,
        }
    }
}

/// Why the mail channel can't be set up.
#[derive(Debug, thiserror::Error)]
pub enum SmtpError {
    /// The sender isn't a mailbox.
    #[error("smtp.from {0:?} isn't an address; write it as `Name <name@example.com>`")]
    From(String),
    /// TLS can't be prepared.
    #[error("smtp.tls can't be prepared for {host}: {reason}")]
    Tls {
        /// The server.
        host: String,
        /// What is wrong.
        reason: String,
    },
    /// A user without a password, or the other way round.
    #[error("smtp.user and smtp.password belong together; set both or neither")]
    Credentials,
}

/// Options that can be used: a mail server to which channels can be opened.
#[derive(Debug, Clone)]
pub struct MailServer {
    builder: AsyncSmtpTransportBuilder,
    from: Mailbox,
    timeout: Duration,
    connections: u32,
}

impl Default for MailServer {
    /// The server of the default options.
    fn default() -> Self {
        SmtpOptions::default().check().expect("the default options are usable, which a test proves")
    }
}

impl SmtpOptions {
    /// The server that these options name; nothing is asked of it yet.
    ///
    /// # Errors
    /// When the options can't be used.
    pub fn check(&self) -> Result<MailServer, SmtpError> {
        let connections = self.connections.max(1);
        let tls = || {
            TlsParameters::new(self.host.clone())
                .map_err(|error| SmtpError::Tls { host: self.host.clone(), reason: error.to_string() })
        };
        let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&self.host)
            .port(self.port)
            .timeout(Some(self.timeout))
            .tls(match self.tls {
                SmtpTls::None => Tls::None,
                SmtpTls::StartTls => Tls::Required(tls()?),
                SmtpTls::Tls => Tls::Wrapper(tls()?),
            })
            .pool_config(PoolConfig::new().max_size(connections));
        match (&self.user, &self.password) {
            (Some(user), Some(password)) => {
                builder = builder.credentials(Credentials::new(user.clone(), password.expose().clone()));
            }
            (None, None) => {}
            (Some(_), None) | (None, Some(_)) => return Err(SmtpError::Credentials),
        }
        let from = self.from.parse().map_err(|_| SmtpError::From(self.from.clone()))?;
        Ok(MailServer { builder, from, timeout: self.timeout, connections })
    }
}

/// Carries messages to a mail server.
#[derive(Debug, Clone)]
pub struct Email {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    server: MailServer,
    clock: Clock,
}

impl Email {
    /// A channel to `server`; it connects when it is first used. Call it within a runtime.
    pub fn open(server: MailServer, clock: Clock) -> Self {
        Self { transport: server.builder.clone().build(), server, clock }
    }

    /// The mail and its message id.
    fn mail(&self, message: &OutboundNotification) -> Result<(Message, String), Failure> {
        let refused = |reason: String| Failure::new(ErrorClass::Rejected, reason);
        let address = message.address.as_deref().unwrap_or_default();
        let address: Address = address
            .parse()
            .map_err(|error| refused(format!("the recipient's address is refused: {error}")))?;
        let id = format!("<{}@{}>", message.notification_id, self.server.from.email.domain());
        let subject = message.subject.as_deref().unwrap_or(&message.text);
        let mail = Message::builder()
            .from(self.server.from.clone())
            .to(Mailbox::new(None, address))
            .date(SystemTime::UNIX_EPOCH + Duration::from_millis(self.clock.now_ms().unsigned_abs()))
            .message_id(Some(id.clone()))
            .subject(subject.replace(|letter: char| letter.is_control(), " "))
            // RFC 3834: keeps out-of-office answers from coming back.
            .raw_header(HeaderValue::new(
                HeaderName::new_from_ascii_str("Auto-Submitted"),
                "auto-generated".to_owned(),
            ));
        let mail = match &message.html {
            Some(html) => {
                mail.multipart(MultiPart::alternative_plain_html(message.text.clone(), html.clone()))
            }
            None => mail.body(message.text.clone()),
        };
        Ok((mail.map_err(|error| refused(format!("the mail can't be written: {error}")))?, id))
    }
}

impl Carrier for Email {
    async fn carry(&self, message: &OutboundNotification) -> Result<Accepted, Refusal> {
        let (mail, provider_id) = self.mail(message).map_err(Refusal::Never)?;
        let late = || {
            let waited = format!("the mail server took longer than {:?}", self.server.timeout);
            Refusal::NotNow(Failure::new(ErrorClass::Timeout, waited))
        };
        match tokio::time::timeout(self.server.timeout, self.transport.send(mail)).await {
            Err(_) => Err(late()),
            Ok(Ok(_)) => Ok(Accepted { provider_id }),
            Ok(Err(error)) => Err(refusal(&error)),
        }
    }

    fn concurrency(&self) -> usize {
        usize::try_from(self.server.connections).unwrap_or(1)
    }
}

/// 5xx is for ever, but for those replies that are about us (RFC 4954: authentication) and not about the mail;
/// all else may pass.
fn refusal(error: &lettre::transport::smtp::Error) -> Refusal {
    let code = error.status().map(u16::from);
    let message = match code {
        // The server's own words may quote the recipient's address.
        Some(code) => format!("the mail server answered {code}"),
        None => format!("the mail server can't be reached: {error}"),
    };
    match code {
        Some(530 | 534 | 535 | 538) => Refusal::NotNow(Failure::new(ErrorClass::Unavailable, message)),
        Some(_) if error.is_permanent() => Refusal::Never(Failure::new(ErrorClass::Rejected, message)),
        Some(_) => Refusal::NotNow(Failure::new(ErrorClass::Unavailable, message)),
        None if error.is_timeout() => Refusal::NotNow(Failure::new(ErrorClass::Timeout, message)),
        None => Refusal::NotNow(Failure::new(ErrorClass::Unavailable, message)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message() -> OutboundNotification {
        OutboundNotification {
            notification_id: "n-1".to_owned(),
            address: Some("ann@example.com".to_owned()),
            subject: Some("Grüße\r\nBcc: eve@example.com".to_owned()),
            text: "text".to_owned(),
            html: Some("<p>html</p>".to_owned()),
            ..OutboundNotification::default()
        }
    }

    fn channel() -> Email {
        Email::open(MailServer::default(), Clock::manual(1_700_000_000_000))
    }

    #[tokio::test]
    async fn a_repeat_is_the_same_mail_and_no_event_can_add_a_header() {
        let (mail, id) = channel().mail(&message()).unwrap();
        assert_eq!(id, "<n-1@localhost>");
        let text = String::from_utf8(mail.formatted()).unwrap();
        let (head, _) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains("Message-ID: <n-1@localhost>"), "{head}");
        assert!(!head.lines().any(|line| line.starts_with("Bcc")), "{head}");
        assert!(text.contains("text/plain") && text.contains("text/html"), "{text}");
        assert_eq!(mail.envelope().to().len(), 1);
    }

    #[tokio::test]
    async fn an_address_that_is_none_is_refused_for_ever() {
        for address in [None, Some(""), Some("ann"), Some("ann@example.com\r\nRCPT TO:<eve@example.com>")] {
            let message = OutboundNotification { address: address.map(str::to_owned), ..message() };
            let refused = channel().mail(&message).unwrap_err();
            assert_eq!(refused.class, ErrorClass::Rejected, "{address:?}");
        }
    }

    #[test]
    fn options_that_make_no_sense_are_named() {
        let lonely = SmtpOptions { user: Some("u".to_owned()), ..SmtpOptions::default() };
        let nameless = SmtpOptions { from: "nobody".to_owned(), ..SmtpOptions::default() };
        for (options, word) in [(lonely, "smtp.password"), (nameless, "smtp.from")] {
            let error = options.check().unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }

    #[tokio::test]
    async fn a_server_that_is_away_is_asked_again() {
        // Nothing listens on port 1.
        let options = SmtpOptions { port: 1, ..SmtpOptions::default() };
        let channel = Email::open(options.check().unwrap(), Clock::system());
        let refused = channel.carry(&message()).await.unwrap_err();
        assert!(matches!(refused, Refusal::NotNow(_)), "{refused:?}");
    }
}
