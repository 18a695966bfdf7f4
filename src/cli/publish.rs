//! `orderflow publish`: events as lines of JSON, put on their topics.

use std::path::PathBuf;
use std::pin::pin;

use serde_json::{Value, json};

use super::context::Context;
use super::exit::{Exit, Fault};
use super::lines::{Line, Lines};
use super::{output, parts};
use crate::admin::publish::{InOrder, PublishError, Published};
use crate::clock::Clock;
use crate::event::{Defaults, Event};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  echo '{\"type\":\"order.completed\",\"orderId\":\"o-1\",\"tenantId\":\"shop-1\",\"data\":{}}' | orderflow publish\n\n\
                  A line that can't be published is reported with its number and the rest goes on; the exit code is 1 then."
)]
pub(super) struct Args {
    /// The file to read, one event a line; `-` is standard input
    #[arg(default_value = "-")]
    file: PathBuf,
    /// The tenant of events that name none
    #[arg(long)]
    tenant: Option<String>,
    /// The source of events that name none
    #[arg(long, default_value = "orderflow-publish")]
    source: String,
    /// How many events may be on their way at once
    #[arg(long, default_value_t = 500, value_name = "N")]
    in_flight: usize,
    /// Print one line of JSON per event: where it lies, or why it isn't published
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: Args, context: &Context) -> Result<Exit, Fault> {
    let config = context.start()?.config;
    let mut lines = Lines::open(&args.file).await?;
    let publisher = parts::publisher(&config, config.topology.load()?).await?;
    let clock = Clock::system();
    let mut publishing = InOrder::new(publisher, args.in_flight);
    let mut report = Report { json: args.json, ..Report::default() };
    let mut number = 0_u64;
    loop {
        // Whoever writes the lines may take their time; what became of the earlier ones is told meanwhile.
        let mut reading = pin!(lines.next());
        let line = loop {
            tokio::select! {
                line = &mut reading => break line?,
                Some((line, result)) = publishing.next() => {
                    report.ended(line, result)?;
                    if report.unavailable.is_some() {
                        break None;
                    }
                }
            }
        };
        let Some(line) = line else { break };
        number += 1;
        let event = match line {
            Line::Text(text) if text.trim().is_empty() => continue,
            Line::Text(text) => read(&text, &args, &clock),
            Line::Unusable(why) => Err(why.to_owned()),
        };
        match event {
            Ok(event) => {
                if let Some((line, result)) = publishing.push(number, &event).await {
                    report.ended(line, result)?;
                }
            }
            Err(why) => report.bad(number, &why)?,
        }
        if report.unavailable.is_some() {
            break;
        }
    }
    while let Some((line, result)) = publishing.next().await {
        report.ended(line, result)?;
    }
    report.verdict(number)
}

fn read(text: &str, args: &Args, clock: &Clock) -> Result<Event, String> {
    let value: Value = serde_json::from_str(text).map_err(|error| format!("not JSON: {error}"))?;
    let defaults = Defaults {
        now_ms: clock.now_ms(),
        tenant_id: args.tenant.clone(),
        source: Some(args.source.clone()),
        ..Defaults::default()
    };
    Event::from_json(&value, &defaults).map_err(|errors| errors.to_string())
}

/// What became of the lines so far.
#[derive(Debug, Default)]
struct Report {
    json: bool,
    published: u64,
    failed: u64,
    /// Why going on makes no sense.
    unavailable: Option<String>,
}

impl Report {
    fn ended(&mut self, line: u64, result: Result<Published, PublishError>) -> Result<(), Fault> {
        match result {
            Ok(published) => {
                self.published += 1;
                if self.json {
                    output::json(&json!({
                        "line": line,
                        "eventId": published.event_id,
                        "topic": &*published.topic,
                        "partition": published.partition,
                        "offset": published.offset,
                    }))?;
                }
                Ok(())
            }
            Err(error) => {
                if error.is_transient() {
                    self.unavailable.get_or_insert(error.to_string());
                }
                self.bad(line, &error.to_string())
            }
        }
    }

    fn bad(&mut self, line: u64, why: &str) -> Result<(), Fault> {
        self.failed += 1;
        output::complain(&format!("line {line} is not published: {why}"));
        if self.json { output::json(&json!({ "line": line, "error": why })) } else { Ok(()) }
    }

    fn verdict(&self, lines: u64) -> Result<Exit, Fault> {
        if let Some(why) = &self.unavailable {
            let sentence =
                format!("stopped at line {lines} after {} events were published: {why}", self.published);
            return Err(Fault::unavailable(sentence));
        }
        if self.failed > 0 {
            let (failed, published) = (self.failed, self.published);
            return Err(Fault::failures(format!(
                "{published} events are published, {failed} lines are not; mend those and publish them again"
            )));
        }
        if !self.json {
            output::line(&format!("{} events are published", self.published))?;
        }
        Ok(Exit::Fine)
    }
}
