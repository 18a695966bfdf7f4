//! What concerns a user rather than an order. These events carry no snapshot.
//!
//! Fields and their order are those of the `.avsc` of the same name, which is the source.

use serde::{Deserialize, Serialize};

use super::EventMeta;

/// `user.updated`: a user changed how they can be reached.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct UserUpdated {
    /// Identity, time and origin.
    pub meta: EventMeta,
    /// The user.
    pub user_id: String,
    /// The name to greet with.
    pub name: Option<String>,
    /// Where mail goes.
    pub email: Option<String>,
    /// In E.164 form.
    pub phone: Option<String>,
    /// BCP 47 tag.
    pub locale: Option<String>,
    /// IANA name.
    pub time_zone: Option<String>,
}

/// `email.sent`: a mail was accepted by its provider.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct EmailSent {
    /// Identity, time and origin.
    pub meta: EventMeta,
    /// Which template it was made from.
    pub template: String,
    /// Where it went.
    pub recipient: String,
    /// The provider's id of the message.
    pub message_id: String,
}
