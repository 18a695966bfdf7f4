//! The mailbox over real connections, fed by the mail client that the program sends with.

use lettre::message::Message;
use lettre::{AsyncSmtpTransport, AsyncTransport as _, Tokio1Executor};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::*;

fn letter(to: &str, id: &str) -> Message {
    Message::builder()
        .from("shop@example.com".parse().unwrap())
        .to(to.parse().unwrap())
        .message_id(Some(format!("<{id}>")))
        .subject("Bestätigung der Bestellung 1000")
        .body("Thank you.\r\n.\r\n..and more\r\n".to_owned())
        .unwrap()
}

fn client(mailbox: &Mailbox) -> AsyncSmtpTransport<Tokio1Executor> {
    let address = mailbox.address();
    AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(address.ip().to_string())
        .port(address.port())
        .build()
}

#[tokio::test]
async fn a_mail_is_kept_whole_and_a_second_one_with_its_id_is_a_duplicate() {
    let mailbox = Mailbox::open(10, None, Feed::new()).await.unwrap();
    let client = client(&mailbox);
    client.send(letter("ada@example.com", "m-1@orderflow")).await.unwrap();
    assert_eq!(mailbox.letters().duplicates, 0);
    client.send(letter("ada@example.com", "m-1@orderflow")).await.unwrap();
    client.send(letter("ben@example.com", "m-1@orderflow")).await.unwrap();
    let letters = mailbox.letters();
    assert_eq!((letters.accepted, letters.duplicates), (3, 1));
    let mail = &letters.mails[0];
    assert_eq!(
        (mail.from.as_str(), mail.to.as_slice()),
        ("shop@example.com", &["ada@example.com".to_owned()][..])
    );
    assert_eq!(mail.message_id, "m-1@orderflow");
    assert_eq!(mail.subject, "Bestätigung der Bestellung 1000");
    assert!(mail.text.contains("Thank you."), "{}", mail.text);
}

#[tokio::test]
async fn a_recipient_is_put_off_once_and_then_served() {
    let puts_off = PutsOff { seed: 7, one_in: 1 };
    let mailbox = Mailbox::open(10, Some(puts_off), Feed::new()).await.unwrap();
    let client = client(&mailbox);
    let error = client.send(letter("ada@example.com", "m-1")).await.unwrap_err();
    assert!(error.is_transient(), "{error}");
    client.send(letter("ada@example.com", "m-1")).await.unwrap();
    let letters = mailbox.letters();
    assert_eq!((letters.accepted, letters.put_off, letters.duplicates), (1, 1, 0));
}

#[tokio::test]
async fn only_the_newest_mails_are_kept() {
    let mailbox = Mailbox::open(2, None, Feed::new()).await.unwrap();
    let client = client(&mailbox);
    for id in ["m-1", "m-2", "m-3"] {
        client.send(letter("ada@example.com", id)).await.unwrap();
    }
    let letters = mailbox.letters();
    assert_eq!(letters.accepted, 3);
    assert_eq!(letters.mails.iter().map(|mail| mail.message_id.as_str()).collect::<Vec<_>>(), ["m-2", "m-3"]);
}

#[tokio::test]
async fn the_protocol_is_kept_to() {
    let mailbox = Mailbox::open(2, None, Feed::new()).await.unwrap();
    let mut stream = TcpStream::connect(mailbox.address()).await.unwrap();
    let talk = b"DATA\r\nRCPT TO:<a@b>\r\nVRFY x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n..dot\r\n.\r\nQUIT\r\n";
    stream.write_all(talk).await.unwrap();
    let mut answers = String::new();
    stream.read_to_string(&mut answers).await.unwrap();
    let codes: Vec<&str> = answers.lines().map(|line| &line[..3]).collect();
    assert_eq!(codes, ["220", "503", "503", "502", "250", "250", "354", "250", "221"], "{answers}");
    assert_eq!(mailbox.letters().mails[0].text, ".dot\r\n");

    let mut stream = TcpStream::connect(mailbox.address()).await.unwrap();
    stream.write_all(&vec![b'x'; 10_000]).await.unwrap();
    let mut answers = Vec::new();
    // The session ends; a reset instead of an orderly end is as good.
    let _ = stream.read_to_end(&mut answers).await;
}
