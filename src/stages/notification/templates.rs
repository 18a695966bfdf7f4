//! Templates: which file speaks for an event, a channel and a language, and what comes of it.
//!
//! The files are described in `templates/README.md`. Undefined names are errors everywhere, so that a mistake
//! shows in the tests and not as a gap in somebody's mail. Nothing here knows a recipient's address.

use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use minijinja::{AutoEscape, Environment, ErrorKind, State, UndefinedBehavior};
use serde_json::Value as Json;

use super::embedded::EMBEDDED;
use super::money;
use super::rules::Channel;
use crate::event::Money;

/// The language of last resort; every template exists in it.
pub const DEFAULT_LOCALE: &str = "en";

/// All templates. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Templates(Arc<Environment<'static>>);

/// Why a template can't be used.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// The folder of own templates can't be read.
    #[error("the templates in {folder} can't be read: {source}")]
    Folder {
        /// The folder.
        folder: String,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// A file isn't a template, or doesn't fit what it is rendered with.
    #[error("template {name}: {source:#}")]
    Template {
        /// The file, below the folder.
        name: String,
        /// What is wrong.
        source: minijinja::Error,
    },
}

/// A message ready to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    /// The subject line, for mail.
    pub subject: Option<String>,
    /// Plain text.
    pub text: String,
    /// HTML, for mail.
    pub html: Option<String>,
}

impl Default for Templates {
    /// The templates inside the program.
    fn default() -> Self {
        Self::load(None).expect("our own templates load, which a test proves")
    }
}

impl Templates {
    /// The templates inside the program, with those in `folder` in their place or added.
    ///
    /// # Errors
    /// When the folder can't be read or a file isn't a template.
    pub fn load(folder: Option<&Path>) -> Result<Self, TemplateError> {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_trim_blocks(true);
        environment.set_auto_escape_callback(|name| {
            if name.ends_with(".html") { AutoEscape::Html } else { AutoEscape::None }
        });
        environment.add_filter("money", money_filter);
        environment.add_filter("date", date_filter);
        environment.add_filter("words", |text: String| text.replace('_', " "));
        environment.add_filter("link", link_filter);
        for (name, source) in EMBEDDED {
            add(&mut environment, (*name).to_owned(), (*source).to_owned())?;
        }
        if let Some(folder) = folder {
            let failed = |source| TemplateError::Folder { folder: folder.display().to_string(), source };
            for (name, source) in own_files(folder).map_err(failed)? {
                add(&mut environment, name, source)?;
            }
        }
        Ok(Self(Arc::new(environment)))
    }

    /// The language in which `template` speaks by `channel` to somebody who wants `wanted`: that language, the
    /// same without its region, else [`DEFAULT_LOCALE`].
    pub fn locale(&self, template: &str, channel: Channel, wanted: Option<&str>) -> String {
        let part = match channel {
            Channel::Live => "live.{}.txt",
            Channel::Email => "email.{}.txt",
        };
        self.choose(template, part, wanted)
    }

    /// As [`Templates::locale`], for the message in the conversation.
    pub fn message_locale(&self, template: &str, wanted: Option<&str>) -> String {
        self.choose(template, "message.{}.txt", wanted)
    }

    /// What `template` says by `channel` in `locale` about `context`.
    ///
    /// # Errors
    /// When the template is missing, or names what the context doesn't hold.
    pub fn render(
        &self,
        template: &str,
        channel: Channel,
        locale: &str,
        context: &Json,
    ) -> Result<Rendered, TemplateError> {
        let part =
            |part: &str| self.file(&format!("{template}/{}.{locale}.{part}", channel.as_str()), context);
        Ok(match channel {
            Channel::Live => Rendered { subject: None, text: one_line(&part("txt")?), html: None },
            Channel::Email => Rendered {
                subject: Some(one_line(&part("subject")?)),
                text: paragraphs(&part("txt")?),
                html: Some(part("html")?),
            },
        })
    }

    /// What `template` says in the conversation in `locale` about `context`.
    ///
    /// # Errors
    /// As [`Templates::render`].
    pub fn render_message(
        &self,
        template: &str,
        locale: &str,
        context: &Json,
    ) -> Result<String, TemplateError> {
        self.file(&format!("{template}/message.{locale}.txt"), context).map(|text| paragraphs(&text))
    }

