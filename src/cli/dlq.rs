//! `orderflow dlq`: looks at dead letters and takes them back to their stage.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Subcommand;
use serde_json::json;

use super::context::Context;
use super::exit::{Exit, Fault};
use super::operator::By;
use super::when;
use super::{output, parts};
use crate::admin::Operations;
use crate::admin::dead_letters::{DeadLetterError, DeadLetters, Filter, Listed, Redriven, Shown, Wanted};
use crate::config::Config;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  orderflow dlq list webhook --cause exhausted\n  orderflow dlq redrive webhook --cause exhausted --dry-run"
)]
pub(super) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Print the dead letters of a stage that no redrive has taken up
    #[command(after_help = "Example:\n  orderflow dlq list webhook --since 2h --json")]
    List(List),
    /// Print one dead letter, decoded, with personal data masked
    #[command(after_help = "Example:\n  orderflow dlq show webhook 3@1207")]
    Show {
        /// The stage
        stage: String,
        /// Its place, as `dlq list` prints it: partition@offset
        #[arg(value_parser = Filter::place)]
        place: (i32, i64),
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Take dead letters back to their stage, lane by lane in source order
    #[command(
        after_help = "Examples:\n  orderflow dlq redrive webhook --cause exhausted --limit 500 --rate 50 --dry-run\n  \
                      orderflow dlq redrive webhook --continue 0199c0de-…\n\n\
                      Each letter is claimed in the store first: two redrives at once, or one that is repeated, take it \
                      back once. A redriven task runs before whatever of its lane has not begun."
    )]
    Redrive(Redrive),
    /// Print dead letters whole, as lines of JSON; values hold personal data as it came
    #[command(after_help = "Example:\n  orderflow dlq export history --cause data > letters.jsonl")]
    Export(List),
}

#[derive(Debug, clap::Args)]
struct Which {
    /// The stage
    stage: String,
    /// Only of this cause (decode, schema_unknown, key, conflict, exhausted, …)
    #[arg(long, value_parser = Filter::cause)]
    cause: Option<String>,
    /// Only of this order
    #[arg(long, value_name = "ID")]
    order: Option<String>,
    /// Only of this lane
    #[arg(long)]
    lane: Option<String>,
    /// Only dead-lettered since then: a time (RFC 3339), or how long ago (2h)
    #[arg(long, value_name = "TIME", value_parser = when::parse)]
    since: Option<i64>,
    /// Only dead-lettered before then
    #[arg(long, value_name = "TIME", value_parser = when::parse)]
    until: Option<i64>,
    /// Only the ones at these places (partition@offset); may be given several times
    #[arg(long = "at", value_name = "PLACE", value_parser = Filter::place)]
    places: Vec<(i32, i64)>,
}

#[derive(Debug, clap::Args)]
struct List {
    #[command(flatten)]
    which: Which,
    /// How many at most
    #[arg(long, default_value_t = 1_000)]
    limit: usize,
    /// Also those that a redrive has taken up
    #[arg(long)]
    all: bool,
    /// Print lines of JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct Redrive {
    #[command(flatten)]
    which: Which,
    /// How many at most
    #[arg(long, default_value_t = 10_000)]
    limit: usize,
    /// How many a second at most
    #[arg(long, value_name = "PER_SECOND", value_parser = rate)]
    rate: Option<f64>,
    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Refuse letters that were redriven this often already
    #[arg(long, value_name = "TIMES", default_value_t = 3)]
    most_redrives: u32,
    /// Redrive them however often they were
    #[arg(long)]
    force: bool,
    /// Go on with a redrive that was cut off; what it was asked for is known
    #[arg(long = "continue", value_name = "ID", conflicts_with_all = ["dry_run", "cause", "order", "lane", "since", "until", "places"])]
    continued: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    by: By,
}

pub(super) async fn run(args: Args, context: &Context) -> Result<Exit, Fault> {
    let config = context.start()?.config;
    let desk = Desk { config: &config, operations: parts::operations(&config)? };
    match args.action {
        Action::List(list) => desk.list(list).await,
        Action::Export(list) => desk.export(list).await,
        Action::Show { stage, place, json } => desk.show(&stage, place, json).await,
        Action::Redrive(redrive) => desk.redrive(redrive).await,
    }
}

/// What all of these need.
struct Desk<'a> {
    config: &'a Config,
    operations: Operations,
}

