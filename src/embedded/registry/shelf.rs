//! What the registry keeps: schemas by id, versions by subject, and levels of compatibility.
//!
//! An id stands for a schema, whatever subjects use it; versions count from 1 within a subject. Two texts are the
//! same schema if they are the same JSON: white space and the order of keys don't count, docs do, as in Confluent's.

use std::collections::BTreeMap;

use apache_avro::Schema;
use serde_json::Value;

use super::level::Level;
use crate::event::compatibility::obstacle;

/// Further schemas are refused: memory is bounded.
const MAX_SCHEMAS: usize = 10_000;

/// Further subjects are refused, also those that only have a level.
const MAX_SUBJECTS: usize = 10_000;

/// Why something wasn't done, as HTTP status and Confluent's code.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) status: u16,
    pub(super) code: u32,
    pub(super) message: String,
}

impl Fault {
    pub(super) fn new(status: u16, code: u32, message: &str) -> Fault {
        Fault { status, code, message: message.to_owned() }
    }

    pub(super) fn no_schema() -> Fault {
        Fault::new(404, 40403, "Schema not found")
    }

    fn no_subject(subject: &str) -> Fault {
        Fault::new(404, 40401, &format!("Subject '{subject}' not found."))
    }

    fn full() -> Fault {
        Fault::new(507, 50701, "The embedded registry is full")
    }
}

#[derive(Debug)]
struct Registered {
    text: String,
    json: Value,
    schema: Schema,
}

/// Everything that is kept.
#[derive(Debug, Default)]
pub(super) struct Shelf {
    /// The schema of id n at n − 1.
    schemas: Vec<Registered>,
    /// The ids of a subject's versions, version n at n − 1.
    subjects: BTreeMap<String, Vec<usize>>,
    level: Level,
    levels: BTreeMap<String, Level>,
}

impl Shelf {
    /// The subjects, by name.
    pub(super) fn subjects(&self) -> impl Iterator<Item = &String> {
        self.subjects.keys()
    }

    /// The ids of a subject's versions.
    pub(super) fn versions(&self, subject: &str) -> Result<&[usize], Fault> {
        self.subjects.get(subject).map(Vec::as_slice).ok_or_else(|| Fault::no_subject(subject))
    }

    /// Number and id of a version, which is a number or `latest`.
    pub(super) fn version(&self, subject: &str, version: &str) -> Result<(usize, usize), Fault> {
        let ids = self.versions(subject)?;
        let number = match version {
            "latest" | "-1" => ids.len(),
            other => other.parse().ok().filter(|&n: &usize| n > 0).ok_or_else(|| {
                let message = format!("The specified version '{other}' is not a valid version id.");
                Fault::new(422, 42202, &message)
            })?,
        };
        let id = ids
            .get(number - 1)
            .ok_or_else(|| Fault::new(404, 40402, &format!("Version {number} not found.")))?;
        Ok((number, *id))
    }

    /// The text of a schema.
    pub(super) fn text(&self, id: usize) -> Result<&str, Fault> {
        let registered = id.checked_sub(1).and_then(|index| self.schemas.get(index));
        registered.map(|registered| registered.text.as_str()).ok_or_else(Fault::no_schema)
    }

    /// The subjects that use a schema, each with the version under which it does.
    pub(super) fn users(&self, id: usize) -> impl Iterator<Item = (&String, usize)> {
        self.subjects.iter().filter_map(move |(subject, ids)| {
            ids.iter().position(|used| *used == id).map(|index| (subject, index + 1))
        })
    }

    /// Number and id of the version of `subject` that is this schema.
    pub(super) fn lookup(&self, subject: &str, text: &str) -> Result<(usize, usize), Fault> {
        let ids = self.versions(subject)?;
        let json = parse(text)?.0;
        let index =
            ids.iter().position(|&id| self.schemas[id - 1].json == json).ok_or_else(Fault::no_schema)?;
        Ok((index + 1, ids[index]))
    }

    /// The id of the schema, which is made the subject's next version unless it is one already.
    pub(super) fn register(&mut self, subject: &str, text: &str) -> Result<usize, Fault> {
        let (json, schema) = parse(text)?;
        if let Ok((_, id)) = self.lookup(subject, text) {
            return Ok(id);
        }
        let obstacles = self.compare(subject, self.versions(subject).unwrap_or_default(), &schema);
        if !obstacles.is_empty() {
            let message = format!(
                "Schema being registered is incompatible with an earlier schema for subject \"{subject}\": {}",
                obstacles.join("; ")
            );
            return Err(Fault::new(409, 409, &message));
        }
        if self.schemas.len() >= MAX_SCHEMAS || self.subjects.len() >= MAX_SUBJECTS {
            return Err(Fault::full());
        }
        let index = self.schemas.iter().position(|known| known.json == json).unwrap_or_else(|| {
            self.schemas.push(Registered { text: text.to_owned(), json, schema });
            self.schemas.len() - 1
        });
        self.subjects.entry(subject.to_owned()).or_default().push(index + 1);
        Ok(index + 1)
    }

    /// What keeps a schema from being compatible with one version, or with as many as the level asks for.
    pub(super) fn obstacles(
        &self,
        subject: &str,
        version: Option<&str>,
        text: &str,
    ) -> Result<Vec<String>, Fault> {
        let (_, schema) = parse(text)?;
        let ids = match version {
            Some(version) => vec![self.version(subject, version)?.1],
            None => self.versions(subject).unwrap_or_default().to_vec(),
        };
        Ok(self.compare(subject, &ids, &schema))
    }

    fn compare(&self, subject: &str, older: &[usize], new: &Schema) -> Vec<String> {
        let level = self.level(Some(subject));
        let compared = if level.is_transitive() { older.len() } else { older.len().min(1) };
        let older = older.iter().rev().take(compared).map(|id| &self.schemas[id - 1].schema);
        older
            .flat_map(|older| {
                let backward = level.reads_older().then(|| obstacle(older, new)).flatten();
                let forward = level.is_read_by_older().then(|| obstacle(new, older)).flatten();
                [backward, forward]
            })
            .flatten()
            .collect()
    }

    /// The level of a subject, or the one for all.
    pub(super) fn level(&self, subject: Option<&str>) -> Level {
        subject.and_then(|subject| self.levels.get(subject)).copied().unwrap_or(self.level)
    }

    /// Whether a subject has a level of its own.
    pub(super) fn has_own_level(&self, subject: &str) -> bool {
        self.levels.contains_key(subject)
    }

    /// Sets the level of a subject, or the one for all.
    pub(super) fn set_level(&mut self, subject: Option<String>, level: Level) -> Result<(), Fault> {
        match subject {
            None => self.level = level,
            Some(_) if self.levels.len() >= MAX_SUBJECTS => return Err(Fault::full()),
            Some(subject) => {
                self.levels.insert(subject, level);
            }
        }
        Ok(())
    }
}

fn parse(text: &str) -> Result<(Value, Schema), Fault> {
    let invalid = |error: String| Fault::new(422, 42201, &format!("Invalid schema: {error}"));
    let schema = Schema::parse_str(text).map_err(|error| invalid(error.to_string()))?;
    let json = serde_json::from_str(text).map_err(|error| invalid(error.to_string()))?;
    Ok((json, schema))
}