    fn file(&self, name: &str, context: &Json) -> Result<String, TemplateError> {
        let failed = |source| TemplateError::Template { name: name.to_owned(), source };
        self.0.get_template(name).map_err(failed)?.render(context).map_err(failed)
    }

    fn choose(&self, template: &str, part: &str, wanted: Option<&str>) -> String {
        let wanted = wanted.unwrap_or(DEFAULT_LOCALE);
        let language = wanted.split(['-', '_']).next().unwrap_or(wanted);
        let there = |locale: &&str| {
            self.0.get_template(&format!("{template}/{}", part.replace("{}", locale))).is_ok()
        };
        [wanted, language].into_iter().find(there).unwrap_or(DEFAULT_LOCALE).to_owned()
    }
}

fn add(environment: &mut Environment<'static>, name: String, source: String) -> Result<(), TemplateError> {
    environment
        .add_template_owned(name.clone(), source)
        .map_err(|source| TemplateError::Template { name, source })
}

/// The templates in `folder` and the folders in it, by their name below it.
fn own_files(folder: &Path) -> std::io::Result<Vec<(String, String)>> {
    const PARTS: [&str; 3] = ["txt", "html", "subject"];
    let mut files = Vec::new();
    let mut waiting = vec![(String::new(), folder.to_owned())];
    while let Some((prefix, folder)) = waiting.pop() {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if path.is_dir() && prefix.is_empty() {
                waiting.push((format!("{name}/"), path));
            } else if path.extension().is_some_and(|part| PARTS.iter().any(|known| part == *known)) {
                files.push((format!("{prefix}{name}"), std::fs::read_to_string(&path)?));
            }
        }
    }
    Ok(files)
}

/// Runs of white space and control characters become one space: a subject or a live line has no line breaks.
fn one_line(text: &str) -> String {
    text.split(|letter: char| letter.is_whitespace() || letter.is_control())
        .filter(|word| !word.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

/// At most one empty line between paragraphs, none at the ends.
fn paragraphs(text: &str) -> String {
    let mut lines: Vec<&str> = Vec::new();
    for line in text.trim().lines().map(str::trim_end) {
        if !(line.is_empty() && lines.last().is_some_and(|last| last.is_empty())) {
            lines.push(line);
        }
    }
    lines.join("\n")
}

fn money_filter(state: &State<'_, '_>, value: minijinja::Value) -> Result<String, minijinja::Error> {
    let bad = |what: &str| minijinja::Error::new(ErrorKind::InvalidOperation, format!("money: {what}"));
    let amount = value.get_attr("amount_minor")?;
    let amount_minor = i64::try_from(amount).map_err(|_| bad("no amount"))?;
    let currency = value.get_attr("currency")?;
    let currency = currency.as_str().ok_or_else(|| bad("no currency"))?;
    Ok(money::format(&Money::new(amount_minor, currency), &locale_of(state)))
}

/// Epoch milliseconds as a day, in the recipient's time zone where it is known.
fn date_filter(state: &State<'_, '_>, epoch_ms: i64) -> Result<String, minijinja::Error> {
    let at = Timestamp::from_millisecond(epoch_ms)
        .map_err(|error| minijinja::Error::new(ErrorKind::InvalidOperation, format!("date: {error}")))?;
    let zone =
        state.lookup("time_zone").and_then(|zone| zone.as_str().and_then(|name| TimeZone::get(name).ok()));
    let day = at.to_zoned(zone.unwrap_or(TimeZone::UTC));
    let pattern = if locale_of(state).starts_with("de") { "%-d.%-m.%Y" } else { "%Y-%m-%d" };
    Ok(day.strftime(pattern).to_string())
}

/// Only http and https addresses become links; what an event brings could be anything else.
fn link_filter(address: String) -> String {
    let safe = address.starts_with("https://") || address.starts_with("http://");
    if safe { address } else { "#".to_owned() }
}

fn locale_of(state: &State<'_, '_>) -> String {
    let locale = state.lookup("locale");
    locale.and_then(|locale| locale.as_str().map(str::to_owned)).unwrap_or_else(|| DEFAULT_LOCALE.to_owned())
}

#[cfg(test)]
mod tests;