impl Desk<'_> {
    async fn letters(&self, stage: &str) -> Result<DeadLetters<'_>, Fault> {
        Ok(DeadLetters { of: self.operations.of(stage).await? })
    }

    async fn list(&self, list: List) -> Result<Exit, Fault> {
        let letters = self.letters(&list.which.stage).await?;
        let found = letters.find(&list.which.filter(list.all), list.limit).await?;
        for letter in &found.letters {
            let taken = found.taken.contains(&(letter.record.partition, letter.record.offset));
            let listed = Listed::of(letter, taken);
            if list.json {
                output::json(&listed)?;
                continue;
            }
            let redriven = if listed.redriven { "  (redriven)" } else { "" };
            output::line(&format!(
                "{:<10} {}  {:<14} {:<16} {}{redriven}",
                listed.place,
                listed.at,
                listed.cause,
                listed.order.unwrap_or_default(),
                listed.error
            ))?;
        }
        more(found.more, list.limit);
        Ok(Exit::Fine)
    }

    async fn export(&self, list: List) -> Result<Exit, Fault> {
        let letters = self.letters(&list.which.stage).await?;
        let found = letters.find(&list.which.filter(list.all), list.limit).await?;
        for letter in &found.letters {
            let record = &letter.record;
            let coded = |bytes: &[u8]| STANDARD.encode(bytes);
            let headers: Vec<_> =
                record.headers.iter().map(|(name, value)| json!([name, value.map(&coded)])).collect();
            output::json(&json!({
                "stage": &*letter.mark.stage,
                "place": format!("{}@{}", record.partition, record.offset),
                "timestamp": record.timestamp_ms,
                "keyBase64": record.key.as_deref().map(coded),
                "valueBase64": record.payload.as_deref().map(coded),
                "headersBase64": headers,
            }))?;
        }
        more(found.more, list.limit);
        Ok(Exit::Fine)
    }

    async fn show(&self, stage: &str, place: (i32, i64), json: bool) -> Result<Exit, Fault> {
        let letters = self.letters(stage).await?;
        let letter = letters.at(place.0, place.1).await?;
        let open = Filter { places: vec![place], ..Filter::default() };
        let redriven = letters.find(&open, 1).await?.letters.is_empty();
        let shown = Shown::of(&letter, redriven, &parts::codec(self.config)?).await;
        if json {
            output::json(&shown)?;
            return Ok(Exit::Fine);
        }
        let text = serde_json::to_string_pretty(&shown)
            .map_err(|error| Fault::internal(format!("no JSON: {error}")))?;
        output::line(&text)?;
        Ok(Exit::Fine)
    }

    async fn redrive(&self, redrive: Redrive) -> Result<Exit, Fault> {
        let wanted = Wanted {
            filter: redrive.which.filter(false),
            limit: redrive.limit,
            rate: redrive.rate,
            most_redrives: if redrive.force { u32::MAX } else { redrive.most_redrives },
        };
        let how = (redrive.dry_run, redrive.continued.as_deref());
        let by = redrive.by.operator();
        let told = self.operations.redrive(&redrive.which.stage, &wanted, how, &by).await?;
        if redrive.json {
            output::json(&told)?;
        } else {
            output::line(&sentence(&told))?;
        }
        Ok(Exit::Fine)
    }
}

impl Which {
    fn filter(&self, redriven: bool) -> Filter {
        Filter {
            cause: self.cause.clone(),
            order: self.order.clone(),
            lane: self.lane.clone(),
            since_ms: self.since,
            until_ms: self.until,
            places: self.places.clone(),
            redriven,
        }
    }
}

fn sentence(told: &Redriven) -> String {
    let causes: Vec<_> = told.causes.iter().map(|(cause, count)| format!("{count} {cause}")).collect();
    let begun = match (&told.id, told.dry_run) {
        (Some(id), _) => format!("redrive {id}: {} taken back", told.sent),
        (None, _) => format!("dry run: {} would be taken back", told.sent),
    };
    let mut text = format!(
        "{begun} to {} in {} lanes, of {} found ({})",
        told.stage,
        told.lanes,
        told.matched,
        causes.join(", ")
    );
    for (count, why) in [
        (told.superseded, "superseded by a newer letter of the same task"),
        (told.refused, "refused: redriven too often (--force)"),
        (told.elsewhere, "taken up by another redrive, or another run of this"),
        (told.unfinished, "claimed by a run that was cut off: --continue again in three minutes"),
    ] {
        if count > 0 {
            text.push_str(&format!("; {count} {why}"));
        }
    }
    if told.more {
        text.push_str("; there are more: run it again, or raise --limit");
    }
    text
}

fn more(more: bool, limit: usize) {
    if more {
        output::complain(&format!("there are more than {limit}; raise --limit, or narrow the search"));
    }
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if rate.is_finite() && rate > 0.0 => Ok(rate),
        Ok(_) | Err(_) => Err("expected a number above 0".to_owned()),
    }
}

impl From<DeadLetterError> for Fault {
    fn from(error: DeadLetterError) -> Self {
        match error {
            DeadLetterError::Read(error) => super::tail::unreadable(error),
            DeadLetterError::Store(error) => error.into(),
            DeadLetterError::Send { .. } => Self::failures(error.to_string()),
            DeadLetterError::NotFound { .. } | DeadLetterError::NotContinued { .. } => {
                Self::usage(error.to_string())
            }
        }
    }
}
