//! Lists in pages: `limit`, an opaque `cursor`, and `{"data":[…],"nextCursor":…}`.
//!
//! A cursor is base64url of the list's name and the place where the next page begins. It names no tenant:
//! every list asks for the token's own, so a cursor carried to another tenant shows nothing of the first.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Problem;

/// Rows of a page when the request names no `limit`.
pub const DEFAULT_LIMIT: u32 = 50;
/// The largest `limit`.
pub const MAX_LIMIT: u32 = 200;
/// No cursor of ours is longer, in characters.
const MAX_CURSOR: usize = 512;

/// One page of a list.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Page<T> {
    /// The rows.
    pub data: Vec<T>,
    /// Pass it as `cursor` to get the next page; null at the end.
    pub next_cursor: Option<String>,
}

/// `limit` as given, checked.
///
/// # Errors
/// 422 naming `limit` when it is outside 1..=[`MAX_LIMIT`].
pub fn limit(given: Option<u32>) -> Result<u32, Problem> {
    match given {
        None => Ok(DEFAULT_LIMIT),
        Some(limit @ 1..=MAX_LIMIT) => Ok(limit),
        Some(_) => Err(Problem::field("limit", format!("must be between 1 and {MAX_LIMIT}"))),
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope<P> {
    list: String,
    at: P,
}

/// Writes the cursor of the page of `list` that begins at `place`.
pub fn cursor<P: Serialize>(list: &str, place: P) -> String {
    let envelope = Envelope { list: list.to_owned(), at: place };
    // Numbers and texts always serialise; an empty cursor would be refused when it comes back.
    URL_SAFE_NO_PAD.encode(serde_json::to_vec(&envelope).unwrap_or_default())
}

/// The place that a cursor of `list` names; none when none was given.
///
/// # Errors
/// 422 naming `cursor` when it isn't one that this list gave.
pub fn place<P: DeserializeOwned>(list: &str, cursor: Option<&str>) -> Result<Option<P>, Problem> {
    let Some(cursor) = cursor else { return Ok(None) };
    let refuse = || Problem::field("cursor", "is not a cursor that this list gave");
    if cursor.len() > MAX_CURSOR {
        return Err(refuse());
    }
    let bytes = URL_SAFE_NO_PAD.decode(cursor).map_err(|_| refuse())?;
    let envelope: Envelope<P> = serde_json::from_slice(&bytes).map_err(|_| refuse())?;
    if envelope.list == list { Ok(Some(envelope.at)) } else { Err(refuse()) }
}

impl<T> Page<T> {
    /// A page from up to `limit` + 1 found rows: the one too many tells that there is a next page, which
    /// begins after the last row shown; `place` names that row's place.
    pub fn from_rows<P: Serialize>(
        list: &str,
        mut rows: Vec<T>,
        limit: u32,
        place: impl FnOnce(&T) -> P,
    ) -> Self {
        let more = rows.len() > limit as usize;
        rows.truncate(limit as usize);
        let next_cursor = rows.last().filter(|_| more).map(|last| cursor(list, place(last)));
        Self { data: rows, next_cursor }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_leads_back_to_its_place_in_its_own_list_alone() {
        let text = cursor("orderEvents", 42_i64);
        assert_eq!(place::<i64>("orderEvents", Some(&text)).unwrap(), Some(42));
        assert!(place::<i64>("webhooks", Some(&text)).is_err());
        assert!(place::<String>("orderEvents", Some(&text)).is_err());
        for bad in ["", "x", "e30", "!!", &"A".repeat(5_000), &text[1..]] {
            assert!(place::<i64>("orderEvents", Some(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_page_is_followed_by_another_only_when_a_row_is_left() {
        let page = Page::from_rows("l", vec![3, 2, 1], 2, |row| *row);
        assert_eq!(page.data, [3, 2]);
        assert_eq!(place::<i32>("l", page.next_cursor.as_deref()).unwrap(), Some(2));
        assert_eq!(Page::from_rows("l", vec![3, 2], 2, |row| *row).next_cursor, None);
    }

    #[test]
    fn limits_are_bounded() {
        assert_eq!(limit(None).unwrap(), DEFAULT_LIMIT);
        assert_eq!(limit(Some(200)).unwrap(), 200);
        assert!(limit(Some(0)).is_err() && limit(Some(201)).is_err());
    }
}
