//! Who asks: the subject of a token, its roles and its tenant.

use std::fmt;
use std::str::FromStr;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;

use crate::http::Problem;

/// What somebody may be. A token may carry several.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Bought orders; sees those it is a party of.
    Buyer,
    /// Sold orders; sees those it is a party of.
    Seller,
    /// Works disputes.
    Moderator,
    /// Another program of the shop; acts for the whole tenant.
    Service,
    /// Receives webhooks; sees its own.
    Partner,
    /// Runs orderflow.
    Operator,
    /// May change what others may.
    Admin,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Buyer,
        Self::Seller,
        Self::Moderator,
        Self::Service,
        Self::Partner,
        Self::Operator,
        Self::Admin,
    ];

    /// Its name in tokens.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Buyer => "buyer",
            Self::Seller => "seller",
            Self::Moderator => "moderator",
            Self::Service => "service",
            Self::Partner => "partner",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A role that there isn't.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no role {0:?}; there are buyer, seller, moderator, service, partner, operator and admin")]
pub struct UnknownRole(pub String);

impl FromStr for Role {
    type Err = UnknownRole;

    fn from_str(text: &str) -> Result<Self, UnknownRole> {
        Self::ALL.into_iter().find(|role| role.as_str() == text).ok_or_else(|| UnknownRole(text.to_owned()))
    }
}

/// The roles of one token. Names of a token that are no roles of ours are left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Roles(u8);

impl FromIterator<Role> for Roles {
    fn from_iter<I: IntoIterator<Item = Role>>(roles: I) -> Self {
        Self(roles.into_iter().fold(0, |bits, role| bits | 1 << role as u8))
    }
}

/// Somebody whose token was believed. Every lookup on their behalf uses their tenant, never one that they
/// name elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The user or program (`sub`), unique within the tenant.
    pub subject: String,
    /// What they may be.
    pub roles: Roles,
    /// Whose data they see.
    pub tenant: String,
    /// Until when the token is good, epoch milliseconds.
    pub expires_at_ms: i64,
}

impl Caller {
    /// Whether the token carries `role`.
    pub fn is(&self, role: Role) -> bool {
        self.roles.0 & (1 << role as u8) != 0
    }

    /// Whether the token carries one of `roles`.
    pub fn is_any(&self, roles: &[Role]) -> bool {
        roles.iter().any(|role| self.is(*role))
    }
}

/// The caller whom the route's role check let in. A handler on a route without roles has none: that is a
/// fault of the route table, and answered as one.
impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        parts
            .extensions
            .get::<Self>()
            .cloned()
            .ok_or_else(|| Problem::internal("a handler asks for a caller on a route that names no roles"))
    }
}
